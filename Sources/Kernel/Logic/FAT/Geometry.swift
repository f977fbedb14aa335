import Primitives

/// Why a volume is not mounted.
public enum FATError: Error, Equatable, Sendable { case notFAT, corrupt, noTable }

/// How wide an entry of the allocation table is. The number of clusters decides. SPEC: Microsoft FAT specification 1.03, p. 14.
public enum FATKind: Sendable { case fat12, fat16, fat32 }

/// Where everything is on a FAT volume, in sectors of 512 bytes whatever the volume's own sectors are.
///
/// SPEC: Microsoft FAT specification 1.03, "Boot Sector and BPB".
public struct FATGeometry: Sendable {
  /// As much of the volume as `init` looks at.
  public static let size = 512
  /// The two clusters that are none: their entries hold the media type and the volume's state.
  public static let firstCluster: UInt32 = 2
  /// Bit 0 of a byte in the boot sector: in use, or not cleanly unmounted.
  public static let inUse: UInt8 = 1

  public let kind: FATKind
  public let sectorsPerCluster: UInt32
  public let tableStart: UInt32
  public let tableSectors: UInt32
  /// The copies of the table that are kept, in the order they lie in.
  public let tables: Range<UInt32>
  /// FAT12 and FAT16: the root directory's own place. Empty on FAT32, whose root is a chain like any other.
  public let rootSectors: Range<UInt32>
  public let rootCluster: UInt32
  public let dataStart: UInt32
  public let clusterCount: UInt32
  /// FAT32: where the number of free clusters is kept.
  public let informationSector: UInt32?
  /// The offset of the state byte in the boot sector, and what it says.
  public let stateOffset: Int
  public let state: UInt8

  /// Reads a boot sector.
  public init(_ bytes: borrowing Span<UInt8>) throws(FATError) {
    guard bytes.count >= Self.size, let sectorBytes = bytes.u16(11), let reserved = bytes.u16(14), let rootEntries = bytes.u16(17),
      let sectors16 = bytes.u16(19), let table16 = bytes.u16(22), let sectors32 = bytes.u32(32), let table32 = bytes.u32(36)
    else { throw .notFAT }
    let perCluster = UInt32(bytes[13])
    let copies = UInt32(bytes[16])
    let media = bytes[21]
    guard media == 0xF0 || media >= 0xF8, sectorBytes.nonzeroBitCount == 1, (512...4096).contains(sectorBytes),
      perCluster.nonzeroBitCount == 1, reserved > 0, copies > 0
    else { throw .notFAT }
    let scale = UInt64(sectorBytes / 512)
    let isWide = table16 == 0
    let tableLength = (isWide ? UInt64(table32) : UInt64(table16)) * scale
    let total = (sectors16 != 0 ? UInt64(sectors16) : UInt64(sectors32)) * scale
    let rootLength = UInt64(rootEntries) * 32 / 512
    guard tableLength > 0, total > 0, UInt64(rootEntries) * 32 % UInt64(sectorBytes) == 0, isWide || rootEntries > 0 else { throw .corrupt }
    let firstTable = UInt64(reserved) * scale
    let rootStart = firstTable + tableLength * UInt64(copies)
    let data = rootStart + (isWide ? 0 : rootLength)
    let clusterSectors = UInt64(perCluster) * scale
    guard data < total, total <= UInt64(UInt32.max) else { throw .corrupt }
    let count = (total - data) / clusterSectors
    kind = isWide ? .fat32 : count <= 4084 ? .fat12 : .fat16
    // Entries that the table has no room for are no clusters.
    let entries: UInt64 =
      switch kind {
      case .fat12: tableLength * 512 * 2 / 3
      case .fat16: tableLength * 256
      case .fat32: tableLength * 128
      }
    let last: UInt64 = kind == .fat32 ? 0x0FFF_FFF4 : kind == .fat16 ? 0xFFF4 : 0xFF4
    guard count > 0, entries > 2, count <= last else { throw .corrupt }
    clusterCount = UInt32(min(count, entries - 2))
    sectorsPerCluster = UInt32(clusterSectors)
    tableStart = UInt32(firstTable)
    tableSectors = UInt32(tableLength)
    allTableSectors = UInt32(tableLength * UInt64(copies))
    rootSectors = isWide ? 0..<0 : UInt32(rootStart)..<UInt32(data)
    dataStart = UInt32(data)
    stateOffset = isWide ? 65 : 37
    state = bytes[stateOffset]
    guard isWide else {
      rootCluster = 0
      tables = 0..<copies
      informationSector = nil
      return
    }
    guard let flags = bytes.u16(40), let version = bytes.u16(42), let root = bytes.u32(44), let information = bytes.u16(48) else {
      throw .notFAT
    }
    guard version == 0, root >= Self.firstCluster, UInt64(root) < UInt64(clusterCount) + 2 else { throw .corrupt }
    rootCluster = root
    if flags & 0x80 == 0 {
      tables = 0..<copies
    } else {
      // Mirroring is off: one copy counts.
      let active = UInt32(flags & 15)
      guard active < copies else { throw .noTable }
      tables = active..<(active + 1)
    }
    let sector = UInt64(information) * scale
    informationSector = information != 0 && information != 0xFFFF && sector < firstTable ? UInt32(sector) : nil
  }

  /// All copies of the table together.
  public let allTableSectors: UInt32
  public var isClean: Bool { state & Self.inUse == 0 }
  public var clusterBytes: UInt32 { sectorsPerCluster * 512 }
  /// The first number that is no cluster's.
  public var endCluster: UInt32 { clusterCount + Self.firstCluster }
  public func isCluster(_ number: UInt32) -> Bool { number >= Self.firstCluster && number < endCluster }
  public func firstSector(of cluster: UInt32) -> UInt64 {
    UInt64(dataStart) + UInt64(cluster - Self.firstCluster) * UInt64(sectorsPerCluster)
  }

  /// Where an entry begins in a copy of the table, in bytes. Those of FAT12 are one and a half bytes each.
  public func entryOffset(_ cluster: UInt32) -> UInt64 {
    switch kind {
    case .fat12: UInt64(cluster) + UInt64(cluster / 2)
    case .fat16: UInt64(cluster) * 2
    case .fat32: UInt64(cluster) * 4
    }
  }

  /// What an entry says.
  public enum Link: Equatable, Sendable {
    case free
    case next(UInt32)
    case end
    /// A bad cluster, or a number that is none.
    case bad
  }

  /// What `value`, of the kind's width, means.
  public func link(_ value: UInt32) -> Link {
    let end: UInt32 = kind == .fat12 ? 0xFF8 : kind == .fat16 ? 0xFFF8 : 0x0FFF_FFF8
    if value == 0 { return .free }
    if value >= end { return .end }
    return isCluster(value) ? .next(value) : .bad
  }

  /// How the end of a chain is written.
  public var endMark: UInt32 { kind == .fat12 ? 0xFFF : kind == .fat16 ? 0xFFFF : 0x0FFF_FFFF }
  /// The bit of entry 1 that says that the volume was cleanly unmounted; FAT12 has none. SPEC: ibid., p. 18.
  public var cleanBit: UInt32 { kind == .fat12 ? 0 : kind == .fat16 ? 0x8000 : 0x0800_0000 }
}

/// FAT32's hints about free clusters. SPEC: ibid., "FAT32 FSInfo Sector Structure".
public enum FATInformation {
  /// Free clusters, and where to look for one; nil for a sector that is something else, or a number that cannot be.
  public static func read(_ bytes: borrowing Span<UInt8>, at offset: Int, _ geometry: FATGeometry) -> (free: UInt32?, next: UInt32)? {
    guard bytes.u32(offset) == 0x4161_5252, bytes.u32(offset + 484) == 0x6141_7272, let free = bytes.u32(offset + 488),
      let next = bytes.u32(offset + 492)
    else { return nil }
    return (free <= geometry.clusterCount ? free : nil, geometry.isCluster(next) ? next : FATGeometry.firstCluster)
  }

  public static func write(free: UInt32, next: UInt32, _ bytes: inout MutableSpan<UInt8>, at offset: Int) {
    bytes.put32(free, at: offset + 488)
    bytes.put32(next, at: offset + 492)
  }
}
