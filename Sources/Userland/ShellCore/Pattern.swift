/// Shell patterns: `*`, `?`, `[…]`. SPEC: POSIX.1-2024 Shell Command Language §2.14.
public struct Pattern {
  /// One element; literal bytes from quotes match themselves.
  enum Element: Equatable {
    case byte(UInt8)
    case any
    case run
    case set([ClosedRange<UInt8>], negated: Bool)
  }
  private var elements: [Element] = []
  /// Whether anything but literal bytes is in it.
  public private(set) var hasMagic = false

  public init() {}

  public mutating func append(literal bytes: [UInt8]) { elements += bytes.map { .byte($0) } }

  /// Adds unquoted text, in which pattern characters are special.
  public mutating func append(pattern bytes: [UInt8]) {
    var at = 0
    while at < bytes.count {
      switch bytes[at] {
      case 42:
        if elements.last != .run { elements.append(.run) }
        hasMagic = true
      case 63:
        elements.append(.any)
        hasMagic = true
      case 91:
        if let (set, end) = Self.parseSet(bytes, at + 1) {
          elements.append(set)
          hasMagic = true
          at = end
          continue
        }
        elements.append(.byte(91))
      default: elements.append(.byte(bytes[at]))
      }
      at += 1
    }
  }

  private static func parseSet(_ bytes: [UInt8], _ start: Int) -> (Element, Int)? {
    var at = start
    var negated = false
    if at < bytes.count, bytes[at] == 33 || bytes[at] == 94 {
      negated = true
      at += 1
    }
    var ranges: [ClosedRange<UInt8>] = []
    let first = at
    while at < bytes.count, bytes[at] != 93 || at == first {
      if at + 2 < bytes.count, bytes[at + 1] == 45, bytes[at + 2] != 93, bytes[at] <= bytes[at + 2] {
        ranges.append(bytes[at]...bytes[at + 2])
        at += 3
      } else {
        ranges.append(bytes[at]...bytes[at])
        at += 1
      }
    }
    guard at < bytes.count else { return nil }
    return (.set(ranges, negated: negated), at + 1)
  }

  /// Whether the whole of `text` matches. Linear back-tracking: only the last `*` is ever retried.
  public func matches(_ text: [UInt8]) -> Bool {
    var element = 0
    var position = 0
    var star: (element: Int, position: Int)?
    while position < text.count {
      if element < elements.count {
        if elements[element] == .run {
          star = (element, position)
          element += 1
          continue
        }
        if Self.match(elements[element], text[position]) {
          element += 1
          position += 1
          continue
        }
      }
      guard let back = star else { return false }
      star = (back.element, back.position + 1)
      element = back.element + 1
      position = back.position + 1
    }
    while element < elements.count, elements[element] == .run { element += 1 }
    return element == elements.count
  }

  private static func match(_ element: Element, _ byte: UInt8) -> Bool {
    switch element {
    case .byte(let wanted): wanted == byte
    case .any, .run: true
    case .set(let ranges, let negated): ranges.contains { $0.contains(byte) } != negated
    }
  }

  /// Whether a leading dot is matched explicitly.
  public var matchesLeadingDot: Bool { elements.first == .byte(46) }
}
