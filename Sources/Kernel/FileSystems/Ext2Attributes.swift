import Ext2
import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

public struct Ext2AttributesRank: LockRank { public static let level: UInt8 = 26 }

/// Extended attributes: read from the inode and from a block that several inodes may share; written to a block of the inode's own.
extension Ext2FS {
  private func attributes(of inode: Inode) throws(Errno) -> (block: UInt32, all: [Ext2Attribute]) {
    let (table, offset) = try location(UInt32(truncatingIfNeeded: inode.number))
    let size = Int(superblock.inodeSize)
    let (block, inside) = try readBlock(table) { bytes in
      (Ext2InodeRecord(bytes, at: offset).fileACL, Ext2AttributeBlock.decode(bytes, inodeAt: offset, size: size))
    }
    guard var all = inside else { throw fault("inode \(inode.number) has bad attributes") }
    if block != 0 {
      guard superblock.isDataBlock(block), let shared = try readBlock(block, { Ext2AttributeBlock.decode($0) }) else {
        throw fault("block \(block) has bad attributes")
      }
      all += shared
    }
    return (block, all)
  }

  public func extendedAttribute(_ name: AttributeName, of inode: Inode) throws(Errno) -> [UInt8] {
    let all = try attributeLock.withLock { _ throws(Errno) in try attributes(of: inode).all }
    guard let found = all.first(where: { $0.index == name.space.rawValue && $0.name == name.rest }) else { throw .noData }
    return found.value
  }

  public func extendedAttributeNames(of inode: Inode) throws(Errno) -> [AttributeName] {
    let all = try attributeLock.withLock { _ throws(Errno) in try attributes(of: inode).all }
    return all.compactMap { attribute in AttributeName.Space(rawValue: attribute.index).map { AttributeName($0, attribute.name) } }
  }

  public func setExtendedAttribute(_ name: AttributeName, of inode: Inode, to value: [UInt8]?, _ change: AttributeChange) throws(Errno) {
    if isReadOnly { throw .readOnlyFileSystem }
    guard let node = node(inode) else { throw .notSupportedOnSocket }
    let freed = try attributeLock.withLock { _ throws(Errno) in
      var (block, all) = try attributes(of: inode)
      let index = all.firstIndex { $0.index == name.space.rawValue && $0.name == name.rest }
      if index != nil, change == .creates { throw .fileExists }
      if index == nil, value == nil || change == .replaces { throw .noData }
      if let index { all.remove(at: index) }
      if let value { all.append(Ext2Attribute(index: name.space.rawValue, name: name.rest, value: value)) }
      guard Ext2AttributeBlock.fits(all, size: superblock.blockSize) else { throw .noSpace }
      return try store(all, of: inode, node, old: block)
    }
    try attributesChanged(inode)
    retire(freed)
  }

  /// Writes a list of attributes; blocks to be retired when the inode's record is in its place.
  private func store(_ all: [Ext2Attribute], of inode: Inode, _ node: Ext2Node, old: UInt32) throws(Errno) -> [Range<UInt32>] {
    let sectors = UInt32(superblock.blockSize / 512)
    var isShared = false
    if old != 0 { isShared = try readBlock(old) { Ext2AttributeBlock.references($0) } > 1 }
    var block: UInt32 = 0
    if !all.isEmpty {
      block = old == 0 || isShared ? try allocateBlock(for: node, isGrowing: false) : old
      try changeBlock(block) { Ext2AttributeBlock.encode(all, into: &$0) }
      try noteAttributes()
    }
    let freed = block == old ? [] : try leaveAttributeBlock(old)
    let (had, has) = (old != 0, block != 0)
    node.record.withLock { record in
      record.fileACL = block
      if has, !had { record.sectors += sectors }
      if had, !has { record.sectors -= min(record.sectors, sectors) }
    }
    let (table, offset) = try location(UInt32(truncatingIfNeeded: inode.number))
    let size = Int(superblock.inodeSize)
    if size > 128 { try changeBlock(table) { Ext2AttributeBlock.erase(&$0, inodeAt: offset, size: size) } }
    return freed
  }

  /// One inode fewer uses a block of attributes, which is to be retired after its last.
  private func leaveAttributeBlock(_ block: UInt32) throws(Errno) -> [Range<UInt32>] {
    guard block != 0 else { return [] }
    guard superblock.isDataBlock(block), try readBlock(block, { $0.u32(0) }) == Ext2AttributeBlock.magic else {
      throw fault("block \(block) has no attributes")
    }
    let references = try readBlock(block) { Ext2AttributeBlock.references($0) }
    if references > 1 {
      try changeBlock(block) { Ext2AttributeBlock.setReferences(references - 1, &$0) }
      return []
    }
    metadata.forgetPage(block)
    return [block..<(block + 1)]
  }

  /// Ends the use that a deleted inode had of a block of attributes.
  func dropAttributes(_ block: UInt32) throws(Errno) -> [Range<UInt32>] {
    try attributeLock.withLock { _ throws(Errno) in try leaveAttributeBlock(block) }
  }

  /// The superblock says that there may be attributes: EXT2_FEATURE_COMPAT_EXT_ATTR.
  private func noteAttributes() throws(Errno) {
    let block: UInt32 = superblock.blockShift == 10 ? 1 : 0
    let at = superblock.blockShift == 10 ? 92 : 1024 + 92
    let features = try readBlock(block) { $0.u32(at) ?? 0 }
    if features & 8 == 0 { try changeBlock(block) { $0.put32(features | 8, at: at) } }
  }
}
