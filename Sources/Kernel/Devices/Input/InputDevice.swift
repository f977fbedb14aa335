import InputEvents
import Machine
import Sync
import SystemABI
import Threads
import VFS

/// Of input devices, and of their readers.
struct InputRank: LockRank { static let level: UInt8 = 92 }
struct InputReaderRank: LockRank { static let level: UInt8 = 93 }

/// A device that people touch: /dev/input/event*. SPEC: Linux Documentation/input/input.rst, input-programming.rst.
class InputDevice: Device {
  struct State: ~Copyable {
    var input: InputState
    var readers: [OpenInput] = []
    /// The only one that gets its events.
    var owner: OpenInput?
  }
  final let name: String, place: String
  /// Bus, vendor, product and version. SPEC: Linux uapi/linux/input.h, `struct input_id`.
  final let identity: (UInt16, UInt16, UInt16, UInt16)
  final let state: InterruptSpinLock<State, InputRank>
  /// Woken when there is something to be read.
  final let changed = WaitQueue()

  init(_ name: String, place: String, identity: (UInt16, UInt16, UInt16, UInt16), _ input: InputState) {
    (self.name, self.place, self.identity) = (name, place, identity)
    state = InterruptSpinLock(State(input: input))
  }

  final func register(index: UInt32) {
    DeviceRegistry.register("input/event\(index)", major: 13, minor: 64 + index, self)
  }

  // MARK: What happens

  /// Something that nobody else has kept for himself has happened. Interrupts may be off; no lock is held.
  func handle(_ event: InputEvent) {}
  /// Does what a light or the repetition of keys is now. Interrupts may be off; no lock is held.
  func apply(_ event: InputEvent) {}
  /// It is nobody's own any more. No lock is held.
  func isForAllAgain() {}

  /// Tells of an event, if it is one: its time is the monotonic clock's. Interrupt-safe.
  final func report(_ event: InputEvent) {
    var isEvent = false
    var isForAll = true
    state.withLock { state in
      isEvent = state.input.take(event)
      if !isEvent { return }
      if let owner = state.owner {
        isForAll = false
        owner.put(event)
      } else {
        for reader in state.readers { reader.put(event) }
      }
    }
    if !isEvent { return }
    if event.isReport { changed.wake() }
    apply(event)
    if isForAll { handle(event) }
  }

  final func isDown(_ key: UInt16) -> Bool { state.withLock { $0.input.keys[key] } }

  // MARK: Readers

  final func open(_ inode: Inode, flags: UInt32) throws(Errno) -> any OpenFile {
    let reader = OpenInput(self)
    state.withLock { $0.readers.append(reader) }
    return reader
  }

  final func remove(_ reader: OpenInput) {
    state.withLock { state in state.readers.removeAll { $0 === reader } }
    try? disown(reader)
  }

  /// Keeps the device for one reader. Throws `resourceBusy` where somebody has it.
  final func own(_ reader: OpenInput) throws(Errno) {
    let isDone = state.withLock { state in
      if state.owner != nil { return false }
      state.owner = reader
      return true
    }
    if !isDone { throw .resourceBusy }
  }

  final func disown(_ reader: OpenInput) throws(Errno) {
    let isDone = state.withLock { state in
      if state.owner !== reader { return false }
      state.owner = nil
      return true
    }
    if !isDone { throw .invalidArgument }
    isForAllAgain()
  }
}
