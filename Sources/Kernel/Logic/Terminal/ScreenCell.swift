/// How a character looks: colours of a palette of 256, and flags.
public struct Style: Equatable, Sendable {
  /// Foreground in bits 0 to 8, background in bits 9 to 17, 256 for the screen's own; flags from bit 18 on.
  public var bits: UInt32

  public static let plain = Style(bits: 256 | 256 << 9)
  public static let bold: UInt32 = 1 << 18, dim: UInt32 = 1 << 19, italic: UInt32 = 1 << 20, underline: UInt32 = 1 << 21
  public static let blink: UInt32 = 1 << 22, inverse: UInt32 = 1 << 23, invisible: UInt32 = 1 << 24, strike: UInt32 = 1 << 25

  /// 0 to 255, or nil for the screen's own.
  public var foreground: UInt8? {
    get { bits & 0x100 != 0 ? nil : UInt8(truncatingIfNeeded: bits) }
    set { bits = bits & ~0x1FF | (newValue.map { UInt32($0) } ?? 256) }
  }
  public var background: UInt8? {
    get { bits & 0x20000 != 0 ? nil : UInt8(truncatingIfNeeded: bits >> 9) }
    set { bits = bits & ~(0x1FF << 9) | (newValue.map { UInt32($0) } ?? 256) << 9 }
  }
  public func has(_ flag: UInt32) -> Bool { bits & flag != 0 }
  public mutating func set(_ flag: UInt32) { bits |= flag }
  public mutating func clear(_ flags: UInt32) { bits &= ~flags }

  /// What an erased place looks like: the background stays.
  var erased: Style { Style(bits: 256 | bits & 0x1FF << 9) }
}

/// A place on a screen.
public struct ScreenCell: Equatable, Sendable {
  /// A Unicode scalar; 0 for the right half of a wide character.
  public var character: UInt32
  public var style: Style

  static let blank = ScreenCell(character: 32, style: .plain)
}

/// A screen's lines, and those that have left it at its top: a ring, so that scrolling moves nothing.
struct LineBuffer: Sendable {
  let columns: Int
  let rows: Int
  private let lineCount: Int
  private var cells: [ScreenCell]
  /// The ring's line that is the screen's first.
  private var top = 0
  /// Lines above it.
  private(set) var history = 0

  init(rows: Int, columns: Int, history: Int) {
    self.rows = rows
    self.columns = columns
    lineCount = rows + history
    cells = Array(repeating: .blank, count: lineCount * columns)
  }

  /// Where a row begins; rows above the screen are below 0.
  private func start(_ row: Int) -> Int {
    var line = top + row
    if line >= lineCount { line -= lineCount } else if line < 0 { line += lineCount }
    return line * columns
  }

  subscript(_ row: Int, _ column: Int) -> ScreenCell {
    get { cells[start(row) + column] }
    set { cells[start(row) + column] = newValue }
  }

  /// Writes characters from 0x20 to 0x7E.
  mutating func put(_ text: borrowing Span<UInt8>, _ range: Range<Int>, row: Int, column: Int, _ style: Style) {
    var index = start(row) + column
    for position in range {
      cells[index] = ScreenCell(character: UInt32(text[position]), style: style)
      index += 1
    }
  }

  mutating func fill(_ row: Int, _ range: Range<Int>, _ cell: ScreenCell) {
    let start = start(row)
    for column in range { cells[start + column] = cell }
  }

  /// Moves cells inside a row.
  mutating func move(_ row: Int, _ range: Range<Int>, to column: Int) {
    let start = start(row)
    if column < range.lowerBound {
      for offset in 0..<range.count { cells[start + column + offset] = cells[start + range.lowerBound + offset] }
    } else {
      for offset in (0..<range.count).reversed() { cells[start + column + offset] = cells[start + range.lowerBound + offset] }
    }
  }

  /// The first row leaves at the top, and the last one is new.
  mutating func advance(_ cell: ScreenCell) {
    top += 1
    if top == lineCount { top = 0 }
    if history < lineCount - rows { history += 1 }
    fill(rows - 1, 0..<columns, cell)
  }

  mutating func copyRow(_ from: Int, to: Int) {
    let (source, target) = (start(from), start(to))
    for column in 0..<columns { cells[target + column] = cells[source + column] }
  }

  /// The same lines with another size, without the first `shift` ones, which have left at the top.
  func resized(rows newRows: Int, columns newColumns: Int, shift: Int) -> LineBuffer {
    var new = LineBuffer(rows: newRows, columns: newColumns, history: lineCount - rows)
    new.history = min(history + shift, lineCount - rows)
    for row in -new.history..<min(newRows, rows - shift) {
      for column in 0..<min(columns, newColumns) { new[row, column] = self[row + shift, column] }
    }
    return new
  }

  mutating func forgetHistory() { history = 0 }
}
