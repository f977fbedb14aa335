/// A key goes down or comes up. Codes are Linux's KEY_…: those of the first 88 keys are the PC's own.
public struct KeyEvent: Equatable, Sendable {
  public var code: UInt8
  public var isPressed: Bool
  public init(_ code: UInt8, isPressed: Bool) {
    self.code = code
    self.isPressed = isPressed
  }
}

/// A PS/2 keyboard's scan codes, set 1 as the controller translates them. SPEC: IBM PS/2 Technical Reference, keyboard; Linux
/// uapi/linux/input-event-codes.h for what comes out.
public struct ScanCodes: Sendable {
  private var prefix: UInt8 = 0
  /// Bytes behind Pause's prefix that are still to come.
  private var left = 0

  public init() {}

  public mutating func take(_ byte: UInt8) -> KeyEvent? {
    if left > 0 {
      left -= 1
      return left == 0 ? KeyEvent(Self.pause, isPressed: byte & 0x80 == 0) : nil
    }
    if byte == 0xE1 {
      left = 2
      return nil
    }
    if byte == 0xE0 {
      prefix = byte
      return nil
    }
    let isExtended = prefix == 0xE0
    prefix = 0
    let code = isExtended ? Self.extended(byte & 0x7F) : Self.plain(byte & 0x7F)
    return code == 0 ? nil : KeyEvent(code, isPressed: byte & 0x80 == 0)
  }

  private static let pause: UInt8 = 119

  private static func plain(_ key: UInt8) -> UInt8 {
    switch key {
    case 1...0x53, 0x56...0x58: key
    case 0x54: 99  // Print with Alt: System Request
    case 0x73: 89  // beside the right shift in Brazil
    case 0x7E: 121  // the keypad's comma there
    default: 0
    }
  }

  /// Those with 0xE0 in front. The shifts that some bring along are nobody's.
  private static func extended(_ key: UInt8) -> UInt8 {
    switch key {
    case 0x1C: 96  // Enter of the keypad
    case 0x1D: 97  // right Control
    case 0x35: 98  // / of the keypad
    case 0x37: 99  // Print, System Request
    case 0x38: 100  // right Alt
    case 0x46: pause  // Control with Pause
    case 0x47...0x49: key - 0x47 + 102  // Home, up, page up
    case 0x4B: 105
    case 0x4D: 106
    case 0x4F...0x53: key - 0x4F + 107  // End, down, page down, Insert, Delete
    case 0x5B...0x5D: key - 0x5B + 125  // left and right logo, menu
    default: 0
    }
  }

  /// The bytes of an event, as a keyboard would send them: none where there is no such key.
  public static func bytes(_ event: KeyEvent) -> [UInt8] {
    let up: UInt8 = event.isPressed ? 0 : 0x80
    if event.code == pause { return [0xE1, 0x1D | up, 0x45 | up] }
    if event.code == 0 { return [] }
    if plain(event.code) == event.code { return [event.code | up] }
    for key in UInt8(1)..<0x80 where extended(key) == event.code { return [0xE0, key | up] }
    for key in UInt8(1)..<0x80 where plain(key) == event.code { return [key | up] }
    return []
  }

  /// Codes of keys that there may be.
  public static func forEachCode(_ body: (UInt8) -> Void) {
    for code in UInt8(1)..<0x80 where !bytes(KeyEvent(code, isPressed: true)).isEmpty { body(code) }
  }
}
