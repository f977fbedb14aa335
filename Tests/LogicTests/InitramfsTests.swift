import Foundation
import ImageKit
import Initramfs
import Testing

/// What comes out of an archive.
private struct Members: CpioSink {
  struct Member {
    var entry: CpioEntry
    var content: [UInt8] = []
  }
  var found: [Member] = []
  var areWhole = true
  mutating func begin(_ entry: CpioEntry) { found.append(Member(entry: entry)) }
  mutating func add(_ bytes: borrowing Span<UInt8>, _ range: Range<Int>) {
    var piece: [UInt8] = []
    for index in range { piece.append(bytes[index]) }
    found[found.count - 1].content += piece
  }
  mutating func end() { if found[found.count - 1].content.count != Int(found[found.count - 1].entry.size) { areWhole = false } }

  var names: [String] { found.map { String(decoding: $0.entry.name, as: UTF8.self) } }
}

private func read(_ bytes: [UInt8]) throws -> Members {
  var members = Members()
  try Initramfs.read(bytes.span, into: &members)
  return members
}

/// By the tool's own writer: text, noise, and what repeats far away.
private func archive() throws -> [UInt8] {
  var random = Seeded(state: 3)
  var tree = RootTree()
  tree.add(RootEntry(path: "/etc", kind: .directory, mode: 0o755))
  tree.add(RootEntry(path: "/etc/motd", kind: .data(Array("hello".utf8)), mode: 0o644))
  tree.add(RootEntry(path: "/empty", kind: .data([]), mode: 0o600, owner: 7, group: 8))
  tree.add(RootEntry(path: "/link", kind: .link("etc/motd"), mode: 0o777))
  let noise = (0..<40_000).map { _ in UInt8.random(in: 0...255, using: &random) }
  tree.add(RootEntry(path: "/noise", kind: .data(noise + noise[5000..<30_000] + noise), mode: 0o644))
  let words = (0..<20_000).flatMap { _ in Array("word\(Int.random(in: 0..<300, using: &random)) ".utf8) }
  tree.add(RootEntry(path: "/words", kind: .data(words), mode: 0o644))
  tree.add(RootEntry(path: "/zeros", kind: .data([UInt8](repeating: 0, count: 300_000)), mode: 0o644))
  return try CpioArchive.make(tree)
}

private func isWhole(_ members: Members, times: Int = 1) throws {
  let plain = try read(try archive())
  #expect(members.areWhole)
  #expect(members.names == [[String]](repeating: plain.names, count: times).flatMap { $0 })
  for (one, other) in zip(members.found, plain.found) { #expect(one.content == other.content) }
}

/// Runs a packer, or answers nil where there is none.
private func pack(_ bytes: [UInt8], _ command: [String]) throws -> [UInt8]? {
  let file = FileManager.default.temporaryDirectory.appendingPathComponent("pack-\(UUID().uuidString)")
  defer { try? FileManager.default.removeItem(at: file) }
  try Data(bytes).write(to: file)
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
  process.arguments = command + [file.path]
  let pipe = Pipe()
  process.standardOutput = pipe
  process.standardError = FileHandle.nullDevice
  try process.run()
  let out = [UInt8](pipe.fileHandleForReading.readDataToEndOfFile())
  process.waitUntilExit()
  return process.terminationStatus == 0 ? out : nil
}

@Test func plainArchives() throws {
  let bytes = try archive()
  let members = try read(bytes)
  #expect(members.names.contains("etc/motd") && members.names.contains("link"))
  let motd = try #require(members.found.first { $0.entry.name == Array("etc/motd".utf8) })
  #expect(motd.content == Array("hello".utf8) && motd.entry.mode == 0o100644)
  let empty = try #require(members.found.first { $0.entry.name == Array("empty".utf8) })
  #expect(empty.entry.owner == 7 && empty.entry.group == 8)
  // Several, with zeros between them.
  try isWhole(try read(bytes + [0, 0, 0, 0] + bytes), times: 2)
}

@Test func gzipArchives() throws {
  let bytes = try archive()
  for level in ["-1", "-6", "-9"] {
    let packed = try #require(try pack(bytes, ["gzip", "-n", "-c", level]))
    try isWhole(try read(packed))
    try isWhole(try read(packed + packed + [0, 0] + bytes), times: 3)
    for cut in [5, 20, packed.count / 2, packed.count - 3] { #expect(throws: InitramfsError.self) { try read(Array(packed[..<cut])) } }
    var bad = packed
    bad[packed.count - 6] ^= 1
    #expect(throws: InitramfsError.packed(.corrupt)) { try read(bad) }
  }
}

/// With what RFC 1952 has besides: a name, a comment, an extra field, a checksum of the header.
@Test func gzipHeaders() throws {
  let packed = try #require(try pack(try archive(), ["gzip", "-n", "-c"]))
  let fields = [3, 0, 1, 2, 3] + Array("name".utf8) + [0] + Array("comment".utf8) + [0, 0xAA, 0xBB]
  var bytes = Array(packed[..<10]) + fields.map { UInt8($0) } + packed[10...]
  bytes[3] = 2 | 4 | 8 | 16
  try isWhole(try read(bytes))
  bytes[3] = 0x20
  #expect(throws: InitramfsError.packed(.corrupt)) { try read(bytes) }
}

/// A packer without any wit: it knows runs of one byte only.
private func lz4(_ bytes: [UInt8]) -> [UInt8] {
  var block: [UInt8] = []
  func more(_ length: Int) -> [UInt8] {
    length < 15 ? [] : [UInt8](repeating: 255, count: (length - 15) / 255) + [UInt8((length - 15) % 255)]
  }
  /// Some bytes as they are, and the last of them so many times more.
  func add(_ literals: ArraySlice<UInt8>, _ copies: Int?) {
    let copy = copies.map { $0 - 4 } ?? 0
    block.append(UInt8(min(literals.count, 15)) << 4 | UInt8(min(copy, 15)))
    block += more(literals.count) + literals
    if copies != nil { block += [1, 0] + more(copy) }
  }
  var (start, at) = (0, 0)
  while at < bytes.count {
    var run = 1
    while at + run < bytes.count - 12, bytes[at + run] == bytes[at] { run += 1 }
    if run > 8 {
      add(bytes[start...at], run - 1)
      start = at + run
    }
    at += run
  }
  add(bytes[start...], nil)
  let size = (0..<4).map { UInt8(truncatingIfNeeded: block.count >> ($0 * 8)) }
  return [0x02, 0x21, 0x4C, 0x18] + size + block
}

@Test func lz4Archives() throws {
  let bytes = try archive()
  let packed = lz4(bytes)
  #expect(packed.count < bytes.count)
  try isWhole(try read(packed))
  try isWhole(try read(packed + packed + [0, 0, 0, 0]), times: 2)
  #expect(throws: InitramfsError.self) { try read(Array(packed[..<(packed.count / 2)])) }
  // By the real packer, where there is one.
  if let real = try pack(bytes, ["lz4", "-l", "-9", "-c", "-q"]) { try isWhole(try read(real)) }
}

/// Flipped bits and cut ends of archives, plain and packed: some members, or an error.
@Test func damagedArchivesAreErrors() throws {
  var random = Seeded(state: 5)
  var small = RootTree()
  for name in ["a", "b", "c"] {
    small.add(RootEntry(path: "/" + name, kind: .data(Array((name + " is here, here, here and here").utf8)), mode: 0o644))
  }
  let plain = try CpioArchive.make(small)
  let packed = try #require(try pack(plain, ["gzip", "-n", "-c"]))
  for round in 0..<rounds(9000, long: 60000) {
    var bad = [plain, packed, lz4(plain)][round % 3]
    for _ in 0..<Int.random(in: 1...5, using: &random) {
      bad[Int.random(in: 0..<bad.count, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
    }
    if round % 7 == 0 { bad.removeLast(Int.random(in: 0..<bad.count, using: &random)) }
    if let members = try? read(bad) { #expect(members.found.count <= 100) }
  }
}
