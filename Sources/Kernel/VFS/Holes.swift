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
    if let layers { return try layers.real.next(wanted, from: offset, end: end) }
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

  /// Makes a hole of a range as far as the file goes; parts of pages at its ends become zeros. Throws `notSupportedOnSocket`.
  public func punch(_ range: Range<UInt64>) throws(Errno) {
    if let layers { return try layers.real.punch(range) }
    guard fileSystem.hasHoles else { throw .notSupportedOnSocket }
    try mutex.withLock { _ throws(Errno) in
      let size = size
      let end = min(range.upperBound, size)
      guard range.lowerBound < end else { return }
      let start = UInt32(clamping: (range.lowerBound + 4095) >> 12)
      // Behind the file's end the last page has nothing to keep.
      let pages = start..<max(start, UInt32(clamping: (end == size ? end + 4095 : end) >> 12))
      let first = range.lowerBound >> 12
      if range.lowerBound & 0xFFF != 0 { try clear(range.lowerBound..<min(end, (first + 1) << 12)) }
      if end != size, end & 0xFFF != 0, end >> 12 != first || range.lowerBound & 0xFFF == 0 { try clear((end & ~0xFFF)..<end) }
      if !pages.isEmpty {
        empty(pages)
        // What is being written of them goes to blocks that are somebody else's soon.
        try writing.withLock { _ throws(Errno) in
          try fileSystem.punch(self, pages)
          clear(pages)
        }
      }
      touch(modification: true)
      try fileSystem.attributesChanged(self)
    }
  }

  /// Zeros in a part of one page, unless there is a hole.
  private func clear(_ range: Range<UInt64>) throws(Errno) {
    let start = range.lowerBound & ~0xFFF
    do throws(Errno) { _ = try next(.data, from: start, end: start + 4096) } catch {
      if error == .noSuchAddressOrDevice { return }
      throw error
    }
    guard let index = UInt32(exactly: range.lowerBound >> 12) else { return }
    let frame = try page(index)
    defer { Frames.release(frame) }
    let from = Int(range.lowerBound & 0xFFF)
    try fileSystem.reserve(self, index, from..<(from + range.count))
    frame.zero(from: from, to: from + range.count)
    markDirty(index)
  }
}
