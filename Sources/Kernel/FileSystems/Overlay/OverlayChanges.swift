import Sync
import SystemABI
import Threads
import VFS

/// Changes of names: all of them in the upper layer. The directories' mutexes are held, and the directories are up.
///
/// What must not be half done when the power goes is made ready in the work directory, and changes places with what is there.
extension OverlayFS {
  static var superuser: Credentials { Credentials() }

  private func upperPath(_ directory: Inode) throws(Errno) -> (node: OverlayNode, path: Path) {
    let node = try node(directory)
    guard let path = node.upper else { throw .readOnlyFileSystem }
    return (node, path)
  }

  /// Whether the upper layer has something under a name, and what kind of thing.
  private func kind(of name: [UInt8], in directory: Path) throws(Errno) -> (isThere: Bool, isDirectory: Bool, isWhiteout: Bool) {
    guard let (_, real) = try child(name, of: directory) else { return (false, false, false) }
    defer { real.removeUser() }
    return (true, real.isDirectory, Self.isWhiteout(real))
  }

  private static func makeWhiteout(_ place: ParentAndName) throws(Errno) {
    _ = try Names.create(place, superuser) { parent throws(Errno) in
      try parent.fileSystem.create(place.name, in: parent, Attributes(mode: Mode.character))
    }
  }

  // MARK: Making

  public func create(_ name: [UInt8], in directory: Inode, _ attributes: Attributes) throws(Errno) -> Inode {
    let isDirectory = attributes.mode & Mode.typeMask == Mode.directory
    return try add(name, in: directory, isDirectory: isDirectory) { parent, name throws(Errno) in
      try parent.fileSystem.create(name, in: parent, attributes)
    }
  }

  public func symlink(_ name: [UInt8], in directory: Inode, target: [UInt8], _ attributes: Attributes) throws(Errno) -> Inode {
    try add(name, in: directory, isDirectory: false) { parent, name throws(Errno) in
      try parent.fileSystem.symlink(name, in: parent, target: target, attributes)
    }
  }

  public func link(_ inode: Inode, _ name: [UInt8], in directory: Inode) throws(Errno) {
    let real = inode.content
    guard try node(inode).isUpper else { throw .readOnlyFileSystem }
    _ = try place(name, in: directory, isDirectory: false) { parent, name throws(Errno) in
      try real.fileSystem.link(real, name, in: parent)
      return real
    }
    inode.takeAttributes()
    if try attribute(names.origin, of: real) != nil { try markImpure(directory) }
  }

  public func createUnnamed(in directory: Inode, _ attributes: Attributes) throws(Errno) -> Inode {
    let path = try Names.createUnnamed(in: try upperPath(directory).path, attributes, mayGetName: true, Self.superuser)
    return try inode(try path.inode(), upper: nil, isUpper: true, lowers: [], parent: directory.number)
  }

  private func add(
    _ name: [UInt8], in directory: Inode, isDirectory: Bool, _ make: (Inode, [UInt8]) throws(Errno) -> Inode
  ) throws(Errno) -> Inode {
    let path = try place(name, in: directory, isDirectory: isDirectory, make)
    return try inode(try path.inode(), upper: isDirectory ? path : nil, isUpper: true, lowers: [], parent: directory.number)
  }

  /// Lets `make` put something under a name that nothing is seen under, over a whiteout perhaps.
  private func place(
    _ name: [UInt8], in directory: Inode, isDirectory: Bool, _ make: (Inode, [UInt8]) throws(Errno) -> Inode
  ) throws(Errno) -> Path {
    let (node, parent) = try upperPath(directory)
    node.entries = nil
    let place = Self.place(parent, name)
    guard try kind(of: name, in: parent).isWhiteout else {
      return try Names.create(place, Self.superuser) { above throws(Errno) in try make(above, name) }
    }
    let work = try workPlace()
    let path = try Names.create(work, Self.superuser) { above throws(Errno) in try make(above, work.name) }
    if isDirectory {
      try setAttribute(names.opaque, of: try path.inode(), to: OverlayNames.yes)
      try Names.move(work, to: place, .exchanges, Self.superuser)
      try Names.remove(work, directory: false, Self.superuser)
    } else {
      try Names.move(work, to: place, .replaces, Self.superuser)
    }
    return path
  }

  // MARK: Removing

  public func unlink(_ name: [UInt8], _ inode: Inode, in directory: Inode) throws(Errno) {
    let (node, parent) = try upperPath(directory)
    node.entries = nil
    let place = Self.place(parent, name)
    let isUpper = try kind(of: name, in: parent).isThere
    let isBelow = try isBelow(name, in: node)
    if isUpper, inode.isDirectory { try empty(inode, isBelow: isBelow) }
    if !isBelow {
      try Names.remove(place, directory: inode.isDirectory, Self.superuser)
    } else if !isUpper {
      try Self.makeWhiteout(place)
    } else {
      let work = try workPlace()
      try Self.makeWhiteout(work)
      try Names.move(work, to: place, inode.isDirectory ? .exchanges : .replaces, Self.superuser)
      if inode.isDirectory { try Names.remove(work, directory: true, Self.superuser) }
    }
    lost(inode)
  }

  /// A name of a file went.
  private func lost(_ inode: Inode) {
    if !inode.isDirectory, inode.layers?.isUpper == true { return inode.takeAttributes() }
    inode.attributes.withLock { $0.links = 0 }
  }

  /// Takes the whiteouts out of a directory in which nothing is seen, so that it can be removed.
  private func empty(_ inode: Inode, isBelow: Bool) throws(Errno) {
    guard let path = try node(inode).upper, let real = path.dentry.inode else { return }
    // What they hide must not be seen if this is all that happens.
    if isBelow { try setAttribute(names.opaque, of: real, to: OverlayNames.yes) }
    try clear(path)
  }

  /// Removes all that is in a directory of the upper layer.
  func clear(_ directory: Path) throws(Errno) {
    var open = [directory]
    while let path = open.last {
      guard let real = path.dentry.inode else { return }
      var names: [[UInt8]] = []
      try real.mutex.withLock { _ throws(Errno) in
        try real.fileSystem.list(real, from: 0) { entry in
          if entry.name != [46], entry.name != [46, 46] { names.append(entry.name) }
          return names.count < 128
        }
      }
      if names.isEmpty {
        open.removeLast()
        if !open.isEmpty { try Names.remove(Self.place(open[open.count - 1], path.dentry.name), directory: true, Self.superuser) }
        continue
      }
      for name in names {
        guard let (inner, inode) = try child(name, of: path) else { continue }
        defer { inode.removeUser() }
        if inode.isDirectory {
          open.append(inner)
          break
        }
        try Names.remove(Self.place(path, name), directory: false, Self.superuser)
      }
    }
  }

  // MARK: Moving

  /// What moves must be all in the upper layer.
  private func prepareMove(_ inode: Inode, _ name: [UInt8], in directory: Inode) throws(Errno) -> OverlayNode {
    let node = try node(inode)
    if inode.isDirectory {
      guard node.isUpper, node.lowers.isEmpty else { throw .improperLink }
    } else {
      try rise(inode, node, name: name, in: directory, keepsContent: true)
    }
    return node
  }

  public func rename(
    _ inode: Inode, from name: [UInt8], in directory: Inode, to newName: [UInt8], in newDirectory: Inode, replacing replaced: Inode?
  ) throws(Errno) {
    let moved = try prepareMove(inode, name, in: directory)
    let (from, to) = (try upperPath(directory), try upperPath(newDirectory))
    let (old, new) = (Self.place(from.path, name), Self.place(to.path, newName))
    let leavesWhiteout = try isBelow(name, in: from.node)
    let target = try kind(of: newName, in: to.path)
    if let replaced, replaced.isDirectory, target.isDirectory { try empty(replaced, isBelow: try isBelow(newName, in: to.node)) }
    if inode.isDirectory { try hide(below: newName, in: to.node, from: moved, isWhiteout: target.isWhiteout) }
    from.node.entries = nil
    to.node.entries = nil
    if inode.isDirectory, target.isThere, !target.isDirectory {
      // A whiteout, which comes to where the directory was.
      try Names.move(old, to: new, .exchanges, Self.superuser)
      if !leavesWhiteout { try Names.remove(old, directory: false, Self.superuser) }
    } else {
      try Names.move(old, to: new, .replaces, Self.superuser)
      if leavesWhiteout { try Self.makeWhiteout(old) }
    }
    try arrived(inode, moved, in: newDirectory)
    if let replaced { lost(replaced) }
  }

  public func exchange(
    _ inode: Inode, _ name: [UInt8], in directory: Inode, with other: Inode, _ otherName: [UInt8], in otherDirectory: Inode
  ) throws(Errno) {
    let (first, second) = (try prepareMove(inode, name, in: directory), try prepareMove(other, otherName, in: otherDirectory))
    let (from, to) = (try upperPath(directory), try upperPath(otherDirectory))
    if inode.isDirectory { try hide(below: otherName, in: to.node, from: first, isWhiteout: false) }
    if other.isDirectory { try hide(below: name, in: from.node, from: second, isWhiteout: false) }
    from.node.entries = nil
    to.node.entries = nil
    try Names.move(Self.place(from.path, name), to: Self.place(to.path, otherName), .exchanges, Self.superuser)
    try arrived(inode, first, in: otherDirectory)
    try arrived(other, second, in: directory)
  }

  /// A directory that moves to a name must not become one with what is below there.
  private func hide(below name: [UInt8], in directory: OverlayNode, from moved: OverlayNode, isWhiteout: Bool) throws(Errno) {
    if !isWhiteout, try !isBelow(name, in: directory) { return }
    try setAttribute(names.opaque, of: moved.real, to: OverlayNames.yes)
  }

  private func arrived(_ inode: Inode, _ node: OverlayNode, in directory: Inode) throws(Errno) {
    node.parent = directory.number
    if try attribute(names.origin, of: node.real) != nil { try markImpure(directory) }
  }

  /// Files with numbers from below are in this directory.
  func markImpure(_ directory: Inode) throws(Errno) {
    guard let real = try node(directory).upper?.dentry.inode else { return }
    if try attribute(names.impure, of: real) != OverlayNames.yes { try setAttribute(names.impure, of: real, to: OverlayNames.yes) }
  }
}
