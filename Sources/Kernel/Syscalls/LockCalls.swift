import FileLocks
import Machine
import Primitives
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// Advisory locks. SPEC: fcntl(2), flock(2).
extension Call {
  /// flock: LOCK_SH 1, LOCK_EX 2, LOCK_NB 4, LOCK_UN 8.
  func flock() throws(Errno) -> UInt32 {
    let description = try description(a)
    guard let inode = description.inode else { throw .badFileDescriptor }
    let owner = description.lockOwner
    switch b & ~4 {
    case 8: inode.lockingIfAny?.unlock(.whole, owner: owner)
    case 1, 2:
      let wanted = RecordLocks.Lock(owner: owner, process: process.id, start: 0, end: .max, isExclusive: b & 2 != 0)
      try inode.locking.lock(.whole, wanted, wait: b & 4 == 0, findCircles: false)
    default: throw .invalidArgument
    }
    return 0
  }

  /// One `struct flock` or `struct flock64`, decoded: l_type, and the range in bytes from the start of the file.
  private struct Request {
    var type: UInt32
    var start: UInt64
    var end: UInt64
  }

  private func request(_ address: UInt32, wide: Bool, _ description: FileDescription) throws(Errno) -> Request {
    let head = try UserMemory.read32(address)
    let first = wide ? Int64(bitPattern: try UserMemory.read64(address &+ 4)) : Int64(int(try UserMemory.read32(address &+ 4)))
    let length = wide ? Int64(bitPattern: try UserMemory.read64(address &+ 12)) : Int64(int(try UserMemory.read32(address &+ 8)))
    let base: UInt64
    switch head >> 16 {
    case 0: base = 0
    case 1: base = try description.seek { $0 }
    case 2: base = description.inode?.size ?? 0
    default: throw .invalidArgument
    }
    let (origin, overflow) = Int64(clamping: base).addingReportingOverflow(first)
    if overflow { throw .overflow }
    if origin < 0 { throw .invalidArgument }
    if length == 0 { return Request(type: head & 0xFFFF, start: UInt64(origin), end: .max) }
    let (other, tooFar) = origin.addingReportingOverflow(length)
    if tooFar { throw .overflow }
    if other < 0 { throw .invalidArgument }
    return Request(type: head & 0xFFFF, start: UInt64(min(origin, other)), end: UInt64(max(origin, other)))
  }

  /// F_GETLK, F_SETLK, F_SETLKW in their three spellings. F_RDLCK is 0, F_WRLCK 1, F_UNLCK 2.
  func recordLock(_ description: FileDescription, _ command: UInt32, _ address: UInt32) throws(Errno) -> UInt32 {
    let wide = command >= 12
    let isOpenFile = command >= 36
    guard let inode = description.inode else { throw .badFileDescriptor }
    let request = try request(address, wide: wide, description)
    let owner = isOpenFile ? description.lockOwner : UInt64(process.id)
    if isOpenFile, try UserMemory.read32(address &+ 20) != 0 { throw .invalidArgument }
    guard request.type <= 2 else { throw .invalidArgument }
    let wanted = RecordLocks.Lock(
      owner: owner, process: isOpenFile ? -1 : process.id, start: request.start, end: request.end, isExclusive: request.type == 1)
    switch command {
    case 5, 12, 36:
      if request.type == 2 { throw .invalidArgument }
      try putConflict(inode.lockingIfAny?.conflict(.record, wanted), to: address, wide: wide)
    default:
      if request.type == 2 {
        inode.lockingIfAny?.unlock(.record, owner: owner, start: request.start, end: request.end)
        return 0
      }
      if request.type == 0 ? !description.isReadable : !description.isWritable { throw .badFileDescriptor }
      let wait = command == 7 || command == 14 || command == 38
      try inode.locking.lock(.record, wanted, wait: wait, findCircles: !isOpenFile)
    }
    return 0
  }

  private func putConflict(_ conflict: RecordLocks.Lock?, to address: UInt32, wide: Bool) throws(Errno) {
    guard let conflict else {
      let head = try UserMemory.read32(address)
      return try UserMemory.write32(head & ~0xFFFF | 2, to: address)
    }
    let length = conflict.end == .max ? 0 : conflict.end - conflict.start
    try UserMemory.write32(conflict.isExclusive ? 1 : 0, to: address)
    if wide {
      try UserMemory.write64(conflict.start, to: address &+ 4)
      try UserMemory.write64(length, to: address &+ 12)
      try UserMemory.write32(UInt32(bitPattern: conflict.process), to: address &+ 20)
    } else {
      guard conflict.start <= 0x7FFF_FFFF, length <= 0x7FFF_FFFF else { throw .overflow }
      try UserMemory.write32(UInt32(conflict.start), to: address &+ 4)
      try UserMemory.write32(UInt32(length), to: address &+ 8)
      try UserMemory.write32(UInt32(bitPattern: conflict.process), to: address &+ 12)
    }
  }
}
