import InputEvents
import Machine
import Sync

/// A PS/2 mouse: three buttons or five, and a wheel. SPEC: IBM PS/2 Technical Reference, auxiliary device; Microsoft IntelliMouse.
final class Mouse: InputDevice, PS2Receiver {
  private let packets: InterruptSpinLock<MousePackets, InputRank>

  /// Finds the mouse at a controller; nil where there is none. It is silent until 0xF4 is sent.
  static func find(_ controller: PS2Controller) -> Mouse? {
    controller.setMouse(true)
    // Its defaults, and silence. Then the rates that make one with a wheel say so, and one with five buttons.
    guard controller.ask(.mouse, 0xF6, 0xF5) else {
      controller.setMouse(false)
      return nil
    }
    var kind = MouseKind.plain
    if controller.ask(.mouse, 0xF3, 200, 0xF3, 100, 0xF3, 80, 0xF2), controller.reply(.mouse) == 3 { kind = .wheel }
    if kind == .wheel, controller.ask(.mouse, 0xF3, 200, 0xF3, 200, 0xF3, 80, 0xF2), controller.reply(.mouse) == 4 {
      kind = .fiveButtons
    }
    // A hundred packets a second, eight counts a millimetre.
    _ = controller.ask(.mouse, 0xF3, 100, 0xE8, 3)
    return Mouse(kind)
  }

  private static var buttons: Range<UInt16> { 0x110..<0x115 }
  private static var wheel: UInt16 { 8 }

  private init(_ kind: MouseKind) {
    packets = InterruptSpinLock(MousePackets(kind))
    var input = InputState()
    for button in Self.buttons.prefix(kind == .fiveButtons ? 5 : 3) { input.add(.key, button) }
    input.add(.relative, 0)
    input.add(.relative, 1)
    if kind != .plain { input.add(.relative, Self.wheel) }
    super.init("PS/2 mouse", place: "isa0060/serio1/input0", identity: (0x11, 2, UInt16(kind.rawValue) + 1, 0), input)
  }

  func take(_ byte: UInt8) {
    let now = Clock.monotonic
    guard let packet = packets.withLock({ $0.take(byte, time: now) }) else { return }
    for (index, button) in Self.buttons.enumerated() {
      report(InputEvent(.key, button, Int32(packet.buttons >> UInt8(index) & 1), time: now))
    }
    report(InputEvent(.relative, 0, packet.x, time: now))
    report(InputEvent(.relative, 1, packet.y, time: now))
    report(InputEvent(.relative, Self.wheel, packet.wheel, time: now))
    report(.report(time: now))
  }
}
