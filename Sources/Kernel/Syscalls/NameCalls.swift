import Machine
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// Calls that make, remove and change names, owners, modes and times.
extension Call {
  private var umask: UInt32 { process.files.withLock { $0.umask } }

  func mkdir(_ directory: UInt32, _ address: UInt32, mode: UInt32) throws(Errno) -> UInt32 {
    var place = try resolveParent(at: directory, address)
    place.wantsDirectory = false  // and makes one
    let attributes = newAttributes(Mode.directory | mode & 0o1777 & ~umask, in: place.parent)
    _ = try Names.create(place, process.who) { parent throws(Errno) in
      try parent.fileSystem.create(place.name, in: parent, attributes)
    }
    return 0
  }

  func mknod(_ directory: UInt32, _ address: UInt32, mode: UInt32, device: UInt32) throws(Errno) -> UInt32 {
    var mode = mode
    if mode & Mode.typeMask == 0 { mode |= Mode.regular }
    switch mode & Mode.typeMask {
    case Mode.regular, Mode.fifo, Mode.socket: break
    case Mode.character, Mode.block: try require(.makeDevice)
    case Mode.directory: throw .notPermitted
    default: throw .invalidArgument
    }
    let place = try resolveParent(at: directory, address)
    var attributes = newAttributes(mode & ~(umask & 0o777), in: place.parent)
    attributes.device = DeviceNumber(rawValue: device)
    _ = try Names.create(place, process.who) { parent throws(Errno) in
      try parent.fileSystem.create(place.name, in: parent, attributes)
    }
    return 0
  }

  func unlink(_ directory: UInt32, _ address: UInt32, flags: UInt32) throws(Errno) -> UInt32 {
    if flags & ~0x200 != 0 { throw .invalidArgument }
    let place = try resolveParent(at: directory, address)
    try Names.remove(place, directory: flags != 0, process.who)
    return 0
  }

  func rename(_ oldDirectory: UInt32, _ old: UInt32, _ newDirectory: UInt32, _ new: UInt32, flags: UInt32) throws(Errno)
    -> UInt32
  {
    // RENAME_NOREPLACE, RENAME_EXCHANGE; RENAME_WHITEOUT only makes sense below an overlay.
    guard flags <= 2 else { throw .invalidArgument }
    let from = try resolveParent(at: oldDirectory, old)
    let to = try resolveParent(at: newDirectory, new)
    try Names.rename(from, to: to, flags == 0 ? .replaces : flags == 1 ? .keeps : .exchanges, process.who)
    return 0
  }

  func link(_ oldDirectory: UInt32, _ old: UInt32, _ newDirectory: UInt32, _ new: UInt32, flags: UInt32) throws(Errno)
    -> UInt32
  {
    if flags & ~0x1400 != 0 { throw .invalidArgument }
    let source = try resolve(at: oldDirectory, old, follow: flags & 0x400 != 0)
    try Names.link(source, to: try resolveParent(at: newDirectory, new), process.who)
    return 0
  }

  func symlink(_ target: UInt32, _ directory: UInt32, _ address: UInt32) throws(Errno) -> UInt32 {
    let text = try path(target)
    if text.isEmpty { throw .noSuchFileOrDirectory }
    let place = try resolveParent(at: directory, address)
    let attributes = newAttributes(Mode.link | 0o777, in: place.parent)
    _ = try Names.create(place, process.who) { parent throws(Errno) in
      try parent.fileSystem.symlink(place.name, in: parent, target: text, attributes)
    }
    return 0
  }

  func readlink(_ directory: UInt32, _ address: UInt32, _ out: UInt32, _ count: UInt32) throws(Errno) -> UInt32 {
    guard int(count) > 0 else { throw .invalidArgument }
    let inode = try resolve(at: directory, address, follow: false).inode()
    guard inode.isLink else { throw .invalidArgument }
    let text: [UInt8]
    if let target = inode.payload as? LinkTarget {
      text = try target.text(root: process.pathContext.root)
    } else {
      text = try inode.fileSystem.readLink(inode)
    }
    let length = min(text.count, Int(count))
    try UserMemory.write(text, 0..<length, to: out)
    return UInt32(length)
  }

  func chdir() throws(Errno) -> UInt32 { try setDirectory(try resolve(at: Self.cwd, a)) }

  func fchdir() throws(Errno) -> UInt32 {
    guard let path = try description(a).path else { throw .notDirectory }
    return try setDirectory(path)
  }

  private func setDirectory(_ path: Path) throws(Errno) -> UInt32 {
    let inode = try path.inode()
    guard inode.isDirectory else { throw .notDirectory }
    try inode.check(1, process.who)
    process.changeDirectory(to: path)
    return 0
  }

  func chroot() throws(Errno) -> UInt32 {
    let path = try resolve(at: Self.cwd, a)
    guard try path.inode().isDirectory else { throw .notDirectory }
    try require(.changeRoot)
    process.changeRoot(to: path)
    return 0
  }

  func getcwd() throws(Errno) -> UInt32 {
    let context = process.pathContext
    if context.directory.dentry.isGone { throw .noSuchFileOrDirectory }
    var text = context.directory.text(root: context.root) ?? Array("(unreachable)/".utf8)
    text.append(0)
    guard text.count <= Int(min(b, 0x7FFF_FFFF)) else { throw .outOfRange }
    try UserMemory.write(text.span, to: a)
    return UInt32(text.count)
  }

  // MARK: Modes, owners, times

  private func change(_ path: Path?, _ inode: Inode) throws(Errno) {
    if let path, path.mount.isReadOnly { throw .readOnlyFileSystem }
  }

  func chmod(_ path: Path?, _ inode: Inode, mode: UInt32) throws(Errno) -> UInt32 {
    try change(path, inode)
    let who = process.who
    let owner = inode.attributes.withLock { $0.owner }
    guard who.owns(owner) else { throw .notPermitted }
    try inode.bringUp(at: path)
    try inode.update { attributes in
      var bits = mode & 0o7777
      if !who.has(.keepSetID), !who.isMember(of: attributes.group) { bits &= ~Mode.setGroup }
      attributes.mode = attributes.mode & ~0o7777 | bits
    }
    FileWatches.tell(inode, path?.dentry, .attributes)
    try path?.mount.settle(inode)
    return 0
  }

  func chmod(at directory: UInt32, _ address: UInt32, mode: UInt32) throws(Errno) -> UInt32 {
    let path = try resolve(at: directory, address)
    return try chmod(path, try path.inode(), mode: mode)
  }

  func fchmod() throws(Errno) -> UInt32 {
    let description = try description(a)
    guard let inode = description.inode else { throw .invalidArgument }
    return try chmod(description.path, inode, mode: b)
  }

  /// Owner and group; .max leaves one as it is. SPEC: POSIX.1-2024 chown().
  func chown(_ path: Path?, _ inode: Inode, owner: UInt32, group: UInt32) throws(Errno) -> UInt32 {
    try change(path, inode)
    let who = process.who
    let current = inode.attributes.withLock { ($0.owner, $0.group) }
    if !who.has(.changeOwner) {
      guard who.fsuid == current.0, owner == .max || owner == current.0,
        group == .max || who.isMember(of: group) || group == current.1
      else { throw .notPermitted }
    }
    try inode.bringUp(at: path)
    try inode.update { attributes in
      if owner != .max { attributes.owner = owner }
      if group != .max { attributes.group = group }
      if attributes.mode & Mode.typeMask == Mode.regular {
        attributes.dropSetID()
      }
    }
    FileWatches.tell(inode, path?.dentry, .attributes)
    try path?.mount.settle(inode)
    return 0
  }

  func chown(at directory: UInt32, _ address: UInt32, owner: UInt32, group: UInt32, flags: UInt32) throws(Errno) -> UInt32 {
    if flags & ~0x1100 != 0 { throw .invalidArgument }
    let (inode, path) = try inodeAndPath(named(at: directory, try path(address), flags: flags))
    return try chown(path, inode, owner: owner, group: group)
  }

  func fchown(owner: UInt32, group: UInt32) throws(Errno) -> UInt32 {
    let (inode, path) = try inodeAndPath(.file(description(a)))
    return try chown(path, inode, owner: owner, group: group)
  }

  /// utimensat: nil times mean now; UTIME_NOW and UTIME_OMIT per time. SPEC: POSIX.1-2024 futimens().
  func utimens(_ directory: UInt32, _ address: UInt32, _ times: UInt32, flags: UInt32, wide: Bool) throws(Errno) -> UInt32 {
    if flags & ~0x1100 != 0 { throw .invalidArgument }
    let now = Clock.realtime
    var values: [Int64?] = [now, now]
    // Both as they are now may be asked for by who may write, anything else by the owner.
    var isNow = true
    if times != 0 {
      for index in 0..<2 {
        let at = times &+ UInt32(index) * (wide ? 16 : 8)
        let seconds = wide ? Int64(bitPattern: try UserMemory.read64(at)) : Int64(int(try UserMemory.read32(at)))
        let nanoseconds = try UserMemory.read32(at &+ (wide ? 8 : 4))
        switch nanoseconds {
        case 0x3FFF_FFFF: continue
        case 0x3FFF_FFFE: values[index] = nil
        case 0..<1_000_000_000: values[index] = seconds &* 1_000_000_000 &+ Int64(nanoseconds)
        default: throw .invalidArgument
        }
        isNow = false
      }
      // Then the path does not matter.
      if values[0] == nil, values[1] == nil { return 0 }
    }
    let (inode, path) = try target(directory, address, flags: flags)
    return try setTimes(path, inode, values[0], values[1], explicit: !isNow)
  }

  /// As `named`, and a null path stands for the descriptor's file.
  private func target(_ directory: UInt32, _ address: UInt32, flags: UInt32) throws(Errno) -> (Inode, Path?) {
    if address == 0, int(directory) != Self.atCurrentDirectory {
      if flags != 0 { throw .invalidArgument }
      return try inodeAndPath(.file(description(directory)))
    }
    return try inodeAndPath(named(at: directory, try path(address), flags: flags))
  }

  func inodeAndPath(_ named: Named) throws(Errno) -> (Inode, Path?) {
    switch named {
    case .file(let description):
      guard let inode = description.inode else { throw .invalidArgument }
      return (inode, description.path)
    case .place(let path): return (try path.inode(), path)
    }
  }

  private func setTimes(_ path: Path?, _ inode: Inode, _ access: Int64?, _ modification: Int64?, explicit: Bool) throws(Errno) -> UInt32 {
    if let path, path.mount.isReadOnly { throw .readOnlyFileSystem }
    let who = process.who
    let owner = inode.attributes.withLock { $0.owner }
    if !who.owns(owner) {
      if explicit { throw .notPermitted }
      try inode.check(2, who)
    }
    try inode.bringUp(at: path)
    try inode.update { attributes in
      if let access { attributes.accessTime = access }
      if let modification { attributes.modificationTime = modification }
    }
    if access != nil || modification != nil {
      FileWatches.tell(inode, path?.dentry, modification == nil ? .access : access == nil ? .modify : .attributes)
    }
    return 0
  }

  /// utimes below a directory, or of an open file without a path.
  func futimesat() throws(Errno) -> UInt32 {
    let (inode, path) = try inodeAndPath(b != 0 ? .place(resolve(at: a, b)) : .file(description(a)))
    return try utime(of: inode, path, c, microseconds: true)
  }

  /// utime (seconds) and utimes (microseconds).
  func utime(microseconds: Bool) throws(Errno) -> UInt32 {
    let (inode, path) = try inodeAndPath(.place(resolve(at: Self.cwd, a)))
    return try utime(of: inode, path, b, microseconds: microseconds)
  }

  private func utime(of inode: Inode, _ path: Path?, _ b: UInt32, microseconds: Bool) throws(Errno) -> UInt32 {
    if b == 0 { return try setTimes(path, inode, Clock.realtime, Clock.realtime, explicit: false) }
    var values: [Int64] = []
    for index in 0..<UInt32(2) {
      if microseconds {
        let seconds = Int64(int(try UserMemory.read32(b &+ index * 8)))
        let microseconds = try UserMemory.read32(b &+ index * 8 &+ 4)
        guard microseconds < 1_000_000 else { throw .invalidArgument }
        values.append(seconds * 1_000_000_000 + Int64(microseconds) * 1000)
      } else {
        values.append(Int64(int(try UserMemory.read32(b &+ index * 4))) * 1_000_000_000)
      }
    }
    return try setTimes(path, inode, values[0], values[1], explicit: true)
  }
}

extension LinkTarget {
  /// What readlink says.
  func text(root: Path) throws(Errno) -> [UInt8] {
    let path = try resolve()
    if let text = path.namelessText { return text }
    let text = path.text(root: root) ?? Array("(unreachable)".utf8)
    return path.dentry.isGone ? text + Array(" (deleted)".utf8) : text
  }
}
