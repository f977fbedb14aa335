import Synchronization

/// A reference that is set at most once in its owner's life, and read without a lock.
///
/// Who reads holds its owner, so what it refers to is there: it goes with the owner.
public struct SetOnce<Value: AnyObject>: ~Copyable, @unchecked Sendable {
  // SAFETY: the object is retained by `set` or `init` until `deinit`, and everybody who can call `value` keeps that from running, so
  // the unmanaged reads below cannot dangle.
  @usableFromInline let bits: Atomic<UInt>

  @inlinable public init(_ value: Value?) {
    bits = Atomic(value.map { UInt(bitPattern: unsafe Unmanaged.passRetained($0).toOpaque()) } ?? 0)
  }

  /// Stores the object. Two at once, or a second one, are a kernel bug and trap.
  @inlinable public func set(_ value: Value) {
    let opaque = unsafe Unmanaged.passRetained(value).toOpaque()
    let old = bits.exchange(UInt(bitPattern: opaque), ordering: .acquiringAndReleasing)
    precondition(old == 0, "SetOnce set twice")
  }

  @inlinable @inline(__always) public var value: Value? {
    guard let pointer = unsafe UnsafeRawPointer(bitPattern: bits.load(ordering: .acquiring)) else { return nil }
    return unsafe Unmanaged<Value>.fromOpaque(pointer).takeUnretainedValue()
  }

  @inlinable deinit {
    if let pointer = unsafe UnsafeRawPointer(bitPattern: bits.load(ordering: .acquiring)) {
      unsafe Unmanaged<Value>.fromOpaque(pointer).release()
    }
  }
}
