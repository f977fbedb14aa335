import Primitives

/// The pictures of characters: of up to 32 points a side, and which character each of them is for.
///
/// SPEC: ioctl_console(2), KDFONTOP, PIO_UNIMAP; setfont(8).
public struct Font: Sendable {
  public let width: Int
  public let height: Int
  /// All glyphs' rows, one after the other; the highest bit is the leftmost point.
  private var rows: [UInt32] = []
  public private(set) var count = 0
  /// What each of the first 256 characters looks like, and the other ones in order: -1 for those that have no glyph.
  private var first = [Int16](repeating: -1, count: 256)
  private var others: [(character: UInt32, glyph: UInt16)] = []
  /// Whether it is the font that is always there.
  public private(set) var isBuiltin = false
  /// Shown for characters that the font does not have.
  private var replacement = 0

  public static let limits = (side: 32, count: 512)

  init(width: Int, height: Int) { (self.width, self.height) = (width, height) }

  /// The font that is always there.
  public static var builtin: Font {
    var font = Font(width: 8, height: GlyphDrawing.height)
    font.others.reserveCapacity(480)
    for index in BuiltinFont.glyphs.indices {
      let (character, upper, lower) = BuiltinFont.glyphs[index]
      font.add(UInt32(character), GlyphDrawing.glyph(upper, lower))
    }
    for index in BuiltinFont.marked.indices {
      let (character, letter, mark) = BuiltinFont.marked[index]
      let isDotted = letter == 0x69 && Int(mark) != BuiltinFont.Mark.ogonek
      font.add(UInt32(character), GlyphDrawing.marked(font.glyph8(font.find(isDotted ? 0x131 : UInt32(letter))), Int(mark)))
    }
    for index in 0..<128 { font.add(0x2500 + UInt32(index), GlyphDrawing.box(index)) }
    for index in 0..<32 { font.add(0x2580 + UInt32(index), GlyphDrawing.block(index)) }
    font.map(0xA0, to: font.find(0x20))
    font.map(0xAD, to: font.find(0x2D))
    font.others.sort { $0.character < $1.character }
    font.replacement = font.find(0xFFFD)
    font.isBuiltin = true
    return font
  }

  private mutating func add(_ character: UInt32, _ glyph: GlyphDrawing.Glyph) {
    for row in 0..<16 { rows.append(UInt32(glyph[row]) << 24) }
    map(character, to: count)
    count += 1
  }

  private mutating func map(_ character: UInt32, to glyph: Int) {
    if character < 256 { first[Int(character)] = Int16(glyph) } else { others.append((character, UInt16(glyph))) }
  }

  private func glyph8(_ glyph: Int) -> GlyphDrawing.Glyph {
    var rows = GlyphDrawing.Glyph(repeating: 0)
    for row in 0..<16 { rows[row] = UInt8(self.rows[glyph * 16 + row] >> 24) }
    return rows
  }

  /// A glyph while the font is made: what is above 255 is not in order yet.
  private func find(_ character: UInt32) -> Int {
    if character < 256 { return Int(max(0, first[Int(character)])) }
    return others.first { $0.character == character }.map { Int($0.glyph) } ?? 0
  }

  /// The glyph of a character.
  public func glyph(_ character: UInt32) -> Int {
    if character < 256 {
      let glyph = first[Int(character)]
      return glyph < 0 ? replacement : Int(glyph)
    }
    var (low, high) = (0, others.count)
    while low < high {
      let middle = (low + high) / 2
      if others[middle].character < character { low = middle + 1 } else { high = middle }
    }
    return low < others.count && others[low].character == character ? Int(others[low].glyph) : replacement
  }

  /// A row of a glyph, from the top.
  public func row(_ glyph: Int, _ row: Int) -> UInt32 { rows[glyph * height + row] }

  // MARK: Loaded fonts

  /// A font from what a program gives: `pitch` rows a glyph, of which `height` are used, each of as many bytes as its points need.
  /// It takes the map of `old`, or, where that is nil, the one of the PC's text mode. Nil where that makes no font.
  public init?(width: Int, height: Int, count: Int, pitch: Int, data: [UInt8], map old: Font?) {
    guard width > 0, width <= Self.limits.side, height > 0, height <= pitch, pitch <= Self.limits.side, count > 0,
      count <= Self.limits.count
    else { return nil }
    let bytes = (width + 7) / 8
    guard data.count >= count * pitch * bytes else { return nil }
    self.init(width: width, height: height)
    rows.reserveCapacity(count * height)
    for glyph in 0..<count {
      for row in 0..<height {
        var bits: UInt32 = 0
        for byte in 0..<bytes { bits |= UInt32(data[(glyph * pitch + row) * bytes + byte]) << UInt32(24 - byte * 8) }
        // Points beyond the width are not there.
        rows.append(bits & ~(0xFFFF_FFFF >> UInt32(width)))
      }
    }
    self.count = count
    setMap(old?.map ?? (0..<256).map { (UInt16(CodePage437.character(UInt8($0))), UInt16($0)) })
  }

  /// Glyphs as bytes, `pitch` rows each.
  public func data(pitch: Int) -> [UInt8] {
    let bytes = (width + 7) / 8
    var data = [UInt8](repeating: 0, count: count * pitch * bytes)
    for glyph in 0..<count {
      for row in 0..<min(height, pitch) {
        for byte in 0..<bytes {
          data[(glyph * pitch + row) * bytes + byte] = UInt8(truncatingIfNeeded: rows[glyph * height + row] >> UInt32(24 - byte * 8))
        }
      }
    }
    return data
  }

  // MARK: The map

  /// Which characters have which glyphs.
  public var map: [(character: UInt16, glyph: UInt16)] {
    var all: [(character: UInt16, glyph: UInt16)] = []
    for character in 0..<256 where first[character] >= 0 { all.append((UInt16(character), UInt16(first[character]))) }
    for entry in others { all.append((UInt16(truncatingIfNeeded: entry.character), entry.glyph)) }
    return all
  }

  /// Replaces the map. Entries for glyphs that there are not are left out; of several for a character the last one counts.
  public mutating func setMap(_ entries: [(character: UInt16, glyph: UInt16)]) {
    first = [Int16](repeating: -1, count: 256)
    others = []
    let inOrder = entries.enumerated().sorted { ($0.element.character, $0.offset) < ($1.element.character, $1.offset) }
    for (_, entry) in inOrder where Int(entry.glyph) < count {
      if others.last?.character == UInt32(entry.character) { others.removeLast() }
      map(UInt32(entry.character), to: Int(entry.glyph))
    }
    replacement = others.first { $0.character == 0xFFFD }.map { Int($0.glyph) } ?? Int(max(0, first[0x3F]))
  }
}
