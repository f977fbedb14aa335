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
