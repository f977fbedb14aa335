import Machine
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// /proc in Linux's formats: what ps, top, free, df and glibc read. SPEC: proc(5).
public final class ProcFS: FileSystem {
  /// What a directory inode stands for.
  final class Directory {
    enum Kind {
      case root
      case process(Int32)
      /// /proc/PID/task/TID: as the process, but without threads of its own.
      case thread(Int32)
      case descriptors(Int32)
      case tasks(Int32)
      case system
      case systemKernel
      case systemMemory
    }
    let kind: Kind
    init(_ kind: Kind) { self.kind = kind }
  }

  /// A file whose text is made when it is opened.
  final class File: FileNode {
    let make: () throws(Errno) -> [UInt8]
    let write: (([UInt8]) throws(Errno) -> Void)?
    init(_ make: @escaping () throws(Errno) -> [UInt8], write: (([UInt8]) throws(Errno) -> Void)? = nil) {
      self.make = make
      self.write = write
    }
    override func makeFile() throws(Errno) -> any OpenFile { Snapshot(try make(), write) }
  }

  /// The text as it was at open: a reader in pieces sees one state.
  final class Snapshot: OpenFile {
    let bytes: [UInt8]
    let writer: (([UInt8]) throws(Errno) -> Void)?
    init(_ bytes: [UInt8], _ writer: (([UInt8]) throws(Errno) -> Void)?) {
      self.bytes = bytes
      self.writer = writer
    }
    var isSeekable: Bool { true }
    func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
      guard offset < UInt64(bytes.count) else { return 0 }
      return try buffer.put(bytes, from: Int(offset))
    }
    func write(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> (Int, UInt64) {
      guard let writer else { throw .permissionDenied }
      let count = buffer.count
      try writer(try buffer.takeBytes(limit: 4096))
      return (count, offset + UInt64(count))
    }
  }

  final class Link: LinkTarget {
    let place: () throws(Errno) -> Path
    init(_ place: @escaping () throws(Errno) -> Path) { self.place = place }
    override func resolve() throws(Errno) -> Path { try place() }
  }
  /// A link of plain text.
  final class TextLink {
    let text: [UInt8]
    init(_ text: [UInt8]) { self.text = text }
  }
  /// A link to something without a path: `pipe:[12]`.
  final class NamelessLink: LinkTarget {
    override func fixedText() -> [UInt8]? { Array("anon_inode:[file]".utf8) }
  }

  private let systemItems = SystemFiles.all
  private let kernelItems = SystemFiles.kernel
  private let memoryItems = SystemFiles.memory
  private var rootInode: Inode?
  public init() {
    let root = Inode(
      self, number: 1, attributes: Attributes(mode: Mode.directory | 0o555), payload: Directory(.root))
    root.addUser()
    rootInode = root
  }

  public var typeName: String { "proc" }
  public var deviceNumber: UInt32 { 5 }
  public var root: Inode { rootInode! }
  public var cachesNames: Bool { false }

  func directory(_ kind: Directory.Kind, number: UInt64) -> Inode {
    var attributes = Attributes(mode: Mode.directory | 0o555)
    attributes.links = 2
    return Inode(self, number: number, attributes: attributes, payload: Directory(kind))
  }
  func link(_ number: UInt64, _ payload: AnyObject) -> Inode {
    Inode(self, number: number, attributes: Attributes(mode: Mode.link | 0o777), payload: payload)
  }

  public func readLink(_ inode: Inode) throws(Errno) -> [UInt8] {
    guard let link = inode.payload as? TextLink else { throw .invalidArgument }
    return link.text
  }

  public func lookup(_ name: [UInt8], in directory: Inode) throws(Errno) -> Inode {
    guard let node = directory.payload as? Directory else { throw .notDirectory }
    switch node.kind {
    case .root: return try lookupRoot(name)
    case .process(let id): return try lookupProcess(id, name)
    case .thread(let id):
      if Self.isName(name, "task") { throw .noSuchFileOrDirectory }
      return try lookupProcess(id, name)
    case .descriptors(let id): return try lookupDescriptor(id, name)
    case .tasks(let id): return try lookupTask(id, name)
    case .system: return try lookupSystem(name)
    case .systemKernel: return try lookupItem(name, kernelItems, number: 50)
    case .systemMemory: return try lookupItem(name, memoryItems, number: 70)
    }
  }

  private static func number(_ name: [UInt8]) -> Int32? {
    guard !name.isEmpty, name.count < 8 else { return nil }
    var value: Int32 = 0
    for byte in name {
      guard byte >= 48, byte <= 57 else { return nil }
      value = value * 10 + Int32(byte - 48)
    }
    return value
  }

  static func isName(_ name: [UInt8], _ text: StaticString) -> Bool { text.description.utf8.elementsEqual(name) }

  private func lookupRoot(_ name: [UInt8]) throws(Errno) -> Inode {
    if let id = Self.number(name) {
      guard ProcessTable.shared.find(id) != nil else { throw .noSuchFileOrDirectory }
      return directory(.process(id), number: UInt64(id) * 4096)
    }
    if Self.isName(name, "self") {
      var text = Text()
      text.add(Task.currentTask.process.id)
      return link(2, TextLink(text.bytes))
    }
    if Self.isName(name, "sys") { return directory(.system, number: 3) }
    return try lookupItem(name, systemItems, number: 100)
  }

  private func lookupItem(_ name: [UInt8], _ items: [SystemFiles.Item], number: UInt64) throws(Errno) -> Inode {
    guard let index = items.firstIndex(where: { Self.isName(name, $0.name) }) else { throw .noSuchFileOrDirectory }
    let item = items[index]
    let mode: UInt32 = item.write == nil ? 0o444 : 0o200
    let attributes = Attributes(mode: Mode.regular | mode)
    return Inode(self, number: number + UInt64(index), attributes: attributes, payload: File(item.make, write: item.write))
  }

  private func lookupProcess(_ id: Int32, _ name: [UInt8]) throws(Errno) -> Inode {
    guard let process = ProcessTable.shared.find(id) else { throw .noSuchFileOrDirectory }
    let base = UInt64(id) * 4096
    if Self.isName(name, "fd") {
      let descriptors = directory(.descriptors(id), number: base + 1)
      let (owner, group) = (process.who.euid, process.who.egid)
      descriptors.attributes.withLock { ($0.mode, $0.owner, $0.group) = (Mode.directory | 0o500, owner, group) }
      return descriptors
    }
    if Self.isName(name, "task") { return directory(.tasks(id), number: base + 2) }
    if Self.isName(name, "mem") {
      let (owner, group) = (process.who.euid, process.who.egid)
      return Inode(
        self, number: base + 6, attributes: Attributes(mode: Mode.regular | 0o600, owner: owner, group: group),
        payload: ProcessMemory.Node(process))
    }
    if Self.isName(name, "exe") {
      return link(
        base + 3,
        Link { () throws(Errno) in
          guard let path = process.executable.withLock({ $0.path }) else { throw .noSuchFileOrDirectory }
          return path
        })
    }
    if Self.isName(name, "cwd") { return link(base + 4, Link { () throws(Errno) in process.pathContext.directory }) }
    if Self.isName(name, "root") { return link(base + 5, Link { () throws(Errno) in process.pathContext.root }) }
    guard let index = ProcessFiles.all.firstIndex(where: { Self.isName(name, $0.name) }) else { throw .noSuchFileOrDirectory }
    let item = ProcessFiles.all[index]
    var write: (([UInt8]) throws(Errno) -> Void)?
    if let act = item.write { write = { bytes throws(Errno) in try act(process, bytes) } }
    let (owner, group) = (process.who.euid, process.who.egid)
    return Inode(
      self, number: base + 100 + UInt64(index),
      attributes: Attributes(mode: Mode.regular | item.mode, owner: owner, group: group),
      payload: File({ () throws(Errno) in try item.make(process) }, write: write))
  }

  private func lookupDescriptor(_ id: Int32, _ name: [UInt8]) throws(Errno) -> Inode {
    guard let number = Self.number(name), let process = ProcessTable.shared.find(id),
      let description = process.descriptors.withLock({ $0[number] })
    else { throw .noSuchFileOrDirectory }
    let inode = UInt64(id) * 4096 + 1024 + UInt64(number)
    guard let path = description.path else { return link(inode, NamelessLink()) }
    return link(inode, Link { () throws(Errno) in path })
  }

  private func lookupTask(_ id: Int32, _ name: [UInt8]) throws(Errno) -> Inode {
    guard let number = Self.number(name), let process = ProcessTable.shared.find(id),
      process.signals.withLock({ $0.threads.contains { $0.id == number } })
    else { throw .noSuchFileOrDirectory }
    return directory(.thread(id), number: UInt64(number) * 4096 + 7)
  }

  private func lookupSystem(_ name: [UInt8]) throws(Errno) -> Inode {
    if Self.isName(name, "kernel") { return directory(.systemKernel, number: 4) }
    if Self.isName(name, "vm") { return directory(.systemMemory, number: 5) }
    throw .noSuchFileOrDirectory
  }

  // MARK: Listing

  public func list(_ directory: Inode, from position: UInt64, _ visit: (DirectoryEntry) -> Bool) throws(Errno) {
    guard let node = directory.payload as? Directory else { throw .notDirectory }
    var entries: [([UInt8], UInt32)] = [([46], Mode.directory), ([46, 46], Mode.directory)]
    func add(_ name: StaticString, _ type: UInt32) { entries.append((Array(name.description.utf8), type)) }
    func add(_ number: Int32, _ type: UInt32) {
      var text = Text()
      text.add(number)
      entries.append((text.bytes, type))
    }
    switch node.kind {
    case .root:
      add("self", Mode.link)
      add("sys", Mode.directory)
      for item in systemItems { add(item.name, Mode.regular) }
      for process in ProcessTable.shared.all() { add(process.id, Mode.directory) }
    case .process, .thread:
      add("fd", Mode.directory)
      if case .process = node.kind { add("task", Mode.directory) }
      for name in ["exe", "cwd", "root"] as [StaticString] { add(name, Mode.link) }
      add("mem", Mode.regular)
      for item in ProcessFiles.all { add(item.name, Mode.regular) }
    case .descriptors(let id):
      for number in ProcessTable.shared.find(id)?.descriptors.withLock({ $0.numbers }) ?? [] { add(number, Mode.link) }
    case .tasks(let id):
      for number in ProcessTable.shared.find(id)?.signals.withLock({ $0.threads.map { $0.id } }) ?? [] {
        add(number, Mode.directory)
      }
    case .system:
      add("kernel", Mode.directory)
      add("vm", Mode.directory)
    case .systemMemory: for item in memoryItems { add(item.name, Mode.regular) }
    case .systemKernel: for item in kernelItems { add(item.name, Mode.regular) }
    }
    for index in entries.indices where UInt64(index) >= position {
      let entry = DirectoryEntry(
        name: entries[index].0, inode: UInt64(index) + directory.number, type: entries[index].1, next: UInt64(index) + 1)
      if !visit(entry) { return }
    }
  }

  public func statistics() -> FileSystemStatistics { FileSystemStatistics(magic: 0x9FA0) }
}
