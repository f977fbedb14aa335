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
      case thread(Int32, of: Int32)
      /// fd and fdinfo.
      case descriptors(Int32)
      case descriptorFiles(Int32)
      case tasks(Int32)
      /// A directory below /proc/sys: what its files' paths begin with.
      case settings([UInt8])
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
  /// To an open file: also one that has no name, or has lost it.
  final class DescriptorLink: LinkTarget {
    let description: FileDescription
    let subject: Subject
    init(_ description: FileDescription, of subject: Subject) {
      self.description = description
      self.subject = subject
    }
    override func resolve() throws(Errno) -> Path {
      try subject.checkAccess()
      return description.place
    }
  }

  private let systemItems = SystemFiles.all
  private let settings = Settings.all
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

  func directory(_ kind: Directory.Kind, number: UInt64, of process: Process? = nil, mode: UInt32 = 0o555) -> Inode {
    var attributes = Attributes(mode: Mode.directory | mode, owner: process?.who.euid ?? 0, group: process?.who.egid ?? 0)
    attributes.links = 2
    return Inode(self, number: number, attributes: attributes, payload: Directory(kind))
  }
  func link(_ number: UInt64, _ payload: AnyObject, of process: Process? = nil, mode: UInt32 = 0o777) -> Inode {
    let attributes = Attributes(mode: Mode.link | mode, owner: process?.who.euid ?? 0, group: process?.who.egid ?? 0)
    return Inode(self, number: number, attributes: attributes, payload: payload)
  }

  public func readLink(_ inode: Inode) throws(Errno) -> [UInt8] {
    guard let link = inode.payload as? TextLink else { throw .invalidArgument }
    return link.text
  }

  public func lookup(_ name: [UInt8], in directory: Inode) throws(Errno) -> Inode {
    guard let node = directory.payload as? Directory else { throw .notDirectory }
    switch node.kind {
    case .root: return try lookupRoot(name)
    case .process, .thread: return try lookupSubject(try subject(node.kind), name)
    case .descriptors(let id): return try lookupDescriptor(id, name)
    case .descriptorFiles(let id): return try lookupDescriptorFile(id, name)
    case .tasks(let id): return try lookupTask(id, name)
    case .settings(let path): return try lookupSetting(path, name)
    }
  }

  /// What a directory is about, if that still exists.
  private func subject(_ kind: Directory.Kind) throws(Errno) -> Subject {
    switch kind {
    case .process(let id):
      if let process = ProcessTable.shared.find(id) { return Subject(process: process, thread: nil) }
    case .thread(let id, let owner):
      if let process = ProcessTable.shared.find(owner), let thread = process.thread(id) {
        return Subject(process: process, thread: thread)
      }
    default: break
    }
    throw .noSuchFileOrDirectory
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
      if let process = ProcessTable.shared.find(id) {
        return directory(.process(id), number: UInt64(id) * 4096, of: process)
      }
      // Threads are not listed, but they are there.
      guard let process = ProcessTable.shared.thread(id)?.process else { throw .noSuchFileOrDirectory }
      return directory(.thread(id, of: process.id), number: Self.threadNumber(id), of: process)
    }
    if Self.isName(name, "self") {
      var text = Text()
      text.add(Task.currentTask.process.id)
      return link(2, TextLink(text.bytes))
    }
    if Self.isName(name, "thread-self") {
      var text = Text()
      text.add(Task.currentTask.process.id)
      text.add("/task/")
      text.add(Task.currentTask.id)
      return link(6, TextLink(text.bytes))
    }
    if Self.isName(name, "sys") { return directory(.settings([]), number: 3) }
    return try lookupItem(name, systemItems, number: 100)
  }

  private func lookupItem(_ name: [UInt8], _ items: [SystemFiles.Item], number: UInt64) throws(Errno) -> Inode {
    guard let index = items.firstIndex(where: { Self.isName(name, $0.name) }) else { throw .noSuchFileOrDirectory }
    let item = items[index]
    let attributes = Attributes(mode: Mode.regular | (item.write == nil ? 0o444 : 0o644))
    return Inode(self, number: number + UInt64(index), attributes: attributes, payload: File(item.make, write: item.write))
  }

  /// In the directory of a path below /proc/sys: a file, or a directory that files' paths go through.
  private func lookupSetting(_ directory: [UInt8], _ name: [UInt8]) throws(Errno) -> Inode {
    let path = directory + name
    if let index = settings.firstIndex(where: { $0.name.description.utf8.starts(with: path + [47]) }) {
      return self.directory(.settings(path + [47]), number: 1200 + UInt64(index))
    }
    return try lookupItem(path, settings, number: 1100)
  }

  /// Names in a directory below /proc/sys, and whether they are directories.
  private func settingNames(_ directory: [UInt8]) -> [(name: [UInt8], isDirectory: Bool)] {
    var names: [(name: [UInt8], isDirectory: Bool)] = []
    for item in settings {
      let path = Array(item.name.description.utf8)
      guard path.starts(with: directory) else { continue }
      let rest = path.dropFirst(directory.count)
      let name = Array(rest.prefix { $0 != 47 })
      if !names.contains(where: { $0.name == name }) { names.append((name, name.count < rest.count)) }
    }
    return names
  }

  /// Numbers of a process's inodes begin at 4096 times its own; those of a thread's directory lie above all of them.
  private static func threadNumber(_ id: Int32) -> UInt64 { UInt64(ProcessTable.maximumID + id) * 4096 }

  private func lookupSubject(_ subject: Subject, _ name: [UInt8]) throws(Errno) -> Inode {
    let process = subject.process
    let base = subject.thread.map { Self.threadNumber($0.id) } ?? UInt64(process.id) * 4096
    func place(_ number: UInt64, _ place: @escaping () throws(Errno) -> Path) -> Inode {
      let target = Link { () throws(Errno) in
        try subject.checkAccess()
        return try place()
      }
      return link(base + number, target, of: process)
    }
    if Self.isName(name, "fd") { return directory(.descriptors(process.id), number: base + 1, of: process, mode: 0o500) }
    if Self.isName(name, "fdinfo") { return directory(.descriptorFiles(process.id), number: base + 7, of: process, mode: 0o500) }
    if Self.isName(name, "task"), subject.thread == nil { return directory(.tasks(process.id), number: base + 2, of: process) }
    if Self.isName(name, "mem") {
      let attributes = Attributes(mode: Mode.regular | 0o600, owner: process.who.euid, group: process.who.egid)
      return Inode(self, number: base + 6, attributes: attributes, payload: ProcessMemory.Node(process))
    }
    if Self.isName(name, "exe") {
      return place(3) { () throws(Errno) in
        guard let path = process.executable.withLock({ $0.path }) else { throw .noSuchFileOrDirectory }
        return path
      }
    }
    if Self.isName(name, "cwd") { return place(4) { () throws(Errno) in process.pathContext.directory } }
    if Self.isName(name, "root") { return place(5) { () throws(Errno) in process.pathContext.root } }
    guard let index = ProcessFiles.all.firstIndex(where: { Self.isName(name, $0.name) }) else { throw .noSuchFileOrDirectory }
    let item = ProcessFiles.all[index]
    var write: (([UInt8]) throws(Errno) -> Void)?
    if let act = item.write { write = { bytes throws(Errno) in try act(subject, bytes) } }
    let make = { () throws(Errno) in
      if item.isPrivate { try subject.checkAccess() }
      return try item.make(subject)
    }
    let attributes = Attributes(mode: Mode.regular | item.mode, owner: process.who.euid, group: process.who.egid)
    return Inode(self, number: base + 100 + UInt64(index), attributes: attributes, payload: File(make, write: write))
  }

  private func description(_ id: Int32, _ name: [UInt8]) throws(Errno) -> (Process, Int32, FileDescription) {
    guard let number = Self.number(name), let process = ProcessTable.shared.find(id),
      let description = process.descriptors.withLock({ $0[number] })
    else { throw .noSuchFileOrDirectory }
    return (process, number, description)
  }

  private func lookupDescriptor(_ id: Int32, _ name: [UInt8]) throws(Errno) -> Inode {
    let (process, number, description) = try description(id, name)
    let mode: UInt32 = (description.isReadable ? 0o500 : 0) | (description.isWritable ? 0o300 : 0)
    let target = DescriptorLink(description, of: Subject(process: process, thread: nil))
    return link(UInt64(id) * 4096 + 1024 + UInt64(number), target, of: process, mode: mode)
  }

  /// SPEC: proc_pid_fdinfo(5).
  private func lookupDescriptorFile(_ id: Int32, _ name: [UInt8]) throws(Errno) -> Inode {
    let (process, number, description) = try description(id, name)
    let file = File({ () throws(Errno) in
      var text = Text()
      text.addLine("pos", description.file.isSeekable ? description.position : 0)
      text.add("flags:\t0")
      let closes = process.descriptors.withLock { $0.isCloseOnExec(number) }
      text.add(UInt64(description.flags | (closes ? OpenFlags.closeOnExec : 0)), radix: 8)
      text.add("\n")
      text.addLine("mnt_id", UInt64(description.path?.mount.id ?? 0))
      text.addLine("ino", description.inode?.number ?? description.file.identity.number)
      return text.bytes
    })
    let attributes = Attributes(mode: Mode.regular | 0o400, owner: process.who.euid, group: process.who.egid)
    return Inode(self, number: UInt64(id) * 4096 + 2048 + UInt64(number), attributes: attributes, payload: file)
  }

  private func lookupTask(_ id: Int32, _ name: [UInt8]) throws(Errno) -> Inode {
    guard let number = Self.number(name), let process = ProcessTable.shared.find(id), process.thread(number) != nil
    else { throw .noSuchFileOrDirectory }
    return directory(.thread(number, of: id), number: Self.threadNumber(number), of: process)
  }

  // MARK: Listing

  /// Positions of numbers begin here: that of each is its own, so that a listing goes on behind it whatever comes and goes meanwhile.
  private static var firstNumberPlace: UInt64 { 1024 }

  public func list(_ directory: Inode, from position: UInt64, _ visit: (DirectoryEntry) -> Bool) throws(Errno) {
    guard let node = directory.payload as? Directory else { throw .notDirectory }
    var entries: [([UInt8], UInt32)] = [([46], Mode.directory), ([46, 46], Mode.directory)]
    var numbers: (all: [Int32], type: UInt32) = ([], Mode.directory)
    func add(_ name: StaticString, _ type: UInt32) { entries.append((Array(name.description.utf8), type)) }
    switch node.kind {
    case .root:
      add("self", Mode.link)
      add("thread-self", Mode.link)
      add("sys", Mode.directory)
      for item in systemItems { add(item.name, Mode.regular) }
      numbers.all = ProcessTable.shared.all().map { $0.id }
    case .process, .thread:
      add("fd", Mode.directory)
      add("fdinfo", Mode.directory)
      if case .process = node.kind { add("task", Mode.directory) }
      for name in ["exe", "cwd", "root"] as [StaticString] { add(name, Mode.link) }
      add("mem", Mode.regular)
      for item in ProcessFiles.all { add(item.name, Mode.regular) }
    case .descriptors(let id):
      numbers = (ProcessTable.shared.find(id)?.descriptors.withLock { $0.numbers } ?? [], Mode.link)
    case .descriptorFiles(let id):
      numbers = (ProcessTable.shared.find(id)?.descriptors.withLock { $0.numbers } ?? [], Mode.regular)
    case .tasks(let id):
      numbers.all = ProcessTable.shared.find(id)?.signals.withLock { $0.threads.map { $0.id } } ?? []
    case .settings(let path):
      for (name, isDirectory) in settingNames(path) { entries.append((name, isDirectory ? Mode.directory : Mode.regular)) }
    }
    for index in entries.indices where UInt64(index) >= position {
      let entry = DirectoryEntry(
        name: entries[index].0, inode: UInt64(index) + directory.number, type: entries[index].1, next: UInt64(index) + 1)
      if !visit(entry) { return }
    }
    for number in numbers.all.sorted() where Self.firstNumberPlace + UInt64(number) >= position {
      var text = Text()
      text.add(number)
      let place = Self.firstNumberPlace + UInt64(number)
      if !visit(DirectoryEntry(name: text.bytes, inode: place + directory.number, type: numbers.type, next: place + 1)) { return }
    }
  }

  public func statistics() -> FileSystemStatistics { FileSystemStatistics(magic: 0x9FA0) }
}
