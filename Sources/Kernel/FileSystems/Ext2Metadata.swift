import Ext2
import Machine
import Primitives
import SystemABI
import VFS

/// The blocks of an ext2 file system by number, each a page of one inode.
///
/// Not the device's own cache: its pages can hold blocks of files beside metadata where blocks are smaller than pages, and
/// would be written over what the files' own pages have brought to the device.
final class Ext2Metadata: FileSystem {
  private let disk: BlockNode
  private let superblock: Ext2Superblock
  private var inodeSlot: Inode?

  init(_ disk: BlockNode, _ superblock: Ext2Superblock) {
    self.disk = disk
    self.superblock = superblock
    var attributes = Attributes(mode: Mode.regular | 0o600)
    attributes.size = UInt64(superblock.blockCount) << 12
    let inode = Inode(self, number: 0, attributes: attributes)
    inode.addUser()
    inodeSlot = inode
  }

  var inode: Inode { inodeSlot! }
  var root: Inode { inode }
  var typeName: String { "ext2" }
  var deviceNumber: UInt32 { disk.deviceNumber }
  var device: (any BlockDevice)? { disk.disk }
  /// It is used with the file system's locks held.
  var isBlockDevice: Bool { true }

  func locate(_ inode: Inode, _ index: UInt32, forWriting: Bool, _ visit: (UInt64?, Range<Int>) -> Void) throws(Errno) {
    guard index < superblock.blockCount else { throw .ioError }
    visit(UInt64(index) << UInt64(superblock.blockShift - 9), 0..<superblock.blockSize)
  }

  func lookup(_ name: [UInt8], in directory: Inode) throws(Errno) -> Inode { throw .notDirectory }
  func list(_ directory: Inode, from position: UInt64, _ visit: (DirectoryEntry) -> Bool) throws(Errno) { throw .notDirectory }
  func statistics() -> FileSystemStatistics { FileSystemStatistics(magic: 0xEF53) }
}
