import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads

/// Pages of files in memory: one cache for read, write and mappings.
extension Inode {
  private static var dirtyBit: UInt32 { 1 << 31 }

  /// A page that is in memory, with a reference for the caller.
  public func cachedPage(_ index: UInt32) -> Frame? {
    pages.withLock { tree in
      let value = tree[index]
      guard value != 0 else { return nil }
      let frame = Frame(value & ~Self.dirtyBit)
      Frames.retain(frame)
      return frame
    }
  }

  /// A page, read from the file system if need be, with a reference for the caller. May sleep.
  public func page(_ index: UInt32) throws(Errno) -> Frame {
    if let frame = cachedPage(index) { return frame }
    return try fill.withLock { _ throws(Errno) in
      if let frame = cachedPage(index) { return frame }
      let frame = try PageCache.allocate()
      do throws(Errno) {
        try fileSystem.readPage(self, index, into: frame)
      } catch {
        Frames.release(frame)
        throw error
      }
      Frames.retain(frame)
      pages.withLock { _ = $0.set(index, to: frame.number) }
      PageCache.count.wrappingAdd(1, ordering: .relaxed)
      return frame
    }
  }

  /// A page that will be overwritten as a whole: not read. The inode's mutex is held.
  private func freshPage(_ index: UInt32) throws(Errno) -> Frame {
    if let frame = cachedPage(index) { return frame }
    return try fill.withLock { _ throws(Errno) in
      if let frame = cachedPage(index) { return frame }
      let frame = try PageCache.allocate()
      frame.zero()
      Frames.retain(frame)
      pages.withLock { _ = $0.set(index, to: frame.number) }
      PageCache.count.wrappingAdd(1, ordering: .relaxed)
      return frame
    }
  }

  /// Marks a cached page as newer than the device's.
  public func markDirty(_ index: UInt32) {
    pages.withLock { tree in
      let value = tree[index]
      if value != 0, value & Self.dirtyBit == 0 {
        tree.set(index, to: value | Self.dirtyBit)
        if !fileSystem.livesInMemory { PageCache.dirtyCount.wrappingAdd(1, ordering: .relaxed) }
      }
    }
    if !fileSystem.livesInMemory { PageCache.list(self) }
  }

  /// Reads from `offset` to the end of the file or of the buffer.
  /// - Throws: `badAddress` only when nothing was copied.
  public func read(_ buffer: inout IOBuffer, at offset: UInt64) throws(Errno) -> Int {
    let end = size
    var position = offset
    var total = 0
    while buffer.count > 0, position < end {
      guard let index = UInt32(exactly: position >> 12) else { break }
      let start = Int(position & 0xFFF)
      let count = min(pageSize - start, buffer.count, Int(min(end - position, 4096)))
      let frame: Frame
      do throws(Errno) { frame = try page(index) } catch {
        if total > 0 { return total }
        throw error
      }
      let copied = buffer.put(frame, offset: start, count: count)
      Frames.release(frame)
      total += copied
      position += UInt64(copied)
      if copied < count {
        if total == 0 { throw .badAddress }
        break
      }
    }
    return total
  }

  /// Writes at `offset`, or at the end with `append`; answers the count and the position behind it.
  public func write(_ buffer: inout IOBuffer, at offset: UInt64, append: Bool) throws(Errno) -> (Int, UInt64) {
    try mutex.withLock { _ throws(Errno) in
      var position = append ? size : offset
      var total = 0
      while buffer.count > 0 {
        guard let index = UInt32(exactly: position >> 12) else {
          if total == 0 { throw .fileTooLarge }
          break
        }
        let copied: Int
        do throws(Errno) { copied = try writePart(&buffer, index, Int(position & 0xFFF)) } catch {
          if total == 0 { throw error }
          break
        }
        total += copied
        position += UInt64(copied)
        let end = position
        attributes.withLock { if end > $0.size { $0.size = end } }
      }
      if total > 0 {
        touch(modification: true)
        try fileSystem.attributesChanged(self)
      }
      return (total, position)
    }
  }

  /// Copies into one page. User pages are faulted in first, and the copy itself does not fault: the fault path may
  /// need this inode (a file written from its own mapping).
  private func writePart(_ buffer: inout IOBuffer, _ index: UInt32, _ start: Int) throws(Errno) -> Int {
    let count = min(pageSize - start, buffer.count)
    // The page first: a block allocated for it holds somebody's old data.
    let frame = count == pageSize ? try freshPage(index) : try page(index)
    defer { Frames.release(frame) }
    try fileSystem.reserve(self, index, start..<(start + count))
    var copied = 0
    while copied == 0 {
      try buffer.touch(count)
      enterPreemptionOff()
      copied = buffer.take(into: frame, offset: start, count: count)
      leavePreemptionOff()
    }
    markDirty(index)
    return copied
  }

  /// Bytes of the file for the kernel's own use; shorter at the end of the file.
  public func bytes(at offset: UInt64, count: Int) throws(Errno) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(min(count, 65536))
    var position = offset
    let end = min(size, offset + UInt64(max(count, 0)))
    while position < end {
      guard let index = UInt32(exactly: position >> 12) else { break }
      let frame = try page(index)
      let start = Int(position & 0xFFF)
      let stop = Int(min(4096, UInt64(start) + end - position))
      frame.withBytes { bytes in
        for offset in start..<stop { result.append(bytes[offset]) }
      }
      Frames.release(frame)
      position += UInt64(stop - start)
    }
    return result
  }

  /// Writes kernel bytes: initramfs files, tests of the boot.
  public func write(bytes: [UInt8], at offset: UInt64) throws(Errno) {
    try mutex.withLock { _ throws(Errno) in
      var done = 0
      while done < bytes.count {
        let position = offset + UInt64(done)
        guard let index = UInt32(exactly: position >> 12) else { throw .fileTooLarge }
        let start = Int(position & 0xFFF)
        let count = min(pageSize - start, bytes.count - done)
        let frame = try page(index)
        defer { Frames.release(frame) }
        try fileSystem.reserve(self, index, start..<(start + count))
        frame.withMutableBytes { span in
          for offset in 0..<count { span[start + offset] = bytes[done + offset] }
        }
        markDirty(index)
        done += count
        let end = position + UInt64(count)
        attributes.withLock { if end > $0.size { $0.size = end } }
      }
      try fileSystem.attributesChanged(self)
    }
  }

  /// Changes the size; a shorter file loses pages, and the tail of its last page is zeroed.
  public func truncate(to size: UInt64) throws(Errno) {
    if payload as? FileNode != nil { return }  // its text is made anew at each opening
    try mutex.withLock { _ throws(Errno) in
      let old = self.size
      if size < old {
        attributes.withLock { $0.size = size }
        if size & 0xFFF != 0, let index = UInt32(exactly: size >> 12) {
          let frame = try page(index)
          frame.zero(from: Int(size & 0xFFF), to: pageSize)
          Frames.release(frame)
          markDirty(index)
        }
        if let first = UInt32(exactly: (size + 4095) >> 12) { dropPages(from: first) }
      }
      try fileSystem.resize(self, to: size)
      attributes.withLock { $0.size = size }
      touch(modification: true)
      try fileSystem.attributesChanged(self)
    }
  }

  /// Gives every page of a range a block, zeroes where there was a hole; the file grows to the end of the range.
  /// Throws `noSpace` with the file as long as the part that got blocks.
  public func allocate(_ range: Range<UInt64>) throws(Errno) {
    try mutex.withLock { _ throws(Errno) in
      var failure: Errno?
      do throws(Errno) { try allocateBlocks(range) } catch { failure = error }
      touch(modification: true)
      try fileSystem.attributesChanged(self)  // also of a part: blocks beyond the end would be lost ones
      if let failure { throw failure }
    }
  }

  private func allocateBlocks(_ range: Range<UInt64>) throws(Errno) {
    var position = range.lowerBound
    while position < range.upperBound {
      guard let index = UInt32(exactly: position >> 12) else { throw .fileTooLarge }
      let start = Int(position & 0xFFF)
      let count = Int(min(UInt64(pageSize - start), range.upperBound - position))
      let frame = try page(index)
      defer { Frames.release(frame) }
      try fileSystem.reserve(self, index, start..<(start + count))
      markDirty(index)
      position += UInt64(count)
      attributes.withLock { if position > $0.size { $0.size = position } }
    }
  }

  /// Forgets pages from `first` on, dirty ones too.
  public func dropPages(from first: UInt32 = 0) {
    var next = first
    while true {
      let removed: (UInt32, UInt32)? = pages.withLock { tree in
        guard let found = tree.first(from: next) else { return nil }
        tree.set(found.index, to: 0)
        return (found.index, found.value)
      }
      guard let (index, value) = removed else { return }
      if value & Self.dirtyBit != 0, !fileSystem.livesInMemory { PageCache.dirtyCount.wrappingSubtract(1, ordering: .relaxed) }
      PageCache.count.wrappingSubtract(1, ordering: .relaxed)
      Frames.release(Frame(value & ~Self.dirtyBit))
      if index == .max { return }
      next = index + 1
    }
  }

  /// Forgets clean pages that nobody maps; the number freed.
  public func dropCleanPages() -> Int {
    var next: UInt32 = 0
    var freed = 0
    while true {
      var victim: Frame?
      let more = pages.withLock { tree in
        guard let found = tree.first(from: next) else { return false }
        next = found.index &+ 1
        let frame = Frame(found.value & ~Self.dirtyBit)
        if found.value & Self.dirtyBit == 0, Frames.referenceCount(frame) == 1 {
          tree.set(found.index, to: 0)
          victim = frame
        }
        return true
      }
      if let victim {
        Frames.release(victim)
        freed += 1
        PageCache.count.wrappingSubtract(1, ordering: .relaxed)
      }
      if !more || next == 0 { return freed }
    }
  }

  /// Writes dirty pages to the file system, which may still hold them in the device's cache.
  public func writeBack() throws(Errno) {
    // A page without another home must stay dirty, or reclaim would drop the only copy.
    if fileSystem.livesInMemory { return }
    try writeTimes()
    var next: UInt32 = 0
    while true {
      let found: (UInt32, Frame)? = pages.withLock { tree in
        while let entry = tree.first(from: next) {
          next = entry.index &+ 1
          if entry.value & Self.dirtyBit != 0 {
            let frame = Frame(entry.value & ~Self.dirtyBit)
            tree.set(entry.index, to: frame.number)
            Frames.retain(frame)
            return (entry.index, frame)
          }
          if next == 0 { break }
        }
        return nil
      }
      guard let (index, frame) = found else { return }
      PageCache.dirtyCount.wrappingSubtract(1, ordering: .relaxed)
      defer { Frames.release(frame) }
      do throws(Errno) { try fileSystem.writePage(self, index, from: frame) } catch {
        markDirty(index)
        throw error
      }
      if next == 0 { return }
    }
  }
}

/// All cached pages together.
public enum PageCache {
  public static let count = Atomic<Int>(0)
  public static let dirtyCount = Atomic<Int>(0)
  /// Inodes that may have dirty pages.
  static let dirty = BootCell<SpinLock<[Inode], LeafRank>>()

  public static func start() { dirty.set(SpinLock([])) }

  static func list(_ inode: Inode) {
    guard !inode.dirtyListed.exchange(true, ordering: .acquiringAndReleasing) else { return }
    inode.addUser()
    dirty.value.withLock { list in
      inode.dirtyIndex = list.count
      list.append(inode)
    }
  }

  /// Takes an inode off the list; whether it was there. The list's use of it is the caller's then.
  static func unlist(_ inode: Inode) -> Bool {
    let removed = dirty.value.withLock { list in
      let index = inode.dirtyIndex
      guard index >= 0, index < list.count, list[index] === inode else { return false }
      list.swapAt(index, list.count - 1)
      list[index].dirtyIndex = index
      list.removeLast()
      inode.dirtyIndex = -1
      return true
    }
    if removed { inode.dirtyListed.store(false, ordering: .releasing) }
    return removed
  }

  /// A frame, at the price of clean pages when memory is short.
  public static func allocate() throws(Errno) -> Frame {
    if let frame = Frames.allocateUnreserved() { return frame }
    reclaim()
    guard let frame = Frames.allocateUnreserved() else { throw .noMemory }
    return frame
  }

  public static func allocateZeroed() throws(Errno) -> Frame {
    let frame = try allocate()
    frame.zero()
    return frame
  }

  /// Drops clean pages and unused names of every file system.
  public static func reclaim() {
    KernelSpace.trimStacks()
    for mount in Mounts.all() { mount.root.dropUnusedBelow() }
    for fileSystem in Mounts.fileSystems() { fileSystem.dropUnused() }
  }

  /// Writes all dirty pages of one file system, or of all.
  public static func writeBack(_ fileSystem: (any FileSystem)? = nil) throws(Errno) {
    let work: [Inode] = dirty.value.withLock { list in
      var work: [Inode] = []
      var kept: [Inode] = []
      for inode in list {
        if fileSystem == nil || inode.fileSystem === fileSystem {
          inode.dirtyIndex = -1
          work.append(inode)
        } else {
          inode.dirtyIndex = kept.count
          kept.append(inode)
        }
      }
      list = kept
      return work
    }
    // From here a change lists the inode again.
    for inode in work { inode.dirtyListed.store(false, ordering: .releasing) }
    var failure: Errno?
    for inode in work {
      do throws(Errno) { try inode.writeBack() } catch { failure = error }
      inode.removeUser()
    }
    if let failure { throw failure }
  }
}

extension InodeTable {
  /// Drops clean pages of every inode here.
  public func dropCleanPages() {
    for inode in all() { _ = inode.dropCleanPages() }
  }
}
