import Ext2
import Machine
import Primitives
import Sync
import SystemABI
import Threads
import VFS

struct Ext2RetiredRank: LockRank { static let level: UInt8 = 84 }

/// What has been freed and may not be used again yet: until what freed it is on stable storage, a power cut brings the old file
/// back, and it must find its own blocks and its own inode.
struct Ext2Retired: ~Copyable {
  var blocks: [Range<UInt32>] = []
  var blockCount: UInt32 = 0
  var inodes: [(number: UInt32, isDirectory: Bool)] = []
}

extension Ext2FS {
  /// Blocks whose pointers are gone from metadata in memory.
  func retire(_ blocks: [Range<UInt32>]) {
    if blocks.isEmpty { return }
    retired.withLock {
      $0.blocks += blocks
      for range in blocks { $0.blockCount += UInt32(range.count) }
    }
  }

  func retire(inode number: UInt32, isDirectory: Bool) { retired.withLock { $0.inodes.append((number, isDirectory)) } }

  /// Blocks that will be free.
  var retiredBlockCount: UInt32 { retired.withLock { $0.blockCount } }

  /// Writes what leads to content, and returns when all that was written is on stable storage. Blocks that were free in it before can
  /// be used again. With `all` bitmaps and counts, too, and inodes can be used again: the caller has written all directories.
  func commit(all: Bool = false) throws(Errno) {
    let (blocks, inodes) = retired.withLock { retired in
      let blocks = retired.blocks
      retired.blocks = []
      retired.blockCount = 0
      let inodes = all ? retired.inodes : []
      if all { retired.inodes = [] }
      return (blocks, inodes)
    }
    do throws(Errno) {
      try metadata.writeBack()
      if all { try allocation.writeBack() }
      try BlockRequest.flush(disk.disk)
    } catch {
      retire(blocks)
      for inode in inodes { retire(inode: inode.number, isDirectory: inode.isDirectory) }
      throw error
    }
    for range in blocks { for block in range { try freeBlock(block) } }
    for inode in inodes { try freeInode(inode.number, isDirectory: inode.isDirectory) }
  }
}

/// Blocks in the order of their freeing, as few ranges as they allow.
struct Ext2BlockList {
  private(set) var ranges: [Range<UInt32>] = []
  mutating func append(_ block: UInt32) {
    if let last = ranges.last, last.upperBound == block {
      ranges[ranges.count - 1] = last.lowerBound..<(block + 1)
    } else {
      ranges.append(block..<(block + 1))
    }
  }
}
