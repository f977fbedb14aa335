import Primitives

/// One member of a cpio archive.
public struct CpioEntry: Sendable {
  public var name: [UInt8]
  public var mode: UInt32
  public var owner: UInt32
  public var group: UInt32
  public var links: UInt32
  public var inode: UInt32
  public var modified: UInt32
  public var deviceMajor: UInt32
  public var deviceMinor: UInt32
  /// Where the content lies in the archive.
  public var content: Range<Int>
}

/// Why an archive cannot be read on.
public enum CpioError: Error, Equatable {
  case badMagic(offset: Int)
  case truncated(offset: Int)
}

/// Reads the "newc" cpio format. SPEC: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
public struct CpioReader: Sendable {
  private var offset = 0

  public init() {}

  private static func hex(_ bytes: borrowing Span<UInt8>, _ start: Int) -> UInt32? {
    var value: UInt32 = 0
    for index in start..<(start + 8) {
      let digit: UInt32
      switch bytes[index] {
      case 48...57: digit = UInt32(bytes[index] - 48)
      case 65...70: digit = UInt32(bytes[index] - 55)
      case 97...102: digit = UInt32(bytes[index] - 87)
      default: return nil
      }
      value = value << 4 | digit
    }
    return value
  }

  /// The next member, or nil at the trailer or the end of the archive.
  public mutating func next(_ archive: borrowing Span<UInt8>) throws(CpioError) -> CpioEntry? {
    while offset < archive.count, archive[offset] == 0 { offset += 1 }
    if offset == archive.count { return nil }
    let start = offset
    guard archive.count - start >= 110 else { throw .truncated(offset: start) }
    let magic: [6 of UInt8] = [48, 55, 48, 55, 48, 49]
    for index in 0..<6 where archive[start + index] != magic[index] { throw .badMagic(offset: start) }
    var fields: [13 of UInt32] = .init(repeating: 0)
    for index in 0..<13 {
      guard let value = Self.hex(archive, start + 6 + index * 8) else { throw .badMagic(offset: start) }
      fields[index] = value
    }
    let nameSize = Int(fields[11] & 0xFFFF)
    let nameStart = start + 110
    guard nameSize > 0, fields[11] <= 4096, nameStart + nameSize <= archive.count else { throw .truncated(offset: start) }
    var name: [UInt8] = []
    for index in 0..<(nameSize - 1) { name.append(archive[nameStart + index]) }
    let contentStart = (nameStart + nameSize + 3) & ~3
    guard let size = Int(exactly: fields[6]), contentStart <= archive.count, size <= archive.count - contentStart else {
      throw .truncated(offset: start)
    }
    offset = min(archive.count, (contentStart + size + 3) & ~3)
    if name == Array("TRAILER!!!".utf8) {
      offset = archive.count
      return nil
    }
    return CpioEntry(
      name: name, mode: fields[1], owner: fields[2], group: fields[3], links: fields[4], inode: fields[0],
      modified: fields[5], deviceMajor: fields[9], deviceMinor: fields[10], content: contentStart..<(contentStart + size))
  }
}
