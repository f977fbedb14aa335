import Primitives

/// A node of the tree in memory: a leaf with items, or an inner one with children.
///
/// On the disk: a header of 32 bytes (0 magic, 4 the block's own number, 8 generation, 16 level, 18 count), and in a leaf `count`
/// entries of 20 bytes (key, where its value is, how long it is) with the values at the end of the block, in an inner node entries of
/// 24 bytes (the lowest key of the child, its block, its checksum).
final class DiskNode {
  static let mostLevels: UInt8 = 12
  private static let magic: UInt32 = 0x646E_6441  // "Addn"
  private static let header = 32
  private static let leafEntry = 20
  private static let innerEntry = 24
  static let capacity = DiskFormat.blockSize - header
  static let mostChildren = capacity / innerEntry

  struct Child {
    /// What is on the disk, unless the node there has changed.
    var pointer: DiskPointer
    /// Once it is needed.
    var node: DiskNode?
  }

  let level: UInt8
  var keys: [DiskKey] = []
  /// A leaf's.
  var values: [[UInt8]] = []
  /// An inner node's.
  var children: [Child] = []
  /// Bytes that a leaf's entries take.
  var size = 0
  /// Where it is on the disk; 0 when it has changed since.
  var block: UInt32 = 0
  /// Where it is about to be.
  var place: UInt32 = 0

  init(level: UInt8) { self.level = level }

  var isLeaf: Bool { level == 0 }
  var isDirty: Bool { block == 0 }
  static func size(_ value: [UInt8]) -> Int { leafEntry + value.count }
  var isFull: Bool { isLeaf ? size > Self.capacity : keys.count > Self.mostChildren }
  /// So empty that its neighbour may well take it in.
  var isSparse: Bool { isLeaf ? size < Self.capacity / 3 : keys.count < Self.mostChildren / 3 }
  func fits(_ other: DiskNode) -> Bool {
    isLeaf ? size + other.size <= Self.capacity : keys.count + other.keys.count <= Self.mostChildren
  }

  /// The first entry whose key is not below `key`.
  func lowerBound(_ key: DiskKey) -> Int {
    var (low, high) = (0, keys.count)
    while low < high {
      let middle = (low + high) / 2
      if keys[middle] < key { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// The child that a key is under: the first one has all that is below the second.
  func childIndex(_ key: DiskKey) -> Int {
    let index = lowerBound(key)
    if index < keys.count, keys[index] == key { return index }
    return max(0, index - 1)
  }

  /// Throws `corrupt` for anything that this node could not have been written as.
  init(_ bytes: [UInt8], block: UInt32, level: UInt8) throws(DiskFSError) {
    self.level = level
    self.block = block
    let span = bytes.span
    guard span.count == DiskFormat.blockSize, span.u32(0) == Self.magic, span.u32(4) == block, let shape = span.u32(16),
      shape & 0xFFFF == UInt32(level)
    else { throw .corrupt }
    let count = Int(shape >> 16)
    let entry = level == 0 ? Self.leafEntry : Self.innerEntry
    guard count * entry <= Self.capacity, count > 0 || level == 0 else { throw .corrupt }
    for index in 0..<count {
      let at = Self.header + index * entry
      guard let high = span.u64(at), let offset = span.u64(at + 8), let first = span.u32(at + 16) else { throw .corrupt }
      let key = DiskKey(high: high, offset)
      if let last = keys.last, !(last < key) { throw .corrupt }
      keys.append(key)
      if level == 0 {
        let (start, length) = (Int(first & 0xFFFF), Int(first >> 16))
        guard start >= Self.header + count * entry, start + length <= span.count, length <= DiskFormat.largestItem else {
          throw .corrupt
        }
        values.append(Array(bytes[start..<(start + length)]))
        size += entry + length
      } else {
        guard let checksum = span.u32(at + 20), first >= DiskFormat.firstBlock else { throw .corrupt }
        children.append(Child(pointer: DiskPointer(block: first, checksum: checksum)))
      }
    }
    guard size <= Self.capacity else { throw .corrupt }
  }

  func encoded(generation: UInt64, at block: UInt32) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: DiskFormat.blockSize)
    var end = bytes.count
    for (index, value) in values.enumerated() {
      end -= value.count
      for (offset, byte) in value.enumerated() { bytes[end + offset] = byte }
      var out = bytes.mutableSpan
      out.put32(UInt32(end) | UInt32(value.count) << 16, at: Self.header + index * Self.leafEntry + 16)
    }
    var out = bytes.mutableSpan
    out.put32(Self.magic, at: 0)
    out.put32(block, at: 4)
    out.put64(generation, at: 8)
    out.put32(UInt32(level) | UInt32(keys.count) << 16, at: 16)
    let entry = isLeaf ? Self.leafEntry : Self.innerEntry
    for (index, key) in keys.enumerated() {
      let at = Self.header + index * entry
      out.put64(key.high, at: at)
      out.put64(key.offset, at: at + 8)
      if !isLeaf {
        out.put32(children[index].pointer.block, at: at + 16)
        out.put32(children[index].pointer.checksum, at: at + 20)
      }
    }
    return bytes
  }

  /// Moves the upper half to a new node.
  func split() -> DiskNode {
    let other = DiskNode(level: level)
    var from = keys.count / 2
    if isLeaf {
      // By bytes, and each side gets something.
      var taken = 0
      from = 0
      while from < keys.count - 1, taken < size / 2, taken + Self.size(values[from]) <= Self.capacity {
        taken += Self.size(values[from])
        from += 1
      }
      from = max(from, 1)
      other.values = Array(values[from...])
      values.removeSubrange(from...)
      other.size = other.values.reduce(0) { $0 + Self.size($1) }
      size -= other.size
    } else {
      other.children = Array(children[from...])
      children.removeSubrange(from...)
    }
    other.keys = Array(keys[from...])
    keys.removeSubrange(from...)
    return other
  }

  /// Takes in all that the next node has.
  func append(_ other: DiskNode) {
    keys += other.keys
    values += other.values
    children += other.children
    size += other.size
  }
}
