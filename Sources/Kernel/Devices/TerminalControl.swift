import Machine
import Processes
import Signals
import Sync
import SystemABI
import Terminal
import Threads
import VFS

/// What `ioctl` asks of a terminal. SPEC: tty_ioctl(4); `struct termios` is 36 bytes, `struct termios2` 44.
extension TerminalDevice {
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
        tell(argument == 0 ? .stopped : .started)
      }
    case 0x540B:  // TCFLSH
      if argument > 2 { throw .invalidArgument }
      if argument != 1 {
        state.withLock { $0.line.flush() }
        inputMoved()
        tell(.inputFlushed)
      }
      if argument != 0 {
        flushOutput()
        outputMoved()
        tell(.outputFlushed)
      }
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
    case 0x5411: try UserMemory.write32(UInt32(waitingOutput), to: argument)  // TIOCOUTQ
    case 0x5424: try UserMemory.write32(0, to: argument)  // TIOCGETD: N_TTY
    default:
      guard let result = try controlDevice(command, argument) else { throw .inappropriateIOCTLForDevice }
      return result
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
    let old = state.withLock { state in
      let old = state.line.termios
      if flush { state.line.flush() }
      state.line.set(settings)
      return old
    }
    readers.wake()
    inputMoved()
    if flush { tell(.inputFlushed) }
    tell(.settings(old: old, new: settings))
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
