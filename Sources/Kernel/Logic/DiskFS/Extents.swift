import Primitives

/// Where files' pages are.
extension DiskVolume {
  /// The extent that has a page, or the last one before it.
  private func extent(upTo page: UInt64, of object: UInt64) throws(DiskFSError) -> DiskExtent? {
    guard let item = try tree.last(upTo: DiskKey(object, .extent, page)), item.key.isLike(DiskKey(object, .extent, 0)) else { return nil }
    guard let extent = DiskExtent(item.key, item.value, blocks: blocks) else { throw .corrupt }
    return extent
  }

  /// Where a page of a file is, and what it must be; nil for a hole.
  public func page(_ index: UInt32, of object: UInt64) throws(DiskFSError) -> DiskPointer? {
    let key = DiskKey(object, .extent, UInt64(index))
    guard let item = try tree.last(upTo: key), item.key.isLike(key) else { return nil }
    guard DiskExtent.isWhole(item.key, item.value, blocks: blocks), let block = item.value.span.u32(0) else { throw .corrupt }
    let offset = UInt32(truncatingIfNeeded: UInt64(index) - item.key.offset)
    guard offset < DiskFormat.extentPages, let checksum = item.value.span.u32(4 + Int(offset) * 4) else { return nil }
    return DiskPointer(block: block + offset, checksum: checksum)
  }

  /// The first page at or behind `index` that is no hole.
  public func nextPage(from index: UInt32, of object: UInt64) throws(DiskFSError) -> UInt32? {
    if try page(index, of: object) != nil { return index }
    guard let item = try tree.next(from: DiskKey(object, .extent, UInt64(index))), item.key.isLike(DiskKey(object, .extent, 0)) else {
      return nil
    }
    return UInt32(truncatingIfNeeded: item.key.offset)
  }

  /// Makes blocks from `allocate`, which have been written, the content of a file's pages from `start` on; how many pages it has more than before.
  public func place(_ start: UInt32, _ run: Range<UInt32>, checksums: [UInt32], of object: UInt64) throws(DiskFSError) -> Int {
    let pages = UInt64(start)..<(UInt64(start) + UInt64(run.count))
    let replaced = try removePages(object, pages)
    space.use(run)
    var index = 0
    var page = start
    // What came just before and lies just before becomes longer.
    if start > 0, var before = try extent(upTo: UInt64(start) - 1, of: object), before.end == UInt64(start),
      before.block + before.count == run.lowerBound, before.count < DiskFormat.extentPages
    {
      index = min(run.count, Int(DiskFormat.extentPages - before.count))
      before.checksums += checksums[..<index]
      try set(DiskKey(object, .extent, UInt64(before.start)), to: before.encoded)
      page += UInt32(index)
    }
    while index < run.count {
      let count = min(run.count - index, Int(DiskFormat.extentPages))
      let extent = DiskExtent(
        start: page, block: run.lowerBound + UInt32(index), checksums: Array(checksums[index..<(index + count)]))
      try set(DiskKey(object, .extent, UInt64(page)), to: extent.encoded)
      index += count
      page += UInt32(count)
    }
    return run.count - replaced
  }

  /// Makes a hole of pages; how many there were.
  public func removePages(_ object: UInt64, _ pages: Range<UInt64>) throws(DiskFSError) -> Int {
    if pages.isEmpty { return 0 }
    var removed = 0
    while let extent = try extent(upTo: pages.upperBound - 1, of: object), extent.end > pages.lowerBound {
      guard let middle = extent.part(pages) else { break }
      try remove(DiskKey(object, .extent, UInt64(extent.start)))
      for kept in [extent.part(0..<pages.lowerBound), extent.part(pages.upperBound..<(1 << 32))] {
        if let kept { try set(DiskKey(object, .extent, UInt64(kept.start)), to: kept.encoded) }
      }
      space.free(middle.block..<(middle.block + middle.count))
      removed += Int(middle.count)
    }
    return removed
  }
}
