/// Changes that concern several files: each leaves the volume such that it may be committed.
extension DiskVolume {
  private func change(_ object: UInt64, _ body: (inout DiskInode) -> Void) throws(DiskFSError) {
    var inode = try inode(object)
    body(&inode)
    try setInode(object, inode)
  }

  /// Makes a file under a name that is free.
  public func create(_ name: [UInt8], in directory: UInt64, _ inode: DiskInode) throws(DiskFSError) -> UInt64 {
    var inode = inode
    inode.links = inode.isDirectory ? 2 : 1
    inode.parent = inode.isDirectory ? directory : 0
    let object = try make(inode)
    try enter(name, object, type: inode.type, in: directory)
    if inode.isDirectory { try change(directory) { $0.links += 1 } }
    return object
  }

  /// Makes a file that has no name, and goes if it gets none.
  public func createUnnamed(_ inode: DiskInode) throws(DiskFSError) -> UInt64 {
    var inode = inode
    inode.links = 0
    let object = try make(inode)
    try setOrphan(object, true)
    return object
  }

  /// Gives a file another name, or its first one.
  public func link(_ object: UInt64, _ name: [UInt8], in directory: UInt64) throws(DiskFSError) {
    let inode = try inode(object)
    try enter(name, object, type: inode.type, in: directory)
    if inode.links == 0 { try setOrphan(object, false) }
    try change(object) { $0.links &+= 1 }
  }

  /// Takes a name from a file, or from a directory that is empty. What has no name then is `delete`d by the caller when nobody uses it
  /// any more.
  public func unlink(_ name: [UInt8], in directory: UInt64) throws(DiskFSError) {
    guard let entry = try lookup(name, in: directory) else { throw .corrupt }
    try leave(name, in: directory)
    let isDirectory = entry.type == DiskInode.directory
    var links: UInt32 = 0
    try change(entry.object) {
      $0.links = isDirectory ? 0 : $0.links - min($0.links, 1)
      links = $0.links
    }
    if isDirectory { try change(directory) { $0.links -= min($0.links, 1) } }
    if links == 0 { try setOrphan(entry.object, true) }
  }

  /// Removes a file that `unlink` left without a name.
  public func deleteOrphan(_ object: UInt64) throws(DiskFSError) {
    try delete(object)
    try setOrphan(object, false)
  }

  /// Moves a name; what has the new one loses it.
  public func rename(
    _ name: [UInt8], in directory: UInt64, to newName: [UInt8], in newDirectory: UInt64
  ) throws(DiskFSError) {
    guard let entry = try lookup(name, in: directory) else { throw .corrupt }
    if try lookup(newName, in: newDirectory) != nil { try unlink(newName, in: newDirectory) }
    try leave(name, in: directory)
    try enter(newName, entry.object, type: entry.type, in: newDirectory)
    try moved(entry, from: directory, to: newDirectory)
  }

  /// Lets two names change places.
  public func exchange(
    _ name: [UInt8], in directory: UInt64, with otherName: [UInt8], in otherDirectory: UInt64
  ) throws(DiskFSError) {
    guard let entry = try lookup(name, in: directory), let other = try lookup(otherName, in: otherDirectory) else { throw .corrupt }
    try enter(name, other.object, type: other.type, in: directory)
    try enter(otherName, entry.object, type: entry.type, in: otherDirectory)
    try moved(entry, from: directory, to: otherDirectory)
    try moved(other, from: otherDirectory, to: directory)
  }

  private func moved(_ entry: DiskEntry, from directory: UInt64, to newDirectory: UInt64) throws(DiskFSError) {
    guard entry.type == DiskInode.directory, directory != newDirectory else { return }
    try change(entry.object) { $0.parent = newDirectory }
    try change(directory) { $0.links -= min($0.links, 1) }
    try change(newDirectory) { $0.links += 1 }
  }
}
