import Sync
import Synchronization
import SystemABI

/// What `fstat` and /proc/PID/fd say of an open file that no directory has a name for.
public struct FileIdentity {
  /// The mode: pipes and sockets have a type, what only has a descriptor has none.
  public var mode: UInt32
  public var number: UInt64
  let name: StaticString
  /// What else an open of /proc/PID/fd/N gets to.
  let object: AnyObject?

  public init(mode: UInt32, number: UInt64, name: StaticString, object: AnyObject? = nil) {
    self.mode = mode
    self.number = number
    self.name = name
    self.object = object
  }

  /// `name` with its brackets: `[eventfd]`. All of them share one inode, as on Linux.
  public static func descriptor(_ name: StaticString) -> FileIdentity { FileIdentity(mode: 0o600, number: 1, name: name) }

  /// `pipe:[7]`, `socket:[8]`, `anon_inode:[eventfd]`. SPEC: proc_pid_fd(5).
  var text: [UInt8] {
    if mode & Mode.typeMask == 0 { return Array("anon_inode:".utf8) + Array(name.description.utf8) }
    var digits: [UInt8] = []
    var rest = number
    repeat {
      digits.append(48 + UInt8(rest % 10))
      rest /= 10
    } while rest > 0
    return Array(name.description.utf8) + [58, 91] + digits.reversed() + [93]
  }
}

/// The file system of files without names: an inode is made for who asks, from the file's identity.
public final class NamelessFiles: FileSystem {
  private static let lastNumber = Atomic<UInt32>(1)
  private static let cell = BootCell<Mount>()
  public static func start() { cell.set(Mount(NamelessFiles(), source: [], flags: 0)) }

  public var typeName: String { "nameless" }
  public var deviceNumber: UInt32 { 9 }
  public private(set) lazy var root = Inode(self, number: 0, attributes: Attributes(mode: Mode.directory | 0o500))
  public func lookup(_ name: [UInt8], in directory: Inode) throws(Errno) -> Inode { throw .noSuchFileOrDirectory }
  public func readLink(_ inode: Inode) throws(Errno) -> [UInt8] { throw .invalidArgument }
  public func list(_ directory: Inode, from position: UInt64, _ visit: (DirectoryEntry) -> Bool) throws(Errno) {}
  public func statistics() -> FileSystemStatistics { FileSystemStatistics(magic: 0x0904_1934) }

  /// For a new pipe or socket.
  public static func makeNumber() -> UInt64 { UInt64(lastNumber.wrappingAdd(1, ordering: .relaxed).newValue) }

  public static func inode(of file: any OpenFile) -> Inode {
    let identity = file.identity
    return Inode(
      cell.value.fileSystem, number: identity.number, attributes: Attributes(mode: identity.mode), payload: identity.object)
  }

  /// Where the file would be if it had a name: stat and open get to it from there.
  public static func path(of description: FileDescription) -> Path {
    path(called: description.file.identity.text, description.inode ?? inode(of: description.file))
  }

  /// A place for an inode that has none: links to it say `text`.
  public static func path(called text: [UInt8], _ inode: Inode) -> Path {
    Path(mount: cell.value, dentry: Dentry(name: text, parent: nil, inode: inode))
  }
}

extension Path {
  /// What a link to a file without a name says.
  public var namelessText: [UInt8]? { mount.fileSystem is NamelessFiles ? dentry.name : nil }
}

extension FileDescription {
  /// Where the open file is, for who goes on from there; also one that has no name, or has lost it.
  public var place: Path {
    guard let path else { return NamelessFiles.path(of: self) }
    guard let inode, path.dentry.inode !== inode else { return path }
    let dentry = Dentry(name: path.dentry.name, parent: path.dentry.parent, inode: inode, isGone: true)
    return Path(mount: path.mount, dentry: dentry)
  }
}
