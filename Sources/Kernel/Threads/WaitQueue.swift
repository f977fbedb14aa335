import CMachine
import Machine
import SystemABI
import Sync
import Synchronization

/// A place on a wait queue: wakes a thread, or tells a poller.
// SAFETY: nodes leave their queue before they or their thread die; links change under the queue's lock.
@safe open class WaitNode {
  final let thread: Unmanaged<Thread>
  final var next: WaitNode?
  final var previous: Unmanaged<WaitNode>?
  final var queued = false
  /// Woken alone: `wake(count:)` counts only these.
  public final var exclusive = false

  public init(_ thread: Thread) { unsafe self.thread = Unmanaged.passUnretained(thread) }

  /// Called with the queue's lock held, interrupts off.
  open func notify() { unsafe Scheduler.wake(thread._withUnsafeGuaranteedRef { $0 }) }
}

/// Threads waiting for something, in order of arrival. Interrupt-safe to wake.
@safe public final class WaitQueue: @unchecked Sendable {
  // SAFETY: the list is only touched under `lock` with interrupts off.
  private let lock = RawSpinLock()
  private var head: WaitNode?
  private var tail: Unmanaged<WaitNode>?

  public init() {}

  public func add(_ node: WaitNode) {
    let flags = unsafe interrupts_save()
    lock.acquire()
    precondition(!node.queued)
    node.queued = true
    node.next = nil
    unsafe node.previous = unsafe tail
    if let last = unsafe tail { unsafe last._withUnsafeGuaranteedRef { $0.next = node } } else { head = node }
    unsafe tail = Unmanaged.passUnretained(node)
    lock.release()
    unsafe interrupts_restore(flags)
  }

  public func remove(_ node: WaitNode) {
    let flags = unsafe interrupts_save()
    lock.acquire()
    if node.queued { unlink(node) }
    lock.release()
    unsafe interrupts_restore(flags)
  }

  private func unlink(_ node: WaitNode) {
    node.queued = false
    let next = node.next
    node.next = nil
    if let next { unsafe next.previous = unsafe node.previous } else { unsafe tail = unsafe node.previous }
    if let previous = unsafe node.previous {
      unsafe previous._withUnsafeGuaranteedRef { $0.next = next }
    } else {
      head = next
    }
    unsafe node.previous = nil
  }

  /// Whether anybody waits; a hint, for senders that can skip the lock.
  public var isEmpty: Bool { unsafe tail == nil }

  /// Wakes everyone, or up to `count` of the exclusive waiters and all others.
  public func wake(_ count: Int = .max) {
    if isEmpty { return }
    let flags = unsafe interrupts_save()
    lock.acquire()
    var left = count
    var node = head
    while let current = node {
      node = current.next
      current.notify()
      if !current.exclusive { continue }
      left -= 1
      if left == 0 { break }
    }
    lock.release()
    unsafe interrupts_restore(flags)
  }

  /// Waits until `condition` answers a value. The condition runs with no lock held and must not sleep.
  ///
  /// - Throws: `interrupted` when a signal ends an interruptible wait, `timedOut` at `deadline`.
  public func wait<Result>(
    interruptible: Bool = true, deadline: Deadline? = nil, reason: StaticString = "", exclusive: Bool = false,
    until condition: () -> Result?
  ) throws(Errno) -> Result {
    if let result = condition() { return result }
    let me = Thread.current
    let node = me.waitNode!
    me.waitReason = reason
    node.exclusive = exclusive
    add(node)
    if let deadline {
      me.timer.fired.store(false, ordering: .relaxed)
      me.timer.start(at: deadline)
    }
    defer {
      if deadline != nil { me.timer.cancel() }
      remove(node)
      Scheduler.cancelBlock()
      me.waitReason = ""
    }
    while true {
      Scheduler.prepareToBlock()
      if let result = condition() { return result }
      if interruptible, me.interruptRequested.load(ordering: .acquiring) { throw .interrupted }
      if deadline != nil, me.timer.fired.load(ordering: .acquiring) { throw .timedOut }
      Scheduler.block()
    }
  }
}

extension WaitQueue {
  /// Waits for a value as reads and writes of streams do: `wouldBlock` at once when they are non-blocking, and a signal restarts
  /// the call or ends it as its handler says.
  ///
  /// A deadline that passes is `wouldBlock` too, as SO_RCVTIMEO has it, and a call with one is not restarted.
  public func wait<Result>(
    orFail nonBlocking: Bool, deadline: Deadline? = nil, reason: StaticString, until condition: () -> Result?
  ) throws(Errno) -> Result {
    if let result = condition() { return result }
    if nonBlocking { throw .wouldBlock }
    do throws(Errno) { return try wait(deadline: deadline, reason: reason, until: condition) } catch {
      switch error {
      case .timedOut: throw .wouldBlock
      case .interrupted: throw deadline == nil ? .restart : error
      default: throw error
      }
    }
  }
}

/// What the word of a mutex says.
private enum Word {
  static var free: UInt32 { 0 }
  static var held: UInt32 { 1 }
  static var wanted: UInt32 { 2 }
  /// Held, and somebody who waits has been woken for it before and come too late.
  static var promised: UInt32 { 3 }
  /// Nobody's but for the taking of those who wait.
  static var reserved: UInt32 { 4 }
}

/// A lock whose waiters sleep; owns its data. Not for interrupt handlers, not under a spin lock.
public final class Mutex<Value: ~Copyable, Rank: LockRank>: @unchecked Sendable {
  // SAFETY: `value` is only reached while `word` is ours.
  private let word = Atomic<UInt32>(Word.free)
  private let queue = WaitQueue()
  private var value: Value
  #if CHECKED
    private let level: UInt8
  #endif

  /// `level` stands in for the rank where the same kind of lock is also taken further in: a block device's inode below a file's.
  public init(_ value: consuming Value, level: UInt8 = Rank.level) {
    self.value = value
    #if CHECKED
      self.level = level
    #endif
  }

  private var order: UInt8 {
    #if CHECKED
      level
    #else
      Rank.level
    #endif
  }

  @inline(__always) private func acquire() {
    if !word.compareExchange(expected: Word.free, desired: Word.held, ordering: .acquiring).exchanged { acquireSlow() }
    ownership_barrier()
  }

  @inline(never) private func acquireSlow() {
    // The first try is made before it is on the queue, the second before it sleeps.
    var tries = 0
    _ = try? queue.wait(interruptible: false, reason: "mutex", exclusive: true) {
      tries += 1
      return claim(waits: tries > 1, again: tries > 2) ? true : nil
    }
  }

  /// Takes the lock, or notes that it is wanted. Whoever comes by may take a free lock before those who wait, which saves
  /// switches; but a thread that misses it `again` is promised it, or others on its CPU could keep it for ever.
  private func claim(waits: Bool, again: Bool) -> Bool {
    while true {
      let seen = word.load(ordering: .relaxed)
      let isOurs = seen == Word.free || seen == Word.reserved && waits
      let new = isOurs ? Word.wanted : seen == Word.reserved ? seen : again ? Word.promised : max(seen, Word.wanted)
      if new == seen { return false }
      if word.compareExchange(expected: seen, desired: new, ordering: .acquiring).exchanged { return isOurs }
    }
  }

  @inline(__always) private func release() {
    ownership_barrier()
    if !word.compareExchange(expected: Word.held, desired: Word.free, ordering: .releasing).exchanged { releaseSlow() }
    ownership_barrier()
  }

  @inline(never) private func releaseSlow() {
    while true {
      let seen = word.load(ordering: .relaxed)
      let new = seen == Word.promised ? Word.reserved : Word.free
      if word.compareExchange(expected: seen, desired: new, ordering: .releasing).exchanged { break }
    }
    queue.wake(1)
  }

  public func withLock<Result: ~Copyable, Failure: Error>(
    _ body: (inout Value) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    MutexOrder.acquire(order)
    acquire()
    defer {
      release()
      MutexOrder.release(order)
    }
    return try body(&value)
  }

  /// As `withLock`, or nil when somebody holds the lock.
  public func tryWithLock<Result>(_ body: (inout Value) -> Result) -> Result? {
    guard word.compareExchange(expected: Word.free, desired: Word.held, ordering: .acquiring).exchanged else { return nil }
    ownership_barrier()
    defer { release() }
    return body(&value)
  }

  /// Both values of two different locks of this rank, `first` taken first: the caller has an order for them.
  public static func withBoth<Result, Failure: Error>(
    _ first: Mutex, _ second: Mutex, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    MutexOrder.acquire(first.order)
    first.acquire()
    second.acquire()
    defer {
      second.release()
      first.release()
      MutexOrder.release(first.order)
    }
    return try body()
  }
}

/// The order of sleeping locks, checked as `LockOrder` checks spin locks; the ranks that a thread holds lie in the thread.
enum MutexOrder {
  @inline(__always) static func acquire(_ rank: UInt8) {
    #if CHECKED
      // SAFETY: the running thread's own field; nil only before the scheduler runs.
      guard unsafe percpu_thread() != nil else { return }
      if !LockOrder.holdsNothing { unsafe lock_order_violation(255, rank) }
      let me = Thread.current
      if me.heldCount > 0, me.heldCount <= 12, me.held[me.heldCount - 1] >= rank {
        unsafe lock_order_violation(me.held[me.heldCount - 1], rank)
      }
      if me.heldCount < 12 { me.held[me.heldCount] = rank }
      me.heldCount += 1
    #endif
  }

  @inline(__always) static func release(_ rank: UInt8) {
    #if CHECKED
      guard unsafe percpu_thread() != nil, Thread.current.heldCount > 0 else { return }
      Thread.current.heldCount -= 1
    #endif
  }
}

/// Sleeping without a condition.
public enum Sleep {
  private static let nobody = BootCell<WaitQueue>()

  public static func start() { nobody.set(WaitQueue()) }

  /// Sleeps until `deadline` or a signal (`interrupted`).
  public static func until(_ deadline: Deadline, interruptible: Bool = true) throws(Errno) {
    do throws(Errno) {
      let _: Bool = try nobody.value.wait(interruptible: interruptible, deadline: deadline, reason: "sleep") {
        deadline.hasPassed ? true : nil
      }
    } catch {
      if error != .timedOut { throw error }
    }
  }

  /// Sleeps until the thread is interrupted.
  public static func untilInterrupted(reason: StaticString) -> Errno {
    do throws(Errno) {
      let _: Bool = try nobody.value.wait(reason: reason) { nil }
      return .interrupted
    } catch {
      return error
    }
  }
}
