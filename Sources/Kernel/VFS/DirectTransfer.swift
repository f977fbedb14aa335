import Machine
import Primitives
import SystemABI

/// O_DIRECT: content that goes past the cache. What is in the cache still counts, and is never older than what others see: a transfer
/// goes through pages that are there for as long as it takes, and leaves none that were not there before.
extension Inode {
  /// What offsets and lengths are multiples of: a sector, as all our devices have it. Memory may lie anywhere.
  private static var directAlignment: UInt64 { 512 }
  /// Pages that are on their way at one time.
  private static var directPages: UInt64 { 64 }

  /// Whether it can be read and written directly: from a device, or as well as any other way where memory is all there is.
  public var allowsDirect: Bool {
    let fileSystem = content.fileSystem
    return (isRegular || isDirectory || type == Mode.block) && (fileSystem.device != nil || fileSystem.livesInMemory)
  }

  private func checkAlignment(_ buffer: IOBuffer, _ offset: UInt64) throws(Errno) {
    guard (offset | UInt64(buffer.count)) % Self.directAlignment == 0 else { throw .invalidArgument }
  }

  /// As `read`. Throws `invalidArgument` for what is not aligned.
  func readDirect(_ buffer: inout IOBuffer, at offset: UInt64) throws(Errno) -> Int {
    if fileSystem.device == nil { return try read(&buffer, at: offset) }
    try checkAlignment(buffer, offset)
    let end = min(size, offset.addingReportingOverflow(UInt64(buffer.count)).partialValue)
    var total = 0
    while offset + UInt64(total) < end {
      let position = offset + UInt64(total)
      guard let first = UInt32(exactly: position >> 12) else { break }
      let stop = min(end, (UInt64(first) + Self.directPages) << 12)
      do throws(Errno) {
        let copied = try readDirect(&buffer, first, position..<stop)
        total += copied
        if UInt64(copied) < stop - position { break }
      } catch {
        if total == 0 { throw error }
        break
      }
    }
    return total
  }

  private func readDirect(_ buffer: inout IOBuffer, _ first: UInt32, _ range: Range<UInt64>) throws(Errno) -> Int {
    let pages = first..<UInt32(clamping: (range.upperBound + 4095) >> 12)
    let wereThere = pages.map { isPresent($0) }
    defer { for index in pages where !wereThere[Int(index - first)] { _ = dropCleanPages(index..<index + 1) } }
    willNeed(pages)
    var total = 0
    for index in pages {
      let position = range.lowerBound + UInt64(total)
      let start = Int(position & 0xFFF)
      let count = Int(min(range.upperBound - position, UInt64(pageSize - start)))
      let frame: Frame
      do throws(Errno) { frame = try page(index, wanted: 0) } catch {
        if total == 0 { throw error }
        break
      }
      let copied = buffer.put(frame, offset: start, count: count)
      Frames.release(frame)
      total += copied
      if copied < count {
        if total == 0 { throw .badAddress }
        break
      }
    }
    return total
  }

  /// As `write`; the content is with the device when it returns. Throws `invalidArgument` for what is not aligned.
  func writeDirect(_ buffer: inout IOBuffer, at offset: UInt64, append: Bool) throws(Errno) -> (Int, UInt64) {
    if fileSystem.device == nil { return try write(&buffer, at: offset, append: append) }
    try checkAlignment(buffer, append ? size : offset)
    let (count, end) = try write(&buffer, at: offset, append: append)
    if count == 0 { return (count, end) }
    let pages = UInt32(clamping: (end - UInt64(count)) >> 12)..<UInt32(clamping: (end + 4095) >> 12)
    try writeBack(pages: pages)
    _ = dropCleanPages(pages)
    return (count, end)
  }
}
