import Primitives

/// What a volume keeps of a file. Times are nanoseconds since 1970.
///
/// 80 bytes: 0 mode, 4 owner, 8 group, 12 links, 16 size, 24 device, 28 zero, 32 blocks, 40 access, 48 modification, 56 change and 64
/// creation time, 72 parent.
public struct DiskInode: Equatable, Sendable {
  public var mode: UInt32
  public var owner: UInt32 = 0
  public var group: UInt32 = 0
  public var links: UInt32 = 1
  /// In bytes.
  public var size: UInt64 = 0
  public var device: UInt32 = 0
  /// Blocks of content.
  public var blocks: UInt64 = 0
  public var accessTime: Int64 = 0
  public var modificationTime: Int64 = 0
  public var changeTime: Int64 = 0
  public var creationTime: Int64 = 0
  /// A directory's.
  public var parent: UInt64 = 0

  public init(mode: UInt32) { self.mode = mode }

  static var size: Int { 80 }
  public static var typeMask: UInt32 { 0xF000 }
  public static var directory: UInt32 { 0x4000 }
  public static var regular: UInt32 { 0x8000 }
  public static var link: UInt32 { 0xA000 }
  public var type: UInt32 { mode & Self.typeMask }
  public var isDirectory: Bool { type == Self.directory }

  /// Nil for what is none.
  public init?(_ bytes: [UInt8]) {
    let span = bytes.span
    guard span.count == Self.size, let mode = span.u32(0), let owner = span.u32(4), let group = span.u32(8), let links = span.u32(12),
      let size = span.u64(16), let device = span.u32(24), let blocks = span.u64(32), let access = span.u64(40),
      let modification = span.u64(48), let change = span.u64(56), let creation = span.u64(64), let parent = span.u64(72)
    else { return nil }
    // What no file has: another type, or more than its pages can be counted.
    guard [0x1000, 0x2000, 0x4000, 0x6000, 0x8000, 0xA000, 0xC000].contains(mode & 0xFFFF_F000), size <= DiskInode.largestSize else {
      return nil
    }
    self.mode = mode
    self.owner = owner
    self.group = group
    self.links = links
    self.size = size
    self.device = device
    self.blocks = blocks
    accessTime = Int64(bitPattern: access)
    modificationTime = Int64(bitPattern: modification)
    changeTime = Int64(bitPattern: change)
    creationTime = Int64(bitPattern: creation)
    self.parent = parent
  }

  /// Pages have 32-bit numbers.
  public static var largestSize: UInt64 { 1 << 44 }

  var encoded: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Self.size)
    var out = bytes.mutableSpan
    out.put32(mode, at: 0)
    out.put32(owner, at: 4)
    out.put32(group, at: 8)
    out.put32(links, at: 12)
    out.put64(size, at: 16)
    out.put32(device, at: 24)
    out.put64(blocks, at: 32)
    out.put64(UInt64(bitPattern: accessTime), at: 40)
    out.put64(UInt64(bitPattern: modificationTime), at: 48)
    out.put64(UInt64(bitPattern: changeTime), at: 56)
    out.put64(UInt64(bitPattern: creationTime), at: 64)
    out.put64(parent, at: 72)
    return bytes
  }
}

/// A name in a directory: the object's number, its type (the mode's, shifted down 12 bits), and the name.
public struct DiskEntry: Equatable, Sendable {
  public var name: [UInt8]
  public var object: UInt64
  /// The type bits of a mode.
  public var type: UInt32

  init(name: [UInt8], object: UInt64, type: UInt32) {
    self.name = name
    self.object = object
    self.type = type
  }

  public init?(_ bytes: [UInt8]) {
    guard bytes.count > 9, bytes.count <= 9 + DiskFormat.longestName, let object = bytes.span.u64(0), object < 1 << 56, bytes[8] < 16 else {
      return nil
    }
    name = Array(bytes[9...])
    if name.contains(0) || name.contains(47) || name == [46] || name == [46, 46] { return nil }
    self.object = object
    type = UInt32(bytes[8]) << 12
  }

  var encoded: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 9)
    var out = bytes.mutableSpan
    out.put64(object, at: 0)
    bytes[8] = UInt8(truncatingIfNeeded: type >> 12)
    return bytes + name
  }

  /// Where names with this hash begin: not all of 23 bits of it, so that a position and some more fits into what old programs have
  /// for one.
  static func position(_ name: [UInt8]) -> UInt64 { UInt64(XXH32.hash(name.span) % 0x7F_FFFF) << 8 }
}

/// Pages of a file that lie in a row on the disk, each with its checksum.
public struct DiskExtent: Equatable, Sendable {
  /// The first page's number.
  public var start: UInt32
  public var block: UInt32
  public var checksums: [UInt32]

  init(start: UInt32, block: UInt32, checksums: [UInt32]) {
    self.start = start
    self.block = block
    self.checksums = checksums
  }

  /// Whether these bytes are an extent on a volume of so many blocks.
  static func isWhole(_ key: DiskKey, _ bytes: [UInt8], blocks: UInt32) -> Bool {
    let count = bytes.count / 4 - 1
    guard key.offset < 1 << 32, bytes.count % 4 == 0, count > 0, count <= Int(DiskFormat.extentPages), let block = bytes.span.u32(0) else {
      return false
    }
    return block >= DiskFormat.firstBlock && UInt64(block) + UInt64(count) <= UInt64(blocks) && key.offset + UInt64(count) <= 1 << 32
  }

  public init?(_ key: DiskKey, _ bytes: [UInt8], blocks: UInt32) {
    guard Self.isWhole(key, bytes, blocks: blocks), let block = bytes.span.u32(0) else { return nil }
    let count = bytes.count / 4 - 1
    start = UInt32(truncatingIfNeeded: key.offset)
    self.block = block
    checksums = []
    for index in 0..<count { checksums.append(bytes.span.u32(4 + index * 4) ?? 0) }
  }

  public var count: UInt32 { UInt32(checksums.count) }
  /// One more than the last page's number.
  public var end: UInt64 { UInt64(start) + UInt64(count) }

  var encoded: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 4 + checksums.count * 4)
    var out = bytes.mutableSpan
    out.put32(block, at: 0)
    for (index, checksum) in checksums.enumerated() { out.put32(checksum, at: 4 + index * 4) }
    return bytes
  }

  /// The part of it that is in a range of pages, which is not empty.
  func part(_ pages: Range<UInt64>) -> DiskExtent? {
    let (low, high) = (max(UInt64(start), pages.lowerBound), min(end, pages.upperBound))
    guard low < high else { return nil }
    let skipped = UInt32(truncatingIfNeeded: low - UInt64(start))
    return DiskExtent(
      start: start + skipped, block: block + skipped,
      checksums: Array(checksums[Int(skipped)..<Int(truncatingIfNeeded: high - UInt64(start))]))
  }
}
