import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads

/// A block device as a special file: its pages are cached in one inode.
public final class BlockNode: Device, OpenFile, FileSystem {
  public let disk: any BlockDevice
  public var device: (any BlockDevice)? { disk }
  private var inodeSlot: Inode?
  public let deviceNumber: UInt32
  private let isMounted = Atomic<Bool>(false)
  private let openings = Atomic<Int>(0)

  public init(_ disk: any BlockDevice, number: DeviceNumber) {
    self.disk = disk
    deviceNumber = number.rawValue
    var attributes = Attributes(mode: Mode.regular | 0o600)
    attributes.size = disk.sectorCount * 512
    attributes.device = number
    let inode = Inode(self, number: 1, attributes: attributes)
    inode.addUser()
    inodeSlot = inode
  }

  /// The cached content.
  public var inode: Inode { inodeSlot! }
  public var typeName: String { "bdev" }
  public var root: Inode { inode }
  public var isSeekable: Bool { true }
  public var isBlockDevice: Bool { true }

  public func lookup(_ name: [UInt8], in directory: Inode) throws(Errno) -> Inode { throw .notDirectory }
  public func list(_ directory: Inode, from position: UInt64, _ visit: (DirectoryEntry) -> Bool) throws(Errno) {
    throw .notDirectory
  }
  public func locate(_ inode: Inode, _ index: UInt32, forWriting: Bool, _ visit: (UInt64?, Range<Int>) -> Void) throws(Errno) {
    let first = UInt64(index) * 8
    let end = Int(min(8, disk.sectorCount > first ? disk.sectorCount - first : 0)) * 512
    if end > 0 { visit(first, 0..<end) }
    if end < pageSize { visit(nil, end..<pageSize) }
  }
  public func reserve(_ inode: Inode, _ index: UInt32, _ range: Range<Int>) throws(Errno) {
    if UInt64(index) * 8 >= disk.sectorCount { throw .noSpace }
  }
  public func resize(_ inode: Inode, to size: UInt64) throws(Errno) { throw .invalidArgument }
  public func sync() throws(Errno) {
    try inode.writeBack()
    try BlockRequest.flush(disk)
  }

  /// Takes the device for a file system, alone. Throws `resourceBusy`.
  public func claim() throws(Errno) {
    if isMounted.exchange(true, ordering: .acquiringAndReleasing) { throw .resourceBusy }
  }
  public func release() {
    isMounted.store(false, ordering: .releasing)
    endUnused()
  }

  /// A loop device may end with its last use.
  private func endUnused() {
    guard let loop = disk as? LoopDevice, openings.load(ordering: .acquiring) == 0, !isMounted.load(ordering: .acquiring),
      loop.binding?.endsWithUse == true
    else { return }
    // Another one may have been faster.
    try? LoopDevices.unbind(self, loop)
  }

  /// The device has another size from now on.
  func resize() {
    let size = disk.sectorCount * 512
    inode.attributes.withLock { $0.size = size }
  }

  /// Forgets what it has of the device, which a file system reads and writes without it.
  public func invalidate() throws(Errno) {
    try inode.writeBack()
    _ = inode.dropCleanPages()
  }
  /// BLKFLSBUF: nothing of it is cached any more; nothing is left of a disk in memory that nobody else uses.
  private func flush() throws(Errno) {
    try sync()
    guard let memory = disk as? RAMDisk, openings.load(ordering: .acquiring) == 1 else {
      _ = inode.dropCleanPages()
      return
    }
    try claim()
    defer { release() }
    inode.dropPages()
    memory.empty()
  }
  public func statistics() -> FileSystemStatistics { FileSystemStatistics(magic: 0x6264_6576) }

  public func open(_ node: Inode, flags: UInt32) throws(Errno) -> any OpenFile {
    openings.wrappingAdd(1, ordering: .relaxed)
    return self
  }
  public func close(_ description: FileDescription) {
    if openings.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0 { endUnused() }
  }
  public func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    if description.isDirect { return try inode.readDirect(&buffer, at: offset) }
    return try inode.read(&buffer, at: offset)
  }
  public func write(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno)
    -> (Int, UInt64)
  {
    let room = inode.size > offset ? inode.size - offset : 0
    if room == 0 { throw .noSpace }
    var part = buffer.prefix(Int(min(UInt64(buffer.count), room)))
    let result =
      description.isDirect
      ? try inode.writeDirect(&part, at: offset, append: false) : try inode.write(&part, at: offset, append: false)
    try description.synchroniseIfAsked()
    return result
  }
  /// BLKGETSIZE64, BLKGETSIZE, BLKROGET, BLKSSZGET, BLKPBSZGET, BLKIOMIN, BLKIOOPT, BLKALIGNOFF, BLKBSZGET, BLKFLSBUF.
  public func control(_ command: UInt32, _ argument: UInt32, _ description: FileDescription) throws(Errno) -> Int32 {
    switch command {
    case 0x8004_1272: try UserMemory.write64(inode.size, to: argument)
    case 0x1260: try UserMemory.write32(UInt32(clamping: disk.sectorCount), to: argument)
    case 0x1268, 0x127B, 0x1278: try UserMemory.write32(512, to: argument)
    case 0x125E: try UserMemory.write32((disk as? LoopDevice)?.binding?.isReadOnly == true ? 1 : 0, to: argument)
    case 0x1279, 0x127A: try UserMemory.write32(0, to: argument)
    case 0x8004_1270: try UserMemory.write32(UInt32(pageSize), to: argument)
    case 0x1261: try flush()
    default: throw .inappropriateIOCTLForDevice
    }
    return 0
  }
}
