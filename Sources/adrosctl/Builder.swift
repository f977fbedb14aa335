import ArgumentParser
import Foundation
import ImageKit

/// Builds the parts of the system through SwiftPM.
enum Builder {
  enum Part: String, CaseIterable, ExpressibleByArgument {
    case kernel, userland, all
  }
  /// `debug` is the kernel with its own checks on (`CHECKED`: the order of locks). It is optimised too: an unoptimised one
  /// initialises its globals lazily, under a lock that spins.
  enum Configuration: String, CaseIterable, ExpressibleByArgument {
    case debug, release
  }

  static func build(_ part: Part, _ configuration: Configuration = .release, tracing: Tracing? = nil) async throws {
    let parts = part == .all ? ["kernel", "userland"] : [part.rawValue]
    for (index, name) in parts.enumerated() {
      // Programs have one configuration: nothing in them depends on it.
      let command = try command(name, name == "kernel" ? configuration : .release)
      if let tracing, !tracing.announce(command) { continue }
      let log = try Paths.scratch("build-\(name).log")
      try await Progress.step("build \(name)", index + 1, of: parts.count, log: log) { try await run(command, name, log) }
    }
    if part != .userland, tracing?.dryRun != true { try KernelCheck.check(Paths.kernel(configuration)) }
  }

  private static func run(_ command: [String], _ part: String, _ log: URL) async throws {
    let outcome = try await Shell.run(command, environment: try environment(part), log: log)
    if outcome.status == 0 { return }
    let lines = String(decoding: try Data(contentsOf: log), as: UTF8.self).split(separator: "\n")
    let errors = lines.filter { $0.contains("error:") }
    throw ToolError(
      "the \(part) does not build", why: (errors.isEmpty ? lines.suffix(20) : errors.prefix(20)).joined(separator: "\n"),
      hint: "less \(log.path)", code: ExitStatus.buildFailed)
  }

  /// One SwiftPM call a part and a scratch folder each: they have different flags.
  static func command(_ part: String, _ configuration: Configuration) throws -> [String] {
    let debug = configuration == .debug
    let scratch = Paths.inTop(".build-\(part)-i686" + (debug ? "-debug" : "")).path
    return [
      "swift", "build", "-c", "release", "--triple", "i686-unknown-none-elf", "--toolset",
      Paths.inTop("configs/toolsets/\(part)-i686.json").path, "--package-path", Paths.top.path, "--scratch-path", scratch,
      "--explicit-target-dependency-import-check", "error",
    ] + (part == "kernel" ? linkTimeCache(scratch) : []) + (debug ? ["-Xswiftc", "-DCHECKED"] : [])
  }

  /// The kernel's modules are bitcode and get their machine code when they are linked: without the tables that position-independent
  /// code needs, and in line across modules. What did not change comes from a cache.
  private static func linkTimeCache(_ scratch: String) -> [String] {
    ["--thinlto-cache-dir=\(scratch)/lto-cache", "--thinlto-cache-policy=cache_size_bytes=256m"].flatMap { ["-Xlinker", $0] }
  }

  static func environment(_ part: String) throws -> [String: String] {
    ["ADROS_PART": part, "ADROS_SCRIPT_HASH": try scriptHash()]
  }

  /// Changes whenever a linker script does, so that SwiftPM links again.
  private static func scriptHash() throws -> String {
    var hash: UInt32 = 2_166_136_261
    let folder = Paths.inTop("configs/linker")
    for name in try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() {
      for byte in try Data(contentsOf: folder.appendingPathComponent(name)) { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
    }
    return String(format: "0x%08x", hash)
  }
}

/// What the kernel's ELF file must be for QEMU and GRUB to load it.
enum KernelCheck {
  static func check(_ url: URL) throws {
    guard let data = try? Data(contentsOf: url), data.count > 8192 else {
      throw ToolError(
        "there is no kernel", why: "\(url.path) is missing or too short", hint: "./adrosctl build", code: ExitStatus.buildFailed)
    }
    let bytes = [UInt8](data.prefix(8192))
    guard bytes[0..<5] == [0x7F, 0x45, 0x4C, 0x46, 1] else {
      throw ToolError(
        "\(url.path) is no ELF32 file", why: "its first bytes are others", hint: "./adrosctl build kernel", code: ExitStatus.buildFailed)
    }
    func has(_ magic: [UInt8], every step: Int) -> Bool {
      stride(from: 0, to: 8192 - 12, by: step).contains { Array(bytes[$0..<($0 + 4)]) == magic }
    }
    if !has([0x02, 0xB0, 0xAD, 0x1B], every: 4) {
      throw ToolError(
        "the kernel is not Multiboot", why: "no header in the first 8 KiB of \(url.path)", hint: "check configs/linker",
        code: ExitStatus.buildFailed)
    }
  }
}

struct Build: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Builds the kernel and the programs.")
  @Argument(help: "kernel, userland or all") var part: Builder.Part = .all
  @Option(name: .shortAndLong, help: "debug (the kernel checks its locks) or release.") var configuration: Builder.Configuration = .release
  @Option(help: "i686.") var arch = "i686"
  @Flag(help: "Say why and how each part is built, and what came out.") var explain = false
  @OptionGroup var tracing: Tracing

  func validate() throws {
    guard arch == "i686" else { throw ValidationError("--arch \(arch) does not boot yet: i686 does") }
  }

  func run() async throws {
    try await reporting {
      if explain {
        for name in part == .all ? ["kernel", "userland"] : [part.rawValue] {
          Progress.say("\(name): " + Shell.quoted(try Builder.command(name, configuration)))
          let settings = try Builder.environment(name).sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
          Progress.say("  with " + settings.joined(separator: " ") + "; ADROS_SCRIPT_HASH changes with configs/linker")
        }
      }
      try await Builder.build(part, configuration, tracing: tracing)
      if explain, part != .userland, !tracing.dryRun { print(try await Size.table(Paths.kernel(configuration))) }
    }
  }
}
