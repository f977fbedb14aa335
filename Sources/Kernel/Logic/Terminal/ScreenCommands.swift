import Primitives

/// What controls and sequences do to a screen.
extension Screen {
  mutating func obey(_ action: EscapeParser.Action) {
    switch action {
    case .none: break
    case .character(let character): put(translated(character))
    case .control(let byte): control(byte)
    case .escape(let final): escape(final)
    case .sequence(let final): sequence(final)
    case .palette(let colour):
      palette.set(Int(colour >> 24), colour)
      touchAll()
    case .resetPalette:
      palette = Palette()
      touchAll()
    }
  }

  private mutating func translated(_ character: UInt32) -> UInt32 {
    if modes.showsControls, character < 256 { return CodePage437.character(UInt8(character)) }
    // Without UTF-8 a byte is Latin-1, whose second half has controls at its front.
    return position.characterSets.translate(character)
  }

  private mutating func control(_ byte: UInt8) {
    // Those that a screen cannot do without stay what they are.
    if modes.showsControls, UInt32(0x0800_F501) >> UInt32(byte) & 1 == 0 { return put(CodePage437.character(byte)) }
    switch byte {
    case 7: ring()
    case 8: moveLeft(1)
    case 9: tab(1)
    case 10, 11, 12:
      position.isPastEnd = false
      lineFeed()
      if modes.newLines { position.column = 0 }
    case 13: moveTo(column: 0)
    case 14: position.characterSets.shift(to: 1)
    case 15: position.characterSets.shift(to: 0)
    default: break
    }
  }

  // MARK: The cursor

  private mutating func moveTo(column: Int) {
    position.column = max(0, min(column, columns - 1))
    position.isPastEnd = false
  }

  /// To a row of the screen, or of the region where rows are counted from that.
  private mutating func moveTo(row: Int) {
    let limits = position.isRelative ? region : 0..<rows
    position.row = max(limits.lowerBound, min(limits.lowerBound + row, limits.upperBound - 1))
    position.isPastEnd = false
  }

  /// Up (below 0) or down, as far as the region's end for who is in it.
  private mutating func moveRow(by count: Int) {
    let row = position.row
    let first = row >= region.lowerBound ? region.lowerBound : 0
    let last = row < region.upperBound ? region.upperBound - 1 : rows - 1
    position.row = max(first, min(row + count, last))
    position.isPastEnd = false
  }

  private mutating func moveLeft(_ count: Int) { moveTo(column: position.column - count) }

  private mutating func tab(_ count: Int) {
    var column = position.column
    for _ in 0..<min(count, columns) {
      repeat { column += 1 } while column < columns && !tabs[column]
      if column >= columns { break }
    }
    moveTo(column: column)
  }

  private mutating func tabBack(_ count: Int) {
    var column = position.column
    for _ in 0..<min(count, columns) where column > 0 {
      repeat { column -= 1 } while column > 0 && !tabs[column]
    }
    moveTo(column: column)
  }

  private mutating func restore() {
    position = saved
    position.row = min(position.row, rows - 1)
    position.column = min(position.column, columns - 1)
  }

  // MARK: ESC

  private mutating func escape(_ final: UInt8) {
    switch parser.intermediate {
    case 0: plainEscape(final)
    case 0x28...0x2B: position.characterSets.designate(Int(parser.intermediate - 0x28), final)  // ( ) * +
    case 0x23 where final == 0x38:  // # 8
      region = 0..<rows
      (position.row, position.column, position.isPastEnd) = (0, 0, false)
      for row in 0..<rows {
        lines.fill(row, 0..<columns, ScreenCell(character: 0x45, style: .plain))
        touch(row)
      }
    case 0x25:  // %
      if final == 0x40 { parser.isUTF8 = false }
      if final == 0x47 || final == 0x38 { parser.isUTF8 = true }
    default: break
    }
  }

  private mutating func plainEscape(_ final: UInt8) {
    switch final {
    case 0x37: saved = position  // 7
    case 0x38: restore()  // 8
    case 0x3D: modes.applicationKeypad = true  // =
    case 0x3E: modes.applicationKeypad = false  // >
    case 0x44:  // D
      position.isPastEnd = false
      lineFeed()
    case 0x45:  // E
      moveTo(column: 0)
      lineFeed()
    case 0x48: tabs[position.column] = true  // H
    case 0x4D:  // M
      position.isPastEnd = false
      reverseLineFeed()
    case 0x4E: position.characterSets.shiftOnce(to: 2)  // N
    case 0x4F: position.characterSets.shiftOnce(to: 3)  // O
    case 0x5A: reply("\u{1B}[?6c")  // Z
    case 0x63: reset()  // c
    case 0x6E: position.characterSets.shift(to: 2)  // n
    case 0x6F: position.characterSets.shift(to: 3)  // o
    default: break
    }
  }

  // MARK: CSI

  private mutating func sequence(_ final: UInt8) {
    switch (parser.marker, parser.intermediate) {
    case (0, 0): plainSequence(final)
    case (0x3F, 0): privateSequence(final)  // ?
    case (0x3E, 0): if final == 0x63 { reply("\u{1B}[>1;10;0c") }  // > c
    case (0, 0x21): if final == 0x70 { softReset() }  // ! p
    case (0, 0x20): if final == 0x71 { modes.cursorShape = UInt8(min(parser.parameter(0), 6)) }  // SP q
    default: break
    }
  }

  private mutating func plainSequence(_ final: UInt8) {
    let count = parser.count(0)
    switch final {
    case 0x40: position.isPastEnd = false; insertCells(count)  // @
    case 0x41: moveRow(by: -count)  // A
    case 0x42, 0x65: moveRow(by: count)  // B, e
    case 0x43, 0x61: moveTo(column: position.column + count)  // C, a
    case 0x44: moveLeft(count)  // D
    case 0x45:  // E
      moveRow(by: count)
      moveTo(column: 0)
    case 0x46:  // F
      moveRow(by: -count)
      moveTo(column: 0)
    case 0x47, 0x60: moveTo(column: count - 1)  // G, `
    case 0x48, 0x66:  // H, f
      moveTo(row: count - 1)
      moveTo(column: parser.count(1) - 1)
    case 0x49: tab(count)  // I
    case 0x4A: eraseDisplay(parser.parameter(0))  // J
    case 0x4B: eraseLine(parser.parameter(0))  // K
    case 0x4C: insertLines(count)  // L
    case 0x4D: deleteLines(count)  // M
    case 0x50: position.isPastEnd = false; deleteCells(count)  // P
    case 0x53: scrollUp(count)  // S
    case 0x54: scrollDown(region, count)  // T
    case 0x58:  // X
      position.isPastEnd = false
      erase(position.row, position.column..<min(columns, position.column + count))
    case 0x5A: tabBack(count)  // Z
    case 0x5D: settings()  // ]
    case 0x62: if lastCharacter != 0 { for _ in 0..<min(count, rows * columns) { put(lastCharacter) } }  // b
    case 0x63: if parser.parameter(0) == 0 { reply("\u{1B}[?6c") }  // c
    case 0x64: moveTo(row: count - 1)  // d
    case 0x67: clearTabs()  // g
    case 0x68, 0x6C: for index in 0..<parser.parameterCount { setMode(parser.parameter(index), final == 0x68) }  // h, l
    case 0x6D: setStyle()  // m
    case 0x6E: report()  // n
    case 0x71: setLights()  // q
    case 0x72: setRegion()  // r
    case 0x73: saved = position  // s
    case 0x74: if parser.parameter(0) == 18 { replySize() }  // t
    case 0x75: restore()  // u
    default: break
    }
  }

  private mutating func insertLines(_ count: Int) {
    guard region.contains(position.row) else { return }
    scrollDown(position.row..<region.upperBound, count)
    moveTo(column: 0)
  }

  private mutating func deleteLines(_ count: Int) {
    guard region.contains(position.row) else { return }
    scrollUp(position.row..<region.upperBound, count)
    moveTo(column: 0)
  }

  private mutating func eraseDisplay(_ which: UInt32) {
    position.isPastEnd = false
    let (row, column) = (position.row, position.column)
    switch which {
    case 0:
      erase(row, column..<columns)
      erase(rows: (row + 1)..<rows)
    case 1:
      erase(rows: 0..<row)
      erase(row, 0..<(column + 1))
    case 2: erase(rows: 0..<rows)
    case 3:
      erase(rows: 0..<rows)
      lines.forgetHistory()
    default: break
    }
  }

  private mutating func eraseLine(_ which: UInt32) {
    position.isPastEnd = false
    switch which {
    case 0: erase(position.row, position.column..<columns)
    case 1: erase(position.row, 0..<(position.column + 1))
    case 2: erase(position.row, 0..<columns)
    default: break
    }
  }

  private mutating func clearTabs() {
    switch parser.parameter(0) {
    case 0: tabs[position.column] = false
    case 3, 5: tabs = Array(repeating: false, count: columns)
    default: break
    }
  }

  private mutating func setRegion() {
    let first = parser.count(0)
    let last = parser.parameter(1) == 0 ? rows : min(Int(parser.parameter(1)), rows)
    guard first < last else { return }
    region = (first - 1)..<last
    moveTo(row: 0)
    moveTo(column: 0)
  }

  private mutating func report() {
    switch parser.parameter(0) {
    case 5: reply("\u{1B}[0n")
    case 6:
      let row = position.row - (position.isRelative ? region.lowerBound : 0)
      reply([0x1B, 0x5B] + Self.decimal(row + 1) + [0x3B] + Self.decimal(position.column + 1) + [0x52])
    default: break
    }
  }

  private mutating func replySize() {
    reply([0x1B, 0x5B, 0x38, 0x3B] + Self.decimal(rows) + [0x3B] + Self.decimal(columns) + [0x74])
  }

  static func decimal(_ value: Int) -> [UInt8] {
    var digits: [UInt8] = []
    var rest = value
    repeat {
      digits.append(0x30 + UInt8(rest % 10))
      rest /= 10
    } while rest > 0
    return digits.reversed()
  }

  private mutating func setLights() {
    switch parser.parameter(0) {
    case 0: modes.lights = 0
    case 1...3: modes.lights |= 1 << UInt8(parser.parameter(0) - 1)
    default: break
    }
  }

  /// Linux's CSI … ]. SPEC: console_codes(4), "Linux console private CSI sequences".
  private mutating func settings() {
    switch parser.parameter(0) {
    case 8: normal = position.style
    case 10: modes.bellPitch = parser.parameterCount > 1 ? parser.parameter(1) : Modes().bellPitch
    case 11: modes.bellDuration = min(parser.parameterCount > 1 ? parser.parameter(1) : Modes().bellDuration, 2000)
    default: break
    }
  }

  // MARK: Modes

  private mutating func setMode(_ mode: UInt32, _ isSet: Bool) {
    switch mode {
    case 3: modes.showsControls = isSet
    case 4: modes.inserts = isSet
    case 20: modes.newLines = isSet
    default: break
    }
  }

  private mutating func privateSequence(_ final: UInt8) {
    switch final {
    case 0x63: modes.cursorShape = UInt8(min(parser.parameter(0), 8))  // c
    case 0x68, 0x6C: for index in 0..<parser.parameterCount { setPrivateMode(parser.parameter(index), final == 0x68) }  // h, l
    case 0x4A: eraseDisplay(parser.parameter(0))  // J
    case 0x4B: eraseLine(parser.parameter(0))  // K
    default: break
    }
  }

  private mutating func setPrivateMode(_ mode: UInt32, _ isSet: Bool) {
    switch mode {
    case 1: modes.applicationCursor = isSet
    case 5:
      if modes.isReversed != isSet { touchAll() }
      modes.isReversed = isSet
    case 6:
      position.isRelative = isSet
      moveTo(row: 0)
      moveTo(column: 0)
    case 7:
      modes.wraps = isSet
      position.isPastEnd = false
    case 8: modes.repeatsKeys = isSet
    case 25: modes.showsCursor = isSet
    case 47: show(alternate: isSet, clears: false)
    case 66: modes.applicationKeypad = isSet
    case 1047: show(alternate: isSet, clears: true)
    case 1048: if isSet { saved = position } else { restore() }
    case 1049:
      if isSet {
        if !isAlternate { saved = position }
        show(alternate: true, clears: true)
      } else if isAlternate {
        show(alternate: false, clears: false)
        restore()
      }
    case 2004: modes.bracketsPaste = isSet
    default: break
    }
  }

  private mutating func softReset() {
    let (row, column) = (position.row, position.column)
    position = Position()
    (position.row, position.column) = (row, column)
    saved = Position()
    region = 0..<rows
    modes.wraps = true
    modes.inserts = false
    modes.showsCursor = true
    modes.applicationCursor = false
    modes.applicationKeypad = false
  }

  // MARK: SGR

  private mutating func setStyle() {
    if parser.parameterCount == 0 { return position.style = normal }
    var index = 0
    while index < parser.parameterCount {
      let value = parser.parameter(index)
      switch value {
      case 38, 48: index = setColour(index, isBackground: value == 48)
      case 4 where parser.isDetail(index + 1):
        // How the line looks: all of them are lines, but for none.
        if parser.parameter(index + 1) == 0 { position.style.clear(Style.underline) } else { position.style.set(Style.underline) }
        index += 1
      case 0: position.style = normal
      case 1...9, 21...29: setFlag(value)
      case 10:
        position.characterSets.shift(to: 0)
        modes.showsControls = false
      case 11, 12: modes.showsControls = true
      case 30...37: position.style.foreground = UInt8(value - 30)
      case 39: position.style.foreground = nil
      case 40...47: position.style.background = UInt8(value - 40)
      case 49: position.style.background = nil
      case 90...97: position.style.foreground = UInt8(value - 90 + 8)
      case 100...107: position.style.background = UInt8(value - 100 + 8)
      default: break
      }
      index += 1
      while parser.isDetail(index) { index += 1 }
    }
  }

  private mutating func setFlag(_ value: UInt32) {
    switch value {
    case 1: position.style.set(Style.bold)
    case 2: position.style.set(Style.dim)
    case 3: position.style.set(Style.italic)
    case 4, 21: position.style.set(Style.underline)
    case 5, 6: position.style.set(Style.blink)
    case 7: position.style.set(Style.inverse)
    case 8: position.style.set(Style.invisible)
    case 9: position.style.set(Style.strike)
    case 22: position.style.clear(Style.bold | Style.dim)
    case 23: position.style.clear(Style.italic)
    case 24: position.style.clear(Style.underline)
    case 25: position.style.clear(Style.blink)
    case 27: position.style.clear(Style.inverse)
    case 28: position.style.clear(Style.invisible)
    case 29: position.style.clear(Style.strike)
    default: break
    }
  }

  /// 38;5;N, 38;2;R;G;B, and both with colons, where a colour space may come before the red; the last parameter's number.
  private mutating func setColour(_ index: Int, isBackground: Bool) -> Int {
    var colour: UInt8?
    var last = index + 1
    switch parser.parameter(index + 1) {
    case 5:
      last = index + 2
      colour = UInt8(truncatingIfNeeded: min(parser.parameter(last), 255))
    case 2:
      let hasSpace = parser.isDetail(index + 2) && parser.isDetail(index + 5)
      let red = index + (hasSpace ? 3 : 2)
      last = red + 2
      colour = Palette.nearest(parser.parameter(red), parser.parameter(red + 1), parser.parameter(red + 2))
    default: break
    }
    guard last < parser.parameterCount, let colour else { return parser.parameterCount }
    if isBackground { position.style.background = colour } else { position.style.foreground = colour }
    return last
  }
}
