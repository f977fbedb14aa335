import Primitives

/// UTF-8, which programs use, and UTF-16, which directories hold.
public enum FATText {
  /// Nil for what is no UTF-8.
  public static func utf16(_ bytes: [UInt8]) -> [UInt16]? {
    var result: [UInt16] = []
    result.reserveCapacity(bytes.count)
    var index = 0
    while index < bytes.count {
      let first = bytes[index]
      index += 1
      if first < 0x80 {
        result.append(UInt16(first))
        continue
      }
      let (length, smallest): (Int, UInt32) =
        switch first {
        case 0xC2...0xDF: (1, 0x80)
        case 0xE0...0xEF: (2, 0x800)
        case 0xF0...0xF4: (3, 0x1_0000)
        default: (0, 0)
        }
      guard length > 0, index + length <= bytes.count else { return nil }
      var scalar = UInt32(first) & (0x3F >> UInt32(length))
      for _ in 0..<length {
        guard bytes[index] & 0xC0 == 0x80 else { return nil }
        scalar = scalar << 6 | UInt32(bytes[index] & 0x3F)
        index += 1
      }
      guard scalar >= smallest, scalar <= 0x10_FFFF, !(0xD800...0xDFFF).contains(scalar) else { return nil }
      if scalar < 0x1_0000 {
        result.append(UInt16(scalar))
      } else {
        result.append(UInt16(0xD800 + (scalar - 0x1_0000) >> 10))
        result.append(UInt16(0xDC00 + (scalar - 0x1_0000) & 0x3FF))
      }
    }
    return result
  }

  /// Half a surrogate pair becomes U+FFFD.
  public static func utf8(_ units: [UInt16]) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(units.count)
    var index = 0
    while index < units.count {
      var scalar = UInt32(units[index])
      index += 1
      if (0xD800...0xDFFF).contains(scalar) {
        if scalar < 0xDC00, index < units.count, (0xDC00...0xDFFF).contains(units[index]) {
          scalar = 0x1_0000 + (scalar - 0xD800) << 10 + UInt32(units[index] - 0xDC00)
          index += 1
        } else {
          scalar = 0xFFFD
        }
      }
      let length: UInt32 = scalar < 0x80 ? 0 : scalar < 0x800 ? 1 : scalar < 0x1_0000 ? 2 : 3
      if length == 0 {
        result.append(UInt8(scalar))
        continue
      }
      let lead: UInt32 = length == 1 ? 0xC0 : length == 2 ? 0xE0 : 0xF0
      result.append(UInt8(lead | scalar >> (6 * length)))
      for part in (0..<length).reversed() { result.append(UInt8(0x80 | scalar >> (6 * part) & 0x3F)) }
    }
    return result
  }

  /// Names that differ only by this are one name: small letters of Latin, Greek and Cyrillic.
  public static func folded(_ unit: UInt16) -> UInt16 {
    switch unit {
    case 0x61...0x7A: unit - 32
    case 0..<0xE0: unit
    case 0xE0...0xFE: unit == 0xF7 ? unit : unit - 32
    case 0xFF: 0x178
    case 0x100...0x137, 0x14A...0x177: unit & ~1
    case 0x139...0x148, 0x179...0x17E: unit & 1 == 0 ? unit - 1 : unit
    case 0x3AC: 0x386
    case 0x3AD...0x3AF: unit - 37
    case 0x3B1...0x3C1, 0x3C3...0x3CB: unit - 32
    case 0x3CC: 0x38C
    case 0x3CD, 0x3CE: unit - 63
    case 0x430...0x44F: unit - 32
    case 0x450...0x45F: unit - 80
    default: unit
    }
  }

  /// A short name's byte: code page 437, with ASCII as it is.
  static func unit(ofCodePage byte: UInt8) -> UInt16 { byte < 0x80 ? UInt16(byte) : UInt16(CodePage437.character(byte)) }
}

extension FATRecord {
  /// The short name as it is shown.
  public var shownName: [UInt16] {
    var result: [UInt16] = []
    func add(_ range: Range<Int>, small: Bool) {
      var end = range.upperBound
      while end > range.lowerBound, name[end - 1] == 0x20 { end -= 1 }
      for index in range.lowerBound..<end {
        // The mark of a deleted record stands for itself under another number.
        let byte = index == 0 && name[0] == 5 ? Self.deleted : name[index]
        let unit = FATText.unit(ofCodePage: byte)
        result.append(small && (0x41...0x5A).contains(unit) ? unit + 32 : unit)
      }
    }
    add(0..<8, small: smallLetters & 8 != 0)
    let length = result.count
    result.append(0x2E)
    add(8..<11, small: smallLetters & 16 != 0)
    if result.count == length + 1 { result.removeLast() }
    return result
  }
}

/// A name on its way into a directory.
public struct FATName: Sendable {
  /// As it was given, without dots at its end.
  public let units: [UInt16]
  /// What it is compared by.
  public let folded: [UInt16]

  /// Nil for what cannot be a name on FAT: no UTF-8, too long, control characters, `"*/:<>?\|`, nothing but dots.
  public init?(_ bytes: [UInt8]) {
    guard var units = FATText.utf16(bytes) else { return nil }
    while units.last == 0x2E { units.removeLast() }
    guard units.count <= 255, Self.isPossible(units) else { return nil }
    self.units = units
    folded = units.map { FATText.folded($0) }
  }

  /// Whether no path and no other system takes offence.
  public static func isPossible(_ units: [UInt16]) -> Bool {
    var isNameless = true
    for unit in units {
      switch unit {
      case 0..<0x20, 0x22, 0x2A, 0x2F, 0x3A, 0x3C, 0x3E, 0x3F, 0x5C, 0x7C: return false
      case 0x2E: break
      default: isNameless = false
      }
    }
    return !isNameless
  }

  public func matches(_ other: [UInt16]) -> Bool {
    guard other.count == folded.count else { return false }
    for index in folded.indices where FATText.folded(other[index]) != folded[index] { return false }
    return true
  }

  /// Records it takes: one, and one for each 13 characters of a long name.
  public func slots(isLong: Bool) -> UInt32 { isLong ? 1 + UInt32(units.count + 12) / 13 : 1 }

  /// The short name that says all of it: capital letters, eight and three. Nil when there is none.
  public var exactShortName: FATShortName? {
    let parts = split
    let base = units[..<parts.baseEnd]
    let suffix = units[parts.suffixStart...]
    guard !base.isEmpty, base.count <= 8, suffix.count <= 3, parts.baseEnd == units.count || !suffix.isEmpty else { return nil }
    for unit in base { guard Self.shortCharacter(unit) == UInt8(truncatingIfNeeded: unit), unit < 0x80 else { return nil } }
    for unit in suffix { guard Self.shortCharacter(unit) == UInt8(truncatingIfNeeded: unit), unit < 0x80 else { return nil } }
    return Self.pack(base.map { UInt8($0) }, suffix.map { UInt8($0) })
  }

  /// Up to the last dot, and behind it. A dot in front begins no suffix.
  private var split: (baseEnd: Int, suffixStart: Int) {
    guard let dot = units.lastIndex(of: 0x2E), units[..<dot].contains(where: { $0 != 0x2E }) else { return (units.count, units.count) }
    return (dot, dot + 1)
  }

  /// What stands in a short name for a character: itself, its capital letter, or `_`; nil for what is left out.
  private static func shortCharacter(_ unit: UInt16) -> UInt8? {
    switch unit {
    case 0x20, 0x2E: nil
    case 0x61...0x7A: UInt8(unit - 32)
    case 0x2B, 0x2C, 0x3B, 0x3D, 0x5B, 0x5D: 0x5F
    case 0x21...0x7E: UInt8(unit)
    default: 0x5F
    }
  }

  private static func pack(_ base: [UInt8], _ suffix: [UInt8]) -> FATShortName {
    var name = FATShortName(base: 0x2020_2020_2020_2020, suffix: 0x20_2020)
    for (index, byte) in base.prefix(8).enumerated() {
      name.base = name.base & ~(0xFF << UInt64(8 * index)) | UInt64(byte) << UInt64(8 * index)
    }
    for (index, byte) in suffix.prefix(3).enumerated() {
      name.suffix = name.suffix & ~(0xFF << UInt32(8 * index)) | UInt32(byte) << UInt32(8 * index)
    }
    return name
  }

  /// Short names that a long one may have beside it, the best first. Each round has others.
  public func aliases(round: UInt32) -> [FATShortName] {
    let parts = split
    let base = units[..<parts.baseEnd].compactMap { Self.shortCharacter($0) }
    let suffix = units[parts.suffixStart...].compactMap { Self.shortCharacter($0) }
    var result: [FATShortName] = []
    // Only small letters are lost.
    let isWhole =
      base.count <= 8 && suffix.count <= 3 && base.count == parts.baseEnd && suffix.count == units.count - parts.suffixStart
      && units.allSatisfy { $0 < 0x80 && (Self.shortCharacter($0) ?? 0x2E) != 0x5F || $0 == 0x5F }
    if round == 0, isWhole, !base.isEmpty { result.append(Self.pack(base, suffix)) }
    let stem = base.isEmpty ? [0x5F] : base
    func add(_ stem: [UInt8], _ number: UInt8) { result.append(Self.pack(stem + [0x7E, 0x30 + number], suffix)) }
    if round == 0 { for number: UInt8 in 1...4 { add(Array(stem.prefix(6)), number) } }
    // Many names that begin alike: four digits of what tells them apart.
    var hash: UInt32 = 2_166_136_261 &+ round
    for unit in units { hash = (hash ^ UInt32(unit)) &* 16_777_619 }
    hash ^= hash >> 16
    var digits: [UInt8] = []
    for place: UInt32 in 0..<4 {
      let digit = UInt8(hash >> (4 * place) & 15)
      digits.append(digit < 10 ? 48 + digit : 55 + digit)
    }
    for number: UInt8 in 1...9 { add(Array(stem.prefix(2)) + digits, number) }
    return result
  }

  /// Writes one of the name's own records, 0 being the one next to the short name. SPEC: FAT specification 1.03, "Long Directory Entries".
  public func encodePart(_ part: UInt32, checksum: UInt8, into bytes: inout MutableSpan<UInt8>, at offset: Int) {
    let isLast = part + 2 == slots(isLong: true)
    bytes[offset] = UInt8(part + 1) | (isLast ? 0x40 : 0)
    bytes[offset + 11] = FATRecord.longName
    bytes[offset + 12] = 0
    bytes[offset + 13] = checksum
    bytes.put16(0, at: offset + 26)
    for index in 0..<13 {
      let at = Int(part) * 13 + index
      let unit: UInt16 = at < units.count ? units[at] : at == units.count ? 0 : 0xFFFF
      bytes.put16(unit, at: offset + Self.unitOffset(index))
    }
  }

  static func unitOffset(_ index: Int) -> Int { index < 5 ? 1 + 2 * index : index < 11 ? 4 + 2 * index : 6 + 2 * index }
}

/// Looks at a directory's records one after the other.
public struct FATDirectoryScanner: Sendable {
  public struct Entry: Sendable {
    /// Its records: those of the long name, then the short one.
    public let slots: Range<UInt32>
    public let record: FATRecord
    /// Its name as it is shown.
    public let name: [UInt16]
    public func matches(_ wanted: FATName) -> Bool { wanted.matches(name) || wanted.matches(record.shownName) }
  }
  public enum Outcome: Sendable {
    case entry(Entry)
    /// A label or a part of a name.
    case none
    /// There is room for a record.
    case free
    /// Nothing behind this one is in use.
    case end
  }

  private var slot: UInt32
  private var units: [UInt16] = []
  private var first: UInt32 = 0
  private var expected: UInt8 = 0
  private var checksum: UInt8 = 0
  private var isOpen = false

  public init(from slot: UInt32 = 0) { self.slot = slot }

  /// The next record.
  public mutating func next(_ bytes: borrowing Span<UInt8>, at offset: Int) -> Outcome {
    defer { slot &+= 1 }
    guard offset >= 0, offset + FATRecord.size <= bytes.count else { return .end }
    if bytes[offset] == FATRecord.end || bytes[offset] == FATRecord.deleted {
      isOpen = false
      return bytes[offset] == FATRecord.end ? .end : .free
    }
    let attributes = bytes[offset + 11]
    if attributes & 0x3F == FATRecord.longName {
      take(bytes, offset)
      return .none
    }
    defer { isOpen = false }
    if attributes & FATRecord.volumeLabel != 0 { return .none }
    let record = FATRecord(bytes, at: offset)
    if isOpen, expected == 0, checksum == record.name.checksum {
      if let end = units.firstIndex(of: 0) { units.removeSubrange(end...) }
      // What no path can hold gets its short name.
      if FATName.isPossible(units) { return .entry(Entry(slots: first..<(slot + 1), record: record, name: units)) }
    }
    return .entry(Entry(slots: slot..<(slot + 1), record: record, name: record.shownName))
  }

  private mutating func take(_ bytes: borrowing Span<UInt8>, _ offset: Int) {
    let order = bytes[offset]
    let number = order & 0x1F
    if order & 0x40 != 0 {
      guard (1...20).contains(number) else {
        isOpen = false
        return
      }
      isOpen = true
      first = slot
      checksum = bytes[offset + 13]
      units = Array(repeating: 0, count: Int(number) * 13)
    } else if !isOpen || number != expected || number == 0 || bytes[offset + 13] != checksum {
      isOpen = false
      return
    }
    expected = number - 1
    for index in 0..<13 { units[Int(expected) * 13 + index] = bytes.u16(offset + FATName.unitOffset(index)) ?? 0 }
  }
}
