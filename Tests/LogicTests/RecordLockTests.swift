import FileLocks
import Testing

@Suite struct RecordLockTests {
  func lock(_ owner: UInt64, _ start: UInt64, _ end: UInt64, _ exclusive: Bool = true) -> RecordLocks.Lock {
    .init(owner: owner, process: Int32(owner), start: start, end: end, isExclusive: exclusive)
  }

  @Test func othersConflictOwnersDoNot() {
    var locks = RecordLocks()
    locks.set(lock(1, 10, 20))
    #expect(locks.conflict(with: lock(2, 19, 30))?.owner == 1)
    #expect(locks.conflict(with: lock(2, 20, 30)) == nil)
    #expect(locks.conflict(with: lock(1, 0, 100)) == nil)
    locks.set(lock(1, 10, 20, false))
    #expect(locks.conflict(with: lock(2, 0, 100, false)) == nil)
    #expect(locks.conflict(with: lock(2, 0, 100)) != nil)
  }

  @Test func unlockingTheMiddleLeavesBothSides() {
    var locks = RecordLocks()
    locks.set(lock(1, 0, .max))
    let unlocked = locks.remove(owner: 1, start: 10, end: 20)
    #expect(unlocked)
    #expect(locks.locks.count == 2)
    #expect(locks.conflict(with: lock(2, 10, 20)) == nil)
    #expect(locks.conflict(with: lock(2, 9, 11)) != nil)
    let strangers = locks.remove(owner: 3, start: 0, end: .max)
    #expect(!strangers)
  }

  /// 20,000 random operations agree with a byte map.
  @Test(arguments: 1...3) func agreesWithAByteMap(seed: UInt64) {
    var state = seed
    func random(_ bound: UInt64) -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return (state >> 33) % bound
    }
    var locks = RecordLocks()
    var map = [[UInt8]](repeating: [UInt8](repeating: 0, count: 64), count: 4)
    for _ in 0..<20_000 {
      let owner = random(4)
      let start = random(63)
      let end = start + 1 + random(64 - start)
      let exclusive = random(2) == 1
      let wanted = lock(owner, start, end, exclusive)
      let range = Int(start)..<Int(min(end, 64))
      let conflict = (0..<4).contains { other in
        other != Int(owner) && range.contains { map[other][$0] == 2 || exclusive && map[other][$0] == 1 }
      }
      #expect((locks.conflict(with: wanted) != nil) == conflict)
      if random(3) == 0 {
        locks.remove(owner: owner, start: start, end: end)
        for byte in range { map[Int(owner)][byte] = 0 }
      } else if !conflict {
        locks.set(wanted)
        for byte in range { map[Int(owner)][byte] = exclusive ? 2 : 1 }
      }
    }
    for first in locks.locks.indices {
      for second in locks.locks.indices where second > first && locks.locks[first].owner == locks.locks[second].owner {
        let (a, b) = (locks.locks[first], locks.locks[second])
        #expect(a.end <= b.start || b.end <= a.start)
      }
    }
  }
}
