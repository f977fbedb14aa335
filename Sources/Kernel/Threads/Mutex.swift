import CMachine
import Machine
import Sync
import Synchronization
import SystemABI

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
public struct Mutex<Value: ~Copyable, Rank: LockRank>: ~Copyable, @unchecked Sendable {
  // SAFETY: `value` is only reached while `word` is ours.
  private let word = Atomic<UInt32>(Word.free)
  private let queue = WaitList()
  private let value: Cell<Value>
  #if CHECKED
    private let level: UInt8
  #endif

  /// `level` stands in for the rank where the same kind of lock is also taken further in: a block device's inode below a file's.
  public init(_ value: consuming Value, level: UInt8 = Rank.level) {
    self.value = Cell(value)
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
    return try unsafe body(&value.address.pointee)
  }

  /// As `withLock`, or nil when somebody holds the lock.
  public func tryWithLock<Result>(_ body: (inout Value) -> Result) -> Result? {
    guard word.compareExchange(expected: Word.free, desired: Word.held, ordering: .acquiring).exchanged else { return nil }
    ownership_barrier()
    defer { release() }
    return unsafe body(&value.address.pointee)
  }

  /// With another lock of this rank held: the caller has an order for them.
  public func withLockBelow<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    acquire()
    defer { release() }
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
