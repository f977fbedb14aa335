/// A set of codes, with the bytes that programs get it as: words of 32 bits, the lowest code first.
public struct CodeSet: Equatable, Sendable {
  private var words: [UInt32]
  public let count: Int

  /// Room for codes below `count`.
  public init(_ count: Int, _ codes: UInt16...) {
    self.count = count
    words = Array(repeating: 0, count: (count + 31) / 32)
    for code in codes { self[code] = true }
  }

  /// Codes that are too large are not in it, and cannot be.
  public subscript(_ code: UInt16) -> Bool {
    get { Int(code) < count && words[Int(code) / 32] >> UInt32(code % 32) & 1 != 0 }
    set {
      guard Int(code) < count else { return }
      let bit = UInt32(1) << UInt32(code % 32)
      if newValue { words[Int(code) / 32] |= bit } else { words[Int(code) / 32] &= ~bit }
    }
  }

  public var bytes: [UInt8] {
    var result: [UInt8] = []
    for word in words { for shift in 0..<4 { result.append(UInt8(truncatingIfNeeded: word >> UInt32(shift * 8))) } }
    return result
  }

  /// Takes what programs give: missing bytes are 0, and those too many nobody's.
  public mutating func set(_ bytes: [UInt8]) {
    for code in 0..<count {
      self[UInt16(code)] = code / 8 < bytes.count && bytes[code / 8] >> UInt8(code % 8) & 1 != 0
    }
  }
}

/// What a device can tell of, and how it is now. SPEC: Linux Documentation/input/input-programming.rst.
public struct InputState: Sendable {
  /// By type; nil for a type that it has nothing of.
  private var abilities: [CodeSet?]
  /// Keys that are down, and lights that are on.
  public private(set) var keys = CodeSet(EventType.key.codes)
  public private(set) var lights = CodeSet(EventType.light.codes)
  /// Milliseconds until a key repeats, and from then on; nil for who does not.
  public private(set) var repetition: (delay: Int32, period: Int32)?

  public init(repetition: (delay: Int32, period: Int32)? = nil) {
    abilities = Array(repeating: nil, count: EventType.synchronisation.codes)
    self.repetition = repetition
  }

  public mutating func add(_ type: EventType, _ code: UInt16) {
    let index = Int(type.rawValue)
    if abilities[index] == nil { abilities[index] = CodeSet(type.codes) }
    abilities[index]?[code] = true
  }

  public func has(_ type: EventType, _ code: UInt16) -> Bool { abilities[Int(type.rawValue)]?[code] ?? false }

  /// The codes of a type; of the first type, the types there are. Nil where no type is meant.
  public func codes(_ type: EventType) -> CodeSet? {
    if type == .synchronisation {
      var types = CodeSet(type.codes, 0)
      for index in abilities.indices where abilities[index] != nil { types[UInt16(index)] = true }
      if repetition != nil { types[EventType.repetition.rawValue] = true }
      return types
    }
    if type.codes == 0 { return nil }
    return abilities[Int(type.rawValue)] ?? CodeSet(type.codes)
  }

  /// Takes an event; whether it says anything new.
  public mutating func take(_ event: InputEvent) -> Bool {
    switch event.type {
    case .synchronisation: return event.code == 0
    case .repetition:
      guard let old = repetition, event.value >= 0, event.code < 2 else { return false }
      if event.code == 0 { repetition?.delay = event.value } else { repetition?.period = event.value }
      return event.value != (event.code == 0 ? old.delay : old.period)
    case .key:
      guard has(.key, event.code) else { return false }
      if event.value == 2 { return true }
      if keys[event.code] == (event.value != 0) { return false }
      keys[event.code].toggle()
    case .light:
      guard has(.light, event.code), lights[event.code] != (event.value != 0) else { return false }
      lights[event.code].toggle()
    case .relative: return has(.relative, event.code) && event.value != 0
    default: return event.type.codes > 0 && has(event.type, event.code)
    }
    return true
  }
}

/// Which events a reader wants. SPEC: Linux uapi/linux/input.h, EVIOCSMASK.
public struct EventMask: Sendable {
  /// By type: nil for everything. The first one's codes are types.
  private var masks: [CodeSet?]

  public init() { masks = Array(repeating: nil, count: EventType.synchronisation.codes) }

  /// The mask of a type, which must have codes.
  public subscript(_ type: EventType) -> CodeSet? {
    get { masks[Int(type.rawValue)] }
    set { masks[Int(type.rawValue)] = newValue }
  }

  public func allows(_ event: InputEvent) -> Bool {
    if event.type == .synchronisation { return true }
    if let types = masks[0], !types[event.type.rawValue] { return false }
    guard let codes = masks[Int(event.type.rawValue)] else { return true }
    return codes[event.code]
  }
}
