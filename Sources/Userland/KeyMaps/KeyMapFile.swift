import Terminal

/// What a line of a key map cannot mean.
public struct KeyMapError: Error, Equatable, Sendable {
  public var line: Int
  public var why: String
}

/// A file that says what keys mean: lines `keycode NUMBER = SYMBOL…` in the language of keymaps(5), and comments.
///
/// The symbols are those without a modifier, with shift, with AltGr and with both. A letter alone is large with shift, and what is not
/// given for AltGr is what the key means without it. Control and Alt make what they can of the symbols without them.
public struct KeyMapFile: Sendable {
  /// What the keyboard is to be told: a table, a key and its symbol.
  public private(set) var entries: [(table: UInt8, code: UInt8, symbol: KeySymbol)] = []

  public init(_ text: [UInt8]) throws(KeyMapError) {
    var number = 0
    for line in text.split(separator: 10, omittingEmptySubsequences: false) {
      number += 1
      let words = line.prefix { $0 != 0x23 && $0 != 0x21 }.split { $0 == 32 || $0 == 9 || $0 == 13 }.map { Array($0) }
      if words.isEmpty { continue }
      guard words[0] == Array("keycode".utf8) else { throw KeyMapError(line: number, why: "a line is keycode NUMBER = SYMBOL…") }
      guard words.count >= 4, words[2] == [0x3D] else { throw KeyMapError(line: number, why: "symbols come behind a =") }
      guard let code = Self.code(words[1]) else { throw KeyMapError(line: number, why: "a keycode is a number from 1 to 127") }
      guard words.count <= 7 else { throw KeyMapError(line: number, why: "a key has four symbols at most") }
      var symbols: [KeySymbol] = []
      for word in words.dropFirst(3) {
        guard let symbol = KeyNames.symbol(word) else {
          throw KeyMapError(line: number, why: "\(String(decoding: word, as: UTF8.self)) is no symbol")
        }
        symbols.append(symbol)
      }
      add(code, symbols)
    }
    if entries.isEmpty { throw KeyMapError(line: number, why: "there is no key") }
  }

  private static func code(_ word: [UInt8]) -> UInt8? {
    var value = 0
    for digit in word {
      guard digit >= 0x30, digit <= 0x39, value < 100 else { return nil }
      value = value * 10 + Int(digit) - 0x30
    }
    return value >= 1 && value < 128 ? UInt8(value) : nil
  }

  private mutating func add(_ code: UInt8, _ given: [KeySymbol]) {
    let plain = given[0]
    let shifted = given.count > 1 ? given[1] : plain.capital
    let alternative = given.count > 2 ? given[2] : plain
    let both = given.count > 3 ? given[3] : given.count > 2 ? alternative : shifted
    for (table, symbol) in [plain, shifted, alternative, both].enumerated() { entries.append((UInt8(table), code, symbol)) }
    let (control, alt) = (Modifier.control, Modifier.alt)
    for modifiers in [control, alt, control | alt] { entries.append((modifiers, code, plain.changed(by: modifiers))) }
    for modifiers in [control, alt] { entries.append((modifiers | Modifier.shift, code, shifted.changed(by: modifiers))) }
    entries.append((control | Modifier.altGraph, code, alternative.changed(by: control)))
  }
}
