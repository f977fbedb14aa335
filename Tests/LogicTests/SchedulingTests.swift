import Scheduling
import Signals
import Terminal
import Testing

private final class Node: RunQueueNode, TimerNode {
  var runNext: Node?
  let level: Int
  let number: Int
  var deadline: UInt64 = 0
  var heapIndex = -1
  init(_ level: Int, _ number: Int) {
    self.level = level
    self.number = number
  }
}

@Test func runQueueIsFirstInFirstOutWithinALevel() {
  var random = Seeded(state: 4)
  var queue = RunQueue<Node>()
  var model: [Node] = []
  for number in 0..<5000 {
    if Bool.random(using: &random) {
      let node = Node(Int.random(in: 0..<40, using: &random), number)
      queue.push(node)
      model.append(node)
    } else {
      let wanted = model.enumerated().min { ($0.element.level, $0.offset) < ($1.element.level, $1.offset) }
      let node = queue.pop()
      #expect(node === wanted?.element)
      if let wanted { model.remove(at: wanted.offset) }
    }
    #expect(queue.count == model.count)
  }
}

@Test func everyLevelHasItsTurn() {
  var queue = RunQueue<Node>()
  for (number, level) in [5, 99, 119, 119, 124, 139].enumerated() { queue.push(Node(level, number)) }
  var last = 0
  var seen: [Int] = []
  for _ in 0..<9 {
    guard let node = queue.popInTurn(from: 99, after: last, where: { $0.number != 4 }) else { break }
    seen.append(node.number)
    last = node.level
    queue.push(node)
  }
  #expect(seen == [1, 2, 5, 1, 3, 5, 1, 2, 5])
  #expect(queue.count == 6 && queue.firstLevel == 5)
  var empty = RunQueue<Node>()
  empty.push(Node(98, 0))
  #expect(empty.popInTurn(from: 99, after: 99, where: { _ in true }) == nil)
}

/// An interrupt costs `cost` before its handler begins; timers are always due.
@Test(arguments: [1_000, 50_000, 2_000_000] as [UInt64]) func threadsGetTheirPartOfACPUFullOfTimers(cost: UInt64) {
  var pace = InterruptPace()
  var now: UInt64 = 1_000_000
  var forThreads: UInt64 = 0
  let start = now
  for _ in 0..<1000 {
    now += cost / 2
    pace.begin(at: now)
    now += cost
    // Arming the timer takes a while, too.
    let next = now + pace.gap
    now += cost
    pace.end(at: now)
    now += cost / 2
    if next > now {
      forThreads += next - now
      now = next
    }
  }
  #expect(forThreads > (now - start) / 4)
  // And when the crowd is gone, the next timer is served at once.
  for _ in 0..<20 {
    now += 1_000_000_000
    pace.begin(at: now)
    pace.end(at: now + cost)
  }
  #expect(pace.gap == InterruptPace.shortest)
}

@Test func timersExpireInOrder() {
  var random = Seeded(state: 6)
  var heap = TimerHeap<Node>()
  var live: [Node] = []
  for number in 0..<3000 {
    let node = Node(0, number)
    node.deadline = UInt64.random(in: 0..<10000, using: &random)
    heap.insert(node)
    live.append(node)
    if Bool.random(using: &random), let index = live.indices.randomElement(using: &random) { heap.remove(live.remove(at: index)) }
  }
  var last: UInt64 = 0
  var count = 0
  while let node = heap.popExpired(now: .max) {
    #expect(node.deadline >= last)
    last = node.deadline
    count += 1
  }
  #expect(count == live.count)
}

@Test func timersWhoseDeadlinesChangeExpireInTheNewOrder() {
  var random = Seeded(state: 7)
  for size in [0, 1, 2, 3, 100, 1000] {
    var heap = TimerHeap<Node>()
    for number in 0..<size {
      let node = Node(0, number)
      node.deadline = UInt64.random(in: 0..<10000, using: &random)
      heap.insert(node)
    }
    heap.update { if Bool.random(using: &random) { $0.deadline = UInt64.random(in: 0..<10000, using: &random) } }
    var order: [UInt64] = []
    while let node = heap.popExpired(now: .max) { order.append(node.deadline) }
    #expect(order == order.sorted() && order.count == size)
  }
}

@Test func standardSignalsQueueOnceRealTimeOnesEachTime() {
  var pending = PendingSignals()
  let once = pending.add(SignalInformation(.user1))
  let twice = pending.add(SignalInformation(.user1))
  #expect(once && !twice)
  var first = SignalInformation(Signal(34))
  first.value = 1
  var second = SignalInformation(Signal(34))
  second.value = 2
  pending.add(first)
  pending.add(second)
  var taken: [SignalInformation] = []
  while let information = pending.take(notIn: SignalSet()) { taken.append(information) }
  #expect(taken.map { $0.signal.number } == [10, 34, 34])
  #expect(taken.map { $0.value } == [0, 1, 2])
}

@Test func faultsAreDeliveredFirst() {
  var pending = PendingSignals()
  pending.add(SignalInformation(.hangUp))
  pending.add(SignalInformation(.segmentation))
  let first = pending.take(notIn: SignalSet())
  #expect(first?.signal == .segmentation)
}

@Test func loadAverageFollowsTheLoad() {
  var load = LoadAverage()
  for _ in 0..<12 { load.sample(runnable: 1) }
  // After one minute 1 - 1/e of a steady load of one, 1 - exp(-1/5) and 1 - exp(-1/15).
  #expect((62...65).contains(load.hundredths(0)))
  #expect((17...20).contains(load.hundredths(1)))
  #expect((6...8).contains(load.hundredths(2)))
  for _ in 0..<5000 { load.sample(runnable: 3) }
  #expect((0..<3).allSatisfy { load.hundredths($0) == 300 })
  for _ in 0..<5000 { load.sample(runnable: 6500) }
  #expect((0..<3).allSatisfy { load.hundredths($0) == 650000 })
  #expect(load.fixedPoint(0) == 6500 << 16)
  for _ in 0..<100 { load.sample(runnable: 100_000) }
  #expect(load.fixedPoint(0) == .max)
  for _ in 0..<9000 { load.sample(runnable: 0) }
  #expect((0..<3).allSatisfy { load.hundredths($0) == 0 })
}
