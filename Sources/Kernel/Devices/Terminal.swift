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
}

/// A terminal: a line discipline, a device behind it, a session in front. SPEC: POSIX.1-2024 chapter 11, tty_ioctl(4).
public final class TerminalDevice: ControllingTerminal, Device, OpenFile {
  struct State: ~Copyable {
    var line = LineDiscipline()
    var session: Int32 = 0
    var foreground: Int32 = 0
    var rows: UInt16 = 25
    var columns: UInt16 = 80
    var outputStopped = false
  }
  private let state = InterruptSpinLock<State, TerminalRank>(State())
  private let readers = WaitQueue()
  private let writers = WaitQueue()
  private let outputs: [any TerminalOutput]
  private let number: DeviceNumber

  public init(_ number: DeviceNumber, outputs: [any TerminalOutput]) {
    self.number = number
    self.outputs = outputs
  }

  public override var deviceNumber: DeviceNumber { number }
  public override var foregroundGroup: Int32 { state.withLock { $0.foreground } }

  // MARK: Input, from a driver

  /// Takes bytes the device received. Interrupt-safe.
  public func receive(_ byte: UInt8) {
    var signal: UInt8?
    var group: Int32 = 0
    var resumed = false
    state.withLock { state in
      var echo: [UInt8] = []
      switch state.line.receive(byte, echo: &echo) {
      case .none: break
      case .signal(let number):
        signal = number
        group = state.foreground
      case .stopOutput: state.outputStopped = true
      case .startOutput:
        state.outputStopped = false
        resumed = true
      }
      if !echo.isEmpty { send(echo) }
    }
    if let signal, group > 0 { sendToGroup(group, SignalInformation(Signal(signal), code: 128)) }
    if resumed { writers.wake() }
    readers.wake()
  }

  // MARK: Sessions

  public override func sessionEnded(_ session: Int32) {
    let group: Int32 = state.withLock { state in
      guard state.session == session else { return 0 }
      let group = state.foreground
      state.session = 0
      state.foreground = 0
      return group
    }
    if group > 0 {
      sendToGroup(group, SignalInformation(.hangUp, code: 128))
      sendToGroup(group, SignalInformation(.resume, code: 128))
    }
    for process in ProcessTable.shared.all() where ProcessTable.shared.withTree({ process.tree.session == session }) {
      process.terminal.withLock { if $0 === self { $0 = nil } }
    }
  }

  /// Makes this the controlling terminal of the caller's session if it may be. SPEC: POSIX.1-2024 §11.1.3.
  private func adopt(steal: Bool) throws(Errno) {
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

  public func open(_ inode: Inode, flags: UInt32) throws(Errno) -> any OpenFile {
    if flags & OpenFlags.noControllingTerminal == 0 {
      let taken = state.withLock { $0.session != 0 }
      if !taken, Task.currentTask.process.terminal.withLock({ $0 == nil }) { try? adopt(steal: false) }
    }
    return self
  }

  /// Stops a background process that touches its terminal. SPEC: POSIX.1-2024 §11.1.4.
  private func checkForeground(_ signal: Signal) throws(Errno) {
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

  public func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    if buffer.count == 0 { return 0 }
    try checkForeground(.terminalInput)
    let termios = state.withLock { $0.line.termios }
    let canonical = termios.has(local: Termios.canonical)
    let minimum = Int(termios.characters[Termios.minimum])
    let tenths = UInt64(termios.characters[Termios.time])
    let wanted = buffer.count
    var deadline: UInt64?
    if !canonical, minimum == 0 { deadline = Clock.monotonic + tenths * 100_000_000 }
    if description.isNonBlocking {
      if !state.withLock({ $0.line.isReadable || !canonical && $0.line.readableCount > 0 }) {
        if !canonical, minimum == 0 { return 0 }
        throw .wouldBlock
      }
    } else {
      do throws(Errno) {
        let _: Bool = try readers.wait(deadline: deadline, reason: "tty read") {
          state.withLock { state in
            if canonical { return state.line.isReadable }
            return state.line.readableCount >= max(1, min(minimum, wanted))
          } ? true : nil
        }
        if !canonical, minimum > 0, tenths > 0 { try waitBetweenBytes(minimum, tenths) }
      } catch {
        if error == .timedOut { return try take(&buffer) }
        throw error == .interrupted ? .restart : error
      }
    }
    return try take(&buffer)
  }

  /// VTIME with VMIN: gives up when no byte comes for that long after the first.
  private func waitBetweenBytes(_ minimum: Int, _ tenths: UInt64) throws(Errno) {
    var have = state.withLock { $0.line.readableCount }
    while have < minimum {
      do throws(Errno) {
        let before = have
        let _: Bool = try readers.wait(deadline: Clock.monotonic + tenths * 100_000_000, reason: "tty read") {
          state.withLock { $0.line.readableCount } > before ? true : nil
        }
      } catch {
        if error == .timedOut { return }
        throw error
      }
      have = state.withLock { $0.line.readableCount }
    }
  }

  private func take(_ buffer: inout IOBuffer) throws(Errno) -> Int {
    let count = buffer.count
    let bytes = state.withLock { $0.line.read(count) }
    return try buffer.put(bytes.span)
  }

  public func write(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno)
    -> (Int, UInt64)
  {
    if state.withLock({ $0.line.termios.has(local: Termios.toStop) }) { try checkForeground(.terminalOutput) }
    var total = 0
    while buffer.count > 0 {
      if state.withLock({ $0.outputStopped }) {
        if description.isNonBlocking {
          if total > 0 { return (total, 0) }
          throw .wouldBlock
        }
        do throws(Errno) {
          let _: Bool = try writers.wait(reason: "tty write") { state.withLock { $0.outputStopped } ? nil : true }
        } catch {
          if total > 0 { return (total, 0) }
          throw error == .interrupted ? .restart : error
        }
      }
      let bytes: [UInt8]
      do throws(Errno) { bytes = try buffer.takeBytes(limit: 256) } catch {
        if total > 0 { return (total, 0) }
        throw error
      }
      total += bytes.count
      var out: [UInt8] = []
      out.reserveCapacity(bytes.count + 16)
      state.withLock { state in
        state.line.process(bytes, into: &out)
        send(out)
      }
    }
    return (total, 0)
  }

  private func send(_ bytes: [UInt8]) {
    for output in outputs { output.write(bytes.span) }
  }

  /// Kernel text on the terminal: a panic's cousin for init's absence.
  public func print(_ text: String) {
    var out: [UInt8] = []
    let bytes = Array(text.utf8)
    state.withLock { $0.line.process(bytes, into: &out) }
    send(out)
  }

  public func poll(_ table: PollTable?) -> PollEvents {
    table?.add(readers)
    return state.withLock { state in
      var events: PollEvents = state.outputStopped ? [] : [.writable, .normalWrite]
      if state.line.isReadable { events.formUnion([.readable, .normalRead]) }
      return events
    }
  }

  // MARK: ioctl

  /// SPEC: tty_ioctl(4); `struct termios` is 36 bytes, `struct termios2` 44.
  public func control(_ command: UInt32, _ argument: UInt32, _ description: FileDescription) throws(Errno) -> Int32 {
    switch command {
    case 0x5401: try putTermios(argument, wide: false)  // TCGETS
    case 0x802C_542A: try putTermios(argument, wide: true)  // TCGETS2
    case 0x5402, 0x5403, 0x5404: try setTermios(argument, flush: command == 0x5404)  // TCSETS, W, F
    case 0x402C_542B, 0x402C_542C, 0x402C_542D: try setTermios(argument, flush: command == 0x402C_542D)
    case 0x5409: break  // TCSBRK: output has been written when write returns
    case 0x540A:  // TCXONC
      if argument > 3 { throw .invalidArgument }
      if argument < 2 {
        state.withLock { $0.outputStopped = argument == 0 }
        writers.wake()
      }
    case 0x540B:  // TCFLSH
      if argument > 2 { throw .invalidArgument }
      if argument != 1 { state.withLock { $0.line.flush() } }
    case 0x540E: try adopt(steal: argument == 1)  // TIOCSCTTY
    case 0x5422: try giveUp()  // TIOCNOTTY
    case 0x540F: try UserMemory.write32(UInt32(bitPattern: try ownForeground()), to: argument)  // TIOCGPGRP
    case 0x5410: try setForeground(Int32(bitPattern: try UserMemory.read32(argument)))  // TIOCSPGRP
    case 0x5429:  // TIOCGSID
      guard Task.currentTask.process.terminal.withLock({ $0 === self }) else { throw .inappropriateIOCTLForDevice }
      try UserMemory.write32(UInt32(bitPattern: state.withLock { $0.session }), to: argument)
    case 0x5413:  // TIOCGWINSZ
      let (rows, columns) = state.withLock { ($0.rows, $0.columns) }
      try UserMemory.write32(UInt32(rows) | UInt32(columns) << 16, to: argument)
      try UserMemory.write32(0, to: argument &+ 4)
    case 0x5414: try setSize(try UserMemory.read32(argument))  // TIOCSWINSZ
    case 0x541B: try UserMemory.write32(UInt32(state.withLock { $0.line.readableCount }), to: argument)  // FIONREAD
    case 0x5411: try UserMemory.write32(0, to: argument)  // TIOCOUTQ
    case 0x5424: try UserMemory.write32(0, to: argument)  // TIOCGETD: N_TTY
    default: throw .inappropriateIOCTLForDevice
    }
    return 0
  }

  private func putTermios(_ address: UInt32, wide: Bool) throws(Errno) {
    let termios = state.withLock { $0.line.termios }
    var bytes = [UInt8](repeating: 0, count: wide ? 44 : 36)
    var out = bytes.mutableSpan
    for (index, word) in [termios.input, termios.output, termios.control, termios.local].enumerated() {
      store32(word, index * 4, &out)
    }
    out[16] = termios.discipline
    for index in 0..<19 { out[17 + index] = termios.characters[index] }
    if wide {
      store32(38400, 36, &out)
      store32(38400, 40, &out)
    }
    try UserMemory.write(bytes.span, to: address)
  }

  private func store32(_ value: UInt32, _ at: Int, _ out: inout MutableSpan<UInt8>) {
    for index in 0..<4 { out[at + index] = UInt8(truncatingIfNeeded: value >> UInt32(index * 8)) }
  }

  private func setTermios(_ address: UInt32, flush: Bool) throws(Errno) {
    try checkForeground(.terminalOutput)
    var new = Termios()
    new.input = try UserMemory.read32(address)
    new.output = try UserMemory.read32(address &+ 4)
    new.control = try UserMemory.read32(address &+ 8)
    new.local = try UserMemory.read32(address &+ 12)
    var characters = [UInt8](repeating: 0, count: 20)
    var span = characters.mutableSpan
    try UserMemory.read(address &+ 16, into: &span)
    new.discipline = characters[0]
    for index in 0..<19 { new.characters[index] = characters[index + 1] }
    let settings = new
    state.withLock {
      if flush { $0.line.flush() }
      $0.line.set(settings)
    }
    readers.wake()
  }

  private func giveUp() throws(Errno) {
    let process = Task.currentTask.process
    guard process.terminal.withLock({ $0 === self }) else { throw .inappropriateIOCTLForDevice }
    let (isLeader, session) = ProcessTable.shared.withTree { (process.tree.session == process.id, process.tree.session) }
    if isLeader { sessionEnded(session) } else { process.terminal.withLock { $0 = nil } }
  }

  private func ownForeground() throws(Errno) -> Int32 {
    guard Task.currentTask.process.terminal.withLock({ $0 === self }) else { throw .inappropriateIOCTLForDevice }
    return state.withLock { $0.foreground }
  }

  private func setForeground(_ group: Int32) throws(Errno) {
    let process = Task.currentTask.process
    guard process.terminal.withLock({ $0 === self }) else { throw .inappropriateIOCTLForDevice }
    if group <= 0 { throw .invalidArgument }
    let session = ProcessTable.shared.withTree { process.tree.session }
    let members = ProcessTable.shared.all().filter { other in ProcessTable.shared.withTree { other.tree.group == group } }
    guard !members.isEmpty else { throw .noSuchProcess }
    guard members.contains(where: { other in ProcessTable.shared.withTree { other.tree.session == session } }) else {
      throw .notPermitted
    }
    try checkForeground(.terminalOutput)
    state.withLock { $0.foreground = group }
  }

  private func setSize(_ packed: UInt32) throws(Errno) {
    let rows = UInt16(truncatingIfNeeded: packed)
    let columns = UInt16(truncatingIfNeeded: packed >> 16)
    let group: Int32 = state.withLock { state in
      if state.rows == rows, state.columns == columns { return 0 }
      state.rows = rows
      state.columns = columns
      return state.foreground
    }
    if group > 0 { sendToGroup(group, SignalInformation(.windowChange, code: 128)) }
  }
}

/// /dev/tty: whatever controls the caller's session.
public final class CurrentTerminal: Device {
  public init() {}
  public func open(_ inode: Inode, flags: UInt32) throws(Errno) -> any OpenFile {
    guard let terminal = Task.currentTask.process.terminal.withLock({ $0 }) as? TerminalDevice else {
      throw .noSuchAddressOrDevice
    }
    return terminal
  }
}
