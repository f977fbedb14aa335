import Machine
import Primitives
import Sync
import SystemABI
import Threads

public struct AsyncContextRank: LockRank { public static let level: UInt8 = 84 }

/// A queue of what asynchronous reads and writes have come to. SPEC: io_setup(2), io_getevents(2).
///
/// As on Linux, what goes through the page cache is done when it is submitted; only its result waits here.
public final class AsyncContext {
  /// `struct io_event`.
  public struct Event {
    public var data: UInt64
    public var request: UInt32
    public var result: Int32
    public init(data: UInt64, request: UInt32, result: Int32) {
      self.data = data
      self.request = request
      self.result = result
    }
  }

  private struct State {
    var events = ChunkedQueue<Event>()
    /// Requests that were admitted and have no result yet.
    var running = 0
    var isClosed = false
  }

  /// Its name for the program: the address of a page of the program's own. SPEC: C libraries look there for a ring of events
  /// that they could read without a call; the page is empty, so they make the call.
  public let id: UInt32
  public let capacity: Int
  private let state = SpinLock<State, AsyncContextRank>(State())
  private let changed = WaitQueue()

  public init(id: UInt32, capacity: Int) {
    self.id = id
    self.capacity = capacity
  }

  /// Takes room for a request's result. Throws `wouldBlock` when results fill the queue.
  public func admit() throws(Errno) {
    try state.withLock { state throws(Errno) in
      if state.isClosed { throw .invalidArgument }
      if state.running + state.events.count >= capacity { throw .wouldBlock }
      state.running += 1
    }
  }

  /// A request is done.
  public func finish(_ event: Event) {
    state.withLock { state in
      state.running -= 1
      state.events.append(event)
    }
    changed.wake()
  }

  /// Takes the oldest result.
  public func take() -> Event? { state.withLock { $0.events.popFirst() } }

  /// Waits until there are `minimum` results, or until `deadline` (ns since boot).
  public func wait(_ minimum: Int, deadline: Deadline?) throws(Errno) {
    do throws(Errno) {
      let _: Bool = try changed.wait(deadline: deadline, reason: "aio") {
        state.withLock { $0.isClosed || $0.events.count >= minimum ? true : nil }
      }
    } catch {
      if error != .timedOut { throw error }
    }
  }

  /// No more requests; who waits goes on.
  public func close() {
    state.withLock { $0.isClosed = true }
    changed.wake()
  }
}
