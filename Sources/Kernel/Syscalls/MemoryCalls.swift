import Machine
import Memory
import Primitives
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// mmap and its relatives. SPEC: mmap(2), POSIX.1-2024 mmap().
extension Call {
  func currentSpace() throws(Errno) -> AddressSpace {
    guard let space = process.space else { throw .noMemory }
    return space
  }

  func brk() throws(Errno) -> UInt32 { try currentSpace().setBreak(a) }

  /// The old call with its arguments in memory; the offset is in bytes.
  func oldMmap() throws(Errno) -> UInt32 {
    var words: [UInt32] = []
    for index in 0..<UInt32(6) { words.append(try UserMemory.read32(a &+ index * 4)) }
    if words[5] & 0xFFF != 0 { throw .invalidArgument }
    return try mmap(words[0], words[1], words[2], words[3], words[4], page: words[5] >> 12)
  }

  func mmap(_ address: UInt32, _ length: UInt32, _ protection: UInt32, _ flags: UInt32, _ file: UInt32, page: UInt32)
    throws(Errno) -> UInt32
  {
    guard length > 0, let size = length.pageUp, size > 0 else { throw length == 0 ? .invalidArgument : .noMemory }
    let type = flags & 15
    guard type == 1 || type == 2 || type == 3 else { throw .invalidArgument }
    let shared = type != 2
    let space = try currentSpace()
    var backing: MappedFile?
    if flags & 0x20 == 0 {
      backing = try mappable(file, shared: shared, protection)
      guard UInt64(page) + UInt64(size >> 12) <= 1 << 32 else { throw .overflow }
      if let device = backing?.device, UInt64(page) + UInt64(size >> 12) > UInt64(device.pages) { throw .invalidArgument }
    } else if shared {
      backing = try SharedMemory.make(size: UInt64(size))
    }
    var area = Area(
      start: 0, end: size, readable: protection & 1 != 0, writable: protection & 2 != 0, executable: protection & 4 != 0,
      shared: shared, kind: flags & 0x100 != 0 ? .stack : .ordinary, backing: backing, pageOffset: flags & 0x20 == 0 ? page : 0)
    let start: UInt32
    if flags & 0x10_0010 != 0 {  // MAP_FIXED, MAP_FIXED_NOREPLACE
      guard address & 0xFFF == 0 else { throw .invalidArgument }
      guard address >= 0x1000, UInt64(address) + UInt64(size) <= 0xBFFF_F000 else { throw .noMemory }
      (area.start, area.end) = (address, address + size)
      if flags & 0x10_0000 == 0 { space.map(area) } else if !space.mapIfFree(area) { throw .fileExists }
      start = address
    } else {
      start = try space.mapSomewhere(area, size: size, hint: address & ~0xFFF)
    }
    if flags & 0x8000 != 0 || space.state.withLock({ $0.populatesNewAreas }), protection & 3 != 0 {
      populate(space, start, size, write: protection & 2 != 0)
    }
    return start
  }

  func populate(_ space: AddressSpace, _ start: UInt32, _ size: UInt32, write: Bool) {
    var address = start
    while address < start + size {
      do throws(FaultFailure) { try space.resolveFault(address, write: write, execute: false) } catch { return }
      address += 4096
    }
  }

  private func mappable(_ number: UInt32, shared: Bool, _ protection: UInt32) throws(Errno) -> MappedFile {
    let description = try description(number)
    guard let inode = description.inode else { throw .operationNotSupportedByDevice }
    if let device = description.file.memory {
      guard shared, description.isReadable else { throw shared ? .permissionDenied : .invalidArgument }
      if protection & 2 != 0, !description.isWritable { throw .permissionDenied }
      return MappedFile(inode, path: description.path, reachesFile: description.isWritable, device: device)
    }
    guard inode.isRegular, !(inode.payload is FileNode) else {
      throw .operationNotSupportedByDevice
    }
    guard description.isReadable else { throw .permissionDenied }
    if shared, protection & 2 != 0, !description.isWritable { throw .permissionDenied }
    return MappedFile(inode.content, path: description.path, reachesFile: shared && description.isWritable)
  }

  func munmap() throws(Errno) -> UInt32 {
    guard a & 0xFFF == 0, b > 0, let size = b.pageUp, UInt64(a) + UInt64(size) <= 0xC000_0000 else {
      throw .invalidArgument
    }
    try currentSpace().unmap(a..<(a + size))
    return 0
  }

  func mprotect() throws(Errno) -> UInt32 {
    guard a & 0xFFF == 0, let size = b.pageUp, UInt64(a) + UInt64(size) <= 0xC000_0000 else { throw .invalidArgument }
    if c & ~0x0100_000F != 0 { throw .invalidArgument }
    if size == 0 { return 0 }
    try currentSpace().protect(
      a..<(a + size), readable: c & 1 != 0, writable: c & 2 != 0, executable: c & 4 != 0)
    return 0
  }

  /// mremap(2): shrinks, grows in place, or moves; MREMAP_MAYMOVE is 1, MREMAP_FIXED 2.
  func mremap() throws(Errno) -> UInt32 {
    guard a & 0xFFF == 0, let oldSize = b.pageUp, oldSize > 0, let newSize = c.pageUp, newSize > 0, d & ~3 == 0, d != 2 else {
      throw .invalidArgument
    }
    let space = try currentSpace()
    guard UInt64(a) + UInt64(oldSize) <= 0xC000_0000, let area = space.state.withLock({ $0.areas.find(a) }),
      area.end >= a + oldSize
    else { throw .badAddress }
    if d & 2 != 0 {
      guard e & 0xFFF == 0, e >= 0x1000, UInt64(e) + UInt64(newSize) <= 0xBFFF_F000 else { throw .invalidArgument }
      guard !(e..<(e + newSize)).overlaps(a..<(a + oldSize)) else { throw .invalidArgument }
      if newSize < oldSize { space.unmap((a + newSize)..<(a + oldSize)) }
      return try space.move(a..<(a + min(oldSize, newSize)), area, newSize: newSize, to: e)
    }
    if newSize <= oldSize {
      if newSize < oldSize { space.unmap((a + newSize)..<(a + oldSize)) }
      return a
    }
    if UInt64(a) + UInt64(newSize) <= 0xBFF0_0000 {
      let grown = (a + oldSize)..<(a + newSize)
      var more = area
      more.start = grown.lowerBound
      more.end = grown.upperBound
      more.pageOffset = area.page(of: a) &+ oldSize >> 12
      if space.mapIfFree(more) { return a }
    }
    guard d & 1 != 0 else { throw .noMemory }
    return try space.move(a..<(a + oldSize), area, newSize: newSize, to: nil)
  }

  /// Shows other pages of the file in a part of a shared mapping: a mapping of its own, as Linux has done it since 4.0.
  func remapFilePages() throws(Errno) -> UInt32 {
    let (start, size) = (a & ~0xFFF, b & ~0xFFF)
    guard c == 0, size > 0, UInt64(start) + UInt64(size) <= 0xC000_0000, UInt64(d) + UInt64(size >> 12) <= 1 << 32 else {
      throw .invalidArgument
    }
    let space = try currentSpace()
    guard var area = space.state.withLock({ $0.areas.find(start) }), area.shared, area.end >= start + size else {
      throw .invalidArgument
    }
    (area.start, area.end, area.pageOffset) = (start, start + size, d)
    space.map(area)
    return 0
  }

  func msync() throws(Errno) -> UInt32 {
    guard a & 0xFFF == 0, c & ~7 == 0, c & 5 != 5 else { throw .invalidArgument }  // MS_ASYNC and MS_SYNC exclude each other
    guard let size = b.pageUp, UInt64(a) + UInt64(size) <= 0xC000_0000 else { throw .noMemory }
    let space = try currentSpace()
    var address = a
    while address < a &+ size {
      guard let area = space.state.withLock({ $0.areas.find(address) }) else { throw .noMemory }
      if area.shared, let inode = area.backing?.inode, c & 4 != 0 {
        try inode.writeBack()
        try inode.fileSystem.sync(inode)
      }
      address = area.end
    }
    return 0
  }

  /// madvise(2): MADV_DONTNEED drops private pages, MADV_WILLNEED reads pages of files; other hints change nothing.
  func madvise() throws(Errno) -> UInt32 {
    guard a & 0xFFF == 0, let size = b.pageUp, UInt64(a) + UInt64(size) <= 0xC000_0000 else { throw .invalidArgument }
    switch c {
    case 4, 8:
      let space = try currentSpace()
      try space.discard(a..<(a + size))
      return 0
    case 3:
      let space = try currentSpace()
      var address = a
      while address < a + size {
        guard let area = space.state.withLock({ $0.areas.find(address) }) else { throw .noMemory }
        let end = min(area.end, a + size)
        let first = area.pageOffset &+ (address - area.start) >> 12
        if let file = area.backing, file.device == nil {
          file.inode.content.willNeed(first..<max(first, first &+ (end - address) >> 12))
        }
        address = end
      }
      return 0
    case 0, 1, 2, 14, 15, 16, 17: return 0  // advice about access, huge pages, dumps: nothing to do
    default: throw .invalidArgument
    }
  }

  /// Which pages need no reading: of a file, also those that are not in the page table. SPEC: mincore(2).
  func mincore() throws(Errno) -> UInt32 {
    guard a & 0xFFF == 0 else { throw .invalidArgument }
    guard let size = b.pageUp, UInt64(a) + UInt64(size) <= 0xC000_0000 else { throw .noMemory }
    let space = try currentSpace()
    var flags: [UInt8] = []
    for page in 0..<size / 4096 {
      let address = a + page * 4096
      guard let area = space.state.withLock({ $0.areas.find(address) }) else { throw .noMemory }
      let isPresent = space.table.entry(address) & 1 != 0
      let index = area.pageOffset &+ (address - area.start) >> 12
      flags.append(isPresent || area.backing?.inode.content.isCached(index) == true ? 1 : 0)
      if flags.count == 4096 || page + 1 == size / 4096 {
        try UserMemory.write(flags.span, to: c &+ (page + 1 - UInt32(flags.count)))
        flags.removeAll(keepingCapacity: true)
      }
    }
    return 0
  }
}

/// Memory without a name that several processes share: a file of an internal tmpfs.
enum SharedMemory {
  static func make(size: UInt64) throws(Errno) -> MappedFile { MappedFile(try inode(size: size), path: nil, reachesFile: true) }

  /// A file of zeroes that is gone with its last user.
  static func inode(size: UInt64) throws(Errno) -> Inode {
    guard let fileSystem = SharedMemoryStore.cell.isSet ? SharedMemoryStore.cell.value.fileSystem : nil else { throw .noMemory }
    var attributes = Attributes(mode: Mode.regular | 0o600)
    attributes.size = size
    attributes.links = 0
    return Inode(fileSystem, number: UInt64(Random.next()), attributes: attributes)
  }
}

/// The file system behind anonymous shared mappings; set at boot.
public final class SharedMemoryStore {
  public static let cell = BootCell<SharedMemoryStore>()
  let fileSystem: any FileSystem
  public init(_ fileSystem: any FileSystem) { self.fileSystem = fileSystem }
}
