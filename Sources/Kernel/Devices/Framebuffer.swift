import Machine
import Sync
import Synchronization
import SystemABI
import Terminal
import VFS

/// Memory whose pixels are seen: 32 bits each, 0x00RRGGBB, lines from the top.
public final class Framebuffer: Sendable {
  let physical: UInt64
  /// All of it, of which a screen's height is seen.
  let bytes: UInt32
  let width: UInt32
  let height: UInt32
  /// Bytes from one line to the next.
  let pitch: UInt32
  let window: PixelWindow
  /// The kernel has no room for more.
  public static let largest: UInt32 = 32 << 20
  /// Makes another line the first one that is seen; nil where only the first can be.
  private let pan: (@Sendable (UInt32) -> Void)?
  private let first = Atomic<UInt32>(0)

  public init(
    physical: UInt64, bytes: UInt32, width: UInt32, height: UInt32, pitch: UInt32, pan: (@Sendable (UInt32) -> Void)? = nil
  ) {
    (self.physical, self.bytes, self.width, self.height, self.pitch, self.pan) = (physical, bytes, width, height, pitch, pan)
    window = PixelWindow(physical: physical, bytes: bytes)
  }

  /// Lines that can be seen, one screen after the other.
  var lines: UInt32 { pan == nil ? height : bytes / pitch }
  var canPan: Bool { pan != nil }
  /// The line at the top.
  var firstLine: UInt32 { first.load(ordering: .relaxed) }

  func show(from line: UInt32) {
    first.store(line, ordering: .relaxed)
    pan?(line)
  }
}

/// A screen drawn with a font.
final class FramebufferDisplay: ConsoleDisplay {
  /// What is drawn at a place: nothing is drawn twice.
  private struct Drawn: Equatable {
    var character: UInt32 = .max
    var front: UInt32 = 0
    var back: UInt32 = 0
    /// Lines through and below it, and the cursor's shape.
    var marks: UInt8 = 0
  }
  private struct State: ~Copyable {
    var font: Font
    var drawn: [Drawn]
    var cursor: Int?
  }
  private let framebuffer: Framebuffer
  private let state: InterruptSpinLock<State, DisplayRank>

  init(_ framebuffer: Framebuffer) {
    self.framebuffer = framebuffer
    let font = Font.builtin
    let rows = Int(framebuffer.height) / font.height
    let columns = Int(framebuffer.width) / font.width
    state = InterruptSpinLock(State(font: font, drawn: Array(repeating: Drawn(), count: rows * columns)))
    super.init(rows: rows, columns: columns)
    clear()
  }

  override var font: Font? { state.withLock { $0.font } }

  override func set(_ font: Font) -> Bool {
    let newRows = Int(framebuffer.height) / font.height
    let newColumns = Int(framebuffer.width) / font.width
    guard newRows >= 2, newColumns >= 20 else { return false }
    let empty = Array(repeating: Drawn(), count: newRows * newColumns)
    state.withLock { state in
      state.font = font
      state.drawn = empty
      state.cursor = nil
      (rows, columns) = (newRows, newColumns)
    }
    redrawAll()
    return true
  }

  /// Clears it, and then forgets what was drawn before or meanwhile.
  private func redrawAll() {
    clear()
    state.withLock { state in
      for index in state.drawn.indices { state.drawn[index] = Drawn() }
    }
  }

  private func clear() {
    for line in 0..<framebuffer.height { framebuffer.window.fill(line * framebuffer.pitch / 4, framebuffer.width, 0) }
  }

  override func forget() {
    framebuffer.show(from: 0)
    redrawAll()
  }

  override func show(_ picture: ScreenPicture) {
    // Only a panic can come into the middle of it.
    state.withLockIfFree { state in
      // It may have got another font meanwhile: then another picture comes.
      if picture.size != (rows, columns) { return }
      let cursor = picture.cursorShape == 0 ? nil : picture.cursor.row * columns + picture.cursor.column
      if let old = state.cursor, old != cursor {
        state.drawn[old].marks &= 0x0F
        draw(old, state)
      }
      for (row, cells) in picture.rows {
        for column in cells.indices {
          let index = row * columns + column
          var new = look(cells[column], picture)
          if index == cursor { new.marks |= picture.cursorShape << 4 }
          if state.drawn[index] == new { continue }
          state.drawn[index] = new
          draw(index, state)
        }
      }
      if let cursor, state.drawn[cursor].marks >> 4 != picture.cursorShape {
        state.drawn[cursor].marks = state.drawn[cursor].marks & 0x0F | picture.cursorShape << 4
        draw(cursor, state)
      }
      state.cursor = cursor
    }
  }

  private static let underlined: UInt8 = 1, struck: UInt8 = 2

  private func look(_ cell: ScreenCell, _ picture: ScreenPicture) -> Drawn {
    let style = cell.style
    var front = style.foreground ?? 7
    // Bold is a brighter colour, as in the text mode.
    if style.has(Style.bold), front < 8 { front += 8 }
    var colours = (front: picture.palette[front], back: picture.palette[style.background ?? 0])
    if style.has(Style.dim) { colours.front = (colours.front >> 1) & 0x7F7F7F }
    if style.has(Style.inverse) != picture.isReversed { (colours.front, colours.back) = (colours.back, colours.front) }
    if style.has(Style.invisible) { colours.front = colours.back }
    let marks = (style.has(Style.underline) ? Self.underlined : 0) | (style.has(Style.strike) ? Self.struck : 0)
    return Drawn(character: cell.character == 0 ? 32 : cell.character, front: colours.front, back: colours.back, marks: marks)
  }

  private func draw(_ index: Int, _ state: borrowing State) {
    let drawn = state.drawn[index]
    if drawn.character == .max { return }
    let (width, height) = (state.font.width, state.font.height)
    let glyph = state.font.glyph(drawn.character)
    let shape = drawn.marks >> 4
    let cursorRows = shape == 0 ? height : shape >= 6 ? 0 : height - max(2, height * Int(shape) / 8)
    var offset = UInt32(index / columns * height) * framebuffer.pitch / 4 + UInt32(index % columns * width)
    for row in 0..<height {
      var bits = state.font.row(glyph, row)
      if drawn.marks & Self.underlined != 0, row == height - 2 { bits = .max }
      if drawn.marks & Self.struck != 0, row == height / 2 { bits = .max }
      if row >= cursorRows { bits = shape >= 6 ? ~bits : .max }
      framebuffer.window.draw(bits, width, at: offset, drawn.front, drawn.back)
      offset += framebuffer.pitch / 4
    }
  }
}
