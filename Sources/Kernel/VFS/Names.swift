import Sync
import Synchronization
import SystemABI
import Threads

/// Calls that make, remove and move names. Each takes the directory's mutex, checks rights, asks the file
/// system, and keeps the dentry cache true.
public enum Names {
  private static let renameLock = BootCell<Mutex<Void, RenameRank>>()
  public static func start() { renameLock.set(Mutex(())) }

  private static func checkName(_ name: [UInt8]) throws(Errno) {
    if name.isEmpty || name == [46] || name == [46, 46] { throw .fileExists }
  }

  /// The directory's inode, checked for change by `who`.
  private static func writable(_ parent: Path, _ who: Credentials) throws(Errno) -> Inode {
    let directory = try parent.inode()
    try directory.check(3, who)
    if parent.mount.isReadOnly { throw .readOnlyFileSystem }
    return directory
  }

  /// Makes a name: `make` asks the file system. Throws `fileExists`.
  public static func create(
    _ place: ParentAndName, _ who: Credentials, _ make: (Inode) throws(Errno) -> Inode
  ) throws(Errno) -> Path {
    try checkName(place.name)
    let parent = place.parent
    let directory = try parent.inode()
    let dentry = try directory.mutex.withLock { _ throws(Errno) in
      let dentry = try PathWalk.lookupLocked(parent.dentry, directory, place.name, 0..<place.name.count)
      if dentry.inode != nil { throw .fileExists }
      _ = try writable(parent, who)
      if directory.attributes.withLock({ $0.links }) == 0 { throw .noSuchFileOrDirectory }
      dentry.set(inode: try make(directory))
      return dentry
    }
    directory.touch(modification: true)
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
    if place.name == [46] { throw .invalidArgument }
    if place.name == [46, 46] { throw .directoryNotEmpty }
    if place.name.isEmpty { throw wantsDirectory ? .resourceBusy : .isDirectory }
    let parent = place.parent
    let directory = try parent.inode()
    let dentry = try directory.mutex.withLock { _ throws(Errno) in
      let dentry = try PathWalk.lookupLocked(parent.dentry, directory, place.name, 0..<place.name.count)
      guard let inode = dentry.inode else { throw .noSuchFileOrDirectory }
      _ = try writable(parent, who)
      if dentry.isMountPoint.load(ordering: .acquiring) { throw .resourceBusy }
      try checkSticky(directory, inode, who)
      if wantsDirectory {
        guard inode.isDirectory else { throw .notDirectory }
        guard try inode.fileSystem.isEmpty(inode) else { throw .directoryNotEmpty }
      } else {
        if inode.isDirectory { throw .isDirectory }
        if place.wantsDirectory { throw .notDirectory }
      }
      try directory.fileSystem.unlink(place.name, inode, in: directory)
      inode.touch(modification: false)
      parent.dentry.remove(dentry)
      dentry.set(inode: nil)
      return dentry
    }
    if wantsDirectory { dentry.forgetChildren() }
    directory.touch(modification: true)
  }

  public static func link(_ source: Path, to place: ParentAndName, _ who: Credentials) throws(Errno) {
    let inode = try source.useInode()
    defer { inode.removeUser() }
    if inode.isDirectory { throw .notPermitted }
    if source.mount !== place.parent.mount { throw .improperLink }
    _ = try create(place, who) { directory throws(Errno) in
      // Its last name is gone: what is left of it ends with its users.
      if inode.attributes.withLock({ $0.links }) == 0 { throw .noSuchFileOrDirectory }
      try inode.fileSystem.link(inode, place.name, in: directory)
      return inode
    }
  }

  /// SPEC: POSIX.1-2024 rename(); `noReplace` is RENAME_NOREPLACE.
  public static func rename(_ from: ParentAndName, to: ParentAndName, noReplace: Bool, _ who: Credentials) throws(Errno) {
    for name in [from.name, to.name] where name.isEmpty || name == [46] || name == [46, 46] { throw .resourceBusy }
    if from.parent.mount !== to.parent.mount { throw .improperLink }
    try renameLock.value.withLock { _ throws(Errno) in
      let oldDirectory = try writable(from.parent, who)
      let newDirectory = try writable(to.parent, who)
      try lockBoth(oldDirectory, newDirectory) { () throws(Errno) in
        let moved = try PathWalk.lookupLocked(from.parent.dentry, oldDirectory, from.name, 0..<from.name.count)
        guard let inode = moved.inode else { throw .noSuchFileOrDirectory }
        let target = try PathWalk.lookupLocked(to.parent.dentry, newDirectory, to.name, 0..<to.name.count)
        if noReplace, target.inode != nil { throw .fileExists }
        if !inode.isDirectory, from.wantsDirectory || to.wantsDirectory { throw .notDirectory }
        if target === moved || target.inode === inode { return }
        if moved.isMountPoint.load(ordering: .acquiring) || target.isMountPoint.load(ordering: .acquiring) {
          throw .resourceBusy
        }
        try checkSticky(oldDirectory, inode, who)
        if let replaced = target.inode { try checkSticky(newDirectory, replaced, who) }
        if inode.isDirectory { try checkNotInside(to.parent.dentry, moved) }
        try renameLocked(from, to, moved, target, oldDirectory, newDirectory)
      }
    }
  }

  /// A directory must not move below itself.
  private static func checkNotInside(_ directory: Dentry, _ moved: Dentry) throws(Errno) {
    var node: Dentry? = directory
    while let current = node {
      if current === moved { throw .invalidArgument }
      node = current.parent
    }
  }

  private static func lockBoth(_ a: Inode, _ b: Inode, _ body: () throws(Errno) -> Void) throws(Errno) {
    if a === b { return try a.mutex.withLock { _ throws(Errno) in try body() } }
    let (first, second) = a.number < b.number ? (a, b) : (b, a)
    try Mutex.withBoth(first.mutex, second.mutex, body)
  }

  private static func renameLocked(
    _ from: ParentAndName, _ to: ParentAndName, _ moved: Dentry, _ target: Dentry, _ oldDirectory: Inode,
    _ newDirectory: Inode
  ) throws(Errno) {
    guard let inode = moved.inode else { throw .noSuchFileOrDirectory }
    let replaced = target.inode
    if let replaced {
      if inode.isDirectory {
        guard replaced.isDirectory else { throw .notDirectory }
        guard try replaced.fileSystem.isEmpty(replaced) else { throw .directoryNotEmpty }
      } else if replaced.isDirectory {
        throw .isDirectory
      }
    }
    try inode.fileSystem.rename(
      inode, from: from.name, in: oldDirectory, to: to.name, in: newDirectory, replacing: replaced)
    to.parent.dentry.remove(target)
    target.set(inode: nil)
    if replaced?.isDirectory == true { target.forgetChildren() }
    moved.move(to: to.parent.dentry, name: to.name)
    oldDirectory.touch(modification: true)
    newDirectory.touch(modification: true)
    inode.touch()
  }
}
