import Ext2
import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

public struct Ext2NodeRank: LockRank { public static let level: UInt8 = 28 }

/// An inode's record in memory.
final class Ext2Node {
  let number: UInt32
  let record: Mutex<Ext2InodeRecord, Ext2NodeRank>
  /// Where the search for the next block begins.
  let goal = Atomic<UInt32>(0)
  /// It may have blocks reserved for it.
  let hasReservation = Atomic<Bool>(false)
  init(_ number: UInt32, _ record: Ext2InodeRecord) {
    self.number = number
    self.record = Mutex(record)
  }
}

/// What is free: one descriptor a group; and whose some of that will be.
struct Ext2Space: ~Copyable {
  var groups: [Ext2Group]
  var reservations = Ext2Reservations()
}

/// ext2, read and write. On-disk structures are Logic/Ext2's; this adds the caches and the allocators.
///
/// SPEC: "The Second Extended File System", D. Poirier; mke2fs(8) for what images look like.
public final class Ext2FS: FileSystem {
  private let mounted: MountedDisk
  /// What leads to the content of files and directories, a block a page: the inode tables, indirect blocks, extended attributes.
  let metadata: Inode
  /// What can be made again from that: bitmaps, group descriptors, the superblock. fsync does not write it. The disk may be behind
  /// with it for as long as with what nobody asked to be written, and then e2fsck counts again.
  let allocation: Inode
  let superblock: Ext2Superblock
  let space: Mutex<Ext2Space, FileSystemRank>
  /// Held while blocks of extended attributes are read or changed.
  let attributeLock = Mutex<Void, Ext2AttributesRank>(())
  let orphans = Ext2Orphans()
  let retired = SpinLock<Ext2Retired, Ext2RetiredRank>(Ext2Retired())

  public var typeName: String { "ext2" }
  public var device: (any BlockDevice)? { disk.disk }
  public var deviceNumber: UInt32 { disk.deviceNumber }
  public var root: Inode { mounted.root! }
  public var isReadOnly: Bool { mounted.isReadOnly }
  var disk: BlockNode { mounted.node }
  var table: InodeTable { mounted.inodes }

  private init(_ mounted: MountedDisk, _ superblock: Ext2Superblock, _ metadata: Inode, _ allocation: Inode, _ groups: [Ext2Group]) {
    self.mounted = mounted
    self.superblock = superblock
    self.metadata = metadata
    self.allocation = allocation
    space = Mutex(Ext2Space(groups: groups))
  }

  deinit {
    WriteBack.abandon(metadata)
    WriteBack.abandon(allocation)
  }

  /// Reads and checks the superblock and the group descriptors, and marks the file system as in use.
  static func mount(_ node: BlockNode, readOnly: Bool) throws(Errno) -> Ext2FS {
    try MountedDisk.claim(node, readOnly: readOnly) { disk throws(Errno) in try mount(disk) }
  }

  private static func mount(_ mounted: MountedDisk) throws(Errno) -> Ext2FS {
    let disk = mounted.node
    let superblock: Ext2Superblock
    let bytes = try disk.inode.bytes(at: UInt64(Ext2Superblock.offset), count: Ext2Superblock.size)
    do throws(Ext2Error) { superblock = try Ext2Superblock(bytes.span) } catch {
      switch error {
      case .notExt2: log("ext2: no ext2 file system on the device")
      case .corrupt: log("ext2: the superblock is corrupt")
      case .unsupportedFeatures(let features): log("ext2: unsupported features \(hex(features))")
      }
      throw .invalidArgument
    }
    if superblock.mustBeReadOnly { mounted.stop() }
    guard UInt64(superblock.blockCount) << UInt64(superblock.blockShift) <= disk.inode.size else {
      log("ext2: the file system is larger than its device")
      throw .invalidArgument
    }
    // The first bytes came through the device's own cache.
    try disk.invalidate()
    let endSector = UInt64(superblock.blockCount) << UInt64(superblock.blockShift - 9)
    let metadata = MetadataBlocks.make(disk, blockBytes: superblock.blockSize, endSector: endSector)
    let allocation = MetadataBlocks.make(disk, blockBytes: superblock.blockSize, endSector: endSector)
    let fileSystem = Ext2FS(mounted, superblock, metadata, allocation, try readGroups(allocation, superblock))
    try fileSystem.start()
    return fileSystem
  }

  private func start() throws(Errno) {
    if superblock.state & Ext2Superblock.cleanState == 0 { log("ext2: not cleanly unmounted; e2fsck is advised") }
    let root = try inode(2)
    guard root.isDirectory else {
      log("ext2: the root is not a directory")
      throw .invalidArgument
    }
    mounted.setRoot(root)
    if isReadOnly { return }
    try setState(superblock.state & ~Ext2Superblock.cleanState)
    try deleteOrphans()
  }

  public func end() { mounted.end() }

  /// Something on the disk cannot be right. It is only read from then on, where the superblock wants that.
  func fault(_ what: String) -> Errno {
    if mounted.noteFault() { log("ext2: \(what)") }
    if superblock.errorPolicy >= 2, mounted.stop() { log("ext2: nothing is written any more") }
    return .ioError
  }

  private static func readGroups(_ allocation: Inode, _ superblock: Ext2Superblock) throws(Errno) -> [Ext2Group] {
    let perBlock = superblock.blockSize / Ext2Group.size
    var groups: [Ext2Group] = []
    for index in 0..<Int(superblock.groupCount) {
      let frame = try allocation.page(superblock.descriptorBlock + UInt32(index / perBlock))
      defer { Frames.release(frame) }
      guard let group = frame.withBytes({ Ext2Group($0, at: index % perBlock * Ext2Group.size, superblock) }) else {
        log("ext2: group descriptor \(index) is corrupt")
        throw .invalidArgument
      }
      groups.append(group)
    }
    return groups
  }

  // MARK: Metadata blocks

  func readBlock<Result>(_ block: UInt32, _ body: (borrowing Span<UInt8>) -> Result) throws(Errno) -> Result {
    let frame = try metadata.page(block)
    defer { Frames.release(frame) }
    return frame.withBytes { body($0) }
  }

  func changeBlock<Result>(_ block: UInt32, _ body: (inout MutableSpan<UInt8>) -> Result) throws(Errno) -> Result {
    try change(block, of: metadata, body)
  }

  /// Changes a block of bitmaps, of group descriptors, or the superblock's.
  func changeAllocation<Result>(_ block: UInt32, _ body: (inout MutableSpan<UInt8>) -> Result) throws(Errno) -> Result {
    try change(block, of: allocation, body)
  }

  private func change<Result>(_ block: UInt32, of blocks: Inode, _ body: (inout MutableSpan<UInt8>) -> Result) throws(Errno) -> Result {
    let frame = try blocks.page(block)
    defer { Frames.release(frame) }
    let result = frame.withMutableBytes { body(&$0) }
    blocks.markDirty(block)
    return result
  }

  private func setState(_ state: UInt16) throws(Errno) {
    let state = mounted.hasFaults ? state | Ext2Superblock.faultyState : state
    let now = UInt32(truncatingIfNeeded: Clock.realtime / 1_000_000_000)
    let (freeBlocks, freeInodes) = space.withLock { space in
      (space.groups.reduce(0) { $0 &+ UInt32($1.freeBlocks) }, space.groups.reduce(0) { $0 &+ UInt32($1.freeInodes) })
    }
    try changeSuperblock { bytes, at in
      bytes.put32(freeBlocks, at: at + 12)
      bytes.put32(freeInodes, at: at + 16)
      bytes.put32(now, at: at + 48)
      bytes.put16(state, at: at + 58)
    }
  }

  /// Changes the superblock's block, with where in it that begins.
  func changeSuperblock(_ body: (inout MutableSpan<UInt8>, Int) -> Void) throws(Errno) {
    let isAlone = superblock.blockShift == 10
    try changeAllocation(isAlone ? 1 : 0) { body(&$0, isAlone ? 0 : Ext2Superblock.offset) }
  }

  /// Group counts to the descriptor table, all under the allocator's lock.
  private func writeGroups() throws(Errno) {
    try space.withLock { space throws(Errno) in
      let perBlock = superblock.blockSize / Ext2Group.size
      for (index, group) in space.groups.enumerated() {
        try changeAllocation(superblock.descriptorBlock + UInt32(index / perBlock)) { bytes in
          group.encodeCounts(into: &bytes, at: index % perBlock * Ext2Group.size)
        }
      }
    }
  }

  public func sync() throws(Errno) { try mounted.ifAlive { () throws(Errno) in try syncAll() } }

  private func syncAll() throws(Errno) {
    // The names of what was deleted go first.
    try WriteBack.run(self)
    try writeGroups()
    try setState(superblock.state & ~Ext2Superblock.cleanState)
    try commit(all: true)
  }

  public func sync(_ inode: Inode) throws(Errno) {
    if isReadOnly { return }
    try commit()
  }

  public func unmount() throws(Errno) {
    try mounted.finish { () throws(Errno) in
      try syncAll()
      // What was retired is free now; and nothing is clean before it is.
      try writeGroups()
      try commit(all: true)
      try setState(superblock.state | Ext2Superblock.cleanState)
      try commit(all: true)
    }
    _ = metadata.dropCleanPages()
    _ = allocation.dropCleanPages()
  }

  public func dropUnused() {
    table.dropCleanPages()
    _ = metadata.dropCleanPages()
    _ = allocation.dropCleanPages()
    table.dropUnused()
  }

  public func statistics() -> FileSystemStatistics {
    var result = FileSystemStatistics(magic: 0xEF53)
    result.blockSize = UInt32(superblock.blockSize)
    let overhead =
      UInt64(superblock.groupCount) * UInt64(2 + (superblock.inodesPerGroup + superblock.inodesPerBlock - 1) / superblock.inodesPerBlock)
    result.blocks = UInt64(superblock.blockCount) - min(overhead, UInt64(superblock.blockCount))
    space.withLock { space in
      for group in space.groups {
        result.freeBlocks += UInt64(group.freeBlocks)
        result.freeFiles += UInt64(group.freeInodes)
      }
    }
    retired.withLock {
      result.freeBlocks += UInt64($0.blockCount)
      result.freeFiles += UInt64($0.inodes.count)
    }
    let reserved = UInt64(superblock.reservedBlocks)
    result.availableBlocks = result.freeBlocks > reserved ? result.freeBlocks - reserved : 0
    result.files = UInt64(superblock.inodeCount)
    return result
  }

  // MARK: Inodes

  /// The block and byte offset of an inode's record.
  func location(_ number: UInt32) throws(Errno) -> (block: UInt32, offset: Int) {
    guard number >= 1, number <= superblock.inodeCount else { throw fault("there is no inode \(number)") }
    let group = (number - 1) / superblock.inodesPerGroup
    let index = (number - 1) % superblock.inodesPerGroup
    let tableBlock = space.withLock { $0.groups[Int(group)].inodeTable }
    return (tableBlock + index / superblock.inodesPerBlock, Int(index % superblock.inodesPerBlock * superblock.inodeSize))
  }

  func inode(_ number: UInt32) throws(Errno) -> Inode {
    if let inode = table.find(UInt64(number)) { return inode }
    let (block, offset) = try location(number)
    let record = try readBlock(block) { Ext2InodeRecord($0, at: offset) }
    guard record.mode != 0, record.links > 0 else {
      throw fault("a directory names inode \(number), which is free")
    }
    return table.insert(makeInode(number, record))
  }

  func makeInode(_ number: UInt32, _ record: Ext2InodeRecord) -> Inode {
    var attributes = Attributes(mode: UInt32(record.mode), owner: record.owner, group: record.group)
    attributes.links = UInt32(record.links)
    attributes.size = record.size
    attributes.blocks = UInt64(record.sectors)
    attributes.accessTime = Int64(Int32(bitPattern: record.accessTime)) * 1_000_000_000
    attributes.modificationTime = Int64(Int32(bitPattern: record.modificationTime)) * 1_000_000_000
    attributes.changeTime = Int64(Int32(bitPattern: record.changeTime)) * 1_000_000_000
    let type = attributes.mode & Mode.typeMask
    if type == Mode.character || type == Mode.block { attributes.device = DeviceNumber(rawValue: record.device) }
    return Inode(self, number: UInt64(number), attributes: attributes, payload: Ext2Node(number, record))
  }

  func node(_ inode: Inode) -> Ext2Node? {
    // A FIFO's payload is its pipe; its record is read again where it matters.
    inode.payload as? Ext2Node
  }

  private func seconds(_ nanoseconds: Int64) -> UInt32 { UInt32(truncatingIfNeeded: nanoseconds / 1_000_000_000) }

  public func attributesChanged(_ inode: Inode) throws(Errno) {
    if isReadOnly { return }
    let number = UInt32(truncatingIfNeeded: inode.number)
    let (block, offset) = try location(number)
    let sectors: UInt32
    if let node = node(inode) {
      // One after the other: an older record must not come behind a newer one.
      sectors = try node.record.withLock { record throws(Errno) in
        update(&record, inode.attributes.withLock { $0 })
        try changeBlock(block) { record.encode(into: &$0, at: offset) }
        return record.sectors
      }
    } else {
      sectors = try changeBlock(block) { bytes in
        var record = Ext2InodeRecord(bytes.span, at: offset)
        update(&record, inode.attributes.withLock { $0 })
        record.encode(into: &bytes, at: offset)
        return record.sectors
      }
    }
    inode.attributes.withLock { $0.blocks = UInt64(sectors) }
  }

  private func update(_ record: inout Ext2InodeRecord, _ attributes: Attributes) {
    record.mode = UInt16(truncatingIfNeeded: attributes.mode)
    record.owner = attributes.owner
    record.group = attributes.group
    record.links = UInt16(truncatingIfNeeded: attributes.links)
    record.size = attributes.size
    record.accessTime = seconds(attributes.accessTime)
    record.modificationTime = seconds(attributes.modificationTime)
    record.changeTime = seconds(attributes.changeTime)
  }

  public func readLink(_ inode: Inode) throws(Errno) -> [UInt8] {
    guard let node = node(inode) else { throw .ioError }
    if let text = node.record.withLock({ $0.inlineTarget }) { return text }
    return try inode.bytes(at: 0, count: 4096)
  }

  public func evict(_ inode: Inode) {
    if isReadOnly { return }
    do throws(Errno) { try delete(inode) } catch { log("ext2: inode \(inode.number) could not be deleted: errno \(error.rawValue)") }
  }

  func delete(_ inode: Inode) throws(Errno) {
    inode.dropPages()
    try removeOrphan(inode)
    var blocks = try takeBlocks(of: inode, 0..<UInt64.max)
    let number = UInt32(truncatingIfNeeded: inode.number)
    let (block, offset) = try location(number)
    let now = seconds(Clock.realtime)
    let attributeBlock = try changeBlock(block) { bytes in
      var record = Ext2InodeRecord(bytes.span, at: offset)
      let attributeBlock = record.fileACL
      record.fileACL = 0
      record.links = 0
      record.deletionTime = now
      record.sectors = 0
      record.size = 0
      record.encode(into: &bytes, at: offset)
      return attributeBlock
    }
    blocks += try dropAttributes(attributeBlock)
    retire(blocks)
    table.remove(inode)
    retire(inode: number, isDirectory: inode.isDirectory)
  }
}
