/// The hash of a name: FNV-1a.
public struct NameHash: Equatable, Sendable {
  public private(set) var value: UInt32 = 2_166_136_261

  @inline(__always) public init() {}

  @inline(__always) public mutating func add(_ byte: UInt8) { value = (value ^ UInt32(byte)) &* 16_777_619 }

  public static func of(_ name: borrowing Span<UInt8>) -> NameHash {
    var hash = NameHash()
    for index in 0..<name.count { hash.add(name[index]) }
    return hash
  }

  /// The hash of the bytes from a place to the next one that is `end`, or the last; and where that is.
  @inline(never) public static func until(_ end: UInt8, in bytes: borrowing Span<UInt8>, from start: Int) -> (hash: NameHash, end: Int) {
    var hash = NameHash()
    for index in start..<bytes.count {
      let byte = bytes[index]
      if byte == end { return (hash, index) }
      hash.add(byte)
    }
    return (hash, bytes.count)
  }

  /// Its place in a table of a power of two of them.
  @inline(__always) public func bucket(of count: Int) -> Int { Int(truncatingIfNeeded: value) & (count - 1) }
}

extension [UInt8] {
  /// Whether it is what a span has in a range.
  @inline(__always) public func isEqual(to other: borrowing Span<UInt8>, _ range: Range<Int>) -> Bool {
    guard count == range.count else { return false }
    let theirs = other.extracting(range)
    for index in 0..<count where self[index] != theirs[index] { return false }
    return true
  }
}
