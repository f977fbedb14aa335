import Primitives

/// The ways that an initramfs is packed.
public enum Packed: Sendable {
  case gzip, lz4

  /// Nil for what begins as neither does.
  public init?(_ bytes: borrowing Span<UInt8>, at offset: Int) {
    if bytes.u16(offset) == 0x8B1F {
      self = .gzip
    } else if bytes.u32(offset) == LZ4.magic {
      self = .lz4
    } else {
      return nil
    }
  }

  /// Unpacks what begins at `offset`; where it ends. What came out before an error is given on.
  public func unpack(_ bytes: borrowing Span<UInt8>, from offset: Int, _ emit: UnpackedBytes) throws(DecompressionError) -> Int {
    switch self {
    case .gzip: try Gzip.unpack(bytes, from: offset, emit)
    case .lz4: try LZ4.unpack(bytes, from: offset, emit)
    }
  }
}

/// SPEC: RFC 1952.
enum Gzip {
  private enum Flag {
    static let headerChecksum: UInt8 = 2
    static let extra: UInt8 = 4
    static let name: UInt8 = 8
    static let comment: UInt8 = 16
    static let unknown: UInt8 = 0xE0
  }

  static func unpack(_ input: borrowing Span<UInt8>, from start: Int, _ emit: UnpackedBytes) throws(DecompressionError) -> Int {
    var position = start + 10
    guard position <= input.count else { throw .truncated }
    let flags = input[start + 3]
    guard input[start + 2] == 8, flags & Flag.unknown == 0 else { throw .corrupt }
    if flags & Flag.extra != 0 {
      guard let count = input.u16(position) else { throw .truncated }
      position += 2 + Int(count)
    }
    for flag in [Flag.name, Flag.comment] where flags & flag != 0 {
      while position < input.count, input[position] != 0 { position += 1 }
      position += 1
    }
    if flags & Flag.headerChecksum != 0 { position += 2 }
    guard position < input.count else { throw .truncated }
    var checksum = CRC32()
    var count: UInt32 = 0
    let end = try Inflate.unpack(input, from: position) { bytes, range in
      checksum.add(bytes, range)
      count &+= UInt32(truncatingIfNeeded: range.count)
      emit(bytes, range)
    }
    guard let wanted = input.u32(end), let size = input.u32(end + 4) else { throw .truncated }
    guard checksum.value == wanted, count == size else { throw .corrupt }
    return end + 8
  }
}

/// The legacy frames of `lz4 -l`, as Linux wants them for an initramfs: blocks of at most 8 MiB, each on its own.
///
/// SPEC: LZ4 Frame Format 1.6, "Legacy frame"; LZ4 Block Format.
enum LZ4 {
  static var magic: UInt32 { 0x184C_2102 }
  private static var largestBlock: UInt32 { 8 << 20 }

  static func unpack(_ input: borrowing Span<UInt8>, from start: Int, _ emit: UnpackedBytes) throws(DecompressionError) -> Int {
    var position = start + 4
    while let size = input.u32(position), size != 0, size != magic {
      // What cannot be packed becomes a little longer.
      guard size <= largestBlock + largestBlock / 255 + 16 else { throw .corrupt }
      guard input.count - position - 4 >= Int(size) else { throw .truncated }
      var window = Window(size: 65536)
      try block(input, (position + 4)..<(position + 4 + Int(size)), &window, emit)
      window.flush(emit)
      position += 4 + Int(size)
    }
    return position
  }

  private static func block(
    _ input: borrowing Span<UInt8>, _ range: Range<Int>, _ window: inout Window, _ emit: UnpackedBytes
  ) throws(DecompressionError) {
    var position = range.lowerBound
    /// A length goes on in bytes as long as they are 255.
    func length(_ start: Int, _ input: borrowing Span<UInt8>) throws(DecompressionError) -> Int {
      var total = start
      if start < 15 { return total }
      while true {
        guard position < range.upperBound, total <= Int(largestBlock) else { throw .corrupt }
        let byte = input[position]
        position += 1
        total += Int(byte)
        if byte != 255 { return total }
      }
    }
    while position < range.upperBound {
      let token = input[position]
      position += 1
      let literals = try length(Int(token >> 4), input)
      guard range.upperBound - position >= literals else { throw .corrupt }
      for offset in 0..<literals { window.put(input[position + offset], emit) }
      position += literals
      // The last sequence has no copy.
      if position == range.upperBound { return }
      guard position + 2 <= range.upperBound, let distance = input.u16(position) else { throw .corrupt }
      position += 2
      let count = try length(Int(token & 15), input) + 4
      guard distance > 0, UInt64(distance) <= window.total, window.total + UInt64(count) <= UInt64(largestBlock) else { throw .corrupt }
      window.copy(count, from: Int(distance), emit)
    }
  }
}

/// SPEC: RFC 1952, section 8.
struct CRC32 {
  private let table: [UInt32]
  private var state = UInt32.max

  init() {
    table = (0..<256).map { byte in
      var value = UInt32(byte)
      for _ in 0..<8 { value = value & 1 != 0 ? value >> 1 ^ 0xEDB8_8320 : value >> 1 }
      return value
    }
  }

  var value: UInt32 { ~state }

  mutating func add(_ bytes: borrowing Span<UInt8>, _ range: Range<Int>) {
    for index in range { state = table[Int((state ^ UInt32(bytes[index])) & 0xFF)] ^ state >> 8 }
  }
}
