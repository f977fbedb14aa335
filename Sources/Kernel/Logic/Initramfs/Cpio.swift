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
  /// Bytes of content.
  public var size: UInt32
}

/// Why an archive cannot be read on. Offsets count what came in.
public enum CpioError: Error, Equatable, Sendable {
  case badMagic(offset: UInt64)
  case truncated(offset: UInt64)
}

/// Takes the members of an archive, as they come.
public protocol CpioSink {
  mutating func begin(_ entry: CpioEntry)
  /// Some of its content.
  mutating func add(_ bytes: borrowing Span<UInt8>, _ range: Range<Int>)
  mutating func end()
}

/// Reads the "newc" cpio format as it comes, in pieces of any size. SPEC: Linux
/// Documentation/driver-api/early-userspace/buffer-format.rst.
public struct CpioStream: Sendable {
  private enum Part { case between, header, name, namePadding, content, contentPadding }
  private static var headerSize: Int { 110 }
  private static var longestName: UInt32 { 4096 }
  private var part = Part.between
  /// Of a header or a name, what has come.
  private var buffer: [UInt8] = []
  /// Bytes of the part that are missing.
  private var missing = 0
  private var entry = CpioEntry(
    name: [], mode: 0, owner: 0, group: 0, links: 0, inode: 0, modified: 0, deviceMajor: 0, deviceMinor: 0, size: 0)
  /// Bytes that have come in, and where the member begins.
  private var position: UInt64 = 0
  private var start: UInt64 = 0

  public init() {}

  /// Whether the archive may end here.
  public var isBetween: Bool { part == .between }

  /// Takes bytes in, as far as the end of an archive: where that is, or the range's end. Zeros between archives are none.
  public mutating func feed<Sink: CpioSink>(
    _ bytes: borrowing Span<UInt8>, _ range: Range<Int>, into sink: inout Sink
  ) throws(CpioError) -> Int {
    var at = range.lowerBound
    while at < range.upperBound {
      if part == .between {
        if bytes[at] != 0 { begin() } else { advance(1, &at) }
        continue
      }
      let count = min(missing, range.upperBound - at)
      switch part {
      case .header, .name: for index in at..<(at + count) { buffer.append(bytes[index]) }
      case .content: if count > 0 { sink.add(bytes, at..<(at + count)) }
      default: break
      }
      missing -= count
      advance(count, &at)
      while missing == 0, part != .between {
        if try next(&sink) { return at }
      }
    }
    return at
  }

  /// Nothing more comes.
  public func finish() throws(CpioError) { if part != .between { throw .truncated(offset: start) } }

  private mutating func advance(_ count: Int, _ at: inout Int) {
    at += count
    position += UInt64(count)
  }

  private mutating func begin() {
    start = position
    buffer = []
    part = .header
    missing = Self.headerSize
  }

  /// A part is complete; whether that was the archive's last one.
  private mutating func next<Sink: CpioSink>(_ sink: inout Sink) throws(CpioError) -> Bool {
    switch part {
    case .between: return false
    case .header:
      try readHeader()
      buffer = []
      part = .name
    case .name:
      // With a zero at its end.
      entry.name = Array(buffer.dropLast())
      missing = padding(Self.headerSize + buffer.count)
      part = .namePadding
    case .namePadding:
      if entry.name == Array("TRAILER!!!".utf8) {
        part = .between
        return true
      }
      sink.begin(entry)
      guard let size = Int(exactly: entry.size) else { throw .truncated(offset: start) }
      missing = size
      part = .content
    case .content:
      sink.end()
      missing = padding(Int(truncatingIfNeeded: entry.size & 3))
      part = .contentPadding
    case .contentPadding: part = .between
    }
    return false
  }

  private func padding(_ count: Int) -> Int { (4 - count & 3) & 3 }

  private mutating func readHeader() throws(CpioError) {
    guard buffer[..<6].elementsEqual(Array("070701".utf8)) else { throw .badMagic(offset: start) }
    var fields: [13 of UInt32] = .init(repeating: 0)
    for index in 0..<13 {
      guard let value = Self.hex(buffer, 6 + index * 8) else { throw .badMagic(offset: start) }
      fields[index] = value
    }
    guard fields[11] > 0, fields[11] <= Self.longestName else { throw .badMagic(offset: start) }
    missing = Int(fields[11])
    entry = CpioEntry(
      name: [], mode: fields[1], owner: fields[2], group: fields[3], links: fields[4], inode: fields[0], modified: fields[5],
      deviceMajor: fields[9], deviceMinor: fields[10], size: fields[6])
  }

  private static func hex(_ bytes: [UInt8], _ start: Int) -> UInt32? {
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
}
