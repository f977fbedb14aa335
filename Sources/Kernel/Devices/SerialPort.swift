import Machine
import Sync
import Terminal
import Threads

struct SerialRank: LockRank { static let level: UInt8 = 88 }

/// A 16550 UART with its FIFOs. Receives and sends by interrupt, and sends at once what the FIFO has room for.
///
/// SPEC: National Semiconductor PC16550D datasheet, table II (registers).
final class SerialPort: InterruptHandler, TerminalOutput {
  /// Registers, as offsets from the base.
  private enum Register {
    static let data: UInt16 = 0, interruptEnable: UInt16 = 1, fifoControl: UInt16 = 2, lineControl: UInt16 = 3
    static let modemControl: UInt16 = 4, lineStatus: UInt16 = 5, modemStatus: UInt16 = 6, scratch: UInt16 = 7
  }
  private enum LineStatus {
    static let ready: UInt8 = 1, overrun: UInt8 = 2, parity: UInt8 = 4, framing: UInt8 = 8, lineBreak: UInt8 = 0x10
    static let roomToSend: UInt8 = 0x20, isIdle: UInt8 = 0x40
  }

  /// What has happened at the port. SPEC: ioctl_tty(2), TIOCGICOUNT.
  struct Counts {
    var received: UInt32 = 0, sent: UInt32 = 0, framing: UInt32 = 0, overruns: UInt32 = 0, parity: UInt32 = 0, breaks: UInt32 = 0
    /// Changes of CTS, DSR, RI and DCD.
    var modem: (UInt32, UInt32, UInt32, UInt32) = (0, 0, 0, 0)
  }

  struct Settings: Equatable {
    /// Bits a second, 50 to 115200; 0 is a hang-up.
    var rate: UInt32 = SerialPort.baseRate
    /// The line control register: length, stop bits, parity.
    var lineControl: UInt8 = 3
    /// CTS must be on for anything to be sent.
    var obeysCTS = false
    var isStopped = false
  }

  private struct State: ~Copyable {
    var settings = Settings()
    /// To be sent, from `start` on.
    var bytes: [UInt8] = []
    var start = 0
    /// A character of flow control, which goes before everything else.
    var urgent: UInt8?
    var sendsByInterrupt = false
    var sendsBreak = false
    var modemControl: UInt8 = 0x0B
    /// The other side is ready for more, as far as an interrupt has told.
    var hasCTS = false
    var counts = Counts()
    var waiting: Int { bytes.count - start }
  }

  private let ports: PortWindow
  private let state = InterruptSpinLock<State, SerialRank>(State())
  private let terminal = BootCell<SerialTerminal>()
  static var capacity: Int { 4096 }
  /// The baud rate of divisor 1.
  static var baseRate: UInt32 { 115_200 }
  private static var fifoSize: Int { 16 }

  /// Nil when nothing answers at `base`.
  init?(base: UInt16) {
    ports = PortWindow(base: base, count: 8)
    ports.write8(Register.scratch, 0x5A)  // keeps what it is given
    guard ports.read8(Register.scratch) == 0x5A else { return nil }
    ports.write8(Register.interruptEnable, 0)
    ports.write8(Register.fifoControl, 0xC7)  // on, emptied, an interrupt at 14 bytes
    setRate(Self.baseRate, lineControl: 3)
    ports.write8(Register.modemControl, 0x0B)  // DTR, RTS, and OUT2, which lets interrupts through
  }

  /// Starts working for a terminal.
  func attach(_ terminal: SerialTerminal, line: UInt8) {
    self.terminal.set(terminal)
    _ = modemStatus
    Interrupts.connect(line: line, pci: false, handler: self)
    state.withLock { enableInterrupts(&$0) }
    _ = handleInterrupt()
  }

  /// Received data, line status and modem status, and room to send where somebody waits for that.
  private func enableInterrupts(_ state: inout State) { ports.write8(Register.interruptEnable, state.sendsByInterrupt ? 0x0F : 0x0D) }

  // MARK: Interrupts

  func handleInterrupt() -> Bool {
    guard terminal.isSet else { return false }
    var any = false
    // The line is an edge: it must have been low before this ends. Who never lets it go is broken.
    for _ in 0..<4096 where ports.read8(Register.fifoControl) & 1 == 0 {
      any = true
      receiveAll()
      _ = modemStatus
      let hasRoom = state.withLock { state in
        let before = state.waiting
        pump(&state)
        return state.waiting < before
      }
      if hasRoom { terminal.value.outputMoved() }
    }
    return any
  }

  private func receiveAll() {
    // No more than one interrupt brings: a port that is gone has all bits set for ever.
    for _ in 0..<256 {
      let status = ports.read8(Register.lineStatus)
      if status & LineStatus.ready == 0 { return }
      let byte = ports.read8(Register.data)
      state.withLock { state in
        state.counts.received &+= 1
        if status & LineStatus.overrun != 0 { state.counts.overruns &+= 1 }
        if status & LineStatus.lineBreak != 0 {
          state.counts.breaks &+= 1
        } else if status & LineStatus.framing != 0 {
          state.counts.framing &+= 1
        } else if status & LineStatus.parity != 0 {
          state.counts.parity &+= 1
        }
      }
      let isDamaged = status & (LineStatus.framing | LineStatus.parity) != 0
      terminal.value.receive(byte, status & LineStatus.lineBreak != 0 ? .lineBreak : isDamaged ? .damaged : .good)
    }
  }

  /// CTS (16), DSR (32), RI (64), DCD (128), as in the register. What has changed is noted: its low half says that once.
  var modemStatus: UInt8 {
    let status = state.withLock { state in
      let status = ports.read8(Register.modemStatus)
      state.hasCTS = status & 0x10 != 0
      if status & 1 != 0 { state.counts.modem.0 &+= 1 }
      if status & 2 != 0 { state.counts.modem.1 &+= 1 }
      if status & 4 != 0 { state.counts.modem.2 &+= 1 }
      if status & 8 != 0 { state.counts.modem.3 &+= 1 }
      return status
    }
    if status & 0x0F != 0 { terminal.value.modemChanged(carrierLost: status & 0x88 == 0x08) }
    return status & 0xF0
  }

  // MARK: Sending

  /// Fills the FIFO as long as it takes bytes at once, and leaves the rest to the interrupt.
  private func pump(_ state: inout State) {
    while ports.read8(Register.lineStatus) & LineStatus.roomToSend != 0 {
      if let urgent = state.urgent {
        ports.write8(Register.data, urgent)
        state.urgent = nil
      } else {
        if state.waiting == 0 || !maySend(state) { break }
        let end = min(state.bytes.count, state.start + Self.fifoSize)
        state.counts.sent &+= UInt32(end - state.start)
        for index in state.start..<end { ports.write8(Register.data, state.bytes[index]) }
        state.start = end
      }
      // In a loop the other end's FIFO is ours, and as small: it is emptied first.
      if state.modemControl & 0x10 != 0 { break }
    }
    if state.waiting == 0 {
      state.bytes.removeAll(keepingCapacity: true)
      state.start = 0
    }
    let waits = state.urgent != nil || state.waiting > 0 && maySend(state)
    if waits != state.sendsByInterrupt {
      state.sendsByInterrupt = waits
      enableInterrupts(&state)
    }
  }

  private func maySend(_ state: borrowing State) -> Bool {
    !state.settings.isStopped && (!state.settings.obeysCTS || state.hasCTS)
  }

  /// Sends what the FIFO takes without being waited for; answers how much that is.
  private func sendAtOnce(_ bytes: borrowing Span<UInt8>, _ state: inout State) -> Int {
    var index = 0
    guard maySend(state), state.modemControl & 0x10 == 0 else { return 0 }
    while index < bytes.count, ports.read8(Register.lineStatus) & LineStatus.roomToSend != 0 {
      let end = min(bytes.count, index + Self.fifoSize)
      while index < end {
        ports.write8(Register.data, bytes[index])
        index += 1
      }
    }
    state.counts.sent &+= UInt32(index)
    return index
  }

  /// What there is no room for is lost; who writes has looked at the room before.
  func write(_ bytes: borrowing Span<UInt8>) {
    state.withLock { state in
      var index = 0
      if state.waiting == 0, !state.sendsByInterrupt { index = sendAtOnce(bytes, &state) }
      if index == bytes.count { return }
      if state.start > 0, state.bytes.count + bytes.count > Self.capacity {
        state.bytes.removeFirst(state.start)
        state.start = 0
      }
      for index in index..<min(bytes.count, index + Self.capacity - state.waiting) { state.bytes.append(bytes[index]) }
      if !state.sendsByInterrupt { pump(&state) }
    }
  }

  var waiting: Int { state.withLock { $0.waiting } }
  var room: Int { Self.capacity - waiting }

  func flush() {
    state.withLock { state in
      state.bytes.removeAll(keepingCapacity: true)
      state.start = 0
      pump(&state)
    }
  }

  /// Whether the last bit has left.
  var isIdle: Bool { state.withLock { $0.waiting == 0 && ports.read8(Register.lineStatus) & LineStatus.isIdle != 0 } }

  func sendUrgent(_ byte: UInt8) {
    state.withLock { state in
      state.urgent = byte
      pump(&state)
    }
  }

  // MARK: The line

  func apply(_ new: Settings) {
    state.withLock { state in
      let old = state.settings
      if old == new { return }
      state.settings = new
      // The rate stays what it was when DTR goes.
      if new.rate > 0, new.rate != old.rate || new.lineControl != old.lineControl {
        setRate(new.rate, lineControl: new.lineControl | (state.sendsBreak ? 0x40 : 0))
      }
      if new.rate == 0 { setModem(&state, set: 0, clear: 3) } else if old.rate == 0 { setModem(&state, set: 3, clear: 0) }
      pump(&state)
    }
  }

  private func setRate(_ rate: UInt32, lineControl: UInt8) {
    let divisor = max(1, min(0xFFFF, Self.baseRate / max(1, rate)))
    ports.write8(Register.lineControl, lineControl | 0x80)
    ports.write8(Register.data, UInt8(truncatingIfNeeded: divisor))
    ports.write8(Register.interruptEnable, UInt8(truncatingIfNeeded: divisor >> 8))
    ports.write8(Register.lineControl, lineControl)
  }

  func setBreak(_ on: Bool) {
    state.withLock { state in
      state.sendsBreak = on
      ports.write8(Register.lineControl, state.settings.lineControl | (on ? 0x40 : 0))
    }
  }

  /// DTR (1), RTS (2), OUT1 (4), loop back (16), as in the register.
  var modemControl: UInt8 { state.withLock { $0.modemControl & 0x17 } }
  func setModemControl(_ set: UInt8, clear: UInt8) {
    state.withLock { state in
      setModem(&state, set: set, clear: clear)
    }
    // In a loop RTS is CTS, and no interrupt tells.
    _ = modemStatus
    state.withLock { pump(&$0) }
  }

  private func setModem(_ state: inout State, set: UInt8, clear: UInt8) {
    state.modemControl = state.modemControl & ~clear | set
    ports.write8(Register.modemControl, state.modemControl)
  }

  var counts: Counts { state.withLock { $0.counts } }
}
