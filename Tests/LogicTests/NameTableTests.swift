import Primitives
import Testing

@Test func namesAreFoundListedAndRemovedAsInAList() {
  var random = Seeded(state: 11)
  var table = NameTable<Int>(first: 3)
  var model: [(name: [UInt8], value: Int, position: UInt64)] = []
  var next: UInt64 = 3
  for step in 0..<20_000 {
    let name = Array("n\(Int.random(in: 0..<400, using: &random))".utf8)
    let index = model.firstIndex { $0.name == name }
    #expect(table[name] == index.map { model[$0].value })
    if let index, Bool.random(using: &random) {
      #expect(table.remove(name) == model.remove(at: index).value)
    } else if index == nil {
      #expect(table.remove(name) == nil)
      table.append(name, step)
      model.append((name, step, next))
      next += 1
    }
    // Long stretches of removal as well.
    if step % 5000 == 4999 {
      for entry in model.dropFirst(3) { #expect(table.remove(entry.name) == entry.value) }
      model = Array(model.prefix(3))
    }
    guard step % 50 == 0 else { continue }
    let from = UInt64.random(in: 0...(next + 1), using: &random)
    var seen: [(name: [UInt8], value: Int, position: UInt64)] = []
    table.forEach(from: from) {
      seen.append(($0, $1, $2))
      return seen.count < 100
    }
    let expected = model.filter { $0.position >= from }.prefix(100)
    #expect(seen.elementsEqual(expected) { $0.name == $1.name && $0.value == $1.value && $0.position == $1.position })
    #expect(table.count == model.count && table.isEmpty == model.isEmpty)
  }
}

// What `#expect` cannot take apart itself: spans.
private func hash(_ name: [UInt8]) -> NameHash { NameHash.of(name.span) }
private func isEqual(_ name: [UInt8], _ path: [UInt8], _ range: Range<Int>) -> Bool { name.isEqual(to: path.span, range) }

@Test func aNameHasOneHashWhereverItStands() {
  var random = Seeded(state: 12)
  for _ in 0..<2000 {
    let parts = (0..<4).map { _ in (0..<Int.random(in: 0...11, using: &random)).map { _ in UInt8.random(in: 40...55, using: &random) } }
    let path = Array(parts.joined(separator: [47]))
    var start = 0
    for part in path.split(separator: 47, omittingEmptySubsequences: false) {
      let found = NameHash.until(47, in: path.span, from: start)
      #expect(found.end == start + part.count)
      #expect(found.hash == hash(Array(part)))
      #expect(isEqual(Array(part), path, start..<found.end))
      if !part.isEmpty {
        var other = Array(part)
        other[Int.random(in: 0..<other.count, using: &random)] ^= 128
        #expect(!isEqual(other, path, start..<found.end))
        #expect(hash(other) != found.hash)
      }
      #expect(!isEqual(part + [0], path, start..<found.end))
      start = found.end + 1
    }
  }
}

/// Names as programs make them: no bucket gets much more than its share, and hardly two have the same hash.
@Test(arguments: ["file%", "%", "%.o", "a%b%c%d", "IMG_20261127_0%.jpg", "%file"]) func namesThatDifferByANumberAreSpread(form: String) {
  let count = 4096
  var buckets = [Int](repeating: 0, count: count)
  var hashes: Set<UInt32> = []
  for number in 0..<count {
    let name = Array(form.utf8).flatMap { $0 == UInt8(ascii: "%") ? Array(String(number).utf8) : [$0] }
    let hash = NameHash.of(name.span)
    buckets[hash.bucket(of: count)] += 1
    hashes.insert(hash.value)
  }
  // Chance alone gives seven or eight.
  #expect(buckets.max()! <= 12)
  #expect(hashes.count >= count - 16)
}
