import Foundation
import ImageKit

/// What a file system keeps when the power goes: a guest carries out a plan while QEMU records every write and flush of its
/// disk; images of what a disk may hold after a cut are judged on the host.
///
/// A cut at some place of the record keeps every write up to the last flush before it, and of the later ones any: a disk with a
/// cache. What had been synchronised by then, as the marks say that the guest wrote behind each fsync, must be there.
enum PowerCutTests {
  private static let interfaces = ["virtio", "ide"]
  private enum FileSystem: Int, CaseIterable {
    case ext2, fat, diskfs, persistfs
    var name: String { ["ext2", "FAT", "diskfs", "persistfs"][rawValue] }
    /// For mount.
    var type: String { ["ext2", "vfat", "diskfs", "persistfs"][rawValue] }
    /// Recordings with other seeds in a short run, and cuts of each.
    var shortForm: (rounds: Int, cuts: Int) { self == .fat ? (3, 50) : self == .persistfs ? (1, 50) : (1, 150) }
    /// On the disk as diskfs.
    var isDiskFS: Bool { self == .diskfs || self == .persistfs }
  }
  private struct Subject {
    let fileSystem: FileSystem
    let interface: String
    var name: String { "power cuts: \(fileSystem.name), \(interface)" }
  }
  private static let subjects = FileSystem.allCases.flatMap { kind in interfaces.map { Subject(fileSystem: kind, interface: $0) } }
  private static func againName(_ kind: FileSystem) -> String { "power cuts: \(kind.name), used again" }
  static let names = subjects.map(\.name) + FileSystem.allCases.map(againName)
  private static let partitionStart = 2048
  private static let partitionSize = 34 << 20

  static func run(_ results: Results, torture: Bool) async throws {
    for (index, subject) in subjects.enumerated() where results.selects(subject.name) {
      let (rounds, cuts) = torture ? (10, 150) : subject.fileSystem.shortForm
      for round in 0..<rounds {
        let seed = UInt64(index * 1000 + round)
        let keeps = round == 0 && results.selects(againName(subject.fileSystem))
        await results.check(subject.name + (rounds > 1 ? ", seed \(seed)" : "")) {
          try await cut(subject, seed: seed, count: cuts, keeps: keeps ? subject.interface : nil)
        }
      }
      if subject.interface == interfaces.last, results.selects(againName(subject.fileSystem)) {
        await results.check(againName(subject.fileSystem)) { try await useAgain(subject.fileSystem) }
      }
    }
  }

  /// Images of cuts, repaired, that a guest is to use again: some of each interface.
  private static let keptOfEach = 5
  private static func keptImages(_ kind: FileSystem) throws -> URL { try Paths.scratch("power-cut-\(kind.name)-kept") }

  /// A guest mounts what some cuts left, reads all of it, and writes to it.
  private static func useAgain(_ kind: FileSystem) async throws {
    let folder = try keptImages(kind)
    defer { try? FileManager.default.removeItem(at: folder) }
    let images = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil).sorted { $0.path < $1.path }
    guard images.count == keptOfEach * interfaces.count else {
      throw ToolError("only \(images.count) images of cuts are there", why: folder.path, hint: "")
    }
    let letters = "bcdefghijklm".prefix(images.count).map { String($0) }.joined(separator: " ")
    let script = """
      mkdir /tmp/m
      for d in \(letters); do
        mount -t \(kind.type) /dev/vd$d /tmp/m || exit 9
        cat /tmp/m/*/* > /tmp/all || exit 8
        cp /bin/sh /tmp/m/a/new || exit 7
        rm /tmp/m/b/*
        umount /tmp/m || exit 6
      done
      """
    let initramfs = try RootImage.makeInitramfs(command: ["/bin/sh", "-c", script])
    defer { try? FileManager.default.removeItem(at: initramfs) }
    let (console, log) = (try Paths.scratch("used-again.console"), try Paths.scratch("used-again.log"))
    var machine = VirtualMachine(loader: .kernel(Paths.kernel, initramfs: initramfs), log: log)
    machine.interactive = false
    machine.settings.processors = 2
    machine.commandLine = ["quiet", "root=/dev/vda"]
    machine.disks = [.init(file: try RootImage.make(name: "power-cut.ext2").path, interface: "virtio", snapshot: true)]
    machine.disks += images.map { .init(file: $0.path, interface: "virtio", snapshot: false) }
    let ending = Ending.judge(try await Shell.run(machine.arguments, log: console, timeout: 300), log: log)
    guard ending == .powerOff(status: 0) else {
      throw ToolError("the guest ended with \(ending)", why: (try? String(contentsOf: console, encoding: .utf8)) ?? "", hint: log.path)
    }
    for image in images {
      let volume = try ImageVolume.find(in: image.path)
      _ = try await volume.check()
      guard try await volume.read("/a/new") == Data(contentsOf: Paths.program("sh")) else {
        throw ToolError("/a/new has another content", why: image.path, hint: "./adrosctl image check \(image.path)")
      }
    }
  }

  /// - Parameter keeps: The interface, where some of the images are to be used again.
  private static func cut(_ subject: Subject, seed: UInt64, count: Int, keeps: String?) async throws {
    let folder = try Paths.scratch("power-cut-\(subject.fileSystem.name)-\(subject.interface)")
    try? FileManager.default.removeItem(at: folder)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let plan = PowerCutPlan(seed: seed, links: subject.fileSystem != .fat, isSynchronous: subject.fileSystem == .persistfs)
    let record = try await Progress.step("\(subject.name): recording \(plan.steps.count) steps") {
      try await Self.record(plan, subject, seed, folder)
    }
    var random = SeededNumbers(state: seed)
    let places = (0..<count).map { _ in Int.random(in: 0...record.entries.count, using: &random) }.sorted()
    var disk = CutDisk(record, random)
    try await Progress.step("\(subject.name): \(count) cuts") {
      if keeps != nil { try FileManager.default.createDirectory(at: try keptImages(subject.fileSystem), withIntermediateDirectories: true) }
      for (number, place) in places.enumerated() {
        disk.advance(to: place)
        try await judge(disk.image(), subject, plan, lastMark: disk.lastMark, place, folder)
        // Those of the second half have files.
        guard let keeps, number >= places.count / 2, (number - places.count / 2) % (places.count / 2 / keptOfEach) == 0 else { continue }
        let kept = try keptImages(subject.fileSystem).appendingPathComponent("\(keeps)-\(place)")
        try FileManager.default.copyItem(at: folder.appendingPathComponent("cut"), to: kept)
      }
    }
    try? FileManager.default.removeItem(at: folder)
  }

  // MARK: Recording

  /// An empty file system with the plan's folders.
  private static func format(_ part: String, _ subject: Subject, _ plan: PowerCutPlan, _ seed: UInt64) async throws {
    switch subject.fileSystem {
    case .ext2:
      try await Shell.capture(
        ["mke2fs", "-q", "-t", "ext2", "-b", "\(plan.blockSize)", part, "\(partitionSize >> 10)K"], what: "mke2fs failed")
      for name in PowerCutPlan.folders { try await Shell.capture(["debugfs", "-w", "-R", "mkdir \(name)", part], what: "debugfs failed") }
    case .fat:
      let (bits, cluster) = [(12, 32), (16, 4), (32, 1)][Int(seed % 3)]
      try await Shell.capture(
        ["mkfs.fat", "-C", "-F", "\(bits)", "-s", "\(cluster)", part, "\(partitionSize >> 10)"], what: "mkfs.fat failed")
      try await Shell.capture(["mmd", "-i", part] + PowerCutPlan.folders.map { "::/" + $0 }, what: "mmd failed")
    case .diskfs, .persistfs:
      var tree = RootTree()
      for name in PowerCutPlan.folders { tree.add(RootEntry(path: "/" + name, kind: .directory, mode: 0o755)) }
      try DiskImage(time: RootImage.time(), label: "cut", size: UInt64(partitionSize)).write(tree, to: part)
    }
  }

  private static func record(_ plan: PowerCutPlan, _ subject: Subject, _ seed: UInt64, _ folder: URL) async throws -> WriteRecord {
    let interface = subject.interface
    let disk = folder.appendingPathComponent("disk").path
    let part = folder.appendingPathComponent("partition").path
    try await format(part, subject, plan, seed)
    let base = try Data(contentsOf: URL(fileURLWithPath: part))
    let marksSize = plan.steps.count * 4096 + (1 << 20)
    var image = masterBootRecord(marksSize) + Data(count: (partitionStart - 1) * 512)
    image += base + Data(count: marksSize)
    try image.write(to: URL(fileURLWithPath: disk))
    let log = folder.appendingPathComponent("writes")
    try Data().write(to: log)

    var extra = RootTree()
    extra.add(RootEntry(path: "/tests/powercut", kind: .file(Paths.program("powercut")), mode: 0o755))
    extra.add(RootEntry(path: "/tests/plan", kind: .data(Array((plan.steps.joined(separator: "\n") + "\n").utf8)), mode: 0o644))
    // virtio disks come in the order of their PCI slots, where the recorded one is the first.
    let (name, root) = interface == "ide" ? ("hdb", "hda") : ("vda", "vdb")
    let script =
      "mkdir /tmp/d && mount -t \(subject.fileSystem.type) /dev/\(name)1 /tmp/d && cd /tmp/d && exec /tests/powercut /tests/plan /dev/\(name)2\(subject.fileSystem == .persistfs ? " each" : "")"
    let initramfs = try RootImage.makeInitramfs(command: ["/bin/sh", "-c", script])
    defer { try? FileManager.default.removeItem(at: initramfs) }
    let console = folder.appendingPathComponent("console")
    var machine = VirtualMachine(loader: .kernel(Paths.kernel, initramfs: initramfs), log: folder.appendingPathComponent("kernel.log"))
    machine.interactive = false
    machine.settings.processors = 2
    machine.commandLine = ["quiet", "root=/dev/\(root)"]
    machine.disks = [.init(file: try RootImage.make(extra: extra, name: "power-cut.ext2").path, interface: interface, snapshot: true)]
    let device = interface == "ide" ? "ide-hd,drive=recorded,bus=ide.0,unit=1" : "virtio-blk-pci,drive=recorded"
    let arguments =
      machine.arguments + [
        "-blockdev", "driver=file,filename=\(disk),node-name=disk", "-blockdev", "driver=raw,file=disk,node-name=raw", "-blockdev",
        "driver=file,filename=\(log.path),node-name=writes", "-blockdev",
        "driver=blklogwrites,file=raw,log=writes,node-name=recorded", "-device", device,
      ]
    let ending = Ending.judge(try await Shell.run(arguments, log: console, timeout: 300), log: machine.log)
    guard ending == .powerOff(status: 0) else {
      throw ToolError("the guest ended with \(ending)", why: (try? String(contentsOf: console, encoding: .utf8)) ?? "", hint: folder.path)
    }
    let record = try WriteRecord(Data(contentsOf: log), base: base, partition: partitionStart, marks: partitionStart + base.count / 512)
    guard record.entries.contains(where: { $0.isFlush }), record.entries.contains(where: { $0.mark == plan.lastMark }) else {
      throw ToolError("the record has no flush, or no end", why: "\(record.entries.count) entries", hint: folder.path)
    }
    return record
  }

  /// Two partitions: the file system, and the marks.
  private static func masterBootRecord(_ marks: Int) -> Data {
    var sector = Data(count: 512)
    for (index, (start, count)) in [(partitionStart, partitionSize / 512), (partitionStart + partitionSize / 512, marks / 512)].enumerated()
    {
      let at = 446 + index * 16
      sector[at + 4] = 0x83
      for byte in 0..<4 {
        sector[at + 8 + byte] = UInt8(truncatingIfNeeded: start >> (byte * 8))
        sector[at + 12 + byte] = UInt8(truncatingIfNeeded: count >> (byte * 8))
      }
    }
    sector[510] = 0x55
    sector[511] = 0xAA
    return sector
  }

  // MARK: Judging

  private static func isAnywhere(_ content: [UInt8], in folder: URL) throws -> Bool {
    for directory in PowerCutPlan.folders.map(folder.appendingPathComponent) {
      for file in try FileManager.default.contentsOfDirectory(at: directory, includingPropertiesForKeys: nil) {
        if try Data(contentsOf: file) == Data(content) { return true }
      }
    }
    return false
  }

  /// What a check says, which repairs ext2 and FAT; diskfs must not need it. Then all files go to `out`.
  private static func repairAndExtract(_ file: URL, _ fileSystem: FileSystem, _ out: URL?, _ folder: URL) async throws -> String {
    if fileSystem.isDiskFS {
      let volume = try ImageVolume.find(in: file.path)
      let words = try await volume.check()
      if let out { _ = try await volume.extract("/", to: out.path) }
      return words
    }
    let log = folder.appendingPathComponent("fsck.log")
    let check = fileSystem == .ext2 ? ["e2fsck", "-fy", file.path] : ["fsck.fat", "-a", file.path]
    let status = try await Shell.run(check, log: log).status
    let words = (try? String(contentsOf: log, encoding: .utf8)) ?? ""
    guard status & ~3 == 0 else { throw ToolError("\(check[0]) cannot repair it", why: words, hint: file.path) }
    if let out {
      let extraction =
        fileSystem == .ext2
        ? ["debugfs", "-R", "rdump / \(out.path)", file.path] : ["mcopy", "-s", "-n", "-i", file.path, "::/", out.path]
      try await Shell.capture(extraction, what: "\(extraction[0]) cannot read it")
    }
    return words
  }

  private static func judge(
    _ image: [UInt8], _ subject: Subject, _ plan: PowerCutPlan, lastMark: Int?, _ place: Int, _ folder: URL
  ) async throws {
    let file = folder.appendingPathComponent("cut")
    try Data(image).write(to: file)
    func fail(_ what: String, _ why: String) -> ToolError {
      ToolError(what, why: "cut at entry \(place), after step \(lastMark.map { "\($0)" } ?? "none")\n\(why)", hint: "debugfs \(file.path)")
    }
    let out = folder.appendingPathComponent("out")
    try? FileManager.default.removeItem(at: out)
    try FileManager.default.createDirectory(at: out, withIntermediateDirectories: true)
    let repair: String
    do { repair = try await repairAndExtract(file, subject.fileSystem, lastMark == nil ? nil : out, folder) } catch {
      throw fail("it cannot be repaired or read", "\(error)")
    }
    guard let lastMark else { return }
    for (name, expected) in plan.durable(after: lastMark) {
      let found = try? Data(contentsOf: out.appendingPathComponent(name))
      let content: [UInt8]
      switch (expected, found) {
      case (.gone, nil), (.goneOr, nil): continue
      case (.gone, _): throw fail("\(name) is back", repair)
      case (.there, nil): throw fail("\(name) is lost", repair)
      case (.there(let bytes), _): content = bytes
      case (.goneOr(let bytes), let found?):
        // Where a file has but one name, a check takes its content from the second: it is under the new one.
        if subject.fileSystem == .fat, found.isEmpty, try isAnywhere(bytes, in: out) { continue }
        content = bytes
      }
      if let found, found != Data(content) {
        let first = zip(found, content).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? min(found.count, content.count)
        throw fail("\(name) has another content", "\(found.count) bytes, not \(content.count); first at \(first)\n\(repair)")
      }
    }
  }
}

/// The same numbers each time: a failure can be looked at again.
struct SeededNumbers: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }
}
