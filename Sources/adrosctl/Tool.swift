import ArgumentParser
import Foundation
import Subprocess

#if canImport(System)
  import System
#else
  import SystemPackage
#endif

/// Exit codes of every command.
enum Exit {
  static let testsFailed: Int32 = 1
  static let buildFailed: Int32 = 2
  static let kernelPanic: Int32 = 3
  static let timeout: Int32 = 4
  static let usage: Int32 = 64
  static let missingTool: Int32 = 69
}

/// An error as the user sees it: what failed, why, what to type next.
struct ToolError: Error {
  var what: String
  var why: String
  var hint: String
  var code: Int32
  init(_ what: String, why: String, hint: String, code: Int32 = 1) {
    self.what = what
    self.why = why
    self.hint = hint
    self.code = code
  }
}

/// Where things are.
enum Paths {
  /// The repository: the folder of the bootstrap script.
  static var top: URL {
    URL(fileURLWithPath: ProcessInfo.processInfo.environment["ADROS_TOP"] ?? FileManager.default.currentDirectoryPath)
  }
  static func inTop(_ path: String) -> URL { top.appendingPathComponent(path) }
  static var output: URL { inTop(".build-images") }
  static var kernel: URL { inTop(".build-kernel-i686/i686-unknown-none-elf/release/adros") }
  static func program(_ name: String) -> URL { inTop(".build-userland-i686/i686-unknown-none-elf/release/" + name) }
}

/// Progress on stderr, plain off a terminal.
enum Progress {
  static func say(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }
}

/// Running other programs.
enum Shell {
  struct Outcome {
    var status: Int32
    var timedOut: Bool
  }

  /// A command as somebody would type it.
  static func quoted(_ command: [String]) -> String {
    command.map { word in
      word.allSatisfy { $0.isLetter || $0.isNumber || "-_./=,:+@%".contains($0) } && !word.isEmpty
        ? word : "'" + word.replacingOccurrences(of: "'", with: "'\\''") + "'"
    }.joined(separator: " ")
  }

  /// Runs a command; its output goes to `log` if given, else to ours. Its input is ours, or nothing with a log.
  static func run(_ command: [String], environment: [String: String] = [:], log: URL? = nil, timeout: Double? = nil) async throws
    -> Outcome
  {
    let outcome: Outcome? = try await withThrowingTaskGroup(of: Outcome?.self) { group in
      group.addTask { try await start(command, environment, log) }
      if let timeout {
        group.addTask {
          try await Task.sleep(for: .seconds(timeout))
          return nil
        }
      }
      let first = try await group.next()!
      group.cancelAll()
      return first
    }
    return outcome ?? Outcome(status: -1, timedOut: true)
  }

  private static func start(_ command: [String], _ environment: [String: String], _ log: URL?) async throws -> Outcome? {
    var updates: [Environment.Key: String?] = [:]
    for (key, value) in environment { updates[Environment.Key(stringLiteral: key)] = value }
    let settings = Environment.inherit.updating(updates)
    do {
      let status: TerminationStatus
      if let log {
        let file = try FileDescriptor.open(
          FilePath(log.path), .writeOnly, options: [.create, .truncate], permissions: [.ownerReadWrite, .groupRead, .otherRead])
        defer { try? file.close() }
        status = try await Subprocess.run(
          .name(command[0]), arguments: Arguments(Array(command.dropFirst())), environment: settings, input: .none,
          output: .fileDescriptor(file, closeAfterSpawningProcess: false),
          error: .fileDescriptor(file, closeAfterSpawningProcess: false)
        ).terminationStatus
      } else {
        status = try await Subprocess.run(
          .name(command[0]), arguments: Arguments(Array(command.dropFirst())), environment: settings,
          input: .fileDescriptor(.standardInput, closeAfterSpawningProcess: false),
          output: .fileDescriptor(.standardOutput, closeAfterSpawningProcess: false),
          error: .fileDescriptor(.standardError, closeAfterSpawningProcess: false)
        ).terminationStatus
      }
      switch status {
      case .exited(let code): return Outcome(status: Int32(code), timedOut: false)
      case .signaled(let signal): return Outcome(status: 128 + Int32(signal), timedOut: false)
      }
    } catch is CancellationError { return nil }
  }

  /// Runs a command quietly and answers its output; a failure shows it.
  static func capture(_ command: [String], environment: [String: String] = [:], what: String, code: Int32 = 1) async throws -> String {
    let log = FileManager.default.temporaryDirectory.appendingPathComponent("adrosctl-\(UUID().uuidString).log")
    defer { try? FileManager.default.removeItem(at: log) }
    let outcome = try await run(command, environment: environment, log: log)
    let text = (try? String(contentsOf: log, encoding: .utf8)) ?? ""
    if outcome.status != 0 {
      let tail = text.split(separator: "\n").suffix(40).joined(separator: "\n")
      throw ToolError(what, why: "status \(outcome.status)\n\(tail)", hint: quoted(command), code: code)
    }
    return text
  }
}

/// Turns our errors into three lines and an exit code.
func reporting(_ body: () async throws -> Void) async throws {
  do { try await body() } catch let error as ToolError {
    Progress.say("error: \(error.what)\n  because: \(error.why)\n  try: \(error.hint)")
    throw ExitCode(error.code)
  } catch let error as ImageErrorProtocol {
    Progress.say("error: \(error.text)")
    throw ExitCode(1)
  }
}

protocol ImageErrorProtocol: Error { var text: String { get } }
