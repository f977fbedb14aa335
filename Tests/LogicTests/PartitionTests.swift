import Foundation
import ImageKit
import Partitions
import Primitives
import Testing

/// A disk whose sectors are zeros unless they are given.
private struct Sectors {
  var count: UInt64 = 100_000
  var given: [UInt64: [UInt8]] = [:]

  func read(_ first: UInt64, _ number: Int) -> [UInt8]? {
    guard first + UInt64(number) <= count else { return nil }
    return (0..<UInt64(number)).flatMap { given[first + $0] ?? [UInt8](repeating: 0, count: 512) }
  }
  func partitions() -> [DiskPartition] { Partitions.PartitionTable.find(sectors: count, read) }

  mutating func put(_ place: UInt64, _ entries: [(type: UInt8, start: UInt32, count: UInt32)]) {
    var sector = [UInt8](repeating: 0, count: 512)
    var out = sector.mutableSpan
    for (index, entry) in entries.enumerated() {
      out[446 + index * 16 + 4] = entry.type
      out.put32(entry.start, at: 446 + index * 16 + 8)
      out.put32(entry.count, at: 446 + index * 16 + 12)
    }
    out.put16(0xAA55, at: 510)
    given[place] = sector
  }
}

private func partition(_ number: Int, _ sectors: Range<UInt64>) -> DiskPartition { DiskPartition(number: number, sectors: sectors) }

@Test func masterBootRecords() {
  var disk = Sectors()
  #expect(disk.partitions() == [])
  disk.put(0, [(0x83, 2048, 1000), (0, 0, 0), (0x0C, 4000, 96_000), (0x83, 90_000, 10_001)])
  // The last one leaves the disk.
  #expect(disk.partitions() == [partition(1, 2048..<3048), partition(3, 4000..<100_000)])
  // A file system's boot sector is no table.
  disk.given[0]![446] = 0x33
  #expect(disk.partitions() == [])
}

@Test func logicalPartitions() {
  var disk = Sectors()
  disk.put(0, [(0x83, 2048, 1000), (0x05, 10_000, 50_000)])
  disk.put(10_000, [(0x83, 63, 500), (0x05, 2000, 1000)])
  disk.put(12_000, [(0x82, 63, 700), (0x05, 5000, 1000)])
  disk.put(15_000, [(0x83, 63, 100)])
  #expect(
    disk.partitions() == [
      partition(1, 2048..<3048), partition(5, 10_063..<10_563), partition(6, 12_063..<12_763), partition(7, 15_063..<15_163),
    ])
  // A chain without an end.
  disk.put(15_000, [(0x83, 63, 100), (0x05, 2000, 1000)])
  #expect(disk.partitions().count < 70)
}

/// What sgdisk would make, by our own tool.
@Test func guidTables() throws {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("gpt-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  let (volume, image) = (folder.appendingPathComponent("volume"), folder.appendingPathComponent("disk"))
  try Data(count: 4 << 20).write(to: volume)
  try ImageKit.PartitionTable.gpt.write(volume: volume.path, isFAT: false, label: "x", time: 1_700_000_000, to: image.path)
  let bytes = [UInt8](try Data(contentsOf: image))
  var disk = Sectors(count: UInt64(bytes.count / 512))
  for sector in 0..<bytes.count / 512 where sector < 64 || sector > bytes.count / 512 - 64 {
    disk.given[UInt64(sector)] = Array(bytes[(sector * 512)..<(sector * 512 + 512)])
  }
  let expected = [partition(1, 34..<2048), partition(2, 2048..<(2048 + 8192))]
  #expect(disk.partitions() == expected)
  // The second table stands in for the first, and then there is none.
  disk.given[1]![20] ^= 1
  #expect(disk.partitions() == [partition(1, 34..<2048), partition(2, 2048..<(2048 + 8192))])
  disk.given[1]![20] ^= 1
  disk.given[2]![40] ^= 1
  #expect(disk.partitions() == expected)
  disk.given[disk.count - 1]![0] ^= 1
  #expect(disk.partitions() == [])
}

/// Any bytes are some partitions of the disk, or none.
@Test func hostilePartitionTables() {
  var random = Seeded(state: 9)
  for round in 0..<rounds(3000, long: 20000) {
    var disk = Sectors(count: UInt64.random(in: 1...5000, using: &random))
    for place in [0, 1, 2, 50, 51] as [UInt64] {
      disk.given[place] = (0..<512).map { _ in UInt8.random(in: 0...255, using: &random) }
      disk.given[place]![510] = 0x55
      disk.given[place]![511] = 0xAA
      for index in 0..<4 {
        disk.given[place]![446 + index * 16] = 0
        disk.given[place]![446 + index * 16 + 4] = [0x05, 0x83, 0, 0xEE][Int.random(in: 0..<4, using: &random)]
        for high in [10, 11, 14, 15] { disk.given[place]![446 + index * 16 + high] = round % 3 == 0 ? 255 : 0 }
      }
    }
    for found in disk.partitions() { #expect(found.sectors.upperBound <= disk.count && !found.sectors.isEmpty) }
  }
}
