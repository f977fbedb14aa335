import Primitives

/// How many columns a character takes.
public enum CharacterWidth {
  /// The characters of two columns, from and to. SPEC: Unicode 15, EastAsianWidth.txt (W and F), in the planes that have them.
  private static let wide: InlineArray<20, (UInt32, UInt32)> = [
    (0x1100, 0x115F), (0x231A, 0x231B), (0x2329, 0x232A), (0x23E9, 0x23EC), (0x2614, 0x2615), (0x2648, 0x2653), (0x26CE, 0x26CE),
    (0x2705, 0x2705), (0x2728, 0x2728), (0x2E80, 0x303E), (0x3041, 0x33FF), (0x3400, 0x4DBF), (0x4E00, 0xA4CF), (0xA960, 0xA97C),
    (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFE30, 0xFE6F), (0xFF00, 0xFF60), (0xFFE0, 0xFFE6), (0x1F300, 0x1FAFF),
  ]
  /// Those that belong to the one before, or are nothing to see.
  private static let none: InlineArray<17, (UInt32, UInt32)> = [
    (0x00, 0x1F), (0x7F, 0x9F), (0x0300, 0x036F), (0x0483, 0x0489), (0x0591, 0x05BD), (0x0610, 0x061A), (0x064B, 0x065F),
    (0x093C, 0x093C), (0x0E34, 0x0E3A), (0x0E47, 0x0E4E), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x200B, 0x200F), (0x202A, 0x202E),
    (0x2060, 0x2064), (0x20D0, 0x20FF), (0xFE00, 0xFE0F),
  ]

  public static func of(_ character: UInt32) -> Int {
    if character &- 0x20 < 0x5F { return 1 }
    if character < 0x300 { return character < 0xA0 ? 0 : 1 }
    for index in none.indices where character >= none[index].0 && character <= none[index].1 { return 0 }
    if character == 0xFEFF { return 0 }
    if character < 0x1100 { return 1 }
    for index in wide.indices where character >= wide[index].0 && character <= wide[index].1 { return 2 }
    return character >= 0x20000 && character < 0x40000 ? 2 : 1
  }

  /// Of a character in UTF-8; what is none takes one column.
  static func of(_ bytes: [UInt8]) -> Int {
    if bytes.count < 2 || bytes.count > 4 { return 1 }
    let character = bytes.dropFirst().reduce(UInt32(bytes[0]) & (0x7F >> UInt32(bytes.count))) { $0 << 6 | UInt32($1 & 0x3F) }
    return of(character)
  }
}

/// The sets of characters that programs choose from. SPEC: VT100 manual, "Special graphics"; console_codes(4), "Character sets".
struct CharacterSets: Sendable {
  enum Name: UInt8, Sendable { case ascii, lines, british, codePage437 }
  private var sets: (Name, Name, Name, Name) = (.ascii, .lines, .ascii, .ascii)
  private var left = 0
  /// For one character.
  private var single: Int?

  var isPlain: Bool { single == nil && current == .ascii }
  private var current: Name { name(left) }
  private func name(_ index: Int) -> Name {
    switch index {
    case 0: sets.0
    case 1: sets.1
    case 2: sets.2
    default: sets.3
    }
  }

  /// ESC ( and the like, with what comes behind.
  mutating func designate(_ index: Int, _ final: UInt8) {
    let name: Name
    switch final {
    case 0x30: name = .lines  // 0
    case 0x41: name = .british  // A
    case 0x55: name = .codePage437  // U
    default: name = .ascii
    }
    switch index {
    case 0: sets.0 = name
    case 1: sets.1 = name
    case 2: sets.2 = name
    default: sets.3 = name
    }
  }

  mutating func shift(to index: Int) { left = index }
  mutating func shiftOnce(to index: Int) { single = index }

  mutating func translate(_ character: UInt32) -> UInt32 {
    let set = single.map { name($0) } ?? current
    single = nil
    switch set {
    case .ascii: return character
    case .british: return character == 0x23 ? 0xA3 : character
    case .codePage437: return character < 256 ? CodePage437.character(UInt8(character)) : character
    case .lines: return character >= 0x5F && character <= 0x7E ? Self.lines[Int(character - 0x5F)] : character
    }
  }

  private static let lines: InlineArray<32, UInt32> = [
    0x00A0, 0x25C6, 0x2592, 0x2409, 0x240C, 0x240D, 0x240A, 0x00B0, 0x00B1, 0x2424, 0x240B, 0x2518, 0x2510, 0x250C, 0x2514, 0x253C,
    0x23BA, 0x23BB, 0x2500, 0x23BC, 0x23BD, 0x251C, 0x2524, 0x2534, 0x252C, 0x2502, 0x2264, 0x2265, 0x03C0, 0x2260, 0x00A3, 0x00B7,
  ]
}

extension CodePage437 {
  /// The byte for a character, or for one that looks much like it; a small block where there is none.
  public static func byte(_ character: UInt32) -> UInt8 {
    if character &- 0x20 < 0x5F { return UInt8(truncatingIfNeeded: character) }
    if character == 0 { return 32 }
    if character == 0x2302 { return 127 }
    return exactByte(character) ?? substitute(character)
  }

  private static func substitute(_ character: UInt32) -> UInt8 {
    switch character {
    case 0x2010...0x2015: 0x2D
    case 0x2018, 0x2019, 0x201A, 0x2032: 0x27
    case 0x201C, 0x201D, 0x201E, 0x2033: 0x22
    case 0x2500...0x257F: lines(character)
    case 0x23BA, 0x23BB, 0x23BC, 0x23BD: 0xC4
    case 0x25C6: 0x04
    case 0x25AA, 0x25FE: 0xFE
    case 0x25B6: 0x10
    case 0x25C0: 0x11
    case 0x00C0...0x00C3: 0x41
    case 0x00C8, 0x00CA, 0x00CB: 0x45
    case 0x00CC...0x00CF: 0x49
    case 0x00D2...0x00D5, 0x00D8: 0x4F
    case 0x00D9...0x00DB: 0x55
    case 0x00DD: 0x59
    case 0x00E3: 0x61
    case 0x00F5, 0x00F8: 0x6F
    case 0x00FD: 0x79
    case 0x20AC: 0xEE
    case 0x00D7: 0x78
    case 0x00A0: 0x20
    default: 0xFE
    }
  }

  /// Heavy, dashed and round lines as the plain ones.
  private static func lines(_ character: UInt32) -> UInt8 {
    switch character {
    case 0x2500, 0x2501, 0x2504, 0x2505, 0x2508, 0x2509, 0x254C, 0x254D, 0x2574, 0x2576, 0x2578, 0x257A: 0xC4
    case 0x2502, 0x2503, 0x2506, 0x2507, 0x250A, 0x250B, 0x254E, 0x254F, 0x2575, 0x2577, 0x2579, 0x257B: 0xB3
    case 0x250C...0x250F, 0x256D: 0xDA
    case 0x2510...0x2513, 0x256E: 0xBF
    case 0x2514...0x2517, 0x2570: 0xC0
    case 0x2518...0x251B, 0x256F: 0xD9
    case 0x251C...0x2523: 0xC3
    case 0x2524...0x252B: 0xB4
    case 0x252C...0x2533: 0xC2
    case 0x2534...0x253B: 0xC1
    default: 0xC5
    }
  }
}

/// The colours behind the numbers. SPEC: xterm's 256 colours; the first sixteen are the PC's.
public struct Palette: Equatable, Sendable {
  /// 0xRRGGBB.
  private var first: InlineArray<16, UInt32> = Palette.standard
  private static let standard: InlineArray<16, UInt32> = [
    0x000000, 0xAA0000, 0x00AA00, 0xAA5500, 0x0000AA, 0xAA00AA, 0x00AAAA, 0xAAAAAA, 0x555555, 0xFF5555, 0x55FF55, 0xFFFF55, 0x5555FF,
    0xFF55FF, 0x55FFFF, 0xFFFFFF,
  ]

  public init() {}

  public static func == (a: Palette, b: Palette) -> Bool {
    for index in 0..<16 where a.first[index] != b.first[index] { return false }
    return true
  }

  public subscript(_ index: UInt8) -> UInt32 {
    if index < 16 { return first[Int(index)] }
    if index >= 232 { return (UInt32(index - 232) * 10 + 8) * 0x010101 }
    let place = UInt32(index - 16)
    return Self.level(place / 36) << 16 | Self.level(place / 6 % 6) << 8 | Self.level(place % 6)
  }

  mutating func set(_ index: Int, _ colour: UInt32) { first[index] = colour & 0xFFFFFF }

  private static func level(_ step: UInt32) -> UInt32 { step == 0 ? 0 : step * 40 + 55 }

  /// The number of the cube's colour that is nearest to a red, a green and a blue of 0 to 255.
  static func nearest(_ red: UInt32, _ green: UInt32, _ blue: UInt32) -> UInt8 {
    let (r, g, b) = (min(red, 255), min(green, 255), min(blue, 255))
    if r == g, g == b, r >= 4, r <= 243 { return UInt8(232 + min((r + 2) / 10 - (r >= 8 ? 1 : 0), 23)) }
    return UInt8(16 + 36 * step(r) + 6 * step(g) + step(b))
  }

  private static func step(_ value: UInt32) -> UInt32 { value < 48 ? 0 : value < 115 ? 1 : (value - 35) / 40 }

  /// One of the first sixteen for each: what a device with no more colours shows.
  public static func basic(_ index: UInt8) -> UInt8 {
    if index < 16 { return index }
    if index >= 232 { return index < 238 ? 0 : index < 244 ? 8 : index < 250 ? 7 : 15 }
    let place = index - 16
    let (r, g, b) = (place / 36, place / 6 % 6, place % 6)
    let most = max(r, g, b)
    if most == 0 { return 0 }
    let bits = (r * 2 > most ? 1 : 0) | (g * 2 > most ? 2 : 0) | (b * 2 > most ? 4 : 0) as UInt8
    return most >= 4 ? bits | 8 : bits
  }
}
