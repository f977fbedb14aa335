import Ext2
import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// Blocks and inodes: bitmaps, and the tree of a file's blocks.
extension Ext2FS {
  /// Takes the first clear bit of a bitmap at or after `start`, wrapping around; nil when all `count` are set.
  private func takeBit(_ block: UInt32, count: UInt32, start: UInt32) throws(Errno) -> UInt32? {
    try changeAllocation(block) { bytes in
      var bit = start < count ? start : 0
      var left = count
      while left > 0 {
        let index = Int(bit >> 3)
        if bit & 7 == 0, bytes[index] == 0xFF {
          let skip = min(8, min(left, count - bit))
          bit += skip
          left -= skip
          if bit >= count { bit = 0 }
          continue
        }
        if bytes[index] & 1 << UInt8(bit & 7) == 0 {
          bytes[index] |= 1 << UInt8(bit & 7)
          return bit
        }
        bit += 1
        left -= 1
        if bit >= count { bit = 0 }
      }
      return nil
    }
  }

  /// Clears a bit; false when it was clear already (a corrupt file system).
  private func clearBit(_ block: UInt32, _ bit: UInt32) throws(Errno) -> Bool {
    try changeAllocation(block) { bytes in
      let index = Int(bit >> 3)
      let was = bytes[index] & 1 << UInt8(bit & 7) != 0
      bytes[index] &= ~(1 << UInt8(bit & 7))
      return was
    }
  }

  /// A free block, near `goal` if possible. Throws `noSpace`.
  func allocateBlock(near goal: UInt32) throws(Errno) -> UInt32 {
    do throws(Errno) { return try takeBlock(near: goal) } catch {
      guard error == .noSpace, retiredBlockCount > 0 else { throw error }
      try commit()
      return try takeBlock(near: goal)
    }
  }

  private func takeBlock(near goal: UInt32) throws(Errno) -> UInt32 {
    try groups.withLock { groups throws(Errno) in
      let start = superblock.isDataBlock(goal) ? goal - superblock.firstDataBlock : 0
      let firstGroup = start / superblock.blocksPerGroup
      let free = groups.reduce(0) { $0 &+ UInt32($1.freeBlocks) }
      if free == 0 { throw .noSpace }
      for distance in 0..<superblock.groupCount {
        let group = (firstGroup + distance) % superblock.groupCount
        guard groups[Int(group)].freeBlocks > 0 else { continue }
        let from = distance == 0 ? start % superblock.blocksPerGroup : 0
        guard let bit = try takeBit(groups[Int(group)].blockBitmap, count: superblock.blocks(inGroup: group), start: from)
        else { continue }
        groups[Int(group)].takeBlock()
        return superblock.firstDataBlock + group * superblock.blocksPerGroup + bit
      }
      throw .noSpace
    }
  }

  func freeBlock(_ block: UInt32) throws(Errno) {
    guard superblock.isDataBlock(block) else { throw fault("something leads to block \(block)") }
    try groups.withLock { groups throws(Errno) in
      let index = block - superblock.firstDataBlock
      let group = Int(index / superblock.blocksPerGroup)
      if try clearBit(groups[group].blockBitmap, index % superblock.blocksPerGroup) { groups[group].freeBlock() }
    }
  }

  /// A free inode number: directories spread over the groups, files stay near their directory.
  func allocateInode(near parent: UInt32, isDirectory: Bool) throws(Errno) -> UInt32 {
    do throws(Errno) { return try takeInode(near: parent, isDirectory: isDirectory) } catch {
      guard error == .noSpace, retired.withLock({ !$0.inodes.isEmpty }) else { throw error }
      try sync()
      return try takeInode(near: parent, isDirectory: isDirectory)
    }
  }

  private func takeInode(near parent: UInt32, isDirectory: Bool) throws(Errno) -> UInt32 {
    try groups.withLock { groups throws(Errno) in
      var firstGroup = (parent - 1) / superblock.inodesPerGroup
      if isDirectory {
        // The group with the fewest directories among those with room: Orlov's rule without its debts.
        var best: Int?
        for index in groups.indices where groups[index].freeInodes > 0 && groups[index].freeBlocks > 0 {
          if best == nil || groups[index].directories < groups[best!].directories { best = index }
        }
        if let best { firstGroup = UInt32(best) }
      }
      for distance in 0..<superblock.groupCount {
        let group = (firstGroup + distance) % superblock.groupCount
        guard groups[Int(group)].freeInodes > 0 else { continue }
        let start = group == 0 ? superblock.firstInode - 1 : 0
        guard let bit = try takeBit(groups[Int(group)].inodeBitmap, count: superblock.inodesPerGroup, start: start) else { continue }
        groups[Int(group)].takeInode(isDirectory: isDirectory)
        return group * superblock.inodesPerGroup + bit + 1
      }
      throw .noSpace
    }
  }

  func freeInode(_ number: UInt32, isDirectory: Bool) throws(Errno) {
    try groups.withLock { groups throws(Errno) in
      let group = Int((number - 1) / superblock.inodesPerGroup)
      guard try clearBit(groups[group].inodeBitmap, (number - 1) % superblock.inodesPerGroup) else { return }
      groups[group].freeInode(isDirectory: isDirectory)
    }
  }

  // MARK: A file's blocks

  private var pointersPerBlock: UInt32 { UInt32(superblock.blockSize) / 4 }
  private var sectorsPerBlock: UInt32 { UInt32(superblock.blockSize) / 512 }

  /// The device block of a file's block; 0 for a hole. With `allocate` holes are filled.
  func map(_ node: Ext2Node, _ record: inout Ext2InodeRecord, _ block: UInt32, allocate: Bool) throws(Errno) -> UInt32 {
    guard let path = Ext2BlockPath(block: block, pointersPerBlock: pointersPerBlock) else { throw .fileTooLarge }
    var current = record.blocks[path.root]
    if current == 0 {
      if !allocate { return 0 }
      current = try newBlock(node, &record, zeroed: !path.slots.isEmpty)
      record.blocks[path.root] = current
    }
    for (depth, slot) in path.slots.enumerated() {
      guard superblock.isDataBlock(current) else { throw fault("something leads to block \(current)") }
      let parent = current
      current = try readBlock(parent) { bytes in bytes.u32(slot * 4) ?? 0 }
      if current == 0 {
        if !allocate { return 0 }
        current = try newBlock(node, &record, zeroed: depth < path.slots.count - 1)
        let pointer = current
        try changeBlock(parent) { bytes in bytes.put32(pointer, at: slot * 4) }
      }
    }
    guard superblock.isDataBlock(current) else { throw fault("something leads to block \(current)") }
    return current
  }

  private func newBlock(_ node: Ext2Node, _ record: inout Ext2InodeRecord, zeroed: Bool) throws(Errno) -> UInt32 {
    let block = try allocateBlock(near: node.goal.load(ordering: .relaxed))
    node.goal.store(block &+ 1, ordering: .relaxed)
    record.sectors += sectorsPerBlock
    if zeroed {
      let size = superblock.blockSize
      try changeBlock(block) { bytes in for index in 0..<size { bytes[index] = 0 } }
    }
    return block
  }

  private var blocksPerPage: UInt32 { UInt32(pageSize) >> superblock.blockShift }

  public func locate(_ inode: Inode, _ index: UInt32, forWriting: Bool, _ visit: (UInt64?, Range<Int>) -> Void) throws(Errno) {
    guard let node = node(inode) else { throw .ioError }
    var count = blocksPerPage
    if forWriting {
      // A page may reach beyond the end of its file.
      let start = UInt64(index) << 12
      let bytes = inode.size > start ? min(inode.size - start, UInt64(pageSize)) : 0
      count = UInt32((bytes + UInt64(superblock.blockSize) - 1) >> UInt64(superblock.blockShift))
    }
    try withRecord(of: inode, node) { record throws(Errno) in
      for part in 0..<count {
        let block = try map(node, &record, index * blocksPerPage + part, allocate: forWriting)
        let start = Int(part) << Int(superblock.blockShift)
        visit(block == 0 ? nil : UInt64(block) * UInt64(sectorsPerBlock), start..<(start + superblock.blockSize))
      }
    }
  }

  /// A file's record, locked; it is left to write-back if `body` takes blocks for it.
  private func withRecord(
    of inode: Inode, _ node: Ext2Node, _ body: (inout Ext2InodeRecord) throws(Errno) -> Void
  ) throws(Errno) {
    let (sectors, failure) = node.record.withLock { record -> (UInt32?, Errno?) in
      let before = record.sectors
      var failure: Errno?
      do throws(Errno) { try body(&record) } catch { failure = error }
      return (record.sectors == before ? nil : record.sectors, failure)
    }
    if let sectors {
      inode.attributes.withLock { $0.blocks = UInt64(sectors) }
      inode.delayAttributes()
    }
    if let failure { throw failure }
  }

  public func reserve(_ inode: Inode, _ index: UInt32, _ range: Range<Int>) throws(Errno) {
    guard let node = node(inode) else { throw .ioError }
    let perPage = blocksPerPage
    if node.goal.load(ordering: .relaxed) == 0 {
      let group = UInt32(truncatingIfNeeded: inode.number - 1) / superblock.inodesPerGroup
      node.goal.store(superblock.firstDataBlock + group * superblock.blocksPerGroup, ordering: .relaxed)
    }
    try withRecord(of: inode, node) { record throws(Errno) in
      let first = UInt32(range.lowerBound >> Int(superblock.blockShift))
      let last = UInt32((range.upperBound - 1) >> Int(superblock.blockShift))
      for part in first...last { _ = try map(node, &record, index * perPage + part, allocate: true) }
    }
  }

  public func resize(_ inode: Inode, to size: UInt64) throws(Errno) {
    let block = (size + UInt64(superblock.blockSize) - 1) >> UInt64(superblock.blockShift)
    guard let first = UInt32(exactly: block) else { throw .fileTooLarge }
    let blocks = try takeBlocks(of: inode, UInt64(first)..<UInt64.max)
    try attributesChanged(inode)
    retire(blocks)
  }

  public var hasHoles: Bool { true }

  public func punch(_ inode: Inode, _ pages: Range<UInt32>) throws(Errno) {
    let perPage = UInt64(blocksPerPage)
    let blocks = try takeBlocks(of: inode, UInt64(pages.lowerBound) * perPage..<UInt64(pages.upperBound) * perPage)
    try attributesChanged(inode)
    retire(blocks)
  }

  /// Takes a range of a file's blocks out of its record, and indirect ones that only lead to those. They are the caller's to retire,
  /// once that is in its place.
  func takeBlocks(of inode: Inode, _ range: Range<UInt64>) throws(Errno) -> [Range<UInt32>] {
    guard let node = node(inode), inode.isRegular || inode.isDirectory || inode.isLink else { return [] }
    var blocks = Ext2BlockList()
    try node.record.withLock { record throws(Errno) in
      if record.inlineTarget != nil { return }
      for index in 0..<12 where range.contains(UInt64(index)) && record.blocks[index] != 0 {
        try release(record.blocks[index], &record, &blocks)
        record.blocks[index] = 0
      }
      var start: UInt64 = 12
      var size = UInt64(pointersPerBlock)
      for level in 1...3 {
        let slot = 11 + level
        let part = range.clamped(to: start..<(start + size))
        if record.blocks[slot] != 0, !part.isEmpty {
          let inside = (part.lowerBound - start)..<(part.upperBound - start)
          if try freeTree(record.blocks[slot], level: level, inside, &record, &blocks) { record.blocks[slot] = 0 }
        }
        start += size
        size *= UInt64(pointersPerBlock)
      }
      node.goal.store(0, ordering: .relaxed)
    }
    return blocks.ranges
  }

  private func release(_ block: UInt32, _ record: inout Ext2InodeRecord, _ blocks: inout Ext2BlockList) throws(Errno) {
    guard superblock.isDataBlock(block) else { throw fault("something leads to block \(block)") }
    blocks.append(block)
    record.sectors -= min(record.sectors, sectorsPerBlock)
  }

  /// Frees a range of what is below an indirect block; true when that was all, and the block itself went too.
  private func freeTree(
    _ block: UInt32, level: Int, _ range: Range<UInt64>, _ record: inout Ext2InodeRecord, _ blocks: inout Ext2BlockList
  ) throws(Errno) -> Bool {
    guard superblock.isDataBlock(block) else { throw fault("something leads to block \(block)") }
    var span: UInt64 = 1
    for _ in 1..<level { span *= UInt64(pointersPerBlock) }
    for slot in 0..<Int(pointersPerBlock) {
      let base = UInt64(slot) * span
      let part = range.clamped(to: base..<(base + span))
      if part.isEmpty { continue }
      let child = try readBlock(block) { bytes in bytes.u32(slot * 4) ?? 0 }
      if child == 0 { continue }
      var gone = true
      if level == 1 {
        try release(child, &record, &blocks)
      } else {
        gone = try freeTree(child, level: level - 1, (part.lowerBound - base)..<(part.upperBound - base), &record, &blocks)
      }
      if gone { try changeBlock(block) { bytes in bytes.put32(0, at: slot * 4) } }
    }
    guard range.upperBound - range.lowerBound >= UInt64(pointersPerBlock) * span else { return false }
    // Not to be written any more: the block may be a file's soon.
    metadata.forgetPage(block)
    try release(block, &record, &blocks)
    return true
  }
}
