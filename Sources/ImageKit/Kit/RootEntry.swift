import Foundation

/// One file of a root tree that is to become an image.
public struct RootEntry: Sendable {
  public enum Kind: Sendable {
    case directory
    case file(URL)
    case data([UInt8])
    case link(String)
    case character(major: UInt32, minor: UInt32)
    case block(major: UInt32, minor: UInt32)
    case fifo
  }
  /// Absolute, without a trailing slash; "/" is the root itself.
  public var path: String
  public var kind: Kind
  public var mode: UInt32
  public var owner: UInt32
  public var group: UInt32

  public init(path: String, kind: Kind, mode: UInt32, owner: UInt32 = 0, group: UInt32 = 0) {
    self.path = path
    self.kind = kind
    self.mode = mode
    self.owner = owner
    self.group = group
  }

  /// Bytes of a file's content; 0 for everything else.
  func contentSize() throws -> Int {
    switch kind {
    case .file(let url): (try FileManager.default.attributesOfItem(atPath: url.path)[.size] as? NSNumber)?.intValue ?? 0
    case .data(let bytes): bytes.count
    default: 0
    }
  }

  /// A file's content.
  func content() throws -> [UInt8] {
    switch kind {
    case .file(let url): [UInt8](try Data(contentsOf: url, options: .mappedIfSafe))
    case .data(let bytes): bytes
    default: []
    }
  }
}

/// A set of entries by path; later ones replace earlier ones.
public struct RootTree: Sendable {
  private var entries: [String: RootEntry] = [:]
  public init() { add(RootEntry(path: "/", kind: .directory, mode: 0o755)) }

  public mutating func add(_ entry: RootEntry) { entries[entry.path] = entry }

  /// All entries, parents before children, in byte order.
  public var sorted: [RootEntry] { entries.values.sorted { Array($0.path.utf8).lexicographicallyPrecedes(Array($1.path.utf8)) } }

  /// The content of a file in the tree; empty when there is none.
  public func content(of path: String) throws -> [UInt8] { try entries[path]?.content() ?? [] }

  public func contains(_ path: String) -> Bool { entries[path] != nil }

  /// Adds a folder's content with the modes it has; everything belongs to root.
  public mutating func addTree(_ folder: URL, at prefix: String = "") throws {
    let manager = FileManager.default
    guard let names = try? manager.contentsOfDirectory(atPath: folder.path) else {
      throw ToolError("cannot read the tree \(folder.path)", why: "it is no folder that can be listed", hint: "check --tree")
    }
    for name in names {
      let url = folder.appendingPathComponent(name)
      let path = prefix + "/" + name
      let attributes = try manager.attributesOfItem(atPath: url.path)
      let mode = UInt32((attributes[.posixPermissions] as? NSNumber)?.uint32Value ?? 0o644)
      switch attributes[.type] as? FileAttributeType {
      case .typeDirectory?:
        add(RootEntry(path: path, kind: .directory, mode: mode))
        try addTree(url, at: path)
      case .typeSymbolicLink?:
        add(RootEntry(path: path, kind: .link(try manager.destinationOfSymbolicLink(atPath: url.path)), mode: 0o777))
      case .typeRegular?: add(RootEntry(path: path, kind: .file(url), mode: mode))
      default: break  // sockets and devices come from a table, not from somebody's working tree
      }
    }
  }

  /// Adds a table: `PATH TYPE MODE UID GID [MAJOR MINOR | TARGET]`, `#` comments.
  public mutating func addTable(_ text: String, name: String) throws {
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      let words = line.split(separator: " ").map(String.init)
      if words.isEmpty || words[0].hasPrefix("#") { continue }
      func bad(_ why: String) -> ToolError {
        ToolError("\(name):\(index + 1): \(line)", why: why, hint: "PATH TYPE MODE UID GID [MAJOR MINOR | TARGET]")
      }
      guard words.count >= 5, words[0].hasPrefix("/") else { throw bad("a line has a path and four more fields") }
      guard let mode = UInt32(words[2], radix: 8), let owner = UInt32(words[3]), let group = UInt32(words[4]) else {
        throw bad("mode is octal, owner and group are numbers")
      }
      let kind: RootEntry.Kind
      switch words[1] {
      case "dir": kind = .directory
      case "fifo": kind = .fifo
      case "char", "block":
        guard words.count == 7, let major = UInt32(words[5]), let minor = UInt32(words[6]) else {
          throw bad("a device has a major and a minor number")
        }
        kind = words[1] == "char" ? .character(major: major, minor: minor) : .block(major: major, minor: minor)
      case "link":
        guard words.count == 6 else { throw bad("a link has a target") }
        kind = .link(words[5])
      case "file":
        guard var entry = entries[words[0]] else { throw bad("the tree has no such file to set a mode on") }
        entry.mode = mode
        entry.owner = owner
        entry.group = group
        add(entry)
        continue
      default: throw bad("TYPE is dir, file, link, char, block or fifo")
      }
      add(RootEntry(path: words[0], kind: kind, mode: mode, owner: owner, group: group))
    }
  }

  /// Adds parents that nobody named.
  public mutating func completeParents() {
    for path in entries.keys {
      var parent = (path as NSString).deletingLastPathComponent
      while parent != "/", !parent.isEmpty, entries[parent] == nil {
        add(RootEntry(path: parent, kind: .directory, mode: 0o755))
        parent = (parent as NSString).deletingLastPathComponent
      }
    }
  }
}
