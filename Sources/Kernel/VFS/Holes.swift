import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads

/// Parts of files that take no room.
extension Inode {
  public enum Extent { case data, hole }

  /// Where the next data or hole begins at or behind `offset`, which lies before `end`, the file's size and a hole's begin.
  /// Throws `noSuchAddressOrDevice` when no data is left, `interrupted`. SPEC: lseek(2) SEEK_DATA, SEEK_HOLE.
  public func next(_ wanted: Extent, from offset: UInt64, end: UInt64) throws(Errno) -> UInt64 {
    var position = offset
    var rounds = 0
    while position < end {
      guard let index = UInt32(exactly: position >> 12) else { break }
      if fileSystem.livesInMemory, wanted == .data {
        // All there is is in the cache: straight to it.
        guard let found = pages.withLock({ $0.first(from: index)?.index }) else { break }
        let start = max(position, UInt64(found) << 12)
        if start < end { return start }
        break
      }
      if let first = try first(wanted, in: index, from: Int(position & 0xFFF)) { return min(end, UInt64(index) << 12 + UInt64(first)) }
      position = (UInt64(index) + 1) << 12
      rounds += 1
      if rounds & 0xFFF == 0, Thread.current.interruptRequested.load(ordering: .acquiring) { throw .interrupted }
    }
    if wanted == .data { throw .noSuchAddressOrDevice }
    return end
  }

  /// The first byte of a page at or behind `start` that is what is wanted.
  private func first(_ wanted: Extent, in index: UInt32, from start: Int) throws(Errno) -> Int? {
    let cached = pages.withLock { $0[index] }
    if fileSystem.livesInMemory { return (cached != 0) == (wanted == .data) ? start : nil }
    if cached & Self.dirtyBit != 0 || fileSystem.device == nil { return wanted == .data ? start : nil }
    var found: Int?
    try fileSystem.locate(self, index, forWriting: false) { sector, range in
      if found == nil, range.upperBound > start, (sector != nil) == (wanted == .data) { found = max(start, range.lowerBound) }
    }
    return found
  }
}
