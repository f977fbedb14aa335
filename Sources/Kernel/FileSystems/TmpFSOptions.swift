import Machine
import SystemABI

/// What a mount of a tmpfs asks for. SPEC: tmpfs(5).
struct TmpFSOptions {
  /// In pages; half of memory unless the mount says otherwise, and 0 there is no limit.
  var pages = Int(Frames.totalCount / 2)
  var files = Int(Frames.totalCount / 2)
  var mode: UInt32 = 0o1777
  var owner: UInt32 = 0
  var group: UInt32 = 0

  init() {}

  /// Reads `size=64m,nr_inodes=1k,mode=755`. Throws `invalidArgument` for an unknown option or a bad number.
  init(_ text: [UInt8]) throws(Errno) {
    for option in text.split(separator: UInt8(ascii: ",")) {
      let parts = option.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2, let set = Self.settings.first(where: { $0.name.utf8.elementsEqual(parts[0]) }) else {
        throw .invalidArgument
      }
      try set.apply(&self, parts[1])
    }
  }

  private final class Setting {
    let name: String
    let apply: (inout TmpFSOptions, ArraySlice<UInt8>) throws(Errno) -> Void
    init(_ name: String, _ apply: @escaping (inout TmpFSOptions, ArraySlice<UInt8>) throws(Errno) -> Void) {
      self.name = name
      self.apply = apply
    }
  }

  private static var settings: [Setting] {
    [
      Setting("size") { (options, text) throws(Errno) in
        if text.last == UInt8(ascii: "%") {
          let share = try MountOption.number(text.dropLast(), radix: 10)
          options.pages = limit(UInt64(Frames.totalCount) * min(share, 1000) / 100)
        } else {
          options.pages = limit((try MountOption.size(text) + 4095) / 4096)
        }
      },
      Setting("nr_blocks") { (options, text) throws(Errno) in options.pages = limit(try MountOption.size(text)) },
      Setting("nr_inodes") { (options, text) throws(Errno) in options.files = limit(try MountOption.size(text)) },
      Setting("mode") { (options, text) throws(Errno) in options.mode = UInt32(try MountOption.number(text, radix: 8) & 0o7777) },
      Setting("uid") { (options, text) throws(Errno) in options.owner = try MountOption.id(text) },
      Setting("gid") { (options, text) throws(Errno) in options.group = try MountOption.id(text) },
    ]
  }

  private static func limit(_ value: UInt64) -> Int { value == 0 ? .max : Int(clamping: value) }
}
