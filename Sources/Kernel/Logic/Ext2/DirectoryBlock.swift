import Primitives

/// Entries in one block of a directory: inode, record length, name length, type, name. SPEC: §4.
public enum Ext2DirectoryBlock {
  public struct Entry: Sendable {
    public var offset: Int
    public var inode: UInt32
    public var length: Int
    public var nameLength: Int
    public var type: UInt8
  }

  /// The entry at `offset` of the block `range` of `bytes`; nil when it is malformed.
  public static func entry(_ bytes: borrowing Span<UInt8>, at offset: Int, in range: Range<Int>) -> Entry? {
    guard offset >= range.lowerBound, offset + 8 <= range.upperBound, let inode = bytes.u32(offset),
      let length = bytes.u16(offset + 4)
    else { return nil }
    let nameLength = Int(bytes[offset + 6])
    guard length >= 8, length % 4 == 0, offset + Int(length) <= range.upperBound, 8 + nameLength <= Int(length) else {
      return nil
    }
    return Entry(offset: offset, inode: inode, length: Int(length), nameLength: nameLength, type: bytes[offset + 7])
  }

  public static func name(_ bytes: borrowing Span<UInt8>, _ entry: Entry) -> [UInt8] {
    var name: [UInt8] = []
    name.reserveCapacity(entry.nameLength)
    for index in 0..<entry.nameLength { name.append(bytes[entry.offset + 8 + index]) }
    return name
  }

  private static func matches(_ bytes: borrowing Span<UInt8>, _ entry: Entry, _ name: [UInt8]) -> Bool {
    guard entry.inode != 0, entry.nameLength == name.count else { return false }
    for index in name.indices where bytes[entry.offset + 8 + index] != name[index] { return false }
    return true
  }

  /// The entry of a name in a block.
  public static func find(_ name: [UInt8], _ bytes: borrowing Span<UInt8>, in range: Range<Int>) -> Entry? {
    var offset = range.lowerBound
    while let entry = entry(bytes, at: offset, in: range) {
      if matches(bytes, entry, name) { return entry }
      offset += entry.length
    }
    return nil
  }

  static func neededLength(_ nameLength: Int) -> Int { (8 + nameLength + 3) & ~3 }

  /// Adds an entry where a record has room; false when none has.
  public static func insert(
    _ name: [UInt8], inode: UInt32, type: UInt8, _ bytes: inout MutableSpan<UInt8>, in range: Range<Int>
  ) -> Bool {
    let needed = neededLength(name.count)
    var offset = range.lowerBound
    while let found = entry(bytes.span, at: offset, in: range) {
      let used = found.inode == 0 ? 0 : neededLength(found.nameLength)
      if found.length - used >= needed {
        if used > 0 { bytes.put16(UInt16(used), at: offset + 4) }
        write(name, inode: inode, type: type, length: found.length - used, &bytes, at: offset + used)
        return true
      }
      offset += found.length
    }
    return false
  }

  public static func write(
    _ name: [UInt8], inode: UInt32, type: UInt8, length: Int, _ bytes: inout MutableSpan<UInt8>, at offset: Int
  ) {
    bytes.put32(inode, at: offset)
    bytes.put16(UInt16(length), at: offset + 4)
    bytes[offset + 6] = UInt8(name.count)
    bytes[offset + 7] = type
    for index in name.indices { bytes[offset + 8 + index] = name[index] }
  }

  /// Removes an entry: its room joins the record before it, or it becomes an unused record. False when it is not there.
  public static func remove(_ name: [UInt8], _ bytes: inout MutableSpan<UInt8>, in range: Range<Int>) -> Bool {
    var offset = range.lowerBound
    var previous: Entry?
    while let found = entry(bytes.span, at: offset, in: range) {
      if matches(bytes.span, found, name) {
        if let previous {
          bytes.put16(UInt16(previous.length + found.length), at: previous.offset + 4)
        } else {
          bytes.put32(0, at: offset)
        }
        return true
      }
      previous = found
      offset += found.length
    }
    return false
  }

  /// Whether a block holds no name but `.` and `..`. Nil when it is malformed.
  public static func isEmpty(_ bytes: borrowing Span<UInt8>, in range: Range<Int>) -> Bool? {
    var offset = range.lowerBound
    while offset < range.upperBound {
      guard let entry = entry(bytes, at: offset, in: range) else { return nil }
      if entry.inode != 0 {
        let dot = entry.nameLength == 1 && bytes[offset + 8] == 46
        let dotDot = entry.nameLength == 2 && bytes[offset + 8] == 46 && bytes[offset + 9] == 46
        if !dot, !dotDot { return false }
      }
      offset += entry.length
    }
    return true
  }
}
