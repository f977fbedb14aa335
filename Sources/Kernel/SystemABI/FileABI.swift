/// File types and permission bits of `st_mode`. SPEC: POSIX.1-2024 <sys/stat.h>, Linux uapi stat.h.
public enum Mode {
  public static let typeMask: UInt32 = 0o170000
  public static let socket: UInt32 = 0o140000
  public static let link: UInt32 = 0o120000
  public static let regular: UInt32 = 0o100000
  public static let block: UInt32 = 0o060000
  public static let directory: UInt32 = 0o040000
  public static let character: UInt32 = 0o020000
  public static let fifo: UInt32 = 0o010000
  public static let setUser: UInt32 = 0o4000
  public static let setGroup: UInt32 = 0o2000
  public static let sticky: UInt32 = 0o1000
}

/// `open` flags as Linux/i386 numbers them. SPEC: Linux uapi asm-generic/fcntl.h.
public enum OpenFlags {
  public static let accessMask: UInt32 = 3
  public static let writeOnly: UInt32 = 1
  public static let readWrite: UInt32 = 2
  public static let create: UInt32 = 0o100
  public static let exclusive: UInt32 = 0o200
  public static let noControllingTerminal: UInt32 = 0o400
  public static let truncate: UInt32 = 0o1000
  public static let append: UInt32 = 0o2000
  public static let nonBlocking: UInt32 = 0o4000
  public static let dataSync: UInt32 = 0o10000
  public static let direct: UInt32 = 0o40000
  public static let largeFile: UInt32 = 0o100000
  public static let directory: UInt32 = 0o200000
  public static let noFollow: UInt32 = 0o400000
  public static let noAccessTime: UInt32 = 0o1000000
  public static let closeOnExec: UInt32 = 0o2000000
  /// Every flag that openat2 takes.
  public static let all: UInt32 = 0o37777703
  public static let path: UInt32 = 0o10000000
  /// A file without a name; comes with `directory`.
  public static let unnamed: UInt32 = 0o20000000
}

/// `poll` events. SPEC: POSIX.1-2024 <poll.h>, Linux uapi poll.h.
public struct PollEvents: OptionSet, Sendable {
  public let rawValue: UInt32
  @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  public static let readable = PollEvents(rawValue: 1)
  public static let priority = PollEvents(rawValue: 2)
  public static let writable = PollEvents(rawValue: 4)
  public static let error = PollEvents(rawValue: 8)
  public static let hangUp = PollEvents(rawValue: 16)
  public static let invalid = PollEvents(rawValue: 32)
  /// POLLRDNORM, POLLWRNORM: the same as readable and writable here.
  public static let normalRead = PollEvents(rawValue: 64)
  public static let normalWrite = PollEvents(rawValue: 256)
  public static let peerHangUp = PollEvents(rawValue: 0x2000)
}

/// A device number as Linux packs it in 32 bits: major in bits 8-19, minor in the rest.
public struct DeviceNumber: Equatable, Sendable {
  public var rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }
  public init(major: UInt32, minor: UInt32) { rawValue = minor & 0xFF | (major & 0xFFF) << 8 | (minor & 0xFFF00) << 12 }
  public var major: UInt32 { rawValue >> 8 & 0xFFF }
  public var minor: UInt32 { rawValue & 0xFF | rawValue >> 12 & 0xFFF00 }
}
