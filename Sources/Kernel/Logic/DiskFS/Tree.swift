/// The tree of items of a volume: a B+ tree that is read as it is needed and whose changes stay in memory until a commit.
///
/// A node that changes gives its block back at once: what is on the disk is still whole, since a block that was given back is not
/// used again before the next commit is over.
final class DiskTree {
  private let store: any DiskStore
  private let space: DiskSpace
  private(set) var root: DiskNode
  /// Nodes that need a new block.
  private(set) var dirtyCount: UInt32 = 0

  /// An empty tree.
  init(_ store: any DiskStore, _ space: DiskSpace) {
    self.store = store
    self.space = space
    root = DiskNode(level: 0)
    dirtyCount = 1
  }

  init(_ store: any DiskStore, _ space: DiskSpace, _ pointer: DiskPointer, level: UInt8) throws(DiskFSError) {
    self.store = store
    self.space = space
    root = try Self.read(pointer, level: level, store)
  }

  private static func read(_ pointer: DiskPointer, level: UInt8, _ store: any DiskStore) throws(DiskFSError) -> DiskNode {
    let bytes = try store.read(pointer.block)
    guard XXH32.hash(bytes.span) == pointer.checksum else { throw .corrupt }
    return try DiskNode(bytes, block: pointer.block, level: level)
  }

  func child(_ index: Int, of node: DiskNode) throws(DiskFSError) -> DiskNode {
    if let child = node.children[index].node { return child }
    guard node.children[index].pointer.block < space.blocks else { throw .corrupt }
    let child = try Self.read(node.children[index].pointer, level: node.level - 1, store)
    // Its place in the order is its parent's word.
    guard let first = child.keys.first, let last = child.keys.last, index == 0 || !(first < node.keys[index]),
      index + 1 == node.keys.count || last < node.keys[index + 1]
    else { throw .corrupt }
    node.children[index].node = child
    return child
  }

  // MARK: Looking

  func value(_ key: DiskKey) throws(DiskFSError) -> [UInt8]? {
    var node = root
    while !node.isLeaf { node = try child(node.childIndex(key), of: node) }
    let index = node.lowerBound(key)
    return index < node.keys.count && node.keys[index] == key ? node.values[index] : nil
  }

  /// The first item at or behind a key.
  func next(from key: DiskKey) throws(DiskFSError) -> (key: DiskKey, value: [UInt8])? { try next(from: key, under: root) }

  private func next(from key: DiskKey, under node: DiskNode) throws(DiskFSError) -> (key: DiskKey, value: [UInt8])? {
    if node.isLeaf {
      let index = node.lowerBound(key)
      return index < node.keys.count ? (node.keys[index], node.values[index]) : nil
    }
    for index in node.childIndex(key)..<node.keys.count {
      if let found = try next(from: key, under: try child(index, of: node)) { return found }
    }
    return nil
  }

  /// The last item at or before a key.
  func last(upTo key: DiskKey) throws(DiskFSError) -> (key: DiskKey, value: [UInt8])? { try last(upTo: key, under: root) }

  private func last(upTo key: DiskKey, under node: DiskNode) throws(DiskFSError) -> (key: DiskKey, value: [UInt8])? {
    if node.isLeaf {
      var index = node.lowerBound(key)
      if index == node.keys.count || node.keys[index] != key { index -= 1 }
      return index >= 0 ? (node.keys[index], node.values[index]) : nil
    }
    for index in stride(from: node.childIndex(key), through: 0, by: -1) {
      if let found = try last(upTo: key, under: try child(index, of: node)) { return found }
    }
    return nil
  }

  // MARK: Changing

  private func touch(_ node: DiskNode) {
    guard !node.isDirty else { return }
    space.free(node.block..<(node.block + 1))
    node.block = 0
    dirtyCount += 1
  }

  /// Adds an item, or gives it another value.
  func set(_ key: DiskKey, to value: [UInt8]) throws(DiskFSError) {
    precondition(value.count <= DiskFormat.largestItem)
    guard let other = try set(key, to: value, under: root) else { return }
    let above = DiskNode(level: root.level + 1)
    dirtyCount += 1
    above.keys = [.first, other.keys[0]]
    above.children = [root, other].map { DiskNode.Child(pointer: DiskPointer(block: 0, checksum: 0), node: $0) }
    root = above
  }

  /// Answers the node that a full one was split into.
  private func set(_ key: DiskKey, to value: [UInt8], under node: DiskNode) throws(DiskFSError) -> DiskNode? {
    if node.isLeaf {
      touch(node)
      let index = node.lowerBound(key)
      if index < node.keys.count, node.keys[index] == key {
        node.size += value.count - node.values[index].count
        node.values[index] = value
      } else {
        node.size += DiskNode.size(value)
        node.keys.insert(key, at: index)
        node.values.insert(value, at: index)
      }
    } else {
      let index = node.childIndex(key)
      let child = try child(index, of: node)
      let other = try set(key, to: value, under: child)
      touch(node)
      if let other {
        node.keys.insert(other.keys[0], at: index + 1)
        node.children.insert(DiskNode.Child(pointer: DiskPointer(block: 0, checksum: 0), node: other), at: index + 1)
      }
    }
    guard node.isFull else { return nil }
    dirtyCount += 1
    return node.split()
  }

  /// Removes an item; whether it was there.
  @discardableResult func remove(_ key: DiskKey) throws(DiskFSError) -> Bool {
    guard try remove(key, under: root) else { return false }
    while !root.isLeaf, root.keys.count == 1 {
      let child = try child(0, of: root)
      dirtyCount -= 1
      root = child
    }
    if !root.isLeaf, root.keys.isEmpty { root = DiskNode(level: 0) }
    return true
  }

  private func remove(_ key: DiskKey, under node: DiskNode) throws(DiskFSError) -> Bool {
    if node.isLeaf {
      let index = node.lowerBound(key)
      guard index < node.keys.count, node.keys[index] == key else { return false }
      touch(node)
      node.size -= DiskNode.size(node.values[index])
      node.keys.remove(at: index)
      node.values.remove(at: index)
      return true
    }
    let index = node.childIndex(key)
    let child = try child(index, of: node)
    guard try remove(key, under: child) else { return false }
    touch(node)
    if child.keys.isEmpty {
      dirtyCount -= 1
      node.keys.remove(at: index)
      node.children.remove(at: index)
    } else if child.isSparse {
      if try !merge(index, of: node), index > 0 { _ = try merge(index - 1, of: node) }
    }
    return true
  }

  /// Joins a child with the next one if they fit into one node.
  private func merge(_ index: Int, of node: DiskNode) throws(DiskFSError) -> Bool {
    guard index + 1 < node.keys.count else { return false }
    let (left, right) = (try child(index, of: node), try child(index + 1, of: node))
    guard left.fits(right) else { return false }
    touch(left)
    touch(right)
    left.append(right)
    dirtyCount -= 1
    node.keys.remove(at: index + 1)
    node.children.remove(at: index + 1)
    return true
  }

  // MARK: Writing

  /// Gives every changed node a block.
  func placeDirty() throws(DiskFSError) {
    if root.isDirty { try place(root) }
  }

  private func place(_ node: DiskNode) throws(DiskFSError) {
    if node.place == 0 {
      guard let run = space.allocate(1, for: .tree) else { throw .noSpace }
      node.place = run.lowerBound
    }
    for child in node.children { if let below = child.node, below.isDirty { try place(below) } }
  }

  /// The changed nodes, children first, as they are to be written; they count as written.
  func seal(generation: UInt64, into writes: inout [(block: UInt32, bytes: [UInt8])]) -> DiskPointer? {
    guard root.isDirty else { return nil }
    dirtyCount = 0
    return seal(root, generation, &writes)
  }

  private func seal(_ node: DiskNode, _ generation: UInt64, _ writes: inout [(block: UInt32, bytes: [UInt8])]) -> DiskPointer {
    for index in node.children.indices {
      if let child = node.children[index].node, child.isDirty { node.children[index].pointer = seal(child, generation, &writes) }
    }
    let bytes = node.encoded(generation: generation, at: node.place)
    writes.append((node.place, bytes))
    node.block = node.place
    node.place = 0
    return DiskPointer(block: node.block, checksum: XXH32.hash(bytes.span))
  }

  /// Forgets nodes that can be read again.
  func dropClean() { Self.dropClean(root) }

  private static func dropClean(_ node: DiskNode) {
    for index in node.children.indices {
      guard let child = node.children[index].node else { continue }
      if child.isDirty { dropClean(child) } else { node.children[index].node = nil }
    }
  }
}
