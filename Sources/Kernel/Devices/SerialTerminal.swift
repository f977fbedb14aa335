import Machine
import Processes
import Sync
import SystemABI
import Terminal
import Threads
import VFS

/// The terminal at a serial line. SPEC: tty_ioctl(4); uapi linux/serial.h.
final class SerialTerminal: TerminalDevice {
  private let port: SerialPort
  private let index: Int
  private let base: UInt16
  private let line: UInt8
  /// Woken when the other side's lines change.
  private let modem = WaitQueue()

  init(index: Int, base: UInt16, line: UInt8, port: SerialPort) {
    (self.index, self.base, self.line, self.port) = (index, base, line, port)
    super.init(DeviceNumber(major: 4, minor: UInt32(64 + index)), outputs: [port])
    state.withLock { state in
      var termios = Termios()
      // 115200, and nobody waits for a carrier.
      termios.control = termios.control & ~Termios.speeds | 0o10002 | Termios.local
      termios.takeSpeeds(other: nil)
      _ = state.line.set(termios)
      // Nobody has told its size.
      (state.rows, state.columns) = (25, 80)
    }
  }

  override var forgetsSettings: Bool { false }

  // MARK: What the discipline says

  override func tell(_ change: TerminalChange) {
    switch change {
    case .stopped, .started, .settings: configure()
    case .inputFlushed, .outputFlushed: break
    }
  }

  /// Makes the port what the terminal is now: two changes at a time may tell of theirs in either order.
  private func configure() {
    state.withLock { state in
      let termios = state.line.termios
      var control = UInt8((termios.control & Termios.size) >> 4)
      if termios.has(control: Termios.twoStopBits) { control |= 4 }
      if termios.has(control: Termios.parity) {
        control |= 8
        if !termios.has(control: Termios.oddParity) { control |= 0x10 }
        if termios.has(control: Termios.stickParity) { control |= 0x20 }
      }
      port.apply(
        SerialPort.Settings(
          rate: termios.outputSpeed, lineControl: control, obeysCTS: termios.has(control: Termios.requestToSend),
          isStopped: state.line.isStopped))
    }
  }

  /// The other side shall stop sending, or may go on.
  override func setFull(_ isFull: Bool) {
    let termios = state.withLock { $0.line.termios }
    let character = termios.characters[isFull ? Termios.stop : Termios.start]
    if termios.has(input: Termios.stopsSender), character != 0 { port.sendUrgent(character) }
    if termios.has(control: Termios.requestToSend) { port.setModemControl(isFull ? 0 : 2, clear: isFull ? 2 : 0) }
  }

  /// Interrupt-safe. Without a carrier the caller at the other side is gone.
  func modemChanged(carrierLost isLost: Bool) {
    modem.wake()
    if isLost, !state.withLock({ $0.line.termios.has(control: Termios.local) }) { carrierLost() }
  }

  override func drain() throws(Errno) {
    let _: Bool = try writers.wait(reason: "tty drain") { port.waiting == 0 ? true : nil }
    // No interrupt tells when the last byte of the FIFO has left: it lasts some milliseconds.
    while !port.isIdle { try Sleep.until(.after(1_000_000)) }
  }

  override func sendBreak(tenths: UInt32) throws(Errno) {
    port.setBreak(true)
    defer { port.setBreak(false) }
    try Sleep.until(.after(UInt64(tenths) * 100_000_000))
  }

  // MARK: Opening

  override func opened(isFirst: Bool) {
    if isFirst { port.setModemControl(3, clear: 0) }
  }

  override func closed(isLast: Bool) {
    if isLast, state.withLock({ $0.line.termios.has(control: Termios.hangUpOnClose) }) { port.setModemControl(0, clear: 3) }
  }

  override var hearsItself: Bool { port.modemControl & 0x10 != 0 }

  // MARK: Control

  /// The lines' bits in `ioctl` and in the chip's registers: DTR, RTS, OUT1, loop; CTS, DCD, RI, DSR.
  private static let outputs: [4 of (bit: UInt32, register: UInt8)] = [(2, 1), (4, 2), (0x2000, 4), (0x8000, 16)]
  private static let inputs: [4 of (bit: UInt32, register: UInt8)] = [(0x20, 16), (0x40, 128), (0x80, 64), (0x100, 32)]

  private func modemBits() -> UInt32 {
    let (control, status) = (port.modemControl, port.modemStatus)
    var bits: UInt32 = 0
    for index in 0..<4 {
      if control & Self.outputs[index].register != 0 { bits |= Self.outputs[index].bit }
      if status & Self.inputs[index].register != 0 { bits |= Self.inputs[index].bit }
    }
    return bits
  }

  private func register(_ bits: UInt32) -> UInt8 {
    var register: UInt8 = 0
    for index in 0..<4 where bits & Self.outputs[index].bit != 0 { register |= Self.outputs[index].register }
    return register
  }

  override func controlDevice(_ command: UInt32, _ argument: UInt32) throws(Errno) -> Int32? {
    switch command {
    case 0x5415: try UserMemory.write32(modemBits(), to: argument)  // TIOCMGET
    case 0x5416: port.setModemControl(register(try UserMemory.read32(argument)), clear: 0)  // TIOCMBIS
    case 0x5417: port.setModemControl(0, clear: register(try UserMemory.read32(argument)))  // TIOCMBIC
    case 0x5418: port.setModemControl(register(try UserMemory.read32(argument)), clear: 0x17)  // TIOCMSET
    case 0x5427: port.setBreak(true)  // TIOCSBRK
    case 0x5428: port.setBreak(false)  // TIOCCBRK
    case 0x545C: try waitForModem(argument)  // TIOCMIWAIT
    case 0x545D: try putCounts(argument)  // TIOCGICOUNT
    case 0x5459: try UserMemory.write32(port.isIdle ? 1 : 0, to: argument)  // TIOCSERGETLSR
    case 0x541E: try describe(argument)  // TIOCGSERIAL
    default: return nil
    }
    return 0
  }

  private func waitForModem(_ mask: UInt32) throws(Errno) {
    let before = port.counts.modem
    let _: Bool = try modem.wait(reason: "modem") {
      let now = port.counts.modem
      let isWanted =
        mask & 0x20 != 0 && now.0 != before.0 || mask & 0x100 != 0 && now.1 != before.1 || mask & 0x80 != 0 && now.2 != before.2
        || mask & 0x40 != 0 && now.3 != before.3
      return isWanted ? true : nil
    }
  }

  /// `struct serial_icounter_struct`: 20 words.
  private func putCounts(_ address: UInt32) throws(Errno) {
    let counts = port.counts
    let words = [
      counts.modem.0, counts.modem.1, counts.modem.2, counts.modem.3, counts.received, counts.sent, counts.framing, counts.overruns,
      counts.parity, counts.breaks, 0,
    ]
    try put(words + [UInt32](repeating: 0, count: 20 - words.count), address)
  }

  /// `struct serial_struct`: 15 words, of which the first ones say what port it is.
  private func describe(_ address: UInt32) throws(Errno) {
    // PORT_16550A; type, line, port, irq, flags, xmit_fifo_size, custom_divisor, baud_base
    let words: [UInt32] = [4, UInt32(index), UInt32(base), UInt32(line), 0, 16, 0, SerialPort.baseRate]
    try put(words + [UInt32](repeating: 0, count: 15 - words.count), address)
  }

  private func put(_ words: [UInt32], _ address: UInt32) throws(Errno) {
    var bytes: [UInt8] = []
    for word in words { for index in 0..<4 { bytes.append(UInt8(truncatingIfNeeded: word >> UInt32(index * 8))) } }
    try UserMemory.write(bytes.span, to: address)
  }
}
