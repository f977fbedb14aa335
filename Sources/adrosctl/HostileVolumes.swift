import Foundation
import ImageKit

/// Small volumes with something of everything, for the guest to damage and to mount.
enum HostileVolumes {
  /// Adds them to a root, in /tests/hostile.
  static func add(to tree: inout RootTree) async throws {
    for (name, file) in try await make() { tree.add(RootEntry(path: "/tests/hostile/" + name, kind: .file(file), mode: 0o644)) }
  }

  private static func make() async throws -> [(name: String, file: URL)] {
    let folder = try Paths.scratch("hostile")
    try? FileManager.default.removeItem(at: folder)
    let content = folder.appendingPathComponent("content")
    try FileManager.default.createDirectory(at: content.appendingPathComponent("below/further"), withIntermediateDirectories: true)
    for (name, size) in [("empty", 0), ("small", 100), ("below/large with a long name.text", 70_000), ("below/further/file", 9000)] {
      try Data((0..<size).map { UInt8(truncatingIfNeeded: $0 &* 13 ^ $0 >> 8) }).write(to: content.appendingPathComponent(name))
    }
    for number in 0..<40 { try Data([UInt8(number)]).write(to: content.appendingPathComponent("below/many \(number)")) }
    func file(_ name: String) -> URL { folder.appendingPathComponent(name) }
    try await Shell.capture(
      ["mkfs.fat", "-C", "-F", "12", "-s", "1", file("fat").path, "360"], environment: ["SOURCE_DATE_EPOCH": "1700000000"],
      what: "mkfs.fat failed")
    try await Shell.capture(
      ["mcopy", "-s", "-i", file("fat").path] + ["empty", "small", "below"].map { content.appendingPathComponent($0).path } + ["::/"],
      what: "mcopy failed")
    // FAT has no links.
    try FileManager.default.createSymbolicLink(
      atPath: content.appendingPathComponent("link").path, withDestinationPath: String(repeating: "far/away/", count: 12))
    try await Shell.capture(
      ["mke2fs", "-q", "-t", "ext2", "-b", "1024", "-N", "96", "-d", content.path, file("ext2").path, "384K"], what: "mke2fs failed")
    try await Shell.capture(
      ["debugfs", "-w", "-R", "ea_set small user.mark \(String(repeating: "m", count: 150))", file("ext2").path],
      what: "debugfs sets no attribute")
    var tree = RootTree()
    try tree.addTree(content)
    try DiskImage(time: RootImage.time(), label: "hostile", size: 512 << 10).write(tree, to: file("diskfs").path)
    try DiskImage.setAttribute("mark", of: "/small", to: "m", in: file("diskfs").path)
    return ["ext2", "fat", "diskfs"].map { ($0, file($0)) }
  }
}
