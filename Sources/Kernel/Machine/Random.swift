import CMachine
import Sync

/// Random numbers from ChaCha20 keyed by RDRAND where present and by timing. SPEC: RFC 8439 §2.3.
public enum Random {
  nonisolated(unsafe) private static var key: InlineArray<8, UInt32> = .init(repeating: 0)
  nonisolated(unsafe) private static var counter: UInt64 = 0
  private static let lock = RawSpinLock()

  /// Seeds the generator; more seeds may be mixed in any time.
  public static func start() {
    // SAFETY: boot, one CPU.
    for index in 0..<8 {
      var word = UInt32(truncatingIfNeeded: unsafe tsc_read()) &* 0x9E37_79B9
      if unsafe cpuid(1, 0).ecx & 1 << 30 != 0 { word ^= unsafe hardware_random() }
      unsafe key[index] ^= word &+ UInt32(index)
    }
  }

  private static func quarter(_ x: inout InlineArray<16, UInt32>, _ a: Int, _ b: Int, _ c: Int, _ d: Int) {
    x[a] &+= x[b]
    x[d] = rotate(x[d] ^ x[a], 16)
    x[c] &+= x[d]
    x[b] = rotate(x[b] ^ x[c], 12)
    x[a] &+= x[b]
    x[d] = rotate(x[d] ^ x[a], 8)
    x[c] &+= x[d]
    x[b] = rotate(x[b] ^ x[c], 7)
  }
  private static func rotate(_ value: UInt32, _ count: UInt32) -> UInt32 { value << count | value >> (32 - count) }

  private static func block() -> InlineArray<16, UInt32> {
    var x: InlineArray<16, UInt32> = .init(repeating: 0)
    (x[0], x[1], x[2], x[3]) = (0x6170_7865, 0x3320_646E, 0x7962_2D32, 0x6B20_6574)
    // SAFETY: `lock` is held.
    for index in 0..<8 { x[4 + index] = unsafe key[index] }
    x[12] = UInt32(truncatingIfNeeded: unsafe counter)
    x[13] = UInt32(truncatingIfNeeded: unsafe counter >> 32)
    x[14] = UInt32(truncatingIfNeeded: unsafe tsc_read())
    unsafe counter &+= 1
    let start = x
    for _ in 0..<10 {
      quarter(&x, 0, 4, 8, 12)
      quarter(&x, 1, 5, 9, 13)
      quarter(&x, 2, 6, 10, 14)
      quarter(&x, 3, 7, 11, 15)
      quarter(&x, 0, 5, 10, 15)
      quarter(&x, 1, 6, 11, 12)
      quarter(&x, 2, 7, 8, 13)
      quarter(&x, 3, 4, 9, 14)
    }
    for index in 0..<16 { x[index] &+= start[index] }
    // The first half becomes the next key: what was handed out cannot be computed from the state.
    for index in 0..<8 { unsafe key[index] = x[index] }
    return x
  }

  public static func bytes(_ count: Int) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(count)
    while result.count < count {
      let flags = unsafe interrupts_save()
      lock.acquire()
      let x = block()
      lock.release()
      unsafe interrupts_restore(flags)
      for index in 8..<16 {
        for shift in 0..<UInt32(4) where result.count < count {
          result.append(UInt8(truncatingIfNeeded: x[index] >> (shift * 8)))
        }
      }
    }
    return result
  }

  public static func next() -> UInt32 {
    let flags = unsafe interrupts_save()
    lock.acquire()
    let value = block()[8]
    lock.release()
    unsafe interrupts_restore(flags)
    return value
  }
}
