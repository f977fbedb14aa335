import DiskFS
import Foundation

/// The blocks of a volume in an image file.
public final class DiskFile: DiskStore {
  private let handle: FileHandle
  private let offset: UInt64

  /// Opens a volume `offset` bytes behind an image's start, or nil for what cannot be opened.
  public init?(_ path: String, offset: UInt64 = 0, forWriting: Bool = false) {
    let url = URL(fileURLWithPath: path)
    guard let handle = try? forWriting ? FileHandle(forUpdating: url) : FileHandle(forReadingFrom: url) else { return nil }
    self.handle = handle
    self.offset = offset
  }

  deinit { try? handle.close() }

  private func seek(_ block: UInt32) throws { try handle.seek(toOffset: offset + UInt64(block) * UInt64(DiskFormat.blockSize)) }

  public func read(_ block: UInt32) throws(DiskFSError) -> [UInt8] {
    do {
      try seek(block)
      let data = try handle.read(upToCount: DiskFormat.blockSize)
      if let data, data.count == DiskFormat.blockSize { return [UInt8](data) }
    } catch {}
    throw .io
  }

  func write(_ block: UInt32, _ bytes: [UInt8]) throws {
    try seek(block)
    try handle.write(contentsOf: bytes)
  }

  func write(_ commit: DiskCommit) throws {
    for node in commit.nodes { try write(node.block, node.bytes) }
    try write(commit.superblock.block, commit.superblock.bytes)
  }
}

/// Writes diskfs volumes: the same bytes every time.
public struct DiskImage {
  /// Seconds since 1970 for every time stamp.
  public var time: Int64
  public var label: String
  /// Bytes, or nil for what the content needs and a quarter more.
  public var size: UInt64?

  public init(time: Int64, label: String, size: UInt64?) {
    self.time = time
    self.label = label
    self.size = size
  }

  /// Writes the image to `path`; an error leaves no file behind.
  public func write(_ tree: RootTree, to path: String) throws {
    var tree = tree
    tree.completeParents()
    let entries = tree.sorted
    var blocks: UInt64 = 0
    for entry in entries { blocks += UInt64((try entry.contentSize() + DiskFormat.blockSize - 1) / DiskFormat.blockSize) }
    // An inode and its name take some 200 bytes, a page's place and checksum at most 30.
    let needed = blocks + (UInt64(entries.count) * 400 + blocks * 30) / 4096
    // With what the volume keeps for itself.
    let minimum = (needed + needed / 32 + 48) << 12
    let total = size ?? max(8 << 20, (minimum + minimum / 4 + (4 << 20)) & ~0xFFFFF)
    if total < minimum {
      throw ToolError(
        "the files do not fit into \(path)", why: "they need \(minimum >> 20) MiB, --size gives \(total >> 20) MiB", hint: "--size auto")
    }
    try OutputFile.write(path, size: total) { temporary in
      guard let store = DiskFile(temporary, forWriting: true) else {
        throw ToolError("cannot write \(path)", why: String(cString: strerror(errno)), hint: "-o another path")
      }
      do { try fill(store, entries, UInt32(clamping: total / UInt64(DiskFormat.blockSize))) } catch let error as DiskFSError {
        throw ToolError(
          "cannot write \(path)", why: error == .noSpace ? "the volume is full" : "\(error)", hint: "--size auto, or report this")
      }
    }
  }

  private func fill(_ store: DiskFile, _ entries: [RootEntry], _ blocks: UInt32) throws {
    var identity = IdentityGenerator(label: label, time: time)
    let volume = try DiskVolume.format(
      store, blocks: blocks, uuid: identity.uuid(), label: Array(label.utf8), root: inode(DiskInode.directory | 0o755))
    var directories = ["/": DiskFormat.root]
    for entry in entries {
      if entry.path == "/" {
        var root = try volume.inode(DiskFormat.root)
        root.mode = DiskInode.directory | entry.mode
        root.owner = entry.owner
        root.group = entry.group
        try volume.setInode(DiskFormat.root, root)
        continue
      }
      let path = entry.path as NSString
      guard let parent = directories[path.deletingLastPathComponent] else {
        throw ToolError("cannot add \(path)", why: "what it is in is no directory", hint: "check the tree and the table")
      }
      let name = Array(path.lastPathComponent.utf8)
      guard name.count <= DiskFormat.longestName else {
        throw ToolError("cannot add \(path)", why: "a name has \(DiskFormat.longestName) bytes at most", hint: "rename it")
      }
      directories[entry.path] = try add(entry, name, to: parent, volume, store)
    }
    // A second superblock beside the first.
    for _ in 0..<2 {
      guard let commit = try volume.prepareCommit(time: time * 1_000_000_000) else { break }
      try store.write(commit)
      volume.finishCommit()
      try volume.setInode(DiskFormat.root, try volume.inode(DiskFormat.root))
    }
  }

  private func inode(_ mode: UInt32) -> DiskInode {
    var inode = DiskInode(mode: mode)
    let now = time * 1_000_000_000
    inode.accessTime = now
    inode.modificationTime = now
    inode.changeTime = now
    inode.creationTime = now
    return inode
  }

  /// Answers the new object if it is a directory.
  private func add(
    _ entry: RootEntry, _ name: [UInt8], to parent: UInt64, _ volume: DiskVolume, _ store: DiskFile
  ) throws -> UInt64? {
    func create(_ type: UInt32, device: UInt32 = 0) throws -> UInt64 {
      var inode = inode(type | entry.mode & 0o7777)
      inode.owner = entry.owner
      inode.group = entry.group
      inode.device = device
      return try volume.create(name, in: parent, inode)
    }
    switch entry.kind {
    case .directory: return try create(DiskInode.directory)
    case .file, .data: try write(try entry.content(), to: try create(DiskInode.regular), volume, store)
    case .link(let target):
      let object = try create(DiskInode.link)
      var inode = try volume.inode(object)
      inode.size = UInt64(target.utf8.count)
      try volume.setInode(object, inode)
      try volume.setTarget(object, Array(target.utf8))
    case .character(let major, let minor): _ = try create(0x2000, device: Self.device(major, minor))
    case .block(let major, let minor): _ = try create(0x6000, device: Self.device(major, minor))
    case .fifo: _ = try create(0x1000)
    }
    return nil
  }

  /// SPEC: Linux' new_encode_dev.
  private static func device(_ major: UInt32, _ minor: UInt32) -> UInt32 { minor & 0xFF | major << 8 | (minor & ~0xFF) << 12 }

  /// Pages of zeros become holes.
  private func write(_ content: [UInt8], to object: UInt64, _ volume: DiskVolume, _ store: DiskFile) throws {
    let size = DiskFormat.blockSize
    var inode = try volume.inode(object)
    inode.size = UInt64(content.count)
    var pages: [(index: UInt32, bytes: [UInt8])] = []
    for start in stride(from: 0, to: content.count, by: size) {
      let bytes = content[start..<min(start + size, content.count)]
      if bytes.allSatisfy({ $0 == 0 }) { continue }
      pages.append((UInt32(start / size), Array(bytes) + [UInt8](repeating: 0, count: size - bytes.count)))
    }
    var done = 0
    while done < pages.count {
      var count = 1
      while done + count < pages.count, pages[done + count].index == pages[done].index + UInt32(count) { count += 1 }
      let run = try volume.allocate(UInt32(count))
      let part = pages[done..<(done + run.count)]
      for (block, page) in zip(run, part) { try store.write(block, page.bytes) }
      let growth = try volume.place(pages[done].index, run, checksums: part.map { XXH32.hash($0.bytes.span) }, of: object)
      inode.blocks += UInt64(growth)
      done += run.count
    }
    try volume.setInode(object, inode)
  }
}

/// Extended attributes in diskfs images.
extension DiskImage {
  /// As the kernel has it: the namespace's number and the rest of the name.
  private static func key(_ name: String) -> [UInt8] { [1] + Array(name.utf8) }

  private static func open(_ file: String) throws -> (DiskFile, DiskVolume) {
    guard let store = DiskFile(file, forWriting: true), let volume = try? DiskVolume.open(store, limit: .max) else {
      throw ToolError("cannot open \(file)", why: "it is no whole diskfs volume", hint: "./adrosctl image check \(file)")
    }
    return (store, volume)
  }

  /// Gives a file of an image the attribute `user.` and `name`.
  public static func setAttribute(_ name: String, of path: String, to value: String, in file: String) throws {
    let object = try DiskReader(try ImageVolume.find(in: file)).find(path)
    let (store, volume) = try open(file)
    try volume.setAttribute(key(name), of: object, to: Array(value.utf8))
    if let commit = try volume.prepareCommit(time: volume.superblock.time) { try store.write(commit) }
  }

  public static func attribute(_ name: String, of path: String, in file: String) throws -> String? {
    let object = try DiskReader(try ImageVolume.find(in: file)).find(path)
    return try open(file).1.attribute(key(name), of: object).map { String(decoding: $0, as: UTF8.self) }
  }
}

/// Reads a diskfs volume.
final class DiskReader: VolumeReader {
  let file: String
  private let store: DiskFile
  private let volume: DiskVolume

  init(_ image: ImageVolume) throws {
    file = image.file
    guard let store = DiskFile(image.file, offset: image.offset),
      let volume = try? DiskVolume.open(store, limit: UInt32(clamping: image.size / UInt64(DiskFormat.blockSize)))
    else { throw ToolError("cannot open \(image.file)", why: "its diskfs volume is not whole", hint: "take a copy of it from before") }
    self.store = store
    self.volume = volume
  }

  private func trying<Result>(_ what: String, _ body: () throws -> Result) throws -> Result {
    do { return try body() } catch let error as DiskFSError {
      throw ToolError(
        "cannot read \(what) of \(file)", why: error == .io ? "the file cannot be read" : "it is not what its checksum says",
        hint: "./adrosctl image check \(file)")
    }
  }

  func find(_ path: String) throws -> UInt64 {
    try trying(path) {
      var object = DiskFormat.root
      for name in path.split(separator: "/") {
        guard try volume.inode(object).isDirectory, let entry = try volume.lookup(Array(name.utf8), in: object) else {
          throw ToolError("there is no \(path) in \(file)", why: "\(name) is not there", hint: "./adrosctl image ls \(file)")
        }
        object = entry.object
      }
      return object
    }
  }

  func node(_ number: UInt64) throws -> VolumeNode {
    let inode = try trying("object \(number)") { try volume.inode(number) }
    return VolumeNode(mode: inode.mode, links: Int(inode.links), owner: inode.owner, group: inode.group, size: inode.size)
  }

  func names(_ directory: UInt64) throws -> [(name: String, number: UInt64)] {
    try trying("directory \(directory)") {
      var names: [(name: String, number: UInt64)] = []
      var position: UInt64 = 0
      while let found = try volume.entry(from: position, in: directory) {
        names.append((String(decoding: found.entry.name, as: UTF8.self), found.entry.object))
        position = found.position + 1
      }
      return names
    }
  }

  func content(_ number: UInt64) throws -> [UInt8] {
    try trying("object \(number)") {
      let size = try volume.inode(number).size
      guard size <= 1 << 32 else { throw ToolError("a file of \(size) bytes is too large", why: "4 GiB at most", hint: "mount the image") }
      var content = [UInt8](repeating: 0, count: Int(size))
      var next: UInt32 = 0
      while let page = try volume.nextPage(from: next, of: number), UInt64(page) << 12 < size,
        let pointer = try volume.page(page, of: number)
      {
        let bytes = try store.read(pointer.block)
        guard XXH32.hash(bytes.span) == pointer.checksum else { throw DiskFSError.corrupt }
        let start = Int(page) << 12
        content.replaceSubrange(start..<min(start + 4096, content.count), with: bytes.prefix(content.count - start))
        if page == .max { break }
        next = page + 1
      }
      return content
    }
  }

  func target(_ number: UInt64) throws -> String {
    try trying("link \(number)") { String(decoding: try volume.target(number), as: UTF8.self) }
  }

  /// Looks at everything, content too; what was found, or an error that says what is wrong.
  func check() throws -> String {
    let check = DiskCheck(volume, store: store)
    if !check.problems.isEmpty {
      throw ToolError(
        "\(file) is not right", why: check.problems.prefix(10).joined(separator: "; "),
        hint: "copy what can be read: ./adrosctl image extract")
    }
    let free = volume.superblock.freeBlocks
    return "\(file): clean, generation \(volume.superblock.generation), \(check.files) files, \(check.directories) directories, "
      + "\(check.contentBlocks) blocks of content and \(check.nodes) nodes, \(free) of \(volume.blocks) blocks free"
  }
}
