import SystemABI
import VFS

/// What a mount of a FAT volume asks for: whose its files are, and what their modes lack. SPEC: mount(8), "Mount options for fat".
struct FATOptions {
  var owner: UInt32 = 0
  var group: UInt32 = 0
  /// Bits that files and directories do not have.
  var fileMask: UInt32 = 0o022
  var directoryMask: UInt32 = 0o022
  /// A change of owner that cannot be kept is no error.
  var isQuiet = false

  /// Reads `uid=1000,gid=1000,umask=077,fmask=133,dmask=022,quiet`. Throws `invalidArgument` for an unknown option.
  init(_ text: [UInt8]) throws(Errno) {
    for option in text.split(separator: UInt8(ascii: ",")) {
      let parts = option.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
      if parts.count == 1 { try set(Array(parts[0])) } else { try set(Array(parts[0]), to: parts[1]) }
    }
  }

  private mutating func set(_ name: [UInt8]) throws(Errno) {
    if name == Array("quiet".utf8) {
      isQuiet = true
    } else if name != Array("utf8".utf8) {  // names are, always
      throw .invalidArgument
    }
  }

  private mutating func set(_ name: [UInt8], to value: ArraySlice<UInt8>) throws(Errno) {
    if name == Array("uid".utf8) {
      owner = try MountOption.id(value)
    } else if name == Array("gid".utf8) {
      group = try MountOption.id(value)
    } else {
      let mask = UInt32(try MountOption.number(value, radix: 8) & 0o777)
      if name == Array("umask".utf8) {
        fileMask = mask
        directoryMask = mask
      } else if name == Array("fmask".utf8) {
        fileMask = mask
      } else if name == Array("dmask".utf8) {
        directoryMask = mask
      } else {
        throw .invalidArgument
      }
    }
  }

  func mask(_ type: UInt32) -> UInt32 { type == Mode.directory ? directoryMask : fileMask }

  /// The mode of a file or directory. One that may not be written shows it.
  func mode(_ type: UInt32, isReadOnly: Bool) -> UInt32 { type | (isReadOnly && type == Mode.regular ? 0o555 : 0o777) & ~mask(type) }
}
