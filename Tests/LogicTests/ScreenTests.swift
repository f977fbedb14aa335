import Terminal
import Testing

@Suite struct TextScreenTests {
  func shown(_ text: String) -> TextScreen {
    var screen = TextScreen()
    for byte in text.utf8 { screen.put(byte) }
    return screen
  }

  func row(_ screen: TextScreen, _ row: Int) -> String {
    let cells = screen.cells[(row * TextScreen.columns)..<((row + 1) * TextScreen.columns)]
    var text = String(decoding: cells.map { UInt8($0 & 0xFF) }, as: UTF8.self)
    while text.last == " " { text.removeLast() }
    return text
  }

  @Test func controlCharactersMoveTheCursor() {
    let screen = shown("abc\rX\n\tY\u{8}Z")
    #expect(row(screen, 0) == "Xbc")
    #expect(row(screen, 1) == "        Z")
    #expect(screen.cursor == TextScreen.columns + 9)
  }

  @Test func aFullLineWrapsOnlyWhenMoreComes() {
    let line = String(repeating: "x", count: 80)
    #expect(shown(line).cursor == 79)
    let screen = shown(line + "y")
    #expect(row(screen, 1) == "y")
    #expect(row(shown(line + "\r\nz"), 1) == "z")
  }

  @Test func theLastLineScrolls() {
    let screen = shown((0..<30).map { "line \($0)\r\n" }.joined())
    #expect(row(screen, 0) == "line 6")
    #expect(row(screen, 23) == "line 29")
    #expect(row(screen, 24) == "")
  }

  @Test func sequencesMoveAndErase() {
    #expect(row(shown("hello\u{1B}[3D\u{1B}[K"), 0) == "he")
    #expect(row(shown("one\u{1B}[2J\u{1B}[Htwo"), 0) == "two")
    #expect(shown("\u{1B}[5;10H").cursor == 4 * 80 + 9)
    #expect(shown("\u{1B}[999;999H").cursor == 25 * 80 - 1)
    #expect(shown("\u{1B}[31;1mr").cells[0] == 0x0C00 | 0x72)
    #expect(shown("\u{1B}[44mb").cells[0] == 0x1700 | 0x62)
  }

  /// 200,000 random bytes, biased towards sequences: nothing traps and the cursor stays on the screen.
  @Test(arguments: 1...4) func anyBytesAreHarmless(seed: UInt64) {
    var state = seed
    var screen = TextScreen()
    let favourites: [UInt8] = [27, 0x5B, 0x3B, 0x30, 0x39, 0x48, 0x4A, 0x4B, 0x6D, 10, 13, 9, 8]
    for _ in 0..<200_000 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      let value = UInt8(truncatingIfNeeded: state >> 33)
      screen.put(value & 1 == 0 ? favourites[Int(value >> 1) % favourites.count] : UInt8(truncatingIfNeeded: state >> 41))
      #expect(screen.cursor >= 0 && screen.cursor < screen.cells.count)
    }
    if let dirty = screen.takeDirty() { #expect(dirty.lowerBound >= 0 && dirty.upperBound <= screen.cells.count) }
    #expect(screen.takeDirty() == nil)
  }
}

@Suite struct ScanCodeTests {
  func typed(_ codes: [UInt8]) -> String {
    var keyboard = ScanCodes()
    return String(decoding: codes.flatMap { keyboard.receive($0) }, as: UTF8.self)
  }

  @Test func lettersShiftControlAndCapsLock() {
    #expect(typed([0x1E, 0x9E]) == "a")
    #expect(typed([0x2A, 0x1E, 0x9E, 0xAA, 0x30]) == "Ab")
    #expect(typed([0x1D, 0x2E, 0xAE, 0x9D, 0x2E]) == "\u{3}c")
    #expect(typed([0x3A, 0xBA, 0x1E, 0x02]) == "A1")
    #expect(typed([0x38, 0x30]) == "\u{1B}b")
  }

  @Test func specialKeysSendSequences() {
    #expect(typed([0xE0, 0x48, 0xE0, 0xC8]) == "\u{1B}[A")
    #expect(typed([0xE0, 0x53]) == "\u{1B}[3~")
    #expect(typed([0x1C, 0x0E]) == "\r\u{7F}")
    // A fake shift that the keyboard sends around arrows is no shift.
    #expect(typed([0xE0, 0x2A, 0xE0, 0x4B, 0x1E]) == "\u{1B}[Da")
  }
}
