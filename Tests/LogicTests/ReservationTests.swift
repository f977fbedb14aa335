import Ext2
import Testing

/// A disk's blocks and those who take them as the kernel does: the first free one from a place on that is nobody else's.
private struct Disk {
  var isTaken: [Bool]
  var reservations = Ext2Reservations()

  init(_ count: Int) { isTaken = Array(repeating: false, count: count) }

  mutating func take(for owner: UInt32, from goal: UInt32) -> UInt32? {
    while true {
      var block = goal
      while block < isTaken.count {
        if isTaken[Int(block)] {
          block += 1
        } else if let end = reservations.end(of: block, for: owner) {
          block = max(end, block + 1)
        } else {
          isTaken[Int(block)] = true
          reservations.take(block, for: owner, limit: UInt32(isTaken.count))
          return block
        }
      }
      if reservations.isEmpty { return nil }
      reservations.releaseAll()
    }
  }
}

@Test func filesThatGrowTogetherDoNotLieInEachOther() throws {
  var disk = Disk(1 << 14)
  var files: [[UInt32]] = Array(repeating: [], count: 8)
  for _ in 0..<1024 {
    for owner in files.indices {
      let block = disk.take(for: UInt32(owner), from: files[owner].last.map { $0 + 1 } ?? 0)
      files[owner].append(try #require(block))
    }
  }
  for file in files {
    let breaks = zip(file, file.dropFirst()).count { $0 + 1 != $1 }
    // 16, 32, … 512 blocks: seven windows.
    #expect(breaks <= 7)
  }
  #expect(Set(files.joined()).count == 8 * 1024)
}

@Test func theLastBlocksGoToWhoAsks() throws {
  var disk = Disk(300)
  var taken: Set<UInt32> = []
  for round in 0..<300 {
    let found = disk.take(for: UInt32(round % 7), from: 0)
    let block = try #require(found)
    let isNew = taken.insert(block).inserted
    #expect(isNew)
  }
  let more = disk.take(for: 1, from: 0)
  #expect(more == nil)
}

@Test func reservationsEnd() {
  var reservations = Ext2Reservations()
  reservations.take(10, for: 1, limit: 1000)
  #expect(reservations.window(of: 1) == 11..<(11 + Ext2Reservations.shortest))
  #expect(reservations.end(of: 12, for: 2) == 11 + Ext2Reservations.shortest)
  #expect(reservations.end(of: 12, for: 1) == nil)
  // No further than its group, nor into another's.
  reservations.take(20 + Ext2Reservations.shortest, for: 2, limit: 24 + Ext2Reservations.shortest)
  #expect(reservations.window(of: 2) == (21 + Ext2Reservations.shortest)..<(24 + Ext2Reservations.shortest))
  reservations.take(5, for: 3, limit: 1000)
  #expect(reservations.window(of: 3) == 6..<11)
  reservations.release(1)
  #expect(reservations.window(of: 1) == nil && reservations.end(of: 12, for: 2) == nil)
  // The one that nobody has used for longest goes.
  for owner in 10..<UInt32(10 + Ext2Reservations.most) { reservations.take(1000 * owner, for: owner, limit: .max) }
  #expect(reservations.window(of: 2) == nil && reservations.window(of: 3) == nil)
  #expect(reservations.window(of: 10) != nil)
}
