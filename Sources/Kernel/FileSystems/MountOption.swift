import SystemABI

/// Values behind the `=` of a mount's options. All throw `invalidArgument` for what is none.
enum MountOption {
  static func id(_ text: ArraySlice<UInt8>) throws(Errno) -> UInt32 {
    guard let value = UInt32(exactly: try number(text, radix: 10)) else { throw .invalidArgument }
    return value
  }

  /// A number with k, m or g behind it.
  static func size(_ text: ArraySlice<UInt8>) throws(Errno) -> UInt64 {
    let shift: UInt64 =
      switch (text.last ?? 0) | 0x20 {
      case UInt8(ascii: "k"): 10
      case UInt8(ascii: "m"): 20
      case UInt8(ascii: "g"): 30
      default: 0
      }
    return try number(shift == 0 ? text : text.dropLast(), radix: 10) << shift
  }

  /// At most 2^32, far beyond what there can be.
  static func number(_ text: ArraySlice<UInt8>, radix: UInt64) throws(Errno) -> UInt64 {
    if text.isEmpty { throw .invalidArgument }
    var value: UInt64 = 0
    for byte in text {
      guard byte >= 48, UInt64(byte) < 48 + radix else { throw .invalidArgument }
      value = min(value * radix + UInt64(byte - 48), 1 << 32)
    }
    return value
  }
}
