import Terminal
import Testing

/// A glyph of the built-in font as text.
private func picture(_ character: UInt32) -> [String] {
  let font = Font.builtin
  let glyph = font.glyph(character)
  return (0..<font.height).map { row in
    String((0..<font.width).map { font.row(glyph, row) << UInt32($0) & 1 << 31 != 0 ? "#" : "." })
  }
}

private func points(_ character: UInt32) -> Int { picture(character).joined().count { $0 == "#" } }

@Test func lettersStandOnOneLine() {
  #expect(
    picture(0x41)[1..<13] == [
      "........", "..####..", ".#....#.", ".#....#.", ".#....#.", ".#....#.", ".######.", ".#....#.", ".#....#.", ".#....#.", ".#....#.",
      "........",
    ])
  for character in UInt32(0x41)...0x5A where character != 0x51 {
    #expect(picture(character)[2].contains("#") && picture(character)[11].contains("#"), "\(character)")
  }
}

@Test func everyCharacterHasItsOwnPicture() {
  var seen: [[String]: UInt32] = [:]
  for character in Array(UInt32(0x21)...0x7E) + Array(0xA1...0xFF) {
    let rows = picture(character)
    // Some are alike on purpose: a macron and a soft hyphen are lines.
    #expect(points(character) > 0)
    if let other = seen[rows], character != 0xAD { Issue.record("\(character) looks like \(other)") }
    seen[rows] = character
  }
}

@Test func marksAreAboveAndBelowTheirLetters() {
  // é has e's rows and an accent over them.
  #expect(Array(picture(0xE9)[5...]) == Array(picture(0x65)[5...]))
  #expect(picture(0xE9)[2] == "....#..." && picture(0xE9)[3] == "...#....")
  // Capitals have it higher, and the i has no dot beside it.
  #expect(picture(0xC9)[0] == "....#...")
  #expect(Array(picture(0xEC)[5...]) == Array(picture(0x131)[5...]))
  #expect(picture(0xE7)[12] == "...#....")
}

@Test func linesMeetAtTheEdges() {
  // Light: the fourth column and the eighth row.
  #expect(picture(0x2500) == (0..<16).map { $0 == 7 ? "########" : "........" })
  #expect(picture(0x2502).allSatisfy { $0 == "...#...." })
  #expect(picture(0x253C)[7] == "########" && picture(0x253C)[0] == "...#....")
  // Double ones stay open along all of their length.
  #expect(picture(0x2551).allSatisfy { $0 == "..#.#..." })
  #expect(picture(0x2550)[6] == "########" && picture(0x2550)[7] == "........" && picture(0x2550)[8] == "########")
  #expect(picture(0x256C)[7] == "........" && picture(0x256C)[6] == "###.####")
  #expect(picture(0x256B)[7] == "########")
  #expect(picture(0x255F)[7] == "..#.####")
  for character in UInt32(0x2500)...0x257F { #expect(points(character) > 0) }
}

@Test func blocksFillTheirPart() {
  #expect(points(0x2588) == 128)
  #expect(points(0x2580) == 64 && points(0x2584) == 64 && points(0x258C) == 64 && points(0x2590) == 64)
  #expect(points(0x2592) == 64)
  for eighth in UInt32(1)...8 { #expect(points(0x2580 + eighth) == Int(eighth) * 16) }
  #expect(points(0x259A) == 64 && picture(0x259A)[0] == "####...." && picture(0x259A)[15] == "....####")
  #expect(picture(0x259E)[0] == "....####" && picture(0x2599)[0] == "####....")
}

@Test func otherCharactersShowTheReplacement() {
  #expect(picture(0x65E5) == picture(0xFFFD))
  #expect(picture(7) == picture(0xFFFD))
}

@Test func fontsAreLoaded() {
  // Two glyphs of 12 by 3 points, four rows apart.
  let data: [UInt8] = [0x80, 0x10, 0xFF, 0xFF, 0x00, 0x00, 0xEE, 0xEE, 0x0F, 0xF0, 0, 0, 0, 0, 0xEE, 0xEE]
  var font = Font(width: 12, height: 3, count: 2, pitch: 4, data: data, map: nil)
  #expect(font?.row(0, 0) == 0x8010_0000)
  #expect(font?.row(0, 1) == 0xFFF0_0000)
  #expect(font?.row(1, 0) == 0x0FF0_0000)
  font?.setMap([(0x41, 1), (0x2500, 0), (0x42, 9)])
  #expect(font?.glyph(0x41) == 1)
  #expect(font?.glyph(0x2500) == 0)
  #expect(font?.map.count == 2)
  #expect(font?.data(pitch: 4).prefix(4) == [0x80, 0x10, 0xFF, 0xF0])
  for (width, height, count, pitch) in [(0, 3, 2, 4), (33, 3, 2, 4), (12, 5, 2, 4), (12, 3, 3, 4), (12, 3, 600, 4), (12, 3, 2, 40)] {
    #expect(Font(width: width, height: height, count: count, pitch: pitch, data: data, map: nil) == nil)
  }
}
