import Machine
import Sync

public struct PeriodicTimerRank: LockRank { public static let level: UInt8 = 48 }

/// A timer that starts itself again after an interval: what alarms, POSIX timers and timer files are made of.
open class PeriodicTimer: KernelTimer {
  private struct Setting {
    /// When it expires next; nil when it is stopped.
    var due: Deadline?
    var interval: UInt64 = 0
  }
  private let setting = InterruptSpinLock<Setting, PeriodicTimerRank>(Setting())

  /// It has expired so many times since the last call. Runs with interrupts off, and not while it is being set.
  open func expire(_ times: UInt64) {}

  /// It is set anew: what the old setting has left is forgotten.
  open func reset() {}

  override public final func fire() {
    setting.withLock { setting in
      guard let due = setting.due else { return }
      // One that another CPU sets while it begins to fire here has a later time; or the wall clock was set back.
      guard due.hasPassed else { return start(at: due) }
      setting.due = nil
      var times: UInt64 = 1
      if setting.interval > 0 {
        // However short the interval, the next time lies ahead: those that were missed only count.
        times += due.age / setting.interval
        let next = due.advanced(by: times &* setting.interval)
        setting.due = next
        start(at: next)
      }
      expire(times)
    }
  }

  /// Expires at `due` and every `interval` ns from then on, or not at all with nil.
  public final func set(due: Deadline?, interval: UInt64) {
    setting.withLock { setting in
      setting.due = due
      setting.interval = interval
      reset()
      if let due { start(at: due) } else { cancel() }
    }
  }

  /// The interval, and ns until it expires: at least 1 while it is running, else 0.
  public final var left: (interval: UInt64, remaining: UInt64) {
    setting.withLock { setting in
      (setting.interval, setting.due.map { max($0.remaining, 1) } ?? 0)
    }
  }
}
