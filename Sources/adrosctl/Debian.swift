import Foundation
import ImageKit

/// Debian's packages, fetched by name and kept in the image cache.
enum Debian {
  /// A folder with the packages and all they need. Throws when no registry answers.
  static func unpack(_ packages: [String]) async throws -> URL {
    for name in packages where name.isEmpty || !name.allSatisfy({ $0.isLetter || $0.isNumber || "+-.".contains($0) }) {
      throw ToolError(
        "\(name) is no package name", why: "names have letters, digits, + - .", hint: "--packages busybox-static", code: ExitStatus.usage)
    }
    let cache = Paths.output.appendingPathComponent("debian")
    let text = try await Shell.capture(
      ["sh", "-c", DebianPackages.script(packages: packages, cache: cache.path)], what: "the packages could not be fetched")
    guard let line = text.split(separator: "\n").last, line.hasPrefix("/") else {
      throw ToolError("the packages could not be unpacked", why: text, hint: "apt-cache policy \(packages[0]):i386")
    }
    return URL(fileURLWithPath: String(line))
  }

  /// Debian's Linux for i686 with PAE. Throws when no registry answers.
  static func kernel() async throws -> URL {
    let cache = Paths.output.appendingPathComponent("debian")
    let text = try await Shell.capture(
      ["sh", "-c", DebianPackages.kernelScript(cache: cache.path)], what: "Linux could not be fetched")
    guard let line = text.split(separator: "\n").last, line.hasPrefix("/") else {
      throw ToolError("Linux could not be unpacked", why: text, hint: "apt-cache policy linux-image-686-pae:i386")
    }
    return URL(fileURLWithPath: String(line))
  }
}
