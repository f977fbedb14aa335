import Machine
import SystemABI
import VFS

/// /sys: what programs look for to learn of the processors. SPEC: sysfs(5); Linux Documentation/ABI/testing/sysfs-devices-system-cpu.
///
/// The tree is fixed once it is made; a file's text is made when it is opened.
public final class SysFS: FileSystem {
  final class Directory {
    var entries: [(name: [UInt8], inode: Inode)] = []
  }

  private var rootInode: Inode?
  private var inodeCount: UInt64 = 0

  public init() {
    let root = makeDirectory()
    root.addUser()
    rootInode = root
    let processors = Self.add("cpu", Self.add("system", Self.add("devices", root, self), self), self)
    let all = Processors.count
    for name in ["online", "possible", "present"] as [StaticString] { addFile(name, processors, Self.range(all)) }
    addFile("offline", processors, "\n")
    addFile("isolated", processors, "\n")
    addFile("kernel_max", processors, "31\n")
    for number in 0..<all {
      let processor = makeDirectory()
      Self.link(processors, Array("cpu\(number)".utf8), processor)
      let topology = Self.add("topology", processor, self)
      addFile("physical_package_id", topology, "0\n")
      addFile("die_id", topology, "0\n")
      addFile("core_id", topology, "\(number)\n")
      // Every processor is a core of its own, and all share one package.
      for name in ["thread_siblings_list", "core_cpus_list"] as [StaticString] { addFile(name, topology, "\(number)\n") }
      for name in ["thread_siblings", "core_cpus"] as [StaticString] { addFile(name, topology, Self.mask(1 << UInt32(number))) }
      for name in ["core_siblings_list", "package_cpus_list"] as [StaticString] { addFile(name, topology, Self.range(all)) }
      for name in ["core_siblings", "package_cpus"] as [StaticString] { addFile(name, topology, Self.mask(Processors.mask)) }
    }
  }

  private static func range(_ count: Int) -> String { count == 1 ? "0\n" : "0-\(count - 1)\n" }
  private static func mask(_ bits: UInt32) -> String {
    let digits = String(bits, radix: 16)
    return String(repeating: "0", count: 8 - digits.utf8.count) + digits + "\n"
  }

  // MARK: Making the tree

  private func makeInode(_ attributes: Attributes, _ payload: AnyObject) -> Inode {
    inodeCount += 1
    return Inode(self, number: inodeCount, attributes: attributes, payload: payload)
  }

  private func makeDirectory() -> Inode {
    var attributes = Attributes(mode: Mode.directory | 0o555)
    attributes.links = 2
    return makeInode(attributes, Directory())
  }

  private static func link(_ directory: Inode, _ name: [UInt8], _ inode: Inode) {
    (directory.payload as? Directory)?.entries.append((name, inode))
  }

  /// A new directory in another.
  private static func add(_ name: StaticString, _ parent: Inode, _ system: SysFS) -> Inode {
    let inode = system.makeDirectory()
    link(parent, Array(name.description.utf8), inode)
    return inode
  }

  private func addFile(_ name: StaticString, _ directory: Inode, _ text: String) {
    let bytes = Array(text.utf8)
    let inode = makeInode(Attributes(mode: Mode.regular | 0o444), ProcFS.File({ () throws(Errno) in bytes }))
    Self.link(directory, Array(name.description.utf8), inode)
  }

  // MARK: As a file system

  public var typeName: String { "sysfs" }
  public var deviceNumber: UInt32 { 8 }
  public var root: Inode { rootInode! }

  public func lookup(_ name: [UInt8], in directory: Inode) throws(Errno) -> Inode {
    guard let node = directory.payload as? Directory else { throw .notDirectory }
    guard let entry = node.entries.first(where: { $0.name == name }) else { throw .noSuchFileOrDirectory }
    return entry.inode
  }

  public func list(_ directory: Inode, from position: UInt64, _ visit: (DirectoryEntry) -> Bool) throws(Errno) {
    guard let node = directory.payload as? Directory else { throw .notDirectory }
    var entries: [(name: [UInt8], number: UInt64, type: UInt32)] = [
      ([46], directory.number, Mode.directory), ([46, 46], directory.number, Mode.directory),
    ]
    for entry in node.entries { entries.append((entry.name, entry.inode.number, entry.inode.type)) }
    for index in entries.indices where UInt64(index) >= position {
      let entry = entries[index]
      if !visit(DirectoryEntry(name: entry.name, inode: entry.number, type: entry.type, next: UInt64(index) + 1)) { return }
    }
  }

  public func statistics() -> FileSystemStatistics { FileSystemStatistics(magic: 0x6265_6572) }
}
