import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads

/// What `stat` tells of a file. Times are nanoseconds since 1970.
public struct Attributes {
  public var mode: UInt32
  public var owner: UInt32
  public var group: UInt32
  public var links: UInt32 = 1
  public var size: UInt64 = 0
  public var device = DeviceNumber(rawValue: 0)
  /// 512-byte units.
  public var blocks: UInt64 = 0
  public var accessTime: Int64
  public var modificationTime: Int64
  public var changeTime: Int64

  /// Takes away what lets a program run with its owner's rights: another has the say over it now. Set-group-id without execution is
  /// another thing. SPEC: chown(2), inode(7).
  public mutating func dropSetID() {
    mode &= ~Mode.setUser
    if mode & 0o010 != 0 { mode &= ~Mode.setGroup }
  }

  public init(mode: UInt32, owner: UInt32 = 0, group: UInt32 = 0) {
    self.mode = mode
    self.owner = owner
    self.group = group
    let now = Clock.realtime
    accessTime = now
    modificationTime = now
    changeTime = now
  }
}

/// A file, directory, link, device, pipe or socket, whatever names it has. One object per file while in memory.
public final class Inode {
  public let number: UInt64
  public let fileSystem: any FileSystem
  /// The file type bits of the mode.
  public let type: UInt32
  public let attributes: SpinLock<Attributes, AttributesRank>
  /// Everybody may search it: what its mode says, without a lock.
  private let openToSearch = Atomic<Bool>(false)
  /// Serialises changes: directory entries, or size and content of a file.
  public let mutex: Mutex<Void, InodeRank>
  /// Page index to frame number and state. Cached pages hold one reference on their frame.
  let pages = SpinLock<RadixTree, PagesRank>(RadixTree())
  /// Held by who adds pages; what is being read from the device.
  let fill: Mutex<[PageRun], PageFillRank>
  /// A hint that there is some of it.
  let hasReads = Atomic<Bool>(false)
  /// Held while dirty pages are on their way to the device: who finds none is sure that all are there.
  let writing: Mutex<Void, PageWriteRank>
  /// The file system's own state for this inode, or a pipe, a device.
  public var payload: AnyObject?
  /// In a layered file system: the inode below that this one stands for.
  public let layers: FileLayers?
  /// Advisory locks; under the attributes' lock.
  var lockTable: FileLocking?
  /// Names, open files and mappings that use it. At 0 without links it is deleted.
  let users = Atomic<Int32>(0)
  /// It never had a name and may get one (O_TMPFILE).
  let mayGetName = Atomic<Bool>(false)
  /// A directory has one dentry at most, or locks would be taken in circles.
  let hasName = Atomic<Bool>(false)
  /// How often it is open for writing or, below 0, in how many memories it is executed.
  let writers = Atomic<Int32>(0)
  /// Mappings of it, and those through which processes may write to it.
  public let mappings = Atomic<Int32>(0)
  public let writableMappings = Atomic<Int32>(0)
  /// How often something of it could not be written.
  let writeErrors = Atomic<UInt32>(0)
  /// On the list of inodes to write back; its place there, under the list's lock.
  let dirtyListed = Atomic<Bool>(false)
  var dirtyIndex = -1
  /// The file system does not have all of them yet.
  private let attributesDelayed = Atomic<Bool>(false)
  var nextInTable: Inode?
  /// The extended attributes of a file in memory, under its mutex.
  public var extendedAttributes = AttributeList()
  /// Those who want to know what happens to it; under the lock of `FileWatches`.
  var watches: [FileWatch] = []
  let isWatched = Atomic<Bool>(false)

  public init(
    _ fileSystem: any FileSystem, number: UInt64, attributes: Attributes, payload: AnyObject? = nil, layers: FileLayers? = nil
  ) {
    self.fileSystem = fileSystem
    self.number = number
    type = attributes.mode & Mode.typeMask
    self.attributes = SpinLock(attributes)
    openToSearch.store(Self.isOpenToSearch(attributes.mode), ordering: .relaxed)
    self.payload = payload
    self.layers = layers
    // Layered ones use their layers' inodes.
    mutex = Mutex((), level: InodeRank.level - (layers == nil ? 0 : fileSystem.layerDepth))
    // File systems use the pages of their device with locks of their own held.
    let isDevice = fileSystem.isBlockDevice
    fill = Mutex([], level: isDevice ? DevicePageFillRank.level : PageFillRank.level)
    writing = Mutex((), level: isDevice ? DevicePageWriteRank.level : PageWriteRank.level)
  }

  deinit { dropPages() }

  public var isDirectory: Bool { type == Mode.directory }
  public var isRegular: Bool { type == Mode.regular }
  public var isLink: Bool { type == Mode.link }
  public var size: UInt64 { if let layers { layers.real.size } else { attributes.withLock { $0.size } } }

  /// The attributes as `stat` tells them. What a file in memory takes is known from its pages.
  public var shownAttributes: Attributes {
    if let layers { return fileSystem.shownAttributes(of: self, layers.real.shownAttributes) }
    var shown = attributes.withLock { $0 }
    if isRegular, fileSystem.livesInMemory { shown.blocks = UInt64(pages.withLock { $0.count }) * UInt64(pageSize / 512) }
    return shown
  }

  public func addUser() { users.wrappingAdd(1, ordering: .relaxed) }

  /// Ends a use; the last one of a file without links deletes it.
  public func removeUser() {
    let left = users.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue
    if left > 1 || attributes.withLock({ $0.links }) != 0 { return }
    if left == 0 {
      FileWatches.end(self, .deleteSelf)
      fileSystem.evict(self)
    } else if WriteBack.unlist(self) {
      removeUser()
    }  // nothing of a deleted file is written
  }

  /// Whether it has just lost its last name while somebody uses it besides that; who takes it away may count.
  public var isInUseWithoutNames: Bool {
    if attributes.withLock({ $0.links }) > 0 { return false }
    return users.load(ordering: .acquiring) > (dirtyListed.load(ordering: .relaxed) ? 2 : 1)
  }

  /// Throws `permissionDenied` unless `wanted` (4 read, 2 write, 1 execute) is allowed.
  public func check(_ wanted: UInt32, _ who: Credentials) throws(Errno) {
    let allowed = attributes.withLock { who.allows(wanted, mode: $0.mode, owner: $0.owner, group: $0.group) }
    if !allowed { throw .permissionDenied }
  }

  /// A directory in which everybody may look names up.
  var isOpenToSearch: Bool { openToSearch.load(ordering: .relaxed) }

  /// The attributes came from elsewhere.
  func attributesTaken(_ mode: UInt32) { openToSearch.store(Self.isOpenToSearch(mode), ordering: .relaxed) }

  private static func isOpenToSearch(_ mode: UInt32) -> Bool { mode & 0o111 == 0o111 }

  /// Changes attributes under their lock, stamps the change time, and tells the file system.
  public func update(_ change: (inout Attributes) -> Void) throws(Errno) {
    if let layers { return try update(layers, change) }
    try attributes.withLock { attributes throws(Errno) in
      var wanted = attributes
      change(&wanted)
      try fileSystem.adapt(&wanted, of: self)
      wanted.changeTime = Clock.realtime
      attributes = wanted
      openToSearch.store(Self.isOpenToSearch(wanted.mode), ordering: .relaxed)
    }
    try fileSystem.attributesChanged(self)
  }

  public func touch(access: Bool = false, modification: Bool = false) {
    if layers != nil { return }
    let now = Clock.realtime
    let givesRights = attributes.withLock {
      if access { $0.accessTime = now }
      guard modification else { return false }
      $0.modificationTime = now
      $0.changeTime = now
      return $0.mode & (Mode.setUser | Mode.setGroup) != 0
    }
    if givesRights, isRegular, !Thread.current.keepsSetID { attributes.withLock { $0.dropSetID() } }
    if modification, !fileSystem.livesInMemory { delayAttributes() }
  }

  /// Leaves it to write-back to tell the file system of attributes.
  public func delayAttributes() {
    attributesDelayed.store(true, ordering: .releasing)
    WriteBack.list(self)
  }

  func forgetDelayedAttributes() { attributesDelayed.store(false, ordering: .releasing) }

  func writeDelayedAttributes() throws(Errno) {
    guard attributesDelayed.exchange(false, ordering: .acquiringAndReleasing) else { return }
    do throws(Errno) { try fileSystem.writeAttributes(self) } catch {
      delayAttributes()
      throw error
    }
  }
}

/// A file system's inodes in memory, by number.
public final class InodeTable {
  private let lock: SpinLock<[Inode?], InodeTableRank>
  private let liveCount = Atomic<Int>(0)

  public init(buckets: Int = 256) { lock = SpinLock(Array(repeating: nil, count: buckets)) }

  public var count: Int { liveCount.load(ordering: .relaxed) }

  public func find(_ number: UInt64) -> Inode? {
    lock.withLock { table in
      var node = table[Int(truncatingIfNeeded: number % UInt64(table.count))]
      while let inode = node {
        if inode.number == number { return inode }
        node = inode.nextInTable
      }
      return nil
    }
  }

  /// Adds an inode, or answers the one with its number that got there first.
  public func insert(_ inode: Inode) -> Inode {
    lock.withLock { table in
      let bucket = Int(truncatingIfNeeded: inode.number % UInt64(table.count))
      var node = table[bucket]
      while let other = node {
        if other.number == inode.number { return other }
        node = other.nextInTable
      }
      inode.nextInTable = table[bucket]
      table[bucket] = inode
      liveCount.wrappingAdd(1, ordering: .relaxed)
      return inode
    }
  }

  public func remove(_ inode: Inode) {
    // The removed link outlives the lock, so that no last reference dies under it.
    var removed: Inode?
    lock.withLock { table in
      let bucket = Int(truncatingIfNeeded: inode.number % UInt64(table.count))
      var previous: Inode?
      var node = table[bucket]
      while let current = node {
        if current === inode {
          if let previous { previous.nextInTable = current.nextInTable } else { table[bucket] = current.nextInTable }
          current.nextInTable = nil
          removed = current
          liveCount.wrappingSubtract(1, ordering: .relaxed)
          return
        }
        previous = current
        node = current.nextInTable
      }
    }
    _ = removed
  }

  /// Forgets all: the file system is not used any more, and what is in the table keeps it.
  public func removeAll() {
    for inode in all() { remove(inode) }
  }

  /// Every inode now in the table.
  public func all() -> [Inode] {
    let expected = count + 64
    var result: [Inode] = []
    result.reserveCapacity(expected)
    lock.withLock { table in
      for head in table {
        var node = head
        while let inode = node, result.count < expected {
          result.append(inode)
          node = inode.nextInTable
        }
      }
    }
    return result
  }

  /// Forgets inodes that nothing refers to and that hold nothing dirty. References are only given under the lock.
  public func dropUnused() {
    var victims: Inode? = lock.withLock { table in
      var victims: Inode?
      for bucket in table.indices {
        var kept: Inode?
        while var inode = table[bucket] {
          table[bucket] = inode.nextInTable
          inode.nextInTable = nil
          if isKnownUniquelyReferenced(&inode), !inode.dirtyListed.load(ordering: .acquiring) {
            inode.nextInTable = victims
            victims = inode
            liveCount.wrappingSubtract(1, ordering: .relaxed)
          } else {
            inode.nextInTable = kept
            kept = inode
          }
        }
        table[bucket] = kept
      }
      return victims
    }
    while let victim = victims {
      victims = victim.nextInTable
      victim.nextInTable = nil
    }
  }
}
