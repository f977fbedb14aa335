import DiskFS
import Foundation

/// The file system in an image file: which one, and where it starts.
public struct ImageVolume: Sendable {
  public enum Kind: Sendable { case ext2, fat, diskfs }
  public var file: String
  public var kind: Kind
  /// Bytes before the file system, and of it.
  public var offset: UInt64
  public var size: UInt64

  /// Looks into an image: a bare file system, or the first one in an MBR or a GPT.
  /// - Throws: an error that says what the file is not.
  public static func find(in file: String) throws -> ImageVolume {
    let url = URL(fileURLWithPath: file)
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: file, isDirectory: &isFolder) else {
      throw ToolError("there is no image \(file)", why: "no such file", hint: "./adrosctl image -o \(file)", code: ExitStatus.usage)
    }
    guard !isFolder.boolValue, let handle = try? FileHandle(forReadingFrom: url) else {
      throw ToolError("\(file) is no image", why: "it is a folder or cannot be read", hint: "give an image file", code: ExitStatus.usage)
    }
    defer { try? handle.close() }
    let size = (try? handle.seekToEnd()) ?? 0
    func bytes(_ offset: UInt64, _ count: Int) -> [UInt8] {
      guard offset < size, (try? handle.seek(toOffset: offset)) != nil, let data = try? handle.read(upToCount: count) else { return [] }
      return [UInt8](data)
    }
    func volume(at offset: UInt64, size: UInt64) throws -> ImageVolume? {
      let superblock = bytes(offset + 1024, 1024)
      if superblock.count == 1024, superblock.get(UInt16.self, at: 56) == 0xEF53 {
        let blocks = UInt64(superblock.get(UInt32.self, at: 4))
        let needed = blocks << (10 + UInt64(min(superblock.get(UInt32.self, at: 24), 6)))
        if needed > size {
          throw ToolError(
            "\(file) is cut short", why: "its ext2 file system has \(needed) bytes, the file \(size)", hint: "make or copy it again")
        }
        return ImageVolume(file: file, kind: .ext2, offset: offset, size: size)
      }
      let blockSize = UInt64(DiskFormat.blockSize)
      for place in DiskFormat.superblocks {
        let block = bytes(offset + UInt64(place) * blockSize, DiskFormat.blockSize)
        guard DiskSuperblock.isMarked(block) else { continue }
        if let superblock = DiskSuperblock(block), UInt64(superblock.blocks) * blockSize > size {
          throw ToolError(
            "\(file) is cut short", why: "its diskfs volume has \(UInt64(superblock.blocks) * blockSize) bytes, the file \(size)",
            hint: "make or copy it again")
        }
        return ImageVolume(file: file, kind: .diskfs, offset: offset, size: size)
      }
      let boot = bytes(offset, 512)
      if boot.count == 512, boot[510] == 0x55, boot[511] == 0xAA, boot[0] == 0xEB || boot[0] == 0xE9,
        boot.get(UInt16.self, at: 11) == 512, boot[16] == 1 || boot[16] == 2
      {
        return ImageVolume(file: file, kind: .fat, offset: offset, size: size)
      }
      return nil
    }
    if let found = try volume(at: 0, size: size) { return found }
    for range in partitions(bytes) where range.upperBound <= size {
      if let found = try volume(at: range.lowerBound, size: range.upperBound - range.lowerBound) { return found }
    }
    throw ToolError(
      "\(file) holds no ext2, FAT or diskfs file system", why: "neither at its start nor in a partition",
      hint: "./adrosctl image -o \(file)", code: ExitStatus.usage)
  }

  /// Byte ranges of the partitions of an MBR or GPT.
  private static func partitions(_ bytes: (UInt64, Int) -> [UInt8]) -> [Range<UInt64>] {
    let record = bytes(0, 512)
    guard record.count == 512, record[510] == 0x55, record[511] == 0xAA else { return [] }
    var result: [Range<UInt64>] = []
    let header = bytes(512, 512)
    if record[450] == 0xEE, header.count == 512, header.starts(with: Array("EFI PART".utf8)) {
      let table = bytes(header.get(UInt64.self, at: 72) &* 512, 128 * 128)
      for at in stride(from: 0, to: table.count - 127, by: 128) where table[at..<(at + 16)].contains(where: { $0 != 0 }) {
        let first = table.get(UInt64.self, at: at + 32)
        let last = table.get(UInt64.self, at: at + 40)
        if first <= last, last < 1 << 40 { result.append(first * 512..<(last + 1) * 512) }
      }
      return result
    }
    for at in stride(from: 446, to: 510, by: 16) where record[at + 4] != 0 {
      let first = UInt64(record.get(UInt32.self, at: at + 8))
      result.append(first * 512..<(first + UInt64(record.get(UInt32.self, at: at + 12))) * 512)
    }
    return result
  }

  /// What the user is told of it.
  public var description: String {
    (kind == .ext2 ? "ext2" : kind == .fat ? "FAT" : "diskfs") + (offset > 0 ? " in a partition at \(offset >> 20) MiB" : "")
  }

  /// FAT is mtools' business.
  private var reader: (any VolumeReader)? {
    get throws {
      switch kind {
      case .ext2: try Ext2Reader(self)
      case .diskfs: try DiskReader(self)
      case .fat: nil
      }
    }
  }

  /// Lists a directory: an `ls -l`, or mtools' listing for FAT.
  public func list(_ path: String) async throws -> String {
    if let reader = try reader { return try reader.list(path) }
    return try await Shell.capture(["mdir", "-i", source, "-a", "::" + path], what: "cannot list \(path)")
  }

  /// A file's content.
  public func read(_ path: String) async throws -> Data {
    if let reader = try reader { return Data(try reader.read(path)) }
    let copy = FileManager.default.temporaryDirectory.appendingPathComponent("adros-cat-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: copy) }
    try await Shell.capture(["mcopy", "-i", source, "::" + path, copy.path], what: "cannot read \(path)")
    return try Data(contentsOf: copy)
  }

  /// Copies a file or a whole directory out, into the folder `target`. Devices are left out; the count of files comes back.
  public func extract(_ path: String, to target: String) async throws -> Int {
    try FileManager.default.createDirectory(atPath: target, withIntermediateDirectories: true)
    if let reader = try reader { return try reader.extract(path, to: URL(fileURLWithPath: target)) }
    let wanted = path == "/" ? "::" : "::" + path
    try await Shell.capture(["mcopy", "-i", source, "-s", "-n", "-m", wanted, target], what: "cannot copy \(path) out")
    return FileManager.default.enumerator(atPath: target)?.allObjects.count ?? 0
  }

  /// Checks with e2fsck or fsck.fat, or looks at all of a diskfs; answers what they say. ext2 or FAT in a partition is checked in a
  /// copy.
  public func check() async throws -> String {
    if kind == .diskfs { return try DiskReader(self).check() }
    var target = file
    var copy: URL?
    defer { if let copy { try? FileManager.default.removeItem(at: copy) } }
    if offset > 0 {
      let place = FileManager.default.temporaryDirectory.appendingPathComponent("adros-check-\(UUID().uuidString)")
      copy = place
      try await Shell.capture(
        [
          "dd", "if=" + file, "of=" + place.path, "bs=1M", "iflag=skip_bytes,count_bytes", "skip=\(offset)", "count=\(size)", "conv=sparse",
        ],
        what: "cannot copy the partition")
      target = place.path
    }
    if kind == .ext2 { return try await Shell.capture(["e2fsck", "-fn", target], what: "e2fsck finds errors in \(file)") }
    try Shell.require("fsck.fat", package: "dosfstools", purpose: "checks FAT volumes")
    return try await Shell.capture(["fsck.fat", "-n", target], what: "fsck.fat finds errors in \(file)")
  }

  private var source: String { offset > 0 ? "\(file)@@\(offset)" : file }
}
