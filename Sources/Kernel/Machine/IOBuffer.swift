import CMachine
import Primitives
import SystemABI

/// Where a read goes to or a write comes from, consumed from the front: user memory, or a part of a frame of the kernel's
/// own (sendfile, splice). A user's range may turn out to be bad at any byte.
public struct IOBuffer {
  /// A user address, or an offset in `frame`.
  private var address: UInt32
  public private(set) var count: Int
  /// 0, which is nobody's, for user memory.
  private let frame: Frame

  /// A user's range.
  public init(_ address: UInt32, _ count: Int) {
    self.address = address
    self.count = count
    frame = Frame(0)
  }

  /// A part of a frame, which must stay while the buffer is used.
  public init(_ frame: Frame, _ range: Range<Int>) {
    precondition(range.lowerBound >= 0 && range.upperBound <= pageSize)
    precondition(frame.number != 0)
    address = UInt32(range.lowerBound)
    count = range.count
    self.frame = frame
  }

  /// The first `limit` bytes of what is left.
  public func prefix(_ limit: Int) -> IOBuffer {
    var part = self
    part.count = min(limit, count)
    return part
  }

  public mutating func advance(_ bytes: Int) {
    precondition(bytes >= 0 && bytes <= count)
    address &+= UInt32(bytes)
    count -= bytes
  }

  private var isKernel: Bool { frame.number != 0 }

  /// Runs `body` with the address of what is left.
  @inline(__always) private func withAddress<Result>(_ body: (UnsafeMutableRawPointer?) -> Result) -> Result {
    // SAFETY: `count` bytes from the offset on are in the frame; user memory is only touched by copies that recover.
    if isKernel { return unsafe frame.withAddress { unsafe body(UnsafeMutableRawPointer($0 + Int(address))) } }
    return unsafe body(UserMemory.mutablePointer(address))
  }

  private func allows(_ bytes: Int) -> Bool { isKernel || UserMemory.isUser(address, bytes) }

  // MARK: Into the buffer

  /// Copies as much of `span` as there is room for; the number of bytes copied.
  public mutating func put(_ span: borrowing Span<UInt8>) throws(Errno) -> Int {
    let take = min(span.count, count)
    if take == 0 { return 0 }
    guard allows(take) else { throw .badAddress }
    // SAFETY: the range is a frame's, or checked just above; user_copy recovers from faults.
    let left = unsafe span.extracting(0..<take).withUnsafeBytes { bytes in
      unsafe withAddress { unsafe user_copy($0, bytes.baseAddress, UInt32(take)) }
    }
    if left != 0 { throw .badAddress }
    advance(take)
    return take
  }

  /// Copies an array's tail, as much as there is room for.
  public mutating func put(_ bytes: [UInt8], from start: Int) throws(Errno) -> Int {
    let span = bytes.span
    return try put(span.extracting(start..<bytes.count))
  }

  /// Copies from a frame; the number of bytes that arrived.
  public mutating func put(_ frame: Frame, offset: Int, count: Int) -> Int {
    precondition(offset >= 0 && count >= 0 && offset + count <= pageSize && count <= self.count)
    guard allows(count) else { return 0 }
    // SAFETY: bounds checked on both sides.
    let left = unsafe frame.withAddress { from in
      unsafe withAddress { unsafe user_copy($0, from + offset, UInt32(count)) }
    }
    let copied = count - Int(left)
    advance(copied)
    return copied
  }

  public mutating func putZeroes() throws(Errno) {
    guard allows(count) else { throw .badAddress }
    // SAFETY: as in `put`.
    if unsafe withAddress({ unsafe user_zero($0, UInt32(count)) }) != 0 { throw .badAddress }
    advance(count)
  }

  /// A 64-bit number, as eventfd and its relatives read and write them. Throws `invalidArgument` without room for one.
  public mutating func put64(_ value: UInt64) throws(Errno) {
    guard count >= 8 else { throw .invalidArgument }
    var bytes: [8 of UInt8] = .init(repeating: 0)
    var out = bytes.mutableSpan
    out.put64(value, at: 0)
    _ = try put(bytes.span)
  }

  // MARK: Out of the buffer

  /// Fills `span` from the buffer; the number of bytes copied.
  public mutating func take(into span: inout MutableSpan<UInt8>) throws(Errno) -> Int {
    let take = min(span.count, count)
    if take == 0 { return 0 }
    guard allows(take) else { throw .badAddress }
    // SAFETY: the range is a frame's, or checked just above; user_copy recovers from faults.
    let left = unsafe span.withUnsafeMutableBytes { bytes in
      unsafe withAddress { unsafe user_copy(bytes.baseAddress, $0, UInt32(take)) }
    }
    if left != 0 { throw .badAddress }
    advance(take)
    return take
  }

  /// Copies into a frame; the number of bytes that arrived.
  public mutating func take(into frame: Frame, offset: Int, count: Int) -> Int {
    precondition(offset >= 0 && count >= 0 && offset + count <= pageSize && count <= self.count)
    guard allows(count) else { return 0 }
    // SAFETY: bounds checked on both sides.
    let left = unsafe frame.withAddress { into in
      unsafe withAddress { unsafe user_copy(into + offset, $0, UInt32(count)) }
    }
    let copied = count - Int(left)
    advance(copied)
    return copied
  }

  /// Reads a byte of every page of the first `bytes`, so that a copy soon after finds them. Throws `badAddress`.
  public func touch(_ bytes: Int) throws(Errno) {
    if isKernel { return }
    var probe: [1 of UInt8] = [0]
    var span = probe.mutableSpan
    try UserMemory.read(address, into: &span)
    if address & 0xFFF != 0, UInt64(address & 0xFFF) + UInt64(bytes) > 4096 {
      try UserMemory.read(address &+ UInt32(bytes) - 1, into: &span)
    }
  }

  /// All the bytes, at most `limit`.
  public mutating func takeBytes(limit: Int) throws(Errno) -> [UInt8] {
    let wanted = min(limit, count)
    guard allows(wanted) else { throw .badAddress }
    var left: UInt32 = 0
    // SAFETY: user_copy recovers from faults; what it did not fill is not used.
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: wanted) { buffer, filled in
      left = unsafe withAddress { unsafe user_copy(buffer.baseAddress, $0, UInt32(wanted)) }
      filled = wanted - Int(left)
    }
    if left != 0 { throw .badAddress }
    advance(wanted)
    return bytes
  }

  public mutating func take64() throws(Errno) -> UInt64 {
    guard count >= 8 else { throw .invalidArgument }
    var bytes: [8 of UInt8] = .init(repeating: 0)
    var into = bytes.mutableSpan
    _ = try take(into: &into)
    return bytes.span.u64(0)!
  }
}
