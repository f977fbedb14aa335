import Primitives

/// An inode as it lies in the inode table: the first 128 bytes. SPEC: "The Second Extended File System" §3.5.
public struct Ext2InodeRecord: Sendable {
  public var mode: UInt16 = 0
  public var owner: UInt32 = 0
  public var group: UInt32 = 0
  public var size: UInt64 = 0
  /// Seconds since 1970.
  public var accessTime: UInt32 = 0
  public var changeTime: UInt32 = 0
  public var modificationTime: UInt32 = 0
  public var deletionTime: UInt32 = 0
  public var links: UInt16 = 0
  /// 512-byte units, indirect blocks included.
  public var sectors: UInt32 = 0
  public var flags: UInt32 = 0
  /// 12 direct blocks, then single, double and triple indirect; or a short link's text; or a device number.
  public var blocks: InlineArray<15, UInt32> = .init(repeating: 0)
  public var generation: UInt32 = 0
  public var fileACL: UInt32 = 0

  /// The directory has a hash index, which plain changes invalidate.
  public static let indexed: UInt32 = 0x1000

  /// Where it has its time of deletion.
  public static let deletionOffset = 20

  public init() {}

  public init(_ bytes: borrowing Span<UInt8>, at offset: Int) {
    mode = bytes.u16(offset) ?? 0
    owner = UInt32(bytes.u16(offset + 2) ?? 0) | UInt32(bytes.u16(offset + 120) ?? 0) << 16
    group = UInt32(bytes.u16(offset + 24) ?? 0) | UInt32(bytes.u16(offset + 122) ?? 0) << 16
    size = UInt64(bytes.u32(offset + 4) ?? 0)
    accessTime = bytes.u32(offset + 8) ?? 0
    changeTime = bytes.u32(offset + 12) ?? 0
    modificationTime = bytes.u32(offset + 16) ?? 0
    deletionTime = bytes.u32(offset + Self.deletionOffset) ?? 0
    links = bytes.u16(offset + 26) ?? 0
    sectors = bytes.u32(offset + 28) ?? 0
    flags = bytes.u32(offset + 32) ?? 0
    for index in 0..<15 { blocks[index] = bytes.u32(offset + 40 + index * 4) ?? 0 }
    generation = bytes.u32(offset + 100) ?? 0
    fileACL = bytes.u32(offset + 104) ?? 0
    // The upper half of the size is only that for regular files.
    if mode & 0xF000 == 0x8000 { size |= UInt64(bytes.u32(offset + 108) ?? 0) << 32 }
  }

  public func encode(into bytes: inout MutableSpan<UInt8>, at offset: Int) {
    bytes.put16(mode, at: offset)
    bytes.put16(UInt16(truncatingIfNeeded: owner), at: offset + 2)
    bytes.put32(UInt32(truncatingIfNeeded: size), at: offset + 4)
    bytes.put32(accessTime, at: offset + 8)
    bytes.put32(changeTime, at: offset + 12)
    bytes.put32(modificationTime, at: offset + 16)
    bytes.put32(deletionTime, at: offset + Self.deletionOffset)
    bytes.put16(UInt16(truncatingIfNeeded: group), at: offset + 24)
    bytes.put16(links, at: offset + 26)
    bytes.put32(sectors, at: offset + 28)
    bytes.put32(flags, at: offset + 32)
    for index in 0..<15 { bytes.put32(blocks[index], at: offset + 40 + index * 4) }
    bytes.put32(generation, at: offset + 100)
    bytes.put32(fileACL, at: offset + 104)
    if mode & 0xF000 == 0x8000 { bytes.put32(UInt32(truncatingIfNeeded: size >> 32), at: offset + 108) }
    bytes.put16(UInt16(truncatingIfNeeded: owner >> 16), at: offset + 120)
    bytes.put16(UInt16(truncatingIfNeeded: group >> 16), at: offset + 122)
  }

  /// Text of a link short enough to lie in the inode.
  public var inlineTarget: [UInt8]? {
    guard mode & 0xF000 == 0xA000, sectors == 0 || size < 60 && fileACL != 0, size < 60 else { return nil }
    var text: [UInt8] = []
    for index in 0..<Int(size) { text.append(UInt8(truncatingIfNeeded: blocks[index / 4] >> UInt32(index % 4 * 8))) }
    return text
  }

  public mutating func setInlineTarget(_ text: [UInt8]) {
    for index in text.indices { blocks[index / 4] |= UInt32(text[index]) << UInt32(index % 4 * 8) }
    size = UInt64(text.count)
  }

  /// Device number: the old 16-bit form in the first word, the new one in the second.
  public var device: UInt32 {
    get { blocks[0] != 0 ? blocks[0] & 0xFF | (blocks[0] >> 8 & 0xFF) << 8 : blocks[1] }
    set {
      if newValue < 0x10000 { blocks[0] = newValue } else { blocks[1] = newValue }
    }
  }
}

/// The way from an inode to a file's block: slots in the inode and in indirect blocks. SPEC: §3.5 i_block.
public struct Ext2BlockPath: Equatable, Sendable {
  /// Slot in the inode's 15 pointers.
  public var root: Int
  /// Slots in successive indirect blocks.
  public var slots: [Int]

  /// Nil beyond the largest file.
  public init?(block: UInt32, pointersPerBlock: UInt32) {
    let perBlock = UInt64(pointersPerBlock)
    var index = UInt64(block)
    if index < 12 {
      root = Int(index)
      slots = []
      return
    }
    index -= 12
    if index < perBlock {
      root = 12
      slots = [Int(index)]
      return
    }
    index -= perBlock
    if index < perBlock * perBlock {
      root = 13
      slots = [Int(index / perBlock), Int(index % perBlock)]
      return
    }
    index -= perBlock * perBlock
    guard index < perBlock * perBlock * perBlock else { return nil }
    root = 14
    slots = [Int(index / (perBlock * perBlock)), Int(index / perBlock % perBlock), Int(index % perBlock)]
  }
}
