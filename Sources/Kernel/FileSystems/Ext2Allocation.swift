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
  /// Takes the first clear bit of a range of a bitmap; nil when there is none. `skip` answers where the search goes on behind a bit that
  /// is not to be taken.
  private func takeBit(_ block: UInt32, _ range: Range<UInt32>, skip: (UInt32) -> UInt32? = { _ in nil }) throws(Errno) -> UInt32? {
    try changeAllocation(block) { bytes in
      var bit = range.lowerBound
      while bit < range.upperBound {
        let index = Int(bit >> 3)
        if bit & 7 == 0, bytes[index] == 0xFF {
          bit += 8
        } else if bytes[index] & 1 << UInt8(bit & 7) != 0 {
          bit += 1
        } else if let next = skip(bit) {
          bit = max(next, bit + 1)
        } else {
          bytes[index] |= 1 << UInt8(bit & 7)
          return bit
        }
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

  /// A free block, near where the file goes on if possible. One that is growing gets those behind it for itself. Throws `noSpace`.
  func allocateBlock(for node: Ext2Node, isGrowing: Bool) throws(Errno) -> UInt32 {
    do throws(Errno) { return try takeBlock(for: node, isGrowing) } catch {
      guard error == .noSpace, retiredBlockCount > 0 else { throw error }
      try commit()
      return try takeBlock(for: node, isGrowing)
    }
  }

  private func takeBlock(for node: Ext2Node, _ isGrowing: Bool) throws(Errno) -> UInt32 {
    let goal = node.goal.load(ordering: .relaxed)
    let start = superblock.isDataBlock(goal) ? goal - superblock.firstDataBlock : 0
    return try space.withLock { space throws(Errno) in
      let free = space.groups.reduce(0) { $0 &+ UInt32($1.freeBlocks) }
      if free == 0 { throw .noSpace }
      while true {
        if let (block, limit) = try takeBlock(for: node, start, &space) {
          if isGrowing {
            space.reservations.take(block, for: node.number, limit: limit)
            node.hasReservation.store(true, ordering: .relaxed)
          }
          return block
        }
        // All that is left is somebody's.
        if space.reservations.isEmpty { throw .noSpace }
        space.reservations.releaseAll()
      }
    }
  }

  /// Takes a block that is nobody else's, with the end of its group.
  private func takeBlock(for node: Ext2Node, _ start: UInt32, _ space: inout Ext2Space) throws(Errno) -> (UInt32, limit: UInt32)? {
    let firstGroup = start / superblock.blocksPerGroup
    // Groups behind each other, and the part of the first one that was left out.
    for distance in 0...superblock.groupCount {
      let group = (firstGroup + distance) % superblock.groupCount
      guard space.groups[Int(group)].freeBlocks > 0 else { continue }
      let base = superblock.firstDataBlock + group * superblock.blocksPerGroup
      let count = superblock.blocks(inGroup: group)
      let from = distance == 0 ? start % superblock.blocksPerGroup : 0
      let bit = try takeBit(space.groups[Int(group)].blockBitmap, min(from, count)..<count) { bit in
        space.reservations.end(of: base + bit, for: node.number).map { $0 - base }
      }
      guard let bit else { continue }
      space.groups[Int(group)].takeBlock()
      return (base + bit, base + count)
    }
    return nil
  }

  /// Nobody writes to a file for now: what is reserved for it is everybody's again.
  public func wasWritten(_ inode: Inode) {
    guard let node = node(inode), node.hasReservation.exchange(false, ordering: .relaxed) else { return }
    space.withLock { $0.reservations.release(node.number) }
  }

  func freeBlock(_ block: UInt32) throws(Errno) {
    guard superblock.isDataBlock(block) else { throw fault("something leads to block \(block)") }
    try space.withLock { space throws(Errno) in
      let index = block - superblock.firstDataBlock
      let group = Int(index / superblock.blocksPerGroup)
      if try clearBit(space.groups[group].blockBitmap, index % superblock.blocksPerGroup) { space.groups[group].freeBlock() }
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
    try space.withLock { space throws(Errno) in
      var firstGroup = (parent - 1) / superblock.inodesPerGroup
      if isDirectory {
        // The group with the fewest directories among those with room: Orlov's rule without its debts.
        var best: Int?
        for index in space.groups.indices where space.groups[index].freeInodes > 0 && space.groups[index].freeBlocks > 0 {
          if best == nil || space.groups[index].directories < space.groups[best!].directories { best = index }
        }
        if let best { firstGroup = UInt32(best) }
      }
      for distance in 0..<superblock.groupCount {
        let group = (firstGroup + distance) % superblock.groupCount
        guard space.groups[Int(group)].freeInodes > 0 else { continue }
        let start = group == 0 ? superblock.firstInode - 1 : 0
        guard let bit = try takeBit(space.groups[Int(group)].inodeBitmap, start..<superblock.inodesPerGroup) else { continue }
        space.groups[Int(group)].takeInode(isDirectory: isDirectory)
        return group * superblock.inodesPerGroup + bit + 1
      }
      throw .noSpace
    }
  }

  func freeInode(_ number: UInt32, isDirectory: Bool) throws(Errno) {
    try space.withLock { space throws(Errno) in
      let group = Int((number - 1) / superblock.inodesPerGroup)
      guard try clearBit(space.groups[group].inodeBitmap, (number - 1) % superblock.inodesPerGroup) else { return }
      space.groups[group].freeInode(isDirectory: isDirectory)
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

  /// Where a file begins to count as one that grows, in sectors: a small one would only leave a gap behind it.
  private static var smallFile: UInt32 { 32 }

  private func newBlock(_ node: Ext2Node, _ record: inout Ext2InodeRecord, zeroed: Bool) throws(Errno) -> UInt32 {
    let block = try allocateBlock(for: node, isGrowing: record.sectors >= Self.smallFile)
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
    try withRecord(of: inode, node) { record throws(Errno) in
      let first = index * perPage + UInt32(range.lowerBound >> Int(superblock.blockShift))
      let last = index * perPage + UInt32((range.upperBound - 1) >> Int(superblock.blockShift))
      if node.goal.load(ordering: .relaxed) == 0 { node.goal.store(try goal(node, &record, first), ordering: .relaxed) }
      for block in first...last { _ = try map(node, &record, block, allocate: true) }
    }
  }

  /// Where a file goes on that nobody has written to since it came into memory: behind the block before, or in its inode's group.
  private func goal(_ node: Ext2Node, _ record: inout Ext2InodeRecord, _ block: UInt32) throws(Errno) -> UInt32 {
    let before = block == 0 ? 0 : try map(node, &record, block - 1, allocate: false)
    if before != 0 { return before + 1 }
    return superblock.firstDataBlock + (node.number - 1) / superblock.inodesPerGroup * superblock.blocksPerGroup
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
    wasWritten(inode)
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
