import Machine
import Sync
import Synchronization
import SystemABI
import Threads

/// Mount flags as `mount(2)` numbers them.
public enum MountFlags {
  public static let readOnly: UInt32 = 1
  public static let noSetUser: UInt32 = 2
  public static let noDevices: UInt32 = 4
  public static let noExecute: UInt32 = 8
  /// Writes and changes of names are on stable storage when they return; the latter alone.
  public static let synchronous: UInt32 = 16
  public static let remount: UInt32 = 32
  public static let synchronousNames: UInt32 = 128
  public static let bind: UInt32 = 4096
  public static let move: UInt32 = 8192
  public static let recursive: UInt32 = 16384
  /// Nothing that is mounted there is seen in another place; one of four kinds.
  public static let isPrivate: UInt32 = 1 << 18
  public static let propagation: UInt32 = 0xF << 17
  /// Those that stay with a mount.
  static let kept = readOnly | noSetUser | noDevices | noExecute | synchronous | synchronousNames
}

/// One place where a file system (or a part of it, for a bind) is seen.
public final class Mount {
  public let fileSystem: any FileSystem
  public let root: Dentry
  /// Its number in /proc/PID/mountinfo and fdinfo.
  public let id = lastID.wrappingAdd(1, ordering: .relaxed).newValue
  private static let lastID = Atomic<UInt32>(0)
  /// What the mount shows in /proc/mounts.
  public let source: [UInt8]
  public internal(set) var flags: UInt32
  /// Where it is mounted; nil for the root mount.
  public internal(set) var parent: Mount?
  public internal(set) var point: Dentry?
  /// Paths in use: open files, working directories, mounts on it.
  let pins = Atomic<Int32>(0)
  /// Nobody has used it since it was to go if nobody does.
  let isExpiring = Atomic<Bool>(false)
  /// No longer in the tree; whoever ends its last use, and takes this away, ends it.
  let isDetached = Atomic<Bool>(false)

  public init(_ fileSystem: any FileSystem, root: Dentry? = nil, source: [UInt8], flags: UInt32) {
    self.fileSystem = fileSystem
    self.root = root ?? Dentry(name: [], parent: nil, inode: fileSystem.root)
    // It is in no directory.
    fileSystem.root.hasName.store(true, ordering: .releasing)
    self.source = source
    self.flags = flags
  }

  public var isReadOnly: Bool { flags & MountFlags.readOnly != 0 || fileSystem.isReadOnly }
  public var isSynchronous: Bool { flags & MountFlags.synchronous != 0 || fileSystem.isSynchronous }

  /// Waits until what a call has changed of a file is on stable storage, where the mount promises that. No lock is held.
  @inline(__always) public func settle(_ inode: Inode) throws(Errno) {
    if flags & (MountFlags.synchronous | MountFlags.synchronousNames) != 0 || fileSystem.isSynchronous { try settleNow(inode) }
  }

  @inline(never) private func settleNow(_ inode: Inode) throws(Errno) {
    guard flags & MountFlags.synchronous != 0 || fileSystem.isSynchronous || inode.isDirectory else { return }
    try inode.content.writeBack()
    try inode.content.fileSystem.sync(inode.content)
  }

  /// Whether it is another mount, or on it, or on what is on it.
  func isOn(_ other: Mount) -> Bool {
    var mount: Mount? = self
    while let here = mount {
      if here === other { return true }
      mount = here.parent
    }
    return false
  }

  /// The first time marks it, the next time it is true if nobody has used it meanwhile. SPEC: umount2(2) MNT_EXPIRE.
  public func expire() -> Bool { isExpiring.exchange(true, ordering: .acquiringAndReleasing) }
}

/// A place in the tree: a dentry seen through a mount.
public struct Path {
  public var mount: Mount
  public var dentry: Dentry
  public init(mount: Mount, dentry: Dentry) {
    self.mount = mount
    self.dentry = dentry
  }

  public func isSame(as other: Path) -> Bool { mount === other.mount && dentry === other.dentry }
  /// Keeps the dentry cached and the mount busy while something holds this path for long.
  public func pin() {
    dentry.pins.wrappingAdd(1, ordering: .relaxed)
    mount.pins.wrappingAdd(1, ordering: .relaxed)
    if mount.isExpiring.load(ordering: .relaxed) { mount.isExpiring.store(false, ordering: .relaxed) }
  }
  /// Ends that; the last one of a mount that is out of the tree unmounts its file system, which sleeps.
  public func unpin() {
    dentry.pins.wrappingSubtract(1, ordering: .releasing)
    if mount.pins.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue > 0 { return }
    do throws(Errno) { try Mounts.finishIfUnused(mount) } catch { log("unmount: errno \(error.rawValue)") }
  }
  /// As `unpin`, for who holds locks: the flusher unmounts what this was the last use of.
  public func unpinLater() {
    dentry.pins.wrappingSubtract(1, ordering: .releasing)
    if mount.pins.wrappingSubtract(1, ordering: .sequentiallyConsistent).newValue > 0 || !mount.isDetached.load(ordering: .acquiring) {
      return
    }
    Mounts.hasUnused.store(true, ordering: .releasing)
    WriteBack.event.value.wake()
  }
  /// As `inode`, for whoever goes on to use a file that somebody may be removing: with a use of it, to be ended by `removeUser`.
  public func useInode() throws(Errno) -> Inode {
    guard let inode = dentry.useInode() else { throw .noSuchFileOrDirectory }
    return inode
  }
  public func inode() throws(Errno) -> Inode { try dentry.existing() }
}

/// All mounts.
public enum Mounts {
  static let table = BootCell<SpinLock<[Mount], MountRank>>()
  /// Out of the tree, and still used (umount2 with MNT_DETACH).
  private static let detached = BootCell<SpinLock<[Mount], MountRank>>()

  public static func start() {
    table.set(SpinLock([]))
    detached.set(SpinLock([]))
    changing.set(Mutex(()))
  }

  public static func all() -> [Mount] { table.isSet ? table.value.withLock { $0 } : [] }

  /// Those out of the tree that are in use, which may be layers of the others, and those of the tree.
  static func everywhere() -> [Mount] { table.isSet ? detached.value.withLock { $0 } + all() : [] }

  public static func fileSystems() -> [any FileSystem] {
    var result: [any FileSystem] = []
    for mount in everywhere() where !result.contains(where: { $0 === mount.fileSystem }) { result.append(mount.fileSystem) }
    return result
  }

  /// The mounted file system of a block device.
  static func fileSystem(on device: DeviceNumber) -> (any FileSystem)? {
    fileSystems().first { $0.device != nil && $0.deviceNumber == device.rawValue }
  }

  /// The root of the names of a mounted file system: there is one tree of them, wherever it is seen.
  private static func names(of fileSystem: any FileSystem) -> Dentry? {
    var root = everywhere().first { $0.fileSystem === fileSystem }?.root
    while let above = root?.parent { root = above }
    return root
  }

  /// Held by who adds or removes mounts: what is found mounted stays so.
  private static let changing = BootCell<Mutex<Void, MountingRank>>()

  /// Makes a file system, or finds the device's, and mounts it on a directory.
  public static func mount(
    _ type: [UInt8], source: [UInt8], at path: Path, flags: UInt32, options: [UInt8], context: PathContext
  ) throws(Errno) {
    guard try path.inode().isDirectory else { throw .notDirectory }
    try changing.value.withLock { _ throws(Errno) in
      // Nobody takes it out of the tree meanwhile, and what is made has its place.
      guard all().contains(where: { $0 === path.mount }) else { throw .invalidArgument }
      let fileSystem = try FileSystemTypes.make(
        type, source: source, readOnly: flags & MountFlags.readOnly != 0, options: options, context: context)
      try add(Mount(fileSystem, root: names(of: fileSystem), source: source, flags: flags & MountFlags.kept), at: path)
    }
  }

  /// Shows what is at a path at another one, too; with `all` also what is mounted below it.
  public static func bind(_ from: Path, source: [UInt8], at path: Path, all: Bool) throws(Errno) {
    try changing.value.withLock { _ throws(Errno) in
      var copies = [(of: from.mount, copy: Mount(from.mount.fileSystem, root: from.dentry, source: source, flags: from.mount.flags))]
      let mounts = all ? self.all() : []
      try add(copies[0].copy, at: path)
      if mounts.isEmpty { return }
      // Each below a mount that has been copied, in the part of it that can be seen from there.
      var next = 0
      while next < copies.count {
        let (original, parent) = copies[next]
        next += 1
        for mount in mounts where mount.parent === original && mount !== copies[0].copy {
          guard let point = mount.point, point.isBelow(parent.root) else { continue }
          let copy = Mount(mount.fileSystem, root: mount.root, source: mount.source, flags: mount.flags)
          try add(copy, at: Path(mount: parent, dentry: point))
          copies.append((mount, copy))
        }
      }
    }
  }

  /// Adds the first mount, the root of all paths.
  public static func addRoot(_ mount: Mount) { table.value.withLock { $0.append(mount) } }

  /// Puts a mount in the first one's place: the disk takes over from the empty root.
  public static func replaceRoot(_ mount: Mount) {
    let old: Mount? = table.value.withLock { list in
      let old = list.first
      if list.isEmpty { list.append(mount) } else { list[0] = mount }
      return old
    }
    _ = old  // goes outside the lock
  }

  /// Mounts on a directory. Throws `invalidArgument` when that is out of the tree, `noSuchFileOrDirectory` when it has been removed.
  public static func add(_ mount: Mount, at path: Path) throws(Errno) {
    let inode = try path.inode()
    guard inode.isDirectory == mount.root.inode?.isDirectory else { throw .notDirectory }
    // As who removes it: that is not done with a mount point.
    try inode.mutex.withLock { _ throws(Errno) in
      if path.dentry.isGone { throw .noSuchFileOrDirectory }
      try table.value.withLock { list throws(Errno) in
        guard list.contains(where: { $0 === path.mount }) else { throw .invalidArgument }
        mount.parent = path.mount
        mount.point = path.dentry
        list.append(mount)
        path.pin()
        path.dentry.isMountPoint.store(true, ordering: .releasing)
      }
    }
  }

  /// The topmost mount on a dentry, or nil.
  public static func covering(_ mount: Mount, _ dentry: Dentry) -> Mount? {
    guard dentry.isMountPoint.load(ordering: .acquiring) else { return nil }
    return table.value.withLock { list in list.last { $0.point === dentry && $0.parent === mount } }
  }

  /// Takes a mount away. Throws `resourceBusy` while something uses it, unless `lazy`.
  public static func remove(_ mount: Mount, lazy: Bool) throws(Errno) {
    try changing.value.withLock { _ throws(Errno) in try removeLocked(mount, lazy: lazy) }
  }

  private static func removeLocked(_ mount: Mount, lazy: Bool) throws(Errno) {
    let place = try table.value.withLock { list throws(Errno) in
      guard let index = list.firstIndex(where: { $0 === mount }), let parent = mount.parent, let point = mount.point else {
        throw .invalidArgument
      }
      if !lazy, mount.pins.load(ordering: .acquiring) > 0 { throw .resourceBusy }
      list.remove(at: index)
      if !list.contains(where: { $0.point === point }) { point.isMountPoint.store(false, ordering: .releasing) }
      return Path(mount: parent, dentry: point)
    }
    detached.value.withLock { $0.append(mount) }
    mount.isDetached.store(true, ordering: .sequentiallyConsistent)
    place.unpin()
    try finishIfUnused(mount)
  }

  /// A mount of what is at a path that is in no tree: a layer of another file system, as long as that one pins it.
  public static func addDetached(_ path: Path) -> Mount {
    let mount = Mount(path.mount.fileSystem, root: path.dentry, source: path.mount.source, flags: path.mount.flags)
    Path(mount: mount, dentry: mount.root).pin()
    detached.value.withLock { $0.append(mount) }
    mount.isDetached.store(true, ordering: .sequentiallyConsistent)
    return mount
  }

  /// A mount that is out of the tree may have lost its last user.
  public static let hasUnused = Atomic<Bool>(false)

  /// Unmounts what nobody uses any more.
  public static func finishUnused() {
    hasUnused.store(false, ordering: .sequentiallyConsistent)
    for mount in detached.value.withLock({ $0 }) {
      do throws(Errno) { try finishIfUnused(mount) } catch { log("unmount: errno \(error.rawValue)") }
    }
  }

  /// Unmounts the file system of a mount that is out of the tree and that nobody uses, if it was its last.
  static func finishIfUnused(_ mount: Mount) throws(Errno) {
    guard mount.pins.load(ordering: .sequentiallyConsistent) == 0,
      mount.isDetached.compareExchange(expected: true, desired: false, ordering: .acquiringAndReleasing).exchanged
    else { return }
    let fileSystem = mount.fileSystem
    let isUsed = detached.value.withLock { list in
      if let index = list.firstIndex(where: { $0 === mount }) { list.remove(at: index) }
      return list.contains { $0.fileSystem === fileSystem }
    }
    if isUsed || all().contains(where: { $0.fileSystem === fileSystem }) { return }
    mount.root.dropUnusedBelow()
    // It ends in any case; what could not be written is lost, and told.
    var failure: Errno?
    do throws(Errno) { try WriteBack.run(fileSystem) } catch { failure = error }
    FileWatches.unmounted(fileSystem)
    defer {
      WriteBack.abandon(fileSystem)
      fileSystem.end()
    }
    try fileSystem.unmount()
    if let failure { throw failure }
  }

  /// Moves a mount to another place (`mount --move`). Throws `tooManySymbolicLinkLevels` for a place on itself.
  public static func move(_ mount: Mount, to path: Path) throws(Errno) {
    guard try path.inode().isDirectory == mount.root.inode?.isDirectory else { throw .notDirectory }
    try changing.value.withLock { _ throws(Errno) in
      let old = try table.value.withLock { list throws(Errno) in
        guard mount.parent != nil, list.contains(where: { $0 === mount }), list.contains(where: { $0 === path.mount }) else {
          throw .invalidArgument
        }
        if path.mount.isOn(mount) { throw .tooManySymbolicLinkLevels }
        let old = take(mount, list)
        put(mount, at: path, &list)
        return old
      }
      path.pin()
      old?.unpin()
    }
  }

  /// Makes `new` the root in the place of `old`, which goes to a place in it. Throws `invalidArgument`, `resourceBusy`.
  public static func pivot(from old: Mount, to new: Mount, old place: Path) throws(Errno) {
    try changing.value.withLock { _ throws(Errno) in
      let left = try table.value.withLock { list throws(Errno) in
        if new === old || place.mount === old { throw .resourceBusy }
        guard new.parent != nil, list.contains(where: { $0 === old }), list.contains(where: { $0 === place.mount }), place.mount.isOn(new),
          new.isOn(old)
        else { throw .invalidArgument }
        let left = take(new, list)
        if let above = take(old, list) {
          // Its use there goes on as the new one's.
          put(new, at: above, &list)
        } else if let (a, b) = list.firstIndex(where: { $0 === old }).flatMap({ a in list.firstIndex { $0 === new }.map { (a, $0) } }) {
          // The first one is the root of everything.
          list.swapAt(a, b)
        }
        put(old, at: place, &list)
        return left
      }
      place.pin()
      left?.unpin()
    }
  }

  /// Takes a mount from its place, which is the caller's to unpin. The table is locked.
  private static func take(_ mount: Mount, _ list: [Mount]) -> Path? {
    guard let point = mount.point, let parent = mount.parent else { return nil }
    mount.point = nil
    mount.parent = nil
    if !list.contains(where: { $0.point === point }) { point.isMountPoint.store(false, ordering: .releasing) }
    return Path(mount: parent, dentry: point)
  }

  /// Puts a mount on top of what is at a place, which the caller pins. The table is locked.
  private static func put(_ mount: Mount, at path: Path, _ list: inout [Mount]) {
    mount.parent = path.mount
    mount.point = path.dentry
    path.dentry.isMountPoint.store(true, ordering: .releasing)
    // What comes later lies above.
    if let index = list.firstIndex(where: { $0 === mount }) {
      list.remove(at: index)
      list.append(mount)
    }
  }

  public static func remount(_ mount: Mount, flags: UInt32) { mount.flags = flags & MountFlags.kept }

  /// Everything to the devices. What fails does not keep the others from it.
  public static func sync() throws(Errno) {
    var failure: Errno?
    do throws(Errno) { try WriteBack.run() } catch { failure = error }
    for fileSystem in fileSystems() { do throws(Errno) { try fileSystem.sync() } catch { failure = error } }
    if let failure { throw failure }
  }
}
