/// What a key means with some modifiers: Linux's key symbols, a type and a value. SPEC: uapi/linux/keyboard.h; keymaps(5).
public struct KeySymbol: Equatable, Sendable {
  public var bits: UInt16
  public init(bits: UInt16) { self.bits = bits }
  public init(_ kind: Kind, _ value: UInt8) { bits = UInt16(kind.rawValue) << 8 | UInt16(value) }
  /// A character below 0xF000, as maps write those behind Latin-1.
  public init(character: UInt32) { bits = character < 256 ? UInt16(character) : UInt16(truncatingIfNeeded: character) ^ 0xF000 }

  public enum Kind: UInt8, Sendable {
    case latin, function, special, pad, dead, console, cursor, modifier, meta, ascii, lock, letter, sticky
  }
  /// Nil for a character behind Latin-1.
  public var kind: Kind? { bits < 0x1000 ? Kind(rawValue: UInt8(bits >> 8)) : nil }
  public var value: UInt8 { UInt8(truncatingIfNeeded: bits) }
  /// A character behind Latin-1.
  public var character: UInt32? { bits < 0x1000 ? nil : UInt32(bits ^ 0xF000) }

  public static let none = KeySymbol(.special, 0)

  /// What control or alt make of a character.
  public func changed(by modifiers: UInt8) -> KeySymbol {
    guard kind == .latin || kind == .letter else { return self }
    var byte = value
    if modifiers & Modifier.control != 0 {
      switch byte {
      case 0x40...0x7E: byte &= 0x1F
      case 0x20, 0x32: byte = 0
      case 0x2F, 0x2D: byte = 0x1F
      case 0x33...0x37: byte = byte - 0x33 + 0x1B
      case 0x38, 0x3F: byte = 0x7F
      case 0x7F: byte = 8
      case 9, 0x1B: break
      default: if modifiers & Modifier.alt == 0 { return .none }
      }
    }
    return KeySymbol(modifiers & Modifier.alt != 0 ? .meta : .latin, byte)
  }

  /// The large letter, of ASCII or Latin-1; anything else is as it is.
  public var capital: KeySymbol {
    guard kind == .letter else { return self }
    switch value {
    case 0x61...0x7A, 0xE0...0xF6, 0xF8...0xFE: return KeySymbol(.letter, value - 0x20)
    default: return self
    }
  }
}

/// Which modifiers are held, as the number of a map's table: shift, AltGr, control, alt.
public enum Modifier {
  public static let shift: UInt8 = 1, altGraph: UInt8 = 2, control: UInt8 = 4, alt: UInt8 = 8
}

/// What the keys of a keyboard mean: a table for each set of modifiers that does something.
public struct KeyMap: Sendable {
  private static let keyCount = 256
  private static let tableCount = 256
  private var tables: [[KeySymbol]?]

  /// A keyboard as it is sold in the United States.
  public init() {
    tables = Array(repeating: nil, count: Self.tableCount)
    var plain = [KeySymbol](repeating: .none, count: Self.keyCount)
    var shifted = plain
    Self.fill(&plain, Self.plainText)
    Self.fill(&shifted, Self.shiftedText)
    for table in [0, Int(Modifier.shift), Int(Modifier.altGraph), 3] {
      var symbols = table & Int(Modifier.shift) != 0 ? shifted : plain
      Self.fillKeys(&symbols, modifiers: UInt8(table))
      tables[table] = symbols
    }
    for table in [
      Modifier.control, Modifier.alt, Modifier.control | Modifier.alt, Modifier.control | Modifier.shift, Modifier.alt | Modifier.shift,
    ] {
      var symbols = table & Modifier.shift != 0 ? shifted : plain
      for code in symbols.indices { symbols[code] = symbols[code].changed(by: table) }
      Self.fillKeys(&symbols, modifiers: table)
      tables[Int(table)] = symbols
    }
  }

  /// What a key means, nil where no table is for these modifiers.
  public func symbol(_ code: UInt8, _ modifiers: UInt8) -> KeySymbol? {
    guard let table = tables[Int(modifiers)] else { return nil }
    return table[Int(code)]
  }

  public mutating func set(_ code: UInt8, _ modifiers: UInt8, _ symbol: KeySymbol) {
    if tables[Int(modifiers)] == nil { tables[Int(modifiers)] = Array(repeating: .none, count: Self.keyCount) }
    tables[Int(modifiers)]?[Int(code)] = symbol
  }

  public mutating func removeTable(_ modifiers: UInt8) {
    if modifiers > 0 { tables[Int(modifiers)] = nil }
  }

  // MARK: The built-in one

  private static let plainText: StaticString = "\0\u{1B}1234567890-=\u{7F}\tqwertyuiop[]\r\0asdfghjkl;'`\0\\zxcvbnm,./\0\0\0 "
  private static let shiftedText: StaticString = "\0\u{1B}!@#$%^&*()_+\u{7F}\tQWERTYUIOP{}\r\0ASDFGHJKL:\"~\0|ZXCVBNM<>?\0\0\0 "

  private static func fill(_ symbols: inout [KeySymbol], _ text: StaticString) {
    for (code, byte) in Array(text.description.utf8).enumerated() where byte != 0 {
      let isLetter = byte | 32 >= 0x61 && byte | 32 <= 0x7A
      symbols[code] = byte == 13 ? KeySymbol(.special, 1) : KeySymbol(isLetter ? .letter : .latin, byte)
    }
    symbols[86] = KeySymbol(.latin, text.description.utf8.contains(0x7C) ? 0x3E : 0x3C)
  }

  /// Keys that no character is on.
  private static func fillKeys(_ symbols: inout [KeySymbol], modifiers: UInt8) {
    let isShifted = modifiers & Modifier.shift != 0
    let isAlt = modifiers & Modifier.alt != 0
    for number in UInt8(0)..<12 {
      let code = number < 10 ? 59 + number : 87 + number - 10
      symbols[Int(code)] = isAlt ? KeySymbol(.console, number) : KeySymbol(.function, isShifted ? number + 12 : number)
    }
    let pad: [12 of (UInt8, UInt8)] = [
      (82, 0), (79, 1), (80, 2), (81, 3), (75, 4), (76, 5), (77, 6), (71, 7), (72, 8), (73, 9), (83, 16), (96, 14),
    ]
    for index in pad.indices { symbols[Int(pad[index].0)] = KeySymbol(isAlt && pad[index].1 < 10 ? .ascii : .pad, pad[index].1) }
    for (code, value) in [(78, 10), (74, 11), (55, 12), (98, 13)] as [(Int, UInt8)] { symbols[code] = KeySymbol(.pad, value) }
    for (code, value) in [(108, 0), (105, 1), (106, 2), (103, 3)] as [(Int, UInt8)] { symbols[code] = KeySymbol(.cursor, value) }
    for (code, value) in [(102, 20), (110, 21), (111, 22), (107, 23), (104, 24), (109, 25), (119, 29)] as [(Int, UInt8)] {
      symbols[code] = KeySymbol(.function, value)
    }
    for (code, value) in [(42, 0), (54, 0), (100, 1), (29, 2), (97, 2), (56, 3)] as [(Int, UInt8)] {
      symbols[code] = KeySymbol(.modifier, value)
    }
    for (code, value) in [(58, 7), (69, 8), (70, 9)] as [(Int, UInt8)] { symbols[code] = KeySymbol(.special, value) }
    if isShifted {
      symbols[104] = KeySymbol(.special, 11)
      symbols[109] = KeySymbol(.special, 10)
    }
    if isAlt {
      symbols[105] = KeySymbol(.special, 16)
      symbols[106] = KeySymbol(.special, 17)
    }
    if modifiers == Modifier.control | Modifier.alt { symbols[111] = KeySymbol(.special, 12) }
  }
}
