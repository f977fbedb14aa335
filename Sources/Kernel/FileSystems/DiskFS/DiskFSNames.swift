import DiskFS
import Machine
import Primitives
import Sync
import SystemABI
import VFS

/// Inodes, names and extended attributes.
extension DiskFileSystem {
  /// The inode of an object that something on the disk leads to.
  func inode(_ object: UInt64) throws(Errno) -> Inode {
    if let inode = table.find(object) { return inode }
    let item = try look { volume throws(DiskFSError) in try volume.inode(object) }
    var attributes = Attributes(mode: item.mode, owner: item.owner, group: item.group)
    attributes.links = item.links
    attributes.size = item.size
    attributes.blocks = item.blocks &* DiskBlocks.sectors
    attributes.device = DeviceNumber(rawValue: item.device)
    attributes.accessTime = item.accessTime
    attributes.modificationTime = item.modificationTime
    attributes.changeTime = item.changeTime
    return table.insert(Inode(self, number: object, attributes: attributes))
  }

  public func attributesChanged(_ inode: Inode) throws(Errno) { inode.delayAttributes() }

  public func writeAttributes(_ inode: Inode) throws(Errno) {
    try change { volume throws(DiskFSError) in
      var item = try volume.inode(inode.number)
      let attributes = inode.attributes.withLock {
        // All pages have their places: no guess any more.
        $0.blocks = item.blocks &* DiskBlocks.sectors
        return $0
      }
      item.take(attributes)
      // Its pages came before. Where one has become dirty since, a power cut leaves a hole.
      if inode.isRegular { item.size = attributes.size }
      try volume.setInode(inode.number, item)
    }
  }

  public func lookup(_ name: [UInt8], in directory: Inode) throws(Errno) -> Inode {
    guard let entry = try look({ volume throws(DiskFSError) in try volume.lookup(name, in: directory.number) }) else {
      throw .noSuchFileOrDirectory
    }
    let inode = try inode(entry.object)
    guard inode.type == entry.type else { throw .ioError }
    return inode
  }

  public func isEmpty(_ directory: Inode) throws(Errno) -> Bool {
    try look { volume throws(DiskFSError) in try volume.isEmpty(directory.number) }
  }

  /// Positions are 0 for `.`, 1 for `..`, and then those of names and two.
  public func list(_ directory: Inode, from position: UInt64, _ visit: (DirectoryEntry) -> Bool) throws(Errno) {
    if position == 0, !visit(DirectoryEntry(name: [46], inode: directory.number, type: Mode.directory, next: 1)) { return }
    if position <= 1 {
      let parent = try look { volume throws(DiskFSError) in try volume.inode(directory.number).parent }
      if !visit(DirectoryEntry(name: [46, 46], inode: parent, type: Mode.directory, next: 2)) { return }
    }
    var next = max(position, 2) - 2
    while true {
      var entries: [DirectoryEntry] = []
      try look { volume throws(DiskFSError) in
        while entries.count < 64, let found = try volume.entry(from: next, in: directory.number) {
          next = found.position + 1
          entries.append(
            DirectoryEntry(name: found.entry.name, inode: found.entry.object, type: found.entry.type, next: found.position + 3))
        }
      }
      for entry in entries { if !visit(entry) { return } }
      if entries.count < 64 { return }
    }
  }

  // MARK: Changes

  public func create(_ name: [UInt8], in directory: Inode, _ attributes: Attributes) throws(Errno) -> Inode {
    try make(attributes, in: directory) { volume, item throws(DiskFSError) in try volume.create(name, in: directory.number, item) }
  }

  public func createUnnamed(in directory: Inode, _ attributes: Attributes) throws(Errno) -> Inode {
    try make(attributes, in: nil) { volume, item throws(DiskFSError) in try volume.createUnnamed(item) }
  }

  public func symlink(_ name: [UInt8], in directory: Inode, target: [UInt8], _ attributes: Attributes) throws(Errno) -> Inode {
    var attributes = attributes
    attributes.size = UInt64(target.count)
    return try make(attributes, in: directory) { volume, item throws(DiskFSError) in
      let object = try volume.create(name, in: directory.number, item)
      try volume.setTarget(object, target)
      return object
    }
  }

  private func make(
    _ attributes: Attributes, in directory: Inode?, _ body: (DiskVolume, DiskInode) throws(DiskFSError) -> UInt64
  ) throws(Errno) -> Inode {
    try makeRoom()
    var item = DiskInode(mode: attributes.mode)
    item.take(attributes)
    item.size = attributes.size
    item.device = attributes.device.rawValue
    item.creationTime = attributes.changeTime
    let object = try change { volume throws(DiskFSError) in try body(volume, item) }
    if let directory { try changed(directory) }
    return try inode(object)
  }

  /// Something in a directory is another thing now.
  private func changed(_ directory: Inode) throws(Errno) {
    try takeLinks(directory)
    directory.touch(modification: true)
  }

  /// Only the volume counts links.
  private func takeLinks(_ inode: Inode) throws(Errno) {
    let links = try look { volume throws(DiskFSError) in try volume.inode(inode.number).links }
    inode.attributes.withLock { $0.links = links }
  }

  public func readLink(_ inode: Inode) throws(Errno) -> [UInt8] {
    try look { volume throws(DiskFSError) in try volume.target(inode.number) }
  }

  /// As many names as a file may have, as on Linux' btrfs.
  private static var mostLinks: UInt32 { 65535 }

  public func link(_ inode: Inode, _ name: [UInt8], in directory: Inode) throws(Errno) {
    if inode.attributes.withLock({ $0.links }) >= Self.mostLinks { throw .tooManyLinks }
    try makeRoom()
    try change { volume throws(DiskFSError) in try volume.link(inode.number, name, in: directory.number) }
    try takeLinks(inode)
    inode.delayAttributes()
    try changed(directory)
  }

  public func unlink(_ name: [UInt8], _ inode: Inode, in directory: Inode) throws(Errno) {
    try makeRoomForTree()
    try change { volume throws(DiskFSError) in try volume.unlink(name, in: directory.number) }
    try takeLinks(inode)
    if inode.attributes.withLock({ $0.links }) > 0 { inode.delayAttributes() }
    try changed(directory)
  }

  public func rename(
    _ inode: Inode, from name: [UInt8], in directory: Inode, to newName: [UInt8], in newDirectory: Inode,
    replacing replaced: Inode?
  ) throws(Errno) {
    try makeRoom()
    try change { volume throws(DiskFSError) in
      try volume.rename(name, in: directory.number, to: newName, in: newDirectory.number)
    }
    if let replaced { try takeLinks(replaced) }
    inode.delayAttributes()
    try changed(directory)
    try changed(newDirectory)
  }

  public func exchange(
    _ inode: Inode, _ name: [UInt8], in directory: Inode, with other: Inode, _ otherName: [UInt8], in otherDirectory: Inode
  ) throws(Errno) {
    try makeRoom()
    try change { volume throws(DiskFSError) in
      try volume.exchange(name, in: directory.number, with: otherName, in: otherDirectory.number)
    }
    try changed(directory)
    try changed(otherDirectory)
  }

  public func evict(_ inode: Inode) {
    if isReadOnly { return }
    inode.dropPages()
    table.remove(inode)
    // Else the next mount does it.
    do throws(Errno) { try deleteOrphan(inode.number) } catch { log("diskfs: a deleted file stays: errno \(error.rawValue)") }
  }

  func deleteOrphan(_ object: UInt64) throws(Errno) {
    try makeRoomForTree()
    try change { volume throws(DiskFSError) in try volume.deleteOrphan(object) }
  }

  // MARK: Extended attributes

  private func key(_ name: AttributeName) -> [UInt8] { [name.space.rawValue] + name.rest }

  public func extendedAttribute(_ name: AttributeName, of inode: Inode) throws(Errno) -> [UInt8] {
    guard let value = try look({ volume throws(DiskFSError) in try volume.attribute(key(name), of: inode.number) }) else {
      throw .noData
    }
    return value
  }

  public func extendedAttributeNames(of inode: Inode) throws(Errno) -> [AttributeName] {
    let names = try look { volume throws(DiskFSError) in try volume.attributeNames(of: inode.number) }
    return names.compactMap { name in
      guard let first = name.first, let space = AttributeName.Space(rawValue: first) else { return nil }
      return AttributeName(space, Array(name.dropFirst()))
    }
  }

  public func setExtendedAttribute(_ name: AttributeName, of inode: Inode, to value: [UInt8]?, _ change: AttributeChange) throws(Errno) {
    if value != nil { try makeRoom() } else { try makeRoomForTree() }
    let key = key(name)
    let isThere = try look { volume throws(DiskFSError) in try volume.attribute(key, of: inode.number) } != nil
    if isThere, change == .creates { throw .fileExists }
    if !isThere, value == nil || change == .replaces { throw .noData }
    try self.change { volume throws(DiskFSError) in
      if let value { try volume.setAttribute(key, of: inode.number, to: value) } else { try volume.removeAttribute(key, of: inode.number) }
    }
  }
}

extension DiskInode {
  /// What is the same in memory and on the disk.
  mutating func take(_ attributes: Attributes) {
    mode = attributes.mode
    owner = attributes.owner
    group = attributes.group
    accessTime = attributes.accessTime
    modificationTime = attributes.modificationTime
    changeTime = attributes.changeTime
  }
}
