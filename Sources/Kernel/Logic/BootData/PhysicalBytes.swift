/// Read access to physical memory that firmware or a boot loader filled: mapped memory in the kernel,
/// an array in tests. Reads outside it answer 0.
public protocol PhysicalBytes {
  func u8(_ address: UInt32) -> UInt8
}

extension PhysicalBytes {
  @inlinable public func u16(_ address: UInt32) -> UInt16 { UInt16(u8(address)) | UInt16(u8(address &+ 1)) << 8 }
  @inlinable public func u32(_ address: UInt32) -> UInt32 {
    UInt32(u16(address)) | UInt32(u16(address &+ 2)) << 16
  }
  @inlinable public func u64(_ address: UInt32) -> UInt64 {
    UInt64(u32(address)) | UInt64(u32(address &+ 4)) << 32
  }
  /// A NUL-terminated string of at most `limit` bytes.
  public func string(_ address: UInt32, limit: Int = 4096) -> [UInt8] {
    var result: [UInt8] = []
    var at = address
    while result.count < limit {
      let byte = u8(at)
      if byte == 0 { break }
      result.append(byte)
      at &+= 1
    }
    return result
  }
  public func sum(_ address: UInt32, count: UInt32) -> UInt8 {
    var total: UInt8 = 0
    for offset in 0..<count { total &+= u8(address &+ offset) }
    return total
  }
}
