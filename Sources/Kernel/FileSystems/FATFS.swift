import FAT
import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

struct FATNodeRank: LockRank { static let level: UInt8 = 28 }
struct FATRecordRank: LockRank { static let level: UInt8 = 24 }
struct FATIndexRank: LockRank { static let level: UInt8 = 84 }

/// A file's chain and directory record in memory.
final class FATNode {
  struct Clusters {
    /// 0 for an empty file.
    var first: UInt32
    /// What is known of the chain.
    var chain = FATChain()
    /// All of it is.
    var isWhole = false
  }
  /// Where the record is.
  struct Home {
    let directory: Inode
    let slots: Range<UInt32>
    /// The short record's place on the device, in records.
    let position: UInt64
  }
  let clusters: Mutex<Clusters, FATNodeRank>
  /// These two under the file system's `records`. The root and what was deleted have no home.
  var home: Home?
  var record: FATRecord

  init(_ record: FATRecord, home: Home?, first: UInt32) {
    self.record = record
    self.home = home
    clusters = Mutex(Clusters(first: first))
  }
}

/// FAT12, FAT16 and FAT32 with long names, read and write. On-disk structures are Logic/FAT's.
///
/// What a power cut leaves: a cluster is free for others only after nothing on the disk leads to it, a directory's new cluster is
/// there before a directory leads to it, and a file that is renamed has its new name before it loses the old one.
///
/// SPEC: Microsoft FAT specification 1.03.
public final class FATFS: FileSystem {
  private let mounted: MountedDisk
  /// Everything before the first cluster, but FAT12's and FAT16's root directory.
  let metadata: Inode
  let geometry: FATGeometry
  let options: FATOptions
  let space: Mutex<FATSpace, FileSystemRank>
  /// Held while records are written and while they move.
  let records = Mutex<Void, FATRecordRank>(())
  /// Files whose records are not where their inodes' numbers say.
  let moved = InterruptSpinLock<FATMoved, FATIndexRank>(FATMoved())
  /// Clusters that nothing leads to any more in memory, but on the disk perhaps.
  let retired = InterruptSpinLock<[Range<UInt32>], FATIndexRank>([])

  public var typeName: String { "vfat" }
  public var device: (any BlockDevice)? { disk.disk }
  public var deviceNumber: UInt32 { disk.deviceNumber }
  public var root: Inode { mounted.root! }
  public var isReadOnly: Bool { mounted.isReadOnly }
  var disk: BlockNode { mounted.node }
  var table: InodeTable { mounted.inodes }
  public var namesAreExact: Bool { false }

  private init(_ mounted: MountedDisk, _ geometry: FATGeometry, _ metadata: Inode, _ options: FATOptions) {
    self.mounted = mounted
    self.geometry = geometry
    self.metadata = metadata
    self.options = options
    space = Mutex(FATSpace())
  }

  deinit { WriteBack.abandon(metadata) }

  /// Reads and checks the boot sector, and marks the volume as in use.
  static func mount(_ node: BlockNode, readOnly: Bool, _ options: FATOptions) throws(Errno) -> FATFS {
    try MountedDisk.claim(node, readOnly: readOnly) { disk throws(Errno) in try mount(disk, options) }
  }

  private static func mount(_ mounted: MountedDisk, _ options: FATOptions) throws(Errno) -> FATFS {
    let disk = mounted.node
    let geometry: FATGeometry
    let bytes = try disk.inode.bytes(at: 0, count: FATGeometry.size)
    do throws(FATError) { geometry = try FATGeometry(bytes.span) } catch {
      switch error {
      case .notFAT: log("fat: no FAT file system on the device")
      case .corrupt: log("fat: the boot sector is corrupt")
      case .noTable: log("fat: the allocation table that counts is not there")
      }
      throw .invalidArgument
    }
    guard geometry.firstSector(of: geometry.endCluster) * 512 <= disk.inode.size else {
      log("fat: the file system is larger than its device")
      throw .invalidArgument
    }
    // The first bytes came through the device's own cache.
    try disk.invalidate()
    let metadata = MetadataBlocks.make(disk, blockBytes: pageSize, endSector: UInt64(geometry.tableStart + geometry.allTableSectors))
    let fileSystem = FATFS(mounted, geometry, metadata, options)
    try fileSystem.start()
    return fileSystem
  }

  private func start() throws(Errno) {
    if !geometry.isClean { log("fat: not cleanly unmounted; fsck.fat is advised") }
    try space.withLock { space throws(Errno) in space = try readSpace() }
    mounted.setRoot(try makeRoot())
    if !isReadOnly { try setState(inUse: true) }
  }

  public func end() { mounted.end() }

  /// Something on the disk cannot be right: it is only read from now on, as on Linux.
  func fault(_ what: String) -> Errno {
    if mounted.noteFault() { log("fat: \(what)") }
    if mounted.stop() { log("fat: nothing is written any more") }
    return .ioError
  }

  /// No record is there.
  static var rootNumber: UInt64 { 1 }

  private func makeRoot() throws(Errno) -> Inode {
    let node = FATNode(FATRecord(name: .dot, attributes: FATRecord.directory), home: nil, first: geometry.rootCluster)
    var attributes = Attributes(mode: options.mode(Mode.directory, isReadOnly: false), owner: options.owner, group: options.group)
    attributes.accessTime = 0
    attributes.modificationTime = 0
    attributes.changeTime = 0
    let root = Inode(self, number: Self.rootNumber, attributes: attributes, payload: node)
    try measure(root, node)
    return table.insert(root)
  }

  // MARK: Metadata

  func readBytes<Result>(_ position: UInt64, _ body: (borrowing Span<UInt8>, Int) -> Result) throws(Errno) -> Result {
    let frame = try metadata.page(UInt32(position >> 12))
    defer { Frames.release(frame) }
    return frame.withBytes { body($0, Int(position & 0xFFF)) }
  }

  func changeBytes<Result>(_ position: UInt64, _ body: (inout MutableSpan<UInt8>, Int) -> Result) throws(Errno) -> Result {
    let index = UInt32(position >> 12)
    let frame = try metadata.page(index)
    defer { Frames.release(frame) }
    let result = frame.withMutableBytes { body(&$0, Int(position & 0xFFF)) }
    metadata.markDirty(index)
    return result
  }

  /// Marks the volume as in use, or as cleanly unmounted unless it was not when it was mounted.
  private func setState(inUse: Bool) throws(Errno) {
    guard geometry.isClean else { return }
    try changeBytes(UInt64(geometry.stateOffset)) { bytes, at in
      if inUse { bytes[at] |= FATGeometry.inUse } else { bytes[at] &= ~FATGeometry.inUse }
    }
    let bit = geometry.cleanBit
    if bit == 0 { return }
    try space.withLock { _ throws(Errno) in
      let value = try entry(1)
      try setEntry(1, inUse ? value & ~bit : value | bit)
    }
  }

  public func sync() throws(Errno) { try mounted.ifAlive { () throws(Errno) in try commit() } }

  /// With the record, and those of all directories above.
  public func sync(_ inode: Inode) throws(Errno) {
    if isReadOnly { return }
    try metadata.writeBack()
    var child = inode
    while let directory = records.withLock({ _ in node(child).home?.directory }) {
      try directory.writeBack()
      child = directory
    }
    try BlockRequest.flush(disk.disk)
  }

  public func unmount() throws(Errno) {
    try mounted.finish { () throws(Errno) in
      // What was retired is free after the first, and on the disk as such after the second.
      try commit()
      try commit()
      try setState(inUse: false)
      try metadata.writeBack()
      try BlockRequest.flush(disk.disk)
    }
    _ = metadata.dropCleanPages()
  }

  public func dropUnused() {
    table.dropCleanPages()
    _ = metadata.dropCleanPages()
    table.dropUnused()
  }

  public func statistics() -> FileSystemStatistics {
    var result = FileSystemStatistics(magic: 0x4D44)
    result.blockSize = geometry.clusterBytes
    result.blocks = UInt64(geometry.clusterCount)
    result.freeBlocks = UInt64(space.withLock { $0.free }) + UInt64(retiredCount)
    result.availableBlocks = result.freeBlocks
    return result
  }

  // MARK: Inodes

  func node(_ inode: Inode) -> FATNode {
    // Nothing else gets a payload here: there are no FIFOs and no devices.
    inode.payload as! FATNode
  }

  /// The file of a directory's entry.
  func inode(_ entry: FATDirectoryScanner.Entry, in directory: Inode) throws(Errno) -> Inode {
    let position = try position(of: entry.slots.upperBound - 1, in: directory)
    if let inode = inode(at: position) { return inode }
    let record = entry.record
    let home = FATNode.Home(directory: directory, slots: entry.slots, position: position)
    if record.cluster != 0, !geometry.isCluster(record.cluster) || record.isDirectory && record.cluster == geometry.rootCluster {
      throw fault("a record leads to cluster \(record.cluster)")
    }
    if record.isDirectory, record.cluster == 0 {
      throw fault("a directory has no cluster")
    }
    let node = FATNode(record, home: home, first: record.cluster)
    let inode = Inode(self, number: number(for: position), attributes: attributes(record), payload: node)
    if record.isDirectory { try measure(inode, node) }
    return keep(inode, position)
  }

  private func attributes(_ record: FATRecord) -> Attributes {
    let type = record.isDirectory ? Mode.directory : Mode.regular
    var attributes = Attributes(
      mode: options.mode(type, isReadOnly: record.attributes & FATRecord.readOnly != 0), owner: options.owner, group: options.group)
    attributes.size = UInt64(record.size)
    attributes.accessTime = record.access.nanoseconds
    attributes.modificationTime = record.modification.nanoseconds
    attributes.changeTime = attributes.modificationTime
    attributes.blocks = blocks(of: attributes.size)
    return attributes
  }

  /// 512-byte units that a file of a size takes.
  private func blocks(of size: UInt64) -> UInt64 { UInt64(clusters(in: size)) * UInt64(geometry.sectorsPerCluster) }

  /// A directory's size and the number of directories in it, which no record tells.
  private func measure(_ inode: Inode, _ node: FATNode) throws(Errno) {
    if node.home == nil, geometry.kind != .fat32 {
      inode.attributes.withLock { $0.size = UInt64(geometry.rootSectors.count) * 512 }
    } else {
      let most = Self.largestDirectory / geometry.clusterBytes + 1
      let count = try node.clusters.withLock { clusters throws(Errno) in
        try learn(&clusters, upTo: most)
        return clusters.chain.count
      }
      guard count < most || count * geometry.clusterBytes <= Self.largestDirectory else {
        throw fault("a directory has no end")
      }
      inode.attributes.withLock { $0.size = UInt64(count) * UInt64(geometry.clusterBytes) }
    }
    var links: UInt32 = 2
    try forEachEntry(inode) { entry in
      if entry.record.isDirectory { links += 1 }
      return true
    }
    inode.attributes.withLock {
      $0.links = links
      $0.blocks = $0.size / 512
    }
  }

  /// In bytes: 65,536 records. SPEC: FAT specification 1.03, p. 33.
  static var largestDirectory: UInt32 { 65536 * 32 }

  /// The write bits and the first of the owners are all that there is room for. SPEC: Linux' vfat for what is refused.
  public func adapt(_ attributes: inout Attributes, of inode: Inode) throws(Errno) {
    if !options.isQuiet, attributes.owner != options.owner || attributes.group != options.group { throw .notPermitted }
    attributes.owner = options.owner
    attributes.group = options.group
    let isReadOnly = attributes.mode & 0o222 == 0
    attributes.mode = options.mode(inode.type, isReadOnly: isReadOnly)
  }

  public func attributesChanged(_ inode: Inode) throws(Errno) {
    if isReadOnly { return }
    let node = node(inode)
    try records.withLock { _ throws(Errno) in
      node.record.cluster = node.clusters.withLock { $0.first }
      let attributes = inode.attributes.withLock { attributes in
        if inode.isRegular { attributes.blocks = blocks(of: attributes.size) }
        return attributes
      }
      node.record.access = FATTime(nanoseconds: attributes.accessTime)
      node.record.modification = FATTime(nanoseconds: attributes.modificationTime)
      if inode.isRegular {
        node.record.size = UInt32(truncatingIfNeeded: attributes.size)
        if attributes.mode & 0o222 == 0 {
          node.record.attributes |= FATRecord.readOnly
        } else {
          node.record.attributes &= ~FATRecord.readOnly
        }
      }
      if let home = node.home { try write(node.record, to: home) }
    }
  }

  private func write(_ record: FATRecord, to home: FATNode.Home) throws(Errno) {
    try changeSlot(home.slots.upperBound - 1, of: home.directory) { record.encode(into: &$0, at: $1) }
  }

  public func evict(_ inode: Inode) {
    if isReadOnly { return }
    inode.dropPages()
    table.remove(inode)
    do throws(Errno) {
      retire(try takeClusters(of: inode, from: 0))
    } catch { log("fat: clusters of a deleted file are lost: errno \(error.rawValue)") }
  }
}

/// Files by the places of their records. A file keeps its inode number when its record moves.
struct FATMoved: ~Copyable {
  private var buckets: [[(position: UInt64, number: UInt64)]] = []
  private var lastNumber: UInt32 = .max

  func number(at position: UInt64) -> UInt64? {
    if buckets.isEmpty { return nil }
    return buckets[Int(truncatingIfNeeded: position % 64)].first { $0.position == position }?.number
  }

  mutating func set(_ number: UInt64, at position: UInt64) {
    if buckets.isEmpty { buckets = Array(repeating: [], count: 64) }
    let bucket = Int(truncatingIfNeeded: position % 64)
    buckets[bucket].removeAll { $0.position == position }
    buckets[bucket].append((position, number))
  }

  mutating func remove(_ position: UInt64) {
    if !buckets.isEmpty { buckets[Int(truncatingIfNeeded: position % 64)].removeAll { $0.position == position } }
  }

  /// From the other end than places count from.
  mutating func newNumber() -> UInt64 {
    lastNumber &-= 1
    return UInt64(lastNumber)
  }
}

extension FATFS {
  /// The file whose record is at a place, if it is in memory.
  func inode(at position: UInt64) -> Inode? {
    let own = Self.number(of: position)
    for number in [own, moved.withLock { $0.number(at: position) } ?? own] {
      guard let inode = table.find(number) else { continue }
      if records.withLock({ _ in node(inode).home?.position == position }) { return inode }
    }
    moved.withLock { $0.remove(position) }
    return nil
  }

  /// A place's own number: programs have 32 bits for one.
  static func number(of position: UInt64) -> UInt64 { max(position & 0xFFFF_FFFF, 2) }

  /// A number for a file whose record is at a place: the place's own, unless a file that has left it still has that.
  func number(for position: UInt64) -> UInt64 {
    var number = Self.number(of: position)
    while table.find(number) != nil { number = moved.withLock { $0.newNumber() } }
    return number
  }

  func keep(_ inode: Inode, _ position: UInt64) -> Inode {
    if inode.number != Self.number(of: position) { moved.withLock { $0.set(inode.number, at: position) } }
    return table.insert(inode)
  }

  /// An inode's record has another place from now on, or none. `records` is held.
  func move(_ inode: Inode, to home: FATNode.Home?) {
    let node = node(inode)
    let old = node.home
    node.home = home
    moved.withLock {
      if let old { $0.remove(old.position) }
      if let home, Self.number(of: home.position) != inode.number { $0.set(inode.number, at: home.position) }
    }
  }
}

/// `mount -t vfat`.
public final class FATType: FileSystemType {
  init() {}
  public var name: String { "vfat" }
  public var needsDevice: Bool { true }
  public func make(
    source: [UInt8], device: Inode?, readOnly: Bool, options: [UInt8], context: PathContext?
  ) throws(Errno) -> any FileSystem {
    return try FATFS.mount(try MountedDisk.node(of: device), readOnly: readOnly, try FATOptions(options))
  }
}
