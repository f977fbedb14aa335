import Machine
import Processes
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// What a user's queues may hold in all counts against RLIMIT_MSGQUEUE, until the queue is gone.
final class QueueCharge {
  private struct Rank: LockRank { static let level: UInt8 = 84 }
  private static let users = BootCell<SpinLock<[(user: UInt32, bytes: UInt64)], Rank>>()
  static func start() { users.set(SpinLock([])) }

  private let user: UInt32
  private let bytes: UInt64

  private init(_ user: UInt32, _ bytes: UInt64) {
    self.user = user
    self.bytes = bytes
  }

  /// Throws `tooManyOpenFiles` beyond the limit.
  static func make(_ user: UInt32, _ bytes: UInt64, limit: UInt64) throws(Errno) -> QueueCharge {
    let isAllowed = users.value.withLock { users in
      let index = users.firstIndex { $0.user == user }
      let used = index.map { users[$0].bytes } ?? 0
      if used + bytes > limit { return false }
      if let index { users[index].bytes += bytes } else { users.append((user, bytes)) }
      return true
    }
    if !isAllowed { throw .tooManyOpenFiles }
    return QueueCharge(user, bytes)
  }

  deinit {
    Self.users.value.withLock { users in
      guard let index = users.firstIndex(where: { $0.user == user }) else { return }
      users[index].bytes -= min(bytes, users[index].bytes)
      if users[index].bytes == 0 { users.remove(at: index) }
    }
  }
}

/// The names of the message queues: one directory, which can be mounted as `mqueue`. SPEC: mq_overview(7).
public final class PosixQueueFS: FileSystem {
  private final class Directory {
    var entries: [(name: [UInt8], inode: Inode)] = []
  }
  private static let maximumCount = 256

  private var rootInode: Inode?
  private let nextNumber = Atomic<UInt32>(1)
  private let directory = Directory()

  public init() {
    var attributes = Attributes(mode: Mode.directory | 0o1777)
    attributes.links = 2
    let root = Inode(self, number: 1, attributes: attributes, payload: directory)
    root.addUser()
    rootInode = root
  }

  public var typeName: String { "mqueue" }
  public var deviceNumber: UInt32 { 7 }
  /// Seen through the calls and through mounts at once: neither may keep what it found.
  public var cachesNames: Bool { false }
  public var root: Inode { rootInode! }

  // The directory's mutex is held by the callers of all of these.

  public func lookup(_ name: [UInt8], in directory: Inode) throws(Errno) -> Inode {
    guard let entry = self.directory.entries.first(where: { $0.name == name }) else { throw .noSuchFileOrDirectory }
    return entry.inode
  }

  /// A queue with Linux's default limits, as creating its file makes it.
  public func create(_ name: [UInt8], in directory: Inode, _ attributes: Attributes) throws(Errno) -> Inode {
    try create(name, attributes, .init())
  }

  public func create(_ name: [UInt8], _ attributes: Attributes, _ limits: PosixQueue.Limits) throws(Errno) -> Inode {
    guard attributes.mode & Mode.typeMask == Mode.regular else { throw .notPermitted }
    let process = Task.currentTask.process
    if directory.entries.count >= Self.maximumCount, !process.who.has(.resource) { throw .noSpace }
    let charge = try QueueCharge.make(process.who.uid, limits.bytes, limit: process.limits.withLock { $0[12].soft })
    let number = UInt64(nextNumber.wrappingAdd(1, ordering: .relaxed).newValue)
    var attributes = attributes
    attributes.links = 1
    attributes.size = 80
    let inode = Inode(self, number: number, attributes: attributes, payload: PosixQueue(limits, charge))
    directory.entries.append((name, inode))
    inode.addUser()
    return inode
  }

  public func unlink(_ name: [UInt8], _ inode: Inode, in directory: Inode) throws(Errno) {
    guard let index = self.directory.entries.firstIndex(where: { $0.name == name }) else { throw .noSuchFileOrDirectory }
    inode.attributes.withLock { $0.links -= 1 }
    self.directory.entries.remove(at: index).inode.removeUser()
  }

  /// Nobody uses a removed queue any more: its messages go, and what it counted as.
  public func evict(_ inode: Inode) { inode.payload = nil }

  public func list(_ directory: Inode, from position: UInt64, _ visit: (DirectoryEntry) -> Bool) throws(Errno) {
    var entries: [(name: [UInt8], number: UInt64, type: UInt32)] = [([46], 1, Mode.directory), ([46, 46], 1, Mode.directory)]
    for entry in self.directory.entries { entries.append((entry.name, entry.inode.number, Mode.regular)) }
    for index in entries.indices where UInt64(index) >= position {
      let entry = entries[index]
      if !visit(DirectoryEntry(name: entry.name, inode: entry.number, type: entry.type, next: UInt64(index) + 1)) { return }
    }
  }

  public func statistics() -> FileSystemStatistics { FileSystemStatistics(magic: 0x1980_0202) }
}

/// Where the mq calls find their queues: the directory need not be mounted anywhere.
public enum PosixQueues {
  private static let mount = BootCell<Mount>()

  /// Makes the queues, and the directory that shows them known to mount.
  @export(interface) public static func start() {
    QueueCharge.start()
    let only = PosixQueueFS()
    mount.set(Mount(only, source: Array("mqueue".utf8), flags: 0))
    FileSystemTypes.register(SimpleType("mqueue") { _ throws(Errno) in only })
  }

  public static var root: Path { Path(mount: mount.value, dentry: mount.value.root) }
}
