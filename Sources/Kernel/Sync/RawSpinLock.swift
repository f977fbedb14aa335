import CMachine
import Synchronization

/// A test-and-test-and-set lock word. Only `SpinLock`, `InterruptSpinLock` and the allocators below them use it.
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
}
