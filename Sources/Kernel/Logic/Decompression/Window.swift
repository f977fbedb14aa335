/// What is wrong with packed bytes.
public enum DecompressionError: Error, Equatable, Sendable {
  /// They end in the middle.
  case truncated
  /// No packer writes that, or a checksum is another one.
  case corrupt
}

/// Takes what comes out, some bytes of a span at a time.
public typealias UnpackedBytes = (borrowing Span<UInt8>, Range<Int>) -> Void

/// The bytes that came out last, which others are copies of; they are given on when it is full.
struct Window {
  private var bytes: [UInt8]
  private var position = 0
  /// Bytes that came out in all.
  private(set) var total: UInt64 = 0

  /// - Parameter size: How far back a copy reaches at most; a power of two.
  init(size: Int) { bytes = Array(repeating: 0, count: size) }

  @inline(__always) mutating func put(_ byte: UInt8, _ emit: UnpackedBytes) {
    bytes[position] = byte
    position += 1
    total += 1
    if position == bytes.count { flush(emit) }
  }

  /// Repeats what came out `distance` bytes ago; the caller knows that it did.
  mutating func copy(_ count: Int, from distance: Int, _ emit: UnpackedBytes) {
    for _ in 0..<count { put(bytes[(position &- distance) & (bytes.count - 1)], emit) }
  }

  /// Gives on what is left.
  mutating func flush(_ emit: UnpackedBytes) {
    emit(bytes.span, 0..<position)
    position = 0
  }
}
