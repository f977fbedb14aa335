import Primitives

/// An extended attribute: `index` is its namespace's number, `name` what follows the namespace.
public struct Ext2Attribute: Equatable, Sendable {
  public var index: UInt8
  public var name: [UInt8]
  public var value: [UInt8]

  public init(index: UInt8, name: [UInt8], value: [UInt8]) {
    self.index = index
    self.name = name
    self.value = value
  }

  /// Bytes of the entry and of the value.
  var entrySize: Int { 16 + (name.count + 3) & ~3 }
  var valueSize: Int { (value.count + 3) & ~3 }

  /// By namespace, then shorter names first. SPEC: Linux fs/ext2/xattr.c wants its entries so.
  func precedes(_ other: Ext2Attribute) -> Bool {
    if index != other.index { return index < other.index }
    if name.count != other.name.count { return name.count < other.name.count }
    for at in name.indices where name[at] != other.name[at] { return name[at] < other.name[at] }
    return false
  }

  /// What e2fsck compares. SPEC: e2fsprogs lib/ext2fs/ext_attr.c, ext2fs_ext_attr_hash_entry.
  var hash: UInt32 {
    var hash: UInt32 = 0
    for byte in name { hash = hash << 5 ^ hash >> 27 ^ UInt32(byte) }
    for start in stride(from: 0, to: value.count, by: 4) {
      var word: UInt32 = 0
      for at in start..<min(start + 4, value.count) { word |= UInt32(value[at]) << UInt32((at - start) * 8) }
      hash = hash << 16 ^ hash >> 16 ^ word
    }
    return hash
  }
}

/// Extended attributes on the disk: a block of their own, or what is left of a large inode. SPEC: "Extended attribute block
/// format" in Linux Documentation/filesystems/ext4/attributes.rst.
///
/// A block has a header of 32 bytes and entries behind it, in order; values lie at its end. In an inode a magic number is all the
/// header there is, and offsets count from behind it.
public enum Ext2AttributeBlock {
  public static let magic: UInt32 = 0xEA02_0000
  private static let header = 32

  /// How many inodes share a block.
  public static func references(_ bytes: borrowing Span<UInt8>) -> UInt32 { bytes.u32(4) ?? 0 }
  public static func setReferences(_ count: UInt32, _ bytes: inout MutableSpan<UInt8>) { bytes.put32(count, at: 4) }

  /// The attributes in a block of their own; nil for what is none.
  public static func decode(_ bytes: borrowing Span<UInt8>) -> [Ext2Attribute]? {
    guard bytes.u32(0) == magic, bytes.u32(8) == 1 else { return nil }
    return decode(bytes, entries: header, base: 0, end: bytes.count)
  }

  /// The attributes in an inode of `size` bytes at `offset`; none when it has no room or no mark of them, nil when they are broken.
  public static func decode(_ bytes: borrowing Span<UInt8>, inodeAt offset: Int, size: Int) -> [Ext2Attribute]? {
    guard let start = inodeStart(bytes, offset, size), bytes.u32(start) == magic else { return [] }
    return decode(bytes, entries: start + 4, base: start + 4, end: offset + size)
  }

  /// Takes the mark of attributes away from an inode.
  public static func erase(_ bytes: inout MutableSpan<UInt8>, inodeAt offset: Int, size: Int) {
    guard let start = inodeStart(bytes.span, offset, size), bytes.span.u32(start) == magic else { return }
    for at in start..<(offset + size) { bytes[at] = 0 }
  }

  private static func inodeStart(_ bytes: borrowing Span<UInt8>, _ offset: Int, _ size: Int) -> Int? {
    guard size > 128, let extra = bytes.u16(offset + 128), extra & 3 == 0, 128 + Int(extra) + 8 <= size else { return nil }
    return offset + 128 + Int(extra)
  }

  private static func decode(_ bytes: borrowing Span<UInt8>, entries: Int, base: Int, end: Int) -> [Ext2Attribute]? {
    var attributes: [Ext2Attribute] = []
    var at = entries
    while at + 4 <= end, bytes.u32(at) != 0 {
      guard at + 16 <= end else { return nil }
      let length = Int(bytes[at])
      guard at + 16 + length <= end, let place = bytes.u16(at + 2), let inode = bytes.u32(at + 4), let size = bytes.u32(at + 8),
        inode == 0, size <= UInt32(end - base), base + Int(place) + Int(size) <= end
      else { return nil }
      var attribute = Ext2Attribute(index: bytes[at + 1], name: [], value: [])
      for byte in 0..<length { attribute.name.append(bytes[at + 16 + byte]) }
      attribute.value.reserveCapacity(Int(size))
      for byte in 0..<Int(size) { attribute.value.append(bytes[base + Int(place) + byte]) }
      attributes.append(attribute)
      at += attribute.entrySize
    }
    return attributes
  }

  /// Whether attributes fit into a block.
  public static func fits(_ attributes: [Ext2Attribute], size: Int) -> Bool {
    attributes.reduce(header + 4) { $0 + $1.entrySize + $1.valueSize } <= size
  }

  /// Fills a block that one inode uses; the attributes fit.
  public static func encode(_ attributes: [Ext2Attribute], into bytes: inout MutableSpan<UInt8>) {
    for at in 0..<bytes.count { bytes[at] = 0 }
    bytes.put32(magic, at: 0)
    bytes.put32(1, at: 4)
    bytes.put32(1, at: 8)
    var at = header
    var end = bytes.count
    var hash: UInt32 = 0
    var sorted: [Ext2Attribute] = []
    for attribute in attributes { sorted.insert(attribute, at: sorted.firstIndex { attribute.precedes($0) } ?? sorted.count) }
    for attribute in sorted {
      end -= attribute.valueSize
      bytes[at] = UInt8(truncatingIfNeeded: attribute.name.count)
      bytes[at + 1] = attribute.index
      bytes.put16(attribute.value.isEmpty ? 0 : UInt16(truncatingIfNeeded: end), at: at + 2)
      bytes.put32(UInt32(truncatingIfNeeded: attribute.value.count), at: at + 8)
      bytes.put32(attribute.hash, at: at + 12)
      for index in attribute.name.indices { bytes[at + 16 + index] = attribute.name[index] }
      for index in attribute.value.indices { bytes[end + index] = attribute.value[index] }
      hash = hash << 16 ^ hash >> 16 ^ attribute.hash
      at += attribute.entrySize
    }
    bytes.put32(sorted.contains { $0.hash == 0 } ? 0 : hash, at: 12)
  }
}
