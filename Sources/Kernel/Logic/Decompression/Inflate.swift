import Primitives

/// A prefix code: symbols by the length of their codes.
struct PrefixCode {
  private static var tableBits: UInt32 { 9 }
  /// For the next bits: a symbol shifted by 4, and the length of its code; 0 where that is longer than the table knows.
  private var table = [UInt16](repeating: 0, count: 1 << 9)
  private var counts = [UInt16](repeating: 0, count: 16)
  private var symbols: [UInt16] = []

  /// Nil for lengths that no code has: too many of some.
  init?(_ lengths: ArraySlice<UInt8>) {
    for length in lengths { counts[Int(length)] += 1 }
    counts[0] = 0
    var left: Int32 = 1
    for length in 1...15 {
      left = left * 2 - Int32(counts[length])
      if left < 0 { return nil }
    }
    var offsets = [UInt16](repeating: 0, count: 16)
    for length in 1..<15 { offsets[length + 1] = offsets[length] + counts[length] }
    symbols = Array(repeating: 0, count: lengths.count)
    // The codes of a length follow each other, and those of the next come behind them.
    var codes = [UInt32](repeating: 0, count: 16)
    var code: UInt32 = 0
    for length in 1...15 {
      codes[length] = code
      code = (code + UInt32(counts[length])) << 1
    }
    for (symbol, length) in lengths.enumerated() where length != 0 {
      symbols[Int(offsets[Int(length)])] = UInt16(symbol)
      offsets[Int(length)] += 1
      fill(UInt16(symbol), codes[Int(length)], UInt32(length))
      codes[Int(length)] += 1
    }
  }

  /// Bits come lowest first, and a code's highest bit comes first.
  private mutating func fill(_ symbol: UInt16, _ code: UInt32, _ length: UInt32) {
    guard length <= Self.tableBits else { return }
    var reversed: UInt32 = 0
    for bit in 0..<length { reversed |= (code >> bit & 1) << (length - 1 - bit) }
    for high in 0..<(UInt32(1) << (Self.tableBits - length)) { table[Int(high << length | reversed)] = symbol << 4 | UInt16(length) }
  }

  /// The symbol that bits begin with, and how many it takes; nil for none.
  @inline(__always) func symbol(_ bits: UInt32) -> (symbol: UInt16, length: UInt32)? {
    let entry = table[Int(bits & 511)]
    if entry != 0 { return (entry >> 4, UInt32(entry & 15)) }
    return slowSymbol(bits)
  }

  private func slowSymbol(_ bits: UInt32) -> (symbol: UInt16, length: UInt32)? {
    var (code, first, index): (Int32, Int32, Int32) = (0, 0, 0)
    for length in 1...UInt32(15) {
      code |= Int32(bits >> (length - 1) & 1)
      let count = Int32(counts[Int(length)])
      if code - count < first { return (symbols[Int(index + code - first)], length) }
      index += count
      first = (first + count) << 1
      code <<= 1
    }
    return nil
  }
}

/// Unpacks DEFLATE. SPEC: RFC 1951.
struct Inflate {
  private var position: Int
  private var hold: UInt32 = 0
  private var held: UInt32 = 0
  private var window = Window(size: 32768)
  private static var lengthBases: [UInt16] {
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258]
  }
  private static var lengthBits: [UInt8] { [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0] }
  private static var distanceBases: [UInt16] {
    [
      1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385,
      24577,
    ]
  }
  private static var distanceBits: [UInt8] {
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13]
  }
  private static var lengthOrder: [Int] { [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15] }

  private init(from start: Int) { position = start }

  /// Unpacks what begins at `start`; where it ends.
  static func unpack(_ input: borrowing Span<UInt8>, from start: Int, _ emit: UnpackedBytes) throws(DecompressionError) -> Int {
    var inflate = Inflate(from: start)
    try inflate.run(input, emit)
    inflate.window.flush(emit)
    return inflate.position - Int(inflate.held / 8)
  }

  private mutating func run(_ input: borrowing Span<UInt8>, _ emit: UnpackedBytes) throws(DecompressionError) {
    while true {
      let isLast = try take(1, input) == 1
      switch try take(2, input) {
      case 0: try stored(input, emit)
      case 1: try coded(input, Self.fixedLiterals, Self.fixedDistances, emit)
      case 2:
        let (literals, distances) = try codes(input)
        try coded(input, literals, distances, emit)
      default: throw .corrupt
      }
      if isLast { return }
    }
  }

  private mutating func fill(_ input: borrowing Span<UInt8>) {
    while held <= 24, position < input.count {
      hold |= UInt32(input[position]) << held
      held += 8
      position += 1
    }
  }

  private mutating func drop(_ count: UInt32) throws(DecompressionError) {
    guard held >= count else { throw .truncated }
    hold >>= count
    held -= count
  }

  private mutating func take(_ count: UInt32, _ input: borrowing Span<UInt8>) throws(DecompressionError) -> UInt32 {
    if count == 0 { return 0 }
    fill(input)
    let bits = hold & (1 << count - 1)
    try drop(count)
    return bits
  }

  private mutating func stored(_ input: borrowing Span<UInt8>, _ emit: UnpackedBytes) throws(DecompressionError) {
    // From the next whole byte on.
    position -= Int(held / 8)
    (hold, held) = (0, 0)
    guard let count = input.u16(position), let complement = input.u16(position + 2) else { throw .truncated }
    guard count == ~complement else { throw .corrupt }
    position += 4
    guard input.count - position >= Int(count) else { throw .truncated }
    for offset in 0..<Int(count) { window.put(input[position + offset], emit) }
    position += Int(count)
  }

  private static var fixedLiterals: PrefixCode? {
    let lengths = (0..<288).map { UInt8($0 < 144 ? 8 : $0 < 256 ? 9 : $0 < 280 ? 7 : 8) }
    return PrefixCode(lengths[...])
  }
  private static var fixedDistances: PrefixCode? { PrefixCode([UInt8](repeating: 5, count: 30)[...]) }

  /// The codes of a block, themselves packed with a code.
  private mutating func codes(_ input: borrowing Span<UInt8>) throws(DecompressionError) -> (PrefixCode?, PrefixCode?) {
    let literalCount = Int(try take(5, input)) + 257
    let distanceCount = Int(try take(5, input)) + 1
    let lengthCount = Int(try take(4, input)) + 4
    guard literalCount <= 286, distanceCount <= 30 else { throw .corrupt }
    var small = [UInt8](repeating: 0, count: 19)
    let order = Self.lengthOrder
    for index in 0..<lengthCount { small[order[index]] = UInt8(truncatingIfNeeded: try take(3, input)) }
    guard let code = PrefixCode(small[...]) else { throw .corrupt }
    var lengths: [UInt8] = []
    while lengths.count < literalCount + distanceCount {
      let symbol = try next(code, input)
      if symbol < 16 {
        lengths.append(UInt8(truncatingIfNeeded: symbol))
        continue
      }
      var value: UInt8 = 0
      let count: UInt32
      switch symbol {
      case 16:
        guard let last = lengths.last else { throw .corrupt }
        value = last
        count = 3 + (try take(2, input))
      case 17: count = 3 + (try take(3, input))
      default: count = 11 + (try take(7, input))
      }
      guard lengths.count + Int(count) <= literalCount + distanceCount else { throw .corrupt }
      for _ in 0..<count { lengths.append(value) }
    }
    // Without an end no block ends.
    guard lengths[256] != 0 else { throw .corrupt }
    return (PrefixCode(lengths[..<literalCount]), PrefixCode(lengths[literalCount...]))
  }

  @inline(__always) private mutating func next(_ code: PrefixCode, _ input: borrowing Span<UInt8>) throws(DecompressionError) -> UInt16 {
    fill(input)
    guard let (symbol, length) = code.symbol(hold) else { throw held < 15 ? .truncated : .corrupt }
    try drop(length)
    return symbol
  }

  private mutating func coded(
    _ input: borrowing Span<UInt8>, _ literals: PrefixCode?, _ distances: PrefixCode?, _ emit: UnpackedBytes
  ) throws(DecompressionError) {
    guard let literals, let distances else { throw .corrupt }
    let (lengthBases, lengthBits) = (Self.lengthBases, Self.lengthBits)
    let (distanceBases, distanceBits) = (Self.distanceBases, Self.distanceBits)
    while true {
      let symbol = try next(literals, input)
      if symbol < 256 {
        window.put(UInt8(truncatingIfNeeded: symbol), emit)
        continue
      }
      if symbol == 256 { return }
      let index = Int(symbol) - 257
      guard index < lengthBases.count else { throw .corrupt }
      let length = Int(lengthBases[index]) + Int(try take(UInt32(lengthBits[index]), input))
      let place = Int(try next(distances, input))
      guard place < distanceBases.count else { throw .corrupt }
      let distance = Int(distanceBases[place]) + Int(try take(UInt32(distanceBits[place]), input))
      guard UInt64(distance) <= window.total else { throw .corrupt }
      window.copy(length, from: distance, emit)
    }
  }
}
