import SystemABI

/// Who acts: user and group ids, POSIX's real, effective and saved ones, and what they may do.
public struct Credentials {
  public var uid: UInt32 = 0, euid: UInt32 = 0, suid: UInt32 = 0
  public var gid: UInt32 = 0, egid: UInt32 = 0, sgid: UInt32 = 0
  /// Whose files it makes, and whose rights it has on others': the effective ids, unless setfsuid said otherwise.
  public var fsuid: UInt32 = 0, fsgid: UInt32 = 0
  public var groups: [UInt32] = []
  /// The capabilities that count, and the sets that they come from.
  public var effective = CapabilitySet.all
  public var capabilities = CapabilityState.superuser

  /// The superuser's.
  public init() {}

  public func isMember(of group: UInt32) -> Bool { fsgid == group || groups.contains(group) }

  /// Whether `wanted` (bits 4 read, 2 write, 1 execute) is allowed. SPEC: POSIX.1-2024 §4.7.
  public func allows(_ wanted: UInt32, mode: UInt32, owner: UInt32, group: UInt32) -> Bool {
    let bits = owner == fsuid ? mode >> 6 : isMember(of: group) ? mode >> 3 : mode
    if bits & wanted == wanted { return true }
    let isDirectory = mode & Mode.typeMask == Mode.directory
    if has(.overrideAccess) { return wanted & 1 == 0 || isDirectory || mode & 0o111 != 0 }
    return has(.readSearch) && (wanted == 4 || isDirectory && wanted & 2 == 0)
  }

  /// Whether it may do what only the owner of a file may.
  public func owns(_ owner: UInt32) -> Bool { owner == fsuid || has(.fileOwner) }
}
