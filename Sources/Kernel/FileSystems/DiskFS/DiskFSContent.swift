import DiskFS
import Machine
import Primitives
import Sync
import SystemABI
import Threads
import VFS

/// Files' pages: where they are, and where they go.
extension DiskFileSystem {
  public func locate(_ inode: Inode, _ index: UInt32, forWriting: Bool, _ visit: (UInt64?, Range<Int>) -> Void) throws(Errno) {
    _ = try locateChecked(inode, index, visit)
  }

  public func locateChecked(_ inode: Inode, _ index: UInt32, _ visit: (UInt64?, Range<Int>) -> Void) throws(Errno) -> UInt32? {
    let pointer = try look { volume throws(DiskFSError) in try volume.page(index, of: inode.number) }
    visit(pointer.map { DiskBlocks.sector($0.block) }, 0..<pageSize)
    return pointer?.checksum
  }

  public func isIntact(_ frame: Frame, _ checksum: UInt32) -> Bool { frame.withBytes { XXH32.hash($0) } == checksum }

  public func reserve(_ inode: Inode, _ index: UInt32, _ range: Range<Int>) throws(Errno) {
    try reserve(inode, index, writesBack: true)
  }

  public func reserveMapped(_ inode: Inode, _ index: UInt32, _ range: Range<Int>) throws(Errno) {
    try reserve(inode, index, writesBack: false)
  }

  private func reserve(_ inode: Inode, _ index: UInt32, writesBack: Bool) throws(Errno) {
    // A page that is dirty has its room.
    if !isReadOnly, inode.isDirty(index) { return }
    try makeRoom(writesBack: writesBack)
    // What a page will take counts from now on.
    var isNew = UInt64(index) << 12 >= inode.size
    if !isNew { isNew = try look { volume throws(DiskFSError) in try volume.page(index, of: inode.number) == nil } }
    if isNew { inode.attributes.withLock { $0.blocks += DiskBlocks.sectors } }
  }

  /// Pages that have been copied for the device, and where the copies go.
  private struct Copies {
    var frames: [Frame] = []
    var checksums: [UInt32] = []
    var runs: [Range<UInt32>] = []
  }

  public func write(_ pages: [(index: UInt32, frame: Frame)], of inode: Inode) throws(Errno) {
    defer { dirtyPages.add(-pages.count) }
    var next = 0
    while next < pages.count {
      do throws(Errno) { next += try write(pages[next...], inode) } catch {
        for page in pages[next...] { inode.markDirty(page.index) }
        throw error
      }
    }
  }

  /// Writes some of the pages, copies of them: what they are while the device reads them must be what their checksums say.
  private func write(_ pages: ArraySlice<(index: UInt32, frame: Frame)>, _ inode: Inode) throws(Errno) -> Int {
    var copies = Copies()
    copies.frames = try DiskBlocks.copies(pages.count)
    defer { for frame in copies.frames { Frames.release(frame) } }
    copies.runs = try allocate(UInt32(copies.frames.count))
    let batch = RequestBatch(disk.disk, .write)
    var page = pages.startIndex
    for run in copies.runs {
      for block in run {
        let copy = copies.frames[copies.checksums.count]
        copy.copy(from: pages[page].frame)
        copies.checksums.append(copy.withBytes { XXH32.hash($0) })
        batch.add(DiskBlocks.sector(block), copy, 0..<pageSize)
        page += 1
      }
    }
    do throws(Errno) { try batch.finish() } catch {
      try change { volume in for run in copies.runs { volume.giveBack(run) } }
      throw error
    }
    try place(copies, pages, inode)
    return copies.checksums.count
  }

  /// As many blocks as there are for so many pages.
  private func allocate(_ count: UInt32) throws(Errno) -> [Range<UInt32>] {
    var runs: [Range<UInt32>] = []
    var left = count
    var hasCommitted = false
    while left > 0 {
      do throws(Errno) {
        let near = runs.last?.upperBound
        let run = try change { volume throws(DiskFSError) in try volume.allocate(left, near: near) }
        runs.append(run)
        left -= UInt32(run.count)
      } catch {
        if !runs.isEmpty { return runs }
        if hasCommitted || error != .noSpace { throw error }
        try commit()
        hasCommitted = true
      }
    }
    return runs
  }

  /// Copies are on the device: they are the file's from now on, as far as it goes.
  private func place(_ copies: Copies, _ pages: ArraySlice<(index: UInt32, frame: Frame)>, _ inode: Inode) throws(Errno) {
    let size = inode.size
    let blocks = try change { volume throws(DiskFSError) in
      var item = try volume.inode(inode.number)
      var done = 0
      for run in copies.runs {
        var first = run.lowerBound
        while first < run.upperBound {
          let start = pages[pages.startIndex + done].index
          var count: UInt32 = 1
          while first + count < run.upperBound, pages[pages.startIndex + done + Int(count)].index == start + count { count += 1 }
          let checksums = Array(copies.checksums[done..<(done + Int(count))])
          let growth = try volume.place(start, first..<(first + count), checksums: checksums, of: inode.number)
          item.blocks = UInt64(max(0, Int64(clamping: item.blocks) + Int64(growth)))
          item.size = max(item.size, min(size, (UInt64(start) + UInt64(count)) << 12))
          first += count
          done += Int(count)
        }
      }
      try volume.setInode(inode.number, item)
      return item.blocks
    }
    inode.attributes.withLock { $0.blocks = max($0.blocks, blocks * DiskBlocks.sectors) }
    if try look({ $0.needsCommit }) { try commit() }
  }

  public var hasHoles: Bool { true }

  public func punch(_ inode: Inode, _ pages: Range<UInt32>) throws(Errno) {
    try removePages(inode, UInt64(pages.lowerBound)..<UInt64(pages.upperBound)) { _ in }
  }

  public func resize(_ inode: Inode, to size: UInt64) throws(Errno) {
    if size > DiskInode.largestSize { throw .fileTooLarge }
    try removePages(inode, (size + 4095) >> 12..<(1 << 32)) { $0.size = size }
  }

  private func removePages(_ inode: Inode, _ pages: Range<UInt64>, _ also: (inout DiskInode) -> Void) throws(Errno) {
    try makeRoomForTree()
    let (old, new) = try change { volume throws(DiskFSError) in
      let removed = try volume.removePages(inode.number, pages)
      var item = try volume.inode(inode.number)
      let old = item.blocks
      item.blocks -= min(old, UInt64(removed))
      also(&item)
      try volume.setInode(inode.number, item)
      return (old &* DiskBlocks.sectors, item.blocks &* DiskBlocks.sectors)
    }
    // Pages that have no place yet are in the cache still, or gone.
    let dirty = UInt64(inode.dirtyPageCount) * DiskBlocks.sectors
    inode.attributes.withLock { $0.blocks = new + min($0.blocks > old ? $0.blocks - old : 0, dirty) }
  }
}
