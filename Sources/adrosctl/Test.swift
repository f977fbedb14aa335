import ArgumentParser
import Foundation
import ImageKit

struct Test: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Runs the tests: host, image and guest.")
  enum Kind: String, CaseIterable, ExpressibleByArgument { case host, image, guest, programs, all }
  enum Report: String, CaseIterable, ExpressibleByArgument { case tap, json }

  @Argument(help: "host, image, guest, programs or all") var kind: Kind = .all
  @Argument(help: "Only guest cases whose name contains one of these.") var filters: [String] = []
  @Option(help: "Processor counts for the guest tests.") var smp = "1,4"
  @Option(help: "Seconds a boot may take.") var timeout = 300.0
  @Flag(help: "List the guest cases.") var list = false
  @Option(help: "tap or json on standard output instead of progress only.") var report: Report?

  func run() async throws {
    if list {
      for name in try GuestTests.names(filters) { print(name) }
      return
    }
    let results = Results()
    try await reporting {
      if kind == .host || kind == .all { try await HostTests.run(results) }
      if kind != .host { try await Builder.build(.all) }
      if kind == .image || kind == .all { try await ImageTests.run(results) }
      if kind == .guest || kind == .all {
        for count in smp.split(separator: ",").compactMap({ Int($0) }) {
          try await GuestTests.run(results, processors: count, filters: filters, timeout: timeout)
        }
      }
      if kind == .programs || kind == .all { try await ProgramTests.run(results, timeout: timeout) }
    }
    results.print(report)
    if results.failed > 0 || results.passed == 0 { throw ExitCode(Exit.testsFailed) }
  }
}

/// What passed, failed and was skipped.
final class Results {
  struct Item: Codable {
    var name: String
    var outcome: String
    var detail: String
  }
  private(set) var items: [Item] = []
  var passed: Int { items.count { $0.outcome == "passed" } }
  var failed: Int { items.count { $0.outcome == "failed" } }
  var skipped: Int { items.count { $0.outcome == "skipped" } }

  func add(_ name: String, passed: Bool, _ detail: String = "") {
    items.append(Item(name: name, outcome: passed ? "passed" : "failed", detail: detail))
    if !passed { Progress.say("FAILED \(name)" + (detail.isEmpty ? "" : "\n\(detail)")) }
  }
  func skip(_ name: String, _ reason: String) {
    items.append(Item(name: name, outcome: "skipped", detail: reason))
    Progress.say("skipped \(name): \(reason)")
  }

  func print(_ report: Test.Report?) {
    switch report {
    case .tap:
      Swift.print("1..\(items.count)")
      for (index, item) in items.enumerated() {
        Swift.print(
          "\(item.outcome == "failed" ? "not ok" : "ok") \(index + 1) - \(item.name)"
            + (item.outcome == "skipped" ? " # SKIP \(item.detail)" : ""))
      }
    case .json:
      if let data = try? JSONEncoder().encode(items) { Swift.print(String(decoding: data, as: UTF8.self)) }
    case nil: break
    }
    Swift.print("\(passed) passed, \(failed) failed" + (skipped > 0 ? ", \(skipped) skipped" : ""))
  }
}

/// `swift test` over the pure libraries.
enum HostTests {
  static func run(_ results: Results) async throws {
    let log = FileManager.default.temporaryDirectory.appendingPathComponent(
      "adros-host-tests-\(ProcessInfo.processInfo.processIdentifier).log")
    let outcome = try await Shell.run(
      ["swift", "test", "--package-path", Paths.top.path, "--scratch-path", Paths.inTop(".build-test").path], log: log)
    let text = (try? String(contentsOf: log, encoding: .utf8)) ?? ""
    var count = 0
    for match in text.matches(of: /Test (\w+\([^)]*\)) (?:with \d+ test cases? )?(passed|failed) after/) {
      results.add("host: \(match.output.1)", passed: match.output.2 == "passed")
      count += 1
    }
    if outcome.status != 0 || count == 0 {
      results.add("host: swift test", passed: false, text.split(separator: "\n").suffix(40).joined(separator: "\n"))
    }
  }
}

/// Images made by ImageKit, judged by e2fsck and debugfs.
enum ImageTests {
  static func run(_ results: Results) async throws {
    let folder = Paths.output
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let path = folder.appendingPathComponent("image-test.ext2").path
    let image = Ext2Image(time: 1_700_000_000, label: "test", size: nil)
    await results.check("image: root tree is clean for e2fsck and the same twice") {
      try image.write(try RootImage.tree(), to: path)
      let first = try Data(contentsOf: URL(fileURLWithPath: path))
      try image.write(try RootImage.tree(), to: path)
      if try Data(contentsOf: URL(fileURLWithPath: path)) != first { throw ToolError("two images differ", why: "same input", hint: "") }
      _ = try await Shell.capture(["e2fsck", "-fn", path], what: "e2fsck finds errors")
    }
    await results.check("image: files, links, devices, owners and large directories") {
      var tree = RootTree()
      for index in 0..<500 {
        tree.add(RootEntry(path: "/many/file\(index)", kind: .data(Array("\(index)".utf8)), mode: 0o640, owner: 1000, group: 70000))
      }
      tree.add(RootEntry(path: "/long", kind: .link(String(repeating: "x", count: 200)), mode: 0o777))
      tree.add(RootEntry(path: "/big", kind: .data([UInt8](repeating: 7, count: 5_000_000)), mode: 0o600))
      tree.add(RootEntry(path: "/null", kind: .character(major: 1, minor: 3), mode: 0o666))
      try image.write(tree, to: path)
      _ = try await Shell.capture(["e2fsck", "-fn", path], what: "e2fsck finds errors")
      let text = try await Shell.capture(["debugfs", "-R", "stat /many/file7", path], what: "debugfs")
      if !text.contains("User:  1000") || !text.contains("Group: 70000") { throw ToolError("owner lost", why: text, hint: "") }
    }
    await results.check("image: a full image is an error and leaves nothing") {
      var tree = RootTree()
      tree.add(RootEntry(path: "/big", kind: .data([UInt8](repeating: 7, count: 4_000_000)), mode: 0o600))
      let small = folder.appendingPathComponent("small.ext2").path
      do {
        try Ext2Image(time: 0, label: "small", size: 2 << 20).write(tree, to: small)
        throw ToolError("a 4 MB file went into 2 MiB", why: "no error", hint: "")
      } catch is ImageError {}
      if FileManager.default.fileExists(atPath: small) || FileManager.default.fileExists(atPath: small + ".partial") {
        throw ToolError("half an image is left", why: small, hint: "")
      }
    }
    try? FileManager.default.removeItem(atPath: path)
  }
}

extension Results {
  /// A case that fails by throwing.
  func check(_ name: String, _ body: () async throws -> Void) async {
    do {
      try await body()
      add(name, passed: true)
    } catch let error as ToolError { add(name, passed: false, "\(error.what): \(error.why)") } catch {
      add(name, passed: false, "\(error)")
    }
  }
}
