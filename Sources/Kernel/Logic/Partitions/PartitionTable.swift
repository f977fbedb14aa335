import Primitives

/// A part of a disk.
public struct DiskPartition: Equatable, Sendable {
  /// As it is named: vda1 has 1.
  public let number: Int
  public let sectors: Range<UInt64>
  public init(number: Int, sectors: Range<UInt64>) {
    self.number = number
    self.sectors = sectors
  }
}

/// The partitions of a disk, from its MBR or GPT. What is written there may be anything: a partition that comes out lies on the disk.
public enum PartitionTable {
  /// A sector has 512 bytes.
  static var sectorSize: Int { 512 }
  /// More are not looked at, in one disk.
  public static var most: Int { 256 }

  /// - Parameters:
  ///   - sectors: How many the disk has.
  ///   - read: Some sectors in a row, or nil when they cannot be read.
  public static func find(sectors: UInt64, _ read: (_ first: UInt64, _ count: Int) -> [UInt8]?) -> [DiskPartition] {
    guard sectors > 64, let record = read(0, 1), record.count == sectorSize, let entries = masterEntries(record) else { return [] }
    if entries.contains(where: { $0.type == 0xEE }) {
      // The second one is at the disk's end.
      for place in [1, sectors - 1] { if let found = GUIDTable.read(at: place, sectors: sectors, read) { return found } }
    }
    var found: [DiskPartition] = []
    for (index, entry) in entries.enumerated() where entry.type != 0 && entry.type != 0xEE {
      if isExtended(entry.type) { continue }
      if let range = range(entry.start, entry.count, within: sectors) { found.append(DiskPartition(number: index + 1, sectors: range)) }
    }
    if let extended = entries.first(where: { isExtended($0.type) }) {
      found += logical(from: UInt64(extended.start), sectors: sectors, read)
    }
    return found
  }

  private struct Entry {
    var type: UInt8
    var start: UInt32
    var count: UInt32
  }

  /// The four entries; nil for what is no partition table, as a file system's boot sector.
  private static func masterEntries(_ record: [UInt8]) -> [Entry]? {
    let bytes = record.span
    guard bytes.u16(510) == 0xAA55 else { return nil }
    var entries: [Entry] = []
    for index in 0..<4 {
      let at = 446 + index * 16
      guard bytes[at] & 0x7F == 0, let start = bytes.u32(at + 8), let count = bytes.u32(at + 12) else { return nil }
      entries.append(Entry(type: bytes[at + 4], start: start, count: count))
    }
    return entries
  }

  private static func isExtended(_ type: UInt8) -> Bool { type == 0x05 || type == 0x0F || type == 0x85 }

  /// Nil for one that is empty, has the table in it, or leaves the disk.
  private static func range(_ start: UInt32, _ count: UInt32, within sectors: UInt64) -> Range<UInt64>? {
    let range = UInt64(start)..<(UInt64(start) + UInt64(count))
    return start > 0 && count > 0 && range.upperBound <= sectors ? range : nil
  }

  /// The chain of records in an extended partition: each has a partition, and says where the next record is. Numbers from 5 on.
  private static func logical(from base: UInt64, sectors: UInt64, _ read: (UInt64, Int) -> [UInt8]?) -> [DiskPartition] {
    var found: [DiskPartition] = []
    var place = base
    // A chain that comes back to itself ends, too.
    for number in 5..<(5 + 60) {
      guard place > 0, place < sectors, let record = read(place, 1), record.count == sectorSize, let entries = masterEntries(record) else {
        break
      }
      let (start, overflows) = UInt32(truncatingIfNeeded: place).addingReportingOverflow(entries[0].start)
      if entries[0].type != 0, entries[0].start > 0, !overflows, let range = range(start, entries[0].count, within: sectors) {
        found.append(DiskPartition(number: number, sectors: range))
      }
      guard isExtended(entries[1].type), entries[1].start > 0 else { break }
      place = base + UInt64(entries[1].start)
    }
    return found
  }
}

/// SPEC: UEFI 2.10 §5.3.
private enum GUIDTable {
  /// Nil for one that is not whole.
  static func read(at place: UInt64, sectors: UInt64, _ read: (UInt64, Int) -> [UInt8]?) -> [DiskPartition]? {
    guard var header = read(place, 1), header.count == 512, header.span.u64(0) == 0x5452_4150_2049_4645,
      let size = header.span.u32(12), size >= 92, size <= 512, let checksum = header.span.u32(16), header.span.u64(24) == place,
      let table = header.span.u64(72), let count = header.span.u32(80), let entrySize = header.span.u32(84),
      let tableChecksum = header.span.u32(88), entrySize >= 128, entrySize <= 4096, entrySize % 128 == 0, count > 0,
      count <= 65536 / entrySize
    else { return nil }
    for offset in 16..<20 { header[offset] = 0 }
    guard CRC32.of(header.prefix(Int(size))) == checksum else { return nil }
    let bytes = Int(count * entrySize)
    let length = (bytes + 511) / 512
    guard table > 0, table < sectors, UInt64(length) <= sectors - table, let entries = read(table, length), entries.count == length * 512,
      CRC32.of(entries.prefix(bytes)) == tableChecksum
    else { return nil }
    var found: [DiskPartition] = []
    let span = entries.span
    for index in 0..<min(Int(count), PartitionTable.most) {
      let at = index * Int(entrySize)
      // One without a type is none.
      guard span.u64(at) != 0 || span.u64(at + 8) != 0, let first = span.u64(at + 32), let last = span.u64(at + 40) else { continue }
      if first > 0, last >= first, last < sectors { found.append(DiskPartition(number: index + 1, sectors: first..<(last + 1))) }
    }
    return found
  }
}

/// SPEC: ISO 3309, as GPT and gzip use it.
enum CRC32 {
  static func of(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    var value = UInt32.max
    for byte in bytes {
      value ^= UInt32(byte)
      for _ in 0..<8 { value = value & 1 != 0 ? value >> 1 ^ 0xEDB8_8320 : value >> 1 }
    }
    return ~value
  }
}
