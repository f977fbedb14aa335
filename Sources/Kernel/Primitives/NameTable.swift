/// Names and what each stands for, in the order of their coming: found by hash, listed by a position that no change of others
/// moves.
public struct NameTable<Value> {
  private struct Entry {
    var name: [UInt8]
    var hash: NameHash
    var position: UInt64
    /// Nil where a name was removed.
    var value: Value?
    var nextInBucket: Int32 = -1
  }
  /// By position, which only grows.
  private var entries: [Entry] = []
  /// The first entry of each chain; a power of two of them.
  private var buckets: [Int32] = Array(repeating: -1, count: 4)
  private var nextPosition: UInt64
  public private(set) var count = 0

  /// - Parameter first: The first name's position.
  public init(first: UInt64 = 0) { nextPosition = first }

  public var isEmpty: Bool { count == 0 }

  private func index(of name: [UInt8], _ hash: NameHash) -> Int? {
    var index = buckets[hash.bucket(of: buckets.count)]
    while index >= 0 {
      let place = Int(index)
      if entries[place].hash == hash, entries[place].name.isEqual(to: name.span, 0..<name.count) { return place }
      index = entries[place].nextInBucket
    }
    return nil
  }

  public subscript(_ name: [UInt8]) -> Value? { index(of: name, NameHash.of(name.span)).flatMap { entries[$0].value } }

  /// Adds a name that is not there, behind all others.
  public mutating func append(_ name: [UInt8], _ value: Value) {
    if entries.count >= buckets.count * 2 { rebuild() }
    let hash = NameHash.of(name.span)
    link(Entry(name: name, hash: hash, position: nextPosition, value: value))
    nextPosition += 1
    count += 1
  }

  /// Lets a name that is there stand for something else; what it stood for.
  public mutating func replace(_ name: [UInt8], with value: Value) -> Value? {
    guard let index = index(of: name, NameHash.of(name.span)) else { return nil }
    let old = entries[index].value
    entries[index].value = value
    return old
  }

  private mutating func link(_ entry: Entry) {
    var entry = entry
    let bucket = entry.hash.bucket(of: buckets.count)
    entry.nextInBucket = buckets[bucket]
    buckets[bucket] = Int32(truncatingIfNeeded: entries.count)
    entries.append(entry)
  }

  /// Removes a name; what it stood for.
  public mutating func remove(_ name: [UInt8]) -> Value? {
    let hash = NameHash.of(name.span)
    guard let index = index(of: name, hash), let value = entries[index].value else { return nil }
    let bucket = hash.bucket(of: buckets.count)
    let next = entries[index].nextInBucket
    if buckets[bucket] == index {
      buckets[bucket] = next
    } else {
      var previous = Int(buckets[bucket])
      while entries[previous].nextInBucket != index { previous = Int(entries[previous].nextInBucket) }
      entries[previous].nextInBucket = next
    }
    entries[index].value = nil
    entries[index].name = []
    count -= 1
    if entries.count > 32, count * 2 < entries.count { rebuild() }
    return value
  }

  /// Without the removed ones, and with as many chains as names.
  private mutating func rebuild() {
    let old = entries
    var size = 4
    while size < count + 1 { size *= 2 }
    buckets = Array(repeating: -1, count: size)
    entries = []
    entries.reserveCapacity(count + 1)
    for entry in old where entry.value != nil { link(entry) }
  }

  /// Calls `visit` with the names at or behind a position, until it answers false.
  public func forEach(from position: UInt64, _ visit: ([UInt8], Value, UInt64) -> Bool) {
    var (low, high) = (0, entries.count)
    while low < high {
      let middle = (low + high) / 2
      if entries[middle].position < position { low = middle + 1 } else { high = middle }
    }
    while low < entries.count {
      if let value = entries[low].value, !visit(entries[low].name, value, entries[low].position) { return }
      low += 1
    }
  }
}
