import Foundation

/// A file that appears whole or not at all.
enum OutputFile {
  /// Makes a sparse file of `size` bytes, lets `body` fill it, and puts it in place of `path`. An error leaves nothing behind.
  static func write(_ path: String, size: UInt64, _ body: (String) async throws -> Void) async throws {
    let temporary = try start(path, size)
    do {
      try await body(temporary)
      try finish(temporary, path)
    } catch {
      try? FileManager.default.removeItem(atPath: temporary)
      throw error
    }
  }

  static func write(_ path: String, size: UInt64, _ body: (String) throws -> Void) throws {
    let temporary = try start(path, size)
    do {
      try body(temporary)
      try finish(temporary, path)
    } catch {
      try? FileManager.default.removeItem(atPath: temporary)
      throw error
    }
  }

  private static func start(_ path: String, _ size: UInt64) throws -> String {
    let temporary = path + ".partial"
    try? FileManager.default.removeItem(atPath: temporary)
    guard FileManager.default.createFile(atPath: temporary, contents: nil), let handle = FileHandle(forWritingAtPath: temporary)
    else { throw ToolError("cannot create \(temporary)", why: String(cString: strerror(errno)), hint: "-o another path") }
    do {
      try handle.truncate(atOffset: size)
      try handle.close()
    } catch {
      try? FileManager.default.removeItem(atPath: temporary)
      throw ToolError("cannot make \(temporary) \(size >> 20) MiB long", why: "\(error)", hint: "free space, or -o another path")
    }
    return temporary
  }

  private static func finish(_ temporary: String, _ path: String) throws {
    if rename(temporary, path) != 0 {
      throw ToolError("cannot replace \(path)", why: String(cString: strerror(errno)), hint: "-o another path")
    }
  }
}
