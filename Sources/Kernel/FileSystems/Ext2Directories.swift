import Ext2
import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// Names: directory blocks through the directory's own pages.
extension Ext2FS {
  /// Runs `body` on each block of a directory until it answers something.
  private func forEachBlock<Result>(
    _ directory: Inode, _ body: (borrowing Span<UInt8>, Range<Int>, UInt64) -> Result?
  ) throws(Errno) -> Result? {
    let size = directory.size
    var position: UInt64 = 0
    while position < size {
      let frame = try directory.page(UInt32(position >> 12))
      defer { Frames.release(frame) }
      let start = Int(position & 0xFFF)
      if let result = frame.withBytes({ body($0, start..<(start + superblock.blockSize), position) }) { return result }
      position += UInt64(superblock.blockSize)
    }
    return nil
  }

  /// The same for changes: true means that the block was changed and the search ends.
  private func changeOneBlock(_ directory: Inode, _ body: (inout MutableSpan<UInt8>, Range<Int>) -> Bool) throws(Errno) -> Bool {
    let size = directory.size
    var position: UInt64 = 0
    while position < size {
      let index = UInt32(position >> 12)
      let frame = try directory.page(index)
      defer { Frames.release(frame) }
      let start = Int(position & 0xFFF)
      if frame.withMutableBytes({ body(&$0, start..<(start + superblock.blockSize)) }) {
        directory.markDirty(index)
        return true
      }
      position += UInt64(superblock.blockSize)
    }
    return false
  }

  public func lookup(_ name: [UInt8], in directory: Inode) throws(Errno) -> Inode {
    guard
      let number = try forEachBlock(
        directory,
        { bytes, range, _ in
          Ext2DirectoryBlock.find(name, bytes, in: range)?.inode
        })
    else { throw .noSuchFileOrDirectory }
    return try inode(number)
  }

  private func typeCode(_ type: UInt32) -> UInt8 {
    guard superblock.hasFileTypes else { return 0 }
    switch type {
    case Mode.regular: return 1
    case Mode.directory: return 2
    case Mode.character: return 3
    case Mode.block: return 4
    case Mode.fifo: return 5
    case Mode.socket: return 6
    case Mode.link: return 7
    default: return 0
    }
  }

  private func mode(of code: UInt8) -> UInt32 {
    let modes: [8 of UInt32] = [
      0, Mode.regular, Mode.directory, Mode.character, Mode.block, Mode.fifo, Mode.socket, Mode.link,
    ]
    return code < 8 ? modes[Int(code)] : 0
  }

  /// Adds an entry, in a new block if need be. An index that this would invalidate is dropped.
  private func add(_ name: [UInt8], _ inode: Inode, to directory: Inode) throws(Errno) {
    let number = UInt32(truncatingIfNeeded: inode.number)
    let type = typeCode(inode.type)
    node(directory)?.record.withLock { $0.flags &= ~Ext2InodeRecord.indexed }
    let done = try changeOneBlock(directory) { bytes, range in
      Ext2DirectoryBlock.insert(name, inode: number, type: type, &bytes, in: range)
    }
    if !done {
      let position = directory.size
      let index = UInt32(position >> 12)
      let frame = try directory.page(index)
      defer { Frames.release(frame) }
      let start = Int(position & 0xFFF)
      let size = superblock.blockSize
      try reserve(directory, index, start..<(start + size))
      frame.withMutableBytes { bytes in
        Ext2DirectoryBlock.write(name, inode: number, type: type, length: size, &bytes, at: start)
      }
      directory.markDirty(index)
      directory.attributes.withLock { $0.size = position + UInt64(size) }
    }
    directory.touch(modification: true)
    try attributesChanged(directory)
  }

  private func remove(_ name: [UInt8], from directory: Inode) throws(Errno) {
    guard try changeOneBlock(directory, { bytes, range in Ext2DirectoryBlock.remove(name, &bytes, in: range) }) else {
      throw .noSuchFileOrDirectory
    }
    directory.touch(modification: true)
    try attributesChanged(directory)
  }

  private func makeInode(_ attributes: Attributes, in directory: Inode, _ prepare: (inout Ext2InodeRecord) -> Void)
    throws(Errno) -> Inode
  {
    let isDirectory = attributes.mode & Mode.typeMask == Mode.directory
    let number = try allocateInode(near: UInt32(truncatingIfNeeded: directory.number), isDirectory: isDirectory)
    // What is in memory is in use, whatever the bitmap says.
    guard number >= superblock.firstInode, table.find(UInt64(number)) == nil else { throw fault("inode \(number) is not free") }
    var record = Ext2InodeRecord()
    record.mode = UInt16(truncatingIfNeeded: attributes.mode)
    record.generation = Random.next()
    prepare(&record)
    var attributes = attributes
    attributes.links = 1
    attributes.blocks = 0
    let inode = Inode(self, number: UInt64(number), attributes: attributes, payload: Ext2Node(number, record))
    _ = table.insert(inode)
    return inode
  }

  private func undo(_ inode: Inode) {
    inode.attributes.withLock { $0.links = 0 }
    evict(inode)
  }

  public func create(_ name: [UInt8], in directory: Inode, _ attributes: Attributes) throws(Errno) -> Inode {
    let isDirectory = attributes.mode & Mode.typeMask == Mode.directory
    if isDirectory, directory.attributes.withLock({ $0.links }) >= 32000 { throw .tooManyLinks }
    let device = attributes.device.rawValue
    let inode = try makeInode(attributes, in: directory) { record in
      if device != 0 { record.device = device }
    }
    do throws(Errno) {
      if isDirectory { try fillDirectory(inode, parent: directory) }
      try attributesChanged(inode)
      try add(name, inode, to: directory)
    } catch {
      undo(inode)
      throw error
    }
    if isDirectory {
      directory.attributes.withLock { $0.links += 1 }
      try attributesChanged(directory)
    }
    return inode
  }

  public func createUnnamed(in directory: Inode, _ attributes: Attributes) throws(Errno) -> Inode {
    let inode = try makeInode(attributes, in: directory) { _ in }
    inode.attributes.withLock { $0.links = 0 }
    do throws(Errno) {
      try attributesChanged(inode)
      try addOrphan(inode)
    } catch {
      undo(inode)
      throw error
    }
    return inode
  }

  /// The first block of a new directory: `.` and `..`.
  private func fillDirectory(_ inode: Inode, parent: Inode) throws(Errno) {
    let size = superblock.blockSize
    let frame = try inode.page(0)
    defer { Frames.release(frame) }
    try reserve(inode, 0, 0..<size)
    let code = typeCode(Mode.directory)
    frame.withMutableBytes { bytes in
      Ext2DirectoryBlock.write(
        [46], inode: UInt32(truncatingIfNeeded: inode.number), type: code, length: 12, &bytes, at: 0)
      Ext2DirectoryBlock.write(
        [46, 46], inode: UInt32(truncatingIfNeeded: parent.number), type: code, length: size - 12, &bytes, at: 12)
    }
    inode.markDirty(0)
    inode.attributes.withLock {
      $0.size = UInt64(size)
      $0.links = 2
    }
  }

  public func symlink(_ name: [UInt8], in directory: Inode, target: [UInt8], _ attributes: Attributes) throws(Errno)
    -> Inode
  {
    if target.count > superblock.blockSize - 1 { throw .fileNameTooLong }
    let isShort = target.count < 60
    let inode = try makeInode(attributes, in: directory) { record in
      if isShort { record.setInlineTarget(target) }
    }
    inode.attributes.withLock { $0.size = UInt64(target.count) }
    do throws(Errno) {
      if !isShort { try inode.write(bytes: target, at: 0) }
      try attributesChanged(inode)
      try add(name, inode, to: directory)
    } catch {
      undo(inode)
      throw error
    }
    return inode
  }

  public func link(_ inode: Inode, _ name: [UInt8], in directory: Inode) throws(Errno) {
    if inode.attributes.withLock({ $0.links }) >= 32000 { throw .tooManyLinks }
    let wasUnnamed = inode.attributes.withLock { attributes in
      attributes.links += 1
      return attributes.links == 1
    }
    do throws(Errno) { try add(name, inode, to: directory) } catch {
      inode.attributes.withLock { $0.links -= 1 }
      throw error
    }
    if wasUnnamed {
      try removeOrphan(inode)
      node(inode)?.record.withLock { $0.deletionTime = 0 }
    }
    inode.touch()
    try attributesChanged(inode)
  }

  public func unlink(_ name: [UInt8], _ inode: Inode, in directory: Inode) throws(Errno) {
    try remove(name, from: directory)
    try dropLink(inode, in: directory)
  }

  private func dropLink(_ inode: Inode, in directory: Inode) throws(Errno) {
    if inode.isDirectory {
      inode.attributes.withLock { $0.links = 0 }
      directory.attributes.withLock { $0.links -= 1 }
      try attributesChanged(directory)
    } else {
      inode.attributes.withLock { if $0.links > 0 { $0.links -= 1 } }
    }
    try attributesChanged(inode)
    if inode.isInUseWithoutNames { try addOrphan(inode) }
  }

  public func isEmpty(_ directory: Inode) throws(Errno) -> Bool {
    let verdict = try forEachBlock(directory) { bytes, range, _ -> Bool? in
      guard let empty = Ext2DirectoryBlock.isEmpty(bytes, in: range) else { return false }
      return empty ? nil : false
    }
    return verdict ?? true
  }

  public func rename(
    _ inode: Inode, from name: [UInt8], in directory: Inode, to newName: [UInt8], in newDirectory: Inode,
    replacing replaced: Inode?
  ) throws(Errno) {
    if let replaced {
      // The new name changes hands in place: at no time does it lead nowhere.
      try point(newName, in: newDirectory, to: inode)
      try dropLink(replaced, in: newDirectory)
    } else {
      try add(newName, inode, to: newDirectory)
    }
    try moved(inode, from: directory, to: newDirectory)
    try remove(name, from: directory)
    try attributesChanged(inode)
  }

  /// Lets a name that is there stand for another inode.
  private func point(_ name: [UInt8], in directory: Inode, to inode: Inode) throws(Errno) {
    let number = UInt32(truncatingIfNeeded: inode.number)
    let type = typeCode(inode.type)
    let done = try changeOneBlock(directory) { bytes, range in
      guard let entry = Ext2DirectoryBlock.find(name, bytes.span, in: range) else { return false }
      bytes.put32(number, at: entry.offset)
      if superblock.hasFileTypes { bytes[entry.offset + 7] = type }
      return true
    }
    if !done { throw fault("a name in directory \(directory.number) is gone") }
  }

  /// A directory names the one that it is in, and counts as a link of it.
  private func moved(_ inode: Inode, from directory: Inode, to newDirectory: Inode) throws(Errno) {
    guard inode.isDirectory, directory !== newDirectory else { return }
    try point([46, 46], in: inode, to: newDirectory)
    directory.attributes.withLock { $0.links -= 1 }
    newDirectory.attributes.withLock { $0.links += 1 }
    try attributesChanged(directory)
    try attributesChanged(newDirectory)
  }

  public func exchange(
    _ inode: Inode, _ name: [UInt8], in directory: Inode, with other: Inode, _ otherName: [UInt8], in otherDirectory: Inode
  ) throws(Errno) {
    try point(name, in: directory, to: other)
    try point(otherName, in: otherDirectory, to: inode)
    try moved(inode, from: directory, to: otherDirectory)
    try moved(other, from: otherDirectory, to: directory)
  }

  public func list(_ directory: Inode, from position: UInt64, _ visit: (DirectoryEntry) -> Bool) throws(Errno) {
    var next = position
    let size = directory.size
    while next < size {
      let blockStart = next & ~UInt64(superblock.blockSize - 1)
      let frame = try directory.page(UInt32(blockStart >> 12))
      defer { Frames.release(frame) }
      let start = Int(blockStart & 0xFFF)
      let range = start..<(start + superblock.blockSize)
      let more = frame.withBytes { bytes in
        // Entries may have moved since the last call: find the first one at or behind the position.
        var offset = start
        while let entry = Ext2DirectoryBlock.entry(bytes, at: offset, in: range) {
          let at = blockStart + UInt64(offset - start)
          if at >= next, entry.inode != 0 {
            let item = DirectoryEntry(
              name: Ext2DirectoryBlock.name(bytes, entry), inode: UInt64(entry.inode), type: mode(of: entry.type),
              next: at + UInt64(entry.length))
            if !visit(item) { return false }
          }
          offset += entry.length
        }
        return true
      }
      if !more { return }
      next = blockStart + UInt64(superblock.blockSize)
    }
  }
}

/// `mount -t ext2`.
public final class Ext2Type: FileSystemType {
  init() {}
  public var name: String { "ext2" }
  public var needsDevice: Bool { true }
  public func make(
    source: [UInt8], device: Inode?, readOnly: Bool, options: [UInt8], context: PathContext?
  ) throws(Errno) -> any FileSystem {
    return try Ext2FS.mount(try MountedDisk.node(of: device), readOnly: readOnly)
  }
}
