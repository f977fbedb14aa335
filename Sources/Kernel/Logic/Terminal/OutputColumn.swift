/// What becomes of output on its way to the device, which needs the cursor's column. SPEC: POSIX.1-2024 §11.2.3.
struct OutputColumn: Sendable {
  var column = 0
  /// Where the line that is edited begins.
  var lineStart = 0
  /// A character of UTF-8 whose end has not come: its bits, and how many bytes are missing.
  private var character: UInt32 = 0
  private var missing = 0

  init(column: Int = 0) { self.column = column }

  mutating func moveBack(_ count: Int) { column = max(0, column - count) }

  /// Appends to `out` what the device gets for some bytes.
  mutating func process(_ bytes: [UInt8], _ termios: Termios, into out: inout [UInt8]) {
    guard termios.has(output: Termios.postProcess) else { return out += bytes }
    let isPlain = !termios.has(output: Termios.toUpperCase)
    var index = 0
    while index < bytes.count {
      // Most of it is text that stays as it is.
      var end = index
      while isPlain, end < bytes.count, bytes[end] &- 0x20 < 0x5F { end += 1 }
      if end > index {
        out += bytes[index..<end]
        column += end - index
        missing = 0
        index = end
      } else {
        process(bytes[index], termios, into: &out)
        index += 1
      }
    }
  }

  /// Appends to `out` what the device gets for a byte.
  mutating func process(_ byte: UInt8, _ termios: Termios, into out: inout [UInt8]) {
    guard termios.has(output: Termios.postProcess) else { return out.append(byte) }
    switch byte {
    case 10:
      let returns = termios.has(output: Termios.nlToCRNL)
      if returns { out.append(13) }
      if returns || termios.has(output: Termios.nlReturns) { column = 0 }
      lineStart = column
      out.append(10)
    case 13:
      if termios.has(output: Termios.noCRAtStart), column == 0 { return }
      if termios.has(output: Termios.crToNLOutput) {
        if termios.has(output: Termios.nlReturns) { (column, lineStart) = (0, 0) }
        return out.append(10)
      }
      (column, lineStart) = (0, 0)
      out.append(13)
    case 9:
      let width = 8 - column & 7
      // XTABS; every other value is a delay for a teletype.
      if termios.output & Termios.tabs == Termios.tabs {
        for _ in 0..<width { out.append(32) }
      } else {
        out.append(9)
      }
      column += width
    case 97...122 where termios.has(output: Termios.toUpperCase):
      out.append(byte - 32)
      column += 1
    default:
      out.append(byte)
      advance(byte, isUTF8: termios.has(input: Termios.utf8))
    }
  }

  /// Moves on by a character that was put out.
  mutating func advance(_ byte: UInt8, isUTF8: Bool) {
    if isUTF8, byte & 0xC0 == 0x80 {
      if missing == 0 { return }
      character = character << 6 | UInt32(byte & 0x3F)
      missing -= 1
      // One column was counted when it began.
      if missing == 0 { column += CharacterWidth.of(character) - 1 }
      return
    }
    missing = 0
    switch byte {
    case 8: moveBack(1)
    case 9: column += 8 - column & 7
    case 0..<32, 127: break
    default:
      column += 1
      guard isUTF8, byte >= 0xC2, byte <= 0xF4 else { return }
      missing = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3
      character = UInt32(byte) & (0x3F >> UInt32(missing))
    }
  }
}
