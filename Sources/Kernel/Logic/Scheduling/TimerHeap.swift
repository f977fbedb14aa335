/// Something that wants to know when a moment has passed.
public protocol TimerNode: AnyObject {
  /// Nanoseconds on the clock the heap's owner uses.
  var deadline: UInt64 { get }
  /// Where the node sits in its heap; -1 outside one. The heap maintains it.
  var heapIndex: Int { get set }
}

/// Pending timers, earliest first: a binary heap whose nodes know their place, so that any can be removed in O(log n).
public struct TimerHeap<Node: TimerNode>: ~Copyable {
  private var nodes: [Node] = []

  public init() {}

  public var first: Node? { nodes.first }
  public var count: Int { nodes.count }

  public mutating func insert(_ node: Node) {
    precondition(node.heapIndex < 0)
    nodes.append(node)
    node.heapIndex = nodes.count - 1
    siftUp(nodes.count - 1)
  }

  public mutating func remove(_ node: Node) {
    let index = node.heapIndex
    guard index >= 0 else { return }
    node.heapIndex = -1
    let last = nodes.removeLast()
    if last !== node {
      nodes[index] = last
      last.heapIndex = index
      siftUp(index)
      siftDown(last.heapIndex)
    }
  }

  /// Removes and returns the first node whose deadline is at or before `now`.
  public mutating func popExpired(now: UInt64) -> Node? {
    guard let first = nodes.first, first.deadline <= now else { return nil }
    remove(first)
    return first
  }

  /// Changes deadlines, of any number of nodes.
  public mutating func update(_ body: (Node) -> Void) {
    for node in nodes { body(node) }
    for index in stride(from: nodes.count / 2 - 1, through: 0, by: -1) { siftDown(index) }
  }

  private mutating func swap(_ a: Int, _ b: Int) {
    nodes.swapAt(a, b)
    nodes[a].heapIndex = a
    nodes[b].heapIndex = b
  }

  private mutating func siftUp(_ start: Int) {
    var index = start
    while index > 0 {
      let parent = (index - 1) / 2
      if nodes[parent].deadline <= nodes[index].deadline { return }
      swap(parent, index)
      index = parent
    }
  }

  private mutating func siftDown(_ start: Int) {
    var index = start
    while true {
      var least = index
      for child in [2 * index + 1, 2 * index + 2] where child < nodes.count {
        if nodes[child].deadline < nodes[least].deadline { least = child }
      }
      if least == index { return }
      swap(least, index)
      index = least
    }
  }
}
