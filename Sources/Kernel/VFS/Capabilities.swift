/// What a privileged process may do, one by one. SPEC: capabilities(7); Linux uapi linux/capability.h.
public enum Capability: UInt8, Sendable {
  case changeOwner = 0
  /// Reads, writes and executes whatever the mode says.
  case overrideAccess = 1
  /// Reads files and searches directories whatever the mode says.
  case readSearch = 2
  /// Does what only a file's owner may.
  case fileOwner = 3
  case keepSetID = 4
  case kill = 5
  case setGroup = 6
  case setUser = 7
  case setCapabilities = 8
  case lockMemory = 14
  case ipcOwner = 15
  case changeRoot = 18
  case trace = 19
  case administrate = 21
  case boot = 22
  case nice = 23
  /// Goes beyond limits.
  case resource = 24
  case time = 25
  /// Changes terminals that are not its own.
  case terminals = 26
  case makeDevice = 27
}

public struct CapabilitySet: Equatable, Sendable {
  public var bits: UInt64
  public init(bits: UInt64) { self.bits = bits }

  public static var none: CapabilitySet { .init(bits: 0) }
  /// All that exist; most have a meaning for Linux alone.
  public static var all: CapabilitySet { .init(bits: 1 << 41 - 1) }
  /// Those that a file system user id of 0 has and others have not.
  public static var files: CapabilitySet { .init(bits: 0b11111 | 1 << 9 | 1 << 27 | 1 << 32) }

  @inlinable public func contains(_ capability: Capability) -> Bool { bits >> UInt64(capability.rawValue) & 1 != 0 }
  public func contains(_ other: CapabilitySet) -> Bool { other.isSubset(of: self) }
  public func isSubset(of other: CapabilitySet) -> Bool { bits & ~other.bits == 0 }
  public func union(_ other: CapabilitySet) -> CapabilitySet { .init(bits: bits | other.bits) }
  public func intersection(_ other: CapabilitySet) -> CapabilitySet { .init(bits: bits & other.bits) }
  public func subtracting(_ other: CapabilitySet) -> CapabilitySet { .init(bits: bits & ~other.bits) }
}

/// The sets behind a process's effective one, which alone decides. A value that processes share until one changes its own.
public final class CapabilityState: Sendable {
  public let permitted: CapabilitySet
  public let inheritable: CapabilitySet
  /// What execve can give at most.
  public let bounding: CapabilitySet
  /// What execve leaves to programs that have no privileges of their own.
  public let ambient: CapabilitySet
  public let secureBits: UInt32

  /// SPEC: Linux uapi linux/securebits.h; each has a bit above it that locks it.
  public enum SecureBits {
    public static let noRoot: UInt32 = 1 << 0
    public static let noFixup: UInt32 = 1 << 2
    public static let keepCapabilities: UInt32 = 1 << 4
    public static let noAmbientRaise: UInt32 = 1 << 6
    public static let locks: UInt32 = 0xAA
  }

  public init(
    permitted: CapabilitySet, inheritable: CapabilitySet, bounding: CapabilitySet, ambient: CapabilitySet, secureBits: UInt32
  ) {
    self.permitted = permitted
    self.inheritable = inheritable
    self.bounding = bounding
    // What is no longer permitted or inheritable cannot be ambient.
    self.ambient = ambient.intersection(permitted).intersection(inheritable)
    self.secureBits = secureBits
  }

  public static var superuser: CapabilityState {
    .init(permitted: .all, inheritable: .none, bounding: .all, ambient: .none, secureBits: 0)
  }

  /// The same with some sets replaced.
  public func with(
    permitted: CapabilitySet? = nil, inheritable: CapabilitySet? = nil, bounding: CapabilitySet? = nil,
    ambient: CapabilitySet? = nil, secureBits: UInt32? = nil
  ) -> CapabilityState {
    .init(
      permitted: permitted ?? self.permitted, inheritable: inheritable ?? self.inheritable, bounding: bounding ?? self.bounding,
      ambient: ambient ?? self.ambient, secureBits: secureBits ?? self.secureBits)
  }

  public func has(_ bit: UInt32) -> Bool { secureBits & bit != 0 }
}

extension Credentials {
  @inlinable public func has(_ capability: Capability) -> Bool { effective.contains(capability) }

  /// Capabilities follow the user ids when those become, or cease to be, 0. SPEC: capabilities(7), "Effect of user ID changes".
  public mutating func userChanged(from old: Credentials) {
    fsuid = euid
    if capabilities.has(CapabilityState.SecureBits.noFixup) { return }
    let wasRoot = old.uid == 0 || old.euid == 0 || old.suid == 0
    if wasRoot, uid != 0, euid != 0, suid != 0 {
      if !capabilities.has(CapabilityState.SecureBits.keepCapabilities) {
        capabilities = capabilities.with(permitted: CapabilitySet.none, ambient: CapabilitySet.none)
        effective = .none
      }
      capabilities = capabilities.with(ambient: CapabilitySet.none)
    }
    if old.euid == 0, euid != 0 { effective = .none }
    if old.euid != 0, euid == 0 { effective = capabilities.permitted }
  }

  /// setfsuid: the capabilities that are about files follow that id.
  public mutating func setFileUser(_ id: UInt32) {
    let old = fsuid
    fsuid = id
    if capabilities.has(CapabilityState.SecureBits.noFixup) { return }
    if old == 0, id != 0 { effective = effective.subtracting(.files) }
    if old != 0, id == 0 { effective = effective.union(capabilities.permitted.intersection(.files)) }
  }

  /// What a program that is executed with these ids may do. SPEC: capabilities(7), "Transformation of capabilities during
  /// execve()"; no file has capabilities of its own here.
  public mutating func programChanged(setID: Bool) {
    let keep = CapabilityState.SecureBits.keepCapabilities
    var state = capabilities.with(ambient: setID ? CapabilitySet.none : nil, secureBits: capabilities.secureBits & ~keep)
    if uid == 0 || euid == 0, !state.has(CapabilityState.SecureBits.noRoot) {
      state = state.with(permitted: state.inheritable.union(state.bounding))
      effective = euid == 0 ? state.permitted : state.ambient
    } else {
      state = state.with(permitted: state.ambient)
      effective = state.ambient
    }
    capabilities = state
    fsuid = euid
    fsgid = egid
  }

  /// As access(2) asks: with the real ids, and the capabilities that they would have.
  public mutating func useRealIDs() {
    (fsuid, fsgid) = (uid, gid)
    if capabilities.has(CapabilityState.SecureBits.noFixup) { return }
    effective = uid == 0 ? capabilities.permitted : .none
  }
}
