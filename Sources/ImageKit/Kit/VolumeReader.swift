import Foundation

/// What is known of a file in an image.
struct VolumeNode {
  /// With the type, as in `stat`.
  var mode: UInt32
  var links: Int
  var owner: UInt32
  var group: UInt32
  /// In bytes.
  var size: UInt64
  var type: UInt32 { mode & 0o170000 }
}

/// A file system in an image: what listing and copying need of it. Files have numbers.
protocol VolumeReader {
  /// The image.
  var file: String { get }
  /// Follows a path from the root, but not a link at its end. Throws when nothing is there.
  func find(_ path: String) throws -> UInt64
  func node(_ number: UInt64) throws -> VolumeNode
  /// The names in a directory but `.` and `..`.
  func names(_ directory: UInt64) throws -> [(name: String, number: UInt64)]
  /// A regular file's content, of at most 4 GiB.
  func content(_ number: UInt64) throws -> [UInt8]
  /// Where a symbolic link leads.
  func target(_ number: UInt64) throws -> String
}

extension VolumeReader {
  /// In byte order. A name that would lead out of its directory is none.
  private func entries(_ directory: UInt64) throws -> [(name: String, number: UInt64)] {
    let names = try names(directory)
    if let bad = names.first(where: { $0.name.isEmpty || $0.name.contains("/") || $0.name == "." || $0.name == ".." }) {
      throw ToolError("\(file) has a bad name", why: "'\(bad.name)' in directory \(directory)", hint: "./adrosctl image check \(file)")
    }
    return names.sorted { Array($0.name.utf8).lexicographicallyPrecedes(Array($1.name.utf8)) }
  }

  func read(_ path: String) throws -> [UInt8] {
    let number = try find(path)
    guard try node(number).type == 0o100000 else {
      throw ToolError("\(path) is no regular file", why: "a directory, link or device", hint: "./adrosctl image ls \(file) \(path)")
    }
    return try content(number)
  }

  func list(_ path: String) throws -> String {
    let number = try find(path)
    if try node(number).type != 0o040000 { return try line((path as NSString).lastPathComponent, number) }
    return try entries(number).map { try line($0.name, $0.number) }.joined(separator: "\n")
  }

  private func line(_ name: String, _ number: UInt64) throws -> String {
    let node = try node(number)
    let types: [UInt32: String] = [0o010000: "p", 0o020000: "c", 0o040000: "d", 0o060000: "b", 0o100000: "-", 0o120000: "l", 0o140000: "s"]
    var mode = types[node.type] ?? "?"
    for bit in stride(from: 8, through: 0, by: -1) { mode += node.mode >> UInt32(bit) & 1 != 0 ? ["x", "w", "r"][bit % 3] : "-" }
    let arrow = node.type == 0o120000 ? " -> " + (try target(number)) : ""
    return mode + String(format: " %3d %5u %5u %10llu ", node.links, node.owner, node.group, node.size) + name + arrow
  }

  /// Copies a file or directory into a folder; how many files. Devices are left out.
  func extract(_ path: String, to folder: URL) throws -> Int {
    let number = try find(path)
    if path == "/" { return try entries(number).reduce(0) { $0 + (try copy($1.number, to: folder.appendingPathComponent($1.name))) } }
    return try copy(number, to: folder.appendingPathComponent((path as NSString).lastPathComponent))
  }

  /// A hostile image must not write outside the target: its names have no slash, and links on the way are not followed.
  private func copy(_ number: UInt64, to url: URL) throws -> Int {
    let node = try node(number)
    let manager = FileManager.default
    if (try? manager.destinationOfSymbolicLink(atPath: url.path)) != nil { try manager.removeItem(at: url) }
    switch node.type {
    case 0o040000:
      try manager.createDirectory(at: url, withIntermediateDirectories: true)
      return try entries(number).reduce(0) { $0 + (try copy($1.number, to: url.appendingPathComponent($1.name))) }
    case 0o100000:
      try Data(try content(number)).write(to: url)
      try manager.setAttributes([.posixPermissions: NSNumber(value: node.mode & 0o777)], ofItemAtPath: url.path)
      return 1
    case 0o120000:
      try manager.createSymbolicLink(atPath: url.path, withDestinationPath: try target(number))
      return 1
    default: return 0
    }
  }
}
