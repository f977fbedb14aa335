import Foundation
import ImageKit

/// Disks that fail, and file systems that cannot be right: who asks gets the error, once where it is told once, and nothing else is
/// lost.
enum DiskErrorTests {
  private struct Trial {
    var name: String
    /// For mount.
    var type: String
    /// What QEMU's blkdebug does to the disk.
    var faults: [String] = []
    /// Makes the image; more faults come from where things lie on it.
    var make: (String, Faults) async throws -> Void
    /// For the guest's `filesteps`, in the file system's root.
    var steps: [String]
    /// Looks at the image afterwards.
    var judge: (String) async throws -> Void
  }
  private final class Faults {
    var rules: [[String]] = []
    /// An error, 5, for each transfer of a kind; of one sector, or of any.
    func add(_ kind: String, sector: Int? = nil, once: Bool = false) {
      rules.append(["event=none", "iotype=" + kind, "errno=5"] + (sector.map { ["sector=\($0)"] } ?? []) + (once ? ["once=on"] : []))
    }
  }

  private static func title(_ trial: Trial) -> String { "disk errors: " + trial.name }
  static var names: [String] { trials.map(title) }

  static func run(_ results: Results) async throws {
    for trial in trials { await results.check(title(trial)) { try await run(trial) } }
  }

  private static func content(_ range: Range<Int>, _ seed: Int) -> [UInt8] { PowerCutPlan.content(range, seed) }

  // MARK: Images

  private static func folder() throws -> URL {
    let folder = try Paths.scratch("disk-errors")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    return folder
  }

  /// Two files of 12 KiB, `victim` and `other`, with the content of seeds 1 and 2.
  private static func files() throws -> [(name: String, file: URL)] {
    try [("victim", 1), ("other", 2)].map { name, seed in
      let file = try folder().appendingPathComponent(name)
      try Data(content(0..<12288, seed)).write(to: file)
      return (name, file)
    }
  }

  private static func ext2(_ path: String, policy: String = "continue") async throws {
    try await Shell.capture(["mke2fs", "-q", "-t", "ext2", "-b", "4096", "-e", policy, path, "8M"], what: "mke2fs failed")
    for (name, file) in try files() {
      try await Shell.capture(["debugfs", "-w", "-R", "write \(file.path) \(name)", path], what: "debugfs cannot write")
    }
  }

  /// The first sector of a page of a file on an ext2.
  private static func sector(_ name: String, _ page: Int, _ path: String) async throws -> Int {
    let blocks = try await Shell.capture(["debugfs", "-R", "blocks \(name)", path], what: "debugfs finds no blocks")
    guard let line = blocks.split(separator: "\n").last, let block = Int(line.split(separator: " ")[page]) else {
      throw ToolError("there is no \(name)", why: blocks, hint: "")
    }
    return block * 8
  }

  private static func diskfs(_ path: String) throws {
    var tree = RootTree()
    for (name, file) in try files() { tree.add(RootEntry(path: "/" + name, kind: .file(file), mode: 0o644)) }
    try DiskImage(time: RootImage.time(), label: "errors", size: 8 << 20).write(tree, to: path)
  }

  private static func expect(_ path: String, _ name: String, _ parts: [(range: Range<Int>, seed: Int)]) async throws {
    let found = [UInt8](try await ImageVolume.find(in: path).read("/" + name))
    let wanted = parts.flatMap { content($0.range, $0.seed) }
    guard found == wanted else {
      throw ToolError("\(name) has another content", why: "\(found.count) bytes, not \(wanted.count)", hint: path)
    }
  }

  private static func check(_ path: String) async throws { _ = try await ImageVolume.find(in: path).check() }

  // MARK: What is tried

  private static let (eio, enospc, erofs) = (5, 28, 30)

  /// A disk that becomes full, is written over as a whole, and has its room back when something is deleted.
  private static func full(_ type: String, size: Int, _ make: @escaping (String) async throws -> Void) -> Trial {
    Trial(
      name: "\(type), full", type: type, make: { path, _ in try await make(path) },
      steps: [
        "create f", "open a f", "write a 0 \(size) 1", "fsync a", "write a 0 \(size) 2", "fsync a", "read a 0 \(size) 2", "create g",
        "open b g",
        "write b 0 \(size) 3 = \(enospc)", "fsync b", "read a 0 \(size) 2", "close b", "unlink g", "write a 0 \(size) 4", "fsync a",
        "create h",
        "open c h", "write c 0 \(size / 10) 5", "fsync c",
      ],
      judge: { path in
        try await check(path)
        try await expect(path, "f", [(0..<size, 4)])
        try await expect(path, "h", [(0..<(size / 10), 5)])
      })
  }

  private static var trials: [Trial] {
    [
      full("ext2", size: 6_000_000) { try await ext2($0) },
      full("diskfs", size: 6_000_000) { try diskfs($0) },
      full("vfat", size: 9_000_000) {
        try await Shell.capture(["mkfs.fat", "-C", "-F", "16", "-s", "4", $0, "16384"], what: "mkfs.fat failed")
      },
      Trial(
        name: "ext2, a page cannot be written once", type: "ext2",
        make: { path, faults in
          try await ext2(path)
          faults.add("write", sector: try await sector("victim", 0, path), once: true)
        },
        // Each open file is told once, also when another one's attempt has been better.
        steps: [
          "open a victim", "open b victim", "write a 0 4096 7", "fsync a = \(eio)", "fsync b = \(eio)", "fsync a", "fsync b",
          "open c victim",
          "fsync c", "open d other", "fsync d",
        ],
        judge: { path in
          try await check(path)
          try await expect(path, "victim", [(0..<4096, 7), (4096..<12288, 1)])
        }),
      Trial(
        name: "ext2, a page cannot be read", type: "ext2",
        make: { path, faults in
          try await ext2(path)
          faults.add("read", sector: try await sector("victim", 1, path))
        },
        steps: [
          "open a victim", "read a 0 4096 1", "read a 4096 4096 1 = \(eio)", "read a 8192 4096 1", "open b other", "read b 0 12288 2",
          "create new", "write b 0 100 3", "fsync b",
        ],
        judge: { path in
          try await check(path)
          try await expect(path, "other", [(0..<100, 3), (100..<12288, 2)])
        }),
      Trial(
        name: "ext2, flushes fail for a time", type: "ext2",
        make: { path, faults in
          try await ext2(path)
          faults.add("flush", once: true)
        },
        steps: ["open a victim", "write a 0 4096 7", "fsync a = \(eio)", "fsync a"],
        judge: { path in
          try await check(path)
          try await expect(path, "victim", [(0..<4096, 7), (4096..<12288, 1)])
        }),
      Trial(
        name: "ext2, a name leads to a free inode, errors=remount-ro", type: "ext2",
        make: { path, _ in
          try await ext2(path, policy: "remount-ro")
          try await Shell.capture(["debugfs", "-w", "-R", "ln <500> ghost", path], what: "debugfs cannot link")
        },
        steps: [
          "create before", "stat ghost = \(eio)", "create after = \(erofs)", "open a victim = \(erofs)", "stat victim",
          "unlink before = \(erofs)",
        ],
        judge: { _ in }),
      Trial(
        name: "ext2, a name leads to a free inode, errors=continue", type: "ext2",
        make: { path, _ in
          try await ext2(path)
          try await Shell.capture(["debugfs", "-w", "-R", "ln <500> ghost", path], what: "debugfs cannot link")
        },
        steps: ["stat ghost = \(eio)", "create after", "open a victim", "read a 0 12288 1"],
        judge: { path in
          let header = try await Shell.capture(["dumpe2fs", "-h", path], what: "dumpe2fs cannot read it")
          guard header.contains("clean with errors") else {
            throw ToolError("nothing on the disk says that it has errors", why: header, hint: path)
          }
        }),
      Trial(
        name: "FAT, a chain leads nowhere", type: "vfat",
        make: { path, _ in
          try await Shell.capture(["mkfs.fat", "-C", "-F", "16", "-s", "4", path, "16384"], what: "mkfs.fat failed")
          for (name, file) in try files() { try await Shell.capture(["mcopy", "-i", path, file.path, "::/" + name], what: "mcopy failed") }
          let handle = try FileHandle(forUpdating: URL(fileURLWithPath: path))
          let reserved = try handle.read(upToCount: 512).map { Int($0[14]) | Int($0[15]) << 8 } ?? 0
          // The first file begins with the first cluster; its second one is free, the table says.
          try handle.seek(toOffset: UInt64(reserved * 512 + 3 * 2))
          try handle.write(contentsOf: Data([0, 0]))
          try handle.close()
        },
        steps: [
          "open a victim", "read a 0 2048 1", "read a 8192 4096 1 = \(eio)", "create new = \(erofs)", "open b other = \(erofs)",
          "stat other",
        ],
        judge: { _ in }),
      Trial(
        name: "diskfs, a page cannot be written once", type: "diskfs",
        make: { path, faults in
          try diskfs(path)
          faults.add("write", once: true)
        },
        steps: [
          "open a victim", "open b victim", "write a 0 4096 7", "fsync a = \(eio)", "fsync b = \(eio)", "fsync a", "fsync b",
          "open c victim",
          "fsync c",
        ],
        judge: { path in
          try await check(path)
          try await expect(path, "victim", [(0..<4096, 7), (4096..<12288, 1)])
        }),
      Trial(
        name: "diskfs, the superblocks cannot be written", type: "diskfs",
        make: { path, faults in
          try diskfs(path)
          for sector in [8, 16] { faults.add("write", sector: sector) }
        },
        steps: [
          "open a victim", "write a 0 4096 7", "fsync a = \(eio)", "fsync a = \(eio)", "create new = \(erofs)",
          "write a 4096 100 7 = \(erofs)",
          "stat other",
        ],
        // What was there before is.
        judge: { path in
          try await check(path)
          try await expect(path, "victim", [(0..<12288, 1)])
        }),
      Trial(
        name: "diskfs, a page is not what it was", type: "diskfs",
        make: { path, _ in
          try diskfs(path)
          // In the page's middle: the last byte of the place where the content is.
          let image = URL(fileURLWithPath: path)
          var bytes = try Data(contentsOf: image)
          guard let found = bytes.range(of: Data(content(4096..<8192, 1))) else {
            throw ToolError("the page is not there", why: path, hint: "")
          }
          bytes[found.lowerBound + 2000] ^= 1
          try bytes.write(to: image)
        },
        steps: [
          "open a victim", "read a 0 4096 1", "read a 4096 4096 1 = \(eio)", "read a 8192 4096 1", "open b other", "read b 0 12288 2",
          // It is whole again as soon as it is written as a whole.
          "write a 4096 4096 9", "fsync a", "create new",
        ],
        judge: { path in
          try await check(path)
          try await expect(path, "victim", [(0..<4096, 1), (4096..<8192, 9), (8192..<12288, 1)])
        }),
    ]
  }

  // MARK: Running

  private static func run(_ trial: Trial) async throws {
    defer { if let folder = try? folder() { try? FileManager.default.removeItem(at: folder) } }
    let image = try folder().appendingPathComponent("image").path
    try? FileManager.default.removeItem(atPath: image)
    let faults = Faults()
    try await trial.make(image, faults)
    var extra = RootTree()
    extra.add(RootEntry(path: "/tests/filesteps", kind: .file(Paths.program("filesteps")), mode: 0o755))
    extra.add(RootEntry(path: "/tests/steps", kind: .data(Array((trial.steps.joined(separator: "\n") + "\n").utf8)), mode: 0o644))
    // virtio disks come in the order of their PCI slots, where this one is the first.
    let script =
      "mkdir /tmp/d && mount -t \(trial.type) /dev/vda /tmp/d && cd /tmp/d && /tests/filesteps /tests/steps || exit 1; cd /; umount /tmp/d; exit 0"
    let initramfs = try RootImage.makeInitramfs(command: ["/bin/sh", "-c", script])
    defer { try? FileManager.default.removeItem(at: initramfs) }
    let (console, log) = (try Paths.scratch("disk-errors.console"), try Paths.scratch("disk-errors.log"))
    var machine = VirtualMachine(loader: .kernel(Paths.kernel, initramfs: initramfs), log: log)
    machine.interactive = false
    machine.settings.processors = 2
    machine.commandLine = ["quiet", "root=/dev/vdb"]
    machine.disks = [.init(file: try RootImage.make(extra: extra, name: "disk-errors.ext2").path, interface: "virtio", snapshot: true)]
    var debugging = "driver=blkdebug,image=raw,node-name=faulty"
    for (index, rule) in faults.rules.enumerated() { for word in rule { debugging += ",inject-error.\(index).\(word)" } }
    let arguments =
      machine.arguments + [
        "-blockdev", "driver=file,filename=\(image),node-name=disk", "-blockdev", "driver=raw,file=disk,node-name=raw", "-blockdev",
        debugging,
        "-device", "virtio-blk-pci,drive=faulty",
      ]
    let ending = Ending.judge(try await Shell.run(arguments, log: console, timeout: 120), log: log)
    guard ending == .powerOff(status: 0) else {
      let words = (try? String(contentsOf: console, encoding: .utf8)) ?? ""
      throw ToolError("the guest ended with \(ending)", why: words + "\n" + Ending.tail(log, lines: 10), hint: log.path)
    }
    try await trial.judge(image)
  }
}
