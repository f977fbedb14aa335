import UserKit

/// `sleep SECONDS[.FRACTION]`
@main
struct Main {
  static func main() {
    guard Program.arguments.count == 2, let time = milliseconds(Program.arguments[1]) else {
      complain("sleep SECONDS")
      Program.exit(2)
    }
    try? Process.sleep(milliseconds: time)
    Program.exit(0)
  }

  static func milliseconds(_ text: Bytes) -> UInt64? {
    let parts = text.split(separator: 46, omittingEmptySubsequences: false).map { Array($0) }
    guard parts.count <= 2, let whole = number(parts[0].isEmpty ? "0" : parts[0]), whole >= 0 else { return nil }
    var fraction: UInt64 = 0
    if parts.count == 2 {
      let digits = Array((parts[1] + "000").prefix(3))
      guard let value = number(digits), value >= 0 else { return nil }
      fraction = UInt64(value)
    }
    return UInt64(whole) * 1000 + fraction
  }
}
