import CMachine
import Synchronization

/// A test-and-test-and-set lock word. Only `SpinLock`, `InterruptSpinLock` and what lies below them use it.
public struct RawSpinLock: ~Copyable, Sendable {
  @usableFromInline let word = Atomic<UInt32>(0)

  @inlinable public init() {}

  @inlinable public func acquire() {
    while word.exchange(1, ordering: .acquiring) != 0 {
      while word.load(ordering: .relaxed) != 0 { cpu_relax() }
    }
    ownership_barrier()
  }

  @inlinable public func tryAcquire() -> Bool {
    let free = word.exchange(1, ordering: .acquiring) == 0
    ownership_barrier()
    return free
  }

  /// A hint: whether nobody holds it.
  @inlinable public var isFree: Bool { word.load(ordering: .relaxed) == 0 }

  @inlinable public func release() {
    ownership_barrier()
    word.store(0, ordering: .releasing)
    ownership_barrier()
  }

  /// Runs `body` with the lock held and interrupts off, for what handlers touch, too.
  @inlinable @inline(__always) public func withInterruptsOff<Result>(_ body: () -> Result) -> Result {
    // SAFETY: interrupts go back to what they were.
    let flags = unsafe interrupts_save()
    acquire()
    let result = body()
    release()
    unsafe interrupts_restore(flags)
    return result
  }
}
