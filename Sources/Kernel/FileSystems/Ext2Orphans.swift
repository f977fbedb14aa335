import Ext2
import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

struct Ext2OrphansRank: LockRank { static let level: UInt8 = 27 }

/// Files that no directory names and that somebody still uses. The disk has them as a chain: the superblock says which comes first, and
/// each one's time of deletion is the number of the next. After a power cut they are deleted by the next mount, or by e2fsck.
///
/// SPEC: "The Second Extended File System" has only the field's place; ext4's documentation, "Orphan file", has the chain.
struct Ext2Orphans: ~Copyable {
  /// The first of the chain comes last.
  private let numbers = Mutex<[UInt32], Ext2OrphansRank>([])
  private let count = Atomic<Int>(0)

  /// Adds a file, or takes it out, and tells how the chain changes: whom `link` has follow whom, 0 standing for the superblock and for
  /// the end.
  func add(_ number: UInt32, _ link: (_ next: UInt32, _ previous: UInt32) throws(Errno) -> Void) throws(Errno) {
    try numbers.withLock { numbers throws(Errno) in
      if numbers.contains(number) { return }
      try link(numbers.last ?? 0, number)
      numbers.append(number)
      count.store(numbers.count, ordering: .releasing)
      try link(number, 0)
    }
  }

  func remove(_ number: UInt32, _ link: (_ next: UInt32, _ previous: UInt32) throws(Errno) -> Void) throws(Errno) {
    if count.load(ordering: .acquiring) == 0 { return }
    try numbers.withLock { numbers throws(Errno) in
      guard let index = numbers.lastIndex(of: number) else { return }
      numbers.remove(at: index)
      count.store(numbers.count, ordering: .releasing)
      try link(index > 0 ? numbers[index - 1] : 0, index < numbers.count ? numbers[index] : 0)
    }
  }
}

extension Ext2FS {
  /// A file has lost its last name, or has had none yet. Somebody uses it besides that name: there is nothing to do otherwise.
  func addOrphan(_ inode: Inode) throws(Errno) {
    try orphans.add(UInt32(truncatingIfNeeded: inode.number)) { (next, previous) throws(Errno) in try link(next, behind: previous) }
  }

  /// A file gets a name, or goes.
  func removeOrphan(_ inode: Inode) throws(Errno) {
    let number = UInt32(truncatingIfNeeded: inode.number)
    try orphans.remove(number) { (next, previous) throws(Errno) in try link(next, behind: previous) }
  }

  private func link(_ next: UInt32, behind previous: UInt32) throws(Errno) {
    if previous == 0 { return try changeSuperblock { bytes, start in bytes.put32(next, at: start + Ext2Superblock.orphanOffset) } }
    try setDeletionTime(of: previous, to: next)
  }

  private func setDeletionTime(of number: UInt32, to value: UInt32) throws(Errno) {
    let (block, offset) = try location(number)
    guard let inode = table.find(UInt64(number)), let node = node(inode) else {
      return try changeBlock(block) { $0.put32(value, at: offset + Ext2InodeRecord.deletionOffset) }
    }
    try node.record.withLock { record throws(Errno) in
      record.deletionTime = value
      try changeBlock(block) { $0.put32(value, at: offset + Ext2InodeRecord.deletionOffset) }
    }
  }

  /// Deletes what was in the chain when the file system was last used. A number that cannot be right ends it: e2fsck finds the rest.
  func deleteOrphans() throws(Errno) {
    var next = superblock.firstOrphan
    if next == 0 { return }
    var count = 0
    while next != 0, next >= superblock.firstInode, next <= superblock.inodeCount, table.find(UInt64(next)) == nil {
      let (block, offset) = try location(next)
      let record = try readBlock(block) { Ext2InodeRecord($0, at: offset) }
      // One that is deleted already has a time there.
      guard record.mode != 0, record.links == 0, record.deletionTime <= superblock.inodeCount else { break }
      // One that cannot be deleted would come again, where the chain is a circle.
      do throws(Errno) { try delete(makeInode(next, record)) } catch { break }
      next = record.deletionTime
      count += 1
    }
    try changeSuperblock { bytes, start in bytes.put32(0, at: start + Ext2Superblock.orphanOffset) }
    log("ext2: \(count) deleted files that were still in use are gone now")
  }
}
