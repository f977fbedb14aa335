import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// Files in memory: the page cache is the store, so pages stay dirty and are never written.
public final class TmpFS: FileSystem {
  final class Directory {
    var entries = NameTable<Inode>(first: 3)
    var parent: UInt64
    init(parent: UInt64) { self.parent = parent }
  }
  final class Target {
    let bytes: [UInt8]
    init(_ bytes: [UInt8]) { self.bytes = bytes }
  }

  public let typeName: String
  public var memory: MemoryBudget? { pages }
  public let deviceNumber: UInt32
  private var rootInode: Inode?
  public var root: Inode { rootInode! }
  private let nextNumber = Atomic<UInt32>(2)
  private let pages: MemoryBudget
  private let files: MemoryBudget

  /// An empty file system without limits.
  convenience init(typeName: String, device: UInt32, mode: UInt32 = 0o1777) {
    var options = TmpFSOptions()
    options.mode = mode
    options.pages = .max
    options.files = .max
    self.init(typeName: typeName, device: device, options)
  }

  init(typeName: String, device: UInt32, _ options: TmpFSOptions) {
    self.typeName = typeName
    deviceNumber = device
    pages = MemoryBudget(limit: options.pages)
    files = MemoryBudget(limit: options.files)
    var attributes = Attributes(mode: Mode.directory | options.mode, owner: options.owner, group: options.group)
    attributes.links = 2
    let root = Inode(
      self, number: 1, attributes: attributes, payload: Directory(parent: 1))
    root.addUser()
    rootInode = root
    try? files.take(1)
  }

  private func directory(_ inode: Inode) throws(Errno) -> Directory {
    guard let directory = inode.payload as? Directory else { throw .notDirectory }
    return directory
  }

  public func lookup(_ name: [UInt8], in directory: Inode) throws(Errno) -> Inode {
    guard let inode = try self.directory(directory).entries[name] else { throw .noSuchFileOrDirectory }
    return inode
  }

  private func add(_ name: [UInt8], _ inode: Inode, to directory: Inode) throws(Errno) {
    let content = try self.directory(directory)
    content.entries.append(name, inode)
    inode.addUser()
    if inode.isDirectory { directory.attributes.withLock { $0.links += 1 } }
  }

  public func create(_ name: [UInt8], in directory: Inode, _ attributes: Attributes) throws(Errno) -> Inode {
    let isDirectory = attributes.mode & Mode.typeMask == Mode.directory
    let inode = try makeInode(attributes, links: isDirectory ? 2 : 1, isDirectory ? Directory(parent: directory.number) : nil)
    do throws(Errno) { try add(name, inode, to: directory) } catch {
      files.give(1)
      throw error
    }
    return inode
  }

  private func makeInode(_ attributes: Attributes, links: UInt32, _ payload: AnyObject?) throws(Errno) -> Inode {
    var attributes = attributes
    attributes.links = links
    try files.take(1)
    let number = UInt64(nextNumber.wrappingAdd(1, ordering: .relaxed).newValue)
    return Inode(self, number: number, attributes: attributes, payload: payload)
  }

  public func createUnnamed(in directory: Inode, _ attributes: Attributes) throws(Errno) -> Inode {
    try makeInode(attributes, links: 0, nil)
  }

  public func symlink(_ name: [UInt8], in directory: Inode, target: [UInt8], _ attributes: Attributes) throws(Errno)
    -> Inode
  {
    var attributes = attributes
    attributes.size = UInt64(target.count)
    let inode = try create(name, in: directory, attributes)
    inode.payload = Target(target)
    return inode
  }

  public func readLink(_ inode: Inode) throws(Errno) -> [UInt8] {
    guard let target = inode.payload as? Target else { throw .invalidArgument }
    return target.bytes
  }

  public func link(_ inode: Inode, _ name: [UInt8], in directory: Inode) throws(Errno) {
    try add(name, inode, to: directory)
    inode.attributes.withLock { $0.links += 1 }
  }

  private func removeEntry(_ name: [UInt8], from directory: Inode, deleting: Bool) throws(Errno) {
    let content = try self.directory(directory)
    guard let inode = content.entries.remove(name) else { throw .noSuchFileOrDirectory }
    if inode.isDirectory { directory.attributes.withLock { $0.links -= 1 } }
    if deleting { inode.attributes.withLock { $0.links -= inode.isDirectory ? 2 : 1 } }
    inode.removeUser()
  }

  public func unlink(_ name: [UInt8], _ inode: Inode, in directory: Inode) throws(Errno) {
    try removeEntry(name, from: directory, deleting: true)
  }

  public func isEmpty(_ directory: Inode) throws(Errno) -> Bool { try self.directory(directory).entries.isEmpty }

  public func rename(
    _ inode: Inode, from name: [UInt8], in directory: Inode, to newName: [UInt8], in newDirectory: Inode,
    replacing replaced: Inode?
  ) throws(Errno) {
    if let replaced { try unlink(newName, replaced, in: newDirectory) }
    try add(newName, inode, to: newDirectory)
    try removeEntry(name, from: directory, deleting: false)
    if inode.isDirectory { try self.directory(inode).parent = newDirectory.number }
  }

  public func exchange(
    _ inode: Inode, _ name: [UInt8], in directory: Inode, with other: Inode, _ otherName: [UInt8], in otherDirectory: Inode
  ) throws(Errno) {
    _ = try self.directory(directory).entries.replace(name, with: other)
    _ = try self.directory(otherDirectory).entries.replace(otherName, with: inode)
    try moved(inode, from: directory, to: otherDirectory)
    try moved(other, from: otherDirectory, to: directory)
  }

  /// A directory counts as a link of the one that it is in.
  private func moved(_ inode: Inode, from: Inode, to: Inode) throws(Errno) {
    guard inode.isDirectory else { return }
    from.attributes.withLock { $0.links -= 1 }
    to.attributes.withLock { $0.links += 1 }
    try self.directory(inode).parent = to.number
  }

  public func list(_ directory: Inode, from position: UInt64, _ visit: (DirectoryEntry) -> Bool) throws(Errno) {
    let content = try self.directory(directory)
    if position < 1, !visit(DirectoryEntry(name: [46], inode: directory.number, type: Mode.directory, next: 1)) { return }
    if position < 2, !visit(DirectoryEntry(name: [46, 46], inode: content.parent, type: Mode.directory, next: 2)) { return }
    content.entries.forEach(from: position) { name, inode, position in
      visit(DirectoryEntry(name: name, inode: inode.number, type: inode.type, next: position + 1))
    }
  }

  public func readPage(_ inode: Inode, _ index: UInt32, into frame: Frame) throws(Errno) { frame.zero() }

  public func reserve(_ inode: Inode, _ index: UInt32, _ range: Range<Int>) throws(Errno) {}

  public var hasHoles: Bool { true }

  public func resize(_ inode: Inode, to size: UInt64) throws(Errno) {}

  /// What one file's extended attributes may take, in bytes.
  private static var attributeLimit: Int { 128 << 10 }

  public func extendedAttribute(_ name: AttributeName, of inode: Inode) throws(Errno) -> [UInt8] {
    guard let value = inode.extendedAttributes[name] else { throw .noData }
    return value
  }

  public func extendedAttributeNames(of inode: Inode) throws(Errno) -> [AttributeName] { inode.extendedAttributes.all.map { $0.name } }

  public func setExtendedAttribute(_ name: AttributeName, of inode: Inode, to value: [UInt8]?, _ change: AttributeChange) throws(Errno) {
    var list = inode.extendedAttributes
    try list.set(name, to: value, change)
    if list.size > Self.attributeLimit { throw .noSpace }
    let growth = Self.pages(list) - Self.pages(inode.extendedAttributes)
    if growth > 0 {
      try PageCache.admit()
      try pages.take(growth)
    } else {
      pages.give(-growth)
    }
    inode.extendedAttributes = list
  }

  /// The pages that attributes count as.
  private static func pages(_ list: AttributeList) -> Int { (list.size + pageSize - 1) / pageSize }

  public func evict(_ inode: Inode) {
    inode.dropPages()
    pages.give(Self.pages(inode.extendedAttributes))
    files.give(1)
  }

  /// Gives all files back. Directories refer to each other, and each goes without the others: a deep tree must not recurse.
  public func unmount() throws(Errno) {
    guard let root = rootInode else { return }
    rootInode = nil
    var directories = [root]
    while let inode = directories.popLast() {
      guard let directory = inode.payload as? Directory else { continue }
      let entries = inode.mutex.withLock { _ in
        let entries = directory.entries
        directory.entries = NameTable(first: 3)
        return entries
      }
      entries.forEach(from: 0) { _, child, _ in
        if child.isDirectory { directories.append(child) }
        child.removeUser()
        return true
      }
    }
  }

  public func statistics() -> FileSystemStatistics {
    var result = FileSystemStatistics(magic: 0x0102_1994)
    let limit = min(pages.limit, Int(Frames.totalCount))
    result.blocks = UInt64(limit)
    result.freeBlocks = UInt64(max(0, limit - pages.used))
    result.availableBlocks = result.freeBlocks
    let most = min(files.limit, Int(Frames.totalCount))
    result.files = UInt64(most)
    result.freeFiles = UInt64(max(0, most - files.used))
    return result
  }
}
