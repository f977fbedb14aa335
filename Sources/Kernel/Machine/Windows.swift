import CMachine

/// A device's I/O ports. Making one is the trusted act; using it is bounds-checked.
public struct PortWindow {
  let base: UInt16
  let count: UInt16
  public init(base: UInt16, count: UInt16) {
    self.base = base
    self.count = count
  }
  @inline(__always) private func port(_ offset: UInt16, _ size: UInt16) -> UInt16 {
    precondition(offset + size <= count)
    return base &+ offset
  }
  // SAFETY: ports inside the device's own window.
  public func read8(_ offset: UInt16) -> UInt8 { unsafe inb(port(offset, 1)) }
  public func read16(_ offset: UInt16) -> UInt16 { unsafe inw(port(offset, 2)) }
  public func read32(_ offset: UInt16) -> UInt32 { unsafe inl(port(offset, 4)) }
  public func write8(_ offset: UInt16, _ value: UInt8) { unsafe outb(port(offset, 1), value) }
  public func write16(_ offset: UInt16, _ value: UInt16) { unsafe outw(port(offset, 2), value) }
  public func write32(_ offset: UInt16, _ value: UInt32) { unsafe outl(port(offset, 4), value) }

  /// Reads `count` 16-bit words from one port into a span.
  public func readWords(_ offset: UInt16, into span: inout MutableSpan<UInt8>, at start: Int, count words: Int) {
    precondition(start >= 0 && start + words * 2 <= span.count)
    let port = port(offset, 2)
    unsafe span.withUnsafeMutableBytes { unsafe insw(port, $0.baseAddress! + start, UInt32(words)) }
  }
  public func writeWords(_ offset: UInt16, from span: borrowing Span<UInt8>, at start: Int, count words: Int) {
    precondition(start >= 0 && start + words * 2 <= span.count)
    let port = port(offset, 2)
    unsafe span.withUnsafeBytes { unsafe outsw(port, $0.baseAddress! + start, UInt32(words)) }
  }
}

/// A device's memory-mapped registers, uncached.
public struct RegisterWindow {
  let base: UInt32
  let size: UInt32
  /// Maps `size` bytes at a physical address.
  public init(physical: UInt64, size: UInt32) {
    base = KernelSpace.mapDevice(physical: physical, size: size)
    self.size = size
  }
  @inline(__always) private func address(_ offset: UInt32, _ width: UInt32) -> UInt32 {
    precondition(offset <= size - width)
    return base + offset
  }
  // SAFETY: inside the window mapped by init.
  public func read8(_ offset: UInt32) -> UInt8 { unsafe mmio_read8(address(offset, 1)) }
  public func read16(_ offset: UInt32) -> UInt16 { unsafe mmio_read16(address(offset, 2)) }
  public func read32(_ offset: UInt32) -> UInt32 { unsafe mmio_read32(address(offset, 4)) }
  public func write8(_ offset: UInt32, _ value: UInt8) { unsafe mmio_write8(address(offset, 1), value) }
  public func write16(_ offset: UInt32, _ value: UInt16) { unsafe mmio_write16(address(offset, 2), value) }
  public func write32(_ offset: UInt32, _ value: UInt32) { unsafe mmio_write32(address(offset, 4), value) }
}

/// Orders memory writes before what follows: rings shared with a device.
public func memoryBarrier() { unsafe memory_barrier() }
