import ArgumentParser
import Foundation
import ImageKit

extension ImageError: ImageErrorProtocol { var text: String { description } }

/// Builds the parts of the system through SwiftPM.
enum Builder {
  enum Part: String, CaseIterable, ExpressibleByArgument {
    case kernel, userland, all
  }

  static func build(_ part: Part) async throws {
    if part != .userland { try await step("kernel") { try await swiftBuild("kernel") } }
    if part != .kernel { try await step("userland") { try await swiftBuild("userland") } }
    if part != .userland { try KernelCheck.check(Paths.kernel) }
  }

  private static func step(_ name: String, _ body: () async throws -> Void) async throws {
    let start = Date()
    try await body()
    Progress.say("build \(name) … ok \(String(format: "%.1f", Date().timeIntervalSince(start)))s")
  }

  /// One SwiftPM call a part and a scratch folder each: they have different flags.
  static func swiftBuild(_ part: String, triple: String = "i686-unknown-none-elf", scratch: String? = nil) async throws {
    let toolset = "configs/toolsets/\(part)-i686.json"
    let command = [
      "swift", "build", "-c", "release", "--triple", triple, "--toolset", Paths.inTop(toolset).path, "--package-path",
      Paths.top.path, "--scratch-path", Paths.inTop(scratch ?? ".build-\(part)-i686").path,
    ]
    _ = try await Shell.capture(
      command, environment: ["ADROS_PART": part, "ADROS_SCRIPT_HASH": try scriptHash()], what: "the \(part) does not build",
      code: Exit.buildFailed)
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
      throw ToolError("there is no kernel", why: "\(url.path) is missing", hint: "./adrosctl build", code: Exit.buildFailed)
    }
    let bytes = [UInt8](data.prefix(8192))
    guard bytes[0...4] == [0x7F, 0x45, 0x4C, 0x46, 1] else {
      throw ToolError(
        "\(url.path) is no ELF32 file", why: "its first bytes are others", hint: "./adrosctl build kernel", code: Exit.buildFailed)
    }
    let magic: [UInt8] = [0x02, 0xB0, 0xAD, 0x1B]
    let found = stride(from: 0, to: 8192 - 12, by: 4).contains { Array(bytes[$0..<($0 + 4)]) == magic }
    if !found {
      throw ToolError(
        "the kernel is not Multiboot", why: "no header in the first 8 KiB of \(url.path)", hint: "check configs/linker",
        code: Exit.buildFailed)
    }
  }
}

struct Build: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Builds the kernel and the programs.")
  @Argument(help: "kernel, userland or all") var part: Builder.Part = .all

  func run() async throws { try await reporting { try await Builder.build(part) } }
}
