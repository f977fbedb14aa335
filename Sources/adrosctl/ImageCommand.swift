import ArgumentParser
import Foundation
import ImageKit

struct Image: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Makes file system images, and looks into them.",
    subcommands: [Make.self, List.self, Cat.self, Extract.self, CheckImage.self], defaultSubcommand: Make.self)

  enum FileSystem: String, CaseIterable, ExpressibleByArgument {
    case ext2, diskfs, fat12, fat16, fat32
    var isFAT: Bool { FATImage.Kind(rawValue: rawValue) != nil }
  }
  enum Loader: String, CaseIterable, ExpressibleByArgument { case grub }

  struct Make: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Makes an image (the default).")
    @Option(help: "ext2, diskfs, fat12, fat16 or fat32.") var fs = FileSystem.ext2
    @Option(help: "Size of the file system, e.g. 64M, or auto.") var size = "auto"
    @Option(help: "A folder to copy instead of our own root.") var tree: String?
    @Option(help: "Debian i386 packages to unpack with all they need, e.g. busybox-static,bash-static.") var packages: String?
    @Option(help: "A table of owners, modes and devices.") var table: String?
    @Option(help: "Put the file system in a partition: mbr or gpt.") var disk: PartitionTable?
    @Option(help: "Make the disk bootable: grub.") var boot: Loader?
    @Flag(help: "Make a bootable CD whose root is in memory.") var iso = false
    @Option(help: "More words for the kernel of a bootable image.") var append: [String] = []
    @Option(name: .shortAndLong, help: "The file to write.") var output: String?
    @Option(help: "Volume label.") var label = "adros"
    @Flag(help: "Make it twice, compare, and check it.") var verify = false
    @OptionGroup var tracing: Tracing

    func validate() throws {
      guard size == "auto" || ByteSize.megabytes(size) != nil else { throw ValidationError("--size is auto or like 64M, not \(size)") }
      if tree != nil, packages != nil { throw ValidationError("--tree and --packages are two sources: give one") }
      if boot != nil, disk == nil { throw ValidationError("--boot needs a disk: --disk mbr or --disk gpt") }
      if boot != nil, fs == .diskfs {
        throw ValidationError("GRUB cannot read diskfs: --boot takes --fs ext2, or run it with ./adrosctl run --root")
      }
      if iso, disk != nil || fs != .ext2 || size != "auto" { throw ValidationError("--iso takes no --fs, --size or --disk") }
      let limit = fs.isFAT ? 11 : fs == .ext2 ? 16 : 32
      guard label.utf8.count <= limit else { throw ValidationError("--label has \(limit) bytes at most") }
    }

    private var target: String {
      output ?? (iso ? "adros.iso" : disk != nil || fs.isFAT ? "adros.img" : "adros." + fs.rawValue)
    }

    func run() async throws {
      try await reporting {
        if tracing.dryRun {
          print("make \(target): \(iso ? "a CD" : fs.rawValue)\(disk.map { " in an \($0.rawValue) disk" } ?? "")")
          return
        }
        let content = try await content()
        try await make(content, target)
        if verify { try await check(content) }
        Progress.say("\(target): \(iso ? "bootable CD" : try ImageVolume.find(in: target).description)")
      }
    }

    private func content() async throws -> RootTree {
      var content = RootTree()
      if let packages {
        try content.addTree(try await Debian.unpack(packages.split(separator: ",").map(String.init)))
      } else if let tree {
        try content.addTree(URL(fileURLWithPath: tree))
      } else {
        try await Builder.build(.userland)
        content = try RootImage.tree()
      }
      if let table {
        guard let text = try? String(contentsOfFile: table, encoding: .utf8) else {
          throw ToolError("cannot read the table \(table)", why: "no such file, or no text", hint: "check --table", code: ExitStatus.usage)
        }
        try content.addTable(text, name: table)
      }
      if boot != nil {
        try await Builder.build(.kernel)
        content.add(RootEntry(path: "/boot/adros", kind: .file(Paths.kernel), mode: 0o644))
        let line = ["root=LABEL=" + label] + append
        let configuration = Array(Grub.configuration(commandLine: line, hasInitramfs: false).utf8)
        content.add(RootEntry(path: "/boot/grub/grub.cfg", kind: .data(configuration), mode: 0o644))
      }
      return content
    }

    private func make(_ content: RootTree, _ path: String) async throws {
      if iso {
        try await Builder.build(.kernel)
        var root = content
        if !root.contains("/init") { root.add(RootEntry(path: "/init", kind: .link("/sbin/init"), mode: 0o777)) }
        return try await Grub.writeISO(
          kernel: Paths.kernel, initramfs: try CpioArchive.make(root), commandLine: append, time: RootImage.time(), to: path)
      }
      guard let disk else { return try await makeVolume(content, path) }
      if boot != nil { try Grub.require(iso: false) }
      let volume = path + ".volume"
      defer { try? FileManager.default.removeItem(atPath: volume) }
      try await makeVolume(content, volume)
      try disk.write(volume: volume, isFAT: fs.isFAT, label: label, time: RootImage.time(), to: path)
      if boot != nil { try await Grub.install(on: path, table: disk) }
    }

    private func makeVolume(_ content: RootTree, _ path: String) async throws {
      let bytes = size == "auto" ? nil : ByteSize.megabytes(size).map { UInt64($0) << 20 }
      if fs == .diskfs { return try DiskImage(time: RootImage.time(), label: label, size: bytes).write(content, to: path) }
      guard let kind = FATImage.Kind(rawValue: fs.rawValue) else {
        return try Ext2Image(time: RootImage.time(), label: label, size: bytes).write(content, to: path)
      }
      let leftOut = try await FATImage(kind: kind, time: RootImage.time(), label: label, size: bytes).write(content, to: path)
      if leftOut > 0 { Progress.say("left out \(leftOut) links and device nodes: FAT has none") }
    }

    private func check(_ content: RootTree) async throws {
      let second = target + ".second"
      defer { try? FileManager.default.removeItem(atPath: second) }
      try await make(content, second)
      try await Shell.capture(["cmp", target, second], what: "two images of the same files differ")
      if !iso { _ = try await ImageVolume.find(in: target).check() }
    }
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "Lists a directory of an image.")
    @Argument var file: String
    @Argument var path = "/"
    func run() async throws { try await reporting { print(try await ImageVolume.find(in: file).list(path)) } }
  }

  struct Cat: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Prints a file of an image.")
    @Argument var file: String
    @Argument var path: String
    func run() async throws {
      try await reporting { FileHandle.standardOutput.write(try await ImageVolume.find(in: file).read(path)) }
    }
  }

  struct Extract: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Copies a file or a directory out of an image.")
    @Argument var file: String
    @Argument(help: "What to copy.") var path = "/"
    @Option(name: .shortAndLong, help: "The folder to copy into.") var output = "."
    func run() async throws {
      try await reporting {
        let count = try await ImageVolume.find(in: file).extract(path, to: output)
        Progress.say("\(output): \(count) files from \(path)")
      }
    }
  }

  struct CheckImage: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "check", abstract: "Checks an image: with e2fsck or fsck.fat, or all of a diskfs.")
    @Argument var file: String
    func run() async throws { try await reporting { print(try await ImageVolume.find(in: file).check()) } }
  }
}

extension PartitionTable: ExpressibleByArgument {}
