import Machine
import Processes
import Signals
import Sync
import SystemABI
import Terminal
import Threads
import VFS

/// What `ioctl` asks of a terminal. SPEC: tty_ioctl(4), ioctl_tty(2); uapi asm-generic/ioctls.h.
extension TerminalDevice {
  func control(_ command: UInt32, _ argument: UInt32) throws(Errno) -> Int32 {
    if try controlSettings(command, argument) { return 0 }
    if try controlFlow(command, argument) { return 0 }
    if try controlSession(command, argument) { return 0 }
    switch command {
    case 0x5413:  // TIOCGWINSZ
      let (rows, columns, pixels) = state.withLock { ($0.rows, $0.columns, $0.pixels) }
      try UserMemory.write32(UInt32(rows) | UInt32(columns) << 16, to: argument)
      try UserMemory.write32(pixels, to: argument &+ 4)
    case 0x5414:  // TIOCSWINSZ
      try setSize(try UserMemory.read32(argument), pixels: try UserMemory.read32(argument &+ 4))
    case 0x541B: try UserMemory.write32(UInt32(state.withLock { $0.line.readableCount }), to: argument)  // FIONREAD
    case 0x5411: try UserMemory.write32(UInt32(outputs.reduce(0) { $0 + $1.waiting }), to: argument)  // TIOCOUTQ
    case 0x5423: if try UserMemory.read32(argument) != 0 { throw .invalidArgument }  // TIOCSETD: N_TTY is all there is
    case 0x5424: try UserMemory.write32(0, to: argument)  // TIOCGETD
    case 0x8004_5432: try UserMemory.write32(number.rawValue, to: argument)  // TIOCGDEV
    case 0x5412: try simulateInput(argument)  // TIOCSTI
    default:
      guard let result = try controlDevice(command, argument) else { throw .inappropriateIOCTLForDevice }
      return result
    }
    return 0
  }

  /// Typing for somebody else is how a program gets out of its sandbox: only the administrator may.
  private func simulateInput(_ address: UInt32) throws(Errno) {
    guard Task.currentTask.process.who.has(.administrate) else { throw .ioError }
    var byte = [UInt8](repeating: 0, count: 1)
    var span = byte.mutableSpan
    try UserMemory.read(address, into: &span)
    receive(byte[0])
  }

  // MARK: Settings

  private func controlSettings(_ command: UInt32, _ argument: UInt32) throws(Errno) -> Bool {
    switch command {
    case 0x5401: try put(state.withLock { $0.line.termios }, .plain, argument)  // TCGETS
    case 0x802C_542A: try put(state.withLock { $0.line.termios }, .withSpeeds, argument)  // TCGETS2
    case 0x5405: try put(state.withLock { $0.line.termios }, .old, argument)  // TCGETA
    case 0x5402...0x5404: try set(.plain, argument, command - 0x5402)  // TCSETS, TCSETSW, TCSETSF
    case 0x402C_542B...0x402C_542D: try set(.withSpeeds, argument, command - 0x402C_542B)  // TCSETS2, …
    case 0x5406...0x5408: try set(.old, argument, command - 0x5406)  // TCSETA, TCSETAW, TCSETAF
    case 0x5456: try put(state.withLock { $0.locked } ?? .none, .plain, argument)  // TIOCGLCKTRMIOS
    case 0x5457:  // TIOCSLCKTRMIOS
      guard Task.currentTask.process.who.has(.administrate) else { throw .notPermitted }
      let mask = try get(.plain, argument, .none)
      state.withLock { $0.locked = mask }
    case 0x5419:  // TIOCGSOFTCAR
      try UserMemory.write32(state.withLock { $0.line.termios.has(control: Termios.local) } ? 1 : 0, to: argument)
    case 0x541A:  // TIOCSSOFTCAR
      let isLocal = try UserMemory.read32(argument) != 0
      var new = state.withLock { $0.line.termios }
      new.control = isLocal ? new.control | Termios.local : new.control & ~Termios.local
      apply(new)
    default: return false
    }
    return true
  }

  /// The three structures: `struct termios` has 36 bytes, `struct termios2` 44, `struct termio` 17.
  private enum Layout { case plain, withSpeeds, old }

  private func put(_ termios: Termios, _ layout: Layout, _ address: UInt32) throws(Errno) {
    let width = layout == .old ? 2 : 4
    var bytes = [UInt8]()
    func add(_ value: UInt32, _ width: Int) {
      for index in 0..<width { bytes.append(UInt8(truncatingIfNeeded: value >> UInt32(index * 8))) }
    }
    for word in [termios.input, termios.output, termios.control, termios.local] { add(word, width) }
    bytes.append(termios.discipline)
    for index in 0..<(layout == .old ? 8 : 19) { bytes.append(termios.characters[index]) }
    if layout == .withSpeeds {
      add(termios.inputSpeed, 4)
      add(termios.outputSpeed, 4)
    }
    try UserMemory.write(bytes.span, to: address)
  }

  /// Reads settings; what a layout does not have stays as it is in `old`.
  private func get(_ layout: Layout, _ address: UInt32, _ old: Termios) throws(Errno) -> Termios {
    let width = layout == .old ? 2 : 4
    let count = layout == .old ? 17 : layout == .plain ? 36 : 44
    var bytes = [UInt8](repeating: 0, count: count)
    var span = bytes.mutableSpan
    try UserMemory.read(address, into: &span)
    func word(_ at: Int, _ width: Int) -> UInt32 { (0..<width).reduce(0) { $0 | UInt32(bytes[at + $1]) << UInt32($1 * 8) } }
    func field(_ index: Int, _ old: UInt32) -> UInt32 { word(index * width, width) | (width == 2 ? old & 0xFFFF_0000 : 0) }
    var new = old
    new.input = field(0, old.input)
    new.output = field(1, old.output)
    new.control = field(2, old.control)
    new.local = field(3, old.local)
    new.discipline = bytes[width * 4]
    for index in 0..<(layout == .old ? 8 : 19) { new.characters[index] = bytes[width * 4 + 1 + index] }
    new.takeSpeeds(other: layout == .withSpeeds ? (word(36, 4), word(40, 4)) : nil)
    return new
  }

  /// Changes the settings at once (0), when output has left (1), or then and without what was typed (2).
  private func set(_ layout: Layout, _ address: UInt32, _ when: UInt32) throws(Errno) {
    try checkForeground(.terminalOutput)
    let new = try get(layout, address, state.withLock { $0.line.termios })
    if when > 0 { try drain() }
    if when > 1 { state.withLock { $0.line.flush() } }
    apply(new)
    if when > 1 { tell(.inputFlushed) }
  }

  private func apply(_ wanted: Termios) {
    let (old, new, isStarted) = state.withLock { state in
      let old = state.line.termios
      var new = wanted
      new.discipline = 0
      if let locked = state.locked { new.keep(locked, of: old) }
      let isStarted = state.line.set(new)
      sendEcho(&state)
      return (old, new, isStarted)
    }
    readers.wake()
    inputTaken()
    if isStarted {
      tell(.started)
      writers.wake()
    }
    tell(.settings(old: old, new: new))
  }

  // MARK: Flow

  private func controlFlow(_ command: UInt32, _ argument: UInt32) throws(Errno) -> Bool {
    switch command {
    case 0x5409:  // TCSBRK; with another argument than 0 it is tcdrain
      try checkForeground(.terminalOutput)
      try drain()
      if argument == 0 { try sendBreak(tenths: 3) }
    case 0x5425:  // TCSBRKP
      try checkForeground(.terminalOutput)
      try drain()
      try sendBreak(tenths: argument == 0 ? 3 : min(argument, 600))
    case 0x540A:  // TCXONC
      try checkForeground(.terminalOutput)
      switch argument {
      case 0, 1: changeFlow { $0.hold(argument == 0) }
      case 2, 3:
        let byte = state.withLock { $0.line.termios.characters[argument == 2 ? Termios.stop : Termios.start] }
        if byte != 0 { send([byte]) }
      default: throw .invalidArgument
      }
    case 0x540B:  // TCFLSH
      try checkForeground(.terminalOutput)
      if argument > 2 { throw .invalidArgument }
      if argument != 1 {
        state.withLock { $0.line.flush() }
        inputTaken()
        tell(.inputFlushed)
      }
      if argument != 0 {
        for output in outputs { output.flush() }
        outputMoved()
        tell(.outputFlushed)
      }
    default: return false
    }
    return true
  }

  // MARK: Sessions

  private func controlSession(_ command: UInt32, _ argument: UInt32) throws(Errno) -> Bool {
    switch command {
    case 0x540C: state.withLock { $0.isExclusive = true }  // TIOCEXCL
    case 0x540D: state.withLock { $0.isExclusive = false }  // TIOCNXCL
    case 0x8004_5440: try UserMemory.write32(state.withLock { $0.isExclusive } ? 1 : 0, to: argument)  // TIOCGEXCL
    case 0x540E:  // TIOCSCTTY; with 1 an administrator takes it from whoever has it
      try adopt(steal: argument == 1 && Task.currentTask.process.who.has(.administrate))
    case 0x5422: try giveUp()  // TIOCNOTTY
    case 0x540F: try UserMemory.write32(UInt32(bitPattern: try ownForeground()), to: argument)  // TIOCGPGRP
    case 0x5410: try setForeground(Int32(bitPattern: try UserMemory.read32(argument)))  // TIOCSPGRP
    case 0x5429:  // TIOCGSID
      guard Task.currentTask.process.terminal.withLock({ $0 === self }) else { throw .inappropriateIOCTLForDevice }
      try UserMemory.write32(UInt32(bitPattern: state.withLock { $0.session }), to: argument)
    case 0x5437:  // TIOCVHANGUP
      guard Task.currentTask.process.who.has(.administrate) else { throw .notPermitted }
      hangUp()
    default: return false
    }
    return true
  }

  private func giveUp() throws(Errno) {
    let process = Task.currentTask.process
    guard process.terminal.withLock({ $0 === self }) else { throw .inappropriateIOCTLForDevice }
    let (isLeader, session) = ProcessTable.shared.withTree { (process.tree.session == process.id, process.tree.session) }
    if isLeader { release(session) } else { process.terminal.withLock { $0 = nil } }
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

  private func setSize(_ packed: UInt32, pixels: UInt32) throws(Errno) {
    let rows = UInt16(truncatingIfNeeded: packed)
    let columns = UInt16(truncatingIfNeeded: packed >> 16)
    if !accepts(rows: rows, columns: columns) { throw .invalidArgument }
    resize(rows: rows, columns: columns, pixels: pixels)
  }

  /// Notes the size, and tells the foreground of another one.
  func resize(rows: UInt16, columns: UInt16, pixels: UInt32) {
    let group: Int32 = state.withLock { state in
      if state.rows == rows, state.columns == columns, state.pixels == pixels { return 0 }
      state.rows = rows
      state.columns = columns
      state.pixels = pixels
      return state.foreground
    }
    if group > 0 { sendToGroup(group, SignalInformation(.windowChange, code: 128)) }
  }
}
