import InputEvents

/// What a key makes a terminal do.
public enum KeyAction: Equatable, Sendable {
  case none
  /// Input for the program.
  case input([UInt8])
  /// Half pages of older lines, or newer ones below 0.
  case scroll(Int)
  /// Another terminal: by its index, or that of the one before or behind.
  case activate(Int)
  case activateNext(Int)
  case activateLast
  /// Scroll lock: output waits, or goes on.
  case hold
  case reboot
}

/// The locks of a terminal's keyboard, and what it has begun to compose.
public struct KeyState: Sendable {
  public var hasCapsLock = false
  public var hasNumLock = false
  public var isHeld = false
  /// An accent whose letter is to come.
  private var accent: UInt8?
  /// A character's number, as it is typed with Alt on the keypad.
  private var number: UInt32?
  public var isUTF8 = true

  public init() {}

  /// Scroll, number and capitals lock, as the keyboard's lights have them.
  public var lights: UInt8 { (isHeld ? 1 : 0) | (hasNumLock ? 2 : 0) | (hasCapsLock ? 4 : 0) }

  /// What a key that goes down does. Modifiers are not asked for here.
  public mutating func press(_ symbol: KeySymbol, _ modifiers: UInt8, _ modes: Screen.Modes) -> KeyAction {
    if let character = symbol.character { return .input(composed(character)) }
    switch symbol.kind {
    case .latin: return .input(composed(UInt32(symbol.value)))
    case .letter: return .input(composed(UInt32(symbol.value)))
    case .meta: return .input([0x1B] + encoded(UInt32(symbol.value)))
    case .function: return .input(Self.function(symbol.value))
    case .cursor: return .input(Self.cursor(symbol.value, modes))
    case .pad: return .input(pad(symbol.value, modifiers, modes))
    case .special: return special(symbol.value, modes)
    case .console: return .activate(Int(symbol.value))
    case .dead:
      return .input(dead(symbol.value))
    case .ascii:
      if symbol.value < 10 { number = min((number ?? 0) * 10 + UInt32(symbol.value), 0x110000) }
      return .none
    default: return .none
    }
  }

  /// Alt has come up: a character whose number was typed is complete.
  public mutating func altReleased() -> KeyAction {
    guard let character = number else { return .none }
    number = nil
    return character <= 0x10FFFF ? .input(encoded(character)) : .none
  }

  private func encoded(_ character: UInt32) -> [UInt8] {
    if !isUTF8 { return [UInt8(truncatingIfNeeded: character)] }
    switch character {
    case 0..<0x80: return [UInt8(character)]
    case 0..<0x800: return [UInt8(0xC0 | character >> 6), UInt8(0x80 | character & 0x3F)]
    case 0..<0x10000: return [UInt8(0xE0 | character >> 12), UInt8(0x80 | character >> 6 & 0x3F), UInt8(0x80 | character & 0x3F)]
    default:
      return [
        UInt8(0xF0 | character >> 18), UInt8(0x80 | character >> 12 & 0x3F), UInt8(0x80 | character >> 6 & 0x3F),
        UInt8(0x80 | character & 0x3F),
      ]
    }
  }

  private mutating func special(_ value: UInt8, _ modes: Screen.Modes) -> KeyAction {
    switch value {
    case 1: return .input(modes.newLines ? [13, 10] : [13])
    case 6: return .activateLast
    case 7: hasCapsLock.toggle()
    case 8: if modes.applicationKeypad { return .input([0x1B, 0x4F, 0x50]) } else { hasNumLock.toggle() }
    case 9:
      isHeld.toggle()
      return .hold
    case 10: return .scroll(-1)
    case 11: return .scroll(1)
    case 12: return .reboot
    case 13: hasCapsLock = true
    case 16: return .activateNext(-1)
    case 17: return .activateNext(1)
    case 19: hasNumLock.toggle()
    default: break
    }
    return .none
  }

  // MARK: Keys with names

  /// What terminfo's "linux" says they send.
  private static func function(_ value: UInt8) -> [UInt8] {
    switch value {
    case 0..<5: [0x1B, 0x5B, 0x5B, 0x41 + value]
    case 5: tilde(17)
    case 6..<10: tilde(18 + Int(value) - 6)
    case 10..<14: tilde(23 + Int(value) - 10)
    case 14, 15: tilde(28 + Int(value) - 14)
    case 16..<20: tilde(31 + Int(value) - 16)
    case 20..<26: tilde(1 + Int(value) - 20)
    case 29: [0x1B, 0x5B, 0x50]
    default: []
    }
  }

  private static func tilde(_ number: Int) -> [UInt8] { [0x1B, 0x5B] + Screen.decimal(number) + [0x7E] }

  private static func cursor(_ value: UInt8, _ modes: Screen.Modes) -> [UInt8] {
    let finals: [4 of UInt8] = [0x42, 0x44, 0x43, 0x41]
    return value < 4 ? [0x1B, modes.applicationCursor ? 0x4F : 0x5B, finals[Int(value)]] : []
  }

  private func pad(_ value: UInt8, _ modifiers: UInt8, _ modes: Screen.Modes) -> [UInt8] {
    guard value < 17 else { return [] }
    if modes.applicationKeypad, modifiers & Modifier.shift == 0 {
      let finals: [17 of UInt8] = [
        0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x6C, 0x53, 0x52, 0x51, 0x4D, 0x6E, 0x6E,
      ]
      return [0x1B, 0x4F, finals[Int(value)]]
    }
    if !hasNumLock {
      switch value {
      case 0: return Self.function(21)
      case 1: return Self.function(23)
      case 2: return Self.cursor(0, modes)
      case 3: return Self.function(25)
      case 4: return Self.cursor(1, modes)
      case 5: return [0x1B, modes.applicationCursor ? 0x4F : 0x5B, 0x47]
      case 6: return Self.cursor(2, modes)
      case 7: return Self.function(20)
      case 8: return Self.cursor(3, modes)
      case 9: return Self.function(24)
      case 16: return Self.function(22)
      default: break
      }
    }
    if value == 14 { return modes.newLines ? [13, 10] : [13] }
    let texts: [17 of UInt8] = [
      0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x2B, 0x2D, 0x2A, 0x2F, 13, 0x2C, 0x2E,
    ]
    return [texts[Int(value)]]
  }

  // MARK: Accents

  private static let accents: StaticString = "`'^~\",."
  /// An accent, a letter, and both together. SPEC: what Linux's `accent_table` has for Latin-1.
  private static let compositions: StaticString =
    "`AÀ`aà`EÈ`eè`IÌ`iì`OÒ`oò`UÙ`uù'AÁ'aá'EÉ'eé'IÍ'ií'OÓ'oó'UÚ'uú'YÝ'yý^AÂ^aâ^EÊ^eê^IÎ^iî^OÔ^oô^UÛ^uû~AÃ~aã~NÑ~nñ~OÕ~oõ\"AÄ\"aä\"EË\"eë\"IÏ\"iï\"OÖ\"oö\"UÜ\"uü\"yÿ,CÇ,cç"

  private mutating func dead(_ value: UInt8) -> [UInt8] {
    let all = Array(Self.accents.description.utf8)
    guard Int(value) < all.count else { return [] }
    let new = all[Int(value)]
    // Twice is the accent itself.
    if accent == new {
      accent = nil
      return [new]
    }
    accent = new
    return []
  }

  /// A character, together with an accent that was typed before.
  private mutating func composed(_ character: UInt32) -> [UInt8] {
    guard let mark = accent else { return encoded(character) }
    accent = nil
    if character == 0x20 { return [mark] }
    var position = 0
    var entry: (UInt32, UInt32) = (0, 0)
    for scalar in Self.compositions.description.unicodeScalars {
      switch position % 3 {
      case 0: entry.0 = scalar.value
      case 1: entry.1 = scalar.value
      default: if entry == (UInt32(mark), character) { return encoded(scalar.value) }
      }
      position += 1
    }
    return [mark] + encoded(character)
  }
}

/// Which modifiers of a keyboard are held.
public struct KeyboardState: Sendable {
  /// How many keys of each modifier are down.
  private var held: InlineArray<4, UInt8> = .init(repeating: 0)
  public init() {}

  public var modifiers: UInt8 {
    var bits: UInt8 = 0
    for index in 0..<4 where held[index] > 0 { bits |= 1 << UInt8(index) }
    return bits
  }

  /// A modifier goes down or comes up.
  public mutating func hold(_ modifier: UInt8, _ event: KeyEvent, isRepeat: Bool) {
    guard modifier < 4, !isRepeat else { return }
    let index = Int(modifier)
    if event.isPressed { held[index] += held[index] < 8 ? 1 : 0 } else { held[index] -= held[index] > 0 ? 1 : 0 }
  }

  /// The table for a symbol of a key: capitals lock is shift, for letters.
  public func symbol(_ code: UInt8, _ map: KeyMap, _ locks: KeyState) -> KeySymbol? {
    guard let symbol = map.symbol(code, modifiers) else { return nil }
    if locks.hasCapsLock, symbol.kind == .letter { return map.symbol(code, modifiers ^ Modifier.shift) ?? symbol }
    return symbol
  }
}
