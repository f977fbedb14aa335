import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads

/// Pages of files in memory: one cache for read, write and mappings.
extension Inode {
  // What the cache says of a page besides the frame's number.
  /// Newer than the device's.
  static var dirtyBit: UInt32 { RadixTree.mark }
  /// Its content is on its way.
  static var readingBit: UInt32 { 1 << 30 }
  /// Read-ahead goes on when somebody comes here.
  static var aheadBit: UInt32 { 1 << 29 }
  static var stateBits: UInt32 { 7 << 29 }

  /// A page that is in memory, with a reference for the caller.
  public func cachedPage(_ index: UInt32) -> Frame? {
    pages.withLock { tree in
      let value = tree[index]
      guard value != 0, value & Self.readingBit == 0 else { return nil }
      let frame = Frame(value & ~Self.stateBits)
      Frames.retain(frame)
      return frame
    }
  }

  /// A page of a file without a device, made by its file system.
  func makePage(_ index: UInt32) throws(Errno) -> Frame {
    try fill.withLock { _ throws(Errno) in
      if let frame = cachedPage(index) { return frame }
      let frame = try newPage()
      do throws(Errno) { try fileSystem.readPage(self, index, into: frame) } catch {
        fileSystem.memory?.give(1)
        Frames.release(frame)
        throw error
      }
      insert(frame, at: index, 0)
      return frame
    }
  }

  /// A page that will be overwritten as a whole, or of which the file has nothing yet: not read. The inode's mutex is held.
  ///
  /// - Returns: Also whether it has what was in the frame before: of a page behind the end of the file, which nobody can see, the
  ///   caller overwrites or zeroes all.
  private func freshPage(_ index: UInt32, isBehindEnd: Bool) throws(Errno) -> (frame: Frame, isRaw: Bool) {
    if let frame = cachedPage(index) { return (frame, false) }
    let fresh: Frame? = try fill.withLock { _ throws(Errno) in
      if pages.withLock({ $0[index] }) != 0 { return nil }
      let frame = try newPage()
      if !isBehindEnd { frame.zero() }
      insert(frame, at: index, 0)
      return frame
    }
    return if let fresh { (fresh, isBehindEnd) } else { (try page(index), false) }
  }

  /// A frame for a page of this file, counted against what its file system may hold.
  func newPage() throws(Errno) -> Frame {
    guard let memory = fileSystem.memory else { return try PageCache.allocate(evenReserved: fileSystem.isBlockDevice) }
    try memory.take(1)
    do throws(Errno) { return try PageCache.allocate() } catch {
      memory.give(1)
      throw error
    }
  }

  /// Puts a frame into the cache, which gets a reference of its own.
  func insert(_ frame: Frame, at index: UInt32, _ state: UInt32) {
    Frames.retain(frame)
    pages.withLock { _ = $0.set(index, to: frame.number | state) }
    PageCache.count.wrappingAdd(1, ordering: .relaxed)
  }

  private func countDirty(_ pages: Int) {
    WriteBack.dirtyCount.wrappingAdd(pages, ordering: .relaxed)
    fileSystem.unwritten?.add(pages)
  }

  public func isDirty(_ index: UInt32) -> Bool { pages.withLock { $0[index] } & Self.dirtyBit != 0 }

  public var dirtyPageCount: Int {
    var count = 0
    forEachPage(0..<UInt32.max) { _, _, value in if value & Self.dirtyBit != 0 { count += 1 } }
    return count
  }

  /// Marks a cached page as newer than the device's.
  public func markDirty(_ index: UInt32) {
    let counts = !fileSystem.livesInMemory
    pages.withLock { tree in
      let value = tree[index]
      if value != 0, value & Self.dirtyBit == 0 {
        tree.set(index, to: value | Self.dirtyBit)
        if counts {
          countDirty(1)
          Thread.current.counts.pagesDirtied &+= 1
        }
      }
    }
    if counts { WriteBack.list(self) }
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
      if start == 0, buffer.count >= 2 * pageSize, end - position >= 8192 {
        let wholePages = Int(min(end - position, UInt64(buffer.count))) >> 12
        let (ready, copied) = readRun(&buffer, index, limit: wholePages)
        total += copied
        position += UInt64(copied)
        if copied < ready {
          if total == 0 { throw .badAddress }
          break
        }
        if ready > 0 { continue }
      }
      let count = min(pageSize - start, buffer.count, Int(min(end - position, 4096)))
      let frame: Frame
      let wanted = (UInt64(start) + min(end - position, UInt64(buffer.count)) + 4095) >> 12
      do throws(Errno) { frame = try pageInOrder(index, wanted: UInt32(clamping: wanted)) } catch {
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
    let wanted = buffer.count
    defer { if WriteBack.isDue { WriteBack.relieve(self, written: wanted) } }
    let limit = isRegular ? Thread.current.fileSizeLimit : .max
    return try mutex.withLock { _ throws(Errno) in
      var position = append ? size : offset
      var total = 0
      if limit != .max, buffer.count > 0 {
        guard position < limit else {
          Thread.current.exceededFileSize()
          throw .fileTooLarge
        }
        buffer = buffer.prefix(Int(min(UInt64(buffer.count), limit - position)))
      }
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
    let isBehindEnd = start == 0 && UInt64(index) << 12 >= size
    let (frame, isRaw) =
      isBehindEnd || count == pageSize ? try freshPage(index, isBehindEnd: isBehindEnd) : (try page(index), false)
    var written = 0
    defer {
      if isRaw, written < pageSize { frame.zero(from: written, to: pageSize) }
      if written > 0 { markDirty(index) }
      Frames.release(frame)
    }
    // And who has nothing to write gets no room for it.
    try buffer.touch(count)
    try fileSystem.reserve(self, index, start..<(start + count))
    while true {
      enterPreemptionOff()
      written = buffer.take(into: frame, offset: start, count: count)
      leavePreemptionOff()
      if written > 0 { return written }
      try buffer.touch(count)
    }
  }

  /// Bytes of the file for the kernel's own use; shorter at the end of the file.
  public func bytes(at offset: UInt64, count: Int) throws(Errno) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(min(count, 65536))
    var position = offset
    let end = min(size, offset + UInt64(max(count, 0)))
    while position < end {
      guard let index = UInt32(exactly: position >> 12) else { break }
      let frame = try page(index, wanted: UInt32(clamping: (end - position + 4095) >> 12))
      let start = Int(position & 0xFFF)
      let stop = Int(min(4096, UInt64(start) + end - position))
      frame.append(start..<stop, to: &result)
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
        frame.put(bytes.span.extracting(done..<(done + count)), at: start)
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
    if let layers { return try layers.real.truncate(to: size) }
    if payload as? FileNode != nil { return }  // its text is made anew at each opening
    try mutex.withLock { _ throws(Errno) in
      let old = self.size
      let firstGone = size < old ? UInt32(exactly: (size + 4095) >> 12) : nil
      if size < old {
        attributes.withLock { $0.size = size }
        if size & 0xFFF != 0, let index = UInt32(exactly: size >> 12) {
          let frame = try page(index)
          frame.zero(from: Int(size & 0xFFF), to: pageSize)
          Frames.release(frame)
          markDirty(index)
        }
        if let firstGone {
          if mappings.load(ordering: .acquiring) > 0 { PageMappers.shared.value.unmap(self, from: firstGone) }
          dropPages(from: firstGone)
        }
        // What is being written of the end goes to blocks that are somebody else's soon.
        writing.withLock { _ in }
      }
      try fileSystem.resize(self, to: size)
      if let firstGone {
        // Who was reading from before may have read on.
        awaitReaders()
        dropPages(from: firstGone)
      }
      attributes.withLock { $0.size = size }
      touch(modification: true)
      try fileSystem.attributesChanged(self)
    }
  }

  /// Gives every page of a range a block, zeroes where there was a hole; the file grows to the end of the range.
  /// Throws `noSpace` with the file as long as the part that got blocks.
  public func allocate(_ range: Range<UInt64>) throws(Errno) {
    if let layers { return try layers.real.allocate(range) }
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
    awaitReads()
    var next = first
    while true {
      let removed: (UInt32, UInt32)? = pages.withLock { tree in
        guard let found = tree.first(from: next) else { return nil }
        tree.set(found.index, to: 0)
        return (found.index, found.value)
      }
      guard let (index, value) = removed else { return }
      drop(value)
      if index == .max { return }
      next = index + 1
    }
  }

  /// Pages become zeros, and go unless a private mapping has them.
  func empty(_ range: Range<UInt32>) {
    awaitReads()
    let isMemory = fileSystem.livesInMemory
    forEachPage(range) { tree, index, value in
      Frame(value & ~Self.stateBits).zero()
      // In memory it is the only copy there is.
      if isMemory || value & Self.dirtyBit == 0 { return }
      tree.set(index, to: value & ~Self.dirtyBit)
      countDirty(-1)
    }
    // Who writes to one from now on marks it.
    if mappings.load(ordering: .acquiring) > 0 { PageMappers.shared.value.unmapShared(self, range) }
    forEachPage(range) { tree, index, value in
      guard Frames.referenceCount(Frame(value & ~Self.stateBits)) == 1, isMemory || value & Self.dirtyBit == 0 else { return }
      tree.set(index, to: 0)
      drop(value)
    }
  }

  /// Cached pages become zeros, those too that somebody was reading when their blocks went. They stay as dirty as they are.
  func clear(_ range: Range<UInt32>) {
    awaitReaders()
    forEachPage(range) { _, _, value in Frame(value & ~Self.stateBits).zero() }
  }

  /// Each cached page of a range, under the lock that is taken for each anew.
  private func forEachPage(_ range: Range<UInt32>, _ body: (inout RadixTree, UInt32, UInt32) -> Void) {
    var next = range.lowerBound
    while next < range.upperBound {
      let index: UInt32? = pages.withLock { tree in
        guard let found = tree.first(from: next), found.index < range.upperBound else { return nil }
        body(&tree, found.index, found.value)
        return found.index
      }
      guard let index else { return }
      next = index + 1
    }
  }

  private func drop(_ value: UInt32) {
    let memory = fileSystem.memory
    if value & Self.dirtyBit != 0, memory == nil { countDirty(-1) }
    PageCache.count.wrappingSubtract(1, ordering: .relaxed)
    memory?.give(1)
    Frames.release(Frame(value & ~Self.stateBits))
  }

  /// Forgets one page, a dirty one too; a write of it that is under way is over when this returns.
  public func forgetPage(_ index: UInt32) {
    awaitReads()
    let value = pages.withLock { tree in
      let value = tree[index]
      if value != 0 { tree.set(index, to: 0) }
      return value
    }
    if value == 0 { return }
    let isInUse = Frames.referenceCount(Frame(value & ~Self.stateBits)) > 1
    drop(value)
    if isInUse { writing.withLock { _ in } }
  }

  /// Forgets clean pages that nobody maps; the number freed.
  public func dropCleanPages(_ range: Range<UInt32> = 0..<(.max)) -> Int {
    settleReads()
    var next = range.lowerBound
    var freed = 0
    while true {
      var victim: Frame?
      let more = pages.withLock { tree in
        guard let found = tree.first(from: next), found.index < range.upperBound else { return false }
        next = found.index &+ 1
        let frame = Frame(found.value & ~Self.stateBits)
        if found.value & (Self.dirtyBit | Self.readingBit) == 0, Frames.referenceCount(frame) == 1 {
          tree.set(found.index, to: 0)
          victim = frame
        }
        return true
      }
      if let victim {
        Frames.release(victim)
        freed += 1
        PageCache.count.wrappingSubtract(1, ordering: .relaxed)
        fileSystem.memory?.give(1)
      }
      if !more || next == 0 { return freed }
    }
  }
}

/// All cached pages together, and the memory for them.
public enum PageCache {
  public static let count = Atomic<Int>(0)
  /// A page of zeroes, to be read from only.
  static let zeroes = BootCell<Frame>()

  /// - Precondition: There is memory.
  public static func start() {
    guard let frame = Frames.allocateZeroed() else { fatalError("no memory for the page cache") }
    zeroes.set(frame)
  }

  /// A frame, at the price of clean pages when memory is short.
  ///
  /// What write-back needs comes `evenReserved`, else there would be no way out of a shortage of clean pages.
  public static func allocate(evenReserved: Bool = false) throws(Errno) -> Frame {
    if !evenReserved || Frames.hasUnreserved(), let frame = take(evenReserved) { return frame }
    reclaim()
    if let frame = take(evenReserved) { return frame }
    Thread.current.lacksMemory = .page
    throw .noMemory
  }

  /// Asks whether the kernel may grow for a user: new processes and threads leave the reserve alone.
  public static func admit() throws(Errno) {
    if Frames.hasUnreserved() { return }
    reclaim()
    if Frames.hasUnreserved() { return }
    Thread.current.lacksMemory = .kernel
    throw .noMemory
  }

  private static func take(_ evenReserved: Bool) -> Frame? { evenReserved ? Frames.allocate() : Frames.allocateUnreserved() }

  public static func allocateZeroed() throws(Errno) -> Frame {
    let frame = try allocate()
    frame.zero()
    return frame
  }

  /// Drops clean pages and unused names of every file system.
  public static func reclaim() {
    KernelSpace.trimStacks()
    for mount in Mounts.everywhere() { mount.root.dropUnusedBelow() }
    for fileSystem in Mounts.fileSystems() { fileSystem.dropUnused() }
    DeviceRegistry.forEach { _, isBlock, _, _, device in if isBlock, let node = device as? BlockNode { _ = node.inode.dropCleanPages() } }
  }
}

extension InodeTable {
  /// Drops clean pages of every inode here.
  public func dropCleanPages() {
    for inode in all() { _ = inode.dropCleanPages() }
  }
}
