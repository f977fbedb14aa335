import Primitives
import Terminal
import Testing

/// A screen after some output.
private func shown(_ text: String, rows: Int = 25, columns: Int = 80, history: Int = 0) -> Screen {
  var screen = Screen(rows: rows, columns: columns, history: history)
  let bytes = Array(text.utf8)
  screen.write(bytes.span)
  return screen
}

extension Screen {
  fileprivate func text(_ row: Int) -> String {
    var text = ""
    for column in 0..<columns where cell(row, column).character != 0 {
      text.unicodeScalars.append(Unicode.Scalar(cell(row, column).character) ?? "?")
    }
    while text.last == " " { text.removeLast() }
    return text
  }
  fileprivate var text: [String] { (0..<rows).map { text($0) } }
  fileprivate mutating func put(_ text: String) {
    let bytes = Array(text.utf8)
    write(bytes.span)
  }
  fileprivate mutating func answer(_ text: String) -> String {
    put(text)
    return String(decoding: takeReplies(), as: UTF8.self)
  }
}

@Suite struct ScreenTests {
  @Test func controlCharactersMoveTheCursor() {
    let screen = shown("abc\rX\n\tY\u{8}Z")
    #expect(screen.text(0) == "Xbc")
    #expect(screen.text(1) == "        Z")
    #expect(screen.cursor == (1, 9))
    #expect(shown("\u{1B}E\u{1B}D\u{1B}Mx").text(1) == "x")
    #expect(shown("\u{1B}[20ha\nb").text(1) == "b")
    #expect(shown("a\nb").text(1) == " b")
  }

  @Test func aFullLineWrapsOnlyWhenMoreComes() {
    let line = String(repeating: "x", count: 80)
    #expect(shown(line).cursor == (0, 79))
    #expect(shown(line + "y").text(1) == "y")
    #expect(shown(line + "\r\nz").text(1) == "z")
    #expect(shown(line + "\u{8}y").text(0) == String(repeating: "x", count: 78) + "yx")
    #expect(shown(line + "\u{1B}[Ky").text(0) == String(repeating: "x", count: 79) + "y")
    // Without wrapping the last column takes all.
    #expect(shown("\u{1B}[?7l" + line + "abc").text.prefix(2) == [String(repeating: "x", count: 79) + "c", ""])
    #expect(shown("\u{1B}[?7l" + line + "é").text(0).last == "é")
  }

  @Test func theLastLineScrolls() {
    var screen = shown((0..<30).map { "line \($0)\r\n" }.joined(), history: 10)
    #expect(screen.text(0) == "line 6")
    #expect(screen.text(23) == "line 29")
    #expect(screen.text(24) == "")
    screen.scrollBack(4)
    #expect(screen.text(0) == "line 2")
    screen.scrollBack(100)
    #expect(screen.text(0) == "line 0")
    screen.scrollBack(-1)
    #expect(screen.text(0) == "line 1")
    // What is written is seen.
    screen.put("x")
    #expect(screen.text(24) == "x")
    // The oldest lines go, and none are left that were to go.
    screen.put((0..<40).map { "more \($0)\r\n" }.joined())
    screen.scrollBack(100)
    #expect(screen.text(0) == "more 6")
    screen.put("\u{1B}[3J")
    screen.scrollBack(5)
    #expect(screen.offset == 0)
  }

  @Test func sequencesMoveAndErase() {
    #expect(shown("hello\u{1B}[3D\u{1B}[K").text(0) == "he")
    #expect(shown("hello\u{1B}[3D\u{1B}[1K").text(0) == "   lo")
    #expect(shown("hello\u{1B}[2K.").text(0) == "     .")
    #expect(shown("one\u{1B}[2J\u{1B}[Htwo").text(0) == "two")
    #expect(shown("1\r\n2\r\n3\u{1B}[2;1H\u{1B}[J").text.prefix(3) == ["1", "", ""])
    #expect(shown("1\r\n2\r\n3\u{1B}[2;1H\u{1B}[1J").text.prefix(3) == ["", "", "3"])
    #expect(shown("\u{1B}[5;10H").cursor == (4, 9))
    #expect(shown("\u{1B}[999;999H").cursor == (24, 79))
    #expect(shown("\u{1B}[0;0H\u{1B}[B\u{1B}[2C\u{1B}[A\u{1B}[D").cursor == (0, 1))
    #expect(shown("\u{1B}[5;5H\u{1B}[2E").cursor == (6, 0))
    #expect(shown("\u{1B}[5;5H\u{1B}[F").cursor == (3, 0))
    #expect(shown("\u{1B}[7d\u{1B}[9G").cursor == (6, 8))
    #expect(shown("\u{1B}[7;5H\u{1B}[2e\u{1B}[3a").cursor == (8, 7))
    #expect(shown("abcdef\u{1B}[2G\u{1B}[2X").text(0) == "a  def")
    #expect(shown("ab\u{1B}[3b").text(0) == "abbbb")
    #expect(shown("\u{1B}#8").text(24) == String(repeating: "E", count: 80))
  }

  @Test func cellsAndLinesComeAndGo() {
    #expect(shown("abcdef\u{1B}[2G\u{1B}[2@").text(0) == "a  bcdef")
    #expect(shown("abcdef\u{1B}[2G\u{1B}[2P").text(0) == "adef")
    #expect(shown("abc\u{1B}[99P\u{1B}[H\u{1B}[99@").text(0) == "")
    #expect(shown("abc\r\u{1B}[4hX\u{1B}[4lY").text(0) == "XYbc")
    #expect(shown("1\r\n2\r\n3\u{1B}[2;3H\u{1B}[LX").text.prefix(4) == ["1", "X", "2", "3"])
    #expect(shown("1\r\n2\r\n3\r\n4\u{1B}[2H\u{1B}[2M").text.prefix(3) == ["1", "4", ""])
    #expect(shown("1\r\n2\r\n3\u{1B}[S").text.prefix(3) == ["2", "3", ""])
    #expect(shown("1\r\n2\u{1B}[2T").text.prefix(4) == ["", "", "1", "2"])
    #expect(shown("1\r\n2\u{1B}[99S").text.allSatisfy { $0.isEmpty })
  }

  @Test func regionsScrollAlone() {
    let ten = (0..<10).map { "\u{1B}[\($0 + 1)Hline \($0)" }.joined()
    #expect(shown(ten + "\u{1B}[3;5r\u{1B}[5H\nx").text[1...5] == ["line 1", "line 3", "line 4", "x", "line 5"])
    #expect(shown(ten + "\u{1B}[3;5r\u{1B}[3H\u{1B}Mx").text[1...5] == ["line 1", "x", "line 2", "line 3", "line 5"])
    // Above and below it nothing moves but the cursor.
    #expect(shown(ten + "\u{1B}[3;5r\u{1B}[25H\nx", rows: 25).text[24] == "x")
    #expect(shown(ten + "\u{1B}[3;5r\u{1B}[H\u{1B}Mx").text(0) == "xine 0")
    #expect(shown("\u{1B}[3;5r").cursor == (0, 0))
    #expect(shown("\u{1B}[3;5r\u{1B}[?6hx").text(2) == "x")
    #expect(shown("\u{1B}[3;5r\u{1B}[?6h\u{1B}[99Hx").text(4) == "x")
    #expect(shown("\u{1B}[3;5r\u{1B}[4H\u{1B}[9A").cursor.row == 2)
    #expect(shown("\u{1B}[3;5r\u{1B}[4H\u{1B}[9B").cursor.row == 4)
    #expect(shown("\u{1B}[3;5r\u{1B}[8H\u{1B}[9A").cursor.row == 2)
    #expect(shown("\u{1B}[3;5r\u{1B}[9H\u{1B}[LX").text(8) == "X")
    // What makes no sense changes nothing.
    #expect(shown("\u{1B}[5;3r\u{1B}[25;80H\nx").text(24).hasSuffix("x"))
    var screen = shown("\u{1B}[2;3r\u{1B}[3H" + String(repeating: "\n", count: 50), history: 100)
    screen.scrollBack(1)
    #expect(screen.offset == 0)
  }

  @Test func tabsAreSetAndCleared() {
    #expect(shown("\ta\tb").text(0) == "        a       b")
    #expect(shown("\u{1B}[3g\u{1B}[5G\u{1B}H\r\tx").text(0) == "    x")
    #expect(shown("\u{1B}[9G\u{1B}[g\r\tx").text(0) == "                x")
    #expect(shown("\u{1B}[3g\tx").cursor == (0, 79))
    #expect(shown("\u{1B}[20G\u{1B}[Z").cursor == (0, 16))
    #expect(shown("\u{1B}[20G\u{1B}[2Z").cursor == (0, 8))
    #expect(shown("\u{1B}[2I").cursor == (0, 16))
  }

  @Test func coloursAndFlags() {
    func style(_ text: String) -> Style { shown(text + "x").cell(0, 0).style }
    #expect(style("") == .plain)
    #expect(style("\u{1B}[31;1m").foreground == 1 && style("\u{1B}[31;1m").has(Style.bold))
    #expect(style("\u{1B}[44m").background == 4)
    #expect(style("\u{1B}[97;100m").foreground == 15 && style("\u{1B}[97;100m").background == 8)
    #expect(style("\u{1B}[38;5;200m").foreground == 200)
    #expect(style("\u{1B}[38;5;200;1m").has(Style.bold))
    #expect(style("\u{1B}[48:5:17m").background == 17)
    #expect(style("\u{1B}[38;2;255;0;0m").foreground == 196)
    #expect(style("\u{1B}[38:2::0:0:255;1m").foreground == 21 && style("\u{1B}[38:2::0:0:255;1m").has(Style.bold))
    #expect(style("\u{1B}[38:2:0:0:255m").foreground == 21)
    #expect(style("\u{1B}[38;5m") == .plain)
    #expect(style("\u{1B}[4:3m").has(Style.underline) && !style("\u{1B}[4:3m").has(Style.italic))
    #expect(!style("\u{1B}[4m\u{1B}[4:0m").has(Style.underline))
    #expect(style("\u{1B}[1;2;3;4;5;7;8;9m\u{1B}[22;23;24;25;27;28;29m") == .plain)
    #expect(style("\u{1B}[31;42;7m\u{1B}[m") == .plain)
    #expect(style("\u{1B}[31;42m\u{1B}[39;49m") == .plain)
    // Erased places keep the background.
    #expect(shown("\u{1B}[41;1m\u{1B}[2J").cell(3, 3).style.background == 1)
    #expect(!shown("\u{1B}[41;1m\u{1B}[2J").cell(3, 3).style.has(Style.bold))
    // What Linux's `setterm --store` asks for.
    #expect(style("\u{1B}[32m\u{1B}[8]\u{1B}[m").foreground == 2)
    #expect(shown("\u{1B}]P1abcdef").palette[1] == 0xABCDEF)
    #expect(shown("\u{1B}]P1abcdef\u{1B}]R").palette == Palette())
    #expect(Palette()[196] == 0xFF0000 && Palette()[232] == 0x080808)
  }

  @Test func savedAndRestored() {
    #expect(shown("\u{1B}[5;6H\u{1B}[31m\u{1B}7\u{1B}[H\u{1B}[m\u{1B}8x").cell(4, 5).style.foreground == 1)
    #expect(shown("\u{1B}[5;6H\u{1B}[s\u{1B}[H\u{1B}[u").cursor == (4, 5))
    #expect(shown("\u{1B}[5;6H\u{1B}8").cursor == (0, 0))
    var screen = shown("main\u{1B}[?1049h")
    #expect(screen.isAlternate && screen.text(0) == "")
    screen.put("\u{1B}[Hother\u{1B}[31m")
    #expect(screen.text(0) == "other")
    screen.put("\u{1B}[?1049lx")
    #expect(screen.text(0) == "mainx")
    #expect(screen.cell(0, 4).style == .plain)
    // The alternate screen leaves nothing behind.
    screen.put("\u{1B}[?1049h")
    #expect(screen.text(0) == "")
    screen.put("\u{1B}c")
    #expect(!screen.isAlternate && screen.text(0) == "" && screen.cursor == (0, 0))
  }

  @Test func charactersOfAllSizes() {
    #expect(shown("añ€漢🙂b").text(0) == "añ€漢🙂b")
    #expect(shown("a漢b").cursor == (0, 4))
    // No half of one is left.
    #expect(shown("漢\r x").text(0) == " x")
    #expect(shown("漢\rx").text(0) == "x")
    #expect(shown("a漢\u{1B}[2G\u{1B}[P").text(0) == "a")
    #expect(shown("a漢b\u{1B}[3G\u{1B}[K").text(0) == "a")
    #expect(shown("\u{1B}[80G漢").text.prefix(2) == ["", "漢"])
    #expect(shown("e\u{301}x").text(0) == "ex")
    var screen = Screen(rows: 2, columns: 20, history: 0)
    // Too short, too long, a surrogate, beyond the end, bytes that never come.
    let bytes: [UInt8] = [
      0x61, 0xE2, 0x82, 0x62, 0xC0, 0xAF, 0xED, 0xA0, 0x80, 0xF4, 0x90, 0x80, 0x80, 0xFF, 0x63, 0xC3, 0x1B, 0x5B, 0x41, 0x64,
    ]
    screen.write(bytes.span)
    #expect(screen.text(0) == "a\u{FFFD}b\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}c\u{FFFD}d")
    #expect(shown("\u{1B}%@\u{1B}%Gé").text(0) == "é")
  }

  @Test func characterSets() {
    #expect(shown("\u{E}lqk\u{F}l").text(0) == "┌─┐l")
    #expect(shown("\u{1B}(0x\u{1B}(Bx").text(0) == "│x")
    #expect(shown("\u{1B}*0\u{1B}Nqq").text(0) == "─q")
    #expect(shown("\u{1B})A\u{E}#").text(0) == "£")
    #expect(shown("\u{1B}[11m\u{1}\u{1B}[10m\u{1}x").text(0) == "☺x")
    #expect(CodePage437.byte(0x2500) == 0xC4 && CodePage437.byte(0xE9) == 0x82 && CodePage437.byte(0x2501) == 0xC4)
    #expect(CodePage437.character(0xC4) == 0x2500)
    for byte in UInt8(32)...254 where byte != 0xFA && byte != 0xFF { #expect(CodePage437.byte(CodePage437.character(byte)) == byte) }
  }

  @Test func questionsAreAnswered() {
    var screen = Screen(rows: 10, columns: 40, history: 0)
    #expect(screen.answer("\u{1B}[c") == "\u{1B}[?6c")
    #expect(screen.answer("\u{1B}Z") == "\u{1B}[?6c")
    #expect(screen.answer("\u{1B}[5n") == "\u{1B}[0n")
    #expect(screen.answer("\u{1B}[3;7H\u{1B}[6n") == "\u{1B}[3;7R")
    #expect(screen.answer("\u{1B}[2;8r\u{1B}[?6h\u{1B}[6n") == "\u{1B}[1;1R")
    #expect(screen.answer("\u{1B}[18t") == "\u{1B}[8;10;40t")
    #expect(screen.answer("\u{1B}[0c\u{1B}[1c") == "\u{1B}[?6c")
    // However often: memory is not theirs.
    screen.put(String(repeating: "\u{1B}[c", count: 10000))
    let count = screen.takeReplies().count
    #expect(count <= 256)
    screen.put("\u{7}\u{7}")
    let bells = screen.takeBells()
    #expect(bells == 2)
  }

  @Test func modesAreKept() {
    let screen = shown("\u{1B}[?1h\u{1B}=\u{1B}[?2004h\u{1B}[?25l\u{1B}[?5h\u{1B}[2q\u{1B}[3q\u{1B}[10;440]\u{1B}[11;9999]\u{1B}[?6c")
    var wanted = Screen.Modes()
    wanted.applicationCursor = true
    wanted.applicationKeypad = true
    wanted.bracketsPaste = true
    wanted.showsCursor = false
    wanted.isReversed = true
    wanted.lights = 6
    wanted.bellPitch = 440
    wanted.bellDuration = 2000
    wanted.cursorShape = 6
    #expect(screen.modes == wanted)
    #expect(shown("\u{1B}[?1h\u{1B}[?25l\u{1B}[!p").modes == Screen.Modes())
    #expect(shown("\u{1B}[?1;25l\u{1B}c").modes == Screen.Modes())
  }

  @Test func whatIsNoSequenceShowsNothing() {
    for text in [
      "\u{1B}]0;a title\u{7}", "\u{1B}]0;a title\u{1B}\\", "\u{1B}Pdata\u{1B}\\", "\u{1B}_application\u{1B}\\", "\u{1B}^private\u{1B}\\",
      "\u{1B}[[A", "\u{1B}[1;2;3;4;5;6;7;8;9;10;11;12;13;14;15;16;17;18m", "\u{1B}[?1?2h", "\u{1B}[99999999999999999999X", "\u{1B}[1\u{18}",
      "\u{1B}[1;\u{1A}", "\u{1B}\u{1B}[m", "\u{1B}[>0q", "\u{1B}[ !x", "\u{1B}#3", "\u{1B}%/Z",
    ] {
      #expect(shown(text + "x").text(0) == "x", "\(text.debugDescription)")
    }
    // Controls act in the middle of a sequence.
    #expect(shown("ab\u{1B}[\r1Cx").text(0) == "ax")
    #expect(shown("\u{1B}]0;unfinished\u{1B}[5Gx").text(0) == "    x")
  }

  @Test func rowsThatChangedAreTold() {
    func dirty(_ screen: inout Screen) -> [Int] {
      var rows: [Int] = []
      screen.takeDirtyRows { rows.append($0) }
      return rows
    }
    var screen = Screen(rows: 5, columns: 10, history: 5)
    #expect(dirty(&screen) == [0, 1, 2, 3, 4])
    #expect(dirty(&screen) == [])
    screen.put("a\r\n\r\nb")
    #expect(dirty(&screen) == [0, 2])
    screen.put("\u{1B}[2;4H")
    #expect(dirty(&screen) == [])
    screen.put("\u{1B}[2;3r\u{1B}[3H\n")
    #expect(dirty(&screen) == [1, 2])
  }

  /// Random bytes, most of them in sequences: nothing traps, the cursor stays, and no character is cut in two.
  @Test(arguments: 1...UInt64(rounds(4, long: 50))) func anyBytesAreHarmless(seed: UInt64) {
    var random = RandomNumbers(seed)
    let favourites: [UInt8] = Array("\u{1B}[;:0129?HJKmhlrLMPX@STbcn()#%]q \n\r\t\u{8}\u{E}\u{F}".utf8) + [0xE6, 0xBC, 0xA2, 0xC3, 0xA9]
    var screen = Screen(rows: 1 + Int(random.next() % 30), columns: 1 + Int(random.next() % 90), history: Int(random.next() % 50))
    for _ in 0..<400 {
      let bytes = (0..<500).map { _ in
        let value = random.next()
        return value & 3 != 0 ? favourites[Int(value >> 8) % favourites.count] : UInt8(truncatingIfNeeded: value >> 8)
      }
      screen.write(bytes.span)
      screen.scrollBack(Int(random.next() % 20) - 10)
      _ = screen.takeReplies()
      screen.takeDirtyRows { _ in }
      #expect(
        screen.cursor.row >= 0 && screen.cursor.row < screen.rows && screen.cursor.column >= 0 && screen.cursor.column < screen.columns)
      for row in 0..<screen.rows {
        for column in 0..<screen.columns {
          let isHalf = screen.cell(row, column).character == 0
          let isWide = CharacterWidth.of(screen.cell(row, column).character) == 2
          if isHalf { #expect(column > 0 && CharacterWidth.of(screen.cell(row, column - 1).character) == 2) }
          if isWide { #expect(column + 1 < screen.columns && screen.cell(row, column + 1).character == 0) }
        }
      }
    }
  }
}
