import Primitives

/// Why an image is not a file system this code can mount.
public enum Ext2Error: Error, Equatable {
  case notExt2
  case unsupportedFeatures(UInt32)
  case corrupt
}

/// The fields of the ext2 superblock that mounting needs. SPEC: "The Second Extended File System" §3.1.
public struct Ext2Superblock: Sendable {
  public var inodeCount: UInt32
  public var blockCount: UInt32
  public var reservedBlocks: UInt32
  public var firstDataBlock: UInt32
  /// log2 of the block size in bytes: 10, 11 or 12.
  public var blockShift: UInt32
  public var blocksPerGroup: UInt32
  public var inodesPerGroup: UInt32
  public var state: UInt16
  /// What is to happen when something on the disk cannot be right: 1 nothing, 2 it is only read from then on, 3 the system stops. We
  /// do 2 for 3.
  public var errorPolicy: UInt16
  public var firstInode: UInt32
  /// A deleted file that was still in use, or 0.
  public var firstOrphan: UInt32
  public var inodeSize: UInt32
  public var incompatible: UInt32
  public var readOnlyCompatible: UInt32
  public var uuid: [UInt8]
  public var label: [UInt8]

  /// The superblock's place on the device, in bytes, whatever the block size.
  public static let offset = 1024
  public static let size = 1024
  /// Directory entries with file types: the one incompatible feature we know.
  public static let fileTypes: UInt32 = 2
  /// sparse_super and large_file.
  public static let knownReadOnly: UInt32 = 3
  /// Their descriptors are in memory all the time.
  public static let mostGroups: UInt32 = 1 << 16
  /// Where it says which deleted file was still in use.
  public static let orphanOffset = 232
  public static let cleanState: UInt16 = 1
  public static let faultyState: UInt16 = 2

  /// Reads and checks 1024 bytes.
  public init(_ bytes: borrowing Span<UInt8>) throws(Ext2Error) {
    guard bytes.count >= 1024, bytes.u16(56) == 0xEF53 else { throw .notExt2 }
    inodeCount = bytes.u32(0) ?? 0
    blockCount = bytes.u32(4) ?? 0
    reservedBlocks = bytes.u32(8) ?? 0
    firstDataBlock = bytes.u32(20) ?? 0
    let logSize = bytes.u32(24) ?? 99
    blocksPerGroup = bytes.u32(32) ?? 0
    inodesPerGroup = bytes.u32(40) ?? 0
    state = bytes.u16(58) ?? 0
    errorPolicy = bytes.u16(60) ?? 0
    let revision = bytes.u32(76) ?? 0
    firstInode = revision == 0 ? 11 : bytes.u32(84) ?? 11
    firstOrphan = bytes.u32(Self.orphanOffset) ?? 0
    inodeSize = revision == 0 ? 128 : UInt32(bytes.u16(88) ?? 0)
    incompatible = revision == 0 ? 0 : bytes.u32(96) ?? 0
    readOnlyCompatible = revision == 0 ? 0 : bytes.u32(100) ?? 0
    uuid = []
    for index in 104..<120 { uuid.append(bytes[index]) }
    label = []
    for index in 120..<136 where bytes[index] != 0 { label.append(bytes[index]) }
    guard logSize <= 2 else { throw .corrupt }
    blockShift = 10 + logSize
    if incompatible & ~Self.fileTypes != 0 { throw .unsupportedFeatures(incompatible & ~Self.fileTypes) }
    try check()
  }

  private func check() throws(Ext2Error) {
    let bitsPerBlock = UInt32(8) << blockShift
    guard blocksPerGroup > 0, blocksPerGroup <= bitsPerBlock, inodesPerGroup > 0, inodesPerGroup <= bitsPerBlock,
      inodeSize >= 128, inodeSize <= 1 << blockShift, inodeSize & (inodeSize - 1) == 0,
      firstDataBlock == (blockShift == 10 ? 1 : 0), blockCount > firstDataBlock, firstInode >= 11, inodeCount >= firstInode,
      groupCount <= Self.mostGroups, UInt64(groupCount) * UInt64(inodesPerGroup) >= UInt64(inodeCount)
    else { throw .corrupt }
  }

  public var blockSize: Int { 1 << Int(blockShift) }
  public var groupCount: UInt32 { (blockCount - firstDataBlock - 1) / blocksPerGroup + 1 }
  /// The block after the superblock's, where the group descriptors begin.
  public var descriptorBlock: UInt32 { firstDataBlock + 1 }
  public var hasFileTypes: Bool { incompatible & Self.fileTypes != 0 }
  /// Whether features forbid writing.
  public var mustBeReadOnly: Bool { readOnlyCompatible & ~Self.knownReadOnly != 0 }
  public var inodesPerBlock: UInt32 { UInt32(blockSize) / inodeSize }

  /// The blocks of a group, for bitmaps: the last one may be shorter.
  public func blocks(inGroup group: UInt32) -> UInt32 {
    min(blocksPerGroup, blockCount - firstDataBlock - group * blocksPerGroup)
  }
  /// Whether a block may hold data.
  public func isDataBlock(_ block: UInt32) -> Bool { block > firstDataBlock && block < blockCount }
}

/// A block group descriptor: 32 bytes. SPEC: §3.3.
public struct Ext2Group: Sendable {
  public static let size = 32
  public var blockBitmap: UInt32
  public var inodeBitmap: UInt32
  public var inodeTable: UInt32
  // They are the disk's word, whatever the bitmaps say: a damaged one may have them too high already.
  public private(set) var freeBlocks: UInt16
  public private(set) var freeInodes: UInt16
  public private(set) var directories: UInt16

  /// Reads a descriptor; nil when its tables lie outside the device, or it counts more than a group has.
  public init?(_ bytes: borrowing Span<UInt8>, at offset: Int, _ superblock: Ext2Superblock) {
    blockBitmap = bytes.u32(offset) ?? 0
    inodeBitmap = bytes.u32(offset + 4) ?? 0
    inodeTable = bytes.u32(offset + 8) ?? 0
    freeBlocks = bytes.u16(offset + 12) ?? 0
    freeInodes = bytes.u16(offset + 14) ?? 0
    directories = bytes.u16(offset + 16) ?? 0
    let tableBlocks = (superblock.inodesPerGroup + superblock.inodesPerBlock - 1) / superblock.inodesPerBlock
    guard superblock.isDataBlock(blockBitmap), superblock.isDataBlock(inodeBitmap), superblock.isDataBlock(inodeTable),
      superblock.blockCount - inodeTable >= tableBlocks, freeBlocks <= superblock.blocksPerGroup,
      freeInodes <= superblock.inodesPerGroup, directories <= superblock.inodesPerGroup
    else { return nil }
  }

  /// Counts a block that has been taken; and the others below as they say. None goes below 0 or above what its field holds.
  public mutating func takeBlock() { freeBlocks -= freeBlocks > 0 ? 1 : 0 }
  public mutating func freeBlock() { freeBlocks += freeBlocks < .max ? 1 : 0 }
  public mutating func takeInode(isDirectory: Bool) {
    freeInodes -= freeInodes > 0 ? 1 : 0
    if isDirectory { directories += directories < .max ? 1 : 0 }
  }
  public mutating func freeInode(isDirectory: Bool) {
    freeInodes += freeInodes < .max ? 1 : 0
    if isDirectory { directories -= directories > 0 ? 1 : 0 }
  }

  /// Writes the counts, which are all that changes.
  public func encodeCounts(into bytes: inout MutableSpan<UInt8>, at offset: Int) {
    bytes.put16(freeBlocks, at: offset + 12)
    bytes.put16(freeInodes, at: offset + 14)
    bytes.put16(directories, at: offset + 16)
  }
}
