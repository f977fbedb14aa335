/// The glyphs of the built-in font, in rows of eight points.
struct GlyphDrawing {
  static var height: Int { 16 }
  typealias Glyph = [16 of UInt8]

  static func glyph(_ upper: UInt64, _ lower: UInt64) -> Glyph {
    var rows = Glyph(repeating: 0)
    for row in 0..<8 {
      rows[row] = UInt8(truncatingIfNeeded: upper >> UInt64(56 - row * 8))
      rows[row + 8] = UInt8(truncatingIfNeeded: lower >> UInt64(56 - row * 8))
    }
    return rows
  }

  /// A letter with a mark: above what is there, or at its foot.
  static func marked(_ letter: Glyph, _ mark: Int) -> Glyph {
    var rows = letter
    let bits = BuiltinFont.Mark.rows[mark]
    let isBelow = mark == BuiltinFont.Mark.cedilla || mark == BuiltinFont.Mark.ogonek
    // What reaches above small letters has its mark as high as capitals have theirs.
    let isHigh = (0..<5).contains { letter[$0] != 0 }
    let first = isBelow ? 12 : isHigh ? 0 : mark == BuiltinFont.Mark.ring ? 1 : 2
    for row in 0..<3 { rows[first + row] |= UInt8(truncatingIfNeeded: bits >> UInt32(16 - row * 8)) }
    return rows
  }

  // MARK: Lines

  /// The points of a line's thickness across it: of a width of 8 around the middle, or of a height of 16.
  private static func across(_ weight: UInt8, isColumn: Bool) -> Range<Int> {
    let middle = isColumn ? 3 : 7
    switch weight {
    case 1: return middle..<(middle + 1)
    case 2: return middle..<(middle + 2)
    default: return (middle - 1)..<(middle + 2)  // double: its middle is taken out
    }
  }

  /// U+2500 to U+257F.
  static func box(_ index: Int) -> Glyph {
    switch index {
    case 0x04...0x0B, 0x4C...0x4F: return dashed(index)
    case 0x6D...0x70: return rounded(index)
    case 0x71...0x73: return diagonal(index)
    default: return joined(BuiltinFont.boxArms[index])
    }
  }

  private static func arm(_ arms: UInt8, _ direction: Int) -> UInt8 { arms >> UInt8(direction * 2) & 3 }

  /// Arms up, right, down and left that meet in the middle.
  private static func joined(_ arms: UInt8) -> Glyph {
    let (up, right, down, left) = (arm(arms, 0), arm(arms, 1), arm(arms, 2), arm(arms, 3))
    var rows = Glyph(repeating: 0)
    func fill(_ columns: Range<Int>, _ lines: Range<Int>) {
      for line in lines { for column in columns where column < 8 { rows[line] |= 0x80 >> UInt8(column) } }
    }
    // As far as the thickest of the lines that it meets.
    let widest = across(max(up, down, 1), isColumn: true)
    let highest = across(max(left, right, 1), isColumn: false)
    if up != 0 { fill(across(up, isColumn: true), 0..<highest.upperBound) }
    if down != 0 { fill(across(down, isColumn: true), highest.lowerBound..<16) }
    if left != 0 { fill(0..<widest.upperBound, across(left, isColumn: false)) }
    if right != 0 { fill(widest.lowerBound..<8, across(right, isColumn: false)) }
    // The space between double lines stays open as far as it goes.
    func clear(_ columns: Range<Int>, _ lines: Range<Int>) {
      for line in lines { for column in columns { rows[line] &= ~(0x80 >> UInt8(column)) } }
    }
    let hasColumn = up == 3 || down == 3
    let hasRow = left == 3 || right == 3
    // A single line goes through both of a double one, but does not begin between them.
    let isCrossed = left != 0 && right != 0 && !hasRow
    let crosses = up != 0 && down != 0 && !hasColumn
    let middleRow = hasRow || up == 3 && down == 3 && !isCrossed
    let middleColumn = hasColumn || left == 3 && right == 3 && !crosses
    if up == 3 { clear(3..<4, 0..<(middleRow ? 8 : 7)) }
    if down == 3 { clear(3..<4, (middleRow ? 7 : 8)..<16) }
    if left == 3 { clear(0..<(middleColumn ? 4 : 3), 7..<8) }
    if right == 3 { clear((middleColumn ? 3 : 4)..<8, 7..<8) }
    return rows
  }

  /// Lines with two, three or four gaps.
  private static func dashed(_ index: Int) -> Glyph {
    let isHeavy = index & 1 != 0
    let isColumn = index & 2 != 0
    let gaps = index >= 0x4C ? 2 : index < 0x08 ? 3 : 4
    let length = isColumn ? 16 : 8
    var rows = Glyph(repeating: 0)
    let thickness = across(isHeavy ? 2 : 1, isColumn: isColumn)
    for along in 0..<length where (along * gaps % length) < length - gaps {
      for place in thickness { rows[isColumn ? along : place] |= 0x80 >> UInt8(isColumn ? place : along) }
    }
    return rows
  }

  /// Corners with the two arms of a light one, but for the point where they meet.
  private static func rounded(_ index: Int) -> Glyph {
    var rows = joined(BuiltinFont.boxArms[index])
    rows[7] &= ~0x10
    let arms = BuiltinFont.boxArms[index]
    // The neighbours of the corner close the arc.
    if arm(arms, 1) != 0 { rows[arm(arms, 2) != 0 ? 8 : 6] |= 0x10 }
    return rows
  }

  private static func diagonal(_ index: Int) -> Glyph {
    var rows = Glyph(repeating: 0)
    for row in 0..<16 {
      if index != 0x72 { rows[row] |= 0x01 << UInt8(row / 2) }
      if index != 0x71 { rows[row] |= 0x80 >> UInt8(row / 2) }
    }
    return rows
  }

  // MARK: Blocks

  /// U+2580 to U+259F.
  static func block(_ index: Int) -> Glyph {
    var rows = Glyph(repeating: 0)
    func fill(_ lines: Range<Int>, _ bits: UInt8) { for line in lines { rows[line] |= bits } }
    switch index {
    case 0x00: fill(0..<8, 0xFF)
    case 0x01...0x08: fill((16 - index * 2)..<16, 0xFF)
    case 0x09...0x0F: fill(0..<16, 0xFF << UInt8(index - 8))
    case 0x10: fill(0..<16, 0x0F)
    case 0x11: for row in 0..<16 { rows[row] = row & 1 == 0 ? 0x88 : 0x22 }
    case 0x12: for row in 0..<16 { rows[row] = row & 1 == 0 ? 0xAA : 0x55 }
    case 0x13: for row in 0..<16 { rows[row] = row & 1 == 0 ? 0x77 : 0xDD }
    case 0x14: fill(0..<2, 0xFF)
    case 0x15: fill(0..<16, 0x01)
    default:
      // Quarters: upper left, upper right, lower left, lower right.
      let quarters: [10 of UInt8] = [0b0010, 0b0001, 0b1000, 0b1011, 0b1001, 0b1110, 0b1101, 0b0100, 0b0110, 0b0111]
      let set = quarters[index - 0x16]
      fill(0..<8, (set & 8 != 0 ? 0xF0 : 0) | (set & 4 != 0 ? 0x0F : 0))
      fill(8..<16, (set & 2 != 0 ? 0xF0 : 0) | (set & 1 != 0 ? 0x0F : 0))
    }
    return rows
  }
}
