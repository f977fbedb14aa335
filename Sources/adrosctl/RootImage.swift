import Foundation
import ImageKit

/// The root file system and the initramfs that `run` and `test` boot.
enum RootImage {
  /// The folders of Sources/Userland/Programs.
  static func programs() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: Paths.inTop("Sources/Userland/Programs").path).sorted()
  }

  static func time() -> Int64 { Int64(ProcessInfo.processInfo.environment["SOURCE_DATE_EPOCH"] ?? "") ?? 1_700_000_000 }

  /// Our programs, rootfs/ and the table of directories and devices.
  static func tree() throws -> RootTree {
    var tree = RootTree()
    try tree.addTree(Paths.inTop("rootfs"))
    for name in try programs() where FileManager.default.fileExists(atPath: Paths.program(name).path) {
      let folder = name == "init" || name == "poweroff" ? "/sbin/" : "/bin/"
      tree.add(RootEntry(path: folder + name, kind: .file(Paths.program(name)), mode: 0o755))
    }
    let table = Paths.inTop("configs/rootfs.table")
    try tree.addTable(try String(contentsOf: table, encoding: .utf8), name: "configs/rootfs.table")
    return tree
  }

  /// The root image, made anew when something in it is newer.
  /// - Parameter megabytes: The size of the file system.
  static func make(
    extra: RootTree? = nil, name: String = "root.ext2", kind: ImageVolume.Kind = .ext2, megabytes: UInt64 = 64
  ) throws -> URL {
    let target = try Paths.scratch(name)
    var tree = try tree()
    for entry in extra?.sorted ?? [] where entry.path != "/" { tree.add(entry) }
    if kind == .diskfs {
      try DiskImage(time: time(), label: "adros", size: megabytes << 20).write(tree, to: target.path)
    } else {
      try Ext2Image(time: time(), label: "adros", size: megabytes << 20).write(tree, to: target.path)
    }
    return target
  }

  /// The root image that `run --persist` writes to: made once, and again when somebody deletes it.
  static func kept() throws -> URL {
    let target = try Paths.scratch("persistent.ext2")
    return FileManager.default.fileExists(atPath: target.path) ? target : try make(name: target.lastPathComponent)
  }

  /// What every boot gets beside its root: init, which mounts the root and runs the command.
  static func makeInitramfs(command: [String]?) throws -> URL {
    var tree = RootTree()
    tree.add(RootEntry(path: "/init", kind: .file(Paths.program("init")), mode: 0o755))
    for folder in ["/dev", "/proc", "/root", "/sys", "/tmp"] { tree.add(RootEntry(path: folder, kind: .directory, mode: 0o755)) }
    tree.add(RootEntry(path: "/bin/sh", kind: .file(Paths.program("sh")), mode: 0o755))
    if let command {
      // One word a NUL-terminated string: no quoting rules.
      tree.add(RootEntry(path: "/command", kind: .data(command.flatMap { Array($0.utf8) + [0] }), mode: 0o644))
    }
    let target = try Paths.scratch("initramfs-\(ProcessInfo.processInfo.processIdentifier).cpio")
    try Data(CpioArchive.make(tree)).write(to: target)
    return target
  }
}
