/// A moment as clocks on the wall and in the RTC chip show it, in UTC.
public struct CalendarTime: Equatable, Sendable {
  public var year: Int
  public var month: Int
  public var day: Int
  public var hour: Int
  public var minute: Int
  public var second: Int

  public init(year: Int, month: Int, day: Int, hour: Int, minute: Int, second: Int) {
    self.year = year
    self.month = month
    self.day = day
    self.hour = hour
    self.minute = minute
    self.second = second
  }

  /// Days since 1970-01-01 in the proleptic Gregorian calendar, by counting years from March.
  var daysSinceEpoch: Int {
    let shifted = month > 2 ? month - 3 : month + 9
    let adjusted = month > 2 ? year : year - 1
    let era = (adjusted >= 0 ? adjusted : adjusted - 399) / 400
    let yearOfEra = adjusted - era * 400
    let dayOfYear = (153 * shifted + 2) / 5 + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
  }

  /// Seconds since 1970-01-01 00:00:00 UTC. SPEC: POSIX.1-2024 §4.19.
  public var secondsSinceEpoch: Int64 {
    Int64(daysSinceEpoch) * 86400 + Int64(hour * 3600 + minute * 60 + second)
  }

  /// The inverse of `secondsSinceEpoch`.
  public init(secondsSinceEpoch seconds: Int64) {
    let days = Int(seconds / 86400) - (seconds % 86400 < 0 ? 1 : 0)
    let rest = Int(seconds - Int64(days) * 86400)
    // Counting from a March that begins an era of 400 years.
    let shifted = days + 719_468
    let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let month = (5 * dayOfYear + 2) / 153
    self.init(
      year: yearOfEra + era * 400 + (month >= 10 ? 1 : 0), month: month < 10 ? month + 3 : month - 9,
      day: dayOfYear - (153 * month + 2) / 5 + 1, hour: rest / 3600, minute: rest / 60 % 60, second: rest % 60)
  }

  /// Whether there is such a time, from 1970 on; a minute has 60 seconds.
  public var isValid: Bool {
    guard year >= 1970, year <= 9999, (1...12).contains(month), (1...31).contains(day) else { return false }
    guard (0...23).contains(hour), (0...59).contains(minute), (0...59).contains(second) else { return false }
    // A day that its month does not have is one of the next month.
    return CalendarTime(secondsSinceEpoch: secondsSinceEpoch) == self
  }

  /// Days since Sunday, and days since the first of January.
  public var weekday: Int { (daysSinceEpoch % 7 + 11) % 7 }
  public var dayOfYear: Int {
    daysSinceEpoch - CalendarTime(year: year, month: 1, day: 1, hour: 0, minute: 0, second: 0).daysSinceEpoch
  }

  /// The CMOS registers 0, 2, 4, 7, 8, 9 in that order for this time, which must be of 1970 to 2069.
  public func registers(statusB: UInt8) -> [UInt8] {
    var hours = hour
    if statusB & 2 == 0 { hours = (hour + 11) % 12 + 1 }
    var values = [second, minute, hours, day, month, year % 100]
    if statusB & 4 == 0 { values = values.map { ($0 / 10) << 4 | $0 % 10 } }
    if statusB & 2 == 0, hour >= 12 { values[2] |= 0x80 }
    return values.map { UInt8($0) }
  }

  /// The CMOS registers 0, 2, 4, 7, 8, 9 in that order, with status B. SPEC: Motorola MC146818A datasheet.
  public init?(registers: [UInt8], statusB: UInt8) {
    guard registers.count == 6 else { return nil }
    var values = registers.map { Int($0) }
    var isAfternoon = false
    if statusB & 2 == 0 {
      isAfternoon = values[2] & 0x80 != 0
      values[2] &= 0x7F
    }
    if statusB & 4 == 0 { values = values.map { ($0 >> 4) * 10 + $0 & 15 } }
    if statusB & 2 == 0 { values[2] = values[2] % 12 + (isAfternoon ? 12 : 0) }
    guard values[0] < 61, values[1] < 60, values[2] < 24, (1...31).contains(values[3]), (1...12).contains(values[4]) else {
      return nil
    }
    self.init(
      year: values[5] + (values[5] < 70 ? 2000 : 1900), month: values[4], day: values[3], hour: values[2],
      minute: values[1], second: values[0])
  }
}
