import Foundation
import ImageKit

/// Cases that run inside the guest, each in a process of its own with a limit of guest time.
///
/// Shell cases are `Tests/Guest/<family>/NN-name.sh`; C cases are the `CASE`s of `Tests/Guest/C/<family>.c`, static i386
/// programs that run on this machine's Linux too: what they expect is what Linux does.
enum GuestTests {
  static var folder: URL { Paths.inTop("Tests/Guest") }
  /// Guest seconds a case may take, unless its file says `# limit: N` or `LIMIT(N)`.
  static let defaultLimit = 60

  struct Case {
    var name: String
    /// What the runner executes: `sh FAMILY/NAME` or `c FAMILY NAME`.
    var action: String
    var limit: Int
  }

  /// Names for --list: family/NN-name and c/family/name.
  static func names() async throws -> [String] {
    var names = try shellCases().map(\.name)
    if let programs = try await CPrograms.build() { for program in programs { names += try await CPrograms.cases(program).map(\.name) } }
    return names
  }

  private static func shellCases() throws -> [Case] {
    var cases: [Case] = []
    let manager = FileManager.default
    for family in try manager.contentsOfDirectory(atPath: folder.path).sorted() {
      guard let files = try? manager.contentsOfDirectory(atPath: folder.appendingPathComponent(family).path) else { continue }
      for file in files.sorted() where file.hasSuffix(".sh") {
        let name = family + "/" + file.dropLast(3)
        let text = try String(contentsOf: folder.appendingPathComponent(family + "/" + file), encoding: .utf8)
        let limit = text.firstMatch(of: /# limit: (\d+)/).flatMap { Int($0.output.1) } ?? defaultLimit
        cases.append(Case(name: name, action: "sh \(name)", limit: limit))
      }
    }
    return cases
  }

  /// One boot: all cases, results as KTAP on the second serial port, then e2fsck of the disk they wrote to.
  static func run(_ results: Results, processors: Int, timeout: Double, torture: Bool) async throws {
    var cases = try shellCases()
    var programs: [String: URL] = [:]
    if let built = try await CPrograms.build() {
      for program in built {
        cases += try await CPrograms.cases(program)
        programs[program.lastPathComponent] = program
      }
    } else {
      results.skip("guest smp \(processors): C cases", "no 32-bit gcc: apt-get install gcc-multilib libc6-dev-i386")
    }
    cases = cases.filter { results.selects($0.name) }
    if cases.isEmpty { return }
    if torture { for index in cases.indices { cases[index].limit *= 20 } }
    for kind in Boot.kinds(processors) {
      let boot = Boot(processors: processors, kind: kind, cases: cases, programs: programs, timeout: timeout, torture: torture)
      try await boot.run(results)
      if results.shouldStop { return }
    }
  }
}

/// One boot of the guest with a list of cases.
private struct Boot {
  /// Disk interface, kernel and the root's file system.
  typealias Kind = (interface: String, configuration: Builder.Configuration, root: ImageVolume.Kind)

  /// One processor tries both kinds of disk, and the interrupt controllers of a PC without an APIC. Several try both kernels: the one
  /// that checks its locks and its heap, with diskfs as its root, and the one that people run, where races have other timing and the
  /// optimiser sees through the locks.
  static func kinds(_ processors: Int) -> [Kind] {
    processors == 1
      ? [("virtio", .release, .ext2), ("ide", .release, .ext2)] : [("virtio", .debug, .diskfs), ("virtio", .release, .ext2)]
  }

  var processors: Int
  var kind: Kind
  var cases: [GuestTests.Case]
  var programs: [String: URL]
  var timeout: Double
  var torture: Bool

  private var name: String { "\(processors)-\(kind.interface)" + (kind.configuration == .debug ? "-checked" : "") }
  private var rootType: String { kind.root == .diskfs ? "diskfs" : "ext2" }
  private var title: String { "guest smp " + name.replacing("-", with: " ") }

  func run(_ results: Results) async throws {
    try await Builder.build(.kernel, kind.configuration)
    let image = try await makeImage()
    let prefix = "guest-" + name
    let log = try Paths.scratch(prefix + ".log")
    let output = try Paths.scratch(prefix + ".tap")
    let console = try Paths.scratch(prefix + ".console")
    for file in [log, output] { try Data().write(to: file) }
    let initramfs = try RootImage.makeInitramfs(command: ["/tests/caserunner"])
    defer { try? FileManager.default.removeItem(at: initramfs) }
    var machine = VirtualMachine(loader: .kernel(Paths.kernel(kind.configuration), initramfs: initramfs), log: log)
    machine.settings.processors = processors
    // And have memory beyond the kernel's direct map, where pages come from first.
    if processors > 1 { machine.settings.memory = 1024 }
    var disk = VirtualMachine.Disk(file: image.path, interface: kind.interface, snapshot: false)
    disk.disposable = true
    let volumes = try await SecondDisk.make(name: "guest-\(name).second")
    machine.disks = [disk, .init(file: volumes.file.path, interface: kind.interface, snapshot: false)]
    machine.interactive = false
    machine.results = output
    machine.commandLine = ["quiet", "video=800x600", "root=/dev/" + (kind.interface == "ide" ? "hda" : "vda"), "rootfstype=" + rootType]
    // QEMU 7.2 with an APIC that `noapic` leaves alone does not always tell a processor that loops in one jump of the 8259's
    // interrupts (the request is set, but the loop is not left): what is tested is the machine that never had one.
    if kind.interface == "ide" { machine.settings.cpu = "max,-apic" }
    let outcome = try await Progress.step("\(title): \(cases.count) cases") {
      try await Shell.run(machine.arguments, log: console, timeout: timeout)
    }
    let text = (try? String(decoding: Data(contentsOf: output), as: UTF8.self)) ?? ""
    try await judge(results, text, Ending.judge(outcome, log: log), log)
    await results.check("\(title): processors") {
      let found = (try? String(contentsOf: log, encoding: .utf8))?.firstMatch(of: /processors: (\d+)/)?.output.1
      guard found == "\(processors)" else {
        throw ToolError("the guest ran on \(found ?? "an unknown number of") processors", why: log.path, hint: "see the kernel's log")
      }
    }
    if cases.contains(where: { $0.name == "files/09-kept-for-the-host" }) {
      await results.check("\(title): 10 MB written in the guest are the same here") {
        guard try await ImageVolume.find(in: image.path).read("/var/kept") == Data(Self.pattern) else {
          throw ToolError("/var/kept differs", why: image.path, hint: "./adrosctl image cat")
        }
      }
    }
    if cases.contains(where: { $0.name == "c/xattr/with_the_host" }) {
      await results.check("\(title): extended attributes of the guest are read here") {
        for (name, value) in Self.attributes + [("kept", "for the host")] {
          let found =
            kind.root == .diskfs
            ? try DiskImage.attribute(name, of: "/tests/lib.sh", in: image.path) ?? ""
            : try await Shell.capture(
              ["debugfs", "-R", "ea_get -V /tests/lib.sh user.\(name)", image.path], what: "debugfs reads no attribute")
          guard found.contains(value) else { throw ToolError("user.\(name) is not \(value)", why: found, hint: image.path) }
        }
      }
    }
    await results.check("\(title): the second disk is clean for fsck.fat and e2fsck") {
      try await volumes.check(kept: cases.contains { $0.name == "c/fat/with_the_host" })
    }
    await results.check("\(title): the disk is clean for \(kind.root == .ext2 ? "e2fsck" : "a check of all of it")") {
      _ = try await ImageVolume.find(in: image.path).check()
    }
  }

  /// What the host gives a file: for ext2 one that fits into its inode, and one that needs a block.
  private static let attributes = [("inside", "in-the-inode"), ("beside", String(repeating: "b", count: 200))]
  private static let pattern = (0..<10_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 11) }

  private func makeImage() async throws -> URL {
    var extra = RootTree()
    extra.add(RootEntry(path: "/tests/caserunner", kind: .file(Paths.program("caserunner")), mode: 0o755))
    extra.add(RootEntry(path: "/tests/lib.sh", kind: .file(GuestTests.folder.appendingPathComponent("lib.sh")), mode: 0o644))
    extra.add(RootEntry(path: "/tests/pattern", kind: .data(Self.pattern), mode: 0o644))
    if cases.contains(where: { $0.name.hasPrefix("c/hostile/") }) { try await HostileVolumes.add(to: &extra) }
    let list = cases.map { "\($0.limit) \($0.action)\n" }.joined()
    extra.add(RootEntry(path: "/tests/list", kind: .data(Array(list.utf8)), mode: 0o644))
    if torture { extra.add(RootEntry(path: "/tests/torture", kind: .data([]), mode: 0o644)) }
    for item in cases where item.action.hasPrefix("sh ") {
      extra.add(
        RootEntry(path: "/tests/\(item.name).sh", kind: .file(GuestTests.folder.appendingPathComponent(item.name + ".sh")), mode: 0o755))
    }
    for (name, url) in programs { extra.add(RootEntry(path: "/tests/c/\(name)", kind: .file(url), mode: 0o755)) }
    let image = try RootImage.make(extra: extra, name: "guest-\(name).\(rootType)", kind: kind.root, megabytes: 80)
    for (name, value) in Self.attributes {
      if kind.root == .diskfs {
        try DiskImage.setAttribute(name, of: "/tests/lib.sh", to: value, in: image.path)
      } else {
        try await Shell.capture(
          ["debugfs", "-w", "-R", "ea_set /tests/lib.sh user.\(name) \(value)", image.path], what: "debugfs sets no attribute")
      }
    }
    return image
  }

  /// A short plan, silence, a panic or a timeout fail every case that did not report.
  private func judge(_ results: Results, _ text: String, _ ending: Ending, _ log: URL) async throws {
    var seen: Set<String> = []
    var detail: [String] = []
    for line in text.split(whereSeparator: \.isNewline).map(String.init) {
      if line.hasPrefix("# ") { detail.append(line) }
      guard let match = line.firstMatch(of: /^(ok|not ok) \d+ - (.+)$/) else { continue }
      let action = String(match.output.2)
      guard let item = cases.first(where: { $0.action == action }) else { continue }
      seen.insert(item.name)
      results.add("\(title): \(item.name)", passed: match.output.1 == "ok", detail.joined(separator: "\n"))
      detail = []
    }
    let missing = cases.map(\.name).filter { !seen.contains($0) }
    guard missing.isEmpty else {
      let tail = Ending.tail(log)
      let symbols = (try? await Symbolize.symbolize(tail, kernel: Paths.kernel(kind.configuration))) ?? ""
      results.add("\(title): \(missing[0])", passed: false, "no result (\(ending))\n\(tail)\n\(symbols)")
      for name in missing.dropFirst() { results.add("\(title): \(name)", passed: false, "not reached") }
      return
    }
    if ending != .powerOff(status: 0) { results.add("\(title): clean power-off", passed: false, "\(ending)\n\(Ending.tail(log))") }
  }
}

/// The C cases, built as static i386 programs.
enum CPrograms {
  private static var folder: URL { GuestTests.folder.appendingPathComponent("C") }

  /// Builds what is older than its source; nil without a 32-bit C compiler.
  static func build() async throws -> [URL]? {
    let target = try Paths.scratch("c")
    try FileManager.default.createDirectory(at: target, withIntermediateDirectories: true)
    let probe = try await Shell.run([
      "sh", "-c", "echo 'int main(){}' | gcc -m32 -static -x c -o \"$0\" - 2>/dev/null", target.path + "/.probe",
    ])
    guard probe.status == 0 else { return nil }
    var result: [URL] = []
    let header = folder.appendingPathComponent("test.h")
    for file in try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() where file.hasSuffix(".c") {
      let source = folder.appendingPathComponent(file)
      let program = target.appendingPathComponent(String(file.dropLast(2)))
      result.append(program)
      if let made = modified(program), let changed = modified(source), let shared = modified(header), made > max(changed, shared) {
        continue
      }
      try await Shell.capture(
        ["gcc", "-m32", "-static", "-O1", "-g0", "-Wall", "-Werror", "-std=gnu17", "-pthread", "-o", program.path, source.path, "-lrt"],
        what: "Tests/Guest/C/\(file) does not compile", code: ExitStatus.buildFailed)
    }
    return result
  }

  private static func modified(_ url: URL) -> Date? {
    (try? FileManager.default.attributesOfItem(atPath: url.path))?[.modificationDate] as? Date
  }

  /// What a program says its cases are: it runs on this machine too.
  static func cases(_ program: URL) async throws -> [GuestTests.Case] {
    let family = program.lastPathComponent
    let text = try await Shell.capture([program.path, "--list"], what: "\(family) does not list its cases")
    return text.split(separator: "\n").compactMap { line in
      let words = line.split(separator: " ")
      guard words.count == 2, let limit = Int(words[1]) else { return nil }
      return GuestTests.Case(name: "c/\(family)/\(words[0])", action: "c \(family) \(words[0])", limit: limit)
    }
  }
}
