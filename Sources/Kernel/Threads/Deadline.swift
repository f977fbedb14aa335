import CMachine
import Machine
import Scheduling
import Sync
import Synchronization

/// A moment that ends a wait, on the clock since boot or on the wall clock, which somebody may set meanwhile.
public struct Deadline {
  /// On its clock.
  public let nanoseconds: UInt64
  public let isOfWallClock: Bool

  public static func sinceBoot(_ nanoseconds: UInt64) -> Deadline { Deadline(nanoseconds: nanoseconds, isOfWallClock: false) }
  /// Nanoseconds since 1970-01-01 UTC.
  public static func wallClock(_ nanoseconds: UInt64) -> Deadline { Deadline(nanoseconds: nanoseconds, isOfWallClock: true) }
  /// So many nanoseconds from now, whatever the wall clock does.
  public static func after(_ nanoseconds: UInt64) -> Deadline { .sinceBoot(Clock.monotonic &+ nanoseconds) }

  /// What its clock says.
  private var now: UInt64 { isOfWallClock ? UInt64(max(0, Clock.realtime)) : Clock.monotonic }
  public var hasPassed: Bool { now >= nanoseconds }
  /// Nanoseconds that are left; 0 once it has passed.
  public var remaining: UInt64 {
    let now = now
    return nanoseconds > now ? nanoseconds - now : 0
  }
  /// How long ago it was; 0 before it.
  public var age: UInt64 {
    let now = now
    return now > nanoseconds ? now - nanoseconds : 0
  }
  public func advanced(by interval: UInt64) -> Deadline {
    Deadline(nanoseconds: nanoseconds &+ interval, isOfWallClock: isOfWallClock)
  }

  /// Nanoseconds since boot, as the wall clock is set now.
  var sinceBoot: UInt64 { isOfWallClock ? Clock.sinceBoot(wallClock: nanoseconds) : nanoseconds }
}

extension Scheduler {
  /// How often the wall clock has been set.
  public static let wallClockSettings = Atomic<UInt32>(0)

  /// Sets the wall clock to nanoseconds since 1970-01-01 UTC: what waits for a time on it now waits for longer, or not at all.
  /// SPEC: POSIX.1-2024 clock_settime().
  public static func setWallClock(_ nanoseconds: Int64) {
    Clock.setRealtime(nanoseconds)
    wallClockSettings.wrappingAdd(1, ordering: .releasing)
    for cpu in 0..<Processors.count {
      let queue = queue(cpu)
      // SAFETY: interrupts go back to what they were.
      let flags = unsafe interrupts_save()
      queue.timerLock.acquire()
      // Who starts a timer after this has seen the new time.
      queue.timers.update { timer in
        guard timer.due.isOfWallClock else { return }
        timer.deadline = timer.due.sinceBoot
        timer.wallClockWasSet()
      }
      queue.timerLock.release()
      unsafe interrupts_restore(flags)
      rearm(cpu)
    }
  }

  /// Has a CPU look at its timers: an idle one before it sleeps on, a busy one at the end of the slice at the latest.
  private static func rearm(_ cpu: Int) { if cpu != Processors.current { Interrupts.sendReschedule(to: cpu) } }
}
