import BootData
import CMachine
import Primitives
import Sync

/// Time from the processor's time stamp counter, in nanoseconds since boot.
public enum Clock {
  nonisolated(unsafe) private static var bootTicks: UInt64 = 0
  /// Nanoseconds a tick, as a 32.32 fixed-point number shifted so that a tick is (multiplier >> 22) ns.
  nonisolated(unsafe) private static var multiplier: UInt32 = 1 << 22
  /// Wall-clock nanoseconds at boot, from the RTC or settimeofday.
  nonisolated(unsafe) public static var realtimeOffset: Int64 = 0
  /// Ticks of the counter a millisecond.
  nonisolated(unsafe) private static var frequency: UInt32 = 1_000_000
  public static var ticksPerMillisecond: UInt32 { unsafe frequency }

  /// Measures the counter against the PIT's channel 2. SPEC: Intel 8254 datasheet, mode 0.
  static func calibrate() {
    // SAFETY: boot, one CPU; ports 0x42, 0x43 and 0x61 are the PC's fixed PIT and speaker gate.
    let milliseconds: UInt32 = 10
    let count = UInt16(1_193_182 * milliseconds / 1000)
    unsafe outb(0x61, inb(0x61) & 0xFC | 1)
    unsafe outb(0x43, 0xB0)
    unsafe outb(0x42, UInt8(truncatingIfNeeded: count))
    unsafe outb(0x42, UInt8(count >> 8))
    let start = unsafe tsc_read()
    var guardCount = 0
    while unsafe inb(0x61) & 0x20 == 0, guardCount < 100_000_000 { guardCount += 1 }
    let elapsed = unsafe tsc_read() - start
    unsafe frequency = max(UInt32(truncatingIfNeeded: elapsed / UInt64(milliseconds)), 1000)
    unsafe multiplier = UInt32(truncatingIfNeeded: (1_000_000 << 22) / UInt64(ticksPerMillisecond))
    unsafe bootTicks = start
  }

  /// Nanoseconds since boot. Interrupt-safe; never goes backwards on one CPU.
  @inlinable public static var monotonic: UInt64 { nanoseconds(sinceBoot: readCounter()) }

  @usableFromInline static func readCounter() -> UInt64 { unsafe tsc_read() }

  @usableFromInline static func nanoseconds(sinceBoot counter: UInt64) -> UInt64 { nanoseconds(unsafe counter &- bootTicks) }

  /// The length of an interval of the counter, in nanoseconds.
  public static func nanoseconds(_ ticks: UInt64) -> UInt64 {
    let factor = unsafe UInt64(multiplier)
    return ((ticks >> 32) &* factor) << 10 &+ ((ticks & 0xFFFF_FFFF) &* factor) >> 22
  }

  /// Takes the wall clock from the battery's.
  public static func readRTC() {
    if let time = CMOSClock.time { setRealtime(time.secondsSinceEpoch * 1_000_000_000) }
  }

  /// Sets the wall clock.
  public static func setRealtime(_ nanoseconds: Int64) {
    // SAFETY: the lock makes this the only writer; a reader in the kernel between the two halves sees a time that is off once,
    // one in user mode looks at the sequence.
    let flags = unsafe interrupts_save()
    writing.acquire()
    unsafe realtimeOffset = nanoseconds &- Int64(truncatingIfNeeded: monotonic)
    store()
    writing.release()
    unsafe interrupts_restore(flags)
  }
  private static let writing = RawSpinLock()

  // MARK: What user mode reads

  nonisolated(unsafe) private static var page: UnsafeMutablePointer<time_page>?

  /// Keeps what vdso.S reads in this frame from now on.
  public static func publish(in frame: Frame) {
    // SAFETY: boot; the frame is mapped for good and holds nothing else.
    unsafe page = UnsafeMutableRawPointer(frame.checked).assumingMemoryBound(to: time_page.self)
    store()
  }

  private static func store() {
    guard let page = unsafe page else { return }
    let sequence = unsafe page.pointee.sequence
    unsafe atomic_store(&page.pointee.sequence, sequence &+ 1)
    unsafe page.pointee.multiplier = multiplier
    unsafe page.pointee.boot_ticks = bootTicks
    unsafe page.pointee.realtime_offset = realtimeOffset
    unsafe atomic_store(&page.pointee.sequence, sequence &+ 2)
  }

  /// Brings the tick count up to date: hundredths of a second since boot.
  public static func tick(_ now: UInt64) {
    unsafe page?.pointee.tick_count = UInt32(truncatingIfNeeded: now / 10_000_000)
  }

  /// Nanoseconds since 1970-01-01 UTC.
  public static var realtime: Int64 { unsafe Int64(truncatingIfNeeded: monotonic) &+ realtimeOffset }

  /// What the wall clock, as it is set now, has said so many nanoseconds after the boot.
  public static func realtime(at sinceBoot: UInt64) -> Int64 { unsafe Int64(truncatingIfNeeded: sinceBoot) &+ realtimeOffset }

  /// When the wall clock says so many nanoseconds, as it is set now: nanoseconds since boot, 0 for what was before.
  public static func sinceBoot(wallClock nanoseconds: UInt64) -> UInt64 {
    let (time, overflow) = unsafe Int64(clamping: nanoseconds).subtractingReportingOverflow(realtimeOffset)
    return overflow ? .max : UInt64(max(0, time))
  }

  /// Busy-waits; for hardware that wants microseconds, before timers exist.
  public static func spin(microseconds: UInt64) {
    let end = monotonic + microseconds * 1000
    while monotonic < end { cpu_relax() }
  }
}
