import CMachine

/// A lock's place in the order in which locks may be taken: a thread that holds rank *n* takes
/// only greater ranks. There is no default, so that every lock's author has to think of it.
public protocol LockRank {
  static var level: UInt8 { get }
}

/// Data that is only reached with the lock held, from threads (never from interrupt handlers).
///
/// Holding it disables preemption; it must not be held across anything that sleeps.
public struct SpinLock<Value: ~Copyable, Rank: LockRank>: ~Copyable, @unchecked Sendable {
  // SAFETY: `value` is only reached between acquire and release of `lock`.
  @usableFromInline let lock = RawSpinLock()
  @usableFromInline let value: Cell<Value>

  @inlinable public init(_ value: consuming Value) { self.value = Cell(value) }

  /// Runs `body` with the value, exclusively.
  @inlinable public func withLock<Result: ~Copyable, Failure: Error>(
    _ body: (inout Value) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    enterPreemptionOff()
    LockOrder.acquire(Rank.level)
    lock.acquire()
    defer {
      lock.release()
      LockOrder.release(Rank.level)
      leavePreemptionOff()
    }
    return try unsafe body(&value.address.pointee)
  }
}

/// Data shared with interrupt handlers: interrupts are off on this CPU while the lock is held.
public struct InterruptSpinLock<Value: ~Copyable, Rank: LockRank>: ~Copyable, @unchecked Sendable {
  // SAFETY: as in SpinLock; interrupts are off as well, so a handler cannot spin on its own CPU's holder.
  @usableFromInline let lock = RawSpinLock()
  @usableFromInline let value: Cell<Value>

  @inlinable public init(_ value: consuming Value) { self.value = Cell(value) }

  @inlinable public func withLock<Result: ~Copyable, Failure: Error>(
    _ body: (inout Value) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    // SAFETY: interrupts are restored to what they were on every way out.
    let flags = unsafe interrupts_save()
    enterPreemptionOff()
    LockOrder.acquire(Rank.level)
    lock.acquire()
    defer {
      lock.release()
      LockOrder.release(Rank.level)
      // SAFETY: see above; the count is decremented first so that a pending switch happens at the end.
      unsafe preempt_enable_quiet()
      unsafe interrupts_restore(flags)
      if preempt_count() == 0, percpu_need_resched() != 0 { unsafe preempt_schedule() }
    }
    return try unsafe body(&value.address.pointee)
  }
}

extension InterruptSpinLock where Value: ~Copyable {
  /// A hint: whether nobody holds it.
  public var isFree: Bool { lock.isFree }

  /// As `withLock`, but does nothing when somebody holds the lock: for a panic's last words.
  public func withLockIfFree(_ body: (inout Value) -> Void) {
    // SAFETY: as in withLock.
    let flags = unsafe interrupts_save()
    if lock.tryAcquire() {
      unsafe body(&value.address.pointee)
      lock.release()
    }
    unsafe interrupts_restore(flags)
  }
}

@inlinable public func enterPreemptionOff() {
  // SAFETY: counted; every caller pairs it with leavePreemptionOff.
  unsafe preempt_disable()
}

@inlinable public func leavePreemptionOff() {
  // SAFETY: pairs with enterPreemptionOff; preempt_schedule itself checks that switching is allowed.
  unsafe preempt_enable_quiet()
  if percpu_need_resched() != 0, preempt_count() == 0 { unsafe preempt_schedule() }
}
