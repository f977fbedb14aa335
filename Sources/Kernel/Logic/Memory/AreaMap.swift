/// What is special about an area.
public enum AreaKind: UInt8, Sendable {
  case ordinary
  /// Grows downwards on a fault below it.
  case stack
  /// The kernel's code for user mode, and the time it reads.
  case vdso, time
}

/// A range of user addresses with one protection and one backing.
public struct Area<Backing: AnyObject> {
  public var start: UInt32
  /// Exclusive; 0 never occurs because user memory ends below the kernel.
  public var end: UInt32
  public var readable: Bool
  public var writable: Bool
  public var executable: Bool
  /// Writes reach the backing object, and forked children.
  public var shared: Bool
  /// Was writable at some time: it may hold private copies of backing pages.
  public var hasBeenWritable: Bool
  public var kind: AreaKind
  /// Nil for anonymous memory.
  public var backing: Backing?
  /// Page of the backing object at `start`.
  public var pageOffset: UInt32

  public init(
    start: UInt32, end: UInt32, readable: Bool, writable: Bool, executable: Bool, shared: Bool = false,
    kind: AreaKind = .ordinary, backing: Backing? = nil, pageOffset: UInt32 = 0
  ) {
    self.start = start
    self.end = end
    self.readable = readable
    self.writable = writable
    self.executable = executable
    self.shared = shared
    hasBeenWritable = writable
    self.kind = kind
    self.backing = backing
    self.pageOffset = pageOffset
  }

  public var range: Range<UInt32> { start..<end }

  /// The backing page of an address in this area.
  public func page(of address: UInt32) -> UInt32 { pageOffset &+ (address - start) >> 12 }

  func part(from: UInt32, to: UInt32) -> Area {
    var piece = self
    piece.start = from
    piece.end = to
    piece.pageOffset = pageOffset &+ (from - start) >> 12
    return piece
  }

  /// Whether `next` continues this area, so that the two can be one.
  func continues(into next: Area) -> Bool {
    end == next.start && readable == next.readable && writable == next.writable && executable == next.executable
      && shared == next.shared && hasBeenWritable == next.hasBeenWritable && kind == next.kind && backing === next.backing
      && (backing == nil || pageOffset &+ (end - start) >> 12 == next.pageOffset)
  }
}

/// The areas of an address space, sorted and disjoint; found by bisection.
public struct AreaMap<Backing: AnyObject> {
  public private(set) var areas: [Area<Backing>] = []

  public init() {}

  /// The index of the first area that ends above `address`.
  private func index(after address: UInt32) -> Int {
    var low = 0
    var high = areas.count
    while low < high {
      let middle = (low + high) / 2
      if areas[middle].end <= address { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// The area that holds `address`.
  public func find(_ address: UInt32) -> Area<Backing>? {
    let index = index(after: address)
    return index < areas.count && areas[index].start <= address ? areas[index] : nil
  }

  /// The area that holds `address`, or else the next above it.
  public func findOrNext(_ address: UInt32) -> Area<Backing>? {
    let index = index(after: address)
    return index < areas.count ? areas[index] : nil
  }

  /// Whether some area touches the range.
  public func overlaps(_ range: Range<UInt32>) -> Bool {
    let index = index(after: range.lowerBound)
    return index < areas.count && areas[index].start < range.upperBound
  }

  /// Adds an area where there is none, merging it with its neighbours if it can.
  public mutating func insert(_ area: Area<Backing>) {
    var index = index(after: area.start)
    precondition(index == areas.count || areas[index].start >= area.end)
    if index > 0, areas[index - 1].continues(into: area) {
      areas[index - 1].end = area.end
      index -= 1
    } else {
      areas.insert(area, at: index)
    }
    if index + 1 < areas.count, areas[index].continues(into: areas[index + 1]) {
      areas[index].end = areas[index + 1].end
      areas.remove(at: index + 1)
    }
  }

  /// Takes a range out; the pieces that lay in it.
  @discardableResult public mutating func remove(_ range: Range<UInt32>) -> [Area<Backing>] {
    var removed: [Area<Backing>] = []
    var index = index(after: range.lowerBound)
    while index < areas.count, areas[index].start < range.upperBound {
      let area = areas[index]
      let from = max(area.start, range.lowerBound)
      let to = min(area.end, range.upperBound)
      removed.append(area.part(from: from, to: to))
      if area.start < from, to < area.end {
        areas[index] = area.part(from: area.start, to: from)
        areas.insert(area.part(from: to, to: area.end), at: index + 1)
        break
      } else if area.start < from {
        areas[index] = area.part(from: area.start, to: from)
        index += 1
      } else if to < area.end {
        areas[index] = area.part(from: to, to: area.end)
        break
      } else {
        areas.remove(at: index)
      }
    }
    return removed
  }

  /// Moves the lower end of the stack area that starts at `start` down to `newStart`.
  public mutating func grow(stackAt start: UInt32, to newStart: UInt32) {
    let index = index(after: start)
    if index < areas.count, areas[index].start == start { areas[index].start = newStart }
  }

  /// The highest gap of `size` bytes that ends at or below `top` and starts at or above `bottom`.
  public func findGap(size: UInt32, below top: UInt32, above bottom: UInt32) -> UInt32? {
    var ceiling = top
    var index = index(after: top)
    if index < areas.count, areas[index].start < ceiling { ceiling = areas[index].start }
    while true {
      index -= 1
      let floor = index >= 0 ? max(areas[index].end, bottom) : bottom
      if ceiling >= floor, ceiling - floor >= size { return ceiling - size }
      if index < 0 { return nil }
      ceiling = min(ceiling, areas[index].start)
      if ceiling <= bottom { return nil }
    }
  }

  /// Bytes in all areas.
  public var totalSize: UInt64 {
    var total: UInt64 = 0
    for area in areas { total += UInt64(area.end - area.start) }
    return total
  }
}
