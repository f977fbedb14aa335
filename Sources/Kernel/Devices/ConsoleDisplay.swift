import Machine
import Primitives
import Sync
import Terminal

struct DisplayRank: LockRank { static let level: UInt8 = 95 }

/// What is seen of a screen at one moment: the rows that have changed, and what belongs to all of it.
struct ScreenPicture {
  var rows: [(row: Int, cells: [ScreenCell])] = []
  /// The screen's size.
  let size: (rows: Int, columns: Int)
  var cursor = (row: 0, column: 0)
  /// 0 for none; else as Linux numbers its shapes: 2 a line, 6 a block.
  var cursorShape: UInt8 = 0
  var isReversed = false
  var palette = Palette()

  /// Takes what has changed since the last picture.
  init(_ screen: inout Screen) {
    let columns = screen.columns
    size = (screen.rows, columns)
    var changed: [Int] = []
    screen.takeDirtyRows { changed.append($0) }
    for row in changed { rows.append((row, (0..<columns).map { screen.cell(row, $0) })) }
    cursor = screen.cursor
    let isSeen = screen.modes.showsCursor && screen.modes.cursorShape != 1 && screen.offset == 0
    cursorShape = isSeen ? max(2, screen.modes.cursorShape) : 0
    isReversed = screen.modes.isReversed
    palette = screen.palette
  }
}

/// A device that shows one screen.
class ConsoleDisplay {
  /// Its size in characters, which only another font changes.
  final var rows: Int
  final var columns: Int
  init(rows: Int, columns: Int) {
    self.rows = rows
    self.columns = columns
  }
  /// Called by one thread at a time, or by a kernel that panics.
  func show(_ picture: ScreenPicture) {}
  /// What characters look like, where that can be changed.
  var font: Font? { nil }
  /// Draws with another font from now on; false where that cannot be.
  func set(_ font: Font) -> Bool { false }
  /// Somebody else has drawn there: nothing is known of what it shows.
  func forget() {}
}

/// The PC's text mode. SPEC: IBM VGA: text memory at 0xB8000; CRTC registers 0x0A and 0x0B (cursor lines), 0x0E and 0x0F (its place).
final class VGAText: ConsoleDisplay {
  private let memory = RegisterWindow(physical: 0xB8000, size: 80 * 25 * 2)
  private let controller = PortWindow(base: 0x3D4, count: 2)
  /// What the memory holds: it is slow to ask, and to write to.
  private let shown = InterruptSpinLock<[UInt16], DisplayRank>(Array(repeating: 0, count: 80 * 25))

  /// Nil where no text memory answers.
  init?() {
    super.init(rows: 25, columns: 80)
    for value in [UInt16(0x0755), 0x07AA] {
      memory.write16(0, value)
      if memory.read16(0) != value { return nil }
    }
    for index in 0..<UInt32(80 * 25) { memory.write16(index * 2, 0) }
  }

  override func show(_ picture: ScreenPicture) {
    // Only a panic can come into the middle of it.
    shown.withLockIfFree { shown in
      for (row, cells) in picture.rows {
        for column in cells.indices {
          let value = Self.value(cells[column], picture.isReversed)
          let index = row * columns + column
          if shown[index] == value { continue }
          shown[index] = value
          memory.write16(UInt32(index) * 2, value)
        }
      }
      showCursor(picture)
    }
  }

  override func forget() {
    shown.withLock { shown in
      for index in shown.indices { shown[index] = memory.read16(UInt32(index) * 2) }
    }
  }

  private func showCursor(_ picture: ScreenPicture) {
    let place = UInt16(picture.cursor.row * columns + picture.cursor.column)
    set(0x0E, UInt8(place >> 8))
    set(0x0F, UInt8(place & 0xFF))
    switch picture.cursorShape {
    case 0: set(0x0A, 0x20)
    case 6...: setLines(0, 15)
    case 3: setLines(10, 15)
    case 4: setLines(8, 15)
    case 5: setLines(5, 15)
    default: setLines(13, 14)
    }
  }

  private func setLines(_ first: UInt8, _ last: UInt8) {
    set(0x0A, first)
    set(0x0B, last)
  }

  private func set(_ register: UInt8, _ value: UInt8) {
    controller.write8(0, register)
    controller.write8(1, value)
  }

  /// Sixteen colours for what is in front, eight behind: bright ones behind would blink.
  private static func value(_ cell: ScreenCell, _ isReversed: Bool) -> UInt16 {
    var front = cell.style.foreground.map { Palette.basic($0) } ?? 7
    var back = (cell.style.background.map { Palette.basic($0) } ?? 0) & 7
    if cell.style.has(Style.bold) { front |= 8 }
    if cell.style.has(Style.dim), front & 8 == 0 { front = 8 }
    // There are no lines under characters here: Linux shows them in a colour, too.
    if cell.style.has(Style.underline), cell.style.foreground == nil { front = 11 }
    if cell.style.has(Style.inverse) != isReversed { (front, back) = (back | front & 8, front & 7) }
    if cell.style.has(Style.invisible) { front = back }
    let attribute = vga(front) | vga(back) << 4
    return UInt16(attribute) << 8 | UInt16(CodePage437.byte(cell.character))
  }

  /// ECMA-48's colours in VGA's order: red and blue change places.
  private static func vga(_ colour: UInt8) -> UInt8 { colour & 0b1010 | colour >> 2 & 1 | (colour & 1) << 2 }
}
