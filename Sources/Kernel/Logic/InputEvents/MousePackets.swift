/// What a mouse has done since its last packet.
public struct MousePacket: Equatable, Sendable {
  /// Left, right, middle, side and extra button from bit 0 on.
  public var buttons: UInt8
  /// To the right, and down.
  public var x: Int32, y: Int32
  /// Away from the hand.
  public var wheel: Int32
  public init(buttons: UInt8, x: Int32, y: Int32, wheel: Int32) {
    (self.buttons, self.x, self.y, self.wheel) = (buttons, x, y, wheel)
  }
}

/// The kinds of PS/2 mice, by what they say they are.
public enum MouseKind: UInt8, Sendable {
  case plain = 0
  case wheel = 3
  case fiveButtons = 4
}

/// A PS/2 mouse's packets. SPEC: IBM PS/2 Technical Reference, auxiliary device; Microsoft IntelliMouse for the fourth byte.
public struct MousePackets: Sendable {
  public let kind: MouseKind
  private var packet: InlineArray<4, UInt8> = .init(repeating: 0)
  private var count = 0
  private var last: UInt64 = 0

  public init(_ kind: MouseKind) { self.kind = kind }

  /// Takes a byte that has come at `time`, in nanoseconds; the packet that it completes.
  public mutating func take(_ byte: UInt8, time: UInt64) -> MousePacket? {
    // One that never became complete: what follows it is not its rest.
    if time &- last > 500_000_000 { count = 0 }
    last = time
    // Only a first byte has this bit for certain: what has lost its beginning finds it again.
    if count == 0, byte & 8 == 0 { return nil }
    packet[count] = byte
    count += 1
    if count < (kind == .plain ? 3 : 4) { return nil }
    count = 0
    let first = packet[0]
    let x = Int32(packet[1]) - (first & 0x10 != 0 ? 256 : 0)
    let y = Int32(packet[2]) - (first & 0x20 != 0 ? 256 : 0)
    var result = MousePacket(buttons: first & 7, x: x, y: -y, wheel: 0)
    switch kind {
    case .plain: break
    case .wheel: result.wheel = -Int32(Int8(bitPattern: packet[3]))
    case .fiveButtons:
      result.wheel = -Int32(Int8(bitPattern: packet[3] << 4) >> 4)
      result.buttons |= packet[3] >> 1 & 0x18
    }
    return result
  }
}
