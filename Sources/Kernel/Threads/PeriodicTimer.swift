import Machine
import Sync

public struct PeriodicTimerRank: LockRank { public static let level: UInt8 = 48 }

/// A timer that starts itself again after an interval: what alarms, POSIX timers and timer files are made of.
open class PeriodicTimer: KernelTimer {
  private struct Setting {
    /// When it expires next; nil when it is stopped.
    var due: UInt64?
    var interval: UInt64 = 0
  }
  private let setting = InterruptSpinLock<Setting, PeriodicTimerRank>(Setting())

  /// It has expired so many times since the last call. Runs with interrupts off, and not while it is being set.
  open func expire(_ times: UInt64) {}

  /// It is set anew: what the old setting has left is forgotten.
  open func reset() {}

  override public final func fire() {
    setting.withLock { setting in
      let now = Clock.monotonic
      // One that another CPU sets while it begins to fire here has a later time, or none.
      guard let due = setting.due, due <= now else { return }
      setting.due = nil
      var times: UInt64 = 1
      if setting.interval > 0 {
        // However short the interval, the next time lies ahead: those that were missed only count.
        times += (now - due) / setting.interval
        let next = due &+ times &* setting.interval
        setting.due = next
        start(at: next)
      }
      expire(times)
    }
  }

  /// Expires at `due` (ns since boot) and every `interval` ns from then on, or not at all with nil.
  public final func set(due: UInt64?, interval: UInt64) {
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
      let now = Clock.monotonic
      return (setting.interval, setting.due.map { $0 > now ? $0 - now : 1 } ?? 0)
    }
  }
}
