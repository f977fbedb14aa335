import SystemABI
import VFS

/// What programs say of files that they are going to use, or have used.
extension Call {
  /// SPEC: posix_fadvise(2). Read-ahead follows from how a file is read, so that of the six only two ask for something.
  ///
  /// - Parameter wide: The length has two registers as well.
  func fadvise(wide: Bool) throws(Errno) -> UInt32 {
    let (length, advice) = wide ? (long(d, e), f) : (UInt64(d), e)
    let description = try advised()
    if description.file is PipeEnd || description.inode?.type == Mode.fifo { throw .illegalSeek }
    guard Int64(bitPattern: length) >= 0, advice <= 5 else { throw .invalidArgument }
    guard let storage = cached(description) else { return 0 }
    let start = long(b, c)
    // Zero is all that comes; and so is more than there can be.
    let (sum, overflows) = start.addingReportingOverflow(length)
    let end = length == 0 || overflows ? UInt64.max : sum
    switch advice {
    case 3: storage.willNeed(pages(from: start >> 12, to: end >> 12 + (end & 0xFFF == 0 ? 0 : 1)))
    case 4:
      // Whole pages, the last one too where it is the file's last. What cannot be written stays, and fsync tells.
      try? storage.writeBack()
      let last = end >= storage.size ? UInt64.max : end >> 12
      _ = storage.dropCleanPages(pages(from: (start >> 12) + (start & 0xFFF == 0 ? 0 : 1), to: last))
    default: break
    }
    return 0
  }

  /// SPEC: readahead(2).
  func readahead() throws(Errno) -> UInt32 {
    let description = try advised()
    guard description.isReadable else { throw .badFileDescriptor }
    guard let storage = cached(description) else { throw .invalidArgument }
    let start = long(b, c)
    guard Int64(bitPattern: start) >= 0 else { throw .invalidArgument }
    storage.willNeed(pages(from: start >> 12, to: (start + UInt64(d) + 4095) >> 12))
    return 0
  }

  /// Throws `badFileDescriptor`, also for a descriptor that only stands for a path.
  private func advised() throws(Errno) -> FileDescription {
    let description = try description(a)
    guard description.flags & OpenFlags.path == 0 else { throw .badFileDescriptor }
    return description
  }

  /// What has pages in the cache that come from a device.
  private func cached(_ description: FileDescription) -> Inode? {
    guard let inode = description.inode, inode.isRegular || inode.type == Mode.block else { return nil }
    return description.storage
  }

  private func pages(from first: UInt64, to end: UInt64) -> Range<UInt32> {
    let first = UInt32(clamping: first)
    return first..<max(first, UInt32(clamping: end))
  }
}
