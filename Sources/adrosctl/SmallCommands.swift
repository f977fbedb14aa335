import ArgumentParser
import Foundation
import ImageKit

struct Symbolize: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Turns kernel addresses, or a log on standard input, into source lines.")
  @Argument(help: "Addresses; without any a log is read.") var addresses: [String] = []
  @Option(name: .shortAndLong, help: "Which kernel: debug or release.") var configuration: Builder.Configuration = .release

  func run() async throws {
    try await reporting {
      let text =
        addresses.isEmpty
        ? String(decoding: FileHandle.standardInput.readDataToEndOfFile(), as: UTF8.self)
        : addresses.map { $0.hasPrefix("0x") ? $0 : "0x" + $0 }.joined(separator: "\n")
      let result = try await Self.symbolize(text, kernel: Paths.kernel(configuration))
      if result.isEmpty {
        throw ToolError(
          "there is no kernel address", why: "they look like 0xc0123456", hint: "./adrosctl symbolize 0xc0100000", code: ExitStatus.usage)
      }
      print(result)
    }
  }

  /// Every kernel text address in `text` with its function, file and line. What a backtrace gives behind "at" is where a call
  /// returns to: the call itself is before it, and a function that does not return may end there.
  static func symbolize(_ text: String, kernel: URL) async throws -> String {
    var found: [(shown: String, inside: String)] = []
    for match in text.matches(of: /(at )?(0x[cC][0-9a-f]{7})/) {
      let shown = String(match.output.2)
      guard let value = UInt32(shown.dropFirst(2), radix: 16), !found.contains(where: { $0.shown == shown }) else { continue }
      found.append((shown, match.output.1 == nil ? shown : "0x" + String(value - 1, radix: 16)))
    }
    if found.isEmpty { return "" }
    let named = try await found.reduce(
      Shell.capture(
        ["llvm-symbolizer", "-e", kernel.path, "-s", "-a", "-p"] + found.map(\.inside), what: "the addresses could not be symbolized")
    ) { $0.replacingOccurrences(of: $1.inside + ":", with: $1.shown + ":") }
    // Demangled where the toolchain can.
    let names = Set(named.matches(of: /\$[se][A-Za-z0-9_]+/).map { String($0.output) })
    guard !names.isEmpty, Shell.find("swift") != nil else { return named }
    let plain = try await Shell.capture(["swift", "demangle", "-compact", "-simplified"] + names.sorted(), what: "demangling")
    return zip(names.sorted(), plain.split(separator: "\n")).sorted { $0.0.count > $1.0.count }
      .reduce(named) { $0.replacingOccurrences(of: $1.0, with: $1.1) }
  }
}

struct Doctor: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Says whether this machine has what the project needs.")
  @Flag(help: "Install what is missing with apt-get (as root).") var fix = false
  @Flag(help: "Print JSON.") var json = false

  struct Tool: Codable {
    var command: String
    var package: String
    var purpose: String
    var optional = false
    var found = false
  }

  static let tools = [
    Tool(command: "swift", package: "", purpose: "builds everything"),
    Tool(command: "qemu-system-i386", package: "qemu-system-x86", purpose: "runs the system"),
    Tool(command: "e2fsck", package: "e2fsprogs", purpose: "checks ext2 images"),
    Tool(command: "debugfs", package: "e2fsprogs", purpose: "is the tests' second opinion on images"),
    Tool(command: "mcopy", package: "mtools", purpose: "makes FAT volumes"),
    Tool(command: "llvm-symbolizer", package: "llvm", purpose: "names addresses of a panic"),
    Tool(command: "fsck.fat", package: "dosfstools", purpose: "checks FAT volumes", optional: true),
    Tool(command: "grub-mkimage", package: "grub-common", purpose: "makes bootable disks, with grub-pc-bin", optional: true),
    Tool(command: "xorriso", package: "xorriso", purpose: "makes bootable CDs", optional: true),
    Tool(command: "gdb", package: "gdb", purpose: "is what debug starts", optional: true),
    Tool(command: "apt-get", package: "apt", purpose: "fetches Debian's packages for image --packages", optional: true),
  ]

  func run() async throws {
    try await reporting {
      var tools = Self.tools
      for index in tools.indices { tools[index].found = Shell.find(tools[index].command) != nil }
      var missing = tools.filter { !$0.found && !$0.package.isEmpty }
      if fix, !missing.isEmpty {
        let packages = Array(Set(missing.map(\.package) + (missing.contains { $0.package == "grub-common" } ? ["grub-pc-bin"] : [])))
          .sorted()
        let outcome = try await Shell.run(["apt-get", "install", "-y", "--no-install-recommends"] + packages)
        if outcome.status != 0 {
          throw ToolError("the packages were not installed", why: "apt-get failed", hint: "run it as root", code: ExitStatus.missingTool)
        }
        for index in tools.indices { tools[index].found = Shell.find(tools[index].command) != nil }
      }
      missing = tools.filter { !$0.found }
      if json {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        print(String(decoding: try encoder.encode(tools), as: UTF8.self))
      } else {
        for tool in tools {
          let state = tool.found ? Progress.coloured("ok     ", 32) : tool.optional ? "absent " : Progress.coloured("MISSING", 31)
          print("\(state) \(tool.command): \(tool.purpose)" + (tool.found || tool.package.isEmpty ? "" : " (package \(tool.package))"))
        }
      }
      if missing.contains(where: { !$0.optional }) { throw ExitCode(ExitStatus.missingTool) }
    }
  }
}

struct Config: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Shows or checks the machine that run would boot.", subcommands: [Show.self, CheckConfig.self], defaultSubcommand: Show.self)

  struct Show: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Prints the settings after all files, the environment and flags.")
    @OptionGroup var machine: MachineOptions
    func run() async throws { try await reporting { print(try machine.resolve().text) } }
  }

  struct CheckConfig: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "check", abstract: "Checks every file of configs/machines.")
    func run() async throws {
      try await reporting {
        let folder = Paths.configurations.appendingPathComponent("machines")
        for name in try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() where name.hasSuffix(".conf") {
          _ = try MachineSettings.load(String(name.dropLast(5)), folder: Paths.configurations, environment: [:])
          print("ok configs/machines/\(name)")
        }
      }
    }
  }
}

struct Size: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Prints the kernel's size by section.")
  @Option(help: "Another kernel to compare with.") var compare: String?

  func run() async throws {
    try await reporting {
      print(try await Self.table(Paths.kernel))
      if let compare { print("\n\(compare):\n" + (try await Self.table(URL(fileURLWithPath: compare)))) }
    }
  }

  static func table(_ kernel: URL) async throws -> String {
    try await Shell.capture(["llvm-size", "-A", "-d", kernel.path], what: "the kernel's size cannot be read")
      .split(separator: "\n").filter { !$0.contains(".debug") && !$0.contains("Total") && !$0.contains("tab") }.joined(separator: "\n")
  }
}

struct Completions: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Prints completions for bash, zsh or fish.")
  enum ShellName: String, CaseIterable, ExpressibleByArgument { case bash, zsh, fish }
  @Argument(help: "bash, zsh or fish") var shell: ShellName

  func run() async throws {
    let kinds: [ShellName: CompletionShell] = [.bash: .bash, .zsh: .zsh, .fish: .fish]
    print(Adrosctl.completionScript(for: kinds[shell]!))
  }
}
