/// A screen of character cells as the PC's text mode shows it: what VGA memory should hold.
///
/// It understands the control characters and the ECMA-48 sequences that line editing and full-screen programs need most:
/// cursor movement, erasing, colours. SPEC: ECMA-48 §8.3; IBM VGA text attributes (foreground, background, intensity).
public struct TextScreen: Sendable {
  public static let columns = 80
  public static let rows = 25
  static let normal: UInt16 = 0x0700

  /// Character in the low, attribute in the high byte; row by row.
  public private(set) var cells: [UInt16]
  public private(set) var cursor = 0
  private var attribute = normal
  private var state = State.text
  private var parameters: [Int] = []
  private var saved = 0
  /// The cursor has passed the last column: the next character wraps first.
  private var wraps = false
  private var dirty: Range<Int>?

  private enum State { case text, escape, sequence }

  public init() { cells = Array(repeating: Self.normal | 32, count: Self.columns * Self.rows) }

  /// The cells that changed since the last call; nil when none did.
  public mutating func takeDirty() -> Range<Int>? {
    let range = dirty
    dirty = nil
    return range
  }

  private mutating func set(_ index: Int, _ value: UInt16) {
    cells[index] = value
    touch(index..<(index + 1))
  }

  private mutating func touch(_ range: Range<Int>) {
    if range.isEmpty { return }
    guard let old = dirty else { return dirty = range }
    dirty = min(old.lowerBound, range.lowerBound)..<max(old.upperBound, range.upperBound)
  }

  private mutating func erase(_ range: Range<Int>) {
    for index in range { cells[index] = attribute & 0xFF00 | 32 }
    touch(range)
  }

  private var row: Int { cursor / Self.columns }
  private var column: Int { cursor % Self.columns }

  private mutating func moveTo(row: Int, column: Int) {
    cursor = min(max(row, 0), Self.rows - 1) * Self.columns + min(max(column, 0), Self.columns - 1)
    wraps = false
  }

  private mutating func lineFeed() {
    if row < Self.rows - 1 { return cursor += Self.columns }
    let last = (Self.rows - 1) * Self.columns
    for index in 0..<last { cells[index] = cells[index + Self.columns] }
    erase(last..<cells.count)
    touch(0..<cells.count)
  }

  /// Shows a byte, or obeys it.
  public mutating func put(_ byte: UInt8) {
    switch state {
    case .text: putText(byte)
    case .escape: putEscape(byte)
    case .sequence: putSequence(byte)
    }
  }

  private mutating func putText(_ byte: UInt8) {
    switch byte {
    case 8: moveTo(row: row, column: column - 1)
    case 9: moveTo(row: row, column: (column | 7) + 1)
    case 10, 11, 12:
      wraps = false
      lineFeed()
    case 13: moveTo(row: row, column: 0)
    case 27: state = .escape
    case 0..<32, 127: break
    default:
      if wraps {
        moveTo(row: row, column: 0)
        lineFeed()
      }
      set(cursor, attribute | UInt16(byte))
      if column == Self.columns - 1 { wraps = true } else { cursor += 1 }
    }
  }

  private mutating func putEscape(_ byte: UInt8) {
    state = .text
    switch byte {
    case 0x5B:  // [
      state = .sequence
      parameters = [0]
    case 0x37: saved = cursor  // 7
    case 0x38: moveTo(row: saved / Self.columns, column: saved % Self.columns)  // 8
    case 0x63: self = TextScreen(redrawing: true)  // c
    default: break
    }
  }

  private init(redrawing: Bool) {
    self.init()
    dirty = 0..<cells.count
  }

  private mutating func putSequence(_ byte: UInt8) {
    switch byte {
    case 0x30...0x39:
      let last = parameters.count - 1
      parameters[last] = min(parameters[last] * 10 + Int(byte - 48), 9999)
    case 0x3B: if parameters.count < 16 { parameters.append(0) }
    case 0x3C...0x3F: break  // private sequences change what this screen does not have
    case 0x40...0x7E:
      state = .text
      finish(byte)
    default: state = .text
    }
  }

  private func parameter(_ index: Int) -> Int { index < parameters.count ? parameters[index] : 0 }

  private mutating func finish(_ byte: UInt8) {
    let count = max(parameter(0), 1)
    switch byte {
    case 0x41: moveTo(row: row - count, column: column)  // A
    case 0x42: moveTo(row: row + count, column: column)  // B
    case 0x43: moveTo(row: row, column: column + count)  // C
    case 0x44: moveTo(row: row, column: column - count)  // D
    case 0x47: moveTo(row: row, column: count - 1)  // G
    case 0x48, 0x66: moveTo(row: count - 1, column: max(parameter(1), 1) - 1)  // H, f
    case 0x4A: eraseDisplay(parameter(0))
    case 0x4B: eraseLine(parameter(0))
    case 0x6D: setAttributes()
    case 0x73: saved = cursor  // s
    case 0x75: moveTo(row: saved / Self.columns, column: saved % Self.columns)  // u
    default: break
    }
  }

  private mutating func eraseDisplay(_ mode: Int) {
    switch mode {
    case 0: erase(cursor..<cells.count)
    case 1: erase(0..<(cursor + 1))
    default: erase(0..<cells.count)
    }
  }

  private mutating func eraseLine(_ mode: Int) {
    let start = row * Self.columns
    switch mode {
    case 0: erase(cursor..<(start + Self.columns))
    case 1: erase(start..<(cursor + 1))
    default: erase(start..<(start + Self.columns))
    }
  }

  /// ECMA-48 colours in VGA's order: red and blue change places.
  private static func vga(_ colour: Int) -> UInt16 { UInt16(colour & 2 | colour >> 2 & 1 | (colour & 1) << 2) }

  private mutating func setAttributes() {
    for value in parameters {
      switch value {
      case 0: attribute = Self.normal
      case 1: attribute |= 0x0800
      case 7: attribute = attribute & 0x8800 | attribute >> 4 & 0x0700 | attribute << 4 & 0x7000
      case 22: attribute &= ~0x0800
      case 30...37: attribute = attribute & ~0x0700 | Self.vga(value - 30) << 8
      case 39: attribute = attribute & ~0x0700 | 0x0700
      case 40...47: attribute = attribute & ~0x7000 | Self.vga(value - 40) << 12
      case 49: attribute &= ~0x7000
      default: break
      }
    }
  }
}
