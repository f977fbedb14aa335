import Synchronization

/// A reference that a boot stage sets once and everybody reads from then on.
///
/// A plain global of class type would get a lazy initialiser, whose once-lock spins: an interrupt that
/// touches it while it is initialised hangs the CPU. This is one word, all zeroes until set.
public struct BootCell<Value: AnyObject>: ~Copyable, @unchecked Sendable {
  // SAFETY: the object is retained for ever by `set`, so the unmanaged reads below cannot dangle.
  @usableFromInline let bits = Atomic<UInt>(0)

  @inlinable public init() {}

  /// Stores the object for the rest of the system's life. A second call is a kernel bug.
  public func set(_ value: Value) {
    precondition(bits.load(ordering: .relaxed) == 0, "BootCell set twice")
    let opaque = unsafe Unmanaged.passRetained(value).toOpaque()
    bits.store(UInt(bitPattern: opaque), ordering: .releasing)
  }

  @inlinable public var isSet: Bool { bits.load(ordering: .acquiring) != 0 }

  /// The object; reading it before its boot stage ran is a kernel bug and traps.
  @inlinable public var value: Value {
    let pointer = unsafe UnsafeRawPointer(bitPattern: bits.load(ordering: .acquiring))!
    return unsafe Unmanaged<Value>.fromOpaque(pointer).takeUnretainedValue()
  }
}
