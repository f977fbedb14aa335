import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads

/// Page tables that map files; the VFS asks without knowing processes.
open class PageMapper {
  public init() {}
  /// Makes a file's shared pages read-only everywhere: the next write to one faults and marks it dirty again.
  open func writeProtect(_ inode: Inode) {}
  /// Takes pages of a file out of its shared mappings.
  open func unmapShared(_ inode: Inode, _ pages: Range<UInt32>) {}
  /// Takes a file's pages from `first` on out of every mapping, private copies too.
  open func unmap(_ inode: Inode, from first: UInt32) {}
}

public enum PageMappers {
  /// Set at boot.
  public static let shared = BootCell<PageMapper>()
}

extension Inode {
  private static var batch: Int { 256 }

  /// Writes dirty pages to the file system, which may still hold them in the device's cache; at most about `limit`.
  public func writeBack(limit: Int = .max) throws(Errno) {
    if let layers { return try layers.real.writeBack(limit: limit) }
    // A page without another home must stay dirty, or reclaim would drop the only copy.
    if fileSystem.livesInMemory { return }
    try writing.withLock { _ throws(Errno) in
      do throws(Errno) {
        if fileSystem.device != nil { try writePages(limit) }
        // Behind the content: a size tells of what is there.
        if !fileSystem.isReadOnly { try writeDelayedAttributes() }
      } catch {
        writeErrors.wrappingAdd(1, ordering: .acquiringAndReleasing)
        throw error
      }
    }
  }

  /// Writes dirty pages of a range to the file system, nothing else of the file.
  func writeBack(pages: Range<UInt32>) throws(Errno) {
    if fileSystem.device == nil { return }
    try writing.withLock { _ throws(Errno) in
      do throws(Errno) { try writePages(.max, pages) } catch {
        writeErrors.wrappingAdd(1, ordering: .acquiringAndReleasing)
        throw error
      }
    }
  }

  private func writePages(_ limit: Int, _ range: Range<UInt32> = 0..<(.max)) throws(Errno) {
    var next: UInt32? = range.lowerBound
    var left = limit
    var isLost = false
    while let start = next, left > 0 {
      var taken: [(index: UInt32, frame: Frame)] = []
      next = takeDirty(start..<range.upperBound, into: &taken)
      if taken.isEmpty { break }
      // Not before their marks are gone, not after their content is read: a write in between marks them again.
      if writableMappings.load(ordering: .acquiring) > 0 { PageMappers.shared.value.writeProtect(self) }
      left -= taken.count
      defer { for (_, frame) in taken { Frames.release(frame) } }
      if fileSystem.isReadOnly {
        // It was stopped by an error: what it has not written is lost.
        fileSystem.unwritten?.add(-taken.count)
        isLost = true
      } else {
        try fileSystem.write(taken, of: self)
      }
    }
    if isLost { throw .readOnlyFileSystem }
  }

  /// Moves a batch of dirty pages to the clean ones, with references for the caller; where to go on, nil at the end.
  private func takeDirty(_ range: Range<UInt32>, into taken: inout [(index: UInt32, frame: Frame)]) -> UInt32? {
    var found: [(index: UInt32, frame: Frame)] = []
    let next: UInt32? = pages.withLock { tree in
      var next = range.lowerBound
      while let entry = tree.firstMarked(from: next), entry.index < range.upperBound {
        next = entry.index &+ 1
        let frame = Frame(entry.value & ~Self.stateBits)
        tree.set(entry.index, to: entry.value & ~Self.dirtyBit)
        Frames.retain(frame)
        found.append((entry.index, frame))
        if next == range.upperBound { return nil }
        if found.count == Self.batch { return next }
      }
      return nil
    }
    WriteBack.dirtyCount.wrappingSubtract(found.count, ordering: .relaxed)
    taken = found
    return next
  }

  /// Writes pages to where they are.
  func writeInPlace(_ taken: [(index: UInt32, frame: Frame)]) throws(Errno) {
    guard let device = fileSystem.device else { throw .invalidArgument }
    let batch = RequestBatch(device, .write)
    var failure: Errno?
    // The requests with parts of each page; an empty range for a page that could not be placed.
    var places: [Range<Int>] = []
    for (index, frame) in taken {
      let first = max(0, batch.requests.count - 1)
      do throws(Errno) {
        try fileSystem.locate(self, index, forWriting: true) { sector, range in if let sector { batch.add(sector, frame, range) } }
        places.append(first..<batch.requests.count)
      } catch {
        failure = error
        places.append(0..<0)
        markDirty(index)
      }
    }
    batch.start()
    for request in batch.requests { do throws(Errno) { try request.wait() } catch { failure = error } }
    if failure != nil {
      for (number, page) in taken.enumerated() {
        if places[number].contains(where: { batch.requests[$0].hasFailed }) { markDirty(page.index) }
      }
    }
    if let failure { throw failure }
  }
}

/// The way of dirty pages to the devices.
public enum WriteBack {
  /// Pages of all files that are newer than their device's.
  public static let dirtyCount = Atomic<Int>(0)
  struct Work: ~Copyable {
    /// Inodes that may have something to write.
    var listed: [Inode] = []
    /// Those that somebody is writing, or about to write; as often as there are who do.
    var underWay: [(inode: Inode, run: UInt32)] = []
    var lastRun: UInt32 = 0
  }
  private static let work = BootCell<SpinLock<Work, LeafRank>>()
  private static let finished = BootCell<WaitQueue>()
  /// Woken when there is much to write.
  public static let event = BootCell<WaitQueue>()

  public static func start() {
    work.set(SpinLock(Work()))
    finished.set(WaitQueue())
    event.set(WaitQueue())
  }

  /// From here on the flusher writes without waiting for its time; as Linux's dirty_background_ratio.
  public static var isDue: Bool { dirtyCount.load(ordering: .relaxed) > Int(Frames.totalCount / 10) }
  /// From here on writers write themselves; as Linux's dirty_ratio. What is dirty cannot be reclaimed.
  private static var isTooMuch: Bool { dirtyCount.load(ordering: .relaxed) > Int(Frames.totalCount / 5) }

  /// A writer's part in keeping the number of dirty pages down: it writes at least as many as it made dirty, or all when it
  /// does not know the file (a mapping). No lock is held.
  @inline(never) public static func relieve(_ inode: Inode?, written bytes: Int) {
    event.value.wake()
    guard isTooMuch else { return }
    // An error stays with the pages, which are dirty again: fsync meets it.
    do throws(Errno) { if let inode { try inode.writeBack(limit: max(256, bytes >> 11)) } else { try run() } } catch {}
  }

  static func list(_ inode: Inode) {
    guard !inode.dirtyListed.exchange(true, ordering: .acquiringAndReleasing) else { return }
    inode.addUser()
    work.value.withLock { work in
      inode.dirtyIndex = work.listed.count
      work.listed.append(inode)
    }
  }

  /// Takes an inode off the list; whether it was there. The list's use of it is the caller's then.
  static func unlist(_ inode: Inode) -> Bool {
    let removed = work.value.withLock { work in
      let index = inode.dirtyIndex
      guard index >= 0, index < work.listed.count, work.listed[index] === inode else { return false }
      work.listed.swapAt(index, work.listed.count - 1)
      work.listed[index].dirtyIndex = index
      work.listed.removeLast()
      inode.dirtyIndex = -1
      return true
    }
    if removed { inode.dirtyListed.store(false, ordering: .releasing) }
    return removed
  }

  /// Writes all dirty pages and delayed attributes of one file system, or of all.
  ///
  /// With `waits` what others had taken to write them is with the device, too, when it returns: the caller holds no inode's mutex,
  /// since a loop device may need that.
  public static func run(_ fileSystem: (any FileSystem)? = nil, waits: Bool = true) throws(Errno) {
    let (mine, others, run) = take(fileSystem)
    // From here a change lists the inode again.
    for inode in mine { inode.dirtyListed.store(false, ordering: .releasing) }
    var failure: Errno?
    for inode in mine {
      do throws(Errno) { try inode.writeBack() } catch { failure = error }
      finish(inode, run)
      inode.removeUser()
    }
    if waits { for other in others { wait(other.inode, other.run) } }
    if let failure { throw failure }
  }

  /// Takes inodes off the list; with what others have taken, and a number for this run.
  private static func take(
    _ fileSystem: (any FileSystem)?
  ) -> (mine: [Inode], others: [(inode: Inode, run: UInt32)], run: UInt32) {
    work.value.withLock { work in
      var mine: [Inode] = []
      var kept: [Inode] = []
      for inode in work.listed {
        if fileSystem == nil || inode.fileSystem === fileSystem {
          inode.dirtyIndex = -1
          mine.append(inode)
        } else {
          inode.dirtyIndex = kept.count
          kept.append(inode)
        }
      }
      work.listed = kept
      let others = work.underWay.filter { fileSystem == nil || $0.inode.fileSystem === fileSystem }
      work.lastRun &+= 1
      for inode in mine { work.underWay.append((inode, work.lastRun)) }
      return (mine, others, work.lastRun)
    }
  }

  /// Gives up what a file system that has ended could not write.
  static func abandon(_ fileSystem: any FileSystem) {
    let inodes = work.value.withLock { work in
      (work.listed + work.underWay.map { $0.inode }).filter { $0.fileSystem === fileSystem }
    }
    for inode in inodes { abandon(inode) }
  }

  /// Gives up what could not be written of a file whose file system has ended.
  public static func abandon(_ inode: Inode) {
    inode.forgetDelayedAttributes()
    inode.dropPages()
    // Who is at it finds nothing from now on, but may have failed before, and lists it again then.
    let _: Bool? = try? finished.value.wait(interruptible: false, reason: "write-back") {
      work.value.withLock { $0.underWay.contains { $0.inode === inode } } ? nil : true
    }
    if unlist(inode) { inode.removeUser() }
  }

  private static func finish(_ inode: Inode, _ run: UInt32) {
    work.value.withLock { work in
      if let index = work.underWay.firstIndex(where: { $0.run == run && $0.inode === inode }) {
        work.underWay.swapAt(index, work.underWay.count - 1)
        work.underWay.removeLast()
      }
    }
    finished.value.wake()
  }

  private static func wait(_ inode: Inode, _ run: UInt32) {
    let _: Bool? = try? finished.value.wait(interruptible: false, reason: "write-back") {
      work.value.withLock { $0.underWay.contains { $0.run == run && $0.inode === inode } } ? nil : true
    }
  }
}
