import Foundation

/// Writes FAT volumes through mtools: no root, the same bytes every time.
///
/// SPEC: Microsoft FAT specification (fatgen103): the type follows from the cluster count alone.
public struct FATImage {
  public enum Kind: String, CaseIterable, Sendable {
    case fat12, fat16, fat32
    /// How many clusters a volume of this type has, with a margin: drivers disagree about the last few.
    var clusters: ClosedRange<Int> {
      switch self {
      case .fat12: 16...4068
      case .fat16: 4101...65508
      case .fat32: 65541...(1 << 28 - 32)
      }
    }
    var entryBits: Int {
      switch self {
      case .fat12: 12
      case .fat16: 16
      case .fat32: 32
      }
    }
    /// Sectors before the first FAT, and of the root directory.
    var overhead: Int { self == .fat32 ? 32 : 1 + 32 }
    var smallest: Int {
      switch self {
      case .fat12: 1 << 20
      case .fat16: 4 << 20
      case .fat32: 36 << 20
      }
    }
  }

  public var kind: Kind
  /// Seconds since 1970 for every time stamp.
  public var time: Int64
  public var label: String
  /// Bytes, or nil for what the content needs and a quarter more.
  public var size: UInt64?

  public init(kind: Kind, time: Int64, label: String, size: UInt64?) {
    self.kind = kind
    self.time = time
    self.label = label
    self.size = size
  }

  /// Clusters of a volume of `sectors` with `perCluster` sectors each.
  static func clusterCount(_ kind: Kind, sectors: Int, perCluster: Int) -> Int {
    var fat = 1
    while true {
      let data = sectors - kind.overhead - 2 * fat
      if data <= 0 { return 0 }
      let clusters = data / perCluster
      let needed = ((clusters + 2) * kind.entryBits + 4095) / 4096
      if needed <= fat { return clusters }
      fat = needed
    }
  }

  /// The smallest cluster, in sectors, with which the volume has this type.
  static func sectorsPerCluster(_ kind: Kind, sectors: Int) throws -> Int {
    let smallest = kind == .fat32 && sectors > 520_000 ? 8 : 1
    var candidate = smallest
    while candidate <= 64 {
      if kind.clusters.contains(clusterCount(kind, sectors: sectors, perCluster: candidate)) { return candidate }
      candidate *= 2
    }
    throw ToolError(
      "a volume of \(sectors >> 11) MiB cannot be \(kind.rawValue)",
      why: "\(kind.rawValue) has \(kind.clusters.lowerBound) to \(kind.clusters.upperBound) clusters of 512 bytes to 32 KiB",
      hint: kind == .fat12 ? "--fs fat16 or --fs fat32" : "--size \(kind.smallest >> 20)M or more, or --size auto", code: ExitStatus.usage)
  }

  /// What of the tree FAT can hold, and how many entries it cannot.
  static func holdable(_ tree: RootTree) throws -> (entries: [RootEntry], leftOut: Int) {
    var kept: [RootEntry] = []
    var leftOut = 0
    var seen: [String: String] = [:]
    for entry in tree.sorted where entry.path != "/" {
      switch entry.kind {
      case .directory, .file, .data: break
      default:
        leftOut += 1
        continue
      }
      let name = (entry.path as NSString).lastPathComponent
      if let bad = name.first(where: { "\"*:<>?\\|".contains($0) || $0.asciiValue.map { $0 < 32 } == true }) {
        throw ToolError("FAT cannot hold \(entry.path)", why: "its name has the character \(bad)", hint: "rename it")
      }
      if let other = seen.updateValue(entry.path, forKey: entry.path.lowercased()) {
        throw ToolError("FAT cannot hold \(entry.path)", why: "\(other) differs in case only", hint: "rename one of them")
      }
      kept.append(entry)
    }
    return (kept, leftOut)
  }

  /// Bytes that entries need with clusters of `cluster` bytes.
  private static func need(_ entries: [RootEntry], cluster: Int) throws -> Int {
    var total = 0
    for entry in entries {
      let length = try entry.contentSize()
      total += max((length + cluster - 1) / cluster, 1) * cluster + 128
    }
    return total
  }

  /// Writes the volume to `path`; answers how many links and device nodes were left out. An error leaves no file behind.
  @discardableResult public func write(_ tree: RootTree, to path: String) async throws -> Int {
    try Shell.require("mformat", package: "mtools", purpose: "makes FAT volumes")
    var tree = tree
    tree.completeParents()
    let (entries, leftOut) = try Self.holdable(tree)
    var bytes = try Self.need(entries, cluster: 4096)
    bytes = size.map { Int($0) } ?? max(kind.smallest, (bytes + bytes / 4 + (2 << 20)) & ~0xFFFFF)
    let sectors = bytes / 512
    let perCluster = try Self.sectorsPerCluster(kind, sectors: sectors)
    let needed = try Self.need(entries, cluster: perCluster * 512)
    if needed > Self.clusterCount(kind, sectors: sectors, perCluster: perCluster) * perCluster * 512 {
      throw ToolError(
        "the files do not fit into \(path)", why: "they need \(needed >> 20) MiB, --size gives \(bytes >> 20) MiB", hint: "--size auto")
    }
    try await OutputFile.write(path, size: UInt64(bytes)) { temporary in
      try await format(temporary, sectors: sectors, perCluster: perCluster)
      try await fill(temporary, entries)
    }
    return leftOut
  }

  private var environment: [String: String] { ["SOURCE_DATE_EPOCH": "\(time)", "TZ": "UTC", "MTOOLS_SKIP_CHECK": "1"] }

  private func format(_ path: String, sectors: Int, perCluster: Int) async throws {
    var serial: UInt32 = 0x811C_9DC5
    for byte in label.utf8 { serial = (serial ^ UInt32(byte)) &* 16_777_619 }
    serial ^= UInt32(truncatingIfNeeded: time)
    var command = ["mformat", "-i", path, "-T", "\(sectors)", "-c", "\(perCluster)", "-h", "16", "-s", "63"]
    command += kind == .fat32 ? ["-F"] : ["-r", "32"]
    command += ["-N", String(format: "%08x", serial), "-v", String(label.uppercased().prefix(11)), "::"]
    try await Shell.capture(command, environment: environment, what: "cannot format \(path)")
  }

  /// Directories first, then each directory's files in one call, in byte order.
  private func fill(_ path: String, _ entries: [RootEntry]) async throws {
    let staging = FileManager.default.temporaryDirectory.appendingPathComponent("adros-fat-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: staging, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: staging) }
    var files: [String: [String]] = [:]
    for (index, entry) in entries.enumerated() {
      let folder = (entry.path as NSString).deletingLastPathComponent
      let name = (entry.path as NSString).lastPathComponent
      switch entry.kind {
      case .directory:
        try await Shell.capture(
          ["mmd", "-i", path, "::" + entry.path], environment: environment, what: "cannot make \(entry.path) in the FAT volume")
      case .file(let url) where url.lastPathComponent == name: files[folder, default: []].append(url.path)
      default:
        let place = staging.appendingPathComponent("\(index)")
        try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
        let copy = place.appendingPathComponent(name)
        try Data(entry.content()).write(to: copy)
        files[folder, default: []].append(copy.path)
      }
    }
    for folder in files.keys.sorted() {
      // mcopy takes a few hundred names at a time without reaching the system's argument limit.
      let names = files[folder]!
      for start in stride(from: 0, to: names.count, by: 256) {
        try await Shell.capture(
          ["mcopy", "-i", path, "-Q", "-o"] + names[start..<min(start + 256, names.count)] + ["::" + (folder == "/" ? "/" : folder + "/")],
          environment: environment, what: "cannot copy files to \(folder) of the FAT volume")
      }
    }
  }
}
