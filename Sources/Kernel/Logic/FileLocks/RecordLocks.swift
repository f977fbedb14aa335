/// The advisory locks on one file: byte ranges with owners. SPEC: POSIX.1-2024 fcntl(), "advisory record locking".
///
/// An owner's ranges are disjoint, and neighbours of one kind are joined.
public struct RecordLocks: Sendable {
  public struct Lock: Equatable, Sendable {
    public var owner: UInt64
    /// The process to name in F_GETLK.
    public var process: Int32
    public var start: UInt64
    /// Exclusive; `UInt64.max` stands for "to the end, however far it moves".
    public var end: UInt64
    public var isExclusive: Bool
    public init(owner: UInt64, process: Int32, start: UInt64, end: UInt64, isExclusive: Bool) {
      self.owner = owner
      self.process = process
      self.start = start
      self.end = end
      self.isExclusive = isExclusive
    }
    func overlaps(_ other: Lock) -> Bool { start < other.end && other.start < end }
  }

  public private(set) var locks: [Lock] = []
  public init() {}

  public var isEmpty: Bool { locks.isEmpty }

  /// The first lock of somebody else that `wanted` cannot be held beside; nil when there is none.
  public func conflict(with wanted: Lock) -> Lock? {
    var first: Lock?
    for lock in locks where lock.owner != wanted.owner && lock.overlaps(wanted) && (lock.isExclusive || wanted.isExclusive) {
      if first == nil || lock.start < first!.start { first = lock }
    }
    return first
  }

  /// Takes a range for its owner, whatever kind it had of it before. The caller has checked for conflicts.
  public mutating func set(_ lock: Lock) {
    remove(owner: lock.owner, start: lock.start, end: lock.end)
    var joined = lock
    locks.removeAll { other in
      guard other.owner == lock.owner, other.isExclusive == lock.isExclusive, other.end == joined.start || other.start == joined.end
      else { return false }
      joined.start = min(joined.start, other.start)
      joined.end = max(joined.end, other.end)
      return true
    }
    locks.append(joined)
  }

  /// Gives a range back; what is locked around it stays. Answers whether anything changed.
  @discardableResult public mutating func remove(owner: UInt64, start: UInt64, end: UInt64) -> Bool {
    var kept: [Lock] = []
    var changed = false
    for lock in locks {
      guard lock.owner == owner, lock.start < end, start < lock.end else {
        kept.append(lock)
        continue
      }
      changed = true
      if lock.start < start {
        var head = lock
        head.end = start
        kept.append(head)
      }
      if lock.end > end {
        var tail = lock
        tail.start = end
        kept.append(tail)
      }
    }
    locks = kept
    return changed
  }
}
