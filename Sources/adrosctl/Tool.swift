import ArgumentParser
import Foundation
import ImageKit
import Synchronization

/// Where things are.
enum Paths {
  /// The repository: the folder of the bootstrap script.
  static var top: URL {
    URL(fileURLWithPath: ProcessInfo.processInfo.environment["ADROS_TOP"] ?? FileManager.default.currentDirectoryPath)
  }
  static func inTop(_ path: String) -> URL { top.appendingPathComponent(path) }
  static var output: URL { inTop(".build-images") }
  static var configurations: URL { inTop("configs") }
  static var kernel: URL { kernel(.release) }
  static func kernel(_ configuration: Builder.Configuration) -> URL {
    inTop(".build-kernel-i686\(configuration == .debug ? "-debug" : "")/i686-unknown-none-elf/release/adros")
  }
  static func program(_ name: String) -> URL { inTop(".build-userland-i686/i686-unknown-none-elf/release/" + name) }

  /// A file below the output folder, which exists then.
  static func scratch(_ name: String) throws -> URL {
    try FileManager.default.createDirectory(at: output, withIntermediateDirectories: true)
    return output.appendingPathComponent(name)
  }
}

/// Colours and progress on stderr: plain off a terminal.
enum Progress {
  private static var isTerminal: Bool { isatty(2) == 1 && ProcessInfo.processInfo.environment["TERM"] != "dumb" }
  private static var hasColour: Bool {
    let environment = ProcessInfo.processInfo.environment
    if environment["FORCE_COLOR"].map({ !$0.isEmpty && $0 != "0" }) == true { return true }
    return isTerminal && environment["NO_COLOR"].map(\.isEmpty) ?? true
  }

  static func say(_ text: String) { write(text + "\n") }
  private static func write(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }

  /// `text` in a colour (31 red, 32 green, 33 yellow), where colours are wanted.
  static func coloured(_ text: String, _ colour: Int) -> String { hasColour ? "\u{1B}[\(colour)m\(text)\u{1B}[0m" : text }

  /// Runs one step of `total`. On a terminal a bar shows after a second how far `log` says it is; off one there is a line at the end.
  static func step<Result: Sendable>(
    _ name: String, _ number: Int = 1, of total: Int = 1, log: URL? = nil, _ body: () async throws -> Result
  ) async throws -> Result {
    let start = Date()
    let prefix = total > 1 ? "[\(number)/\(total)] " : ""
    let ticker: Task<Void, Never>? =
      isTerminal
      ? Task {
        try? await Task.sleep(for: .seconds(1))
        while !Task.isCancelled {
          let elapsed = Int(Date().timeIntervalSince(start))
          write("\r\u{1B}[K\(prefix)\(name) \(bar(log)) \(elapsed)s")
          try? await Task.sleep(for: .milliseconds(200))
        }
      } : nil
    defer {
      ticker?.cancel()
      if isTerminal { write("\r\u{1B}[K") }
    }
    let result = try await body()
    ticker?.cancel()
    await ticker?.value
    if isTerminal { write("\r\u{1B}[K") }
    say("\(prefix)\(name) … \(coloured("ok", 32)) \(String(format: "%.1f", Date().timeIntervalSince(start)))s")
    return result
  }

  /// A bar from the last `[done/all]` that SwiftPM printed.
  private static func bar(_ log: URL?) -> String {
    guard let log, let data = try? Data(contentsOf: log) else { return "…" }
    let tail = String(decoding: data.suffix(4096), as: UTF8.self)
    guard let match = tail.matches(of: /\[(\d+)\/(\d+)\]/).last, let done = Int(match.output.1), let all = Int(match.output.2), all > 0
    else { return "…" }
    let filled = min(20, done * 20 / all)
    return "[" + String(repeating: "#", count: filled) + String(repeating: "-", count: 20 - filled) + "]"
  }
}

/// -n and -v, which every command that runs others has.
struct Tracing: ParsableArguments {
  @Flag(name: [.short, .long], help: "Print what would run, correctly quoted, and do nothing.") var dryRun = false
  @Flag(name: [.short, .long], help: "Print what is run.") var verbose = false

  /// Prints the command if asked; answers whether to run it.
  func announce(_ command: [String]) -> Bool {
    if dryRun { print(Shell.quoted(command)) } else if verbose { Progress.say("+ " + Shell.quoted(command)) }
    return !dryRun
  }
}

/// Turns our errors into three lines and an exit code.
func reporting(_ body: () async throws -> Void) async throws {
  do { try await body() } catch let error as ToolError {
    Progress.say("\(Progress.coloured("error:", 31)) \(error.what)\n  because: \(error.why)\n  try: \(error.hint)")
    throw ExitCode(error.code)
  }
}
