import Foundation
import Subprocess

#if canImport(System)
  import System
#else
  import SystemPackage
#endif

/// Running other programs.
public enum Shell {
  public struct Outcome: Sendable {
    public var status: Int32
    public var timedOut: Bool
    public init(status: Int32, timedOut: Bool) {
      self.status = status
      self.timedOut = timedOut
    }
  }

  /// A command as somebody would type it.
  public static func quoted(_ command: [String]) -> String {
    command.map { word in
      word.allSatisfy { ($0.isLetter || $0.isNumber || "-_./=,:+@%".contains($0)) && $0.isASCII } && !word.isEmpty
        ? word : "'" + word.replacingOccurrences(of: "'", with: "'\\''") + "'"
    }.joined(separator: " ")
  }

  /// Where a command is on PATH; nil when it is not.
  public static func find(_ command: String) -> String? {
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
    return (path.split(separator: ":").map(String.init) + ["/usr/sbin", "/sbin"]).map { $0 + "/" + command }
      .first { FileManager.default.isExecutableFile(atPath: $0) }
  }

  /// Throws the error that names the Debian package of a command that is not installed.
  public static func require(_ command: String, package: String, purpose: String) throws {
    if find(command) != nil { return }
    throw ToolError(
      "\(command) is not installed", why: "it \(purpose)", hint: "apt-get install \(package)", code: ExitStatus.missingTool)
  }

  /// Runs a command; its output goes to `log` if given, else to ours. Its input is ours, or `input`, or nothing with a log.
  public static func run(
    _ command: [String], environment: [String: String] = [:], log: URL? = nil, input: URL? = nil, timeout: Double? = nil
  ) async throws -> Outcome {
    let outcome: Outcome? = try await withThrowingTaskGroup(of: Outcome?.self) { group in
      group.addTask { try await start(command, environment, log, input) }
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

  private static func start(_ command: [String], _ environment: [String: String], _ log: URL?, _ input: URL?) async throws
    -> Outcome?
  {
    var updates: [Environment.Key: String?] = [:]
    for (key, value) in environment { updates[Environment.Key(stringLiteral: key)] = value }
    let settings = Environment.inherit.updating(updates)
    let arguments = Arguments(Array(command.dropFirst()))
    let executable = command[0].contains("/") ? Executable.path(FilePath(command[0])) : .name(command[0])
    do {
      let status: TerminationStatus
      if let log {
        let file = try FileDescriptor.open(
          FilePath(log.path), .writeOnly, options: [.create, .truncate], permissions: [.ownerReadWrite, .groupRead, .otherRead])
        defer { try? file.close() }
        let source = try FileDescriptor.open(FilePath(input?.path ?? "/dev/null"), .readOnly)
        defer { try? source.close() }
        status = try await Subprocess.run(
          executable, arguments: arguments, environment: settings,
          input: .fileDescriptor(source, closeAfterSpawningProcess: false),
          output: .fileDescriptor(file, closeAfterSpawningProcess: false),
          error: .fileDescriptor(file, closeAfterSpawningProcess: false)
        ).terminationStatus
      } else {
        status = try await Subprocess.run(
          executable, arguments: arguments, environment: settings,
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

  /// Runs a command quietly and answers its output; a failure shows the end of it.
  @discardableResult
  public static func capture(_ command: [String], environment: [String: String] = [:], what: String, code: Int32 = 1) async throws
    -> String
  {
    let log = FileManager.default.temporaryDirectory.appendingPathComponent("adrosctl-\(UUID().uuidString).log")
    defer { try? FileManager.default.removeItem(at: log) }
    let outcome = try await run(command, environment: environment, log: log)
    let text = (try? String(decoding: Data(contentsOf: log), as: UTF8.self)) ?? ""
    if outcome.status != 0 {
      let tail = text.split(separator: "\n").suffix(40).joined(separator: "\n")
      throw ToolError(what, why: "status \(outcome.status)\n\(tail)", hint: quoted(command), code: code)
    }
    return text
  }
}
