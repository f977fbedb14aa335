import Machine
import Processes
import SystemABI
import Threads
import VFS

/// What is mounted where. SPEC: mount(2), umount2(2), pivot_root(2).
extension Call {
  func mount() throws(Errno) -> UInt32 {
    try require(.administrate)
    let source = a == 0 ? [] : try path(a)
    let target = try resolve(at: Self.cwd, b)
    // Old programs put a magic number in the upper half.
    let flags = d & 0xFFFF_0000 == 0xC0ED_0000 ? d & 0xFFFF : d
    if flags & MountFlags.remount != 0 {
      guard target.dentry === target.mount.root else { throw .invalidArgument }
      if flags & MountFlags.readOnly != 0 { try Mounts.sync() }
      Mounts.remount(target.mount, flags: flags)
      return 0
    }
    if flags & MountFlags.move != 0 {
      let from = try resolve(at: Self.cwd, text: source, follow: true)
      guard from.dentry === from.mount.root else { throw .invalidArgument }
      try Mounts.move(from.mount, to: target)
      return 0
    }
    if flags & MountFlags.bind != 0 {
      let from = try resolve(at: Self.cwd, text: source, follow: true)
      try Mounts.bind(from, source: source, at: target, all: flags & MountFlags.recursive != 0)
      return 0
    }
    if flags & MountFlags.propagation != 0 {
      // All mounts are private; the other kinds there are not.
      guard target.dentry === target.mount.root, flags & ~MountFlags.recursive == MountFlags.isPrivate else { throw .invalidArgument }
      return 0
    }
    let type = try path(c)
    let options = e == 0 ? [] : try UserMemory.string(e, limit: 4096)
    try Mounts.mount(type, source: source, at: target, flags: flags, options: options, context: process.pathContext)
    return 0
  }

  /// MNT_FORCE is for file systems whose server may hang, and does no more than without it here.
  private enum Unmounting {
    static let force: UInt32 = 1
    static let detach: UInt32 = 2
    static let expire: UInt32 = 4
    static let noFollow: UInt32 = 8
  }

  func unmount(flags: UInt32) throws(Errno) -> UInt32 {
    let known = Unmounting.force | Unmounting.detach | Unmounting.expire | Unmounting.noFollow
    guard flags & ~known == 0, flags & Unmounting.expire == 0 || flags & (Unmounting.force | Unmounting.detach) == 0 else {
      throw .invalidArgument
    }
    try require(.administrate)
    var target = try resolve(at: Self.cwd, text: try path(a), follow: flags & Unmounting.noFollow == 0)
    // What was mounted there last, also where somebody is in the directory below it.
    while let above = Mounts.covering(target.mount, target.dentry) { target = Path(mount: above, dentry: above.root) }
    guard target.dentry === target.mount.root else { throw .invalidArgument }
    if flags & Unmounting.expire != 0, !target.mount.expire() { throw .wouldBlock }
    try Mounts.remove(target.mount, lazy: flags & Unmounting.detach != 0)
    return 0
  }

  /// The new root, and where the old one goes.
  func pivotRoot() throws(Errno) -> UInt32 {
    try require(.administrate)
    let new = try resolve(at: Self.cwd, a)
    let place = try resolve(at: Self.cwd, b)
    guard try new.inode().isDirectory, try place.inode().isDirectory else { throw .notDirectory }
    let old = process.pathContext.root
    guard old.dentry === old.mount.root, new.dentry === new.mount.root else { throw .invalidArgument }
    try Mounts.pivot(from: old.mount, to: new.mount, old: place)
    let root = Path(mount: new.mount, dentry: new.mount.root)
    ProcessTable.shared.forEach({ _ in true }) { process in process.leaveRoot(old, for: root) }
    return 0
  }
}
