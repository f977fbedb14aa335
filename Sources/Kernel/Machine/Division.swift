import CMachine

extension UInt64 {
  /// Seconds and the nanoseconds behind them. Division of 64-bit numbers is a library call on i686; one that fits is not.
  @inlinable public var secondsAndNanoseconds: (seconds: UInt64, nanoseconds: UInt32) {
    if self >> 32 < 1_000_000_000 {
      let result = divide_narrow(self, 1_000_000_000)
      return (UInt64(result.quotient), result.remainder)
    }
    return (self / 1_000_000_000, UInt32(truncatingIfNeeded: self % 1_000_000_000))
  }
}

extension Int64 {
  /// Whole seconds, rounded down, and the nanoseconds above them: how `timespec` has times before 1970.
  @inlinable public var secondsAndNanoseconds: (seconds: Int64, nanoseconds: UInt32) {
    if self >= 0 {
      let parts = UInt64(bitPattern: self).secondsAndNanoseconds
      return (Int64(bitPattern: parts.seconds), parts.nanoseconds)
    }
    let seconds = (self - 999_999_999) / 1_000_000_000
    return (seconds, UInt32(truncatingIfNeeded: self - seconds * 1_000_000_000))
  }
}
