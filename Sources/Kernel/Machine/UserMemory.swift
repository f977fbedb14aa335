import CMachine
import Primitives
import SystemABI

/// The only way between kernel and user memory. Faults are resolved or become EFAULT; nothing is dereferenced.
///
/// Copies may sleep (a page may have to be read). With preemption off they do not, and fail instead.
public enum UserMemory {
  /// Whether a range lies below the kernel.
  @inlinable public static func isUser(_ address: UInt32, _ count: Int) -> Bool {
    count >= 0 && UInt64(address) + UInt64(count) <= 0xC000_0000
  }

  /// Copies user bytes into `span`, filling it.
  @inlinable public static func read(_ address: UInt32, into span: inout MutableSpan<UInt8>) throws(Errno) {
    let count = span.count
    guard isUser(address, count) else { throw .badAddress }
    // SAFETY: user_copy recovers from faults on the user side; the span is ours.
    let left = unsafe span.withUnsafeMutableBytes { unsafe user_copy($0.baseAddress, pointer(address), UInt32(count)) }
    if left != 0 { throw .badAddress }
  }

  @inlinable public static func write(_ span: borrowing Span<UInt8>, to address: UInt32) throws(Errno) {
    let count = span.count
    guard isUser(address, count) else { throw .badAddress }
    let left = unsafe span.withUnsafeBytes { unsafe user_copy(mutablePointer(address), $0.baseAddress, UInt32(count)) }
    if left != 0 { throw .badAddress }
  }

  /// Copies out the first `count` words of a structure that was put together in registers and on the stack.
  @inlinable public static func write<let size: Int>(words: InlineArray<size, UInt32>, count: Int, to address: UInt32) throws(Errno) {
    precondition(count >= 0 && count <= size)
    guard isUser(address, count * 4) else { throw .badAddress }
    // SAFETY: the array's storage holds `size` words.
    let left = unsafe withUnsafePointer(to: words) { unsafe user_copy(mutablePointer(address), $0, UInt32(count * 4)) }
    if left != 0 { throw .badAddress }
  }

  /// Fills a structure of words.
  @inlinable public static func read<let size: Int>(_ address: UInt32, words: inout InlineArray<size, UInt32>) throws(Errno) {
    guard isUser(address, size * 4) else { throw .badAddress }
    // SAFETY: as in `write(words:count:to:)`.
    let left = unsafe withUnsafeMutablePointer(to: &words) { unsafe user_copy($0, pointer(address), UInt32(size * 4)) }
    if left != 0 { throw .badAddress }
  }

  /// Copies some of an array's words in.
  public static func read(_ address: UInt32, words: inout [UInt32], _ range: Range<Int>) throws(Errno) {
    guard isUser(address, range.count * 4) else { throw .badAddress }
    precondition(range.lowerBound >= 0 && range.upperBound <= words.count)
    // SAFETY: both ranges are checked above; a fault in the copy ends it early.
    let left = unsafe words.withUnsafeMutableBytes {
      unsafe user_copy($0.baseAddress.map { unsafe $0 + range.lowerBound * 4 }, pointer(address), UInt32(range.count * 4))
    }
    if left != 0 { throw .badAddress }
  }

  /// Copies some of an array's words out.
  public static func write(words: [UInt32], _ range: Range<Int>, to address: UInt32) throws(Errno) {
    guard isUser(address, range.count * 4) else { throw .badAddress }
    let span = words.span.extracting(range)
    let left = unsafe span.withUnsafeBytes { unsafe user_copy(mutablePointer(address), $0.baseAddress, UInt32($0.count)) }
    if left != 0 { throw .badAddress }
  }

  /// Copies a part of an array out.
  public static func write(_ bytes: [UInt8], _ range: Range<Int>, to address: UInt32) throws(Errno) {
    let span = bytes.span
    try write(span.extracting(range), to: address)
  }

  @inlinable public static func read32(_ address: UInt32) throws(Errno) -> UInt32 {
    guard isUser(address, 4) else { throw .badAddress }
    var value: UInt32 = 0
    if unsafe user_copy(&value, pointer(address), 4) != 0 { throw .badAddress }
    return value
  }

  @inlinable public static func write32(_ value: UInt32, to address: UInt32) throws(Errno) {
    guard isUser(address, 4) else { throw .badAddress }
    var value = value
    if unsafe user_copy(mutablePointer(address), &value, 4) != 0 { throw .badAddress }
  }

  @inlinable public static func read64(_ address: UInt32) throws(Errno) -> UInt64 {
    let low = try read32(address)
    return UInt64(try read32(address &+ 4)) << 32 | UInt64(low)
  }

  @inlinable public static func write64(_ value: UInt64, to address: UInt32) throws(Errno) {
    try write32(UInt32(truncatingIfNeeded: value), to: address)
    try write32(UInt32(truncatingIfNeeded: value >> 32), to: address &+ 4)
  }

  /// Fills user memory with zeroes.
  public static func zero(_ address: UInt32, count: Int) throws(Errno) {
    guard isUser(address, count) else { throw .badAddress }
    if unsafe user_zero(mutablePointer(address), UInt32(count)) != 0 { throw .badAddress }
  }

  /// A NUL-terminated string, without its NUL.
  /// - Throws: `badAddress`, or `fileNameTooLong` when `limit` bytes hold no NUL.
  public static func string(_ address: UInt32, limit: Int = 4096) throws(Errno) -> [UInt8] {
    guard address < userEnd else { throw .badAddress }
    let room = min(limit, Int(clamping: userEnd - address))
    var length: Int32 = -1
    // Nearly every path fits what a block of 256 bytes has room for.
    let usual = min(room, 240)
    var bytes = unsafe [UInt8](unsafeUninitializedCapacity: 240) { buffer, count in
      length = unsafe user_string(
        UnsafeMutableRawPointer(buffer.baseAddress!).assumingMemoryBound(to: CChar.self), charPointer(address), UInt32(usual))
      count = max(0, Int(length))
    }
    if length < 0 { throw .badAddress }
    if length < usual { return bytes }
    bytes = unsafe [UInt8](unsafeUninitializedCapacity: room) { buffer, count in
      length = unsafe user_string(
        UnsafeMutableRawPointer(buffer.baseAddress!).assumingMemoryBound(to: CChar.self), charPointer(address),
        UInt32(room))
      count = max(0, Int(length))
    }
    if length < 0 { throw .badAddress }
    if length == room { throw room == limit ? .fileNameTooLong : .badAddress }
    return bytes
  }

  /// Atomically replaces a user word that holds `expected`; answers what it held.
  public static func exchange(_ address: UInt32, expected: UInt32, desired: UInt32) throws(Errno) -> UInt32 {
    guard isUser(address, 4), address & 3 == 0 else { throw .badAddress }
    var seen: UInt32 = 0
    if unsafe user_exchange(mutablePointer(address)!.assumingMemoryBound(to: UInt32.self), expected, desired, &seen) != 0 {
      throw .badAddress
    }
    return seen
  }

  @inlinable static func pointer(_ address: UInt32) -> UnsafeRawPointer? { unsafe UnsafeRawPointer(bitPattern: UInt(address)) }
  @inlinable static func mutablePointer(_ address: UInt32) -> UnsafeMutableRawPointer? {
    unsafe UnsafeMutableRawPointer(bitPattern: UInt(address))
  }
  static func charPointer(_ address: UInt32) -> UnsafePointer<CChar>? { unsafe UnsafePointer(bitPattern: UInt(address)) }
}
