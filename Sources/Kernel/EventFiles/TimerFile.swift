import Machine
import Sync
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
  }

  private let source = Source()
  /// Whether absolute times are of the wall clock.
  public let isRealtime: Bool

  public init(isRealtime: Bool) { self.isRealtime = isRealtime }

  /// Nanoseconds between expirations and until the next; zeroes when it is not armed.
  public var setting: (interval: UInt64, remaining: UInt64) { source.left }

  /// Arms it for `deadline` (ns since boot), or disarms it with nil.
  public func set(deadline: UInt64?, interval: UInt64) {
    source.set(due: deadline, interval: interval)
  }

  public func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    guard buffer.count >= 8 else { throw .invalidArgument }
    let count = try source.expired.wait(orFail: description.isNonBlocking, reason: "timerfd") {
      source.expirations.withLock { expirations -> UInt64? in
        let count = expirations
        expirations = 0
        return count > 0 ? count : nil
      }
    }
    try buffer.put64(count)
    return 8
  }

  public func poll(_ table: PollTable?) -> PollEvents {
    table?.add(source.expired)
    return source.expirations.withLock { $0 } > 0 ? [.readable, .normalRead] : []
  }

  public func close(_ description: FileDescription) { source.set(due: nil, interval: 0) }
}
