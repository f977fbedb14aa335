import Machine
import Memory
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

public struct AddressSpaceRank: LockRank { public static let level: UInt8 = 22 }

/// A file's use by mappings: areas split, merge and are copied to children, and the last one to go ends the use.
public final class MappedFile {
  public let inode: Inode
  /// Where it was opened, for /proc/pid/maps.
  public let path: Path?
  /// Shared, and of a file that was opened for writing: mprotect may make it writable.
  public let reachesFile: Bool
  /// What is mapped is not the file's content.
  public let device: DeviceMemory?
  public init(_ inode: Inode, path: Path?, reachesFile: Bool = false, device: DeviceMemory? = nil) {
    self.inode = inode
    self.path = path
    self.reachesFile = reachesFile
    self.device = device
    path?.pin()
    inode.addUser()
    inode.mappings.wrappingAdd(1, ordering: .acquiringAndReleasing)
    if reachesFile { inode.writableMappings.wrappingAdd(1, ordering: .acquiringAndReleasing) }
  }
  deinit {
    inode.mappings.wrappingSubtract(1, ordering: .acquiringAndReleasing)
    if reachesFile { inode.writableMappings.wrappingSubtract(1, ordering: .acquiringAndReleasing) }
    inode.removeUser()
    path?.unpinLater()
  }
}

/// Why a fault could not be resolved: the signal to send.
public enum FaultFailure: Error, Equatable {
  case segmentation(mapped: Bool)
  case bus
  case outOfMemory
}

/// Where execve put things, for /proc/PID: the strings at the stack's top, and the program's segments.
public struct ProgramLayout {
  public internal(set) var arguments: Range<UInt32> = 0..<0
  public internal(set) var environment: Range<UInt32> = 0..<0
  public internal(set) var auxiliary: Range<UInt32> = 0..<0
  public internal(set) var code: Range<UInt32> = 0..<0
  public internal(set) var data: Range<UInt32> = 0..<0
  public internal(set) var stack: UInt32 = 0
}

/// One process's memory: areas, page tables, heap end. Shared by its threads.
public final class AddressSpace {
  public struct State: ~Copyable {
    public var areas = AreaMap<MappedFile>()
    public var brkStart: UInt32 = 0
    public var brk: UInt32 = 0
    public var mmapTop: UInt32 = 0xB700_0000
    public var stackLimit: UInt32 = 8 << 20
    /// mlockall(MCL_FUTURE): new mappings are brought in at once.
    public var populatesNewAreas = false
    /// Its process is to die of a shortage of memory: nothing comes back.
    var isCondemned = false
    public init() {}
  }
  public let table: PageTable
  public let state = Mutex<State, AddressSpaceRank>(State())
  public var layout = ProgramLayout()
  /// What it executes.
  var program: RunningProgram?
  /// Those of io_setup: they belong to the memory that they read and write.
  public let asyncContexts = SpinLock<[AsyncContext], LeafRank>([])
  public static var lowest: UInt32 { 0x1_0000 }

  private init(_ table: PageTable) { self.table = table }

  /// An empty one. Throws `noMemory`.
  public static func make() throws(Errno) -> AddressSpace { AddressSpace(try PageTable.make()) }

  deinit { removeAll() }

  private func removeAll() {
    state.withLock { state in
      for area in state.areas.areas { table.unmap(area.range, flushing: false) }
      state.areas = AreaMap()
    }
  }

  // MARK: Faults

  /// Makes an address accessible, or says why not. May sleep.
  public func resolveFault(_ address: UInt32, write: Bool, execute: Bool) throws(FaultFailure) {
    try state.withLock { state throws(FaultFailure) in
      if state.isCondemned { throw .segmentation(mapped: true) }
      let area = try findArea(&state, address)
      guard write ? area.writable : execute ? area.executable : area.readable || area.executable || area.writable else {
        throw .segmentation(mapped: true)
      }
      let page = address.pageDown
      do throws(Errno) { try populate(area, page, write: write) } catch {
        switch error {
        case .noMemory: throw .outOfMemory
        default: throw .bus
        }
      }
    }
  }

  private func findArea(_ state: inout State, _ address: UInt32) throws(FaultFailure) -> Area<MappedFile> {
    guard let area = state.areas.findOrNext(address) else { throw .segmentation(mapped: false) }
    if area.start <= address { return area }
    // Below a stack: grow it if the limit and the guard gap allow.
    let page = address.pageDown
    let guardGap: UInt32 = 0x10_0000
    guard area.kind == .stack, page >= Self.lowest, area.end - page <= state.stackLimit,
      !state.areas.overlaps((page > guardGap ? page - guardGap : 0)..<area.start)
    else { throw .segmentation(mapped: false) }
    state.areas.grow(stackAt: area.start, to: page)
    guard let grown = state.areas.find(address) else { throw .segmentation(mapped: false) }
    return grown
  }

  func populate(_ area: Area<MappedFile>, _ page: UInt32, write: Bool) throws(Errno) {
    let entry = table.entry(page)
    if entry & PageBits.present != 0 {
      if write, entry & PageBits.writable == 0 { try makeWritable(area, page, entry) }
      return
    }
    if let shared = VDSO.frame(area.kind) {
      if write {
        let copy = try PageCache.allocate()
        copy.copy(from: shared)
        try mapOrRelease(page, copy, writable: true, area)
      } else {
        Frames.retain(shared)
        try mapOrRelease(page, shared, writable: false, area, copyOnWrite: true)
      }
      return
    }
    guard let inode = area.backing?.inode else {
      let frame = try PageCache.allocateZeroed()
      try mapOrRelease(page, frame, writable: area.writable, area)
      return
    }
    let index = area.page(of: page)
    if let device = area.backing?.device {
      guard index < device.pages else { throw .ioError }
      return try table.mapDevice(page, Frame(device.firstFrame + index), writable: area.writable, executable: area.executable)
    }
    if UInt64(index) << 12 >= inode.size { throw .ioError }
    let frame = try inode.page(index)
    if area.shared {
      if write {
        do throws(Errno) { try reserve(inode, index) } catch {
          Frames.release(frame)
          throw error
        }
        inode.markDirty(index)
        inode.touch(modification: true)
      }
      try mapOrRelease(page, frame, writable: write, area)
    } else if write {
      defer { Frames.release(frame) }
      let copy = try PageCache.allocate()
      copy.copy(from: frame)
      try mapOrRelease(page, copy, writable: true, area)
    } else {
      try mapOrRelease(page, frame, writable: false, area, copyOnWrite: true)
      mapAround(area, inode, page)
    }
  }

  /// A full disk is told to who writes, not to the flusher.
  private func reserve(_ inode: Inode, _ index: UInt32) throws(Errno) {
    let size = inode.size
    let start = UInt64(index) << 12
    guard size > start else { throw .ioError }
    try inode.fileSystem.reserveMapped(inode, index, 0..<Int(min(size - start, 4096)))
  }

  private func mapOrRelease(_ page: UInt32, _ frame: Frame, writable: Bool, _ area: Area<MappedFile>, copyOnWrite: Bool = false)
    throws(Errno)
  {
    do throws(Errno) {
      try table.map(page, frame, writable: writable, executable: area.executable, copyOnWrite: copyOnWrite)
    } catch {
      Frames.release(frame)
      throw error
    }
  }

  /// Maps cached neighbours too: a program touches its text in runs, and a fault costs more than a mapping.
  private func mapAround(_ area: Area<MappedFile>, _ inode: Inode, _ page: UInt32) {
    let first = max(page & ~0xFFFF, area.start)
    let last = min((page & ~0xFFFF) &+ 0x1_0000, area.end)
    var neighbour = first
    while neighbour < last {
      if neighbour != page, table.entry(neighbour) & PageBits.present == 0,
        let frame = inode.cachedPage(area.page(of: neighbour))
      {
        do throws(Errno) {
          try table.map(neighbour, frame, writable: false, executable: area.executable, copyOnWrite: true)
        } catch {
          Frames.release(frame)
          return
        }
      }
      neighbour += 4096
    }
  }

  /// A write to a present read-only page of a writable area.
  private func makeWritable(_ area: Area<MappedFile>, _ page: UInt32, _ entry: UInt64) throws(Errno) {
    if area.shared {
      if let file = area.backing, file.device == nil {
        let inode = file.inode
        try reserve(inode, area.page(of: page))
        inode.markDirty(area.page(of: page))
        inode.touch(modification: true)
      }
      table.makeWritable(page)
      return
    }
    let frame = PageTable.frame(of: entry)
    if Frames.referenceCount(frame) == 1 {
      table.makeWritable(page)
      return
    }
    let copy = try PageCache.allocate()
    copy.copy(from: frame)
    try mapOrRelease(page, copy, writable: true, area)
  }

  // MARK: Mapping

  /// Maps an area in place of what was there.
  public func map(_ area: Area<MappedFile>) {
    state.withLock { state in
      remove(&state, area.range)
      state.areas.insert(area)
    }
  }

  /// Maps an area unless something is in its place: false then.
  @discardableResult public func mapIfFree(_ area: Area<MappedFile>) -> Bool {
    state.withLock { state in
      if state.areas.overlaps(area.range) { return false }
      state.areas.insert(area)
      return true
    }
  }

  /// Maps an area, of which only the size is known, at `hint` if that is free and else where there is room; where.
  ///
  /// To look for a place and to take it is one step: another thread looks at the same time.
  public func mapSomewhere(_ area: Area<MappedFile>, size: UInt32, hint: UInt32 = 0) throws(Errno) -> UInt32 {
    try state.withLock { state throws(Errno) in
      var area = area
      if hint >= Self.lowest, UInt64(hint) + UInt64(size) <= 0xBFF0_0000, !state.areas.overlaps(hint..<(hint + size)) {
        area.start = hint
      } else {
        guard let gap = state.areas.findGap(size: size, below: state.mmapTop, above: Self.lowest) else { throw .noMemory }
        area.start = gap
      }
      area.end = area.start + size
      state.areas.insert(area)
      return area.start
    }
  }

  private func remove(_ state: inout State, _ range: Range<UInt32>) {
    for piece in state.areas.remove(range) { table.unmap(piece.range) }
  }

  public func unmap(_ range: Range<UInt32>) { state.withLock { remove(&$0, range) } }

  /// A free place for `size` bytes, top down, for whoever has the space for itself.
  public func findGap(size: UInt32) throws(Errno) -> UInt32 {
    guard let address = state.withLock({ $0.areas.findGap(size: size, below: $0.mmapTop, above: Self.lowest) }) else {
      throw .noMemory
    }
    return address
  }

  /// Changes the rights of a range that must be mapped as a whole. SPEC: POSIX.1-2024 mprotect().
  public func protect(_ range: Range<UInt32>, readable: Bool, writable: Bool, executable: Bool) throws(Errno) {
    try state.withLock { state throws(Errno) in
      var covered = range.lowerBound
      while covered < range.upperBound {
        guard let area = state.areas.find(covered) else { throw .noMemory }
        if writable, area.shared, let file = area.backing, !file.reachesFile { throw .permissionDenied }
        covered = area.end
      }
      for var piece in state.areas.remove(range) {
        piece.readable = readable
        piece.writable = writable
        if writable { piece.hasBeenWritable = true }
        piece.executable = executable
        state.areas.insert(piece)
      }
      table.protect(range, writable: writable, executable: executable)
    }
  }

  /// Drops the pages of a range; anonymous ones come back as zeroes, file pages from the file.
  public func discard(_ range: Range<UInt32>) throws(Errno) {
    try state.withLock { state throws(Errno) in
      var covered = range.lowerBound
      while covered < range.upperBound {
        guard let area = state.areas.find(covered) else { throw .noMemory }
        table.unmap(max(area.start, range.lowerBound)..<min(area.end, range.upperBound))
        covered = area.end
      }
    }
  }

  /// mremap's move, to `place` or else to a gap: the pages go along. Nothing has changed when it fails.
  public func move(_ range: Range<UInt32>, _ area: Area<MappedFile>, newSize: UInt32, to place: UInt32?) throws(Errno) -> UInt32 {
    try state.withLock { state throws(Errno) in
      guard let target = place ?? state.areas.findGap(size: newSize, below: state.mmapTop, above: Self.lowest) else {
        throw .noMemory
      }
      if let place {
        state.areas.remove(place..<(place + newSize))
        table.unmap(place..<(place + newSize))
      }
      var offset: UInt32 = 0
      while offset < UInt32(range.count) {
        let entry = table.entry(range.lowerBound + offset)
        // A device's come back when they are used.
        if entry & PageBits.present != 0, entry & PageBits.device == 0 {
          let frame = PageTable.frame(of: entry)
          Frames.retain(frame)
          do throws(Errno) {
            try table.map(
              target + offset, frame, writable: entry & PageBits.writable != 0, executable: area.executable,
              copyOnWrite: entry & PageBits.copyOnWrite != 0)
          } catch {
            Frames.release(frame)
            table.unmap(target..<(target + offset))
            throw error
          }
        }
        offset += 4096
      }
      var moved = area
      moved.pageOffset = area.page(of: range.lowerBound)
      moved.start = target
      moved.end = target + newSize
      state.areas.remove(range)
      state.areas.insert(moved)
      table.unmap(range)
      return target
    }
  }

  /// Bytes of this space, from outside it; what is not present is left out. At most 64 KiB.
  public func bytes(_ range: Range<UInt32>) -> [UInt8] {
    state.withLock { _ in
      var result: [UInt8] = []
      var at = range.lowerBound
      let end = min(range.upperBound, range.lowerBound &+ 65536)
      while at < end {
        let entry = table.entry(at.pageDown)
        let stop = min(end, at.pageDown &+ 4096)
        if entry & PageBits.present != 0, entry & PageBits.device == 0 {
          PageTable.frame(of: entry).append(Int(at & 0xFFF)..<(Int(at & 0xFFF) + Int(stop - at)), to: &result)
        }
        at = stop
      }
      return result
    }
  }

  /// Stores a word in this space from outside it: a forked child's thread id.
  public func store32(_ value: UInt32, at address: UInt32) {
    do throws(FaultFailure) { try resolveFault(address, write: true, execute: false) } catch { return }
    let entry = table.entry(address.pageDown)
    if address & 0xFFF <= 0xFFC, entry & PageBits.device == 0 {
      PageTable.frame(of: entry).store32(Int(address & 0xFFF), value)
    }
  }

  /// Moves the heap's end; answers where it is now. SPEC: brk(2).
  public func setBreak(_ wanted: UInt32) -> UInt32 {
    state.withLock { state in
      guard wanted >= state.brkStart, let new = wanted.pageUp, let old = state.brk.pageUp else { return state.brk }
      if new > old {
        guard new < 0xB000_0000, !state.areas.overlaps(old..<(new &+ 0x1000)) else { return state.brk }
        state.areas.insert(Area(start: old, end: new, readable: true, writable: true, executable: false))
      } else if new < old {
        remove(&state, new..<old)
      }
      state.brk = wanted
      return wanted
    }
  }

  /// A copy for a forked child: private pages become copy-on-write in both.
  public func fork() throws(Errno) -> AddressSpace {
    let child = try AddressSpace.make()
    child.program = program
    let copy = try state.withLock { state throws(Errno) in
      for area in state.areas.areas {
        // File pages that cannot have private copies come back through the page cache.
        if area.backing != nil, !area.shared, !area.hasBeenWritable { continue }
        // A child may write to a file's page only after it has marked it: it is on no list yet when write-back asks who may.
        let writes = area.shared && (area.backing?.inode.fileSystem.livesInMemory ?? true)
        try table.share(area.range, with: child.table, shared: area.shared, writable: writes)
      }
      table.flush(0, pages: .max)
      return (state.areas, state.brkStart, state.brk, state.mmapTop, state.stackLimit)
    }
    child.state.withLock { ($0.areas, $0.brkStart, $0.brk, $0.mmapTop, $0.stackLimit) = copy }
    child.layout = layout
    return child
  }
}
