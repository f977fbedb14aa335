import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads

/// Pages in a row that requests under way are filling.
final class PageRun {
  let pages: Range<UInt32>
  private let requests: [BlockRequest]
  /// What the pages must be, as far as that is known; none where nobody knows.
  private let checksums: [UInt32?]
  /// A page was not.
  private(set) var isCorrupt = false

  init(_ pages: Range<UInt32>, _ requests: [BlockRequest], _ checksums: [UInt32?]) {
    self.pages = pages
    self.requests = requests
    self.checksums = checksums
  }

  var isDone: Bool { requests.allSatisfy { $0.isDone } }
  var hasFailed: Bool { requests.contains { $0.hasFailed } }
  /// Whether a page may be used.
  func isIntact(_ index: UInt32, _ frame: Frame, _ fileSystem: any FileSystem) -> Bool {
    if checksums.isEmpty { return true }
    guard let checksum = checksums[Int(index - pages.lowerBound)], !fileSystem.isIntact(frame, checksum) else { return true }
    isCorrupt = true
    return false
  }
  func wait() { for request in requests { try? request.wait() } }
}

/// Pages from a device. A page is in the cache before its content is, marked as being read; whoever needs it waits for its run
/// and takes the mark away. Readers that go on in order find the next pages on their way: a mark on the first page that nobody
/// has asked for says where the next read-ahead begins.
extension Inode {
  /// The longest read-ahead, in pages.
  private static var longestWindow: UInt32 { 64 }

  /// A page, read from the file system if need be, with a reference for the caller. `wanted` pages from there on will be asked
  /// for. May sleep.
  public func page(_ index: UInt32, wanted: UInt32 = 1) throws(Errno) -> Frame {
    if let frame = cachedPage(index) { return frame }
    guard let device = fileSystem.device else { return try makePage(index) }
    var wanted = wanted
    var wasCorrupt = false
    while true {
      let run: PageRun? = try fill.withLock { runs throws(Errno) in
        settle(&runs)
        if cachedValue(index) != 0 { return runs.first { $0.pages.contains(index) } }
        return try read(index, window(index, wanted), from: device, &runs)
      }
      run?.wait()
      fill.withLock { settle(&$0) }
      if let run, run.hasFailed || run.isCorrupt {
        // The block may have been taken from the file, and used again, while it was read.
        if run.pages.count == 1, run.hasFailed || wasCorrupt { throw .ioError }
        wasCorrupt = run.pages.count == 1
        wanted = 0  // alone: the bad sector may be another page's
      }
      if let frame = cachedPage(index) { return frame }
    }
  }

  /// As `page`, for one of many readers that go on in order.
  func pageInOrder(_ index: UInt32, wanted: UInt32) throws(Errno) -> Frame {
    let value = pages.withLock { tree in
      let value = tree[index]
      if value != 0, value & Self.readingBit == 0 {
        Frames.retain(Frame(value & ~Self.stateBits))
        if value & Self.aheadBit != 0 { tree.set(index, to: value & ~Self.aheadBit) }
      }
      return value
    }
    if value == 0, fileSystem.livesInMemory {
      // A hole takes no room because somebody looks into it.
      Frames.retain(PageCache.zeroes.value)
      return PageCache.zeroes.value
    }
    if value == 0 || value & Self.readingBit != 0 { return try page(index, wanted: wanted) }
    if value & Self.aheadBit != 0 { readAhead(of: index) }
    return Frame(value & ~Self.stateBits)
  }

  /// Reads whole pages that are in memory one behind the other, up to sixteen: how many bytes were to be had, and how many of them
  /// the buffer took.
  func readRun(_ buffer: inout IOBuffer, _ index: UInt32, limit: Int) -> (ready: Int, copied: Int) {
    var frames = InlineArray<16, Frame>(repeating: Frame(0))
    var count = 0
    pages.withLock { tree in
      tree.run(from: index) { value in
        // A page with the mark is for those who see to it that more is read.
        guard count < limit, value != 0, value & (Self.readingBit | Self.aheadBit) == 0 else { return false }
        let frame = Frame(value & ~Self.stateBits)
        Frames.retain(frame)
        frames[count] = frame
        count += 1
        return true
      }
    }
    var copied = 0
    for number in 0..<count {
      let frame = frames[number]
      // After a page that it did not take whole, the buffer takes no more.
      if copied == number * pageSize { copied += buffer.put(frame, offset: 0, count: pageSize) }
      Frames.release(frame)
    }
    return (count * pageSize, copied)
  }

  private func cachedValue(_ index: UInt32) -> UInt32 { pages.withLock { $0[index] } }

  /// Pages that the file has.
  private var pageCount: UInt32 { UInt32(clamping: (size + 4095) >> 12) }

  /// How many pages to read from `index` on, which is not in memory, and which one gets the mark.
  private func window(_ index: UInt32, _ wanted: UInt32) -> (count: UInt32, mark: UInt32?) {
    let end = max(pageCount, index &+ 1)
    let room = end &- index
    if wanted == 0 { return (1, nil) }
    let before: UInt32 = pages.withLock { tree in
      var count: UInt32 = 0
      while count < Self.longestWindow, index > count, tree[index - count - 1] != 0 { count += 1 }
      return count
    }
    guard index == 0 || before > 0 else { return (min(wanted, room, Self.longestWindow), nil) }
    let count = min(max(wanted, min(Self.longestWindow, max(4, 2 * before))), room, 2 * Self.longestWindow)
    return (count, wanted < count ? index + wanted : nil)
  }

  /// Starts to read the pages behind `index` that are not there.
  private func readAhead(of index: UInt32) {
    guard let device = fileSystem.device, Frames.hasPages(1024) else { return }
    fill.withLock { runs in
      settle(&runs)
      let end = pageCount
      let first: UInt32? = pages.withLock { tree in
        var next = index
        while next < end, next &- index < Self.longestWindow {
          if tree[next] == 0 { return next }
          next += 1
        }
        return nil
      }
      guard let first else { return }
      _ = try? read(first, (min(Self.longestWindow, end - first), first), from: device, &runs)
    }
  }

  /// Starts to read those pages of a range that are not there, as long as memory is plentiful.
  public func willNeed(_ range: Range<UInt32>) {
    guard let device = fileSystem.device else { return }
    let end = min(range.upperBound, pageCount)
    var next = range.lowerBound
    while next < end, Frames.hasPages(1024) {
      let reached: UInt32? = fill.withLock { runs in
        settle(&runs)
        while next < end, cachedValue(next) != 0 { next += 1 }
        if next == end { return nil }
        // What cannot be read is the business of those who read it.
        guard let run = try? read(next, (min(Self.longestWindow, end - next), nil), from: device, &runs) else { return next + 1 }
        return run.pages.upperBound
      }
      guard let reached else { return }
      next = reached
    }
  }

  /// Whether there is a page in memory, though its content may be on its way.
  func isPresent(_ index: UInt32) -> Bool { cachedValue(index) != 0 }

  /// Whether a page is in memory: a hint, as it may go at any time.
  public func isCached(_ index: UInt32) -> Bool {
    settleReads()
    let value = cachedValue(index)
    return value != 0 && value & Self.readingBit == 0
  }

  /// Starts to read pages, up to one that is there. Nil when nothing of them is on the device.
  /// - Throws: What is wrong with the first page; the others only end the run.
  private func read(
    _ index: UInt32, _ window: (count: UInt32, mark: UInt32?), from device: any BlockDevice, _ runs: inout [PageRun]
  ) throws(Errno) -> PageRun? {
    let batch = RequestBatch(device, .read)
    var checksums: [UInt32?] = []
    var next = index
    repeat {
      if next != index, !Frames.hasPages(256) { break }
      do throws(Errno) {
        let checksum = try add(next, to: batch, isMarked: next == window.mark)
        if checksum != nil || !checksums.isEmpty {
          while checksums.count < Int(next - index) { checksums.append(nil) }
          checksums.append(checksum)
        }
      } catch {
        if next == index { throw error }
        break
      }
      next += 1
    } while next - index < window.count && cachedValue(next) == 0
    batch.start()
    Thread.current.counts.pagesRead &+= next - index
    if batch.requests.isEmpty { return nil }
    let run = PageRun(index..<next, batch.requests, checksums)
    runs.append(run)
    hasReads.store(true, ordering: .relaxed)
    return run
  }

  /// Puts a new page into the cache and asks for its content; the checksum that it must have.
  private func add(_ index: UInt32, to batch: RequestBatch, isMarked: Bool) throws(Errno) -> UInt32? {
    // All of it first: a request that has started cannot be taken back.
    var pieces: [(sector: UInt64?, range: Range<Int>)] = []
    let checksum = try fileSystem.locateChecked(self, index) { pieces.append(($0, $1)) }
    let frame = try newPage()
    var state: UInt32 = isMarked ? Self.aheadBit : 0
    for (sector, range) in pieces {
      if let sector {
        state |= Self.readingBit
        batch.add(sector, frame, range)
      } else {
        frame.zero(from: range.lowerBound, to: range.upperBound)
      }
    }
    insert(frame, at: index, state)
    Frames.release(frame)
    return checksum
  }

  /// Pages whose runs are done lose their marks; those that could not be read go.
  private func settle(_ runs: inout [PageRun]) {
    if runs.isEmpty { return }
    runs.removeAll { run in
      guard run.isDone else { return false }
      let hasFailed = run.hasFailed
      for index in run.pages {
        let value = cachedValue(index)
        guard value & Self.readingBit != 0 else { continue }
        settle(index, hasFailed: hasFailed || !run.isIntact(index, Frame(value & ~Self.stateBits), fileSystem))
      }
      return true
    }
    if runs.isEmpty { hasReads.store(false, ordering: .relaxed) }
  }

  private func settle(_ index: UInt32, hasFailed: Bool) {
    let end = size
    let lost: UInt32 = pages.withLock { tree in
      let value = tree[index]
      guard value & Self.readingBit != 0 else { return 0 }
      // Whatever the device has behind the end: a mapping shows zeros there, and so does the file when it grows.
      if isRegular, UInt64(index) == end >> 12 { Frame(value & ~Self.stateBits).zero(from: Int(end & 0xFFF), to: pageSize) }
      tree.set(index, to: hasFailed ? 0 : value & ~Self.readingBit)
      return hasFailed ? value : 0
    }
    guard lost != 0 else { return }
    PageCache.count.wrappingSubtract(1, ordering: .relaxed)
    Frames.release(Frame(lost & ~Self.stateBits))
  }

  /// Returns when nothing is being read into pages of this file.
  func awaitReads() {
    while hasReads.load(ordering: .relaxed) {
      let run: PageRun? = fill.withLock { runs in
        settle(&runs)
        return runs.first
      }
      run?.wait()
    }
  }

  /// As `awaitReads`, also for who has looked up where a page is and has not begun to read it.
  func awaitReaders() {
    fill.withLock { settle(&$0) }
    awaitReads()
  }

  /// Takes marks of what has been read away, without waiting for anything.
  func settleReads() { if hasReads.load(ordering: .relaxed) { _ = fill.tryWithLock { settle(&$0) } } }
}
