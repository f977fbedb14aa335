import FAT
import Primitives
import Testing

private func name(_ text: String) -> FATName? { FATName(Array(text.utf8)) }
private func text(_ name: FATShortName) -> String { String(decoding: (0..<11).map { name[$0] }, as: UTF8.self) }

@Test func fatTimes() {
  #expect(FATTime(nanoseconds: 315_532_800_000_000_000) == FATTime(date: 0x21, time: 0))  // 1980-01-01
  #expect(FATTime(nanoseconds: 0) == FATTime(date: 0x21, time: 0))
  #expect(FATTime(nanoseconds: -1) == FATTime(date: 0x21, time: 0))
  // 2024-02-29 23:59:59.87
  let leap = FATTime(nanoseconds: 1_709_251_199_870_000_000)
  #expect(leap == FATTime(date: 44 << 9 | 2 << 5 | 29, time: 23 << 11 | 59 << 5 | 29, hundredths: 187))
  #expect(leap.nanoseconds == 1_709_251_199_870_000_000)
  #expect(FATTime(nanoseconds: .max) == FATTime(date: 127 << 9 | 12 << 5 | 31, time: 23 << 11 | 59 << 5 | 29, hundredths: 199))
  for day in stride(from: Int64(3652), through: 50402, by: 1) {
    let moment = (day * 86400 + 12345) * 1_000_000_000
    #expect(FATTime(nanoseconds: moment).nanoseconds == moment)
  }
  // What no calendar has is some day all the same.
  for date in UInt16.min...UInt16.max where date % 7 == 0 { _ = FATTime(date: date, time: .max, hundredths: .max).nanoseconds }
}

@Test func fatText() {
  for text in ["plain", "ünïcode", "名前", "🐧 pair", ""] {
    #expect(FATText.utf16(Array(text.utf8)) == Array(text.utf16))
    #expect(FATText.utf8(Array(text.utf16)) == Array(text.utf8))
  }
  for bad: [UInt8] in [[0xFF], [0xC3], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xE0, 0x80, 0x80], [0x80]] {
    #expect(FATText.utf16(bad) == nil)
  }
  #expect(FATText.utf8([0xD800, 0x41]) == Array("\u{FFFD}A".utf8))
  #expect(FATText.utf8([0xDC00]) == Array("\u{FFFD}".utf8))
  #expect(FATText.utf8([0x41, 0xD800]) == Array("A\u{FFFD}".utf8))
}

@Test func fatNames() throws {
  for bad in ["", ".", "..", "...", "a/b", "a*", "?", "a\u{1}", "a:b", "<", ">", "|", "\"", "\\", String(repeating: "n", count: 256)] {
    #expect(name(bad) == nil)
  }
  #expect(name("dots...")?.units == Array("dots".utf16))
  #expect(name(String(repeating: "n", count: 255))?.slots(isLong: true) == 21)
  #expect(name("ÜMLAUT straße")?.matches(Array("ümlaut STRAßE".utf16)) == true)
  #expect(name("a")?.matches(Array("b".utf16)) == false)
  for (long, short) in ["README.TXT": "README  TXT", "A": "A          ", "ABCDEFGH.IJK": "ABCDEFGHIJK", "X~1": "X~1        "] {
    #expect(try #require(name(long)?.exactShortName.map(text)) == short)
  }
  for long in ["readme.txt", "A B", "A.B.C", ".BASHRC", "ABCDEFGHI", "A.HTML", "A+B", "Ü", "A."] where long != "A." {
    #expect(name(long)?.exactShortName == nil)
  }
  let aliases = [
    "readme.txt": "README  TXT", ".bashrc": "BASHRC~1   ", "a long name.text": "ALONGN~1TEX", "名前.dat": "__~1    DAT",
    "a+b.c": "A_B~1   C  ",
    "two.dots.txt": "TWODOT~1TXT", "     ": "_~1        ",
  ]
  for (long, short) in aliases { #expect(try #require(name(long)?.aliases(round: 0).first.map(text)) == short) }
  // There are enough of them, and each round has others.
  let first = try #require(name("some long name.txt")).aliases(round: 0)
  let second = try #require(name("some long name.txt")).aliases(round: 1)
  #expect(first.count == 13)
  #expect(Set(first.map(text)).count == 13)
  #expect(Set(first.map(text)).isDisjoint(with: second.map(text)))
}

/// A directory's records in order.
private func entries(_ bytes: [UInt8]) -> [(slots: Range<UInt32>, name: String)] {
  var scanner = FATDirectoryScanner()
  var result: [(slots: Range<UInt32>, name: String)] = []
  var offset = 0
  while offset + 32 <= bytes.count {
    switch scanner.next(bytes.span, at: offset) {
    case .entry(let entry): result.append((entry.slots, String(decoding: entry.name, as: UTF16.self)))
    case .end: return result
    case .none, .free: break
    }
    offset += 32
  }
  return result
}

private func directory(_ names: [String]) throws -> [UInt8] {
  var bytes: [UInt8] = []
  for text in names {
    let name = try #require(FATName(Array(text.utf8)))
    let short = name.exactShortName ?? name.aliases(round: 0)[0]
    let slots = Int(name.slots(isLong: name.exactShortName == nil))
    var part = [UInt8](repeating: 0xAA, count: slots * 32)
    var out = part.mutableSpan
    if slots > 1 {
      for index in 0..<(slots - 1) {
        name.encodePart(UInt32(index), checksum: short.checksum, into: &out, at: (slots - 2 - index) * 32)
      }
    }
    FATRecord(name: short, attributes: FATRecord.archive).encode(into: &out, at: (slots - 1) * 32)
    bytes += part
  }
  return bytes + [UInt8](repeating: 0, count: 64)
}

@Test func fatDirectories() throws {
  let names = ["README.TXT", "thirteen char", "a name of fourteen characters and many more", "名前 🐧", String(repeating: "x", count: 255)]
  var bytes = try directory(names)
  let found = entries(bytes)
  #expect(found.map(\.name) == names)
  #expect(found.map(\.slots.count) == [1, 2, 5, 2, 21])
  // Without its first part a name is nothing; the short one is left.
  bytes[32] = FATRecord.deleted
  #expect(entries(bytes)[1].name == "THIRTE~1")
  #expect(entries(bytes)[1].slots == 2..<3)
  // Nor with another's checksum.
  bytes = try directory(["a longer name"])
  bytes[13] ^= 1
  #expect(entries(bytes).map(\.name) == ["ALONGE~1"])
  // What a path could not hold is not shown.
  bytes = try directory(["a longer name"])
  bytes[1] = UInt8(ascii: "/")
  #expect(entries(bytes).map(\.name) == ["ALONGE~1"])
}

@Test func fatRecords() {
  var record = FATRecord(name: FATShortName(base: 0x2020_2020_4548_5405, suffix: 0x20_2041), attributes: FATRecord.directory)
  record.smallLetters = 8
  record.creation = FATTime(nanoseconds: 1_709_251_199_870_000_000)
  record.modification = FATTime(date: 0x1234, time: 0x5678)
  record.cluster = 0x0ABC_DEF0
  record.size = 0xFFFF_FFFF
  var bytes = [UInt8](repeating: 0, count: 40)
  var out = bytes.mutableSpan
  record.encode(into: &out, at: 8)
  let back = FATRecord(bytes.span, at: 8)
  #expect(back == record)
  #expect(back.shownName == Array("σthe.A".utf16))  // 0x05 stands for 0xE5, which code page 437 has as this
}

@Test func fatChains() {
  var chain = FATChain()
  for cluster: UInt32 in [5, 6, 7, 20, 21, 3] { chain.append(cluster) }
  #expect(chain.runCount == 3)
  #expect((0..<7).map { chain[$0] } == [5, 6, 7, 20, 21, 3, nil])
  #expect(chain.index(of: 21) == 4)
  #expect(chain.index(of: 8) == nil)
  #expect(chain.last == 3)
  #expect(chain.cut(to: 2) == [7..<8, 20..<22, 3..<4])
  #expect(chain.count == 2)
  #expect(chain.cut(to: 5) == [])
  #expect(chain.cut(to: 0) == [5..<7])
  #expect(chain.last == nil)
}

/// The boot sector of a FAT16 volume of 16 MiB with clusters of 2 KiB.
private func bootSector() -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: 512)
  var out = bytes.mutableSpan
  out.put16(512, at: 11)
  out[13] = 4
  out.put16(1, at: 14)
  out[16] = 2
  out.put16(512, at: 17)
  out.put16(32768, at: 19)
  out[21] = 0xF8
  out.put16(32, at: 22)
  return bytes
}

private func geometry(_ bytes: [UInt8]) throws(FATError) -> FATGeometry { try FATGeometry(bytes.span) }

@Test func fatGeometry() throws {
  let shape = try geometry(bootSector())
  #expect(shape.kind == .fat16)
  #expect(shape.tables == 0..<2)
  #expect(shape.rootSectors == 65..<97)
  #expect(shape.clusterCount == (32768 - 97) / 4)
  #expect(shape.firstSector(of: 2) == 97)
  #expect(shape.link(0) == .free)
  #expect(shape.link(1) == .bad)
  #expect(shape.link(0xFFF8) == .end)
  #expect(shape.link(100) == .next(100))
  // A table that is too short for the volume is what counts.
  var bytes = bootSector()
  bytes[22] = 1
  #expect(try geometry(bytes).clusterCount == 254)
  for (offset, value): (Int, UInt8) in [(11, 1), (13, 3), (14, 0), (16, 0), (21, 1), (12, 0x20)] {
    bytes = bootSector()
    bytes[offset] = value
    #expect(throws: FATError.notFAT) { try geometry(bytes) }
  }
  for (offset, value): (Int, UInt8) in [(20, 0), (17, 1), (23, 0xFF)] {
    bytes = bootSector()
    bytes[offset] = value
    #expect(throws: FATError.corrupt) { try geometry(bytes) }
  }
}

/// Any bytes are some volume or none, and some directory.
@Test func fatHostileBytes() {
  var random = SystemNumbers(state: 42)
  for _ in 0..<20_000 {
    var bytes = bootSector()
    for _ in 0..<Int.random(in: 1...8, using: &random) {
      bytes[Int.random(in: 0..<90, using: &random)] = .random(in: 0...255, using: &random)
    }
    guard let shape = try? geometry(bytes) else { continue }
    #expect(shape.clusterCount > 0)
    #expect(shape.firstSector(of: shape.endCluster) >= UInt64(shape.dataStart))
    // Every entry is inside its table, every table before the data.
    let last = shape.entryOffset(shape.endCluster - 1) + (shape.kind == .fat32 ? 4 : 2)
    #expect(last <= UInt64(shape.tableSectors) * 512)
    #expect(shape.tableStart + shape.allTableSectors <= shape.dataStart)
  }
  for _ in 0..<5_000 {
    let bytes = (0..<1024).map { index in
      // Mostly parts of long names.
      index % 32 == 11 && Bool.random(using: &random) ? 15 : UInt8.random(in: 0...255, using: &random)
    }
    for entry in entries(bytes) { #expect(!entry.name.contains("/") || entry.slots.count == 1) }
  }
}

private struct SystemNumbers: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return state ^ state >> 33
  }
}
