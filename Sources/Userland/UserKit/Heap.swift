import CSystem

/// The allocator under Swift's: power-of-two blocks with a header, free lists by size, memory from mmap.
enum Heap {
  nonisolated(unsafe) private static var free: InlineArray<32, UInt32> = .init(repeating: 0)
  nonisolated(unsafe) private static var next: UInt32 = 0
  nonisolated(unsafe) private static var end: UInt32 = 0

  // SAFETY: programs of this kit have one thread; every block comes from mmap and is threaded through its first word.
  static func allocate(_ size: UInt32, _ alignment: UInt32) -> UInt32 {
    let needed = max(size, alignment) + 16
    let order = 32 - (max(needed, 32) - 1).leadingZeroBitCount
    if unsafe free[order] != 0 {
      let block = unsafe free[order]
      unsafe free[order] = UnsafePointer<UInt32>(bitPattern: UInt(block))!.pointee
      return block
    }
    let length = UInt32(1) << UInt32(order)
    var start: UInt32
    if length >= 65536 {
      start = map(length)
    } else {
      if unsafe end - next < length {
        unsafe next = map(262144)
        unsafe end = next + 262144
      }
      start = unsafe next
      unsafe next += length
    }
    if start == 0 { return 0 }
    unsafe UnsafeMutablePointer<UInt32>(bitPattern: UInt(start))!.pointee = UInt32(order)
    start += 16
    return start
  }

  private static func map(_ size: UInt32) -> UInt32 {
    let address = unsafe system_mmap(size)
    return address < 0 && address > -4096 ? 0 : UInt32(bitPattern: address)
  }

  static func release(_ block: UInt32) {
    let order = unsafe Int(UnsafePointer<UInt32>(bitPattern: UInt(block - 16))!.pointee)
    unsafe UnsafeMutablePointer<UInt32>(bitPattern: UInt(block))!.pointee = unsafe free[order]
    unsafe free[order] = block
  }
}

@c(heap_allocate)
public func heapAllocate(_ out: UnsafeMutablePointer<UnsafeMutableRawPointer?>, _ alignment: Int, _ size: Int) -> Int32 {
  let block = Heap.allocate(UInt32(size), UInt32(alignment))
  if block == 0 { return 12 }
  unsafe out.pointee = UnsafeMutableRawPointer(bitPattern: UInt(block))
  return 0
}

@c(heap_free)
public func heapFree(_ pointer: UnsafeMutableRawPointer?) {
  if let pointer = unsafe pointer { Heap.release(UInt32(UInt(bitPattern: pointer))) }
}
