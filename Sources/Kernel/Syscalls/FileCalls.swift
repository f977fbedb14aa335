import Machine
import Primitives
import Processes
import Signals
import Sync
import SystemABI
import Threads
import VFS

/// Opening, reading, writing, positions, descriptors.
extension Call {
  static var cwd: UInt32 { UInt32(bitPattern: atCurrentDirectory) }

  /// - Parameter limits: Bits of `WalkLimit`.
  func open(_ directory: UInt32, _ address: UInt32, flags: UInt32, mode: UInt32, limits: UInt32 = 0) throws(Errno) -> UInt32 {
    let text = try path(address)
    let description = try openDescription(directory, text, flags: flags, mode: mode, limits)
    do throws(Errno) {
      return UInt32(
        bitPattern: try process.install(description, closeOnExec: flags & OpenFlags.closeOnExec != 0))
    } catch {
      description.abandon()
      throw error
    }
  }

  /// openat2: `struct open_how` at c, of d bytes. SPEC: openat2(2).
  func openAt2() throws(Errno) -> UInt32 {
    guard d >= 24 else { throw .invalidArgument }
    guard d <= UInt32(pageSize) else { throw .argListTooLong }
    var rest = IOBuffer(c &+ 24, Int(d - 24))
    if try rest.takeBytes(limit: Int(d - 24)).contains(where: { $0 != 0 }) { throw .argListTooLong }
    let (flags, mode, limits) = (try UserMemory.read64(c), try UserMemory.read64(c &+ 8), try UserMemory.read64(c &+ 16))
    let makes = flags & UInt64(OpenFlags.create) != 0 || flags & UInt64(OpenFlags.unnamed) != 0
    guard flags & ~UInt64(OpenFlags.all) == 0, mode & ~0o7777 == 0, mode == 0 || makes, limits & ~0x3F == 0,
      limits & UInt64(WalkLimit.beneath | WalkLimit.inRoot) != UInt64(WalkLimit.beneath | WalkLimit.inRoot)
    else { throw .invalidArgument }
    // O_PATH takes no others than these here.
    let beside = OpenFlags.path | OpenFlags.directory | OpenFlags.noFollow | OpenFlags.closeOnExec
    if flags & UInt64(OpenFlags.path) != 0, flags & ~UInt64(beside) != 0 { throw .invalidArgument }
    if limits & UInt64(WalkLimit.cached) != 0, makes || flags & UInt64(OpenFlags.truncate) != 0 { throw .wouldBlock }
    return try open(
      a, b, flags: UInt32(truncatingIfNeeded: flags), mode: UInt32(truncatingIfNeeded: mode), limits: UInt32(truncatingIfNeeded: limits))
  }

  private func openDescription(
    _ directory: UInt32, _ text: [UInt8], flags: UInt32, mode: UInt32, _ limits: UInt32
  ) throws(Errno) -> FileDescription {
    let who = process.who
    if flags & OpenFlags.unnamed != 0, flags & OpenFlags.path == 0 { return try openUnnamed(directory, text, flags, mode, who, limits) }
    var follow = flags & OpenFlags.noFollow == 0
    var made = false
    var place: Path
    if flags & OpenFlags.create != 0 {
      if flags & OpenFlags.exclusive != 0 { follow = false }
      (place, made) = try createOrFind(directory, text, flags, mode, follow: follow, who, limits)
    } else {
      place = try resolve(at: directory, text: text, follow: follow, limits: limits)
    }
    let inode = try place.inode()
    if inode.isLink, flags & OpenFlags.path == 0 { throw .tooManySymbolicLinkLevels }
    if flags & OpenFlags.directory != 0, !inode.isDirectory { throw .notDirectory }
    let access = flags & OpenFlags.accessMask
    if inode.isDirectory, access != 0 || flags & OpenFlags.create != 0 { throw .isDirectory }
    // Who empties a file writes to it, even if it is only open for reading.
    let truncates = flags & OpenFlags.truncate != 0 && inode.isRegular
    let writes = access != 0 || truncates
    if flags & OpenFlags.path == 0, !made {
      let wanted: UInt32 = access == OpenFlags.writeOnly ? 2 : writes ? 6 : 4
      try inode.check(wanted, who)
    }
    if flags & OpenFlags.path == 0, writes, inode.isRegular {
      if place.mount.isReadOnly { throw .readOnlyFileSystem }
      try inode.bringUp(at: place, keepsContent: !truncates)
    }
    if flags & OpenFlags.path == 0, truncates, !made {
      try inode.truncateUnopened(to: 0)
      FileWatches.tell(inode, place.dentry, .modify)
    }
    return try FileDescription.open(place, flags: flags)
  }

  /// SPEC: open(2) O_TMPFILE: with O_EXCL the file never gets a name.
  private func openUnnamed(
    _ directory: UInt32, _ text: [UInt8], _ flags: UInt32, _ mode: UInt32, _ who: Credentials, _ limits: UInt32
  ) throws(Errno) -> FileDescription {
    guard flags & (OpenFlags.directory | OpenFlags.create) == OpenFlags.directory, flags & OpenFlags.accessMask != 0 else {
      throw .invalidArgument
    }
    let place = try resolve(at: directory, text: text, follow: flags & OpenFlags.noFollow == 0, limits: limits)
    guard try place.inode().isDirectory else { throw .notDirectory }
    let umask = process.files.withLock { $0.umask }
    let attributes = newAttributes(Mode.regular | mode & 0o7777 & ~umask, in: place)
    let path = try Names.createUnnamed(in: place, attributes, mayGetName: flags & OpenFlags.exclusive == 0, who)
    return try FileDescription.open(path, flags: flags)
  }

  private func createOrFind(
    _ directory: UInt32, _ text: [UInt8], _ flags: UInt32, _ mode: UInt32, follow: Bool, _ who: Credentials, _ limits: UInt32
  ) throws(Errno) -> (Path, Bool) {
    var walk = try walk(at: directory, text, limits: limits)
    let (found, place) = try walk.resolveCreation(text, follow: follow)
    if let found {
      if flags & OpenFlags.exclusive != 0 { throw .fileExists }
      return (found, false)
    }
    let umask = process.files.withLock { $0.umask }
    let attributes = newAttributes(Mode.regular | mode & 0o7777 & ~umask, in: place.parent)
    do throws(Errno) {
      let made = try Names.create(place, who) { directory throws(Errno) in
        try directory.fileSystem.create(place.name, in: directory, attributes)
      }
      return (made, true)
    } catch {
      // Somebody else made it meanwhile.
      if error == .fileExists, flags & OpenFlags.exclusive == 0 {
        return (try resolve(at: directory, text: text, follow: follow, limits: limits), false)
      }
      throw error
    }
  }

  /// Owner and group for something new: a set-group-id directory passes its group on.
  func newAttributes(_ mode: UInt32, in parent: Path) -> Attributes {
    let who = process.who
    var attributes = Attributes(mode: mode, owner: who.fsuid, group: who.fsgid)
    if let directory = parent.dentry.inode {
      directory.attributes.withLock {
        if $0.mode & Mode.setGroup != 0 {
          attributes.group = $0.group
          if mode & Mode.typeMask == Mode.directory { attributes.mode |= Mode.setGroup }
        }
      }
    }
    return attributes
  }

  func close() throws(Errno) -> UInt32 {
    try process.close(int(a))
    return 0
  }

  func closeRange() throws(Errno) -> UInt32 {
    if a > b || c & ~4 != 0 { throw .invalidArgument }
    let (first, last) = (a, b)
    let numbers = process.descriptors.withLock { $0.numbers }.filter { UInt32($0) >= first && UInt32($0) <= last }
    for number in numbers {
      if c & 4 != 0 { process.descriptors.withLock { $0.setCloseOnExec(number, true) } } else { try? process.close(number) }
    }
    return 0
  }

  func read() throws(Errno) -> UInt32 {
    var buffer = IOBuffer(b, try size(c))
    return UInt32(result: try description(a).read(&buffer))
  }

  func write() throws(Errno) -> UInt32 {
    var buffer = IOBuffer(b, try size(c))
    return UInt32(result: try writeOrSignal(try description(a), &buffer))
  }

  /// A write to a broken pipe also raises SIGPIPE. SPEC: POSIX.1-2024 write() EPIPE.
  private func writeOrSignal(_ description: FileDescription, _ buffer: inout IOBuffer) throws(Errno) -> Int {
    do throws(Errno) { return try description.write(&buffer) } catch {
      if error == .brokenPipe { task.process.send(.init(.pipe), to: task) }
      throw error
    }
  }

  /// The segments of `struct iovec[count]`. SPEC: readv(2).
  func vectors(_ address: UInt32, _ count: UInt32) throws(Errno) -> [IOBuffer] {
    guard count <= 1024 else { throw .invalidArgument }
    var result: [IOBuffer] = []
    var total: UInt64 = 0
    for index in 0..<count {
      let base = try UserMemory.read32(address &+ index * 8)
      let length = try UserMemory.read32(address &+ index * 8 &+ 4)
      total += UInt64(length)
      guard length <= 0x7FFF_FFFF, total <= 0x7FFF_FFFF else { throw .invalidArgument }
      result.append(IOBuffer(base, Int(length)))
    }
    return result
  }

  func readVector() throws(Errno) -> UInt32 {
    let description = try description(a)
    return try transfer(try vectors(b, c)) { buffer throws(Errno) in try description.read(&buffer) }
  }

  func writeVector() throws(Errno) -> UInt32 {
    let description = try description(a)
    return try transfer(try vectors(b, c)) { buffer throws(Errno) in try writeOrSignal(description, &buffer) }
  }

  func transfer(_ segments: [IOBuffer], _ body: (inout IOBuffer) throws(Errno) -> Int) throws(Errno) -> UInt32 {
    var total = 0
    for var segment in segments where segment.count > 0 {
      let wanted = segment.count
      let count: Int
      do throws(Errno) { count = try body(&segment) } catch {
        if total > 0 { break }
        throw error
      }
      total += count
      if count < wanted { break }
    }
    return UInt32(result: total)
  }

  private func positional(_ write: Bool) throws(Errno) -> FileDescription {
    let description = try description(a)
    guard description.file.isSeekable else { throw .illegalSeek }
    guard write ? description.isWritable : description.isReadable else { throw .badFileDescriptor }
    if Int32(bitPattern: e) < 0 { throw .invalidArgument }
    return description
  }

  func pread() throws(Errno) -> UInt32 {
    let description = try positional(false)
    var buffer = IOBuffer(b, try size(c))
    return UInt32(result: try description.read(&buffer, at: long(d, e)))
  }

  func pwrite() throws(Errno) -> UInt32 {
    let description = try positional(true)
    var buffer = IOBuffer(b, try size(c))
    return UInt32(result: try description.write(&buffer, at: long(d, e)).count)
  }

  func preadVector(write: Bool) throws(Errno) -> UInt32 {
    let description = try positional(write)
    var offset = long(d, e)
    return try transfer(try vectors(b, c)) { buffer throws(Errno) in
      let count =
        try write
        ? description.write(&buffer, at: offset).count : description.read(&buffer, at: offset)
      offset += UInt64(count)
      return count
    }
  }

  /// preadv2 and pwritev2: offset -1 is the file's own. Of the flags only RWF_HIPRI, a hint, and RWF_DSYNC and RWF_SYNC.
  func preadVector2(write: Bool) throws(Errno) -> UInt32 {
    guard f & ~7 == 0 else { throw .notSupportedOnSocket }
    let count = d & e == .max ? try write ? writeVector() : readVector() : try preadVector(write: write)
    if write, f & 6 != 0 {
      let description = try description(a)
      if description.storage != nil { try description.synchronise() }
    }
    return count
  }

  /// Blocks for a range of a file, so that writes there find room. Mode 0 only: nothing is kept beyond the end or punched.
  func fallocate() throws(Errno) -> UInt32 {
    let description = try description(a)
    let (offset, length) = (long(c, d), long(e, f))
    guard offset < 1 << 63, length < 1 << 63, length > 0 else { throw .invalidArgument }
    // FALLOC_FL_KEEP_SIZE, and FALLOC_FL_PUNCH_HOLE with it.
    if b > 3 || b == 2 { throw .notSupportedOnSocket }
    guard description.isWritable else { throw .badFileDescriptor }
    if description.file is PipeEnd { throw .illegalSeek }
    guard let inode = description.inode, inode.isRegular else { throw .operationNotSupportedByDevice }
    try checkFileSize(inode, offset + length)
    if b == 3 {
      try inode.punch(offset..<(offset + length))
    } else {
      // Room behind the end is not kept.
      if b == 1, offset + length > inode.size { throw .notSupportedOnSocket }
      try inode.allocate(offset..<(offset + length))
    }
    FileWatches.tell(description, .modify)
    return 0
  }

  private func seek(_ description: FileDescription, _ offset: Int64, _ whence: UInt32) throws(Errno) -> UInt64 {
    guard description.file.isSeekable else { throw .illegalSeek }
    if description.file.ignoresPosition { return 0 }
    let size = description.inode?.size ?? 0
    return try description.seek { current throws(Errno) in
      let base: Int64
      switch whence {
      case 0: base = 0
      case 1: base = Int64(current)
      case 2: base = Int64(size)
      case 3, 4:  // SEEK_DATA, SEEK_HOLE
        guard offset >= 0, UInt64(offset) < size, let inode = description.inode else { throw .noSuchAddressOrDevice }
        return try inode.isRegular
          ? inode.next(whence == 3 ? .data : .hole, from: UInt64(offset), end: size) : whence == 3 ? UInt64(offset) : size
      default: throw .invalidArgument
      }
      let (sum, overflow) = base.addingReportingOverflow(offset)
      guard !overflow, sum >= 0 else { throw overflow ? .overflow : .invalidArgument }
      return UInt64(sum)
    }
  }

  func lseek() throws(Errno) -> UInt32 {
    let position = try seek(try description(a), Int64(int(b)), c)
    guard let result = UInt32(exactly: position), result <= 0x7FFF_FFFF else { throw .overflow }
    return result
  }

  func llseek() throws(Errno) -> UInt32 {
    let position = try seek(try description(a), Int64(bitPattern: long(c, b)), e)
    try UserMemory.write64(position, to: d)
    return 0
  }

  /// sync_file_range: what it promises is less than fdatasync's, and that is what it gets: the file's data, and what it needs
  /// to be found.
  func syncFileRange() throws(Errno) -> UInt32 {
    guard f & ~7 == 0, Int64(bitPattern: long(b, c)) >= 0, Int64(bitPattern: long(d, e)) >= 0 else { throw .invalidArgument }
    let description = try description(a)
    guard let inode = description.inode, inode.isRegular || inode.isDirectory || inode.type == Mode.block else { throw .illegalSeek }
    if f != 0 { try description.storage?.writeBack() }
    return 0
  }

  func duplicate() throws(Errno) -> UInt32 {
    // Held, or another thread's close could be the last before the new descriptor is the first.
    let description = try process.descriptors.withLock { table throws(Errno) in try table.hold(int(a)) }
    defer { description.drop() }
    return UInt32(bitPattern: try process.install(description, closeOnExec: false))
  }

  func duplicate2(flags: UInt32, same: Bool) throws(Errno) -> UInt32 {
    let description = try process.descriptors.withLock { table throws(Errno) in try table.hold(int(a)) }
    defer { description.drop() }
    if a == b {
      if same { return a }
      throw .invalidArgument
    }
    if flags & ~OpenFlags.closeOnExec != 0 { throw .invalidArgument }
    let target = int(b)
    let old = try process.descriptors.withLock { table throws(Errno) in
      try table.replace(target, with: description, closeOnExec: flags != 0)
    }
    if let old { process.release(old) }
    return b
  }

  func pipe(flags: UInt32) throws(Errno) -> UInt32 {
    if flags & ~(OpenFlags.closeOnExec | OpenFlags.nonBlocking | OpenFlags.direct) != 0 { throw .invalidArgument }
    let close = flags & OpenFlags.closeOnExec != 0
    let (reader, writer) = Pipe.make(flags: flags)
    let first: Int32
    do throws(Errno) { first = try process.install(reader, closeOnExec: close) } catch {
      reader.abandon()
      writer.abandon()
      throw error
    }
    let second: Int32
    do throws(Errno) { second = try process.install(writer, closeOnExec: close) } catch {
      try? process.close(first)
      writer.abandon()
      throw error
    }
    do throws(Errno) {
      try UserMemory.write32(UInt32(bitPattern: first), to: a)
      try UserMemory.write32(UInt32(bitPattern: second), to: a &+ 4)
    } catch {
      try? process.close(first)
      try? process.close(second)
      throw error
    }
    return 0
  }

  func fcntl() throws(Errno) -> UInt32 {
    let description = try description(a)
    let number = int(a)
    switch b {
    case 0, 1030:  // F_DUPFD, F_DUPFD_CLOEXEC
      guard c < 0x10_0000 else { throw .invalidArgument }
      return UInt32(bitPattern: try process.install(description, closeOnExec: b != 0, minimum: Int(c)))
    case 1031, 1032:  // F_SETPIPE_SZ, F_GETPIPE_SZ
      guard let pipe = (description.file as? PipeEnd)?.pipe else { throw .badFileDescriptor }
      if b == 1032 { return UInt32(pipe.capacity) }
      guard c <= 0x7FFF_FFFF else { throw .invalidArgument }
      if c > 1 << 20 { try require(.resource) }
      guard c <= 1 << 24 else { throw .noMemory }
      return UInt32(try pipe.resize(to: Int(c)))
    case 1: return process.descriptors.withLock { $0.isCloseOnExec(number) } ? 1 : 0
    case 2:
      let close = c & 1 != 0
      process.descriptors.withLock { $0.setCloseOnExec(number, close) }
      return 0
    case 3: return description.flags | OpenFlags.largeFile
    case 4:
      let settable = OpenFlags.append | OpenFlags.nonBlocking | OpenFlags.direct | OpenFlags.noAccessTime
      if c & OpenFlags.direct != 0, !(description.file is PipeEnd), description.inode?.allowsDirect != true { throw .invalidArgument }
      description.flags = description.flags & ~settable | c & settable
      return 0
    case 5, 6, 7, 12, 13, 14, 36, 37, 38: return try recordLock(description, b, c)
    default: throw .invalidArgument
    }
  }

  func ioctl() throws(Errno) -> UInt32 {
    let description = try description(a)
    switch b {
    case 0x5421:  // FIONBIO
      let on = try UserMemory.read32(c) != 0
      description.flags = on ? description.flags | OpenFlags.nonBlocking : description.flags & ~OpenFlags.nonBlocking
      return 0
    case 0x5451, 0x5450:  // FIOCLEX, FIONCLEX
      let (number, close) = (int(a), b == 0x5451)
      process.descriptors.withLock { $0.setCloseOnExec(number, close) }
      return 0
    case 0x541B where description.inode?.isRegular == true:  // FIONREAD
      let position = try description.seek { $0 }
      let size = description.inode?.size ?? 0
      try UserMemory.write32(UInt32(clamping: size > position ? size - position : 0), to: c)
      return 0
    case 0xC020_660B where description.inode?.isRegular == true:  // FS_IOC_FIEMAP
      if let inode = description.inode { try ExtentMap.answer(inode, c) }
      return 0
    default:
      if let node = description.file as? BlockNode, let loop = node.disk as? LoopDevice {
        return try loopControl(node, loop, description)
      }
      return UInt32(bitPattern: try description.file.control(b, c, description))
    }
  }

  /// getdents64, or getdents with its type byte behind the name; at most 32 KiB at once. SPEC: getdents(2).
  func getdents(wide: Bool) throws(Errno) -> UInt32 {
    let description = try description(a)
    guard let inode = description.inode, inode.isDirectory else { throw .notDirectory }
    let room = min(try size(c), 32768) / 4
    var words: [UInt32] = []
    var used = 0
    var tooSmall = false
    _ = try description.seek { position throws(Errno) in
      var next = position
      try inode.mutex.withLock { _ throws(Errno) in
        if description.path?.dentry.isGone == true { throw .noSuchFileOrDirectory }
        try inode.fileSystem.list(inode, from: position) { entry in
          let length = wide ? (19 + entry.name.count + 1 + 7) / 8 * 2 : (10 + entry.name.count + 2 + 3) / 4
          guard used + length <= room else {
            tooSmall = used == 0
            return false
          }
          if words.isEmpty { words = Array(repeating: 0, count: room) }
          var out = words.mutableSpan
          Self.put(entry, wide: wide, length: length, into: &out, at: used)
          used += length
          next = entry.next
          return true
        }
      }
      return next
    }
    if tooSmall { throw .invalidArgument }
    FileWatches.tell(description, .access)
    try UserMemory.write(words: words, 0..<used, to: b)
    return UInt32(result: used * 4)
  }

  /// `struct linux_dirent64`, or `struct linux_dirent` with its type in the last byte: `length` words, which are zero before.
  private static func put(
    _ entry: DirectoryEntry, wide: Bool, length: Int, into out: inout MutableSpan<UInt32>, at start: Int
  ) {
    let type = UInt32(UInt8(truncatingIfNeeded: entry.type >> 12))
    if wide {
      (out[start], out[start &+ 1]) = entry.inode.halves
      (out[start &+ 2], out[start &+ 3]) = entry.next.halves
      out[start &+ 4] = UInt32(length &* 4) | type << 16
      put(entry.name.span, into: &out, at: start &+ 4, shift: 24)
    } else {
      out[start] = UInt32(truncatingIfNeeded: entry.inode)
      out[start &+ 1] = UInt32(truncatingIfNeeded: entry.next)
      out[start &+ 2] = UInt32(length &* 4)
      put(entry.name.span, into: &out, at: start &+ 2, shift: 16)
      out[start &+ length &- 1] |= type << 24
    }
  }

  /// The name begins in the last word of what is before it: `shift` bits of that are taken.
  @inline(__always) private static func put(
    _ name: borrowing Span<UInt8>, into out: inout MutableSpan<UInt32>, at start: Int, shift: UInt32
  ) {
    var index = start
    var word = out[index]
    var rest = name.extracting(...)
    while rest.count >= 4 {
      let four = rest.firstWord
      out[index] = word | four << shift
      word = four >> (32 - shift)
      index &+= 1
      rest = rest.extracting(droppingFirst: 4)
    }
    let last = rest.lastWord
    out[index] = word | last << shift
    // Where the rest does not fit the word, it goes on in the next, which the NUL has made room for.
    if last >> (32 - shift) > 0 { out[index &+ 1] = last >> (32 - shift) }
  }

  /// Truncates by path or descriptor.
  func truncate(_ size: UInt64) throws(Errno) -> UInt32 {
    if Int64(bitPattern: size) < 0 { throw .invalidArgument }
    let path = try resolve(at: Self.cwd, a)
    let inode = try path.inode()
    if inode.isDirectory { throw .isDirectory }
    guard inode.isRegular else { throw .invalidArgument }
    try inode.check(2, process.who)
    if path.mount.isReadOnly { throw .readOnlyFileSystem }
    try checkFileSize(inode, size)
    try inode.bringUp(at: path, keepsContent: size > 0)
    try inode.truncateUnopened(to: size)
    FileWatches.tell(inode, path.dentry, .modify)
    try path.mount.settle(inode)
    return 0
  }

  /// Throws `fileTooLarge`, with a signal, when a file may not become so large.
  private func checkFileSize(_ inode: Inode, _ size: UInt64) throws(Errno) {
    guard size > inode.size, size > task.fileSizeLimit else { return }
    task.exceededFileSize()
    throw .fileTooLarge
  }

  func ftruncate(_ size: UInt64) throws(Errno) -> UInt32 {
    if Int64(bitPattern: size) < 0 { throw .invalidArgument }
    let description = try description(a)
    guard description.isWritable, let inode = description.inode, inode.isRegular else { throw .invalidArgument }
    try checkFileSize(inode, size)
    try inode.truncate(to: size)
    FileWatches.tell(description, .modify)
    try description.path?.mount.settle(inode)
    return 0
  }

  func fsync() throws(Errno) -> UInt32 {
    try description(a).synchronise()
    return 0
  }

  func sync() throws(Errno) -> UInt32 {
    try? Mounts.sync()
    return 0
  }

  func syncfs() throws(Errno) -> UInt32 {
    guard let inode = try description(a).inode else { throw .badFileDescriptor }
    try WriteBack.run(inode.fileSystem)
    try inode.fileSystem.sync()
    return 0
  }
}
