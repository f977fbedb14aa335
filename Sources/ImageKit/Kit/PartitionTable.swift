import Foundation

/// A disk with one file system in a partition. SPEC: UEFI 2.10 §5 (GPT); the PC's MBR layout.
public enum PartitionTable: String, CaseIterable, Sendable {
  case mbr, gpt

  static let sector = 512
  /// Where the file system starts: 1 MiB, in sectors. The gap before it holds a boot loader.
  public static let start: UInt64 = 2048
  /// The GPT's BIOS boot partition, in sectors: between the table and the file system.
  static let loader: ClosedRange<UInt64> = 34...2047

  /// The number of the partition with the file system: GPT's first one is the boot loader's.
  public var partition: Int { self == .mbr ? 1 : 2 }

  /// Bytes of a disk that holds `contentSize` bytes.
  public func diskSize(contentSize: UInt64) -> UInt64 {
    (Self.start * UInt64(Self.sector) + contentSize + (self == .gpt ? 33 * 512 : 0) + 0xFFFFF) & ~0xFFFFF
  }

  /// Writes the table and copies the volume behind it. `path` appears whole or not at all.
  public func write(volume: String, isFAT: Bool, label: String, time: Int64, to path: String) throws {
    let source = try FileHandle(forReadingFrom: URL(fileURLWithPath: volume))
    defer { try? source.close() }
    let contentSize = try source.seekToEnd()
    try source.seek(toOffset: 0)
    let size = diskSize(contentSize: contentSize)
    try OutputFile.write(path, size: size) { temporary in
      let disk = try FileHandle(forUpdating: URL(fileURLWithPath: temporary))
      defer { try? disk.close() }
      let last = Self.start + contentSize / 512 - 1
      switch self {
      case .mbr: try disk.write(contentsOf: masterBootRecord(type: isFAT ? 0x0C : 0x83, first: Self.start, count: last - Self.start + 1))
      case .gpt: try writeGPT(disk, isFAT: isFAT, label: label, time: time, last: last, sectors: size / 512)
      }
      try disk.seek(toOffset: Self.start * 512)
      while let piece = try source.read(upToCount: 1 << 22), !piece.isEmpty {
        if piece.allSatisfy({ $0 == 0 }) {
          try disk.seek(toOffset: try disk.offset() + UInt64(piece.count))  // stays a hole
        } else {
          try disk.write(contentsOf: piece)
        }
      }
    }
  }

  private func masterBootRecord(type: UInt8, first: UInt64, count: UInt64) -> Data {
    var record = [UInt8](repeating: 0, count: 512)
    record[446] = type == 0xEE ? 0 : 0x80
    record.replaceSubrange(447..<450, with: [0xFE, 0xFF, 0xFF])
    record[450] = type
    record.replaceSubrange(451..<454, with: [0xFE, 0xFF, 0xFF])
    record.put(UInt32(clamping: first), at: 454)
    record.put(UInt32(clamping: count), at: 458)
    record[510] = 0x55
    record[511] = 0xAA
    return Data(record)
  }

  private func writeGPT(_ disk: FileHandle, isFAT: Bool, label: String, time: Int64, last: UInt64, sectors: UInt64) throws {
    var identity = IdentityGenerator(label: label, time: time)
    let diskID = identity.uuid()
    var table = [UInt8](repeating: 0, count: 128 * 128)
    // "Hah!IdontNeedEFI" and the types of Linux file systems and of Microsoft basic data, as they lie on disk.
    let bios = Array("Hah!IdontNeedEFI".utf8)
    let linux: [UInt8] = [0xAF, 0x3D, 0xC6, 0x0F, 0x83, 0x84, 0x72, 0x47, 0x8E, 0x79, 0x3D, 0x69, 0xD8, 0x47, 0x7D, 0xE4]
    let basic: [UInt8] = [0xA2, 0xA0, 0xD0, 0xEB, 0xE5, 0xB9, 0x33, 0x44, 0x87, 0xC0, 0x68, 0xB6, 0xB7, 0x26, 0x99, 0xC7]
    let entries: [(type: [UInt8], range: ClosedRange<UInt64>, name: String)] = [
      (bios, Self.loader, "boot loader"), (isFAT ? basic : linux, Self.start...last, label),
    ]
    for (index, entry) in entries.enumerated() {
      let at = index * 128
      table.replaceSubrange(at..<(at + 16), with: entry.type)
      table.replaceSubrange((at + 16)..<(at + 32), with: identity.uuid())
      table.put(entry.range.lowerBound, at: at + 32)
      table.put(entry.range.upperBound, at: at + 40)
      for (offset, unit) in entry.name.utf16.prefix(36).enumerated() {
        table[at + 56 + offset * 2] = UInt8(unit & 0xFF)
        table[at + 57 + offset * 2] = UInt8(unit >> 8)
      }
    }
    func header(at mine: UInt64, other: UInt64, tableAt: UInt64) -> [UInt8] {
      var header = [UInt8](repeating: 0, count: 512)
      header.replaceSubrange(0..<8, with: Array("EFI PART".utf8))
      header.put(UInt32(0x0001_0000), at: 8)
      header.put(UInt32(92), at: 12)
      header.put(mine, at: 24)
      header.put(other, at: 32)
      header.put(UInt64(34), at: 40)
      header.put(sectors - 34, at: 48)
      header.replaceSubrange(56..<72, with: diskID)
      header.put(tableAt, at: 72)
      header.put(UInt32(128), at: 80)
      header.put(UInt32(128), at: 84)
      header.put(CRC32.of(table), at: 88)
      header.put(CRC32.of(Array(header[0..<92])), at: 16)
      return header
    }
    try disk.write(contentsOf: masterBootRecord(type: 0xEE, first: 1, count: sectors - 1))
    try disk.write(contentsOf: Data(header(at: 1, other: sectors - 1, tableAt: 2) + table))
    try disk.seek(toOffset: (sectors - 33) * 512)
    try disk.write(contentsOf: Data(table + header(at: sectors - 1, other: 1, tableAt: sectors - 33)))
  }
}

extension [UInt8] {
  /// Stores an integer in little-endian order.
  mutating func put<T: FixedWidthInteger>(_ value: T, at offset: Int) {
    for index in 0..<(T.bitWidth / 8) { self[offset + index] = UInt8(truncatingIfNeeded: value >> T(index * 8)) }
  }
  func get<T: FixedWidthInteger>(_ type: T.Type, at offset: Int) -> T {
    (0..<(T.bitWidth / 8)).reduce(T(0)) { $0 | T(truncatingIfNeeded: self[offset + $1]) << T($1 * 8) }
  }
}

/// The IEEE 802.3 checksum that GPT uses.
enum CRC32 {
  static func of(_ bytes: [UInt8]) -> UInt32 {
    var crc = UInt32.max
    for byte in bytes {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 != 0 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
    }
    return ~crc
  }
}

/// Identifiers that follow from a label and a time, so that equal inputs give equal images.
struct IdentityGenerator {
  private var state: UInt64 = 0xCBF2_9CE4_8422_2325
  init(label: String, time: Int64) {
    for byte in label.utf8 { state = (state ^ UInt64(byte)) &* 0x100_0000_01B3 }
    state ^= UInt64(bitPattern: time)
  }
  mutating func next() -> UInt8 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return UInt8(truncatingIfNeeded: state >> 33)
  }
  /// 16 bytes marked as a version 4 UUID. SPEC: RFC 9562 §5.4.
  mutating func uuid() -> [UInt8] {
    var bytes = (0..<16).map { _ in next() }
    bytes[6] = bytes[6] & 0x0F | 0x40
    bytes[8] = bytes[8] & 0x3F | 0x80
    return bytes
  }
}
