/// The number of runnable threads, averaged over the last 1, 5 and 15 minutes with exponential weights.
///
/// SPEC: Linux kernel/sched/loadavg.c: 11 bits of fraction, one sample every five seconds.
public struct LoadAverage {
  /// exp(-5s / 60s), exp(-5s / 300s) and exp(-5s / 900s), in 2048ths.
  private static let decay: [3 of UInt32] = [1884, 2014, 2037]
  private var values: [3 of UInt32] = [0, 0, 0]

  public init() {}

  public mutating func sample(runnable: Int) {
    let active = UInt64(max(runnable, 0)) * 2048
    for index in values.indices {
      let decay = UInt64(Self.decay[index])
      // Rounded towards the new value, so that a steady load is reached.
      var sum = UInt64(values[index]) * decay + active * (2048 - decay)
      if active >= UInt64(values[index]) { sum += 2047 }
      values[index] = UInt32(truncatingIfNeeded: sum / 2048)
    }
  }

  /// The average over 1, 5 or 15 minutes (index 0, 1 or 2), in 65536ths, or the most that there is room for. SPEC: sysinfo(2).
  public func fixedPoint(_ index: Int) -> UInt32 { UInt32(clamping: UInt64(values[index]) * 32) }

  /// The average, in hundredths.
  public func hundredths(_ index: Int) -> UInt32 { UInt32((UInt64(values[index]) * 100 + 1024) / 2048) }
}
