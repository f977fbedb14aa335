import Foundation
import ImageKit

/// Images made by ImageKit, judged by e2fsck, fsck.fat, debugfs, mtools and our own check of diskfs.
enum ImageTests {
  static let names = [
    "image: root tree is clean for e2fsck and the same twice", "image: files, links, devices, owners and large directories",
    "image: a full image is an error and leaves nothing", "image: FAT12, FAT16 and FAT32 have their type and are the same twice",
    "image: a FAT volume that cannot be is an error", "image: partitions of MBR and GPT disks are found, read and checked",
    "image: extract gives back what went in", "image: a truncated or foreign file is an error",
    "image: machine settings are checked with line and column", "image: diskfs is the same twice, whole, and gives back what went in",
    "image: a diskfs that is too small, cut short or changed is an error",
  ]

  static func run(_ results: Results) async throws {
    let folder = try Paths.scratch("image-tests")
    try? FileManager.default.removeItem(at: folder)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try await ext2(results, folder)
    try await fat(results, folder)
    try await disks(results, folder)
    try await diskfs(results, folder)
    await results.check(names[8]) {
      var settings = MachineSettings()
      try settings.apply("processors = 4 # four\n\nmemory=1G\n", file: "x")
      try expect(settings.processors == 4 && settings.memory == 1024, "values lost")
      try expectError("x:2:3: unknown key procesors") { try settings.apply("cpu = max\n  procesors = 4\n", file: "x") }
      try expectError("x:1:1: bad value") { try settings.apply("memory = 1M\n", file: "x") }
      try expectError("x:1:1: no value") { try settings.apply("quiet\n", file: "x") }
    }
  }

  private static func expect(_ condition: Bool, _ what: String) throws {
    if !condition { throw ToolError(what, why: "the expectation is not met", hint: "") }
  }

  private static func expectError(_ what: String, _ body: () throws -> Void) throws {
    do { try body() } catch let error as ToolError { return try expect(error.what.contains(what), "wanted \(what), got \(error.what)") }
    throw ToolError("wanted the error \(what)", why: "there was none", hint: "")
  }

  private static func isSame(_ a: String, _ b: String) -> Bool { FileManager.default.contentsEqual(atPath: a, andPath: b) }

  /// Files of awkward sizes and names.
  private static func sample() -> RootTree {
    var tree = RootTree()
    for index in 0..<300 {
      tree.add(RootEntry(path: "/many/file\(index)", kind: .data(Array("\(index)".utf8)), mode: 0o640, owner: 1000, group: 70000))
    }
    tree.add(RootEntry(path: "/a long directory/with a long file name.text", kind: .data([1, 2, 3]), mode: 0o644))
    tree.add(RootEntry(path: "/empty", kind: .data([]), mode: 0o644))
    tree.add(RootEntry(path: "/big", kind: .data((0..<1_500_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }), mode: 0o600))
    return tree
  }

  private static func diskfs(_ results: Results, _ folder: URL) async throws {
    let (path, second) = (folder.appendingPathComponent("test.diskfs").path, folder.appendingPathComponent("second.diskfs").path)
    var tree = sample()
    tree.add(RootEntry(path: "/many/link", kind: .link("file3"), mode: 0o777))
    tree.add(RootEntry(path: "/null", kind: .character(major: 1, minor: 300), mode: 0o666))
    await results.check(names[9]) {
      for file in [path, second] { try DiskImage(time: 1_700_000_000, label: "test", size: nil).write(tree, to: file) }
      try expect(isSame(path, second), "two images of the same files differ")
      let volume = try ImageVolume.find(in: path)
      try expect(volume.kind == .diskfs, "it is \(volume.description)")
      try expect(try await volume.check().contains("clean"), "the check has another word")
      try expect(try await volume.list("/many").contains("-rw-r-----   1  1000 70000          2 file12"), "the listing differs")
      let target = folder.appendingPathComponent("from-diskfs")
      try expect(try await volume.extract("/", to: target.path) == 304, "files are missing")
      try expect(
        Array(try Data(contentsOf: target.appendingPathComponent("big"))) == (try tree.content(of: "/big")), "the big file differs")
      let link = try FileManager.default.destinationOfSymbolicLink(atPath: target.appendingPathComponent("many/link").path)
      try expect(link == "file3", "the link is \(link)")
    }
    await results.check(names[10]) {
      try expectError("do not fit") { try DiskImage(time: 1, label: "test", size: 1 << 20).write(tree, to: second + ".small") }
      try expect(!FileManager.default.fileExists(atPath: second + ".small"), "something is left")
      var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
      let content = Data(try tree.content(of: "/big")[8192..<12288])
      guard let place = bytes.range(of: content) else { throw ToolError("the content is not there", why: path, hint: "") }
      bytes[place.lowerBound + 100] ^= 4
      try bytes.write(to: URL(fileURLWithPath: second))
      let volume = try ImageVolume.find(in: second)
      for attempt in [{ _ = try await volume.check() }, { _ = try await volume.read("/big") }] as [() async throws -> Void] {
        do {
          try await attempt()
          throw CancellationError()
        } catch is ToolError {}
      }
      try expect(try await volume.read("/many/file12") == Data("12".utf8), "another file cannot be read")
      try bytes.prefix(bytes.count / 2).write(to: URL(fileURLWithPath: second))
      try expectError("cut short") { _ = try ImageVolume.find(in: second) }
    }
  }

  private static func ext2(_ results: Results, _ folder: URL) async throws {
    let path = folder.appendingPathComponent("test.ext2").path
    let image = Ext2Image(time: 1_700_000_000, label: "test", size: nil)
    await results.check(names[0]) {
      try image.write(try RootImage.tree(), to: path)
      try image.write(try RootImage.tree(), to: path + "2")
      try expect(isSame(path, path + "2"), "two images differ")
      try await Shell.capture(["e2fsck", "-fn", path], what: "e2fsck finds errors")
    }
    await results.check(names[1]) {
      var tree = sample()
      tree.add(RootEntry(path: "/long", kind: .link(String(repeating: "x", count: 200)), mode: 0o777))
      tree.add(RootEntry(path: "/null", kind: .character(major: 1, minor: 3), mode: 0o666))
      try image.write(tree, to: path)
      try await Shell.capture(["e2fsck", "-fn", path], what: "e2fsck finds errors")
      let text = try await Shell.capture(["debugfs", "-R", "stat /many/file7", path], what: "debugfs")
      try expect(text.contains("User:  1000") && text.contains("Group: 70000"), "owner lost")
      let listing = try await ImageVolume.find(in: path).list("/")
      try expect(listing.contains("long -> xxxx") && listing.contains("crw-rw-rw-"), "listing is \(listing)")
    }
    await results.check(names[2]) {
      var tree = RootTree()
      tree.add(RootEntry(path: "/big", kind: .data([UInt8](repeating: 7, count: 4_000_000)), mode: 0o600))
      let small = folder.appendingPathComponent("small.ext2").path
      try expectError("do not fit") { try Ext2Image(time: 0, label: "small", size: 2 << 20).write(tree, to: small) }
      try expect(!FileManager.default.fileExists(atPath: small), "half an image is left")
      try expect(!FileManager.default.fileExists(atPath: small + ".partial"), "a partial file is left")
    }
  }

  private static func fat(_ results: Results, _ folder: URL) async throws {
    await results.check(names[3]) {
      for (kind, sizes) in [
        (FATImage.Kind.fat12, [2, 8, 64]), (.fat16, [4, 32, 300]), (.fat32, [36, 300]),
      ] as [(FATImage.Kind, [UInt64])] {
        for size in sizes {
          let path = folder.appendingPathComponent("\(kind.rawValue).img").path
          let image = FATImage(kind: kind, time: 1_700_000_000, label: "test", size: size << 20)
          try await image.write(sample(), to: path)
          try await image.write(sample(), to: path + "2")
          try expect(isSame(path, path + "2"), "two \(kind.rawValue) volumes of \(size) MiB differ")
          let report = try await Shell.capture(["fsck.fat", "-nv", path], what: "fsck.fat finds errors")
          try expect(report.contains("FATs, \(kind.rawValue.dropFirst(3)) bit entries"), "\(size) MiB is not \(kind.rawValue):\n\(report)")
          let volume = try ImageVolume.find(in: path)
          try expect(try await volume.read("/many/file299") == Data("299".utf8), "a file came back wrong")
        }
      }
    }
    await results.check(names[4]) {
      let path = folder.appendingPathComponent("bad.img").path
      for (kind, size) in [(FATImage.Kind.fat12, UInt64(512)), (.fat16, 2), (.fat32, 16)] {
        var failed = false
        do { try await FATImage(kind: kind, time: 0, label: "x", size: size << 20).write(sample(), to: path) } catch is ToolError {
          failed = true
        }
        try expect(failed, "\(kind.rawValue) of \(size) MiB was made")
      }
      try expect(!FileManager.default.fileExists(atPath: path), "a file is left")
    }
  }

  private static func disks(_ results: Results, _ folder: URL) async throws {
    let volume = folder.appendingPathComponent("volume").path
    await results.check(names[5]) {
      for table in PartitionTable.allCases {
        for isFAT in [false, true] {
          if isFAT {
            try await FATImage(kind: .fat16, time: 1, label: "test", size: nil).write(sample(), to: volume)
          } else {
            try Ext2Image(time: 1, label: "test", size: nil).write(sample(), to: volume)
          }
          let path = folder.appendingPathComponent("disk.img").path
          try table.write(volume: volume, isFAT: isFAT, label: "test", time: 1, to: path)
          let found = try ImageVolume.find(in: path)
          try expect(found.kind == (isFAT ? .fat : .ext2) && found.offset == 1 << 20, "the partition is not found")
          try expect(try await found.read("/many/file12") == Data("12".utf8), "a file came back wrong")
          _ = try await found.check()
          if Shell.find("sfdisk") != nil {
            let label = try await Shell.capture(["sfdisk", "--verify", path], what: "sfdisk finds errors")
            try expect(label.contains("No errors detected") || label.contains("sectors"), label)
          }
        }
      }
    }
    await results.check(names[6]) {
      var tree = sample()
      tree.add(RootEntry(path: "/many/link", kind: .link("file3"), mode: 0o777))
      try Ext2Image(time: 1, label: "test", size: nil).write(tree, to: volume)
      let target = folder.appendingPathComponent("extracted")
      _ = try await ImageVolume.find(in: volume).extract("/", to: target.path)
      let big = try Data(contentsOf: target.appendingPathComponent("big"))
      try expect(Array(big) == (try tree.content(of: "/big")), "the big file differs")
      let link = try FileManager.default.destinationOfSymbolicLink(atPath: target.appendingPathComponent("many/link").path)
      try expect(link == "file3", "the link is \(link)")
    }
    await results.check(names[7]) {
      try Ext2Image(time: 1, label: "test", size: 8 << 20).write(sample(), to: volume)
      let file = try FileHandle(forWritingTo: URL(fileURLWithPath: volume))
      try file.truncate(atOffset: 5 << 20)
      try file.close()
      try expectError("cut short") { _ = try ImageVolume.find(in: volume) }
      try Data(repeating: 0x5A, count: 1 << 20).write(to: URL(fileURLWithPath: volume))
      try expectError("holds no ext2, FAT or diskfs") { _ = try ImageVolume.find(in: volume) }
      try expectError("there is no image") { _ = try ImageVolume.find(in: volume + ".missing") }
    }
  }
}
