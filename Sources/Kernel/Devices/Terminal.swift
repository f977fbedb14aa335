import Machine
import Processes
import Signals
import Sync
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
  /// Bytes that it still has.
  var waiting: Int { get }
  /// Forgets them.
  func flush()
}

/// A device that takes everything, however long that takes.
extension TerminalOutput {
  public var room: Int { .max }
  public var waiting: Int { 0 }
  public func flush() {}
}

/// What else a program on a terminal's other side, or a device, may want to know. SPEC: ioctl_tty(2), TIOCPKT.
enum TerminalChange {
  case inputFlushed, outputFlushed, stopped, started
  case settings(old: Termios, new: Termios)
}

/// A terminal: a line discipline, a device behind it, a session in front. SPEC: POSIX.1-2024 chapter 11, tty_ioctl(4).
open class TerminalDevice: ControllingTerminal, TerminalName {
  struct State: ~Copyable {
    var line = LineDiscipline()
    var session: Int32 = 0
    var foreground: Int32 = 0
    var rows: UInt16 = 25
    var columns: UInt16 = 80
    /// Width and height in pixels, where somebody has said so.
    var pixels: UInt32 = 0
    /// How many opens of it there are now.
    var openings = 0
    /// Who opens it now finds it in use (TIOCEXCL).
    var isExclusive = false
    /// Settings that cannot be changed have their bits set, characters anything but 0 (TIOCSLCKTRMIOS).
    var locked: Termios?
    /// The device was told not to send any more.
    var isFull = false
    /// What was opened before the last of them is cut off.
    var hangUps: UInt32 = 0
    /// The other side is gone for ever.
    var isGone = false
  }
  final let state = InterruptSpinLock<State, TerminalRank>(State())
  final let readers = WaitQueue()
  final let writers = WaitQueue()
  final let outputs: [any TerminalOutput]
  final let number: DeviceNumber

  public init(_ number: DeviceNumber, outputs: [any TerminalOutput]) {
    self.number = number
    self.outputs = outputs
  }

  public override final var deviceNumber: DeviceNumber { number }
  public override final var foregroundGroup: Int32 { state.withLock { $0.foreground } }

  public override final func sessionEnded(_ session: Int32) {
    let isCut = state.withLock { state in
      if state.session != session || !hangsUpWithSession { return false }
      cut(&state)
      return true
    }
    release(session)
    if isCut { isCutOff() }
  }

  public override final func hangUp() { cutOff(forEver: false) }

  /// Whatever has it open has it no more, and who opens it next finds nothing of theirs.
  final func cut(_ state: inout State) {
    state.hangUps &+= 1
    state.line.reset()
    if forgetsSettings { _ = state.line.set(Termios()) }
  }

  final func isCutOff() {
    tell(.started)
    readers.wake()
    writers.wake()
  }

  // MARK: What kinds of terminals have of their own

  /// Whether it is cut off when its session's leader ends, so that the next one has it for itself.
  var hangsUpWithSession: Bool { true }
  /// Whether its settings go with who made them: a line's stay, which its other side has, too.
  var forgetsSettings: Bool { true }
  /// Something has happened to it. No lock is held.
  func tell(_ change: TerminalChange) {}
  /// It is opened; `isFirst` where nobody had it open. And it is closed; `isLast` where nobody has it open any more.
  func opened(isFirst: Bool) throws(Errno) {}
  func closed(isLast: Bool) {}
  /// Whether what the last one who closes it leaves behind is for the next one.
  var outlivesItsOpenings: Bool { false }
  /// Something has been read: there is room for more input.
  func inputMoved() {}
  /// Input is nearly full, or no longer so.
  func setFull(_ isFull: Bool) {}
  /// A program has written something. No lock is held.
  func outputWritten() {}
  /// What only this kind of terminal is asked; nil for what it does not know.
  func controlDevice(_ command: UInt32, _ argument: UInt32) throws(Errno) -> Int32? { nil }
  /// Whether a terminal's size can be this.
  func accepts(rows: UInt16, columns: UInt16) -> Bool { true }
  /// Whether what it sends comes back to it: echo would be echoed, and never end.
  var hearsItself: Bool { false }
  /// Waits until what was written has left.
  func drain() throws(Errno) {}
  /// Sends the line's rest state for some tenths of a second.
  func sendBreak(tenths: UInt32) throws(Errno) {}

  // MARK: Input, from a driver

  /// Takes a byte that the device received. Interrupt-safe.
  public final func receive(_ byte: UInt8, _ reception: Reception = .good) {
    if case .good = reception {
      let one: [1 of UInt8] = [byte]
      _ = receive(one.span, from: 0, waitsForRoom: false)
    } else {
      let (event, isStarted) = state.withLock { state in
        let wasStopped = state.line.isStopped
        let event = state.line.receive(byte, reception)
        send(afterEvent: event, &state)
        return (event, wasStopped && !state.line.isStopped)
      }
      act(on: event, isStarted)
    }
  }

  /// Takes bytes up to one that does more than wait for a reader; answers how many. With `waitsForRoom` what there is no room
  /// for is left to the caller, else it is lost, as on a wire.
  final func receive(_ bytes: borrowing Span<UInt8>, from start: Int, waitsForRoom: Bool) -> Int {
    var event = TerminalEvent.none
    var position = start
    let isStarted = state.withLock { state in
      let wasStopped = state.line.isStopped
      while position < bytes.count, event == .none {
        if waitsForRoom, !state.line.acceptsInput { break }
        event = state.line.receive(bytes[position])
        position += 1
      }
      send(afterEvent: event, &state)
      return wasStopped && !state.line.isStopped
    }
    act(on: event, isStarted)
    return position - start
  }

  private final func send(afterEvent event: TerminalEvent, _ state: inout State) {
    if case .signal = event, !state.line.termios.has(local: Termios.noFlush) { for output in outputs { output.flush() } }
    sendEcho(&state)
  }

  final func sendEcho(_ state: inout State) {
    let echo = state.line.takeEcho()
    if !echo.isEmpty, !hearsItself { send(echo) }
  }

  /// Where input begins to be full: there is room for what is on its way.
  private static var nearlyFull: Int { LineDiscipline.capacity - 512 }

  private final func act(on event: TerminalEvent, _ isStarted: Bool) {
    let becameFull = state.withLock { state in
      if state.isFull || state.line.count < Self.nearlyFull { return false }
      state.isFull = true
      return true
    }
    if becameFull { setFull(true) }
    readers.wake()
    switch event {
    case .none: break
    case .signal(let number):
      let (group, isFlushed) = state.withLock { ($0.foreground, !$0.line.termios.has(local: Termios.noFlush)) }
      if group > 0 { sendToGroup(group, SignalInformation(Signal(number), code: 128)) }
      if isFlushed {
        tell(.inputFlushed)
        tell(.outputFlushed)
      }
    case .stopOutput: tell(.stopped)
    case .startOutput: break
    }
    // A signal's character does that, too.
    if isStarted { tell(.started) }
    if event != .none { writers.wake() }
  }

  /// Some input has left.
  final func inputTaken() {
    let isFullNoMore = state.withLock { state in
      if !state.isFull || state.line.count >= Self.nearlyFull / 2 { return false }
      state.isFull = false
      return true
    }
    if isFullNoMore { setFull(false) }
    inputMoved()
  }

  // MARK: Output

  final func send(_ bytes: [UInt8]) {
    for output in outputs { output.write(bytes.span) }
  }

  /// There is room for more output.
  final func outputMoved() { writers.wake() }

  /// Lets `change` stop output or let it go on: it answers whether that was new.
  final func changeFlow(_ change: (inout LineDiscipline) -> Bool) {
    let (isNew, isStopped) = state.withLock { state in
      let isNew = change(&state.line)
      sendEcho(&state)
      return (isNew, state.line.isStopped)
    }
    guard isNew else { return }
    tell(isStopped ? .stopped : .started)
    if !isStopped { writers.wake() }
  }

  /// Kernel text on the terminal: a panic's cousin for init's absence.
  public final func print(_ text: String) {
    var out: [UInt8] = []
    let bytes = Array(text.utf8)
    state.withLock { $0.line.process(bytes, into: &out) }
    send(out)
  }

  // MARK: Opening

  final var terminal: TerminalDevice { self }

  public func open(_ inode: Inode, flags: UInt32) throws(Errno) -> any OpenFile { try open(flags: flags) }

  /// Opens it; as the console, it is never hung up.
  final func open(flags: UInt32, isConsole: Bool = false) throws(Errno) -> OpenTerminal {
    let mayAlways = Task.currentTask.process.who.has(.administrate)
    let isFirst: Bool? = state.withLock { state in
      if state.isExclusive, !mayAlways { return nil }
      state.openings += 1
      return state.openings == 1
    }
    guard let isFirst else { throw .resourceBusy }
    do { try opened(isFirst: isFirst) } catch {
      _ = countClose()
      throw error
    }
    adoptIfFree(flags)
    return OpenTerminal(self, hangUps: isConsole ? nil : state.withLock { $0.hangUps })
  }

  /// One open less.
  final func close() { closed(isLast: countClose()) }

  private func countClose() -> Bool {
    let stays = outlivesItsOpenings
    return state.withLock { state in
      state.openings -= 1
      if state.openings == 0, !stays { (state.isExclusive, state.locked) = (false, nil) }
      return state.openings == 0
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
