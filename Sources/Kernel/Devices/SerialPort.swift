import Machine
import Sync
import Threads

/// A 16550 serial port. Receives by interrupt; sends into the FIFO, waiting for room.
///
/// SPEC: National Semiconductor PC16550D datasheet.
public final class SerialPort: InterruptHandler, TerminalOutput {
  private let ports: PortWindow
  private var terminal: TerminalDevice?

  /// Nil when nothing answers at `base`.
  public init?(base: UInt16) {
    ports = PortWindow(base: base, count: 8)
    ports.write8(7, 0x5A)  // the scratch register keeps what it is given
    guard ports.read8(7) == 0x5A else { return nil }
    ports.write8(1, 0)
    ports.write8(3, 0x80)
    ports.write8(0, 1)
    ports.write8(1, 0)
    ports.write8(3, 0x03)
    ports.write8(2, 0xC7)
    ports.write8(4, 0x0B)
  }

  /// Starts receiving for a terminal.
  public func attach(_ terminal: TerminalDevice, line: UInt8) {
    self.terminal = terminal
    Interrupts.connect(line: line, pci: false, handler: self)
    ports.write8(1, 1)
    _ = handleInterrupt()
  }

  public func handleInterrupt() -> Bool {
    var any = false
    while ports.read8(5) & 1 != 0 {
      let byte = ports.read8(0)
      terminal?.receive(byte)
      any = true
    }
    return any
  }

  public func write(_ bytes: borrowing Span<UInt8>) {
    var index = 0
    while index < bytes.count {
      var spins = 0
      while ports.read8(5) & 0x20 == 0, spins < 1_000_000 { spins += 1 }
      let end = min(bytes.count, index + 16)
      while index < end {
        ports.write8(0, bytes[index])
        index += 1
      }
    }
  }
}
