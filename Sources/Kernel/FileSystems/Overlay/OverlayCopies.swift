import Machine
import Sync
import SystemABI
import Threads
import VFS

/// The way of files from a lower layer to the upper one.
extension OverlayFS {
  public func bringUp(_ inode: Inode, at dentry: Dentry, keepsContent: Bool) throws(Errno) {
    if isReadOnly { throw .readOnlyFileSystem }
    while try !node(inode).isUpper {
      // The directories on the way first, the one that is up already before its child.
      var chain = [dentry]
      while let above = chain[chain.count - 1].parent, let directory = above.inode, try !node(directory).isUpper { chain.append(above) }
      for next in chain.reversed() {
        // Where it is not any more where it was, all begins anew.
        guard try bringUpOne(next === dentry ? inode : try Self.inode(of: next), at: next, keepsContent: keepsContent) else { break }
      }
    }
  }

  private static func inode(of dentry: Dentry) throws(Errno) -> Inode {
    guard let inode = dentry.inode else { throw .noSuchFileOrDirectory }
    return inode
  }

  /// Brings a file up whose directory is; false when it has moved.
  private func bringUpOne(_ inode: Inode, at dentry: Dentry, keepsContent: Bool) throws(Errno) -> Bool {
    let node = try node(inode)
    guard let parent = dentry.parent, dentry.inode === inode, let directory = parent.inode else {
      try bringUpNameless(inode, node, keepsContent)
      return true
    }
    return try directory.mutex.withLock { _ throws(Errno) in
      if dentry.parent !== parent || dentry.inode !== inode { return false }
      guard try self.node(directory).isUpper else { return false }
      try rise(inode, node, name: dentry.name, in: directory, keepsContent: keepsContent)
      return true
    }
  }

  /// A file that somebody has open and that has no name any more gets a copy without one.
  private func bringUpNameless(_ inode: Inode, _ node: OverlayNode, _ keepsContent: Bool) throws(Errno) {
    guard let upper, inode.isRegular else { throw .noSuchFileOrDirectory }
    try nameless.withLock { _ throws(Errno) in
      if node.isUpper { return }
      let copy = try copyFile(inode, node, into: Path(mount: upper, dentry: upper.root), keepsContent)
      node.rise(to: try copy.inode(), at: nil)
    }
    inode.takeAttributes()
    inode.attributes.withLock { $0.links = 0 }
  }

  /// Makes a copy in the upper layer, unless there is one. The directory's mutex is held.
  func rise(_ inode: Inode, _ node: OverlayNode, name: [UInt8], in directory: Inode, keepsContent: Bool) throws(Errno) {
    if node.isUpper { return }
    guard let parent = try self.node(directory).upper, let parentInode = parent.dentry.inode else { throw .readOnlyFileSystem }
    // It is there already for who looks from above: nothing has changed in the directory.
    let (accessTime, modificationTime) = parentInode.attributes.withLock { ($0.accessTime, $0.modificationTime) }
    let place = Self.place(parent, name)
    let real = node.real
    let path: Path
    if inode.isRegular {
      let copy = try copyFile(inode, node, into: parent, keepsContent)
      let file = try copy.inode()
      path = try Names.create(place, Self.superuser) { above throws(Errno) in
        try file.fileSystem.link(file, place.name, in: above)
        return file
      }
    } else {
      let attributes = real.attributes.withLock { $0 }
      let target = inode.isLink ? try real.fileSystem.readLink(real) : []
      path = try Names.create(place, Self.superuser) { above throws(Errno) in
        try inode.isLink
          ? above.fileSystem.symlink(place.name, in: above, target: target, attributes)
          : above.fileSystem.create(place.name, in: above, attributes)
      }
      let copy = try path.inode()
      try copyAttributes(of: real, to: copy, inode)
      try copy.update {
        $0.accessTime = attributes.accessTime
        $0.modificationTime = attributes.modificationTime
      }
    }
    if inode.isDirectory || real.attributes.withLock({ $0.links }) == 1 { try markImpure(directory) }
    try parentInode.update {
      $0.accessTime = accessTime
      $0.modificationTime = modificationTime
    }
    node.rise(to: try path.inode(), at: inode.isDirectory ? path : nil)
    inode.takeAttributes()
  }

  /// A copy of a regular file that has no name, and that is on the device.
  private func copyFile(_ inode: Inode, _ node: OverlayNode, into directory: Path, _ keepsContent: Bool) throws(Errno) -> Path {
    let real = node.real
    let attributes = real.attributes.withLock { $0 }
    let path = try Names.createUnnamed(
      in: directory, Attributes(mode: attributes.mode, owner: attributes.owner, group: attributes.group), mayGetName: true,
      Self.superuser)
    let copy = try path.inode()
    if keepsContent { try copy.copyContent(of: real) }
    try copyAttributes(of: real, to: copy, inode)
    try copy.update {
      $0.mode = attributes.mode
      $0.accessTime = attributes.accessTime
      $0.modificationTime = attributes.modificationTime
    }
    // The lower file's content has been safe all the time.
    try copy.writeBack()
    try copy.fileSystem.sync(copy)
    return path
  }

  /// Extended attributes, and the number.
  private func copyAttributes(of real: Inode, to copy: Inode, _ inode: Inode) throws(Errno) {
    let all = try real.mutex.withLock { _ throws(Errno) in try real.fileSystem.extendedAttributeNames(of: real) }
    for name in all where !names.hides(name) {
      if let value = try attribute(name, of: real) { try setAttribute(name, of: copy, to: value) }
    }
    // Other names of it stay what they are.
    if !inode.isDirectory, real.attributes.withLock({ $0.links }) > 1 { return }
    var bytes: [UInt8] = []
    for shift in stride(from: UInt64(0), to: 64, by: 8) { bytes.append(UInt8(truncatingIfNeeded: inode.number >> shift)) }
    do throws(Errno) { try setAttribute(names.origin, of: copy, to: bytes) } catch {
      // User attributes are for files and directories only.
      if names.space != .user || inode.isRegular || inode.isDirectory { throw error }
    }
  }
}
