import Sync

// The order of the file layers' locks, outermost first.
struct MountingRank: LockRank { static let level: UInt8 = 7 }
public struct OffsetRank: LockRank { public static let level: UInt8 = 8 }
public struct RenameRank: LockRank { public static let level: UInt8 = 10 }
/// Of inodes; those of layered file systems come just before, 17 and 18.
public struct InodeRank: LockRank { public static let level: UInt8 = 19 }
/// A file system is not synchronised while it ends, nor afterwards.
public struct FileSystemLifeRank: LockRank { public static let level: UInt8 = 20 }
public struct PageWriteRank: LockRank { public static let level: UInt8 = 21 }
public struct PageFillRank: LockRank { public static let level: UInt8 = 25 }
public struct FileSystemRank: LockRank { public static let level: UInt8 = 30 }
struct DevicePageWriteRank: LockRank { static let level: UInt8 = 33 }
struct DevicePageFillRank: LockRank { static let level: UInt8 = 35 }
public struct BlockRank: LockRank { public static let level: UInt8 = 40 }
public struct MountRank: LockRank { public static let level: UInt8 = 58 }
public struct DentryRank: LockRank { public static let level: UInt8 = 60 }
public struct InodeTableRank: LockRank { public static let level: UInt8 = 65 }
public struct AttributesRank: LockRank { public static let level: UInt8 = 70 }
public struct PagesRank: LockRank { public static let level: UInt8 = 75 }
struct FileLockRank: LockRank { static let level: UInt8 = 72 }
struct WatchRank: LockRank { static let level: UInt8 = 88 }
public struct LeafRank: LockRank { public static let level: UInt8 = 90 }
