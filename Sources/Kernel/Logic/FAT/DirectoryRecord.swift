import Primitives

/// A name of eight characters and three, padded with spaces, as directories hold it.
public struct FATShortName: Equatable, Sendable {
  /// The first character in the lowest byte.
  public var base: UInt64
  public var suffix: UInt32

  public init(base: UInt64, suffix: UInt32) {
    self.base = base
    self.suffix = suffix
  }

  /// From eleven bytes.
  init(_ bytes: borrowing Span<UInt8>, at offset: Int) {
    base = 0
    suffix = 0
    for index in 0..<8 { base |= UInt64(bytes[offset + index]) << UInt64(8 * index) }
    for index in 0..<3 { suffix |= UInt32(bytes[offset + 8 + index]) << UInt32(8 * index) }
  }

  /// The character at 0..<11.
  public subscript(_ index: Int) -> UInt8 {
    index < 8 ? UInt8(truncatingIfNeeded: base >> UInt64(8 * index)) : UInt8(truncatingIfNeeded: suffix >> UInt32(8 * (index - 8)))
  }

  func encode(into bytes: inout MutableSpan<UInt8>, at offset: Int) { for index in 0..<11 { bytes[offset + index] = self[index] } }

  /// What the parts of a long name carry to say whose they are. SPEC: FAT specification 1.03, p. 28.
  public var checksum: UInt8 {
    var sum: UInt8 = 0
    for index in 0..<11 { sum = ((sum & 1) << 7 | sum >> 1) &+ self[index] }
    return sum
  }

  public static let dot = FATShortName(base: 0x2020_2020_2020_202E, suffix: 0x20_2020)
  public static let dotDot = FATShortName(base: 0x2020_2020_2020_2E2E, suffix: 0x20_2020)
}

/// The 32 bytes of a file, a directory or a label. SPEC: FAT specification 1.03, "FAT Directory Structure".
public struct FATRecord: Equatable, Sendable {
  public static let size = 32
  public static let readOnly: UInt8 = 1
  public static let hidden: UInt8 = 2
  public static let system: UInt8 = 4
  public static let volumeLabel: UInt8 = 8
  public static let directory: UInt8 = 16
  public static let archive: UInt8 = 32
  /// A part of a long name has all of these and none of the two above.
  static let longName: UInt8 = 15
  /// The first byte of a record that is none any more, and the one that ends a directory.
  public static let deleted: UInt8 = 0xE5
  static let end: UInt8 = 0

  public var name: FATShortName
  public var attributes: UInt8
  /// Bits 3 and 4: base and suffix are shown in small letters.
  public var smallLetters: UInt8 = 0
  public var creation = FATTime()
  /// Only the day.
  public var access = FATTime()
  public var modification = FATTime()
  public var cluster: UInt32 = 0
  /// 0 for directories.
  public var size: UInt32 = 0

  public init(name: FATShortName, attributes: UInt8) {
    self.name = name
    self.attributes = attributes
  }

  /// - Precondition: 32 bytes are there.
  public init(_ bytes: borrowing Span<UInt8>, at offset: Int) {
    name = FATShortName(bytes, at: offset)
    attributes = bytes[offset + 11]
    smallLetters = bytes[offset + 12]
    creation = FATTime(date: bytes.u16(offset + 16) ?? 0, time: bytes.u16(offset + 14) ?? 0, hundredths: bytes[offset + 13])
    access = FATTime(date: bytes.u16(offset + 18) ?? 0, time: 0)
    modification = FATTime(date: bytes.u16(offset + 24) ?? 0, time: bytes.u16(offset + 22) ?? 0)
    cluster = UInt32(bytes.u16(offset + 20) ?? 0) << 16 | UInt32(bytes.u16(offset + 26) ?? 0)
    size = bytes.u32(offset + 28) ?? 0
  }

  public func encode(into bytes: inout MutableSpan<UInt8>, at offset: Int) {
    name.encode(into: &bytes, at: offset)
    bytes[offset + 11] = attributes
    bytes[offset + 12] = smallLetters
    bytes[offset + 13] = creation.hundredths
    bytes.put16(creation.time, at: offset + 14)
    bytes.put16(creation.date, at: offset + 16)
    bytes.put16(access.date, at: offset + 18)
    bytes.put16(UInt16(truncatingIfNeeded: cluster >> 16), at: offset + 20)
    bytes.put16(modification.time, at: offset + 22)
    bytes.put16(modification.date, at: offset + 24)
    bytes.put16(UInt16(truncatingIfNeeded: cluster), at: offset + 26)
    bytes.put32(size, at: offset + 28)
  }

  public var isDirectory: Bool { attributes & Self.directory != 0 }
}

/// A moment in the directory's form: the day, two-second steps, hundredths beside; from 1980 to 2107, in UTC here.
public struct FATTime: Equatable, Sendable {
  public var date: UInt16 = 0
  public var time: UInt16 = 0
  /// 0...199
  public var hundredths: UInt8 = 0

  public init(date: UInt16 = 0, time: UInt16 = 0, hundredths: UInt8 = 0) {
    self.date = date
    self.time = time
    self.hundredths = hundredths
  }

  private static let firstDay: Int64 = 3652  // 1980-01-01, from 1970-01-01
  private static let lastDay: Int64 = 50402  // 2107-12-31

  /// What there is no room for becomes the first moment or the last one.
  public init(nanoseconds: Int64) {
    let total = nanoseconds >= 0 ? nanoseconds / 10_000_000 : (nanoseconds + 1) / 10_000_000 - 1
    var day = total >= 0 ? total / 8_640_000 : (total + 1) / 8_640_000 - 1
    var rest = Int32(truncatingIfNeeded: total - day * 8_640_000)
    if day < Self.firstDay { (day, rest) = (Self.firstDay, 0) }
    if day > Self.lastDay { (day, rest) = (Self.lastDay, 8_639_999) }
    // Years of 1980 to 2107 are leap years when four divides them, but 2100.
    var left = Int32(truncatingIfNeeded: day - Self.firstDay)
    var year: Int32 = 0
    while left >= Self.days(inYear: year) {
      left -= Self.days(inYear: year)
      year += 1
    }
    var month: Int32 = 1
    while left >= Self.days(inMonth: month, year) {
      left -= Self.days(inMonth: month, year)
      month += 1
    }
    date = UInt16(year << 9 | month << 5 | (left + 1))
    let seconds = rest / 100
    time = UInt16((seconds / 3600) << 11 | (seconds / 60 % 60) << 5 | seconds % 60 / 2)
    hundredths = UInt8(rest % 200)
  }

  /// Since 1970. Days and months that are none count as the first.
  public var nanoseconds: Int64 {
    let year = Int32(date >> 9)
    let month = min(max(Int32(date >> 5 & 15), 1), 12)
    let day = min(max(Int32(date & 31), 1), Self.days(inMonth: month, year))
    var days = Self.firstDay
    for earlier in 0..<year { days += Int64(Self.days(inYear: earlier)) }
    for earlier in 1..<month { days += Int64(Self.days(inMonth: earlier, year)) }
    days += Int64(day - 1)
    let seconds = min(Int64(time >> 11), 23) * 3600 + min(Int64(time >> 5 & 63), 59) * 60 + min(Int64(time & 31), 29) * 2
    return ((days * 86400 + seconds) * 100 + Int64(min(hundredths, 199))) * 10_000_000
  }

  private static func isLeap(_ year: Int32) -> Bool { year % 4 == 0 && year != 120 }
  private static func days(inYear year: Int32) -> Int32 { isLeap(year) ? 366 : 365 }
  private static func days(inMonth month: Int32, _ year: Int32) -> Int32 {
    switch month {
    case 2: isLeap(year) ? 29 : 28
    case 4, 6, 9, 11: 30
    default: 31
    }
  }
}
