import SystemABI

/// What a mount of an overlay asks for: `lowerdir=/a:/b,upperdir=/c,workdir=/d`. SPEC: Linux Documentation/filesystems/overlayfs.rst.
struct OverlayOptions {
  /// Topmost first.
  var lowers: [[UInt8]] = []
  var upper: [UInt8]?
  var work: [UInt8]?
  /// What the overlay keeps is in `user.overlay.` attributes, not in `trusted.overlay.` ones.
  var usesUserAttributes = false

  /// Throws `invalidArgument` for what is unknown or asks for what this overlay does not do.
  init(_ text: [UInt8]) throws(Errno) {
    for option in Self.split(text, at: UInt8(ascii: ",")) {
      let parts = option.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false).map { Array($0) }
      let value = parts.count == 2 ? parts[1] : []
      if parts[0].elementsEqual("lowerdir".utf8) {
        lowers = Self.split(value, at: UInt8(ascii: ":")).map { Self.plain($0) }
      } else if parts[0].elementsEqual("upperdir".utf8) {
        upper = Self.plain(value)
      } else if parts[0].elementsEqual("workdir".utf8) {
        work = Self.plain(value)
      } else if parts.count == 1, parts[0].elementsEqual("userxattr".utf8) {
        usesUserAttributes = true
      } else if !Self.isOff(parts[0], value) {
        throw .invalidArgument
      }
    }
    guard !lowers.isEmpty, !lowers.contains([]), (upper == nil) == (work == nil), upper != nil || lowers.count > 1 else {
      throw .invalidArgument
    }
  }

  /// Features that may only be declined.
  private static func isOff(_ name: [UInt8], _ value: [UInt8]) -> Bool {
    for option in ["index", "metacopy", "nfs_export", "xino"] where name.elementsEqual(option.utf8) {
      return value.elementsEqual("off".utf8)
    }
    return name.elementsEqual("redirect_dir".utf8) && (value.elementsEqual("off".utf8) || value.elementsEqual("nofollow".utf8))
  }

  /// Pieces between separators that have no backslash before them, backslashes and all.
  private static func split(_ text: [UInt8], at separator: UInt8) -> [[UInt8]] {
    if text.isEmpty { return [] }
    var pieces: [[UInt8]] = [[]]
    var isEscaped = false
    for byte in text {
      if byte == separator, !isEscaped {
        pieces.append([])
        continue
      }
      isEscaped = byte == UInt8(ascii: "\\") && !isEscaped
      pieces[pieces.count - 1].append(byte)
    }
    return pieces
  }

  private static func plain(_ text: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    var isEscaped = false
    for byte in text {
      isEscaped = byte == UInt8(ascii: "\\") && !isEscaped
      if !isEscaped { result.append(byte) }
    }
    return result
  }
}
