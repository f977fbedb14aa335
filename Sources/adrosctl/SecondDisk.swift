import Foundation
import ImageKit

/// A disk with a FAT12, a FAT16 and a FAT32 volume and an ext2 with blocks of 1 KiB, made by mkfs.fat, mtools and mke2fs, for guests to
/// change and for both to judge.
struct SecondDisk {
  /// Width of the table's entries, size in MiB, sectors of a cluster.
  private static let shapes = [(bits: 12, size: 4, cluster: 4), (bits: 16, size: 16, cluster: 4), (bits: 32, size: 36, cluster: 1)]
  /// Of the ext2, behind them, in MiB.
  private static let ext2Size = 24
  let file: URL
  private let folder: URL

  static func make(name: String) async throws -> SecondDisk {
    let folder = try Paths.scratch(name + ".files")
    try? FileManager.default.removeItem(at: folder)
    let given = folder.appendingPathComponent("given/sub/deeper")
    try FileManager.default.createDirectory(at: given, withIntermediateDirectories: true)
    try Data("deep\n".utf8).write(to: given.appendingPathComponent("file"))
    let top = folder.appendingPathComponent("given")
    try Data("short\n".utf8).write(to: top.appendingPathComponent("Short.txt"))
    try Data("long\n".utf8).write(to: top.appendingPathComponent("A longer name, with spaces.text"))
    try pattern(300_000, seed: 1).write(to: top.appendingPathComponent("pattern"))
    let volumes = SecondDisk(file: try Paths.scratch(name), folder: folder)
    try partitionTable().write(to: volumes.file)
    let disk = try FileHandle(forUpdating: volumes.file)
    try disk.truncate(atOffset: UInt64(start(shapes.count) + ext2Size << 20))
    try disk.close()
    for (index, shape) in shapes.enumerated() {
      let start = start(index)
      try await Shell.capture(
        [
          "mkfs.fat", "-F", "\(shape.bits)", "-s", "\(shape.cluster)", "--offset", "\(start >> 9)", volumes.file.path,
          "\(shape.size << 10)",
        ], what: "mkfs.fat failed")
      try await Shell.capture(["mcopy", "-s", "-i", "\(volumes.file.path)@@\(start)", top.path, "::/"], what: "mcopy failed")
    }
    try await Shell.capture(
      [
        "mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024", "-I", "128", "-E", "offset=\(start(shapes.count))", volumes.file.path,
        "\(ext2Size)M",
      ], what: "mke2fs failed")
    return volumes
  }

  /// In bytes.
  private static func start(_ index: Int) -> Int { (1 + shapes[..<index].reduce(0) { $0 + $1.size }) << 20 }

  private static func partitionTable() -> Data {
    var sector = Data(count: 512)
    for (index, size) in (shapes.map { $0.size } + [ext2Size]).enumerated() {
      let at = 446 + index * 16
      sector[at + 4] = [0x01, 0x0E, 0x0C, 0x83][index]
      for byte in 0..<4 {
        sector[at + 8 + byte] = UInt8(truncatingIfNeeded: (start(index) >> 9) >> (byte * 8))
        sector[at + 12 + byte] = UInt8(truncatingIfNeeded: (size << 11) >> (byte * 8))
      }
    }
    sector[510] = 0x55
    sector[511] = 0xAA
    return sector
  }

  /// As Tests/Guest/C/fat.c has it.
  private static func pattern(_ count: Int, seed: Int) -> Data {
    Data((0..<count).map { UInt8(truncatingIfNeeded: $0 * 7 + ($0 >> 9) * seed + seed) })
  }

  /// fsck.fat and e2fsck find nothing to complain of; and what mtools gave is there, and what the guest kept, byte for byte.
  func check(kept: Bool) async throws {
    let ext2 = try partition(Self.shapes.count, "ext2", size: Self.ext2Size)
    try await Shell.capture(["e2fsck", "-fn", ext2.path], what: "e2fsck finds errors")
    for (index, shape) in Self.shapes.enumerated() {
      let volume = try partition(index, "fat\(shape.bits)", size: shape.size)
      try await Shell.capture(["fsck.fat", "-n", volume.path], what: "fsck.fat finds errors on FAT\(shape.bits)")
      try await expect(volume, "given/pattern", Self.pattern(300_000, seed: 1))
      if kept { try await expect(volume, "kept/Below Here/a pattern.bin", Self.pattern(200_000, seed: index + 1)) }
    }
    try FileManager.default.removeItem(at: folder)
  }

  /// A copy of a partition.
  private func partition(_ index: Int, _ name: String, size: Int) throws -> URL {
    let volume = folder.appendingPathComponent(name)
    let disk = try FileHandle(forReadingFrom: file)
    try disk.seek(toOffset: UInt64(Self.start(index)))
    try (disk.read(upToCount: size << 20) ?? Data()).write(to: volume)
    try disk.close()
    return volume
  }

  private func expect(_ volume: URL, _ name: String, _ content: Data) async throws {
    let out = folder.appendingPathComponent("out")
    try? FileManager.default.removeItem(at: out)
    try await Shell.capture(["mcopy", "-i", volume.path, "::/" + name, out.path], what: "mcopy cannot read \(name)")
    guard try Data(contentsOf: out) == content else {
      throw ToolError("\(name) has another content", why: volume.path, hint: "mdir -i \(volume.path)")
    }
  }
}
