import ArgumentParser
import Foundation

struct Symbolize: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Turns kernel addresses, or a log on standard input, into source lines.")
  @Argument(help: "Addresses; without any a log is read.") var addresses: [String] = []

  func run() async throws {
    try await reporting {
      let text =
        addresses.isEmpty
        ? String(decoding: FileHandle.standardInput.readDataToEndOfFile(), as: UTF8.self) : addresses.joined(separator: "\n")
      print(try await Self.symbolize(text))
    }
  }

  /// Every kernel text address in `text` with its function, file and line.
  static func symbolize(_ text: String) async throws -> String {
    var found: [String] = []
    for match in text.matches(of: /0x[cC][0-9a-f]{7}/) where !found.contains(String(match.output)) { found.append(String(match.output)) }
    if found.isEmpty { return "" }
    return try await Shell.capture(
      ["llvm-symbolizer", "-e", Paths.kernel.path, "-s", "-a", "-p"] + found, what: "the addresses could not be symbolized")
  }
}

struct Doctor: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Says whether this machine has what the project needs.")

  static let tools: [(command: String, package: String, purpose: String)] = [
    ("swift", "the Swift 6.3 toolchain", "builds everything"), ("qemu-system-i386", "qemu-system-x86", "runs the system"),
    ("e2fsck", "e2fsprogs", "checks images"), ("debugfs", "e2fsprogs", "looks into images"), ("cmp", "diffutils", "compares images"),
    ("llvm-symbolizer", "llvm", "names addresses of a panic"),
  ]

  func run() async throws {
    var missing = false
    for tool in Self.tools {
      let outcome = try await Shell.run(["sh", "-c", "command -v \(tool.command) >/dev/null"])
      print(
        "\(outcome.status == 0 ? "ok     " : "MISSING") \(tool.command): \(tool.purpose)"
          + (outcome.status == 0 ? "" : " (package \(tool.package))"))
      if outcome.status != 0 { missing = true }
    }
    if missing { throw ExitCode(Exit.missingTool) }
  }
}
