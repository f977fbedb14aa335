/// What a run queue links: anything with a level and a successor.
public protocol RunQueueNode: AnyObject {
  associatedtype Link: AnyObject
  var runNext: Link? { get set }
  /// 0 runs first; below `RunQueue.levels`.
  var level: Int { get }
}

/// Ready threads of one CPU by level, first in, first out within one. Push and pop are O(1).
public struct RunQueue<Node: RunQueueNode>: ~Copyable where Node.Link == Node {
  public static var levels: Int { 40 }
  private var heads: InlineArray<40, Node?> = .init(repeating: nil)
  private var tails: InlineArray<40, Node?> = .init(repeating: nil)
  private var occupied: UInt64 = 0
  public private(set) var count = 0

  public init() {}

  public mutating func push(_ node: Node) {
    let level = node.level
    node.runNext = nil
    if let tail = tails[level] { tail.runNext = node } else { heads[level] = node }
    tails[level] = node
    occupied |= 1 << UInt64(level)
    count += 1
  }

  /// The first node of the lowest occupied level.
  public mutating func pop() -> Node? {
    guard occupied != 0 else { return nil }
    let level = occupied.trailingZeroBitCount
    guard let node = heads[level] else { return nil }
    heads[level] = node.runNext
    if heads[level] == nil {
      tails[level] = nil
      occupied &= ~(1 << UInt64(level))
    }
    node.runNext = nil
    count -= 1
    return node
  }

  /// The level `pop` would take from, or nil when empty.
  public var firstLevel: Int? { occupied == 0 ? nil : occupied.trailingZeroBitCount }
}
