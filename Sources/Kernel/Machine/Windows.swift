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

/// A frame buffer: pixels of four bytes, whose writes the processor may collect.
public struct PixelWindow: Sendable {
  let base: UInt32
  /// In pixels.
  public let count: UInt32
  public init(physical: UInt64, bytes: UInt32) {
    base = KernelSpace.mapDevice(physical: physical, size: bytes, combinesWrites: true)
    count = bytes / 4
  }

  // SAFETY: both stay inside the window mapped by init, which is memory without side effects.
  private func pointer(_ offset: UInt32, _ pixels: UInt32) -> UnsafeMutablePointer<UInt32> {
    precondition(offset <= count && pixels <= count - offset)
    return unsafe UnsafeMutablePointer(bitPattern: UInt(base + offset * 4))!
  }

  /// Draws a row of up to 32 points, from the highest of `bits`: those that are set in one colour, the others in another.
  public func draw(_ bits: UInt32, _ width: Int, at offset: UInt32, _ front: UInt32, _ back: UInt32) {
    let pixel = unsafe pointer(offset, UInt32(width))
    var left = bits
    for index in 0..<width {
      unsafe pixel[index] = Int32(bitPattern: left) < 0 ? front : back
      left <<= 1
    }
  }

  public func fill(_ offset: UInt32, _ pixels: UInt32, _ colour: UInt32) {
    let pixel = unsafe pointer(offset, pixels)
    for index in 0..<Int(pixels) { unsafe pixel[index] = colour }
  }

  /// Bytes of it, for programs that read and write the device as a file.
  public func bytes(_ range: Range<UInt32>) -> [UInt8] {
    precondition(range.upperBound <= count * 4)
    let start = unsafe UnsafePointer<UInt8>(bitPattern: UInt(base + range.lowerBound))!
    return unsafe [UInt8](UnsafeBufferPointer(start: start, count: Int(range.upperBound - range.lowerBound)))
  }

  public func write(_ bytes: borrowing Span<UInt8>, at offset: UInt32) {
    precondition(offset <= count * 4 && UInt32(bytes.count) <= count * 4 - offset)
    let start = unsafe UnsafeMutablePointer<UInt8>(bitPattern: UInt(base + offset))!
    for index in 0..<bytes.count { unsafe start[index] = bytes[index] }
  }
}

/// Orders memory writes before what follows: rings shared with a device.
public func memoryBarrier() { unsafe memory_barrier() }
