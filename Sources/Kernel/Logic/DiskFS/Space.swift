/// Which blocks of a volume are in use.
///
/// A block that is given back is free in what the next commit writes, but what is on the disk still needs it: it is held until that
/// commit is over. One that content is being written to is held, too, and not in use before it is some file's: a commit in between
/// must not make it nobody's.
final class DiskSpace {
  enum Use { case tree, content }

  let blocks: UInt32
  /// A bit for each block that is in use, and one for each that is held.
  private var used: [UInt32]
  private var held: [UInt32]
  private(set) var freeCount: UInt32 = 0
  private(set) var heldCount: UInt32 = 0
  /// Given back since the last commit began, and before that.
  private var givenBack: [Range<UInt32>] = []
  private var beforeCommit: [Range<UInt32>] = []
  /// Groups whose items are not up to date.
  private var dirtyGroups: [Bool]
  /// Something was in use that is not marked so.
  private(set) var isInconsistent = false
  /// Where the search goes on, for nodes and for content.
  private var cursors: [UInt32]

  private static var wordsPerGroup: Int { Int(DiskFormat.groupBlocks / 32) }

  var groups: Int { dirtyGroups.count }

  /// All free but what no volume may use.
  init(blocks: UInt32) {
    self.blocks = blocks
    let groups = Int((UInt64(blocks) + UInt64(DiskFormat.groupBlocks) - 1) / UInt64(DiskFormat.groupBlocks))
    used = Array(repeating: 0, count: groups * Self.wordsPerGroup)
    held = used
    dirtyGroups = Array(repeating: true, count: groups)
    cursors = [DiskFormat.firstBlock, blocks / 8]
    for block in 0..<DiskFormat.firstBlock { mark(block) }
    let end = UInt32(truncatingIfNeeded: min(UInt64(groups) * UInt64(DiskFormat.groupBlocks), UInt64(UInt32.max)))
    for block in blocks..<max(end, blocks) { mark(block) }
    count()
  }

  private func mark(_ block: UInt32) { used[Int(block >> 5)] |= 1 << (block & 31) }

  private func count() {
    freeCount = UInt32(truncatingIfNeeded: used.count * 32) - used.reduce(0) { $0 + UInt32($1.nonzeroBitCount) }
  }

  /// Blocks that can be had now.
  var available: UInt32 { freeCount - heldCount }

  func isUsed(_ block: UInt32) -> Bool { used[Int(block >> 5)] >> (block & 31) & 1 != 0 }

  /// Takes a group's item in. Throws `corrupt` when it frees what must be in use.
  func load(_ group: Int, _ bytes: [UInt8]) throws(DiskFSError) {
    guard group < groups, bytes.count == Self.wordsPerGroup * 4 else { throw .corrupt }
    for index in 0..<Self.wordsPerGroup {
      var word: UInt32 = 0
      for byte in 0..<4 { word |= UInt32(bytes[index * 4 + byte]) << UInt32(byte * 8) }
      let at = group * Self.wordsPerGroup + index
      guard word & used[at] == used[at] else { throw .corrupt }
      used[at] = word
    }
    dirtyGroups[group] = false
  }

  /// All groups have been taken in.
  func finishLoading() throws(DiskFSError) {
    if dirtyGroups.contains(true) { throw .corrupt }
    count()
  }

  var hasDirtyGroups: Bool { dirtyGroups.contains(true) }

  /// The item of a group that has changed since it was last asked for.
  func takeDirtyGroup() -> (group: Int, bytes: [UInt8])? {
    guard let group = dirtyGroups.firstIndex(of: true) else { return nil }
    dirtyGroups[group] = false
    var bytes: [UInt8] = []
    bytes.reserveCapacity(Self.wordsPerGroup * 4)
    for word in used[(group * Self.wordsPerGroup)..<((group + 1) * Self.wordsPerGroup)] {
      for shift in stride(from: UInt32(0), to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: word >> shift)) }
    }
    return (group, bytes)
  }

  /// At most `count` blocks in a row, near where the last ones for this use were, or at `goal`; nil when there is none.
  func allocate(_ count: UInt32, for use: Use, near goal: UInt32? = nil) -> Range<UInt32>? {
    guard available > 0, count > 0 else { return nil }
    let cursor = use == .tree ? 0 : 1
    let start = goal ?? cursors[cursor]
    guard let first = nextFree(from: start < blocks ? start : 0) ?? nextFree(from: 0) else { return nil }
    var end = first
    while end < blocks, end - first < count, isFree(end) { end += 1 }
    if use == .tree {
      take(first..<end)
    } else {
      for block in first..<end { hold(block) }
    }
    cursors[cursor] = end
    return first..<end
  }

  private func hold(_ block: UInt32) {
    held[Int(block >> 5)] |= 1 << (block & 31)
    heldCount += 1
  }

  private func letGo(_ block: UInt32) {
    held[Int(block >> 5)] &= ~(1 << (block & 31))
    heldCount -= 1
  }

  private func take(_ range: Range<UInt32>) {
    for block in range {
      mark(block)
      dirtyGroups[Int(block / DiskFormat.groupBlocks)] = true
    }
    freeCount -= UInt32(range.count)
  }

  /// Blocks for content are some file's from now on.
  func use(_ range: Range<UInt32>) {
    for block in range { letGo(block) }
    take(range)
  }

  /// Blocks for content are not needed.
  func giveBack(_ range: Range<UInt32>) { for block in range { letGo(block) } }

  private func isFree(_ block: UInt32) -> Bool { (used[Int(block >> 5)] | held[Int(block >> 5)]) >> (block & 31) & 1 == 0 }

  private func nextFree(from start: UInt32) -> UInt32? {
    var index = Int(start >> 5)
    var word = ~(used[index] | held[index]) & (UInt32.max << (start & 31))
    while word == 0 {
      index += 1
      if index == used.count { return nil }
      word = ~(used[index] | held[index])
    }
    return UInt32(truncatingIfNeeded: index) << 5 + UInt32(word.trailingZeroBitCount)
  }

  /// Gives blocks back. What is not in use is not given back: the volume is corrupt.
  func free(_ range: Range<UInt32>) {
    for block in range {
      guard release(block) else { continue }
      hold(block)
      if let last = givenBack.last, last.upperBound == block {
        givenBack[givenBack.count - 1] = last.lowerBound..<(block + 1)
      } else {
        givenBack.append(block..<(block + 1))
      }
    }
  }

  private func release(_ block: UInt32) -> Bool {
    guard block >= DiskFormat.firstBlock, block < blocks, isUsed(block) else {
      isInconsistent = true
      return false
    }
    used[Int(block >> 5)] &= ~(1 << (block & 31))
    dirtyGroups[Int(block / DiskFormat.groupBlocks)] = true
    freeCount += 1
    return true
  }

  func beginCommit() {
    beforeCommit += givenBack
    givenBack = []
  }

  /// What was given back before the commit began can be had again.
  func endCommit() {
    for range in beforeCommit {
      for block in range { letGo(block) }
    }
    beforeCommit = []
  }
}
