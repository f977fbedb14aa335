import Machine
import Sync
import SystemABI
import Threads
import VFS

public struct EventFileRank: LockRank { public static let level: UInt8 = 82 }

/// A counter to wait on. SPEC: eventfd(2).
public final class EventCounter: OpenFile {
  public var identity: FileIdentity { .descriptor("[eventfd]") }
  private let count: SpinLock<UInt64, EventFileRank>
  private let isSemaphore: Bool
  private let changed = WaitQueue()

  public init(_ initial: UInt32, isSemaphore: Bool) {
    count = SpinLock(UInt64(initial))
    self.isSemaphore = isSemaphore
  }

  /// Adds to the counter; what does not fit is lost.
  public func add(_ value: UInt64) {
    count.withLock { $0 = min($0 &+ value, .max - 1) }
    changed.wake()
  }

  public func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    guard buffer.count >= 8 else { throw .invalidArgument }
    let value = try changed.wait(orFail: description.isNonBlocking, reason: "eventfd read") {
      count.withLock { count -> UInt64? in
        if count == 0 { return nil }
        let value = isSemaphore ? 1 : count
        count -= value
        return value
      }
    }
    changed.wake()
    try buffer.put64(value)
    return 8
  }

  public func write(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> (Int, UInt64) {
    let value = try buffer.take64()
    if value == .max { throw .invalidArgument }
    let _: Bool = try changed.wait(orFail: description.isNonBlocking, reason: "eventfd write") {
      count.withLock { count -> Bool? in
        if value > .max - 1 - count { return nil }
        count += value
        return true
      }
    }
    changed.wake()
    return (8, 0)
  }

  public func poll(_ table: PollTable?) -> PollEvents {
    table?.add(changed)
    let count = self.count.withLock { $0 }
    var events: PollEvents = count > 0 ? [.readable, .normalRead] : []
    if count < .max - 1 { events.formUnion([.writable, .normalWrite]) }
    return events
  }
}
