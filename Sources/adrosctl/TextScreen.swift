import Foundation
import ImageKit
import Primitives
import Terminal

/// What is to be read on a screen, place by place.
struct TextScreen: Equatable, CustomStringConvertible {
  /// A character and its colours, 0xRRGGBB.
  struct Cell: Equatable {
    var character: Unicode.Scalar = " "
    var front: UInt32 = 0xAAAAAA
    var back: UInt32 = 0
  }
  let rows: Int
  let columns: Int
  private let cells: [Cell]

  subscript(_ row: Int, _ column: Int) -> Cell { cells[row * columns + column] }

  /// A row's characters without blanks at its end.
  func text(_ row: Int) -> String {
    var text = String(String.UnicodeScalarView(cells[(row * columns)..<((row + 1) * columns)].map(\.character)))
    while text.last == " " { text.removeLast() }
    return text
  }

  var description: String { (0..<rows).map { text($0) }.joined(separator: "\n") }

  /// Whether a text is there; blanks at the ends of lines do not count.
  func has(_ text: String) -> Bool {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      var line = line
      while line.last == " " { line.removeLast() }
      return line
    }
    return (description + "\n").contains(lines.joined(separator: "\n"))
  }

  /// The place of a text's first character.
  func cell(of text: String) -> Cell? {
    for row in 0..<rows {
      let line = self.text(row)
      if let range = line.range(of: text) { return self[row, line[..<range.lowerBound].unicodeScalars.count] }
    }
    return nil
  }

  // MARK: The PC's text memory

  /// 25 rows of 80, two bytes each: code page 437, and colours.
  static let memorySize = 25 * 80 * 2
  /// VGA's colours: blue is the lowest bit there.
  private static func colour(_ number: UInt8) -> UInt32 {
    Palette()[number & 0b1010 | number >> 2 & 1 | (number & 1) << 2]
  }

  init(memory: Data) {
    (rows, columns) = (25, 80)
    cells = stride(from: 0, to: memory.count - 1, by: 2).map { index in
      let byte = memory[index]
      let colours = memory[index + 1]
      let character = byte == 0 ? " " : Unicode.Scalar(CodePage437.character(byte)) ?? " "
      return Cell(character: character, front: Self.colour(colours & 15), back: Self.colour(colours >> 4))
    }
  }

  // MARK: A frame buffer

  init(_ picture: Picture) {
    (rows, columns) = (picture.height / 16, picture.width / 8)
    var cells: [Cell] = []
    for row in 0..<rows { for column in 0..<columns { cells.append(Glyphs.shared.read(picture, column * 8, row * 16)) } }
    self.cells = cells
  }
}

/// The kernel's font, backwards.
private struct Glyphs {
  static let shared = Glyphs()
  private var characters: [[UInt8]: Unicode.Scalar] = [:]
  /// By their first twelve rows, for those that the cursor underlines.
  private var tops: [[UInt8]: Unicode.Scalar] = [:]
  private static let cursor = 12

  init() {
    let font = Font.builtin
    // Of those that look the same ASCII comes first, and lines before dashes.
    let all = font.map.map(\.character)
    for character in all.filter({ $0 < 128 }) + all.filter({ $0 >= 128 }).reversed() {
      guard let scalar = Unicode.Scalar(UInt32(character)), character != 0xA0 else { continue }
      let glyph = font.glyph(UInt32(character))
      let rows = (0..<16).map { UInt8(font.row(glyph, $0) >> 24) }
      if characters[rows] == nil { characters[rows] = scalar }
      if tops[Array(rows.prefix(Self.cursor))] == nil { tops[Array(rows.prefix(Self.cursor))] = scalar }
    }
  }

  /// What is drawn in two colours at a place; U+FFFD for what is no character.
  func read(_ picture: Picture, _ x: Int, _ y: Int) -> TextScreen.Cell {
    let back = picture.pixel(x, y)
    var front = back
    var rows = [UInt8](repeating: 0, count: 16)
    for row in 0..<16 {
      for column in 0..<8 {
        let colour = picture.pixel(x + column, y + row)
        if colour != back {
          front = colour
          rows[row] |= 0x80 >> UInt8(column)
        }
      }
    }
    if front == back { return TextScreen.Cell(back: back) }
    for (bits, front, back) in [(rows, front, back), (rows.map { ~$0 }, back, front)] {
      if let character = find(bits) { return TextScreen.Cell(character: character, front: front, back: back) }
    }
    return TextScreen.Cell(character: "\u{FFFD}", front: front, back: back)
  }

  private func find(_ rows: [UInt8]) -> Unicode.Scalar? {
    // What the cursor underlines, which makes a block of a blank.
    if rows[Self.cursor...].allSatisfy({ $0 == 0xFF }), let character = tops[Array(rows.prefix(Self.cursor))] { return character }
    if let character = characters[rows] { return character }
    // A line below it.
    var bare = rows
    bare[14] = 0
    return rows[14] == 0xFF ? characters[bare] : nil
  }
}

/// A picture in memory. SPEC: Netpbm PPM, "P6".
struct Picture {
  let width: Int
  let height: Int
  private let bytes: [UInt8]
  private let start: Int

  init(_ data: Data) throws {
    bytes = [UInt8](data)
    var fields: [Int] = []
    var index = 2
    while fields.count < 3, index < bytes.count {
      while index < bytes.count, bytes[index] <= 32 { index += 1 }
      var value = 0
      while index < bytes.count, bytes[index] >= 48, bytes[index] <= 57, value < 65536 {
        value = value * 10 + Int(bytes[index] - 48)
        index += 1
      }
      fields.append(value)
    }
    start = index + 1
    guard fields.count == 3, fields[2] == 255, bytes.starts(with: "P6".utf8), bytes.count - start == fields[0] * fields[1] * 3 else {
      throw ToolError("QEMU's picture cannot be read", why: "it is no PPM of 24 bits", hint: "")
    }
    (width, height) = (fields[0], fields[1])
  }

  /// QEMU draws the text mode's 25 rows of 80 so.
  var isTextMode: Bool { width == 720 && height == 400 }

  func pixel(_ x: Int, _ y: Int) -> UInt32 {
    let at = start + (y * width + x) * 3
    return UInt32(bytes[at]) << 16 | UInt32(bytes[at + 1]) << 8 | UInt32(bytes[at + 2])
  }
}
