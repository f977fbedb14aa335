import Machine
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// A timer to read expirations from. SPEC: timerfd_create(2).
public final class TimerFile: OpenFile {
  public var identity: FileIdentity { .descriptor("[timerfd]") }
  /// The kernel timer behind it; the file owns it and cancels it before it goes.
  final class Source: PeriodicTimer {
    let expirations = InterruptSpinLock<UInt64, EventFileRank>(0)
    let expired = WaitQueue()

    override func reset() { expirations.withLock { $0 = 0 } }
    override func expire(_ times: UInt64) {
      expirations.withLock { $0 += times }
      expired.wake()
    }
    override func wallClockWasSet() { expired.wake() }
  }

  private let source = Source()
  /// Whether absolute times are of the wall clock.
  public let isRealtime: Bool

  public init(isRealtime: Bool) { self.isRealtime = isRealtime }

  /// Nanoseconds between expirations and until the next; zeroes when it is not armed.
  public var setting: (interval: UInt64, remaining: UInt64) { source.left }

  /// What the count of settings of the wall clock was when it was armed or last read, if it ends with the next one.
  private let settings = InterruptSpinLock<UInt32?, EventFileRank>(nil)

  /// Arms it for `deadline`, or disarms it with nil. With `endsWithSetting` a setting of the wall clock ends reads
  /// (TFD_TIMER_CANCEL_ON_SET).
  public func set(deadline: Deadline?, interval: UInt64, endsWithSetting: Bool) {
    settings.withLock { $0 = endsWithSetting ? Scheduler.wallClockSettings.load(ordering: .acquiring) : nil }
    source.set(due: deadline, interval: interval)
  }

  private func wallClockWasSet(taking: Bool) -> Bool {
    settings.withLock { settings in
      let now = Scheduler.wallClockSettings.load(ordering: .acquiring)
      guard let old = settings, old != now else { return false }
      if taking { settings = now }
      return true
    }
  }

  public func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    guard buffer.count >= 8 else { throw .invalidArgument }
    let count = try source.expired.wait(orFail: description.isNonBlocking, reason: "timerfd") {
      let isCanceled = wallClockWasSet(taking: true)
      return source.expirations.withLock { expirations -> UInt64? in
        let count = expirations
        expirations = 0
        return isCanceled ? 0 : count > 0 ? count : nil
      }
    }
    if count == 0 { throw .canceled }
    try buffer.put64(count)
    return 8
  }

  public func poll(_ table: PollTable?) -> PollEvents {
    table?.add(source.expired)
    return source.expirations.withLock { $0 } > 0 || wallClockWasSet(taking: false) ? [.readable, .normalRead] : []
  }

  public func close(_ description: FileDescription) { source.set(due: nil, interval: 0) }
}
