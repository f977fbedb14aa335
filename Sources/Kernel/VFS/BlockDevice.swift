import Machine
import Primitives
import Sync
import SystemABI
import Threads

/// A disk or partition. Transfers wait until the device has done them.
public protocol BlockDevice: AnyObject {
  /// In 512-byte sectors.
  var sectorCount: UInt64 { get }
  /// Reads `count` sectors into a frame from byte `offset` on. Throws `ioError`.
  func read(_ sector: UInt64, count: Int, into frame: Frame, offset: Int) throws(Errno)
  func write(_ sector: UInt64, count: Int, from frame: Frame, offset: Int) throws(Errno)
  /// Returns when everything written before is on stable storage.
  func flush() throws(Errno)
}

/// A block device as a special file: its pages are cached in one inode, which file systems use for their metadata.
public final class BlockNode: Device, OpenFile, FileSystem {
  public let device: any BlockDevice
  private var inodeSlot: Inode?
  public let deviceNumber: UInt32

  public init(_ device: any BlockDevice, number: DeviceNumber) {
    self.device = device
    deviceNumber = number.rawValue
    var attributes = Attributes(mode: Mode.regular | 0o600)
    attributes.size = device.sectorCount * 512
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
  public func readPage(_ inode: Inode, _ index: UInt32, into frame: Frame) throws(Errno) {
    let first = UInt64(index) * 8
    let count = Int(min(8, device.sectorCount > first ? device.sectorCount - first : 0))
    if count < 8 { frame.zero() }
    if count > 0 { try device.read(first, count: count, into: frame, offset: 0) }
  }
  public func reserve(_ inode: Inode, _ index: UInt32, _ range: Range<Int>) throws(Errno) {
    if UInt64(index) * 8 >= device.sectorCount { throw .noSpace }
  }
  public func writePage(_ inode: Inode, _ index: UInt32, from frame: Frame) throws(Errno) {
    let first = UInt64(index) * 8
    let count = Int(min(8, device.sectorCount > first ? device.sectorCount - first : 0))
    if count > 0 { try device.write(first, count: count, from: frame, offset: 0) }
  }
  public func resize(_ inode: Inode, to size: UInt64) throws(Errno) { throw .invalidArgument }
  public func sync() throws(Errno) {
    try inode.writeBack()
    try device.flush()
  }
  public func statistics() -> FileSystemStatistics { FileSystemStatistics(magic: 0x6264_6576) }

  public func open(_ node: Inode, flags: UInt32) throws(Errno) -> any OpenFile { self }
  public func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    try inode.read(&buffer, at: offset)
  }
  public func write(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno)
    -> (Int, UInt64)
  {
    let room = inode.size > offset ? inode.size - offset : 0
    if room == 0 { throw .noSpace }
    var part = buffer.prefix(Int(min(UInt64(buffer.count), room)))
    return try inode.write(&part, at: offset, append: false)
  }
  /// BLKGETSIZE64, BLKGETSIZE, BLKSSZGET, BLKFLSBUF.
  public func control(_ command: UInt32, _ argument: UInt32, _ description: FileDescription) throws(Errno) -> Int32 {
    switch command {
    case 0x8004_1272: try UserMemory.write64(inode.size, to: argument)
    case 0x1260: try UserMemory.write32(UInt32(clamping: device.sectorCount), to: argument)
    case 0x1268: try UserMemory.write32(512, to: argument)
    case 0x1261: try sync()
    default: throw .inappropriateIOCTLForDevice
    }
    return 0
  }
}
