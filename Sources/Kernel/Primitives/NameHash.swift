/// The hash of a name, made four bytes at a time.
public struct NameHash: Equatable, Sendable {
  public private(set) var value: UInt32 = 0

  @inline(__always) private init() {}

  /// Loses nothing, as it could be undone; turning brings the upper bits, which depend on all others, down to the lower ones.
  @inline(__always) private mutating func add(_ word: UInt32) { value = ((value << 15 | value >> 17) ^ word) &* 0x9E37_79B1 }

  @inline(__always) private mutating func finish(_ count: Int) {
    value = (value ^ UInt32(truncatingIfNeeded: count)) &* 0x85EB_CA6B
    value ^= value >> 15
  }

  public static func of(_ name: borrowing Span<UInt8>) -> NameHash {
    var hash = NameHash()
    var rest = name.extracting(...)
    while rest.count >= 4 {
      hash.add(rest.firstWord)
      rest = rest.extracting(droppingFirst: 4)
    }
    if !rest.isEmpty { hash.add(rest.lastWord) }
    hash.finish(name.count)
    return hash
  }

  /// The hash of the bytes from a place to the next one that is `end`, or the last; and where that is.
  @inline(never) public static func until(_ end: UInt8, in bytes: borrowing Span<UInt8>, from start: Int) -> (hash: NameHash, end: Int) {
    var hash = NameHash()
    var rest = bytes.extracting(start..<bytes.count)
    let ends = UInt32(end) &* 0x0101_0101
    while rest.count >= 4 {
      let word = rest.firstWord
      // The lowest bit that is left is in the first byte that is `end`.
      let differences = word ^ ends
      let found = (differences &- 0x0101_0101) & ~differences & 0x8080_8080
      if found != 0 {
        let bits = UInt32(truncatingIfNeeded: found.trailingZeroBitCount) & 0x18
        if bits > 0 { hash.add(word & ((1 &<< bits) &- 1)) }
        let count = bytes.count &- start &- rest.count &+ Int(truncatingIfNeeded: bits >> 3)
        hash.finish(count)
        return (hash, start &+ count)
      }
      hash.add(word)
      rest = rest.extracting(droppingFirst: 4)
    }
    var word: UInt32 = 0
    var more = 0
    while more < rest.count, rest[more] != end {
      word |= UInt32(rest[more]) << (8 * UInt32(truncatingIfNeeded: more))
      more += 1
    }
    if more > 0 { hash.add(word) }
    let count = bytes.count &- start &- rest.count &+ more
    hash.finish(count)
    return (hash, start &+ count)
  }

  /// Its place in a table of a power of two of them.
  @inline(__always) public func bucket(of count: Int) -> Int { Int(truncatingIfNeeded: value) & (count - 1) }
}

extension Span<UInt8> {
  /// The first four bytes as a number, the first one lowest: one load where the count is known to be enough.
  @inline(__always) public var firstWord: UInt32 {
    (UInt32(self[0]) | UInt32(self[1]) << 8) | (UInt32(self[2]) << 16 | UInt32(self[3]) << 24)
  }

  /// The same of the last one, two or three bytes, or zero of none.
  @inline(__always) public var lastWord: UInt32 {
    var word: UInt32 = 0
    if count > 0 { word = UInt32(self[0]) }
    if count > 1 { word |= UInt32(self[1]) << 8 }
    if count > 2 { word |= UInt32(self[2]) << 16 }
    return word
  }

  /// Whether both have the same bytes.
  @inline(__always) public func isEqual(to other: borrowing Span<UInt8>) -> Bool {
    if count != other.count { return false }
    var ours = extracting(...)
    var theirs = other.extracting(...)
    while ours.count >= 4, theirs.count >= 4 {
      if ours.firstWord != theirs.firstWord { return false }
      ours = ours.extracting(droppingFirst: 4)
      theirs = theirs.extracting(droppingFirst: 4)
    }
    var index = 0
    while index < ours.count, index < theirs.count {
      if ours[index] != theirs[index] { return false }
      index &+= 1
    }
    return true
  }
}

extension [UInt8] {
  /// Whether it is what a span has in a range.
  @inline(__always) public func isEqual(to other: borrowing Span<UInt8>, _ range: Range<Int>) -> Bool {
    span.isEqual(to: other.extracting(range))
  }
}
