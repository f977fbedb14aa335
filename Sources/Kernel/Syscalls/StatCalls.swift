import Machine
import Primitives
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// stat and its relatives. Layouts are put together word by word: Swift aligns 64-bit members unlike i386 C.
extension Call {
  /// `struct stat64`, 96 bytes. SPEC: Linux arch/x86 uapi asm/stat.h.
  private func storeStat64(_ inode: Inode, to address: UInt32) throws(Errno) {
    let attributes = inode.shownAttributes
    var words: [24 of UInt32] = .init(repeating: 0)
    words[0] = inode.fileSystem.deviceNumber
    words[3] = UInt32(truncatingIfNeeded: inode.number)
    words[4] = attributes.mode
    words[5] = attributes.links
    words[6] = attributes.owner
    words[7] = attributes.group
    words[8] = attributes.device.rawValue
    (words[11], words[12]) = attributes.size.halves
    words[13] = 4096
    (words[14], words[15]) = attributes.blocks.halves
    (words[16], words[17]) = Self.time(attributes.accessTime)
    (words[18], words[19]) = Self.time(attributes.modificationTime)
    (words[20], words[21]) = Self.time(attributes.changeTime)
    (words[22], words[23]) = inode.number.halves
    try UserMemory.write(words: words, count: 24, to: address)
  }

  private static func time(_ time: Int64) -> (UInt32, UInt32) {
    let parts = time.secondsAndNanoseconds
    return (UInt32(truncatingIfNeeded: parts.seconds), parts.nanoseconds)
  }

  /// The old `struct stat`, 64 bytes, with its 16-bit ids. Throws `overflow` for a size that does not fit.
  private func storeStat(_ inode: Inode, to address: UInt32) throws(Errno) {
    let attributes = inode.shownAttributes
    guard attributes.size <= 0x7FFF_FFFF else { throw .overflow }
    var words: [16 of UInt32] = .init(repeating: 0)
    words[0] = inode.fileSystem.deviceNumber
    words[1] = UInt32(truncatingIfNeeded: inode.number)
    words[2] = attributes.mode & 0xFFFF | attributes.links << 16
    words[3] = Self.short(attributes.owner) | Self.short(attributes.group) << 16
    words[4] = attributes.device.rawValue
    words[5] = UInt32(truncatingIfNeeded: attributes.size)
    words[6] = 4096
    words[7] = UInt32(truncatingIfNeeded: attributes.blocks)
    (words[8], words[9]) = Self.time(attributes.accessTime)
    (words[10], words[11]) = Self.time(attributes.modificationTime)
    (words[12], words[13]) = Self.time(attributes.changeTime)
    try UserMemory.write(words: words, count: 16, to: address)
  }

  /// An id in a 16-bit field: 65534, "overflow", when it does not fit.
  static func short(_ id: UInt32) -> UInt32 { id > 0xFFFF ? 65534 : id }

  private func store(_ inode: Inode, wide: Bool, to address: UInt32) throws(Errno) -> UInt32 {
    if wide { try storeStat64(inode, to: address) } else { try storeStat(inode, to: address) }
    return 0
  }

  func stat(_ follow: Bool, wide: Bool) throws(Errno) -> UInt32 {
    let path = try resolve(at: UInt32(bitPattern: Self.atCurrentDirectory), a, follow: follow)
    return try store(try path.inode(), wide: wide, to: b)
  }

  private func inode(of description: FileDescription) -> Inode {
    description.inode ?? NamelessFiles.inode(of: description.file)
  }

  func fstat(wide: Bool) throws(Errno) -> UInt32 { try store(inode(of: try description(a)), wide: wide, to: b) }

  /// The inode that a directory descriptor, a path and AT_ flags name.
  private func target(_ directory: UInt32, _ address: UInt32, flags: UInt32) throws(Errno) -> Inode {
    if flags & ~(0x100 | 0x800 | 0x1000 | 0x6000) != 0 { throw .invalidArgument }
    switch try named(at: directory, try path(address), flags: flags) {
    case .file(let description): return inode(of: description)
    case .place(let path): return try path.inode()
    }
  }

  func fstatat64() throws(Errno) -> UInt32 { try store(try target(a, b, flags: d), wide: true, to: c) }

  /// statx(2): 256 bytes.
  func statx() throws(Errno) -> UInt32 {
    let inode = try target(a, b, flags: c)
    let attributes = inode.shownAttributes
    var words: [64 of UInt32] = .init(repeating: 0)
    words[0] = 0x7FF
    words[1] = 4096
    words[4] = attributes.links
    words[5] = attributes.owner
    words[6] = attributes.group
    words[7] = attributes.mode & 0xFFFF
    (words[8], words[9]) = inode.number.halves
    (words[10], words[11]) = attributes.size.halves
    (words[12], words[13]) = attributes.blocks.halves
    putTime(attributes.accessTime, &words, 16)
    putTime(attributes.changeTime, &words, 20)
    putTime(attributes.changeTime, &words, 24)
    putTime(attributes.modificationTime, &words, 28)
    words[32] = attributes.device.major
    words[33] = attributes.device.minor
    let device = DeviceNumber(rawValue: inode.fileSystem.deviceNumber)
    words[34] = device.major
    words[35] = device.minor
    try UserMemory.write(words: words, count: 64, to: e)
    return 0
  }

  /// `struct statx_timestamp`: 64-bit seconds and nanoseconds.
  private func putTime(_ time: Int64, _ words: inout [64 of UInt32], _ at: Int) {
    let parts = time.secondsAndNanoseconds
    (words[at], words[at + 1]) = UInt64(bitPattern: parts.seconds).halves
    words[at + 2] = parts.nanoseconds
  }

  /// `struct statfs64`, 84 bytes, or `struct statfs`, 64.
  private func store(_ statistics: FileSystemStatistics, wide: Bool, to address: UInt32) throws(Errno) -> UInt32 {
    var bytes = [UInt8](repeating: 0, count: wide ? 84 : 64)
    var out = bytes.mutableSpan
    out.put32(statistics.magic, at: 0)
    out.put32(statistics.blockSize, at: 4)
    let counts = [
      statistics.blocks, statistics.freeBlocks, statistics.availableBlocks, statistics.files, statistics.freeFiles,
    ]
    var offset = 8
    for count in counts {
      if wide { out.put64(count, at: offset) } else { out.put32(UInt32(clamping: count), at: offset) }
      offset += wide ? 8 : 4
    }
    out.put32(statistics.nameLength, at: offset + 8)
    out.put32(statistics.blockSize, at: offset + 12)
    try UserMemory.write(bytes.span, to: address)
    return 0
  }

  func statfs(wide: Bool) throws(Errno) -> UInt32 {
    if wide, b != 84 { throw .invalidArgument }
    let inode = try resolve(at: UInt32(bitPattern: Self.atCurrentDirectory), a).inode()
    return try store(inode.fileSystem.statistics(), wide: wide, to: wide ? c : b)
  }

  func fstatfs(wide: Bool) throws(Errno) -> UInt32 {
    if wide, b != 84 { throw .invalidArgument }
    return try store(inode(of: try description(a)).fileSystem.statistics(), wide: wide, to: wide ? c : b)
  }

  /// access, faccessat, faccessat2: checked with the real ids unless AT_EACCESS.
  func access(_ directory: UInt32, _ address: UInt32, _ wanted: UInt32, flags: UInt32) throws(Errno) -> UInt32 {
    if wanted & ~7 != 0 { throw .invalidArgument }
    var who = process.who
    if flags & 0x200 == 0 { who.useRealIDs() }
    let path = try resolve(at: directory, text: try path(address), follow: flags & 0x100 == 0)
    let inode = try path.inode()
    if wanted & 2 != 0, path.mount.isReadOnly, !(inode.type == Mode.character || inode.type == Mode.block) {
      throw .readOnlyFileSystem
    }
    if wanted != 0 { try inode.check(wanted, who) }
    return 0
  }
}
