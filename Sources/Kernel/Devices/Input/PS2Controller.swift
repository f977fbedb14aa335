import Machine
import Sync

/// Of the controller's ports: held for some microseconds, by who holds locks of the consoles.
struct PortsRank: LockRank { static let level: UInt8 = 96 }

/// What is at a port of the controller. Called with interrupts off.
protocol PS2Receiver: AnyObject {
  func take(_ byte: UInt8)
}

/// The 8042 controller: a keyboard at its first port, a mouse at its second.
/// SPEC: IBM PS/2 Technical Reference, keyboard and auxiliary device controller.
final class PS2Controller {
  private let data = PortWindow(base: 0x60, count: 1)
  private let status = PortWindow(base: 0x64, count: 1)
  private let ports = InterruptSpinLock<Void, PortsRank>(())
  private var configuration: UInt8 = 0
  private var receivers: [(any PS2Receiver)?] = [nil, nil]
  enum Port: Int { case keyboard, mouse }

  /// Nil where no controller answers. Both ports are silent then.
  init?() {
    guard command(0xAD), command(0xA7) else { return nil }
    // Whatever the firmware has left: it may have met keys that somebody pressed meanwhile.
    drain()
    guard command(0x20), let old = answer() else { return nil }
    // No interrupts yet, and scan codes of set 1.
    configuration = old & ~0x33 | 0x40
    guard configure(), command(0xAE) else { return nil }
  }

  // MARK: While it starts, by asking

  private func drain() {
    for _ in 0..<64 where status.read8(0) & 1 != 0 { _ = data.read8(0) }
  }

  /// Waits until the controller takes a byte; false where it never does.
  private func waitForRoom() -> Bool {
    for _ in 0..<100_000 where status.read8(0) & 2 == 0 { return true }
    return false
  }

  private func command(_ byte: UInt8) -> Bool {
    // Where there is none, all bits are set.
    if status.read8(0) == 0xFF || !waitForRoom() { return false }
    status.write8(0, byte)
    return true
  }

  private func answer(from port: Port? = nil) -> UInt8? {
    for _ in 0..<100_000 {
      let now = status.read8(0)
      if now & 1 == 0 { continue }
      let byte = data.read8(0)
      if port == nil || (port == .mouse) == (now & 0x20 != 0) { return byte }
    }
    return nil
  }

  private func configure() -> Bool {
    guard command(0x60), waitForRoom() else { return false }
    data.write8(0, configuration)
    return true
  }

  /// Sends bytes that a device acknowledges one by one; false where it does not.
  func ask(_ port: Port, _ bytes: UInt8...) -> Bool {
    for byte in bytes {
      send(byte, to: port)
      guard answer(from: port) == 0xFA else { return false }
    }
    return true
  }

  /// The byte that a device sends behind its acknowledgement.
  func reply(_ port: Port) -> UInt8? { answer(from: port) }

  /// Switches the second port on, or off where nothing is there.
  func setMouse(_ isOn: Bool) { _ = command(isOn ? 0xA8 : 0xA7) }

  // MARK: By interrupts

  /// From now on the receivers get what the devices send.
  func connect(keyboard: any PS2Receiver, mouse: (any PS2Receiver)?) {
    receivers = [keyboard, mouse]
    Interrupts.connect(line: 1, pci: false, handler: Line(self))
    if mouse != nil { Interrupts.connect(line: 12, pci: false, handler: Line(self)) }
    configuration |= mouse == nil ? 1 : 3
    // Nobody sends a byte in between, which would be the configuration.
    _ = ports.withLock { _ in configure() }
  }

  /// Sends a byte to a device. Interrupt-safe.
  func send(_ byte: UInt8, to port: Port) {
    ports.withLock { _ in
      if port == .mouse {
        guard waitForRoom() else { return }
        status.write8(0, 0xD4)
      }
      guard waitForRoom() else { return }
      data.write8(0, byte)
    }
  }

  fileprivate func receive() -> Bool {
    var any = false
    for _ in 0..<16 {
      let byte: (UInt8, isMouse: Bool)? = ports.withLock { _ in
        let now = status.read8(0)
        return now & 1 == 0 ? nil : (data.read8(0), now & 0x20 != 0)
      }
      guard let byte else { break }
      receivers[byte.isMouse ? 1 : 0]?.take(byte.0)
      any = true
    }
    return any
  }

  /// Each port has a line of its own, and the byte may be either's.
  private final class Line: InterruptHandler {
    private let controller: PS2Controller
    init(_ controller: PS2Controller) { self.controller = controller }
    func handleInterrupt() -> Bool { controller.receive() }
  }
}
