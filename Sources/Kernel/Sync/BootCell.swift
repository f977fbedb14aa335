import Synchronization

/// A value that a boot stage sets once and everybody reads from then on: an object, or a lock with what it owns.
///
/// A plain global of such a type would get a lazy initialiser, whose once-lock spins: an interrupt that
/// touches it while it is initialised hangs the CPU. This is one word, all zeroes until set.
public struct BootCell<Value: ~Copyable>: ~Copyable, @unchecked Sendable {
  // SAFETY: the room that `set` allocates is never freed and its value never replaced, so what is read below cannot dangle.
  @usableFromInline let bits = Atomic<UInt>(0)

  @inlinable public init() {}

  /// Stores the value for the rest of the system's life. A second call is a kernel bug.
  @inlinable public func set(_ value: consuming Value) {
    let room = UnsafeMutablePointer<Value>.allocate(capacity: 1)
    unsafe room.initialize(to: value)
    let old = bits.exchange(UInt(bitPattern: room), ordering: .acquiringAndReleasing)
    precondition(old == 0, "BootCell set twice")
  }

  @inlinable public var isSet: Bool { bits.load(ordering: .acquiring) != 0 }

  /// The value; reading it before its boot stage ran is a kernel bug and traps.
  @inlinable public var value: Value {
    @inline(__always) unsafeAddress { unsafe UnsafePointer(bitPattern: bits.load(ordering: .acquiring))! }
  }
}
