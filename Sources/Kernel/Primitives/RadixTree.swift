/// A sparse map from page index to a 32-bit word, 0 meaning absent: 16-way nodes in one array.
///
/// A small file is one node of 64 bytes; a lookup walks at most eight nodes and touches no reference count. Words with the highest bit
/// are found without a look at the others.
public struct RadixTree: Sendable {
  /// The bit of words that `firstMarked` finds. In a node above, beside the number of a node below: there may be one in that.
  @inlinable public static var mark: UInt32 { 1 << 31 }
  @usableFromInline var pool: [UInt32] = []
  /// Levels below the root; 0 while empty.
  @usableFromInline var height: UInt32 = 0
  @usableFromInline var root: UInt32 = 0
  /// Entries that are not 0.
  public private(set) var count = 0

  public init() {}

  @inlinable public subscript(_ index: UInt32) -> UInt32 {
    guard height > 0, height >= 8 || index >> (height * 4) == 0 else { return 0 }
    var node = Int(root)
    var shift = (height - 1) * 4
    while true {
      let value = pool[node * 16 + Int(index >> shift & 15)]
      if shift == 0 || value == 0 { return value }
      node = Int(value & ~Self.mark) - 1
      shift -= 4
    }
  }

  /// Visits the entries from an index on, zeroes too, until `visit` answers false or a multiple of sixteen comes: one way down for
  /// them all.
  @inlinable public func run(from index: UInt32, _ visit: (UInt32) -> Bool) {
    guard height > 0, height >= 8 || index >> (height * 4) == 0 else { return }
    var node = Int(root)
    var shift = (height - 1) * 4
    while shift > 0 {
      let value = pool[node * 16 + Int(index >> shift & 15)]
      if value == 0 { return }
      node = Int(value & ~Self.mark) - 1
      shift -= 4
    }
    for slot in Int(index & 15)..<16 where !visit(pool[node * 16 + slot]) { return }
  }

  private mutating func makeNode() -> UInt32 {
    let node = UInt32(pool.count / 16)
    for _ in 0..<16 { pool.append(0) }
    return node
  }

  /// Stores `value` (0 removes) and returns what was there.
  @discardableResult public mutating func set(_ index: UInt32, to value: UInt32) -> UInt32 {
    if height == 0 {
      if value == 0 { return 0 }
      root = makeNode()
      height = 1
    }
    while height < 8, index >> (height * 4) != 0 {
      if value == 0 { return 0 }
      let node = makeNode()
      // Whether anything is marked is not known here.
      pool[Int(node) * 16] = root + 1 | Self.mark
      root = node
      height += 1
    }
    var node = root
    var shift = (height - 1) * 4
    while shift > 0 {
      let slot = Int(node) * 16 + Int(index >> shift & 15)
      if pool[slot] == 0 {
        if value == 0 { return 0 }
        let made = makeNode()
        pool[slot] = made + 1
      }
      pool[slot] |= value & Self.mark
      node = (pool[slot] & ~Self.mark) - 1
      shift -= 4
    }
    let slot = Int(node) * 16 + Int(index & 15)
    let old = pool[slot]
    pool[slot] = value
    if old == 0, value != 0 { count += 1 }
    if old != 0, value == 0 {
      count -= 1
      if count == 0 { self = RadixTree() }
    }
    return old
  }

  /// The first entry at or after `start`, in index order.
  public func first(from start: UInt32) -> (index: UInt32, value: UInt32)? {
    guard height > 0 else { return nil }
    if height < 8, start >> (height * 4) != 0 { return nil }
    return search(Int(root), height - 1, base: 0, start)
  }

  private func search(_ node: Int, _ level: UInt32, base: UInt32, _ start: UInt32) -> (index: UInt32, value: UInt32)? {
    let shift = level * 4
    var slot = start > base ? (start - base) >> shift : 0
    while slot < 16 {
      let value = pool[node * 16 + Int(slot)]
      let index = base + slot << shift
      if value != 0 {
        if level == 0 { return (index, value) }
        if let found = search(Int(value & ~Self.mark) - 1, level - 1, base: index, start) { return found }
      }
      slot += 1
    }
    return nil
  }

  /// The first marked entry at or after `start`, in index order.
  public mutating func firstMarked(from start: UInt32) -> (index: UInt32, value: UInt32)? {
    guard height > 0 else { return nil }
    if height < 8, start >> (height * 4) != 0 { return nil }
    return searchMarked(Int(root), height - 1, base: 0, start)
  }

  private mutating func searchMarked(_ node: Int, _ level: UInt32, base: UInt32, _ start: UInt32) -> (index: UInt32, value: UInt32)? {
    let shift = level * 4
    var slot = start > base ? (start - base) >> shift : 0
    while slot < 16 {
      let place = node * 16 + Int(slot)
      let value = pool[place]
      let index = base + slot << shift
      if value & Self.mark != 0 {
        if level == 0 { return (index, value) }
        if let found = searchMarked(Int(value & ~Self.mark) - 1, level - 1, base: index, start) { return found }
        // All of it has been looked at.
        if start <= index { pool[place] = value & ~Self.mark }
      }
      slot += 1
    }
    return nil
  }
}
