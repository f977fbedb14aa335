import CMachine
import Primitives

/// The content of a frame, reached only as a bounds-checked span.
extension Frame {
  @inlinable var checked: UnsafeMutablePointer<UInt8> {
    unsafe precondition(number < Frames.tableCount)
    // SAFETY: every frame in the table lies in the direct map.
    return unsafe pointer.assumingMemoryBound(to: UInt8.self)
  }

  @inlinable public func withBytes<Result, Failure: Error>(
    _ body: (borrowing Span<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try body(unsafe Span(_unsafeStart: checked, count: pageSize))
  }

  @inlinable public func withMutableBytes<Result, Failure: Error>(
    _ body: (inout MutableSpan<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    var span = unsafe MutableSpan(_unsafeStart: checked, count: pageSize)
    return try body(&span)
  }

  /// Several contiguous frames as one span: DMA rings and buffers.
  public func withMutableBytes<Result>(frames: Int, _ body: (inout MutableSpan<UInt8>) -> Result) -> Result {
    unsafe precondition(Int(number) + frames <= Int(Frames.tableCount))
    var span = unsafe MutableSpan(_unsafeStart: checked, count: pageSize * frames)
    return body(&span)
  }

  public func zero() { unsafe page_zero(checked) }
  public func zero(from start: Int, to end: Int) {
    precondition(start >= 0 && start <= end && end <= pageSize)
    unsafe (checked + start).update(repeating: 0, count: end - start)
  }
  public func copy(from other: Frame) { unsafe page_copy(checked, other.checked) }

  public func load32(_ offset: Int) -> UInt32 {
    precondition(offset >= 0 && offset <= pageSize - 4)
    return unsafe UnsafeRawPointer(checked).loadUnaligned(fromByteOffset: offset, as: UInt32.self)
  }
  public func store32(_ offset: Int, _ value: UInt32) {
    precondition(offset >= 0 && offset <= pageSize - 4)
    unsafe UnsafeMutableRawPointer(checked).storeBytes(of: value, toByteOffset: offset, as: UInt32.self)
  }
}

/// Memory that the boot loader filled, which is no frame of ours.
public enum FrameModule {
  /// Runs `body` on a module's content, which stays where the loader put it; on nothing when it is not in mapped memory.
  public static func withBytes<Result>(_ start: UInt32, _ end: UInt32, _ body: (borrowing Span<UInt8>) -> Result) -> Result {
    guard start < end, end < 0x3000_0000 else {
      let nothing: [UInt8] = []
      return body(nothing.span)
    }
    // SAFETY: below 768 MiB everything is mapped; the allocator keeps modules out of its pool for ever.
    let bytes = unsafe UnsafeBufferPointer(
      start: UnsafePointer<UInt8>(bitPattern: UInt(start + 0xC000_0000)), count: Int(end - start))
    return body(unsafe Span(_unsafeElements: bytes))
  }
}
