import SystemABI

/// Who acts: user and group ids, POSIX's real, effective and saved ones.
public struct Credentials {
  public var uid: UInt32 = 0, euid: UInt32 = 0, suid: UInt32 = 0
  public var gid: UInt32 = 0, egid: UInt32 = 0, sgid: UInt32 = 0
  public var groups: [UInt32] = []
  public init() {}

  public var isSuperuser: Bool { euid == 0 }
  public func isMember(of group: UInt32) -> Bool { egid == group || groups.contains(group) }

  /// Whether `wanted` (bits 4 read, 2 write, 1 execute) is allowed. SPEC: POSIX.1-2024 §4.7.
  public func allows(_ wanted: UInt32, mode: UInt32, owner: UInt32, group: UInt32) -> Bool {
    if euid == 0 {
      return wanted & 1 == 0 || mode & Mode.typeMask == Mode.directory || mode & 0o111 != 0
    }
    let bits = owner == euid ? mode >> 6 : isMember(of: group) ? mode >> 3 : mode
    return bits & wanted == wanted
  }
}
