/// The clusters of a file in its order, as far as they are known from its beginning on: runs of neighbours.
public struct FATChain: Equatable, Sendable {
  private struct Run: Equatable, Sendable {
    /// How many clusters of the file come before it.
    var start: UInt32
    var cluster: UInt32
    var count: UInt32
  }
  private var runs: [Run] = []
  public private(set) var count: UInt32 = 0
  public var runCount: Int { runs.count }

  public init() {}

  public var last: UInt32? { runs.last.map { $0.cluster + $0.count - 1 } }

  /// The file's cluster `index`; nil behind what is known.
  public subscript(_ index: UInt32) -> UInt32? {
    guard index < count else { return nil }
    var low = 0
    var high = runs.count
    while high - low > 1 {
      let middle = (low + high) / 2
      if runs[middle].start <= index { low = middle } else { high = middle }
    }
    return runs[low].cluster + (index - runs[low].start)
  }

  /// Where in the file a cluster is.
  public func index(of cluster: UInt32) -> UInt32? {
    for run in runs where cluster >= run.cluster && cluster - run.cluster < run.count { return run.start + (cluster - run.cluster) }
    return nil
  }

  public mutating func append(_ cluster: UInt32) {
    if let last, last &+ 1 == cluster {
      runs[runs.count - 1].count += 1
    } else {
      runs.append(Run(start: count, cluster: cluster, count: 1))
    }
    count += 1
  }

  /// Keeps the first `length` clusters and answers the others.
  public mutating func cut(to length: UInt32) -> [Range<UInt32>] {
    var removed: [Range<UInt32>] = []
    while let run = runs.last, run.start + run.count > length {
      let kept = run.start < length ? length - run.start : 0
      removed.append(run.cluster + kept..<run.cluster + run.count)
      if kept == 0 { runs.removeLast() } else { runs[runs.count - 1].count = kept }
    }
    count = min(count, length)
    removed.reverse()
    return removed
  }
}
