import Machine
import Processes
import Signals
import Sync
import Synchronization
import SystemABI
import Terminal
import Threads
import VFS

public struct TerminalRank: LockRank { public static let level: UInt8 = 85 }

/// Where a terminal's output goes. May be called with interrupts off (echo).
public protocol TerminalOutput: AnyObject {
  func write(_ bytes: borrowing Span<UInt8>)
  /// Bytes that it takes now without loss; who wants to write more waits for `outputMoved`.
  var room: Int { get }
}

extension TerminalOutput {
  /// A device that takes everything, however long that takes.
  public var room: Int { .max }
}

/// What else a program on a terminal's other side may want to know. SPEC: ioctl_tty(2), TIOCPKT.
enum TerminalChange {
  case inputFlushed, outputFlushed, stopped, started
  case settings(old: Termios, new: Termios)
}

/// A terminal: a line discipline, a device behind it, a session in front. SPEC: POSIX.1-2024 chapter 11, tty_ioctl(4).
open class TerminalDevice: ControllingTerminal, Device, OpenFile {
  struct State: ~Copyable {
    var line = LineDiscipline()
    var session: Int32 = 0
    var foreground: Int32 = 0
    var rows: UInt16 = 25
    var columns: UInt16 = 80
    var outputStopped = false
    /// The other side is gone for ever: reads end, writes fail.
    var isHungUp = false
  }
  final let state = InterruptSpinLock<State, TerminalRank>(State())
  final let readers = WaitQueue()
  final let writers = WaitQueue()
  private final let outputs: [any TerminalOutput]
  private final let number: DeviceNumber

  public init(_ number: DeviceNumber, outputs: [any TerminalOutput]) {
    self.number = number
    self.outputs = outputs
  }

  public override final var deviceNumber: DeviceNumber { number }
  public override final var foregroundGroup: Int32 { state.withLock { $0.foreground } }

  /// Something has happened to it. No lock is held.
  func tell(_ change: TerminalChange) {}
  /// Forgets output that the device still has.
  func flushOutput() {}

  // MARK: Input, from a driver

  /// Takes a byte that the device received. Interrupt-safe.
  public final func receive(_ byte: UInt8) {
    let one: [1 of UInt8] = [byte]
    _ = receive(one.span, from: 0, waitsForRoom: false)
  }

  /// Takes bytes up to one that does more than wait for a reader; answers how many. With `waitsForRoom` what there is no room
  /// for is left to the caller, else it is lost, as on a wire.
  final func receive(_ bytes: borrowing Span<UInt8>, from start: Int, waitsForRoom: Bool) -> Int {
    var event = TerminalEvent.none
    var group: Int32 = 0
    var position = start
    var isFlushed = false
    state.withLock { state in
      var echo: [UInt8] = []
      while position < bytes.count, event == .none {
        if waitsForRoom, !state.line.acceptsInput { break }
        event = state.line.receive(bytes[position], echo: &echo)
        position += 1
      }
      switch event {
      case .none: break
      case .signal:
        group = state.foreground
        isFlushed = !state.line.termios.has(local: Termios.noFlush)
      case .stopOutput: state.outputStopped = true
      case .startOutput: state.outputStopped = false
      }
      if !echo.isEmpty { send(echo) }
    }
    if case .signal(let number) = event, group > 0 { sendToGroup(group, SignalInformation(Signal(number), code: 128)) }
    if event == .startOutput { writers.wake() }
    readers.wake()
    switch event {
    case .none: break
    case .signal:
      if isFlushed {
        tell(.inputFlushed)
        tell(.outputFlushed)
      }
    case .stopOutput: tell(.stopped)
    case .startOutput: tell(.started)
    }
    return position - start
  }

  // MARK: Sessions

  public override final func sessionEnded(_ session: Int32) {
    let group: Int32 = state.withLock { state in
      guard state.session == session else { return 0 }
      let group = state.foreground
      state.session = 0
      state.foreground = 0
      return group
    }
    for process in ProcessTable.shared.all() where ProcessTable.shared.withTree({ process.tree.session == session }) {
      process.terminal.withLock { if $0 === self { $0 = nil } }
    }
    if group > 0 {
      sendToGroup(group, SignalInformation(.hangUp, code: 128))
      sendToGroup(group, SignalInformation(.resume, code: 128))
    }
  }

  /// Makes this the controlling terminal of the caller's session if it may be. SPEC: POSIX.1-2024 §11.1.3.
  final func adopt(steal: Bool) throws(Errno) {
    let process = Task.currentTask.process
    let (isLeader, session, group) = ProcessTable.shared.withTree {
      (process.tree.session == process.id, process.tree.session, process.tree.group)
    }
    guard isLeader else { throw .notPermitted }
    if process.terminal.withLock({ $0 != nil && $0 !== self }) { throw .notPermitted }
    try state.withLock { state throws(Errno) in
      if state.session != 0, state.session != session, !steal { throw .notPermitted }
      state.session = session
      if state.foreground == 0 || state.session != session { state.foreground = group }
    }
    process.terminal.withLock { $0 = self }
  }

  open func open(_ inode: Inode, flags: UInt32) throws(Errno) -> any OpenFile {
    adoptIfFree(flags)
    return self
  }

  open func close(_ description: FileDescription) {}

  /// An open by a session's leader that has no terminal makes this one its own, but for O_NOCTTY.
  final func adoptIfFree(_ flags: UInt32) {
    if flags & OpenFlags.noControllingTerminal == 0 {
      let taken = state.withLock { $0.session != 0 }
      if !taken, Task.currentTask.process.terminal.withLock({ $0 == nil }) { try? adopt(steal: false) }
    }
  }

  /// The other side is gone: who reads finds the end, and the session loses its terminal.
  final func hangUp() {
    let session = state.withLock { state in
      state.isHungUp = true
      return state.session
    }
    readers.wake()
    writers.wake()
    guard session > 0 else { return }
    sessionEnded(session)
    if let leader = ProcessTable.shared.find(session) {
      leader.send(SignalInformation(.hangUp, code: 128))
      leader.send(SignalInformation(.resume, code: 128))
    }
  }

  /// Stops a background process that touches its terminal. SPEC: POSIX.1-2024 §11.1.4.
  final func checkForeground(_ signal: Signal) throws(Errno) {
    let task = Task.currentTask
    let process = task.process
    let foreground = state.withLock { $0.foreground }
    guard foreground != 0, process.terminal.withLock({ $0 === self }) else { return }
    let group = ProcessTable.shared.withTree { process.tree.group }
    if group == foreground { return }
    let ignored = process.signals.withLock {
      $0.actions[Int(signal.number)].handler == SignalAction.ignore || task.blocked.contains(signal)
    }
    if ignored {
      if signal == .terminalOutput { return }
      throw .ioError
    }
    if process.inOrphanedGroup { throw .ioError }
    sendToGroup(group, SignalInformation(signal, code: 128))
    throw .restart
  }

  // MARK: Reading and writing

  public final func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    if buffer.count == 0 || state.withLock({ $0.isHungUp }) { return 0 }
    try checkForeground(.terminalInput)
    let termios = state.withLock { $0.line.termios }
    let canonical = termios.has(local: Termios.canonical)
    let minimum = Int(termios.characters[Termios.minimum])
    let tenths = UInt64(termios.characters[Termios.time])
    let wanted = buffer.count
    var deadline: Deadline?
    if !canonical, minimum == 0 { deadline = .after(tenths * 100_000_000) }
    if description.isNonBlocking {
      if !state.withLock({ $0.line.isReadable || !canonical && $0.line.readableCount > 0 }) {
        if !canonical, minimum == 0 { return 0 }
        throw .wouldBlock
      }
    } else {
      do throws(Errno) {
        let _: Bool = try readers.wait(deadline: deadline, reason: "tty read") {
          state.withLock { state in
            if state.isHungUp { return true }
            if canonical { return state.line.isReadable }
            return state.line.readableCount >= max(1, min(minimum, wanted))
          } ? true : nil
        }
        // Who was waiting is told; who comes later finds the end.
        if state.withLock({ $0.isHungUp }) { throw .ioError }
        if !canonical, minimum > 0, tenths > 0 { try waitBetweenBytes(minimum, tenths) }
      } catch {
        if error == .timedOut { return try take(&buffer) }
        throw error == .interrupted ? .restart : error
      }
    }
    return try take(&buffer)
  }

  /// VTIME with VMIN: gives up when no byte comes for that long after the first.
  private final func waitBetweenBytes(_ minimum: Int, _ tenths: UInt64) throws(Errno) {
    var have = state.withLock { $0.line.readableCount }
    while have < minimum {
      do throws(Errno) {
        let before = have
        let _: Bool = try readers.wait(deadline: .after(tenths * 100_000_000), reason: "tty read") {
          state.withLock { $0.line.readableCount } > before ? true : nil
        }
      } catch {
        if error == .timedOut { return }
        throw error
      }
      have = state.withLock { $0.line.readableCount }
    }
  }

  private final func take(_ buffer: inout IOBuffer) throws(Errno) -> Int {
    let count = buffer.count
    let bytes = state.withLock { $0.line.read(count) }
    inputMoved()
    return try buffer.put(bytes.span)
  }

  /// Something has been read: there is room for more input.
  open func inputMoved() {}
  /// There is room for more output.
  final func outputMoved() { writers.wake() }
  /// A program has written something. No lock is held.
  open func outputWritten() {}
  /// What only this kind of terminal is asked; nil for what it does not know.
  open func controlDevice(_ command: UInt32, _ argument: UInt32) throws(Errno) -> Int32? { nil }
  /// Bytes written that the device still has.
  open var waitingOutput: Int { 0 }

  public final func write(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno)
    -> (Int, UInt64)
  {
    if state.withLock({ $0.line.termios.has(local: Termios.toStop) }) { try checkForeground(.terminalOutput) }
    var total = 0
    while buffer.count > 0 {
      do throws(Errno) {
        let bytes = try buffer.takeBytes(limit: 256)
        try write(bytes, nonBlocking: description.isNonBlocking)
        total += bytes.count
      } catch {
        if total > 0 { break }
        throw error
      }
    }
    return (total, 0)
  }

  private final func write(_ bytes: [UInt8], nonBlocking: Bool) throws(Errno) {
    // A tab may become eight blanks.
    let most = bytes.count * 8
    let isOpen: Bool = try writers.wait(orFail: nonBlocking, reason: "tty write") {
      state.withLock { state in
        if state.isHungUp { return false }
        guard !state.outputStopped, outputs.allSatisfy({ $0.room >= most }) else { return nil }
        var out: [UInt8] = []
        out.reserveCapacity(bytes.count + 16)
        state.line.process(bytes, into: &out)
        send(out)
        return true
      }
    }
    if !isOpen { throw .ioError }
    outputWritten()
  }

  private final func send(_ bytes: [UInt8]) {
    for output in outputs { output.write(bytes.span) }
  }

  /// Kernel text on the terminal: a panic's cousin for init's absence.
  public final func print(_ text: String) {
    var out: [UInt8] = []
    let bytes = Array(text.utf8)
    state.withLock { $0.line.process(bytes, into: &out) }
    send(out)
  }

  public final func poll(_ table: PollTable?) -> PollEvents {
    table?.add(readers)
    table?.add(writers)
    return state.withLock { state in
      if state.isHungUp { return [.readable, .normalRead, .writable, .normalWrite, .hangUp, .error] }
      var events: PollEvents = state.outputStopped || outputs.contains { $0.room < 2048 } ? [] : [.writable, .normalWrite]
      if state.line.isReadable { events.formUnion([.readable, .normalRead]) }
      return events
    }
  }
}

/// /dev/tty: whatever controls the caller's session.
public final class CurrentTerminal: Device {
  public init() {}
  public func open(_ inode: Inode, flags: UInt32) throws(Errno) -> any OpenFile {
    guard let terminal = Task.currentTask.process.terminal.withLock({ $0 }) as? TerminalDevice else {
      throw .noSuchAddressOrDevice
    }
    return try terminal.open(inode, flags: flags | OpenFlags.noControllingTerminal)
  }
}
