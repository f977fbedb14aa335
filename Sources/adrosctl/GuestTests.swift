import Foundation
import ImageKit

/// Shell scripts under Tests/Guest/<family>/NN-name.sh, run inside the guest. A case passes with status 0.
enum GuestTests {
  static var folder: URL { Paths.inTop("Tests/Guest") }

  /// Case names: family/NN-name.
  static func names(_ filters: [String]) throws -> [String] {
    var names: [String] = []
    for family in try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() {
      let path = folder.appendingPathComponent(family).path
      var isFolder: ObjCBool = false
      guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue else { continue }
      for file in try FileManager.default.contentsOfDirectory(atPath: path).sorted() where file.hasSuffix(".sh") {
        names.append(family + "/" + file.dropLast(3))
      }
    }
    return filters.isEmpty ? names : names.filter { name in filters.contains { name.contains($0) } }
  }

  /// One boot: all cases, results as KTAP on the second serial port, then e2fsck of the disk they wrote to.
  static func run(_ results: Results, processors: Int, filters: [String], timeout: Double) async throws {
    let names = try names(filters)
    for interface in processors == 1 ? ["virtio", "ide"] : ["virtio"] {
      let title = "guest smp \(processors) \(interface)"
      Progress.say("\(title): \(names.count) cases")
      let image = try makeImage(names)
      let log = Paths.output.appendingPathComponent("guest-\(processors)-\(interface).log")
      let output = Paths.output.appendingPathComponent("guest-\(processors)-\(interface).tap")
      try Data().write(to: output)
      var machine = VirtualMachine(kernel: Paths.kernel, log: log)
      machine.initramfs = try RootImage.makeInitramfs(command: ["/bin/sh", "/tests/run.sh"])
      machine.processors = processors
      machine.disks = [(image.path, interface)]
      machine.persist = true
      machine.interactive = false
      machine.results = output
      machine.commandLine = ["quiet", "root=/dev/" + (interface == "ide" ? "hda" : "vda")]
      let console = Paths.output.appendingPathComponent("guest-\(processors)-\(interface).console")
      let outcome = try await Shell.run(machine.arguments, log: console, timeout: timeout)
      try? FileManager.default.removeItem(at: machine.initramfs!)
      let text = (try? String(decoding: Data(contentsOf: output), as: UTF8.self)) ?? ""
      try await judge(results, title, names, text, Ending.judge(outcome, log: log), log)
      await results.check("\(title): the disk is clean for e2fsck") {
        _ = try await Shell.capture(["e2fsck", "-fn", image.path], what: "e2fsck finds errors")
      }
    }
  }

  private static func makeImage(_ names: [String]) throws -> URL {
    var extra = RootTree()
    extra.add(RootEntry(path: "/tests/run.sh", kind: .file(folder.appendingPathComponent("run.sh")), mode: 0o755))
    extra.add(RootEntry(path: "/tests/lib.sh", kind: .file(folder.appendingPathComponent("lib.sh")), mode: 0o644))
    extra.add(RootEntry(path: "/tests/list", kind: .data(Array((names.joined(separator: "\n") + "\n").utf8)), mode: 0o644))
    for name in names {
      extra.add(RootEntry(path: "/tests/\(name).sh", kind: .file(folder.appendingPathComponent(name + ".sh")), mode: 0o755))
    }
    return try RootImage.make(extra: extra, name: "guest.ext2")
  }

  /// A short plan, silence, a panic or a timeout fail every case that did not report.
  private static func judge(_ results: Results, _ title: String, _ names: [String], _ text: String, _ ending: Ending, _ log: URL)
    async throws
  {
    var seen: Set<String> = []
    var detail: [String] = []
    for line in text.split(whereSeparator: \.isNewline).map(String.init) {
      if line.hasPrefix("# ") { detail.append(line) }
      guard let match = line.firstMatch(of: /^(ok|not ok) \d+ - (\S+)/) else { continue }
      let name = String(match.output.2)
      seen.insert(name)
      results.add("\(title): \(name)", passed: match.output.1 == "ok", detail.joined(separator: "\n"))
      detail = []
    }
    let missing = names.filter { !seen.contains($0) }
    if !missing.isEmpty {
      let tail = Ending.tail(log)
      let symbols = (try? await Symbolize.symbolize(tail)) ?? ""
      let first = missing[0]
      results.add("\(title): \(first)", passed: false, "no result (\(ending))\n\(tail)\n\(symbols)")
      for name in missing.dropFirst() { results.add("\(title): \(name)", passed: false, "not reached") }
    } else if case .powerOff(0) = ending {
    } else {
      results.add("\(title): clean power-off", passed: false, "\(ending)\n\(Ending.tail(log))")
    }
  }
}
