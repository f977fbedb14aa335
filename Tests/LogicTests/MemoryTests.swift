import Memory
import Primitives
import Testing

/// A generator with a printed seed, so that a failure can be repeated.
struct Seeded: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }
}

final class ArrayFrameStore: FrameStore {
  var entries: [FrameEntry]
  init(_ count: Int) { entries = Array(repeating: FrameEntry(), count: count) }
  var count: UInt32 { UInt32(entries.count) }
  subscript(_ frame: UInt32) -> FrameEntry {
    get { entries[Int(frame)] }
    set { entries[Int(frame)] = newValue }
  }
}

@Test(arguments: [UInt64(1), 2, 3]) func buddyBlocksNeverOverlapAndAllComeBack(seed: UInt64) {
  var random = Seeded(state: seed)
  var allocator = BuddyAllocator(store: ArrayFrameStore(3000))
  allocator.add(5..<2990)
  let total = allocator.freeCount
  var owner = [Int](repeating: 0, count: 3000)
  var blocks: [(UInt32, Int)] = []
  for step in 1...5000 {
    if Bool.random(using: &random), let block = allocator.allocate(order: Int.random(in: 0...4, using: &random)) {
      let order = Int(allocator.store[block].order)
      #expect(block % (1 << UInt32(order)) == 0)
      for frame in block..<(block + 1 << UInt32(order)) {
        #expect(owner[Int(frame)] == 0 && frame >= 5 && frame < 2990)
        owner[Int(frame)] = step
      }
      blocks.append((block, order))
    } else if let index = blocks.indices.randomElement(using: &random) {
      let (block, order) = blocks.remove(at: index)
      for frame in block..<(block + 1 << UInt32(order)) { owner[Int(frame)] = 0 }
      allocator.free(block, order: order)
    }
  }
  for (block, order) in blocks { allocator.free(block, order: order) }
  #expect(allocator.freeCount == total)
  let largest = allocator.allocate(order: 10)
  #expect(largest != nil)
}

@Test(arguments: [UInt64(1), 2, 3]) func radixTreeAgreesWithADictionary(seed: UInt64) {
  var random = Seeded(state: seed)
  var tree = RadixTree()
  var model: [UInt32: UInt32] = [:]
  for step in 0..<20000 {
    let index = UInt32.random(in: 0...(Bool.random(using: &random) ? 300 : .max), using: &random)
    var value = Bool.random(using: &random) ? UInt32.random(in: 1...1000, using: &random) : 0
    if value != 0, Int.random(in: 0..<8, using: &random) == 0 { value |= RadixTree.mark }
    let old = tree.set(index, to: value)
    #expect(old == model[index] ?? 0)
    model[index] = value == 0 ? nil : value
    #expect(tree[index] == value)
    if step % 100 == 0 {
      let start = UInt32.random(in: 0...(Bool.random(using: &random) ? 300 : .max), using: &random)
      let wanted = model.filter { $0.key >= start && $0.value & RadixTree.mark != 0 }.min { $0.key < $1.key }
      let found = tree.firstMarked(from: start)
      #expect(found?.index == wanted?.key)
      #expect(found?.value == wanted?.value)
    }
  }
  #expect(tree.count == model.count)
  // As write-back does: each found once, then without its mark.
  var marked = Set(model.filter { $0.value & RadixTree.mark != 0 }.keys)
  while let found = tree.firstMarked(from: 0) {
    #expect(marked.remove(found.index) != nil)
    model[found.index] = found.value & ~RadixTree.mark
    tree.set(found.index, to: found.value & ~RadixTree.mark)
  }
  #expect(marked.isEmpty)
  var next: UInt32 = 0
  var walked = 0
  while let found = tree.first(from: next) {
    #expect(model[found.index] == found.value)
    walked += 1
    if found.index == .max { break }
    next = found.index + 1
  }
  #expect(walked == model.count)
  for index in UInt32(0)...320 {
    var run: [UInt32] = []
    tree.run(from: index) {
      run.append($0)
      return run.count < 9
    }
    let end = min(index + 9, (index / 16 + 1) * 16)
    // Where nothing was ever set there is nothing to visit.
    #expect(run == (index..<end).map { model[$0] ?? 0 } || run.isEmpty && (index..<end).allSatisfy { model[$0] == nil })
  }
}

final class Backing {}

@Test(arguments: [UInt64(7), 8, 9]) func areaMapAgreesWithAPageModel(seed: UInt64) {
  var random = Seeded(state: seed)
  var map = AreaMap<Backing>()
  let files = [Backing(), Backing()]
  /// Page to (backing, its page, writable).
  var model: [UInt32: (Int, UInt32, Bool)] = [:]
  for _ in 0..<3000 {
    let start = UInt32.random(in: 0..<200, using: &random)
    let end = start + UInt32.random(in: 1...20, using: &random)
    map.remove(start << 12..<end << 12)
    for page in start..<end { model[page] = nil }
    if Bool.random(using: &random) {
      let file = Int.random(in: 0...2, using: &random)
      let offset = UInt32.random(in: 0..<50, using: &random)
      let writable = Bool.random(using: &random)
      map.insert(
        Area(
          start: start << 12, end: end << 12, readable: true, writable: writable, executable: false,
          backing: file < 2 ? files[file] : nil, pageOffset: file < 2 ? offset : 0))
      for page in start..<end { model[page] = (file, offset + page - start, writable) }
    }
  }
  var last: UInt32 = 0
  for area in map.areas {
    #expect(area.start >= last && area.end > area.start)
    last = area.end
  }
  for page in UInt32(0)..<230 {
    let found = map.find(page << 12)
    #expect((found == nil) == (model[page] == nil))
    guard let found, let wanted = model[page] else { continue }
    #expect(found.writable == wanted.2)
    if wanted.0 < 2 { #expect(found.backing === files[wanted.0] && found.page(of: page << 12) == wanted.1) }
  }
}

@Test func gapsAreFoundFromTheTop() {
  var map = AreaMap<Backing>()
  map.insert(Area(start: 0x9000, end: 0xA000, readable: true, writable: true, executable: false))
  #expect(map.findGap(size: 0x1000, below: 0x10000, above: 0x1000) == 0xF000)
  #expect(map.findGap(size: 0x6000, below: 0x10000, above: 0x1000) == 0xA000)
  #expect(map.findGap(size: 0x7000, below: 0x10000, above: 0x1000) == 0x2000)
  #expect(map.findGap(size: 0x9000, below: 0x10000, above: 0x1000) == nil)
}
