/// The checksum of diskfs: XXH32 with seed 0, which takes a processor without special instructions about one of them a byte.
///
/// SPEC: xxHash fast digest algorithm, "XXH32 Algorithm Description".
public enum XXH32 {
  private static var prime1: UInt32 { 0x9E37_79B1 }
  private static var prime2: UInt32 { 0x85EB_CA77 }
  private static var prime3: UInt32 { 0xC2B2_AE3D }
  private static var prime4: UInt32 { 0x27D4_EB2F }
  private static var prime5: UInt32 { 0x1656_67B1 }

  public static func hash(_ bytes: borrowing Span<UInt8>) -> UInt32 {
    var offset = 0
    var sum: UInt32
    if bytes.count >= 16 {
      var (a, b, c, d) = (prime1 &+ prime2, prime2, UInt32(0), 0 &- prime1)
      while offset + 16 <= bytes.count {
        a = round(a, word(bytes, offset))
        b = round(b, word(bytes, offset + 4))
        c = round(c, word(bytes, offset + 8))
        d = round(d, word(bytes, offset + 12))
        offset += 16
      }
      sum = rotate(a, 1) &+ rotate(b, 7) &+ rotate(c, 12) &+ rotate(d, 18)
    } else {
      sum = prime5
    }
    sum &+= UInt32(truncatingIfNeeded: bytes.count)
    while offset + 4 <= bytes.count {
      sum = rotate(sum &+ word(bytes, offset) &* prime3, 17) &* prime4
      offset += 4
    }
    while offset < bytes.count {
      sum = rotate(sum &+ UInt32(bytes[offset]) &* prime5, 11) &* prime1
      offset += 1
    }
    sum = (sum ^ sum >> 15) &* prime2
    sum = (sum ^ sum >> 13) &* prime3
    return sum ^ sum >> 16
  }

  @inline(__always) private static func rotate(_ value: UInt32, _ count: UInt32) -> UInt32 { value << count | value >> (32 - count) }

  @inline(__always) private static func round(_ sum: UInt32, _ lane: UInt32) -> UInt32 {
    rotate(sum &+ lane &* prime2, 13) &* prime1
  }

  @inline(__always) private static func word(_ bytes: borrowing Span<UInt8>, _ offset: Int) -> UInt32 {
    UInt32(bytes[offset]) | UInt32(bytes[offset + 1]) << 8 | UInt32(bytes[offset + 2]) << 16 | UInt32(bytes[offset + 3]) << 24
  }
}
