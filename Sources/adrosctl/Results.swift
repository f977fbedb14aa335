import ArgumentParser
import Foundation
import ImageKit

/// What passed, failed and was skipped.
final class Results {
  struct Item: Codable {
    enum Outcome: String, Codable { case passed, failed, skipped }
    var name: String
    var outcome: Outcome
    var detail: String
    var seconds: Double
  }
  /// Thrown after a failure under --fail-fast.
  struct Stop: Error {}

  private(set) var items: [Item] = []
  private let failFast: Bool
  private let filters: [String]
  private var last = Date()

  init(failFast: Bool = false, filters: [String] = []) {
    self.failFast = failFast
    self.filters = filters
  }

  var passed: Int { items.count { $0.outcome == .passed } }
  var failed: Int { items.count { $0.outcome == .failed } }
  var skipped: Int { items.count { $0.outcome == .skipped } }
  var shouldStop: Bool { failFast && failed > 0 }

  /// Whether the filters let a case through.
  func selects(_ name: String) -> Bool { filters.isEmpty || filters.contains { name.contains($0) } }

  private func append(_ name: String, _ outcome: Item.Outcome, _ detail: String) {
    items.append(Item(name: name, outcome: outcome, detail: detail, seconds: Date().timeIntervalSince(last)))
    last = Date()
  }

  func add(_ name: String, passed: Bool, _ detail: String = "") {
    append(name, passed ? .passed : .failed, detail)
    if !passed { Progress.say(Progress.coloured("FAILED", 31) + " \(name)" + (detail.isEmpty ? "" : "\n\(detail)")) }
  }

  func skip(_ name: String, _ reason: String) {
    append(name, .skipped, reason)
    Progress.say(Progress.coloured("skipped", 33) + " \(name): \(reason)")
  }

  /// A case that fails by throwing, if the filters want it.
  func check(_ name: String, _ body: () async throws -> Void) async {
    guard selects(name), !shouldStop else { return }
    do {
      try await body()
      add(name, passed: true)
    } catch let error as ToolError {
      // A tool that is not installed is no failure of ours, and no pass either.
      if error.code == ExitStatus.missingTool { return skip(name, error.what) }
      add(name, passed: false, "\(error.what): \(error.why)")
    } catch { add(name, passed: false, "\(error)") }
  }

  /// Runs one kind of tests; an error of its set-up is a failure with that name.
  func stage(_ name: String, _ body: () async throws -> Void) async throws(Stop) {
    do { try await body() } catch let error as ToolError { add("\(name): set-up", passed: false, error.description) } catch {
      add("\(name): set-up", passed: false, "\(error)")
    }
    if shouldStop { throw Stop() }
  }
}

/// `--report FORMAT[:FILE]`.
struct Report: ExpressibleByArgument {
  enum Format: String, CaseIterable { case tap, junit, json, html }
  var format: Format
  var file: String?

  init?(argument: String) {
    let parts = argument.split(separator: ":", maxSplits: 1).map(String.init)
    guard let first = parts.first, let format = Format(rawValue: first) else { return nil }
    self.format = format
    file = parts.count > 1 ? parts[1] : nil
  }

  func write(_ results: Results) throws {
    let text = try text(results.items)
    guard let file else { return print(text) }
    do { try Data((text + "\n").utf8).write(to: URL(fileURLWithPath: file)) } catch {
      throw ToolError("the report was not written", why: "\(error)", hint: "--report \(format.rawValue):another-file")
    }
  }

  private func text(_ items: [Results.Item]) throws -> String {
    switch format {
    case .tap:
      return
        (["TAP version 13", "1..\(items.count)"]
        + items.enumerated().map { index, item in
          "\(item.outcome == .failed ? "not ok" : "ok") \(index + 1) - \(item.name)"
            + (item.outcome == .skipped ? " # SKIP \(item.detail)" : "")
        }).joined(separator: "\n")
    case .json:
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
      return String(decoding: try encoder.encode(items), as: UTF8.self)
    case .junit:
      let cases = items.map { item in
        let body =
          switch item.outcome {
          case .passed: ""
          case .failed: "<failure>\(Self.escaped(item.detail))</failure>"
          case .skipped: "<skipped message=\"\(Self.escaped(item.detail))\"/>"
          }
        return "  <testcase name=\"\(Self.escaped(item.name))\" time=\"\(String(format: "%.3f", item.seconds))\">\(body)</testcase>"
      }
      let failures = items.count { $0.outcome == .failed }
      return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"AdrOS\" tests=\"\(items.count)\" failures=\"\(failures)\">\n"
        + cases.joined(separator: "\n") + "\n</testsuite>"
    case .html:
      let rows = items.map { item in
        "<tr class=\"\(item.outcome.rawValue)\"><td>\(item.outcome.rawValue)</td><td>\(Self.escaped(item.name))</td>"
          + "<td><pre>\(Self.escaped(item.detail))</pre></td></tr>"
      }
      return "<!doctype html><meta charset=utf-8><title>AdrOS tests</title><style>body{font:14px sans-serif}.failed{background:#fdd}"
        + ".skipped{background:#ffd}td{vertical-align:top;padding:2px 8px}</style><table>\n" + rows.joined(separator: "\n") + "\n</table>"
    }
  }

  /// XML's five, and no control characters, which XML cannot hold.
  private static func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "\n", "\t": result.unicodeScalars.append(scalar)
      default: if scalar.value >= 32 { result.unicodeScalars.append(scalar) } else { result += "\u{FFFD}" }
      }
    }
    return result
  }
}

/// `swift test` over the pure libraries; in the long form with optimization, under AddressSanitizer.
enum HostTests {
  static func run(_ results: Results, torture: Bool = false) async throws {
    let log = try Paths.scratch("host-tests.log")
    let long = ["-c", "release", "-Xswiftc", "-enable-testing", "--sanitize=address"]
    let scratch = Paths.inTop(torture ? ".build-torture" : ".build-test").path
    let arguments = ["swift", "test", "--package-path", Paths.top.path, "--scratch-path", scratch] + (torture ? long : [])
    // The test library itself leaves something behind, which is not what is asked.
    let settings = torture ? ["env", "TORTURE=1", "ASAN_OPTIONS=detect_leaks=0"] : []
    let outcome = try await Progress.step(torture ? "host torture" : "host tests", log: log) {
      try await Shell.run(settings + arguments, log: log)
    }
    let text = (try? String(contentsOf: log, encoding: .utf8)) ?? ""
    var count = 0
    for match in text.matches(of: /Test (\w+\([^)]*\)|".*") (?:with \d+ test cases? )?(passed|failed) after/) {
      let name = "host: \(match.output.1)"
      if results.selects(name) { results.add(name, passed: match.output.2 == "passed") }
      count += 1
    }
    if outcome.status != 0 || count == 0 {
      results.add("host: swift test", passed: false, text.split(separator: "\n").suffix(40).joined(separator: "\n"))
    }
  }
}
