/// A terminal's screen: what a program's output makes of a grid of cells. Understands what `TERM=linux` and the like promise.
///
/// It knows no device: who shows it asks which rows have changed, and sends `takeReplies` where input comes from.
///
/// SPEC: ECMA-48 §8.3; DEC VT100 and VT220 manuals; console_codes(4); xterm's ctlseqs.
public struct Screen: Sendable {
  public private(set) var rows: Int
  public private(set) var columns: Int
  var lines: LineBuffer
  /// The main screen's lines while the alternate screen is shown, and the other way round.
  var otherLines: LineBuffer?
  public internal(set) var isAlternate = false

  // MARK: Where and how the next character appears

  struct Position: Sendable {
    var row = 0
    var column = 0
    /// The last column is taken: the next character begins a line.
    var isPastEnd = false
    var style = Style.plain
    var characterSets = CharacterSets()
    var isRelative = false
  }
  var position = Position()
  var saved = Position()
  /// What was saved on the screen that is not shown.
  var otherSaved = Position()
  /// What SGR 0 goes back to.
  var normal = Style.plain
  /// The scrolling region.
  var region: Range<Int>
  var tabs: [Bool]
  var lastCharacter: UInt32 = 0
  var parser = EscapeParser()

  // MARK: Modes

  /// What programs have set and others ask for.
  public struct Modes: Equatable, Sendable {
    public var wraps = true
    public var inserts = false
    public var newLines = false
    public var isReversed = false
    public var showsCursor = true
    public var cursorShape: UInt8 = 0
    public var applicationCursor = false
    public var applicationKeypad = false
    public var repeatsKeys = true
    public var bracketsPaste = false
    /// Scroll, number and capitals lock, as bits 0 to 2.
    public var lights: UInt8 = 0
    /// Control characters and bytes from 128 on are shown, as code page 437 has them.
    public var showsControls = false
    /// Hertz and milliseconds.
    public var bellPitch: UInt32 = 750
    public var bellDuration: UInt32 = 125
    public init() {}
  }
  public internal(set) var modes = Modes()
  public internal(set) var palette = Palette()

  // MARK: What others take from here

  private var dirtyRows: [Bool]
  private var isDirty = true
  private var replies: [UInt8] = []
  private var bells = 0
  /// How many lines above the screen are looked at.
  public private(set) var offset = 0

  /// - Parameter history: Lines that are kept when they have left the screen.
  public init(rows: Int, columns: Int, history: Int) {
    precondition(rows > 0 && columns > 0 && history >= 0)
    self.rows = rows
    self.columns = columns
    lines = LineBuffer(rows: rows, columns: columns, history: history)
    region = 0..<rows
    tabs = Self.standardTabs(columns)
    dirtyRows = Array(repeating: true, count: rows)
  }

  /// Makes the screen larger or smaller. What is at its left end stays, and the line that is written stays visible.
  public mutating func resize(rows newRows: Int, columns newColumns: Int) {
    precondition(newRows > 0 && newColumns > 0)
    let shift = max(0, position.row - newRows + 1)
    lines = lines.resized(rows: newRows, columns: newColumns, shift: shift)
    otherLines = otherLines?.resized(rows: newRows, columns: newColumns, shift: 0)
    (rows, columns) = (newRows, newColumns)
    position.row -= shift
    clamp(&position)
    clamp(&saved)
    clamp(&otherSaved)
    region = 0..<rows
    tabs = Self.standardTabs(columns)
    offset = 0
    dirtyRows = Array(repeating: true, count: rows)
    isDirty = true
  }

  private func clamp(_ position: inout Position) {
    position.row = min(position.row, rows - 1)
    position.column = min(position.column, columns - 1)
    position.isPastEnd = false
  }

  static func standardTabs(_ columns: Int) -> [Bool] { (0..<columns).map { $0 > 0 && $0 % 8 == 0 } }

  public var cursor: (row: Int, column: Int) { (position.row, position.column) }
  /// A cell as it is shown.
  public func cell(_ row: Int, _ column: Int) -> ScreenCell { lines[row - offset, column] }

  /// Shows each row that has changed since the last call.
  public mutating func takeDirtyRows(_ visit: (Int) -> Void) {
    if !isDirty { return }
    isDirty = false
    for row in 0..<rows where dirtyRows[row] {
      dirtyRows[row] = false
      visit(row)
    }
  }

  mutating func touch(_ row: Int) {
    dirtyRows[row] = true
    isDirty = true
  }

  mutating func touch(_ range: Range<Int>) { for row in range { touch(row) } }
  /// Everything is to be shown anew.
  public mutating func touchAll() { touch(0..<rows) }

  public mutating func takeReplies() -> [UInt8] {
    let bytes = replies
    replies = []
    return bytes
  }

  mutating func reply(_ text: StaticString) { reply(Array(text.description.utf8)) }
  mutating func reply(_ bytes: [UInt8]) {
    // Nobody reads them: a program that only asks gets no memory.
    if replies.count + bytes.count <= 256 { replies += bytes }
  }

  /// How often the bell has rung.
  public mutating func takeBells() -> Int {
    let count = bells
    bells = 0
    return count
  }

  /// Looks at lines further up (below 0: down).
  public mutating func scrollBack(_ count: Int) {
    let new = max(0, min(offset + count, isAlternate ? 0 : lines.history))
    if new == offset { return }
    offset = new
    touchAll()
  }

  // MARK: Output

  public mutating func write(_ bytes: borrowing Span<UInt8>) {
    if offset != 0 { scrollBack(-offset) }
    var index = 0
    while index < bytes.count {
      if parser.isInText, isPlain {
        index = putRun(bytes, index)
        if index == bytes.count { return }
      }
      obey(parser.take(bytes[index]))
      if let again = parser.takePending() { obey(parser.take(again)) }
      index += 1
    }
  }

  /// Whether text needs neither another character set nor room made for it.
  private var isPlain: Bool { !modes.inserts && position.characterSets.isPlain }

  /// Puts the printable ASCII characters at the front of the rest; where they end.
  private mutating func putRun(_ bytes: borrowing Span<UInt8>, _ from: Int) -> Int {
    var index = from
    while index < bytes.count {
      var end = index
      while end < bytes.count, bytes[end] &- 0x20 < 0x5F { end += 1 }
      if end == index { return index }
      if position.isPastEnd { wrap() }
      let count = min(end - index, columns - position.column)
      // A wide character loses its other half.
      clearHalves(position.row, position.column, position.column + count)
      lines.put(bytes, index..<(index + count), row: position.row, column: position.column, position.style)
      touch(position.row)
      index += count
      lastCharacter = UInt32(bytes[index - 1])
      advance(count)
      if position.isPastEnd, !modes.wraps, index < end {
        // The rest goes to the last column, one over the other.
        index = end - 1
        position.isPastEnd = false
      }
    }
    return index
  }

  private mutating func advance(_ count: Int) {
    position.column += count
    if position.column >= columns {
      position.column = columns - 1
      position.isPastEnd = true
    }
  }

  private mutating func wrap() {
    position.isPastEnd = false
    if !modes.wraps { return }
    position.column = 0
    lineFeed()
  }

  mutating func put(_ character: UInt32) {
    let width = CharacterWidth.of(character)
    if width == 0 { return }
    if position.isPastEnd { wrap() }
    if width == 2, position.column == columns - 1 {
      if columns < 2 { return }
      if modes.wraps {
        position.isPastEnd = true
        wrap()
      } else {
        position.column -= 1
      }
    }
    if modes.inserts { insertCells(width) }
    clearHalves(position.row, position.column, position.column + width)
    lines[position.row, position.column] = ScreenCell(character: character, style: position.style)
    if width == 2 { lines[position.row, position.column + 1] = ScreenCell(character: 0, style: position.style) }
    touch(position.row)
    lastCharacter = character
    advance(width)
  }

  /// What is left of wide characters that a change of these columns cuts in two becomes a blank.
  mutating func clearHalves(_ row: Int, _ start: Int, _ end: Int) {
    if start > 0, start < columns, lines[row, start].character == 0 { lines[row, start - 1].character = 32 }
    if end > 0, end < columns, lines[row, end].character == 0 { lines[row, end].character = 32 }
  }

  /// To the next line; the region scrolls at its end.
  mutating func lineFeed() {
    if position.row + 1 == region.upperBound {
      scrollUp(1)
    } else if position.row < rows - 1 {
      position.row += 1
    }
  }

  mutating func reverseLineFeed() {
    if position.row == region.lowerBound {
      scrollDown(region, 1)
    } else if position.row > 0 {
      position.row -= 1
    }
  }

  /// The region's lines move up; those at its top go, into the history if that is the screen's.
  mutating func scrollUp(_ count: Int) {
    guard region == 0..<rows, !isAlternate else { return scrollUp(region, count) }
    for _ in 0..<min(count, rows) { lines.advance(ScreenCell(character: 32, style: position.style.erased)) }
    touchAll()
  }

  mutating func scrollUp(_ range: Range<Int>, _ count: Int) {
    let count = min(count, range.count)
    for row in range.lowerBound..<(range.upperBound - count) { lines.copyRow(row + count, to: row) }
    erase(rows: (range.upperBound - count)..<range.upperBound)
    touch(range)
  }

  mutating func scrollDown(_ range: Range<Int>, _ count: Int) {
    let count = min(count, range.count)
    for row in ((range.lowerBound + count)..<range.upperBound).reversed() { lines.copyRow(row - count, to: row) }
    erase(rows: range.lowerBound..<(range.lowerBound + count))
    touch(range)
  }

  mutating func erase(rows range: Range<Int>) {
    for row in range { erase(row, 0..<columns) }
  }

  mutating func erase(_ row: Int, _ range: Range<Int>) {
    if range.isEmpty { return }
    clearHalves(row, range.lowerBound, range.upperBound)
    lines.fill(row, range, ScreenCell(character: 32, style: position.style.erased))
    touch(row)
  }

  mutating func insertCells(_ count: Int) {
    let (row, column) = (position.row, position.column)
    let count = min(count, columns - column)
    clearHalves(row, column, column)
    lines.move(row, column..<(columns - count), to: column + count)
    lines.fill(row, column..<(column + count), ScreenCell(character: 32, style: position.style.erased))
    // The right half may have left the screen.
    if CharacterWidth.of(lines[row, columns - 1].character) == 2 { lines[row, columns - 1].character = 32 }
    touch(row)
  }

  mutating func deleteCells(_ count: Int) {
    let (row, column) = (position.row, position.column)
    let count = min(count, columns - column)
    clearHalves(row, column, column + count)
    lines.move(row, (column + count)..<columns, to: column)
    lines.fill(row, (columns - count)..<columns, ScreenCell(character: 32, style: position.style.erased))
    touch(row)
  }

  mutating func ring() { bells += 1 }

  // MARK: The alternate screen

  mutating func show(alternate: Bool, clears: Bool) {
    if isAlternate != alternate {
      var other = otherLines ?? LineBuffer(rows: rows, columns: columns, history: 0)
      swap(&lines, &other)
      otherLines = other
      swap(&saved, &otherSaved)
      isAlternate = alternate
      touchAll()
    }
    if alternate, clears { erase(rows: 0..<rows) }
  }

  /// As it was at the beginning, but for the history. SPEC: RIS.
  mutating func reset() {
    show(alternate: false, clears: false)
    otherLines = nil
    position = Position()
    (saved, otherSaved) = (Position(), Position())
    normal = .plain
    region = 0..<rows
    tabs = Self.standardTabs(columns)
    modes = Modes()
    palette = Palette()
    parser = EscapeParser()
    erase(rows: 0..<rows)
  }
}
