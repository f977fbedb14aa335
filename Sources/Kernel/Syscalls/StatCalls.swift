import Machine
import Primitives
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// stat and its relatives. Layouts are encoded field by field: Swift aligns 64-bit members unlike i386 C.
extension Call {
  /// `struct stat64`, 96 bytes. SPEC: Linux arch/x86 uapi asm/stat.h.
  private func encodeStat64(_ inode: Inode) -> [UInt8] {
    let attributes = inode.attributes.withLock { $0 }
    var bytes = [UInt8](repeating: 0, count: 96)
    var out = bytes.mutableSpan
    out.put64(UInt64(inode.fileSystem.deviceNumber), at: 0)
    out.put32(UInt32(truncatingIfNeeded: inode.number), at: 12)
    out.put32(attributes.mode, at: 16)
    out.put32(attributes.links, at: 20)
    out.put32(attributes.owner, at: 24)
    out.put32(attributes.group, at: 28)
    out.put64(UInt64(attributes.device.rawValue), at: 32)
    out.put64(attributes.size, at: 44)
    out.put32(4096, at: 52)
    out.put64(attributes.blocks, at: 56)
    putTime(&out, attributes.accessTime, at: 64)
    putTime(&out, attributes.modificationTime, at: 72)
    putTime(&out, attributes.changeTime, at: 80)
    out.put64(inode.number, at: 88)
    return bytes
  }

  private func putTime(_ out: inout MutableSpan<UInt8>, _ time: Int64, at offset: Int) {
    let seconds = time >= 0 ? time / 1_000_000_000 : (time - 999_999_999) / 1_000_000_000
    out.put32(UInt32(truncatingIfNeeded: seconds), at: offset)
    out.put32(UInt32(truncatingIfNeeded: time - seconds * 1_000_000_000), at: offset + 4)
  }

  /// The old `struct stat`, 64 bytes.
  private func encodeStat(_ inode: Inode) -> [UInt8] {
    let attributes = inode.attributes.withLock { $0 }
    var bytes = [UInt8](repeating: 0, count: 64)
    var out = bytes.mutableSpan
    out.put32(inode.fileSystem.deviceNumber, at: 0)
    out.put32(UInt32(truncatingIfNeeded: inode.number), at: 4)
    out.put16(UInt16(truncatingIfNeeded: attributes.mode), at: 8)
    out.put16(UInt16(truncatingIfNeeded: attributes.links), at: 10)
    out.put16(UInt16(truncatingIfNeeded: attributes.owner), at: 12)
    out.put16(UInt16(truncatingIfNeeded: attributes.group), at: 14)
    out.put32(attributes.device.rawValue, at: 16)
    out.put32(UInt32(clamping: attributes.size), at: 20)
    out.put32(4096, at: 24)
    out.put32(UInt32(truncatingIfNeeded: attributes.blocks), at: 28)
    putTime(&out, attributes.accessTime, at: 32)
    putTime(&out, attributes.modificationTime, at: 40)
    putTime(&out, attributes.changeTime, at: 48)
    return bytes
  }

  private func store(_ inode: Inode, wide: Bool, to address: UInt32) throws(Errno) -> UInt32 {
    let bytes = wide ? encodeStat64(inode) : encodeStat(inode)
    try UserMemory.write(bytes.span, to: address)
    return 0
  }

  func stat(_ follow: Bool, wide: Bool) throws(Errno) -> UInt32 {
    let path = try resolve(at: UInt32(bitPattern: Self.atCurrentDirectory), a, follow: follow)
    return try store(try path.inode(), wide: wide, to: b)
  }

  private func inode(of number: UInt32) throws(Errno) -> Inode {
    guard let inode = try description(number).inode else { return Anonymous.inode(for: try description(number)) }
    return inode
  }

  func fstat(wide: Bool) throws(Errno) -> UInt32 { try store(try inode(of: a), wide: wide, to: b) }

  /// The inode that a directory descriptor, a path and AT_ flags name.
  private func target(_ directory: UInt32, _ address: UInt32, flags: UInt32) throws(Errno) -> Inode {
    if flags & ~(0x100 | 0x800 | 0x1000 | 0x6000) != 0 { throw .invalidArgument }
    let text = try path(address)
    if text.isEmpty {
      guard flags & 0x1000 != 0 else { throw .noSuchFileOrDirectory }
      if int(directory) == Self.atCurrentDirectory { return try process.pathContext.directory.inode() }
      return try inode(of: directory)
    }
    return try resolve(at: directory, text: text, follow: flags & 0x100 == 0).inode()
  }

  func fstatat64() throws(Errno) -> UInt32 { try store(try target(a, b, flags: d), wide: true, to: c) }

  /// statx(2): 256 bytes.
  func statx() throws(Errno) -> UInt32 {
    let inode = try target(a, b, flags: c)
    let attributes = inode.attributes.withLock { $0 }
    var bytes = [UInt8](repeating: 0, count: 256)
    var out = bytes.mutableSpan
    out.put32(0x7FF, at: 0)
    out.put32(4096, at: 4)
    out.put32(attributes.links, at: 16)
    out.put32(attributes.owner, at: 20)
    out.put32(attributes.group, at: 24)
    out.put16(UInt16(truncatingIfNeeded: attributes.mode), at: 28)
    out.put64(inode.number, at: 32)
    out.put64(attributes.size, at: 40)
    out.put64(attributes.blocks, at: 48)
    var offset = 64
    for time in [attributes.accessTime, attributes.changeTime, attributes.changeTime, attributes.modificationTime] {
      let seconds = time >= 0 ? time / 1_000_000_000 : (time - 999_999_999) / 1_000_000_000
      out.put64(UInt64(bitPattern: seconds), at: offset)
      out.put32(UInt32(truncatingIfNeeded: time - seconds * 1_000_000_000), at: offset + 8)
      offset += 16
    }
    out.put32(attributes.device.major, at: 128)
    out.put32(attributes.device.minor, at: 132)
    let device = DeviceNumber(rawValue: inode.fileSystem.deviceNumber)
    out.put32(device.major, at: 136)
    out.put32(device.minor, at: 140)
    try UserMemory.write(bytes.span, to: e)
    return 0
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
    return try store(try inode(of: a).fileSystem.statistics(), wide: wide, to: wide ? c : b)
  }

  /// access, faccessat, faccessat2: checked with the real ids unless AT_EACCESS.
  func access(_ directory: UInt32, _ address: UInt32, _ wanted: UInt32, flags: UInt32) throws(Errno) -> UInt32 {
    if wanted & ~7 != 0 { throw .invalidArgument }
    var who = process.who
    if flags & 0x200 == 0 {
      who.euid = who.uid
      who.egid = who.gid
    }
    let path = try resolve(at: directory, text: try path(address), follow: flags & 0x100 == 0)
    let inode = try path.inode()
    if wanted & 2 != 0, path.mount.isReadOnly, !(inode.type == Mode.character || inode.type == Mode.block) {
      throw .readOnlyFileSystem
    }
    if wanted != 0 { try inode.check(wanted, who) }
    return 0
  }
}

/// Inodes for things that have no name: pipes, sockets, event files.
enum Anonymous {
  static func inode(for description: FileDescription) -> Inode {
    var attributes = Attributes(mode: Mode.fifo | 0o600)
    attributes.size = 0
    return Inode(Mounts.all()[0].fileSystem, number: 1, attributes: attributes)
  }
}
