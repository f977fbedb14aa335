import Sync
import Synchronization
import SystemABI
import Threads

/// Calls that make, remove and move names. Each takes the directory's mutex, checks rights, asks the file
/// system, and keeps the dentry cache true.
public enum Names {
  private static let renameLock = BootCell<Mutex<Void, RenameRank>>()
  public static func start() { renameLock.set(Mutex(())) }

  /// The directory's inode, checked for change by `who`.
  private static func writable(_ parent: Path, _ who: Credentials) throws(Errno) -> Inode {
    let directory = try parent.inode()
    try directory.check(3, who)
    if parent.mount.isReadOnly { throw .readOnlyFileSystem }
    return directory
  }

  /// Before names in a directory change, and before it is locked for that; who may not change it meets the error there.
  private static func bringUp(_ parent: Path, _ who: Credentials) throws(Errno) {
    guard let directory = parent.dentry.inode, let layers = directory.layers, !layers.isUpper else { return }
    do throws(Errno) { _ = try writable(parent, who) } catch { return }
    try directory.bringUp(at: parent)
  }

  /// Makes a name: `make` asks the file system. Throws `fileExists`, and `noSuchFileOrDirectory` for a place that wants a directory.
  public static func create(
    _ place: ParentAndName, _ who: Credentials, _ make: (Inode) throws(Errno) -> Inode
  ) throws(Errno) -> Path {
    if place.isNoName { throw .fileExists }
    let parent = place.parent
    let directory = try parent.inode()
    try bringUp(parent, who)
    let dentry = try directory.mutex.withLock { _ throws(Errno) in
      let dentry = try PathWalk.lookupLocked(parent.dentry, directory, place.name)
      if dentry.inode != nil { throw .fileExists }
      if place.wantsDirectory { throw .noSuchFileOrDirectory }
      _ = try writable(parent, who)
      dentry.give(try make(directory))
      let fileSystem = directory.fileSystem
      if !fileSystem.namesAreExact { dentry.move(to: parent.dentry, name: fileSystem.keptName(place.name)) }
      return dentry
    }
    directory.touch(modification: true)
    FileWatches.tell(directory, .create, name: place.name, of: dentry.inode)
    try parent.mount.settle(directory)
    return Path(mount: parent.mount, dentry: dentry)
  }

  /// Sticky directories: only the owner of file or directory removes. SPEC: POSIX.1-2024 unlink() EPERM.
  private static func checkSticky(_ directory: Inode, _ inode: Inode, _ who: Credentials) throws(Errno) {
    let (mode, owner) = directory.attributes.withLock { ($0.mode, $0.owner) }
    if mode & Mode.sticky == 0 || who.owns(owner) { return }
    if inode.attributes.withLock({ $0.owner }) != who.fsuid { throw .notPermitted }
  }

  /// Removes a name: a directory with `directory`, anything else without.
  public static func remove(_ place: ParentAndName, directory wantsDirectory: Bool, _ who: Credentials) throws(Errno) {
    if place.name == [46] { throw wantsDirectory ? .invalidArgument : .isDirectory }
    if place.name == [46, 46] { throw wantsDirectory ? .directoryNotEmpty : .isDirectory }
    if place.name.isEmpty { throw wantsDirectory ? .resourceBusy : .isDirectory }
    let parent = place.parent
    let directory = try parent.inode()
    try bringUp(parent, who)
    let inode = try directory.mutex.withLock { _ throws(Errno) in
      let dentry = try PathWalk.lookupLocked(parent.dentry, directory, place.name)
      guard let inode = dentry.inode else { throw .noSuchFileOrDirectory }
      _ = try writable(parent, who)
      if dentry.isMountPoint.load(ordering: .acquiring) { throw .resourceBusy }
      try checkSticky(directory, inode, who)
      if wantsDirectory {
        guard inode.isDirectory else { throw .notDirectory }
      } else {
        if inode.isDirectory { throw .isDirectory }
        if place.wantsDirectory { throw .notDirectory }
      }
      try freeing(dentry, inode) { () throws(Errno) in
        try directory.fileSystem.unlink(place.name, inode, in: directory)
        inode.touch(modification: false)
        if !wantsDirectory { FileWatches.tell(inode, .attributes) }
        parent.dentry.remove(dentry)
      }
      return inode
    }
    directory.touch(modification: true)
    FileWatches.tell(directory, .delete, name: place.name, of: inode)
    try parent.mount.settle(directory)
  }

  /// Takes a name away by `body`: that of a directory only if that is empty, and nothing comes into it meanwhile. The directory
  /// that it is in is locked.
  private static func freeing(_ dentry: Dentry, _ inode: Inode, _ body: () throws(Errno) -> Void) throws(Errno) {
    guard inode.isDirectory else {
      try body()
      return dentry.setRemoved()
    }
    try inode.mutex.withLockBelow { () throws(Errno) in
      if dentry.isMountPoint.load(ordering: .acquiring) { throw .resourceBusy }
      guard try inode.fileSystem.isEmpty(inode) else { throw .directoryNotEmpty }
      try body()
      dentry.setRemoved()
      dentry.forgetChildren()
    }
  }

  /// Makes a file without a name on `directory`'s file system. SPEC: open(2) O_TMPFILE.
  public static func createUnnamed(
    in parent: Path, _ attributes: Attributes, mayGetName: Bool, _ who: Credentials
  ) throws(Errno) -> Path {
    let directory = try writable(parent, who)
    try bringUp(parent, who)
    let inode = try directory.fileSystem.createUnnamed(in: directory, attributes)
    inode.mayGetName.store(mayGetName, ordering: .releasing)
    var name: [UInt8] = []
    var number = inode.number
    repeat {
      name.append(48 + UInt8(truncatingIfNeeded: number % 10))
      number /= 10
    } while number > 0
    name.append(35)
    return Path(mount: parent.mount, dentry: Dentry(name: name.reversed(), parent: parent.dentry, inode: inode, isGone: true))
  }

  public static func link(_ source: Path, to place: ParentAndName, _ who: Credentials) throws(Errno) {
    let inode = try source.useInode()
    defer { inode.removeUser() }
    let isPossible = source.mount === place.parent.mount && !inode.isDirectory
    if isPossible {
      try bringUp(place.parent, who)
      if place.parent.dentry.inode?.layers?.isUpper == true { try inode.bringUp(at: source) }
    }
    _ = try create(place, who) { directory throws(Errno) in
      // What is wrong with the new name comes first.
      if !isPossible { throw source.mount === place.parent.mount ? .notPermitted : .improperLink }
      // Its last name is gone: what is left of it ends with its users.
      let isNew = inode.mayGetName.load(ordering: .acquiring)
      if !isNew, inode.attributes.withLock({ $0.links }) == 0 { throw .noSuchFileOrDirectory }
      try inode.fileSystem.link(inode, place.name, in: directory)
      if isNew { inode.mayGetName.store(false, ordering: .releasing) }
      FileWatches.tell(inode, .attributes)
      return inode
    }
  }

  /// What becomes of what has the new name: it goes, it keeps it, or it gets the old one.
  public enum Renaming { case replaces, keeps, exchanges }

  /// SPEC: POSIX.1-2024 rename(); renameat2(2).
  public static func rename(_ from: ParentAndName, to: ParentAndName, _ how: Renaming = .replaces, _ who: Credentials) throws(Errno) {
    if from.parent.mount !== to.parent.mount { throw .improperLink }
    if from.isNoName { throw .resourceBusy }
    if to.isNoName { throw how == .keeps ? .fileExists : .resourceBusy }
    try bringUp(from.parent, who)
    try bringUp(to.parent, who)
    try renameLock.value.withLock { _ throws(Errno) in try move(from, to: to, how, who) }
    for directory in [from.parent, to.parent] { if let inode = directory.dentry.inode { try directory.mount.settle(inode) } }
  }

  /// As `rename`, for a layered file system, in a layer: its own rename holds the lock already, or nobody else knows what moves.
  public static func move(_ from: ParentAndName, to: ParentAndName, _ how: Renaming, _ who: Credentials) throws(Errno) {
    let oldDirectory = try writable(from.parent, who)
    let newDirectory = try writable(to.parent, who)
    try lockBoth(from.parent.dentry, oldDirectory, to.parent.dentry, newDirectory) { () throws(Errno) in
      let moved = try PathWalk.lookupLocked(from.parent.dentry, oldDirectory, from.name)
      guard let inode = moved.inode else { throw .noSuchFileOrDirectory }
      let target = try PathWalk.lookupLocked(to.parent.dentry, newDirectory, to.name)
      if how == .keeps, target.inode != nil { throw .fileExists }
      if how == .exchanges {
        guard let other = target.inode else { throw .noSuchFileOrDirectory }
        if !other.isDirectory, to.wantsDirectory { throw .notDirectory }
      }
      if !inode.isDirectory, from.wantsDirectory || how != .exchanges && to.wantsDirectory { throw .notDirectory }
      if oldDirectory !== newDirectory {
        if inode.isDirectory, to.parent.dentry.isBelow(moved) { throw .invalidArgument }
        if let other = target.inode, other.isDirectory, from.parent.dentry.isBelow(target) {
          throw how == .exchanges ? .invalidArgument : .directoryNotEmpty
        }
      }
      if target === moved, how == .replaces, !inode.fileSystem.namesAreExact, moved.name != inode.fileSystem.keptName(to.name) {
        // Only its spelling changes.
        try checkSticky(oldDirectory, inode, who)
        let spelling = Dentry(name: to.name, parent: to.parent.dentry, inode: nil)
        return try renameLocked(from, to, moved, spelling, oldDirectory, newDirectory)
      }
      if target === moved || target.inode === inode { return }
      if moved.isMountPoint.load(ordering: .acquiring) || target.isMountPoint.load(ordering: .acquiring) {
        throw .resourceBusy
      }
      try checkSticky(oldDirectory, inode, who)
      if let replaced = target.inode { try checkSticky(newDirectory, replaced, who) }
      if oldDirectory !== newDirectory {
        // A directory's `..` changes.
        if inode.isDirectory { try inode.check(2, who) }
        if how == .exchanges, let other = target.inode, other.isDirectory { try other.check(2, who) }
      }
      if how == .exchanges {
        try exchangeLocked(from, to, moved, target, oldDirectory, newDirectory)
      } else {
        try renameLocked(from, to, moved, target, oldDirectory, newDirectory)
      }
    }
  }

  /// Both directories, the upper one first as `freeing` has it: the rename lock is held, so that they stay where they are, and nobody
  /// else holds two that are not one in the other.
  private static func lockBoth(
    _ a: Dentry, _ aInode: Inode, _ b: Dentry, _ bInode: Inode, _ body: () throws(Errno) -> Void
  ) throws(Errno) {
    if aInode === bInode { return try aInode.mutex.withLock { _ throws(Errno) in try body() } }
    let (upper, lower) = a.isBelow(b) ? (bInode, aInode) : (aInode, bInode)
    try upper.mutex.withLock { _ throws(Errno) in try lower.mutex.withLockBelow(body) }
  }

  private static func renameLocked(
    _ from: ParentAndName, _ to: ParentAndName, _ moved: Dentry, _ target: Dentry, _ oldDirectory: Inode,
    _ newDirectory: Inode
  ) throws(Errno) {
    guard let inode = moved.inode else { throw .noSuchFileOrDirectory }
    // It goes after all has been told.
    let replaced = target.useInode()
    defer { replaced?.removeUser() }
    let rename = { () throws(Errno) in
      try inode.fileSystem.rename(
        inode, from: from.name, in: oldDirectory, to: to.name, in: newDirectory, replacing: replaced)
      to.parent.dentry.remove(target)
    }
    if let replaced {
      if inode.isDirectory, !replaced.isDirectory { throw .notDirectory }
      if !inode.isDirectory, replaced.isDirectory { throw .isDirectory }
      try freeing(target, replaced, rename)
    } else {
      try rename()
    }
    moved.move(to: to.parent.dentry, name: inode.fileSystem.keptName(to.name))
    oldDirectory.touch(modification: true)
    newDirectory.touch(modification: true)
    inode.touch()
    tell(inode, from.name, oldDirectory, to.name, newDirectory, replacing: replaced)
  }

  private static func exchangeLocked(
    _ from: ParentAndName, _ to: ParentAndName, _ moved: Dentry, _ target: Dentry, _ oldDirectory: Inode,
    _ newDirectory: Inode
  ) throws(Errno) {
    guard let inode = moved.inode, let other = target.inode else { throw .noSuchFileOrDirectory }
    try inode.fileSystem.exchange(inode, from.name, in: oldDirectory, with: other, to.name, in: newDirectory)
    moved.move(to: to.parent.dentry, name: to.name)
    target.move(to: from.parent.dentry, name: from.name)
    for changed in [oldDirectory, newDirectory] { changed.touch(modification: true) }
    for changed in [inode, other] { try changed.update { _ in } }
    tell(inode, from.name, oldDirectory, to.name, newDirectory)
    tell(other, to.name, newDirectory, from.name, oldDirectory)
  }

  private static func tell(
    _ inode: Inode, _ name: [UInt8], _ directory: Inode, _ newName: [UInt8], _ newDirectory: Inode, replacing replaced: Inode? = nil
  ) {
    if FileWatches.hasNone { return }
    let cookie = FileWatches.cookie()
    FileWatches.tell(directory, .movedFrom, name: name, of: inode, cookie: cookie)
    FileWatches.tell(newDirectory, .movedTo, name: newName, of: inode, cookie: cookie)
    if let replaced, !replaced.isDirectory { FileWatches.tell(replaced, .attributes) }
    FileWatches.tell(inode, .moveSelf)
  }
}
