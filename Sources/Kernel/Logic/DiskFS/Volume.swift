import Primitives

/// What a commit writes: `nodes` first, then, when they are on the device for good, the superblock.
public struct DiskCommit {
  public let nodes: [(block: UInt32, bytes: [UInt8])]
  public let superblock: (block: UInt32, bytes: [UInt8])
}

/// A diskfs volume: files, names, content and attributes as items of its tree.
///
/// One caller at a time. What it changes stays in memory until `prepareCommit`, whose blocks the caller writes; everything between
/// two commits comes to the disk together or not at all. Content is written by the caller: to blocks from `allocate`, which become a
/// file's with `place` when they are on the device.
public final class DiskVolume {
  let store: any DiskStore
  let space: DiskSpace
  let tree: DiskTree
  public private(set) var superblock: DiskSuperblock
  /// Something went wrong on the way to the disk or was found wrong there: nothing is written any more.
  public private(set) var isBroken = false
  private var hasChanges = false

  public var blocks: UInt32 { superblock.blocks }

  /// An empty volume with a root directory, in memory as yet. `blocks` is at least `DiskFormat.leastBlocks`.
  public static func format(
    _ store: any DiskStore, blocks: UInt32, uuid: [UInt8], label: [UInt8], root: DiskInode
  ) throws(DiskFSError) -> DiskVolume {
    if blocks < DiskFormat.leastBlocks { throw .noSpace }
    let space = DiskSpace(blocks: blocks)
    let volume = DiskVolume(store, space, DiskTree(store, space), DiskSuperblock(blocks: blocks, uuid: uuid, label: label))
    var root = root
    root.links = 2
    root.parent = DiskFormat.root
    try volume.setInode(DiskFormat.root, root)
    return volume
  }

  /// Opens what is on a device of `limit` blocks. Throws `corrupt` when there is no whole superblock.
  public static func open(_ store: any DiskStore, limit: UInt32) throws(DiskFSError) -> DiskVolume {
    var newest: DiskSuperblock?
    for place in DiskFormat.superblocks where place < limit {
      guard let found = DiskSuperblock(try store.read(place)), found.place == place, found.blocks <= limit else { continue }
      if found.generation >= newest?.generation ?? 0 { newest = found }
    }
    guard let newest else { throw .corrupt }
    let space = DiskSpace(blocks: newest.blocks)
    let tree = try DiskTree(store, space, newest.root, level: newest.rootLevel)
    var key = DiskKey(0, .freeSpace, 0)
    for group in 0..<space.groups {
      guard let item = try tree.next(from: key), item.key == DiskKey(0, .freeSpace, UInt64(group)) else { throw .corrupt }
      try space.load(group, item.value)
      key = DiskKey(0, .freeSpace, UInt64(group) + 1)
    }
    try space.finishLoading()
    let volume = DiskVolume(store, space, tree, newest)
    guard try volume.inode(DiskFormat.root).isDirectory else { throw .corrupt }
    return volume
  }

  private init(_ store: any DiskStore, _ space: DiskSpace, _ tree: DiskTree, _ superblock: DiskSuperblock) {
    self.store = store
    self.space = space
    self.tree = tree
    self.superblock = superblock
  }

  // MARK: Items

  func set(_ key: DiskKey, to value: [UInt8]) throws(DiskFSError) {
    hasChanges = true
    do throws(DiskFSError) { try tree.set(key, to: value) } catch {
      isBroken = true
      throw error
    }
  }

  func remove(_ key: DiskKey) throws(DiskFSError) {
    hasChanges = true
    do throws(DiskFSError) { try tree.remove(key) } catch {
      isBroken = true
      throw error
    }
  }

  // MARK: Files

  /// Throws `corrupt` when there is none: whoever knows its number got it from here.
  public func inode(_ object: UInt64) throws(DiskFSError) -> DiskInode {
    guard let bytes = try tree.value(DiskKey(object, .inode, 0)), let inode = DiskInode(bytes) else { throw .corrupt }
    return inode
  }

  public func setInode(_ object: UInt64, _ inode: DiskInode) throws(DiskFSError) {
    try set(DiskKey(object, .inode, 0), to: inode.encoded)
  }

  /// Makes a file that has no name; the number of it.
  public func make(_ inode: DiskInode) throws(DiskFSError) -> UInt64 {
    let object = superblock.nextObject
    try setInode(object, inode)
    superblock.nextObject += 1
    return object
  }

  /// Removes a file with all it has.
  public func delete(_ object: UInt64) throws(DiskFSError) {
    _ = try removePages(object, 0..<(1 << 32))
    let start = DiskKey(high: object << 8, 0)
    while let item = try tree.next(from: start), item.key.object == object { try remove(item.key) }
  }

  /// Notes that a file has no name and goes when the volume is opened next, unless that is taken back.
  public func setOrphan(_ object: UInt64, _ isOrphan: Bool) throws(DiskFSError) {
    let key = DiskKey(0, .orphan, object)
    if isOrphan { try set(key, to: []) } else { try remove(key) }
  }

  /// A file that has no name: after `open`, one that lost it before, to be given to `deleteOrphan`.
  public func firstOrphan() throws(DiskFSError) -> UInt64? {
    guard let item = try tree.next(from: DiskKey(0, .orphan, 0)), item.key.isLike(DiskKey(0, .orphan, 0)) else { return nil }
    return item.key.offset
  }

  /// At most 4095 bytes.
  public func setTarget(_ object: UInt64, _ target: [UInt8]) throws(DiskFSError) {
    for start in stride(from: 0, to: target.count, by: 1024) {
      try set(DiskKey(object, .target, UInt64(start)), to: Array(target[start..<min(start + 1024, target.count)]))
    }
  }

  public func target(_ object: UInt64) throws(DiskFSError) -> [UInt8] {
    var text: [UInt8] = []
    while let part = try tree.value(DiskKey(object, .target, UInt64(text.count))), !part.isEmpty, text.count < 4096 { text += part }
    return text
  }

  // MARK: Room

  /// Blocks that are kept for the tree: to delete something takes room, too.
  public var reserve: UInt32 { max(16, blocks / 64) }

  /// Blocks that `allocate` can give for content, before it is over with what the next commit brings back.
  public var available: UInt32 {
    let taken = reserve + tree.dirtyCount
    return space.available > taken ? space.available - taken : 0
  }

  /// As `available`, with what comes back at the next commit.
  public var free: UInt32 {
    let taken = reserve + tree.dirtyCount
    return space.freeCount > taken ? space.freeCount - taken : 0
  }

  /// Changes have to be brought to the disk before there are more: they might not have the room to get there.
  public var needsCommit: Bool { space.available < tree.dirtyCount + reserve / 2 }

  /// Changed nodes: what the next commit writes at least.
  public var dirtyNodes: UInt32 { tree.dirtyCount }

  /// At most `count` blocks in a row for content that is about to be written: for `place` or `giveBack`. Throws `noSpace`.
  public func allocate(_ count: UInt32, near goal: UInt32? = nil) throws(DiskFSError) -> Range<UInt32> {
    guard let run = space.allocate(min(count, available), for: .content, near: goal) else { throw .noSpace }
    return run
  }

  /// Gives blocks back that were never placed.
  public func giveBack(_ run: Range<UInt32>) { space.giveBack(run) }

  /// Whether a block is marked as being in use; `block` is one of the volume's.
  public func isUsed(_ block: UInt32) -> Bool { space.isUsed(block) }

  /// Calls `node` with the block of every node, and `item` with every item; both nodes and items that a commit has brought to the
  /// disk. Throws what is wrong with a node.
  public func walk(node: (UInt32) -> Void, item: (DiskKey, [UInt8]) -> Void) throws(DiskFSError) {
    try walk(tree.root, node, item)
  }

  private func walk(_ here: DiskNode, _ node: (UInt32) -> Void, _ item: (DiskKey, [UInt8]) -> Void) throws(DiskFSError) {
    node(here.block)
    if here.isLeaf {
      for index in here.keys.indices { item(here.keys[index], here.values[index]) }
    } else {
      for index in here.keys.indices { try walk(try tree.child(index, of: here), node, item) }
    }
  }

  public func dropClean() { tree.dropClean() }

  // MARK: Commits

  /// What has to be written to bring all changes to the disk; nil when there are none. `time` is now.
  ///
  /// The caller writes it and calls `finishCommit` or, when that fails, `fail`. Changes between the two are for the next commit.
  public func prepareCommit(time: Int64) throws(DiskFSError) -> DiskCommit? {
    if isBroken || space.isInconsistent { throw .corrupt }
    if !hasChanges { return nil }
    do throws(DiskFSError) {
      // To give the tree blocks changes the map of free blocks, which is in the tree: until that changes nothing any more.
      repeat {
        try tree.placeDirty()
        while let (group, bytes) = space.takeDirtyGroup() { try tree.set(DiskKey(0, .freeSpace, UInt64(group)), to: bytes) }
        try tree.placeDirty()
      } while space.hasDirtyGroups
    } catch {
      isBroken = true
      throw error
    }
    var nodes: [(block: UInt32, bytes: [UInt8])] = []
    superblock.generation += 1
    superblock.rootLevel = tree.root.level
    superblock.time = time
    superblock.freeBlocks = space.freeCount
    if let root = tree.seal(generation: superblock.generation, into: &nodes) { superblock.root = root }
    space.beginCommit()
    hasChanges = false
    return DiskCommit(nodes: nodes, superblock: (superblock.place, superblock.encoded()))
  }

  public func finishCommit() { space.endCommit() }

  /// Nothing more is written: what is on the disk is whole.
  public func fail() { isBroken = true }
}
