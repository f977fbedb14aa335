import Foundation

/// What a machine is made of, as `configs/machines/*.conf` says it: `key = value` lines, `#` comments.
///
/// Later sources win: `default.conf`, the named file, `configs/local.conf`, `ADROS_KEY` in the environment, flags.
public struct MachineSettings: Sendable, Equatable {
  public enum Key: String, CaseIterable, Sendable {
    case processors, memory, cpu, display, video, network
    case rootInterface = "root-interface"
    case commandLine = "command-line"
    case timeout

    /// ADROS_ROOT_INTERFACE for `root-interface`.
    var environmentName: String { "ADROS_" + rawValue.uppercased().replacingOccurrences(of: "-", with: "_") }
  }

  public var processors = 1
  /// MiB.
  public var memory = 256
  public var cpu = "max"
  public var display = "none"
  /// The console's frame buffer as WIDTHxHEIGHT, or nil for text mode.
  public var video: String?
  public var network = false
  public var rootInterface = "virtio"
  /// Words for the kernel.
  public var commandLine: [String] = []
  /// Seconds, or nil for no limit.
  public var timeout: Double?

  public init() {}

  /// Sets one value. Throws what the value should have been.
  public mutating func set(_ key: Key, _ value: String) throws(SettingError) {
    switch key {
    case .processors:
      guard let count = Int(value), (1...8).contains(count) else { throw SettingError("is a number from 1 to 8, not \(value)") }
      processors = count
    case .memory:
      guard let size = ByteSize.megabytes(value) else { throw SettingError("is a size like 256M or 1G, not \(value)") }
      guard size >= 32 else { throw SettingError("of \(value) is too little: the system needs 32M") }
      guard size <= 16384 else { throw SettingError("of \(value) is too much: 16G is what QEMU gets") }
      memory = size
    case .cpu:
      guard !value.isEmpty, value.allSatisfy({ $0.isLetter || $0.isNumber || "-_,+=.".contains($0) }) else {
        throw SettingError("is a QEMU processor name, not \(value)")
      }
      cpu = value
    case .display:
      guard ["none", "gtk", "vnc"].contains(value) else { throw SettingError("is none, gtk or vnc, not \(value)") }
      display = value
    case .video:
      let sizes = value.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
      let isSize = sizes.count == 2 && sizes.allSatisfy { (200...4096).contains($0 ?? 0) } && (sizes[0] ?? 0) % 8 == 0
      guard value == "text" || isSize else {
        throw SettingError("is text or a size like 1024x768, whose width is a multiple of 8, not \(value)")
      }
      video = value == "text" ? nil : value
    case .network:
      guard ["yes", "no"].contains(value) else { throw SettingError("is yes or no, not \(value)") }
      network = value == "yes"
    case .rootInterface:
      guard ["virtio", "ide"].contains(value) else { throw SettingError("is virtio or ide, not \(value)") }
      rootInterface = value
    case .commandLine: commandLine = value.split(separator: " ").map(String.init)
    case .timeout:
      guard let seconds = ByteSize.seconds(value) else { throw SettingError("is a time like 60s or 5m, not \(value)") }
      timeout = seconds
    }
  }

  /// Applies a file's text. An unknown key or a bad value is an error with its line and column.
  public mutating func apply(_ text: String, file: String) throws(ToolError) {
    for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      let code = line.prefix { $0 != "#" }
      if code.allSatisfy(\.isWhitespace) { continue }
      let column = code.distance(from: code.startIndex, to: code.firstIndex { !$0.isWhitespace } ?? code.startIndex) + 1
      let place = "\(file):\(number + 1):\(column)"
      guard let equals = code.firstIndex(of: "=") else {
        throw ToolError("\(place): no value", why: "a line is KEY = VALUE, not '\(code)'", hint: "edit \(file)", code: ExitStatus.usage)
      }
      let name = code[..<equals].trimmingCharacters(in: .whitespaces)
      let value = code[code.index(after: equals)...].trimmingCharacters(in: .whitespaces)
      guard let key = Key(rawValue: name) else {
        let names = Key.allCases.map(\.rawValue)
        let near = Suggestion.nearest(to: name, in: names).map { "did you mean \($0)?" }
        throw ToolError(
          "\(place): unknown key \(name)", why: "the keys are \(names.joined(separator: ", "))", hint: near ?? "edit \(file)",
          code: ExitStatus.usage)
      }
      do throws(SettingError) { try set(key, value) } catch {
        throw ToolError("\(place): bad value", why: "\(name) \(error.text)", hint: "edit \(file)", code: ExitStatus.usage)
      }
    }
  }

  /// All layers but the flags, from a folder of configurations.
  public static func load(_ name: String?, folder: URL, environment: [String: String]) throws -> MachineSettings {
    var settings = MachineSettings()
    let machines = folder.appendingPathComponent("machines")
    func apply(_ url: URL, _ shown: String) throws {
      guard let text = try? String(contentsOf: url, encoding: .utf8) else {
        let known = ((try? FileManager.default.contentsOfDirectory(atPath: machines.path)) ?? []).filter { $0.hasSuffix(".conf") }
          .map { String($0.dropLast(5)) }.sorted()
        let near = name.flatMap { Suggestion.nearest(to: $0, in: known) }.map { "did you mean \($0)?" }
        throw ToolError(
          "there is no machine \(name ?? "default")", why: "configs/machines has \(known.joined(separator: ", "))",
          hint: near ?? "--config \(known.first ?? "default")", code: ExitStatus.usage)
      }
      try settings.apply(text, file: shown)
    }
    try apply(machines.appendingPathComponent("default.conf"), "configs/machines/default.conf")
    if let name, name != "default" { try apply(machines.appendingPathComponent(name + ".conf"), "configs/machines/\(name).conf") }
    let local = folder.appendingPathComponent("local.conf")
    if FileManager.default.fileExists(atPath: local.path) { try apply(local, "configs/local.conf") }
    for key in Key.allCases {
      guard let value = environment[key.environmentName] else { continue }
      do throws(SettingError) { try settings.set(key, value) } catch {
        throw ToolError(
          "\(key.environmentName) is wrong", why: "\(key.rawValue) \(error.text)", hint: "unset \(key.environmentName)",
          code: ExitStatus.usage)
      }
    }
    return settings
  }

  /// The settings as a file would say them.
  public var text: String {
    [
      "processors = \(processors)", "memory = \(memory)M", "cpu = \(cpu)", "display = \(display)", "video = \(video ?? "text")",
      "network = \(network ? "yes" : "no")",
      "root-interface = \(rootInterface)", "command-line = \(commandLine.joined(separator: " "))",
    ].joined(separator: "\n") + (timeout.map { "\ntimeout = \(Int($0))s" } ?? "")
  }
}

/// What is wrong with a value: the end of a sentence that begins with its key.
public struct SettingError: Error {
  public var text: String
  init(_ text: String) { self.text = text }
}

/// Sizes and times as people type them.
public enum ByteSize {
  /// "64M", "1G", "4096K" or plain megabytes; nil for anything else or less than one megabyte.
  public static func megabytes(_ text: String) -> Int? {
    guard let unit = text.last else { return nil }
    let digits = unit.isNumber ? Substring(text) : text.dropLast()
    guard let number = Int(digits), number > 0, number < 1 << 30 else { return nil }
    switch unit {
    case "K", "k": return number % 1024 == 0 ? number / 1024 : nil
    case "M", "m": return number
    case "G", "g": return number * 1024
    default: return unit.isNumber ? number : nil
    }
  }

  /// "60s", "5m" or plain seconds.
  public static func seconds(_ text: String) -> Double? {
    guard let unit = text.last else { return nil }
    let factor: Double? = unit.isNumber ? 1 : unit == "s" ? 1 : unit == "m" ? 60 : nil
    guard let factor, let number = Double(unit.isNumber ? Substring(text) : text.dropLast()), number > 0, number < 1e6 else { return nil }
    return number * factor
  }
}

/// "Did you mean".
public enum Suggestion {
  /// The candidate fewest edits away, when it is near enough to be meant.
  public static func nearest(to word: String, in candidates: [String]) -> String? {
    let scored = candidates.map { (distance(Array(word), Array($0)), $0) }.sorted { $0 < $1 }
    guard let (edits, best) = scored.first, edits <= max(1, word.count / 3) else { return nil }
    return best
  }

  /// Levenshtein's distance, with a swap of neighbours as one edit.
  static func distance(_ a: [Character], _ b: [Character]) -> Int {
    var rows = [[Int]](repeating: [Int](repeating: 0, count: b.count + 1), count: a.count + 1)
    for i in 0...a.count { rows[i][0] = i }
    for j in 0...b.count { rows[0][j] = j }
    if a.isEmpty || b.isEmpty { return max(a.count, b.count) }
    for i in 1...a.count {
      for j in 1...b.count {
        rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1))
        if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] { rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1) }
      }
    }
    return rows[a.count][b.count]
  }
}
