import ArgumentParser
import Foundation
import ImageKit

struct Image: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Makes file system images, and looks into them.",
    subcommands: [Make.self, List.self, Cat.self, CheckImage.self], defaultSubcommand: Make.self)

  struct Make: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Makes an image (the default).")
    @Option(help: "File system: ext2.") var fs = "ext2"
    @Option(help: "Size, e.g. 64M, or auto.") var size = "auto"
    @Option(help: "A folder to copy instead of our own root.") var tree: String?
    @Option(help: "Debian i386 packages to unpack with all they need, e.g. busybox-static,bash-static.") var packages: String?
    @Option(help: "A table of owners, modes and devices.") var table: String?
    @Option(name: .shortAndLong, help: "The file to write.") var output = "adros.ext2"
    @Option(help: "Volume label.") var label = "adros"
    @Flag(help: "Make it twice, compare, and check it with e2fsck.") var verify = false

    func validate() throws {
      guard fs == "ext2" else { throw ValidationError("--fs \(fs) is not known: ext2 is") }
      guard size == "auto" || Run.megabytes(size) != nil else { throw ValidationError("--size is auto or like 64M") }
    }

    func run() async throws {
      try await reporting {
        var content = RootTree()
        if let packages {
          let folder = try await Debian.unpack(packages.split(separator: ",").map(String.init))
          try content.addTree(folder)
        } else if let tree {
          try content.addTree(URL(fileURLWithPath: tree))
        } else {
          try await Builder.build(.userland)
          content = try RootImage.tree()
        }
        if let table { try content.addTable(try String(contentsOfFile: table, encoding: .utf8), name: table) }
        let bytes = size == "auto" ? nil : Run.megabytes(size).map { UInt64($0) << 20 }
        let image = Ext2Image(time: RootImage.time(), label: label, size: bytes)
        try image.write(content, to: output)
        if verify { try await verify(image, content) }
        Progress.say("\(output): ext2")
      }
    }

    private func verify(_ image: Ext2Image, _ content: RootTree) async throws {
      let second = output + ".second"
      defer { try? FileManager.default.removeItem(atPath: second) }
      try image.write(content, to: second)
      _ = try await Shell.capture(["cmp", output, second], what: "two images of the same files differ")
      _ = try await Shell.capture(["e2fsck", "-fn", output], what: "e2fsck finds errors in \(output)")
    }
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "Lists a directory of an ext2 image.")
    @Argument var file: String
    @Argument var path = "/"
    func run() async throws {
      try await reporting {
        let text = try await Shell.capture(["debugfs", "-R", "ls -l \(path)", try Run.checked(file)], what: "cannot list \(path)")
        print(text.split(separator: "\n").filter { !$0.hasPrefix("debugfs ") }.joined(separator: "\n"))
      }
    }
  }

  struct Cat: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Prints a file of an ext2 image.")
    @Argument var file: String
    @Argument var path: String
    func run() async throws {
      try await reporting {
        let outcome = try await Shell.run(["sh", "-c", "debugfs -R \"cat $1\" \"$0\" 2>/dev/null", try Run.checked(file), path])
        if outcome.status != 0 { throw ToolError("cannot read \(path)", why: "debugfs failed", hint: "./adrosctl image ls \(file)") }
      }
    }
  }

  struct CheckImage: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "check", abstract: "Checks an ext2 image with e2fsck.")
    @Argument var file: String
    func run() async throws {
      try await reporting {
        print(try await Shell.capture(["e2fsck", "-fn", try Run.checked(file)], what: "\(file) has errors"))
      }
    }
  }
}
