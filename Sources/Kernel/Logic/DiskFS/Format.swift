import Primitives

/// What goes wrong in a volume.
public enum DiskFSError: Error, Equatable, Sendable {
  /// The device failed.
  case io
  /// A checksum or a structure is not what it must be.
  case corrupt
  case noSpace
}

/// Where a volume's blocks are read from.
public protocol DiskStore: AnyObject {
  /// A block of `DiskFormat.blockSize` bytes.
  func read(_ block: UInt32) throws(DiskFSError) -> [UInt8]
}

/// The layout of a diskfs volume.
///
/// A volume is one tree of items, each with a key. Nothing that is in use is ever written over: what changes goes to free blocks,
/// and a superblock that leads to the new root is written when all of it is on the device. There are two places for superblocks,
/// used in turn, so that one of them is always whole. Every block is read by a pointer that has its checksum, so that a volume is
/// either right or known to be wrong, and there is nothing to repair.
///
/// Block 0 is for a boot loader, 1 and 2 are the superblocks, and all others are nodes of the tree or content of files. Numbers
/// are little-endian.
public enum DiskFormat {
  public static let blockSize = 4096
  /// Free for a boot loader, and the superblocks.
  public static let firstBlock: UInt32 = 3
  public static let superblocks: [UInt32] = [1, 2]
  /// The smallest volume that is worth it.
  public static let leastBlocks: UInt32 = 64
  public static let root: UInt64 = 1
  public static let longestName = 255
  /// A block group: what one item of the free-space map covers.
  static let groupBlocks: UInt32 = 4096
  /// The most bytes an item may have besides its key.
  public static let largestItem = 1800
  /// The most pages that an extent may have.
  static let extentPages: UInt32 = 64
}

/// What an item is about, and where it is in the order of items: those of one object lie together.
public struct DiskKey: Comparable, Sendable {
  public enum Kind: UInt8, Sendable {
    /// Of object 0; the offset is the group's number. A bit for each block in use.
    case freeSpace = 1
    /// Of object 0; the offset is the object of a file that has no name, and goes when the volume is mounted next.
    case orphan = 2
    case inode = 3
    /// A name in a directory; the offset comes from the name's hash.
    case entry = 4
    /// A part of a symbolic link's target.
    case target = 5
    /// An extended attribute; the offset comes from the name's hash.
    case attribute = 6
    /// Pages of a file; the offset is the first one's number.
    case extent = 7
  }
  /// The object in the upper 56 bits, the kind in the others.
  let high: UInt64
  public let offset: UInt64

  public init(_ object: UInt64, _ kind: Kind, _ offset: UInt64) { self.init(high: object << 8 | UInt64(kind.rawValue), offset) }

  init(high: UInt64, _ offset: UInt64) {
    self.high = high
    self.offset = offset
  }

  public var object: UInt64 { high >> 8 }
  /// Nil for a kind that this version does not know.
  public var kind: Kind? { Kind(rawValue: UInt8(truncatingIfNeeded: high)) }

  public static func < (a: DiskKey, b: DiskKey) -> Bool { a.high != b.high ? a.high < b.high : a.offset < b.offset }

  /// Whether this is an item of the same object and kind.
  func isLike(_ other: DiskKey) -> Bool { high == other.high }

  static var first: DiskKey { DiskKey(high: 0, 0) }
}

/// Where a block is, and the checksum of what it has.
public struct DiskPointer: Equatable, Sendable {
  public var block: UInt32
  public var checksum: UInt32
  public init(block: UInt32, checksum: UInt32) {
    self.block = block
    self.checksum = checksum
  }
}

/// What is in a superblock: 128 bytes at the beginning of its block, zeros behind.
///
/// Offsets: 0 magic, 8 checksum of the block with this field as 0, 12 version, 16 blocks, 20 root block, 24 root checksum, 28 root
/// level, 32 generation, 40 next object, 48 UUID, 64 label (32), 96 time of the commit (nanoseconds since 1970), 104 free blocks.
public struct DiskSuperblock: Equatable, Sendable {
  static var magic: [UInt8] { Array("AdrOSdf\u{1}".utf8) }
  static let version: UInt32 = 1
  public var blocks: UInt32
  public var root: DiskPointer
  public var rootLevel: UInt8
  public var generation: UInt64
  public var nextObject: UInt64
  public var uuid: [UInt8]
  /// At most 32 bytes.
  public var label: [UInt8]
  public var time: Int64
  public var freeBlocks: UInt32

  /// Whether a block says that it is a superblock: what it has may be wrong.
  public static func isMarked(_ bytes: [UInt8]) -> Bool {
    bytes.count == DiskFormat.blockSize && bytes.prefix(8).elementsEqual(magic)
  }

  /// Nil for what is no superblock, or not a whole one.
  public init?(_ bytes: [UInt8]) {
    let span = bytes.span
    guard Self.isMarked(bytes), span.u32(12) == Self.version,
      let checksum = span.u32(8), let blocks = span.u32(16), let root = span.u32(20), let rootChecksum = span.u32(24),
      let generation = span.u64(32), let nextObject = span.u64(40), let time = span.u64(96), let freeBlocks = span.u32(104)
    else { return nil }
    var plain = bytes
    for offset in 8..<12 { plain[offset] = 0 }
    guard XXH32.hash(plain.span) == checksum, blocks >= DiskFormat.leastBlocks, root >= DiskFormat.firstBlock, root < blocks,
      bytes[28] < DiskNode.mostLevels, nextObject > DiskFormat.root, nextObject < 1 << 56
    else { return nil }
    self.blocks = blocks
    self.root = DiskPointer(block: root, checksum: rootChecksum)
    rootLevel = bytes[28]
    self.generation = generation
    self.nextObject = nextObject
    uuid = Array(bytes[48..<64])
    label = Array(bytes[64..<96].prefix { $0 != 0 })
    self.time = Int64(bitPattern: time)
    self.freeBlocks = freeBlocks
  }

  init(blocks: UInt32, uuid: [UInt8], label: [UInt8]) {
    self.blocks = blocks
    self.uuid = uuid
    self.label = label
    root = DiskPointer(block: 0, checksum: 0)
    rootLevel = 0
    generation = 0
    nextObject = DiskFormat.root + 1
    time = 0
    freeBlocks = 0
  }

  /// Where this generation's is.
  public var place: UInt32 { DiskFormat.superblocks[Int(truncatingIfNeeded: generation & 1)] }

  func encoded() -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: DiskFormat.blockSize)
    for (offset, byte) in Self.magic.enumerated() { bytes[offset] = byte }
    for (offset, byte) in uuid.prefix(16).enumerated() { bytes[48 + offset] = byte }
    for (offset, byte) in label.prefix(32).enumerated() { bytes[64 + offset] = byte }
    bytes[28] = rootLevel
    var span = bytes.mutableSpan
    span.put32(Self.version, at: 12)
    span.put32(blocks, at: 16)
    span.put32(root.block, at: 20)
    span.put32(root.checksum, at: 24)
    span.put64(generation, at: 32)
    span.put64(nextObject, at: 40)
    span.put64(UInt64(bitPattern: time), at: 96)
    span.put32(freeBlocks, at: 104)
    let checksum = XXH32.hash(bytes.span)
    var out = bytes.mutableSpan
    out.put32(checksum, at: 8)
    return bytes
  }
}
