/// `$((…))`: integers with C's operators. SPEC: POSIX.1-2024 Shell Command Language §2.6.4.
public struct Arithmetic {
  public enum Failure: Error, Equatable {
    case syntax
    case divisionByZero
  }
  private let text: [UInt8]
  private var at = 0
  private let lookup: ([UInt8]) -> Int64

  private init(_ text: [UInt8], _ lookup: @escaping ([UInt8]) -> Int64) {
    self.text = text
    self.lookup = lookup
  }

  /// The value of an expression; `lookup` gives variables' values.
  public static func evaluate(_ text: [UInt8], _ lookup: @escaping ([UInt8]) -> Int64) throws(Failure) -> Int64 {
    var parser = Arithmetic(text, lookup)
    let value = try parser.binary(0)
    parser.skip()
    if parser.at < text.count { throw .syntax }
    return value
  }

  private mutating func skip() { while at < text.count, text[at] == 32 || text[at] == 9 || text[at] == 10 { at += 1 } }

  private static let operators: [(text: StaticString, level: Int)] = [
    ("||", 1), ("&&", 2), ("==", 6), ("!=", 6), ("<=", 7), (">=", 7), ("<<", 8), (">>", 8), ("|", 3), ("^", 4), ("&", 5),
    ("<", 7), (">", 7), ("+", 9), ("-", 9), ("*", 10), ("/", 10), ("%", 10),
  ]

  private mutating func binary(_ minimum: Int) throws(Failure) -> Int64 {
    var left = try unary()
    while true {
      skip()
      guard let index = Self.operators.firstIndex(where: { text[at...].starts(with: Array($0.text.description.utf8)) }) else { break }
      let level = Self.operators[index].level
      if level <= minimum { break }
      at += Self.operators[index].text.utf8CodeUnitCount
      let right = try binary(level)
      left = try Self.apply(index, left, right)
    }
    return left
  }

  private static func apply(_ index: Int, _ a: Int64, _ b: Int64) throws(Failure) -> Int64 {
    switch index {
    case 0: return a != 0 || b != 0 ? 1 : 0
    case 1: return a != 0 && b != 0 ? 1 : 0
    case 2: return a == b ? 1 : 0
    case 3: return a != b ? 1 : 0
    case 4: return a <= b ? 1 : 0
    case 5: return a >= b ? 1 : 0
    case 6: return a << (b & 63)
    case 7: return a >> (b & 63)
    case 8: return a | b
    case 9: return a ^ b
    case 10: return a & b
    case 11: return a < b ? 1 : 0
    case 12: return a > b ? 1 : 0
    case 13: return a &+ b
    case 14: return a &- b
    case 15: return a &* b
    default:
      if b == 0 { throw .divisionByZero }
      if b == -1 { return index == 16 ? 0 &- a : 0 }
      return index == 16 ? a / b : a % b
    }
  }

  private mutating func unary() throws(Failure) -> Int64 {
    skip()
    guard at < text.count else { throw .syntax }
    let byte = text[at]
    switch byte {
    case 45:
      at += 1
      return 0 &- (try unary())
    case 43:
      at += 1
      return try unary()
    case 33:
      at += 1
      return try unary() == 0 ? 1 : 0
    case 126:
      at += 1
      return ~(try unary())
    case 40:
      at += 1
      let value = try binary(0)
      skip()
      guard at < text.count, text[at] == 41 else { throw .syntax }
      at += 1
      return value
    case 48...57: return number()
    default: return try variable()
    }
  }

  private mutating func number() -> Int64 {
    var value: Int64 = 0
    var radix: Int64 = 10
    if text[at] == 48, at + 1 < text.count {
      if text[at + 1] | 32 == 120 {
        radix = 16
        at += 2
      } else {
        radix = 8
      }
    }
    while at < text.count {
      let byte = text[at]
      let digit: Int64
      if byte >= 48, byte <= 57 {
        digit = Int64(byte - 48)
      } else if radix == 16, byte | 32 >= 97, byte | 32 <= 102 {
        digit = Int64(byte | 32) - 87
      } else {
        break
      }
      value = value &* radix &+ digit
      at += 1
    }
    return value
  }

  private mutating func variable() throws(Failure) -> Int64 {
    let start = at
    while at < text.count, text[at] == 95 || text[at] | 32 >= 97 && text[at] | 32 <= 122 || text[at] >= 48 && text[at] <= 57 {
      at += 1
    }
    if at == start { throw .syntax }
    return lookup(Array(text[start..<at]))
  }
}
