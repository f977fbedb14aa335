import Foundation
import ImageKit

/// File systems on second disks, changed by a guest and judged on the host: by e2fsck, and byte for byte.
enum DiskTests {
  private struct Shape {
    var blockSize: Int
    var interface: String
    var name: String { "disk: files beside metadata, \(interface), blocks of \(blockSize) bytes" }
  }
  private static let shapes = [1024, 2048, 4096].flatMap { size in ["virtio", "ide"].map { Shape(blockSize: size, interface: $0) } }
  static var names: [String] { shapes.map(\.name) }

  static func run(_ results: Results) async throws {
    for shape in shapes { await results.check(shape.name) { try await filesBesideMetadata(shape) } }
  }

  /// The blocks of a deleted file's pointers are a new file's soon, and where blocks are smaller than pages, pointers and files
  /// lie in one page of the disk: neither may be written over by the other.
  private static func filesBesideMetadata(_ shape: Shape) async throws {
    let folder = try Paths.scratch("disk-test")
    try? FileManager.default.removeItem(at: folder)
    try FileManager.default.createDirectory(at: folder.appendingPathComponent("in"), withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    var random = SeededNumbers(state: 1)
    let long = data(7_600_000, &random)
    let short = data(3_800_000, &random)
    try long.write(to: folder.appendingPathComponent("in/long"))
    try short.write(to: folder.appendingPathComponent("in/short"))
    let disk = folder.appendingPathComponent("disk.ext2").path
    try await Shell.capture(
      ["mke2fs", "-q", "-t", "ext2", "-b", "\(shape.blockSize)", "-d", folder.appendingPathComponent("in").path, disk, "48M"],
      what: "mke2fs failed")
    let script = """
      mkdir /tmp/d; mount -t ext2 /dev/\(shape.interface == "ide" ? "hdb" : "vdb") /tmp/d || exit 9
      cd /tmp/d; write() { echo s > /proc/sysrq-trigger; }
      for n in 0 1 2 3 4 5; do
        cp long a; write; cp short b; rm a; cp long c; write; rm b; cp short d$n; rm c
        [ $n = 3 ] && rm d1
      done
      exit 0
      """
    let initramfs = try RootImage.makeInitramfs(command: ["/bin/sh", "-c", script])
    defer { try? FileManager.default.removeItem(at: initramfs) }
    let log = try Paths.scratch("disk.log")
    let console = try Paths.scratch("disk.console")
    var machine = VirtualMachine(loader: .kernel(Paths.kernel, initramfs: initramfs), log: log)
    machine.interactive = false
    machine.settings.processors = 2
    machine.commandLine = ["quiet", "root=/dev/" + (shape.interface == "ide" ? "hda" : "vda")]
    machine.disks = [
      .init(file: try RootImage.make(name: "boot-root.ext2").path, interface: shape.interface, snapshot: true),
      .init(file: disk, interface: shape.interface, snapshot: false),
    ]
    let ending = Ending.judge(try await Shell.run(machine.arguments, log: console, timeout: 120), log: log)
    guard ending == .powerOff(status: 0) else {
      throw ToolError("it ended with \(ending)", why: (try? String(contentsOf: console, encoding: .utf8)) ?? "", hint: "less \(log.path)")
    }
    try await Shell.capture(["e2fsck", "-fn", disk], what: "e2fsck finds errors")
    let out = folder.appendingPathComponent("out")
    try FileManager.default.createDirectory(at: out, withIntermediateDirectories: true)
    try await Shell.capture(["debugfs", "-R", "rdump / \(out.path)", disk], what: "debugfs cannot read it")
    for (name, expected) in [("long", long), ("short", short)] + [0, 2, 3, 4, 5].map({ ("d\($0)", short) }) {
      guard try Data(contentsOf: out.appendingPathComponent(name)) == expected else {
        throw ToolError("\(name) has another content", why: "what was written over it is not its own", hint: "")
      }
    }
  }

  private static func data(_ count: Int, _ random: inout SeededNumbers) -> Data {
    Data((0..<(count / 8)).flatMap { _ in withUnsafeBytes(of: random.next()) { Array($0) } })
  }
}
