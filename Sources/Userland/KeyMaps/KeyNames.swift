import Terminal

/// The names of characters in key maps. SPEC: keymaps(5), `dumpkeys --long-info`.
enum KeyNames {
  /// The characters from 0x20 to 0x7E that are no letters or digits, in order.
  private static let punctuation: StaticString = """
    space exclam quotedbl numbersign dollar percent ampersand apostrophe parenleft parenright asterisk plus comma minus period slash \
    colon semicolon less equal greater question at bracketleft backslash bracketright asciicircum underscore grave braceleft bar \
    braceright asciitilde
    """
  private static let digits: StaticString = "zero one two three four five six seven eight nine"
  /// The upper half of Latin-1.
  private static let latin: StaticString = """
    nobreakspace exclamdown cent sterling currency yen brokenbar section diaeresis copyright ordfeminine guillemotleft notsign hyphen \
    registered macron degree plusminus twosuperior threesuperior acute mu paragraph periodcentered cedilla onesuperior masculine \
    guillemotright onequarter onehalf threequarters questiondown Agrave Aacute Acircumflex Atilde Adiaeresis Aring AE Ccedilla Egrave \
    Eacute Ecircumflex Ediaeresis Igrave Iacute Icircumflex Idiaeresis ETH Ntilde Ograve Oacute Ocircumflex Otilde Odiaeresis multiply \
    Ooblique Ugrave Uacute Ucircumflex Udiaeresis Yacute THORN ssharp agrave aacute acircumflex atilde adiaeresis aring ae ccedilla \
    egrave eacute ecircumflex ediaeresis igrave iacute icircumflex idiaeresis eth ntilde ograve oacute ocircumflex otilde odiaeresis \
    division oslash ugrave uacute ucircumflex udiaeresis yacute thorn ydiaeresis
    """
  private static let accents: StaticString = "dead_grave dead_acute dead_circumflex dead_tilde dead_diaeresis dead_cedilla"

  /// Where a word is in a list of them.
  private static func place(_ word: [UInt8], _ list: StaticString) -> UInt8? {
    for (index, item) in Array(list.description.utf8).split(separator: 32).enumerated() where Array(item) == word { return UInt8(index) }
    return nil
  }

  /// The symbol of a name, `U+20AC` or a letter; with `+` in front it is a letter, which capitals lock changes.
  static func symbol(_ word: [UInt8]) -> KeySymbol? {
    if word.first == 0x2B, word.count > 1 {
      guard let symbol = symbol(Array(word.dropFirst())), symbol.kind == .latin || symbol.kind == .letter else { return nil }
      return KeySymbol(.letter, symbol.value)
    }
    if word.count == 1, word[0] | 0x20 >= 0x61, word[0] | 0x20 <= 0x7A { return KeySymbol(.letter, word[0]) }
    if let value = place(word, digits) { return KeySymbol(.latin, 0x30 + value) }
    if let value = place(word, accents) { return KeySymbol(.dead, value) }
    if let value = place(word, latin) { return KeySymbol(.latin, 0xA0 + value) }
    if let index = place(word, punctuation) {
      // Without the digits and the letters in between.
      return KeySymbol(.latin, 0x20 + index + (index < 16 ? 0 : index < 23 ? 10 : index < 29 ? 36 : 62))
    }
    if word == Array("VoidSymbol".utf8) { return KeySymbol.none }
    if word.count > 2, word.count < 7, word[0] == 0x55, word[1] == 0x2B { return character(word.dropFirst(2)) }
    return nil
  }

  private static func character(_ digits: ArraySlice<UInt8>) -> KeySymbol? {
    var value: UInt32 = 0
    for digit in digits {
      switch digit {
      case 0x30...0x39: value = value * 16 + UInt32(digit) - 0x30
      case 0x41...0x46, 0x61...0x66: value = value * 16 + UInt32(digit | 0x20) - 0x61 + 10
      default: return nil
      }
    }
    // Those behind are symbols that are no characters.
    return value < 0xF000 ? KeySymbol(character: value) : nil
  }
}
