import CMachine
import Primitives

/// The content of a frame, reached only as a bounds-checked span.
extension Frame {
  /// The kernel's address of a frame in the direct map.
  @inlinable var checked: UnsafeMutablePointer<UInt8> {
    unsafe precondition(number < min(Frames.tableCount, directMapFrames))
    // SAFETY: every such frame in the table lies in the direct map.
    return unsafe pointer.assumingMemoryBound(to: UInt8.self)
  }

  /// Runs `body` with an address of the frame's bytes, which is good until it returns.
  @inlinable @inline(__always) func withAddress<Result, Failure: Error>(
    _ body: (UnsafeMutablePointer<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    if number < directMapFrames { return try unsafe body(checked) }
    unsafe precondition(number < Frames.tableCount)
    let address = unsafe FrameWindows.open(self)
    defer { FrameWindows.close() }
    return try unsafe body(address)
  }

  @inlinable public func withBytes<Result, Failure: Error>(
    _ body: (borrowing Span<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try unsafe withAddress { address throws(Failure) in try body(unsafe Span(_unsafeStart: address, count: pageSize)) }
  }

  @inlinable public func withMutableBytes<Result, Failure: Error>(
    _ body: (inout MutableSpan<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try unsafe withAddress { address throws(Failure) in
      var span = unsafe MutableSpan(_unsafeStart: address, count: pageSize)
      return try body(&span)
    }
  }

  /// Several contiguous frames as one span: DMA rings and buffers.
  public func withMutableBytes<Result>(frames: Int, _ body: (inout MutableSpan<UInt8>) -> Result) -> Result {
    unsafe precondition(Int(number) + frames <= Int(Frames.tableCount))
    var span = unsafe MutableSpan(_unsafeStart: checked, count: pageSize * frames)
    return body(&span)
  }

  public func zero() { unsafe withAddress { unsafe page_zero($0) } }
  public func zero(from start: Int, to end: Int) {
    precondition(start >= 0 && start <= end && end <= pageSize)
    unsafe withAddress { unsafe ($0 + start).update(repeating: 0, count: end - start) }
  }
  public func copy(from other: Frame) {
    unsafe withAddress { to in unsafe other.withAddress { unsafe page_copy(to, $0) } }
  }

  /// Copies bytes of another frame to `start` and on.
  public func copy(_ range: Range<Int>, of other: Frame, to start: Int) {
    precondition(range.lowerBound >= 0 && range.upperBound <= pageSize && start >= 0 && start <= pageSize - range.count)
    unsafe withAddress { to in
      unsafe other.withAddress { from in unsafe (to + start).update(from: from + range.lowerBound, count: range.count) }
    }
  }

  /// Stores bytes from `start` on.
  public func put(_ bytes: borrowing Span<UInt8>, at start: Int) {
    precondition(start >= 0 && bytes.count <= pageSize && start <= pageSize - bytes.count)
    unsafe bytes.withUnsafeBufferPointer { from in
      guard let base = from.baseAddress else { return }
      unsafe withAddress { to in unsafe (to + start).update(from: base, count: from.count) }
    }
  }

  /// A copy of some of its bytes behind those of an array.
  public func append(_ range: Range<Int>, to bytes: inout [UInt8]) {
    precondition(range.lowerBound >= 0 && range.upperBound <= pageSize)
    unsafe withAddress { from in unsafe bytes.append(contentsOf: UnsafeBufferPointer(start: from + range.lowerBound, count: range.count)) }
  }

  public func load32(_ offset: Int) -> UInt32 {
    precondition(offset >= 0 && offset <= pageSize - 4)
    return unsafe withAddress { unsafe UnsafeRawPointer($0).loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
  }
  public func store32(_ offset: Int, _ value: UInt32) {
    precondition(offset >= 0 && offset <= pageSize - 4)
    unsafe withAddress { unsafe UnsafeMutableRawPointer($0).storeBytes(of: value, toByteOffset: offset, as: UInt32.self) }
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
