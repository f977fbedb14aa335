/// Tells text, control characters and sequences in a terminal's output apart.
///
/// SPEC: ECMA-48 §5.4, §8.2; DEC STD 070; P. Williams, "A parser for DEC's ANSI-compatible video terminals"; console_codes(4) for
/// what only Linux has.
public struct EscapeParser: Sendable {
  /// What a byte has completed.
  public enum Action: Equatable, Sendable {
    case none
    /// A character of text: a Unicode scalar, or a byte where UTF-8 is off.
    case character(UInt32)
    case control(UInt8)
    /// ESC, perhaps with an intermediate byte (`intermediate`).
    case escape(UInt8)
    /// CSI, with `parameters`, `marker` and `intermediate`.
    case sequence(UInt8)
    /// Linux's own ESC ] P: a colour of the palette, 0xNRRGGBB.
    case palette(UInt32)
    case resetPalette
  }

  private enum State: UInt8 {
    case text, escape, escapeIntermediate, parameters, intermediates, ignored, functionKey, command, palette, string, stringEnd
  }
  private var state = State.text

  // MARK: What a sequence has brought

  public static let mostParameters = 16
  private var values: InlineArray<16, UInt32> = .init(repeating: 0)
  /// Of those that were given, which come behind a colon: details of the one before.
  private var details: UInt16 = 0
  public private(set) var parameterCount = 0
  /// `?`, `>`, `=`, `<` in front of the parameters, or 0.
  public private(set) var marker: UInt8 = 0
  public private(set) var intermediate: UInt8 = 0

  /// Whether bytes from 0x80 on are UTF-8; else they are characters.
  public var isUTF8 = true
  private var scalar: UInt32 = 0
  private var missing = 0
  /// The smallest scalar that needs as many bytes as the one that is coming has.
  private var smallest: UInt32 = 0
  private var digits = 0

  public init() {}

  /// A parameter, 0 where it was left out; never more than 65535.
  public func parameter(_ index: Int) -> UInt32 { index < parameterCount ? values[index] : 0 }
  /// A parameter that counts something, 1 where it was left out.
  public func count(_ index: Int) -> Int { max(1, Int(parameter(index))) }
  public func isDetail(_ index: Int) -> Bool { index < parameterCount && details >> UInt16(index) & 1 != 0 }

  /// Whether text that comes now is just text: a screen can take bytes from 0x20 to 0x7E without asking.
  public var isInText: Bool { state == .text && missing == 0 }

  // MARK: Taking bytes

  public mutating func take(_ byte: UInt8) -> Action {
    if state == .text { return takeText(byte) }
    switch byte {
    case 0x18, 0x1A:
      state = .text
      return .none
    case 0x1B:
      state = state == .string || state == .command ? .stringEnd : .escape
      intermediate = 0
      return .none
    case 0..<0x20:
      if state == .string || state == .command || state == .palette || state == .stringEnd {
        if byte == 7 { state = .text }
        return .none
      }
      return .control(byte)
    case 0x7F: return .none
    default: break
    }
    switch state {
    case .text: return .none
    case .stringEnd:
      // ESC \ ends a string; any other sequence does, too, and is one of its own.
      state = .escape
      if byte == 0x5C {
        state = .text
        return .none
      }
      return takeEscape(byte)
    case .escape, .escapeIntermediate: return takeEscape(byte)
    case .parameters, .intermediates, .ignored: return takeSequence(byte)
    case .functionKey:
      state = .text
      return .none
    case .command: return takeCommand(byte)
    case .palette: return takePalette(byte)
    case .string: return .none
    }
  }

  private mutating func takeText(_ byte: UInt8) -> Action {
    if missing > 0 {
      if byte & 0xC0 == 0x80 { return takeContinuation(byte) }
      // Not as many bytes as were promised. The character is lost; the byte is not.
      missing = 0
      pending = byte
      return .character(Self.replacement)
    }
    switch byte {
    case 0x1B:
      state = .escape
      intermediate = 0
      return .none
    case 0..<0x20: return .control(byte)
    case 0x20..<0x7F: return .character(UInt32(byte))
    case 0x7F: return .none
    default: return isUTF8 ? takeLead(byte) : .character(UInt32(byte))
    }
  }

  public static let replacement: UInt32 = 0xFFFD
  /// A byte that ended an incomplete character, and is to be taken again.
  private var pending: UInt8?
  public mutating func takePending() -> UInt8? {
    let byte = pending
    pending = nil
    return byte
  }

  private mutating func takeLead(_ byte: UInt8) -> Action {
    switch byte {
    case 0xC2...0xDF: (scalar, missing, smallest) = (UInt32(byte & 0x1F), 1, 0x80)
    case 0xE0...0xEF: (scalar, missing, smallest) = (UInt32(byte & 0x0F), 2, 0x800)
    case 0xF0...0xF4: (scalar, missing, smallest) = (UInt32(byte & 0x07), 3, 0x10000)
    default: return .character(Self.replacement)
    }
    return .none
  }

  private mutating func takeContinuation(_ byte: UInt8) -> Action {
    scalar = scalar << 6 | UInt32(byte & 0x3F)
    missing -= 1
    if missing > 0 { return .none }
    let isScalar = scalar >= smallest && scalar <= 0x10FFFF && scalar & 0x1F_F800 != 0xD800
    return .character(isScalar ? scalar : Self.replacement)
  }

  private mutating func takeEscape(_ byte: UInt8) -> Action {
    if byte < 0x30 {
      // Two of them name nothing that we know; the last one stands for both, and is none.
      intermediate = state == .escapeIntermediate ? 0xFF : byte
      state = .escapeIntermediate
      return .none
    }
    let isPlain = state == .escape
    state = .text
    if byte >= 0x80 { return .none }
    if isPlain {
      switch byte {
      case 0x5B:  // [
        beginSequence()
        return .none
      case 0x5D:  // ]
        state = .command
        digits = 0
        return .none
      case 0x50, 0x58, 0x5E, 0x5F:  // P, X, ^, _
        state = .string
        return .none
      default: break
      }
    }
    return .escape(byte)
  }

  private mutating func beginSequence() {
    state = .parameters
    parameterCount = 0
    details = 0
    marker = 0
    intermediate = 0
    digits = 0
  }

  private mutating func takeSequence(_ byte: UInt8) -> Action {
    switch byte {
    case 0x40...0x7E:
      let isKnown = state != .ignored
      if byte == 0x5B, state == .parameters, parameterCount == 0, marker == 0 {
        state = .functionKey
        return .none
      }
      state = .text
      return isKnown ? .sequence(byte) : .none
    case _ where state == .ignored: break
    case 0x20...0x2F:
      intermediate = state == .intermediates ? 0xFF : byte
      state = .intermediates
    case _ where state == .intermediates: state = .ignored
    case 0x30...0x39:
      if parameterCount == 0 { addParameter() }
      if parameterCount <= Self.mostParameters {
        let value = values[parameterCount - 1] * 10 + UInt32(byte - 0x30)
        values[parameterCount - 1] = min(value, 65535)
      }
    case 0x3A, 0x3B:  // : ;
      if parameterCount == 0 { addParameter() }
      addParameter()
      if byte == 0x3A, parameterCount <= Self.mostParameters { details |= 1 << UInt16(parameterCount - 1) }
    case 0x3C...0x3F:
      if parameterCount == 0, marker == 0 { marker = byte } else { state = .ignored }
    default: state = .ignored
    }
    return .none
  }

  private mutating func addParameter() {
    if parameterCount == Self.mostParameters {
      // What is more than anybody needs is no sequence.
      state = .ignored
      return
    }
    values[parameterCount] = 0
    parameterCount += 1
  }

  /// Behind ESC ]: a number and a text for a window, which we are not; or one of Linux's two.
  private mutating func takeCommand(_ byte: UInt8) -> Action {
    digits += 1
    if digits == 1 {
      switch byte {
      case 0x50:  // P
        state = .palette
        digits = 0
        scalar = 0
        return .none
      case 0x52:  // R
        state = .text
        return .resetPalette
      default: break
      }
    }
    state = .string
    return .none
  }

  private mutating func takePalette(_ byte: UInt8) -> Action {
    let digit: UInt32
    switch byte {
    case 0x30...0x39: digit = UInt32(byte - 0x30)
    case 0x41...0x46: digit = UInt32(byte - 0x41 + 10)
    case 0x61...0x66: digit = UInt32(byte - 0x61 + 10)
    default:
      state = .text
      return .none
    }
    scalar = scalar << 4 | digit
    digits += 1
    if digits < 7 { return .none }
    state = .text
    return .palette(scalar)
  }
}
