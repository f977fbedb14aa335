import ArgumentParser
import Foundation
import ImageKit

struct Check: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The quick checks: formatting, the unsafe rule, forbidden instructions, lazy globals, portability, host tests.")

  func run() async throws {
    let results = Results()
    try await reporting {
      await results.check("check: swift-format lint") {
        _ = try await Shell.capture(
          [
            "swift", "format", "lint", "--strict", "--recursive", "--configuration", Paths.inTop(".swift-format").path,
            Paths.inTop("Sources").path, Paths.inTop("Tests").path, Paths.inTop("Package.swift").path,
          ], what: "formatting")
      }
      await results.check("check: unsafe tokens stay in trusted targets") { try UnsafeRule.check() }
      await results.check("check: the C cases have been run on Linux") { try LinuxOracle.checkRecord() }
      await results.check("check: docs/syscalls.md lists the calls there are") { try SyscallTable.check() }
      try await Builder.build(.kernel)
      await results.check("check: no SSE, MMX or x87 in the kernel") { try await KernelCode.checkInstructions() }
      await results.check("check: no lazy globals in the kernel") { try await KernelCode.checkLazyGlobals() }
      for triple in ["aarch64-none-none-elf", "riscv64-none-none-eabi"] {
        await results.check("check: pure libraries compile for \(triple)") { try await KernelCode.checkPortable(triple) }
      }
      try await HostTests.run(results)
    }
    print("\(results.passed) passed, \(results.failed) failed" + (results.skipped > 0 ? ", \(results.skipped) skipped" : ""))
    if results.failed > 0 { throw ExitCode(ExitStatus.testsFailed) }
  }
}

/// The list of system calls in the documentation, and those that the kernel knows.
enum SyscallTable {
  static func check() throws {
    let sources = Paths.inTop("Sources/Kernel")
    let dispatcher = try String(contentsOf: sources.appendingPathComponent("Syscalls/SyscallDispatcher.swift"), encoding: .utf8)
    let numbers = try String(contentsOf: sources.appendingPathComponent("SystemABI/SyscallNumber.swift"), encoding: .utf8)
    let all = Set(numbers.matches(of: /case `?(\w+)`? = \d+/).map { String($0.output.1) })
    // Those that are refused by name come last.
    guard let refusals = dispatcher.range(of: "// Obsolete, left out.") else {
      throw ToolError("the dispatcher has no list of what it refuses", why: "no `// Obsolete, left out.`", hint: "see docs/howto.md")
    }
    let refused = Set(dispatcher[refusals.upperBound...].matches(of: /\.(\w+)/).map { String($0.output.1) })
    let known = all.subtracting(refused)
    let text = try String(contentsOf: Paths.inTop("docs/syscalls.md"), encoding: .utf8)
    let parts = text.components(separatedBy: "## ")
    guard parts.count > 2 else { throw ToolError("docs/syscalls.md has no lists", why: "no headings", hint: "see docs/howto.md") }
    let listed = Set(parts[1].matches(of: /(\w+) \(\d+\)/).map { String($0.output.1) })
    let others = Set(parts[2...].joined().matches(of: /(\w+) \(\d+\)/).map { String($0.output.1) })
    let count = "\(known.count) of \(all.count) numbers are implemented"
    let missing = known.symmetricDifference(listed).union(others.intersection(known)).union(all.subtracting(listed).subtracting(others))
    if missing.isEmpty, text.contains(count) { return }
    throw ToolError("docs/syscalls.md is not up to date", why: missing.sorted().joined(separator: ", "), hint: "the line is: \(count)")
  }
}

/// Safe targets may not contain the words by which safety is given up; trusted files that do say why.
enum UnsafeRule {
  /// Folders below Sources whose code may spell `unsafe`.
  static let trusted = [
    "Kernel/Machine/", "Kernel/Sync/", "Kernel/Threads/", "Kernel/Entry/", "Kernel/Inspection/", "Kernel/CMachine/", "Userland/UserKit/",
    "Userland/CSystem/",
  ]
  static let tokens = ["unsafe", "@unchecked", "@safe", "@_extern", "Ounchecked"]

  static func check() throws {
    var problems: [String] = []
    for part in ["Kernel", "Userland"] {
      let top = Paths.inTop("Sources/" + part)
      guard let files = FileManager.default.enumerator(atPath: top.path) else { continue }
      for case let file as String in files where file.hasSuffix(".swift") {
        let text = try String(contentsOf: top.appendingPathComponent(file), encoding: .utf8)
        let isTrusted = trusted.contains { (part + "/" + file).hasPrefix($0) }
        var found = false
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
          let code = line.components(separatedBy: "//")[0]
          let words = code.split { !($0.isLetter || $0.isNumber || $0 == "_" || $0 == "@") }.map(String.init)
          guard let token = tokens.first(where: { words.contains($0) }) else { continue }
          found = true
          if !isTrusted { problems.append("Sources/\(part)/\(file):\(index + 1): \(token) in a safe target") }
        }
        if isTrusted, found, !text.contains("SAFETY:") { problems.append("Sources/\(part)/\(file): unsafe without a SAFETY: reason") }
      }
    }
    if !problems.isEmpty {
      throw ToolError("the unsafe rule is broken", why: problems.joined(separator: "\n"), hint: "move the code to a trusted target")
    }
  }
}

/// What must not be in the kernel's machine code.
enum KernelCode {
  static func checkInstructions() async throws {
    let text = try await Shell.capture(
      [
        "sh", "-c", "llvm-objdump -d --no-show-raw-insn \"$0\" | grep -E '%[xyz]mm|%mm[0-7]|\\bf(ld|st|ild|ist|add|sub|mul|div)' || true",
        Paths.kernel.path,
      ], what: "objdump")
    if !text.isEmpty { throw ToolError("floating point in the kernel", why: String(text.prefix(2000)), hint: "check configs/toolsets") }
  }

  /// A lazy global's initialiser spins: an interrupt that touches it meanwhile hangs the CPU.
  static func checkLazyGlobals() async throws {
    let text = try await Shell.capture(
      ["sh", "-c", "llvm-nm \"$0\" | grep -E ' [tTwW] .*_WZ$|swift_once' || true", Paths.kernel.path], what: "nm")
    if text.contains("_WZ") {
      throw ToolError("lazy globals in the kernel", why: text, hint: "use BootCell, or a value the compiler can fold")
    }
  }

  static func checkPortable(_ triple: String) async throws {
    _ = try await Shell.capture(
      [
        "swift", "build", "-c", "release", "--triple", triple, "--package-path", Paths.top.path, "--scratch-path",
        Paths.inTop(".build-" + triple).path, "--toolset", Paths.inTop("configs/toolsets/portable.json").path,
      ],
      environment: ["ADROS_PART": "portable"], what: "the pure libraries do not build for \(triple)", code: ExitStatus.buildFailed)
  }
}
