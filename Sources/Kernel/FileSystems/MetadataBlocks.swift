import Machine
import Primitives
import SystemABI
import VFS

/// The beginning of a device up to some sector, by blocks of at most a page: each a page of one inode.
///
/// Not the device's own cache: its pages can hold blocks of files beside metadata where blocks are smaller than pages, and
/// would be written over what the files' own pages have brought to the device.
final class MetadataBlocks: FileSystem {
  private let disk: BlockNode
  private let blockBytes: Int
  private let endSector: UInt64

  private init(_ disk: BlockNode, _ blockBytes: Int, _ endSector: UInt64) {
    self.disk = disk
    self.blockBytes = blockBytes
    self.endSector = endSector
  }

  /// The inode with those pages, which keeps the rest alive.
  static func make(_ disk: BlockNode, blockBytes: Int, endSector: UInt64) -> Inode {
    let inode = MetadataBlocks(disk, blockBytes, endSector).root
    inode.addUser()
    return inode
  }

  var root: Inode {
    var attributes = Attributes(mode: Mode.regular | 0o600)
    attributes.size = ((endSector * 512 + UInt64(blockBytes) - 1) / UInt64(blockBytes)) << 12
    return Inode(self, number: 0, attributes: attributes)
  }
  var typeName: String { "metadata" }
  var deviceNumber: UInt32 { disk.deviceNumber }
  var device: (any BlockDevice)? { disk.disk }
  /// It is used with the file system's locks held.
  var isBlockDevice: Bool { true }

  func locate(_ inode: Inode, _ index: UInt32, forWriting: Bool, _ visit: (UInt64?, Range<Int>) -> Void) throws(Errno) {
    let first = UInt64(index) * UInt64(blockBytes / 512)
    guard first < endSector else { throw .ioError }
    visit(first, 0..<Int(min(endSector - first, UInt64(blockBytes / 512))) * 512)
  }

  func lookup(_ name: [UInt8], in directory: Inode) throws(Errno) -> Inode { throw .notDirectory }
  func list(_ directory: Inode, from position: UInt64, _ visit: (DirectoryEntry) -> Bool) throws(Errno) { throw .notDirectory }
  func statistics() -> FileSystemStatistics { FileSystemStatistics(magic: 0) }
}
