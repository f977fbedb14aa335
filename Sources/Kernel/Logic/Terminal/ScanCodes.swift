/// What a PS/2 keyboard's scan codes (set 1) type on a US layout. SPEC: IBM PS/2 Technical Reference, keyboard scan codes.
public struct ScanCodes: Sendable {
  private var shift = false
  private var control = false
  private var alternate = false
  private var capsLock = false
  private var extended = false

  private static let plain: StaticString = "\0\u{1B}1234567890-=\u{7F}\tqwertyuiop[]\r\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 "
  private static let shifted: StaticString = "\0\u{1B}!@#$%^&*()_+\u{7F}\tQWERTYUIOP{}\r\0ASDFGHJKL:\"~\0|ZXCVBNM<>?\0*\0 "

  public init() {}

  /// The bytes that a code adds to the terminal's input.
  public mutating func receive(_ code: UInt8) -> [UInt8] {
    if code == 0xE0 {
      extended = true
      return []
    }
    let wasExtended = extended
    extended = false
    let key = code & 0x7F
    let pressed = code & 0x80 == 0
    switch key {
    case 0x2A, 0x36:
      if !wasExtended { shift = pressed }
      return []
    case 0x1D:
      control = pressed
      return []
    case 0x38:
      alternate = pressed
      return []
    case 0x3A:
      if pressed { capsLock.toggle() }
      return []
    default: return pressed ? wasExtended ? Self.special(key) : text(key) : []
    }
  }

  /// Keys beside the letters: what terminfo's "linux" says they send.
  private static func special(_ key: UInt8) -> [UInt8] {
    switch key {
    case 0x48: [27, 91, 65]
    case 0x50: [27, 91, 66]
    case 0x4D: [27, 91, 67]
    case 0x4B: [27, 91, 68]
    case 0x47: [27, 91, 49, 126]
    case 0x52: [27, 91, 50, 126]
    case 0x53: [27, 91, 51, 126]
    case 0x4F: [27, 91, 52, 126]
    case 0x49: [27, 91, 53, 126]
    case 0x51: [27, 91, 54, 126]
    case 0x1C: [13]
    case 0x35: [47]
    default: []
    }
  }

  private func text(_ key: UInt8) -> [UInt8] {
    let table = shift ? Self.shifted : Self.plain
    let bytes = Array(table.description.utf8)
    guard Int(key) < bytes.count, bytes[Int(key)] != 0 else { return [] }
    var byte = bytes[Int(key)]
    let isLetter = byte | 32 >= 97 && byte | 32 <= 122
    if capsLock, isLetter { byte ^= 32 }
    if control, byte >= 64, byte < 127 { byte &= 31 } else if control, byte == 32 { byte = 0 }
    return alternate ? [27, byte] : [byte]
  }
}
