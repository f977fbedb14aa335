import Synchronization
import SystemABI
import Threads

/// A part of a file that is in one piece on its device, in bytes.
public struct FileExtent {
  public var logical: UInt64
  /// The place on the device; nothing where it has none yet.
  public var physical: UInt64?
  public var length: UInt64

  /// Grows by what comes behind it in the file; false when that is elsewhere on the device.
  mutating func grow(by next: FileExtent) -> Bool {
    guard next.logical == logical + length else { return false }
    if let physical { if next.physical != physical + length { return false } } else if next.physical != nil { return false }
    length += next.length
    return true
  }
}

extension Inode {
  /// Shows the pieces of which a range consists, holes left out, and whether nothing of the file is behind each, until `visit` answers
  /// false. Throws `notSupportedOnSocket`, `interrupted`.
  public func forEachExtent(_ range: Range<UInt64>, _ visit: (FileExtent, _ isLast: Bool) -> Bool) throws(Errno) {
    if let layers { return try layers.real.forEachExtent(range, visit) }
    guard isRegular, fileSystem.device != nil else { throw .notSupportedOnSocket }
    let end = min(range.upperBound, (size + 4095) & ~4095)
    var current: FileExtent?
    var wantsMore = true
    var position = range.lowerBound & ~4095
    var rounds = 0
    while wantsMore, position < end, let index = UInt32(exactly: position >> 12) {
      try fileSystem.locate(self, index, forWriting: false) { sector, bytes in
        guard wantsMore, sector != nil || isDirty(index) else { return }
        let piece = FileExtent(
          logical: position + UInt64(bytes.lowerBound), physical: sector.map { $0 * 512 }, length: UInt64(bytes.count))
        if current?.grow(by: piece) == true { return }
        if let current { wantsMore = visit(current, false) }
        current = piece
      }
      position += 4096
      rounds += 1
      if rounds & 0xFFF == 0, Thread.current.interruptRequested.load(ordering: .acquiring) { throw .interrupted }
    }
    if wantsMore, let current { _ = visit(current, range.upperBound >= size) }
  }
}
