/// Bytes being written as text: no locale, no padding surprises.
struct Text {
  var bytes: [UInt8] = []

  mutating func add(_ text: StaticString) { bytes += Array(text.description.utf8) }
  mutating func add(_ text: [UInt8]) { bytes += text }

  mutating func add(_ value: UInt64, width: Int = 0, pad: UInt8 = 32, radix: UInt64 = 10) {
    var digits: [UInt8] = []
    var rest = value
    repeat {
      let digit = UInt8(rest % radix)
      digits.append(digit < 10 ? 48 + digit : 87 + digit)
      rest /= radix
    } while rest > 0
    while digits.count < width { digits.append(pad) }
    bytes += digits.reversed()
  }
  mutating func add(_ value: Int32) {
    if value < 0 { bytes.append(45) }
    add(UInt64(value.magnitude))
  }
  mutating func add(hex value: UInt64, width: Int = 0) { add(value, width: width, pad: 48, radix: 16) }
  /// `Name:   123 kB`, as /proc/meminfo and status write it.
  mutating func addSize(_ name: StaticString, kilobytes: UInt64) {
    let start = bytes.count
    add(name)
    add(":")
    while bytes.count - start < 16 { bytes.append(32) }
    add(kilobytes, width: 8)
    add(" kB\n")
  }
  /// A set of bits, as sixteen hexadecimal digits.
  mutating func addMask(_ name: StaticString, _ bits: UInt64) {
    add(name)
    add(":\t")
    add(hex: bits, width: 16)
    add("\n")
  }

  /// Each after a blank.
  mutating func addNumbers(_ values: [Int64]) {
    for value in values {
      add(value < 0 ? " -" : " ")
      add(value.magnitude)
    }
  }

  /// `Name:` and numbers after tabs.
  mutating func addList(_ name: StaticString, _ values: [UInt32]) {
    add(name)
    add(":")
    for value in values {
      add("\t")
      add(UInt64(value))
    }
    add("\n")
  }

  mutating func addLine(_ name: StaticString, _ value: UInt64) {
    add(name)
    add(":\t")
    add(value)
    add("\n")
  }
}
