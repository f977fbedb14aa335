import Foundation
import ImageKit

/// The C cases on Linux: Debian's i686 kernel boots our own initramfs, whose runner runs every case there. What it says is
/// recorded beside the cases, so that what they expect is Linux's and not ours.
enum LinuxOracle {
  static var record: URL { GuestTests.folder.appendingPathComponent("C/linux.txt") }
  /// Not run there: what is meant for a kernel whose end is a finding, and what needs the second disk and a module of it.
  private static let excluded = ["c/fuzz/", "c/fat/", "c/loop/", "c/hostile/", "c/model/on_fat", "c/model/on_small_blocks"]
  /// Where this Linux is not what we follow, and why.
  private static let differences = [
    "c/splice/splice_loses_nothing": "until 6.5 a full Unix socket takes what is spliced to it, without a limit",
    "c/overlay/files_without_names": "in 6.1 a file that has lost its name cannot come up: EEXIST",
    "c/files/mapped_writes_count": "its disk is memory here, where mapped writes change no times; on a disk Linux 6.18 passes",
    "c/files/advice": "its disk is memory here, and nothing leaves that; on a disk Linux 6.18 passes",
    "c/files/past_the_cache": "its disk is memory here, which 6.1 does not read past a cache; on a disk Linux 6.18 passes",
    "c/files/growing_together": "its disk is memory here, where files have no places; on a disk Linux 6.18 passes",
    "c/serial/hardware_flow": "Linux waits for an interrupt that tells of CTS, which QEMU's loop does not give",
    "c/serial/no_echo_of_an_echo": "Linux echoes it for ever",
    "c/xattr/of_users": noUserAttributes, "c/xattr/of_users_in_memory": noUserAttributes, "c/xattr/room": noUserAttributes,
    "c/xattr/at_once": noUserAttributes, "c/xattr/with_the_host": noUserAttributes,
  ]
  private static let noUserAttributes = "until 6.6 users have no extended attributes in tmpfs"

  /// Runs the cases that `results` selects; a whole run is recorded.
  static func run(_ results: Results, timeout: Double) async throws {
    guard let programs = try await CPrograms.build() else {
      return results.skip("linux: C cases", "no 32-bit gcc: apt-get install gcc-multilib libc6-dev-i386")
    }
    var cases: [GuestTests.Case] = []
    for program in programs { cases += try await CPrograms.cases(program) }
    cases.removeAll { item in excluded.contains { item.name.hasPrefix($0) } }
    let total = cases.count
    cases = cases.filter { results.selects($0.name) }
    guard !cases.isEmpty else { return }
    let kernel: URL
    do { kernel = try await Debian.kernel() } catch let error as ToolError {
      return results.skip("linux: C cases", "no registry answers: \(error.what)")
    }
    let log = try Paths.scratch("linux.log")
    let output = try Paths.scratch("linux.tap")
    try Data().write(to: output)
    let initramfs = try Paths.scratch("linux.cpio")
    try Data(CpioArchive.make(tree(cases, programs, kernel))).write(to: initramfs)
    var machine = VirtualMachine(loader: .kernel(kernel, initramfs: initramfs), log: log)
    machine.settings.memory = 1024
    machine.settings.processors = 2
    machine.interactive = false
    machine.results = output
    // The VESA mode of 800 by 600 points of 32 bits.
    machine.commandLine = ["console=ttyS0", "quiet", "panic=-1", "lsm=capability", "vga=0x343"]
    let console = try Paths.scratch("linux.console")
    let arguments = machine.arguments
    _ = try await Progress.step("Linux: \(cases.count) cases") { try await Shell.run(arguments, log: console, timeout: timeout) }
    let outcomes = outcomes(String(decoding: try Data(contentsOf: output), as: UTF8.self), cases)
    for item in cases {
      let outcome = outcomes[item.name] ?? "no result"
      if let reason = differences[item.name] {
        results.skip("linux: \(item.name)", reason)
      } else {
        results.add("linux: \(item.name)", passed: outcome == "passes", outcome)
      }
    }
    if cases.count == total {
      let lines = cases.map { "\($0.name): \(outcomes[$0.name] ?? "no result")\n" }
      let text = "# What the C cases say on Linux, written by `./adrosctl test linux`.\n# \(kernel.lastPathComponent)\n" + lines.joined()
      try Data(text.utf8).write(to: record)
    }
  }

  /// Every case has been run there, and does what Linux does or has its reason not to.
  static func checkRecord() throws {
    let text = try String(contentsOf: record, encoding: .utf8)
    var outcomes: [String: String] = [:]
    for line in text.split(separator: "\n") where !line.hasPrefix("#") {
      let parts = line.split(separator: ":", maxSplits: 1)
      if parts.count == 2 { outcomes[String(parts[0])] = parts[1].trimmingCharacters(in: .whitespaces) }
    }
    var problems: [String] = []
    for name in try sourceNames() where differences[name] == nil && !excluded.contains(where: { name.hasPrefix($0) }) {
      if let outcome = outcomes[name] {
        if outcome != "passes" { problems.append("\(name) \(outcome)") }
      } else {
        problems.append("\(name) has not been run on Linux")
      }
    }
    guard problems.isEmpty else {
      throw ToolError("cases differ from Linux", why: problems.joined(separator: "\n"), hint: "./adrosctl test linux")
    }
  }

  /// The cases by their sources: a check needs no 32-bit compiler.
  private static func sourceNames() throws -> [String] {
    let folder = GuestTests.folder.appendingPathComponent("C")
    var names: [String] = []
    for file in try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() where file.hasSuffix(".c") {
      let source = try String(contentsOf: folder.appendingPathComponent(file), encoding: .utf8)
      for match in source.matches(of: /(?m)^(?:LIMITED_)?CASE\((\w+)/) { names.append("c/\(file.dropLast(2))/\(match.output.1)") }
    }
    return names
  }

  private static func tree(_ cases: [GuestTests.Case], _ programs: [URL], _ kernel: URL) throws -> RootTree {
    var tree = try RootImage.tree()
    tree.add(RootEntry(path: "/init", kind: .file(Paths.program("init")), mode: 0o755))
    tree.add(RootEntry(path: "/command", kind: .data(Array("/tests/caserunner".utf8) + [0]), mode: 0o644))
    tree.add(RootEntry(path: "/tests/caserunner", kind: .file(Paths.program("caserunner")), mode: 0o755))
    // What Debian's kernel has as modules; the cases load them.
    for module in ["overlay.ko", "evdev.ko"] {
      let file = kernel.deletingLastPathComponent().appendingPathComponent("../\(module)").standardizedFileURL
      tree.add(RootEntry(path: "/lib/\(module)", kind: .file(file), mode: 0o644))
    }
    let list = cases.map { "\($0.limit) \($0.action)\n" }.joined()
    tree.add(RootEntry(path: "/tests/list", kind: .data(Array(list.utf8)), mode: 0o644))
    for program in programs { tree.add(RootEntry(path: "/tests/c/\(program.lastPathComponent)", kind: .file(program), mode: 0o755)) }
    return tree
  }

  /// By case: `passes`, or what failed.
  private static func outcomes(_ text: String, _ cases: [GuestTests.Case]) -> [String: String] {
    var outcomes: [String: String] = [:]
    var detail: [String] = []
    for line in text.split(whereSeparator: \.isNewline).map(String.init) {
      if line.hasPrefix("# running") { detail = [] } else if line.hasPrefix("# ") { detail.append(String(line.dropFirst(2))) }
      guard let match = line.firstMatch(of: /^(ok|not ok) \d+ - (.+)$/), let item = cases.first(where: { $0.action == match.output.2 })
      else {
        continue
      }
      let why = detail.first?.replacing(/^.*Tests\/Guest\/C\//, with: "") ?? "no reason"
      outcomes[item.name] = match.output.1 == "ok" ? "passes" : "fails: \(why)"
    }
    return outcomes
  }
}
