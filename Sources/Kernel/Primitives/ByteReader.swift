/// Little-endian reads at checked offsets over bytes that somebody else wrote: a disk, a wire, firmware.
///
/// Every read answers nil outside the span; nothing traps.
extension Span where Element == UInt8 {
  @inlinable public func u8(_ offset: Int) -> UInt8? {
    offset >= 0 && offset < count ? self[offset] : nil
  }
  @inlinable public func u16(_ offset: Int) -> UInt16? {
    guard offset >= 0, count >= 2, offset <= count - 2 else { return nil }
    return UInt16(self[offset]) | UInt16(self[offset + 1]) << 8
  }
  @inlinable public func u32(_ offset: Int) -> UInt32? {
    guard offset >= 0, count >= 4, offset <= count - 4 else { return nil }
    return UInt32(self[offset]) | UInt32(self[offset + 1]) << 8 | UInt32(self[offset + 2]) << 16
      | UInt32(self[offset + 3]) << 24
  }
  @inlinable public func u64(_ offset: Int) -> UInt64? {
    guard let low = u32(offset), let high = u32(offset + 4) else { return nil }
    return UInt64(high) << 32 | UInt64(low)
  }
}

/// Little-endian writes at offsets the caller has checked (a field inside a structure it sized).
extension MutableSpan where Element == UInt8 {
  @inlinable public mutating func put16(_ value: UInt16, at offset: Int) {
    self[offset] = UInt8(truncatingIfNeeded: value)
    self[offset + 1] = UInt8(truncatingIfNeeded: value >> 8)
  }
  @inlinable public mutating func put32(_ value: UInt32, at offset: Int) {
    put16(UInt16(truncatingIfNeeded: value), at: offset)
    put16(UInt16(truncatingIfNeeded: value >> 16), at: offset + 2)
  }
  @inlinable public mutating func put64(_ value: UInt64, at offset: Int) {
    put32(UInt32(truncatingIfNeeded: value), at: offset)
    put32(UInt32(truncatingIfNeeded: value >> 32), at: offset + 4)
  }
}
