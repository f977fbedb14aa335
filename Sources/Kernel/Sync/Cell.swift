import Builtin

/// Room for a value inside its owner that can be written while the owner is only borrowed: what a lock keeps its data in.
///
/// It has the value's own layout, so that a lock in an object is a few words of that object and not another object.
@_rawLayout(like: Value, movesAsLike)
public struct Cell<Value: ~Copyable>: ~Copyable {
  // SAFETY: the room is initialised by `init`, and no value leaves it before `deinit`.
  @inlinable @inline(__always) public init(_ value: consuming Value) {
    unsafe address.initialize(to: value)
  }

  @inlinable deinit { unsafe address.deinitialize(count: 1) }

  /// Where the value lies. Whoever uses it sees to it that nobody else does.
  @inlinable @inline(__always) public var address: UnsafeMutablePointer<Value> {
    unsafe UnsafeMutablePointer(Builtin.addressOfRawLayout(self))
  }
}
