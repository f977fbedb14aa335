import DiskFS
import Foundation

/// Looks at everything in a diskfs volume. There is nothing that it could repair: what it finds is a fault of who wrote it, or of the
/// disk.
public struct DiskCheck {
  public private(set) var problems: [String] = []
  public private(set) var files = 0
  public private(set) var directories = 0
  public private(set) var contentBlocks = 0
  public private(set) var nodes = 0

  private struct Object {
    var inode: DiskInode?
    var names = 0
    var subdirectories = 0
    var pages = 0
    var targetBytes = 0
    var isOrphan = false
    /// The directory that has a name for it.
    var home: UInt64?
    /// Type as its names say.
    var types: Set<UInt32> = []
  }

  /// Reads all of a volume: its tree, and with `content` what is in the files.
  public init(_ volume: DiskVolume, store: any DiskStore, content: Bool = true) {
    var owners: [UInt32: UInt64] = [:]
    var objects: [UInt64: Object] = [:]
    var problems: [String] = []
    var (nodeCount, contentCount) = (0, 0)
    func own(_ block: UInt32, _ object: UInt64) {
      if let other = owners.updateValue(object, forKey: block) { problems.append("block \(block) is of \(object) and of \(other)") }
      if !volume.isUsed(block) { problems.append("block \(block) of \(object) is marked as free") }
    }
    do {
      try volume.walk(node: {
        own($0, 0)
        nodeCount += 1
      }) { key, value in
        switch key.kind {
        case .freeSpace: break
        case .orphan: objects[key.offset, default: Object()].isOrphan = true
        case .inode:
          let inode = DiskInode(value)
          if inode == nil { problems.append("object \(key.object) has a bad inode") }
          objects[key.object, default: Object()].inode = inode
        case .entry:
          guard let entry = DiskEntry(value) else { return problems.append("directory \(key.object) has a bad entry") }
          objects[entry.object, default: Object()].names += 1
          objects[entry.object, default: Object()].home = key.object
          objects[entry.object, default: Object()].types.insert(entry.type)
          if entry.type == DiskInode.directory { objects[key.object, default: Object()].subdirectories += 1 }
        case .target: objects[key.object, default: Object()].targetBytes += value.count
        case .attribute: break
        case .extent:
          guard let extent = DiskExtent(key, value, blocks: volume.blocks) else {
            return problems.append("object \(key.object) has a bad extent")
          }
          for page in 0..<extent.count {
            own(extent.block + page, key.object)
            contentCount += 1
            guard content else { continue }
            guard let bytes = try? store.read(extent.block + page), XXH32.hash(bytes.span) == extent.checksums[Int(page)] else {
              problems.append("page \(extent.start + page) of object \(key.object) is not what was written")
              continue
            }
          }
          objects[key.object, default: Object()].pages += Int(extent.count)
        case nil: problems.append("object \(key.object) has an item of an unknown kind")
        }
      }
    } catch { problems.append("the tree cannot be read: \(error)") }
    self.problems = problems
    nodes = nodeCount
    contentBlocks = contentCount
    for (number, object) in objects { check(number, object, objects) }
    for block in DiskFormat.firstBlock..<volume.blocks where volume.isUsed(block) && owners[block] == nil {
      self.problems.append("block \(block) is of nobody")
    }
  }

  private mutating func check(_ number: UInt64, _ object: Object, _ objects: [UInt64: Object]) {
    guard let inode = object.inode else { return problems.append("object \(number) has no inode") }
    if inode.isDirectory { directories += 1 } else { files += 1 }
    if object.names > 0, object.types != [inode.type] { problems.append("object \(number) is not what its names say") }
    let links = inode.isDirectory ? 2 + object.subdirectories : object.names
    if object.isOrphan {
      if object.names > 0 { problems.append("object \(number) has a name and is to go") }
    } else {
      if Int(inode.links) != links { problems.append("object \(number) has \(inode.links) links, not \(links)") }
      if object.names == 0, number != DiskFormat.root { problems.append("object \(number) has no name") }
    }
    if inode.blocks != UInt64(object.pages) { problems.append("object \(number) has \(object.pages) pages, not \(inode.blocks)") }
    if inode.type == DiskInode.link, inode.size != UInt64(object.targetBytes) { problems.append("link \(number) has no whole target") }
    guard inode.isDirectory, number != DiskFormat.root, !object.isOrphan else { return }
    if object.names != 1 || object.home != inode.parent { problems.append("directory \(number) is not where it believes it is") }
    // Each is below the root.
    var (above, steps) = (inode.parent, 0)
    while above != DiskFormat.root {
      guard let next = objects[above]?.inode, next.isDirectory, steps < objects.count else {
        return problems.append("directory \(number) is not below the root")
      }
      above = next.parent
      steps += 1
    }
  }
}
