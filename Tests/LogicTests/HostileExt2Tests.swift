import Ext2
import Foundation
import ImageKit
import Testing

/// An ext2 image, as far as one can see without the kernel: every step goes through the code that the kernel has for it.
private struct Ext2Walk {
  var bytes: [UInt8]
  var visited = 0
  var entries = 0
  var attributes = 0

  /// Looks at all that the root leads to through direct blocks. An image that does not make sense ends it.
  mutating func walk() {
    guard bytes.count >= 2048, let superblock = try? Ext2Superblock(bytes[1024..<2048].span) else { return }
    var groups: [Ext2Group] = []
    for index in 0..<Int(min(superblock.groupCount, 64)) {
      let at = Int(superblock.descriptorBlock) * superblock.blockSize + index * Ext2Group.size
      guard at + Ext2Group.size <= bytes.count, let group = Ext2Group(bytes.span, at: at, superblock) else { return }
      groups.append(group)
    }
    directory(2, superblock, groups, depth: 0)
  }

  private func inode(_ number: UInt32, _ superblock: Ext2Superblock, _ groups: [Ext2Group]) -> (record: Ext2InodeRecord, offset: Int)? {
    guard number >= 1, number <= superblock.inodeCount else { return nil }
    let (group, index) = ((number - 1) / superblock.inodesPerGroup, (number - 1) % superblock.inodesPerGroup)
    guard Int(group) < groups.count else { return nil }
    let block = groups[Int(group)].inodeTable + index / superblock.inodesPerBlock
    let offset = Int(block) * superblock.blockSize + Int(index % superblock.inodesPerBlock * superblock.inodeSize)
    guard offset + Int(superblock.inodeSize) <= bytes.count else { return nil }
    return (Ext2InodeRecord(bytes.span, at: offset), offset)
  }

  private mutating func directory(_ number: UInt32, _ superblock: Ext2Superblock, _ groups: [Ext2Group], depth: Int) {
    visited += 1
    guard depth < 5, visited < 500, let (record, _) = inode(number, superblock, groups), record.mode & 0xF000 == 0x4000 else { return }
    for index in 0..<12 {
      let block = record.blocks[index]
      let start = Int(block) * superblock.blockSize
      guard superblock.isDataBlock(block), start + superblock.blockSize <= bytes.count else { continue }
      let range = start..<(start + superblock.blockSize)
      _ = Ext2DirectoryBlock.isEmpty(bytes.span, in: range)
      var offset = start
      while let entry = Ext2DirectoryBlock.entry(bytes.span, at: offset, in: range) {
        entries += 1
        let name = Ext2DirectoryBlock.name(bytes.span, entry)
        if name != [46], name != [46, 46] { file(entry.inode, superblock, groups, depth: depth) }
        if name.first == 110 { change(name, range) }
        offset += entry.length
      }
    }
  }

  private mutating func file(_ number: UInt32, _ superblock: Ext2Superblock, _ groups: [Ext2Group], depth: Int) {
    guard let (record, offset) = inode(number, superblock, groups) else { return }
    _ = record.inlineTarget
    if let inside = Ext2AttributeBlock.decode(bytes.span, inodeAt: offset, size: Int(superblock.inodeSize)) { attributes += inside.count }
    let start = Int(record.fileACL) * superblock.blockSize
    if superblock.isDataBlock(record.fileACL), start + superblock.blockSize <= bytes.count {
      attributes += Ext2AttributeBlock.decode(bytes[start..<(start + superblock.blockSize)].span)?.count ?? 0
    }
    directory(number, superblock, groups, depth: depth + 1)
  }

  /// In a copy: what is looked at stays.
  private func change(_ name: [UInt8], _ range: Range<Int>) {
    var copy = Array(bytes[range])
    var out = copy.mutableSpan
    _ = Ext2DirectoryBlock.remove(name, &out, in: 0..<range.count)
    _ = Ext2DirectoryBlock.insert([120] + name, inode: 12, type: 1, &out, in: 0..<range.count)
  }
}

/// Bits flipped and ends cut off where it matters: an answer each time.
@Test func hostileExt2() throws {
  var tree = RootTree()
  for folder in ["", "/n", "/n/a"] {
    for number in 0..<20 {
      tree.add(RootEntry(path: folder + "/n\(number)", kind: number == 0 ? .directory : .data([1, 2, 3]), mode: 0o644))
    }
  }
  tree.add(RootEntry(path: "/nl", kind: .link("somewhere else"), mode: 0o777))
  let file = FileManager.default.temporaryDirectory.appendingPathComponent("hostile-\(UUID().uuidString).ext2")
  defer { try? FileManager.default.removeItem(at: file) }
  try Ext2Image(time: 1_700_000_000, label: "hostile", size: 2 << 20).write(tree, to: file.path)
  var walk = Ext2Walk(bytes: [UInt8](try Data(contentsOf: file)))
  walk.walk()
  #expect(walk.entries > 60)
  // Where there is something at all, a word each.
  let used = stride(from: 0, to: walk.bytes.count, by: 4).filter { at in (at..<(at + 4)).contains { walk.bytes[$0] != 0 } }
  var random = Seeded(state: 77)
  let good = walk.bytes
  // Numbers at their ends, in the superblock and the first group's descriptor.
  for at in stride(from: 1024, to: 2048 + 32, by: 2) {
    for value in [0, 1, 0x1_0000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_0000, 0xFFFF_FFFF] as [UInt32] {
      for count in [2, 4] {
        for index in 0..<count { walk.bytes[at + index] = UInt8(truncatingIfNeeded: value >> UInt32(8 * (4 - count + index))) }
        (walk.visited, walk.entries, walk.attributes) = (0, 0, 0)
        walk.walk()
        walk.bytes.replaceSubrange(at..<(at + count), with: good[at..<(at + count)])
      }
    }
  }
  for _ in 0..<rounds(2000, long: 20000) {
    var undo: [(Int, UInt8)] = []
    for _ in 0..<Int.random(in: 1...6, using: &random) {
      let at = used.randomElement(using: &random)! + Int.random(in: 0..<4, using: &random)
      undo.append((at, walk.bytes[at]))
      let flipped = walk.bytes[at] ^ 1 << UInt8.random(in: 0..<8, using: &random)
      walk.bytes[at] = Bool.random(using: &random) ? .random(in: 0...255, using: &random) : flipped
    }
    let cut = Int.random(in: 0..<20, using: &random) == 0 ? Int.random(in: 0..<walk.bytes.count, using: &random) : walk.bytes.count
    let end = Array(walk.bytes[cut...])
    walk.bytes.removeSubrange(cut...)
    (walk.visited, walk.entries, walk.attributes) = (0, 0, 0)
    walk.walk()
    walk.bytes += end
    for (at, byte) in undo.reversed() { walk.bytes[at] = byte }
  }
  #expect(walk.bytes == good)
}
