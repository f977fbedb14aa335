import Machine
import Sync
import SystemABI
import Threads
import VFS

/// A timer to read expirations from. SPEC: timerfd_create(2).
public final class TimerFile: OpenFile {
  /// The kernel timer behind it; the file owns it and cancels it before it goes.
  final class Source: KernelTimer {
    let state = InterruptSpinLock<(expirations: UInt64, interval: UInt64), EventFileRank>((0, 0))
    let expired = WaitQueue()

    override func fire() {
      let interval = state.withLock { state in
        state.expirations += 1
        return state.interval
      }
      if interval > 0 { restart(interval) }
      expired.wake()
    }

    /// The next multiple of the interval that lies ahead; those that were missed count.
    private func restart(_ interval: UInt64) {
      let now = Clock.monotonic
      var next = deadline + interval
      if next <= now {
        let missed = (now - next) / interval + 1
        state.withLock { $0.expirations += missed }
        next += missed * interval
      }
      start(at: next)
    }
  }

  private let source = Source()
  /// Whether absolute times are of the wall clock.
  public let isRealtime: Bool

  public init(isRealtime: Bool) { self.isRealtime = isRealtime }

  /// Nanoseconds between expirations and until the next; zeroes when it is not armed.
  public var setting: (interval: UInt64, remaining: UInt64) { (source.state.withLock { $0.interval }, source.remaining) }

  /// Arms it for `deadline` (ns since boot), or disarms it with nil.
  public func set(deadline: UInt64?, interval: UInt64) {
    source.cancel()
    source.state.withLock { $0 = (0, interval) }
    if let deadline { source.start(at: deadline) }
  }

  public func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    guard buffer.count >= 8 else { throw .invalidArgument }
    let count = try source.expired.wait(orFail: description.isNonBlocking, reason: "timerfd") {
      source.state.withLock { state -> UInt64? in
        if state.expirations == 0 { return nil }
        let count = state.expirations
        state.expirations = 0
        return count
      }
    }
    try buffer.put64(count)
    return 8
  }

  public func poll(_ table: PollTable?) -> PollEvents {
    table?.add(source.expired)
    return source.state.withLock { $0.expirations } > 0 ? [.readable, .normalRead] : []
  }

  public func close(_ description: FileDescription) {
    source.state.withLock { $0.interval = 0 }
    source.cancel()
  }
}
