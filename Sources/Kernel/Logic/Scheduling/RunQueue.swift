/// What a run queue links: anything with a level and a successor.
public protocol RunQueueNode: AnyObject {
  associatedtype Link: AnyObject
  var runNext: Link? { get set }
  /// 0 runs first; below `RunQueue.levels`.
  var level: Int { get }
}

/// Ready threads of one CPU by level, first in, first out within one. Push and pop are O(1).
public struct RunQueue<Node: RunQueueNode>: ~Copyable where Node.Link == Node {
  public static var levels: Int { 140 }
  private var heads: InlineArray<140, Node?> = .init(repeating: nil)
  private var tails: InlineArray<140, Node?> = .init(repeating: nil)
  /// A bit for each level that has nodes.
  private var occupied: InlineArray<5, UInt32> = .init(repeating: 0)
  public private(set) var count = 0

  public init() {}

  public mutating func push(_ node: Node) {
    let level = node.level
    node.runNext = nil
    if let tail = tails[level] { tail.runNext = node } else { heads[level] = node }
    tails[level] = node
    occupied[level >> 5] |= 1 << UInt32(level & 31)
    count += 1
  }

  /// The first node of the lowest occupied level.
  public mutating func pop() -> Node? {
    guard let level = firstLevel, let node = heads[level] else { return nil }
    remove(node, after: nil, level)
    return node
  }

  /// The first node that `isWanted`, lowest levels first. Looks at every node if it must.
  public mutating func pop(where isWanted: (Node) -> Bool) -> Node? {
    if count == 0 { return nil }
    for index in 0..<5 {
      var levels = occupied[index]
      while levels != 0 {
        let level = index * 32 + levels.trailingZeroBitCount
        levels &= levels - 1
        var previous: Node?
        var candidate = heads[level]
        while let node = candidate {
          if isWanted(node) {
            remove(node, after: previous, level)
            return node
          }
          previous = node
          candidate = node.runNext
        }
      }
    }
    return nil
  }

  /// The first node that `isWanted` of the next occupied level behind `last`, beginning again at `first` behind the end: called
  /// with the level of its last answer, every level from `first` on has its turn.
  public mutating func popInTurn(from first: Int, after last: Int, where isWanted: (Node) -> Bool) -> Node? {
    for distance in 1...(Self.levels - first) {
      var level = last + distance
      if level < first { level = first + (distance - 1) }
      if level >= Self.levels { level -= Self.levels - first }
      guard occupied[level >> 5] & 1 << UInt32(level & 31) != 0, let node = heads[level], isWanted(node) else { continue }
      remove(node, after: nil, level)
      return node
    }
    return nil
  }

  private mutating func remove(_ node: Node, after previous: Node?, _ level: Int) {
    if let previous { previous.runNext = node.runNext } else { heads[level] = node.runNext }
    if node.runNext == nil { tails[level] = previous }
    if heads[level] == nil { occupied[level >> 5] &= ~(1 << UInt32(level & 31)) }
    node.runNext = nil
    count -= 1
  }

  /// The level `pop` would take from, or nil when empty. Inlined: a call would be given a copy of the whole queue.
  @inline(__always) public var firstLevel: Int? {
    for index in 0..<5 where occupied[index] != 0 { return index * 32 + occupied[index].trailingZeroBitCount }
    return nil
  }
}
