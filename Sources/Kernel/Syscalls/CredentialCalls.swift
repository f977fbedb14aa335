import Machine
import Memory
import Primitives
import Processes
import Signals
import Sync
import SystemABI
import Threads
import VFS

/// The calls of the time when ids had 16 bits, and queued signals.
extension Call {
  /// A 16-bit id argument; 0xFFFF leaves an id as it is.
  func wideID(_ value: UInt32) -> UInt32 { value & 0xFFFF == 0xFFFF ? .max : value & 0xFFFF }

  private func putShort(_ value: UInt32, to address: UInt32) throws(Errno) {
    var bytes: [2 of UInt8] = [0, 0]
    let short = Self.short(value)
    bytes[0] = UInt8(truncatingIfNeeded: short)
    bytes[1] = UInt8(truncatingIfNeeded: short >> 8)
    try UserMemory.write(bytes.span, to: address)
  }

  func storeShort(_ x: UInt32, _ y: UInt32, _ z: UInt32) throws(Errno) -> UInt32 {
    try putShort(x, to: a)
    try putShort(y, to: b)
    try putShort(z, to: c)
    return 0
  }

  func getgroups16() throws(Errno) -> UInt32 {
    let groups = process.who.groups
    if a == 0 { return UInt32(groups.count) }
    if int(a) < groups.count { throw .invalidArgument }
    for (index, group) in groups.enumerated() { try putShort(group, to: b &+ UInt32(index) * 2) }
    return UInt32(groups.count)
  }

  /// setfsuid and setfsgid: the old id, whatever happens.
  func setfsuid(_ id: UInt32) -> UInt32 {
    process.changeCredentials { who in
      let old = who.fsuid
      if [who.uid, who.euid, who.suid, old].contains(id) || id != .max && who.has(.setUser) { who.setFileUser(id) }
      return old
    }
  }

  func setfsgid(_ id: UInt32) -> UInt32 {
    process.changeCredentials { who in
      let old = who.fsgid
      if [who.gid, who.egid, who.sgid, old].contains(id) || id != .max && who.has(.setGroup) { who.fsgid = id }
      return old
    }
  }

  func setgroups16() throws(Errno) -> UInt32 {
    try require(.setGroup)
    guard a <= 65536 else { throw .invalidArgument }
    var buffer = IOBuffer(b, Int(a) * 2)
    let bytes = try buffer.takeBytes(limit: Int(a) * 2)
    let span = bytes.span
    var groups: [UInt32] = []
    for index in 0..<Int(a) { groups.append(UInt32(span.u16(index * 2) ?? 0)) }
    process.changeCredentials { $0.groups = groups }
    return 0
  }

  /// rt_sigqueueinfo and rt_tgsigqueueinfo: the caller writes the siginfo, but may not pretend to be the kernel or kill.
  func sigqueue(group: UInt32, thread: UInt32?, signal number: UInt32, _ address: UInt32) throws(Errno) -> UInt32 {
    guard number <= 64 else { throw .invalidArgument }
    guard let target = ProcessTable.shared.find(int(group)) else { throw .noSuchProcess }
    let code = int(try UserMemory.read32(address &+ 8))
    if target !== process, code >= 0 || code == -6 { throw .notPermitted }
    guard maySignal(target, number) else { throw .notPermitted }
    if number == 0 { return 0 }
    var information = SignalInformation(Signal(UInt8(number)), code: code)
    information.sender = int(try UserMemory.read32(address &+ 12))
    information.senderUser = try UserMemory.read32(address &+ 16)
    information.value = try UserMemory.read32(address &+ 20)
    var found: Task?
    if let thread {
      found = target.thread(int(thread))
      if found == nil { throw .noSuchProcess }
    }
    guard target.send(information, to: found) else { throw .wouldBlock }
    return 0
  }

  // MARK: Memory that stays, barriers, odds and ends

  /// Nothing is ever paged out: to lock is to bring in. SPEC: mlock(2).
  func mlock(_ start: UInt32, _ length: UInt32) throws(Errno) -> UInt32 {
    guard let space = process.space else { throw .noMemory }
    let first = start & ~0xFFF
    let end = UInt64(start) + UInt64(length)
    guard end <= 0xC000_0000 else { throw .noMemory }
    let last = UInt32((end + 4095) & ~4095)
    let limit = process.limits.withLock { $0[8].soft }
    if !process.who.has(.lockMemory), UInt64(last - first) > limit { throw limit == 0 ? .notPermitted : .noMemory }
    var address = first
    while address < last {
      let area = space.state.withLock { $0.areas.find(address) }
      guard let area else { throw .noMemory }
      do throws(FaultFailure) { try space.resolveFault(address, write: area.writable && !area.shared, execute: false) } catch {
        throw .noMemory
      }
      address += 4096
    }
    return 0
  }

  /// mlockall: MCL_CURRENT brings in what there is, MCL_FUTURE what comes. MCL_ONFAULT leaves both to the faults.
  func mlockall() throws(Errno) -> UInt32 {
    guard a != 0, a & ~7 == 0, a != 4 else { throw .invalidArgument }
    let space = try currentSpace()
    let areas = space.state.withLock { $0.areas.areas }
    let limit = process.limits.withLock { $0[8].soft }
    if !process.who.has(.lockMemory) {
      if limit == 0 { throw .notPermitted }
      if a & 1 != 0, areas.reduce(0, { $0 + UInt64($1.end - $1.start) }) > limit { throw .noMemory }
    }
    space.state.withLock { $0.populatesNewAreas = a & 6 == 2 }
    if a & 5 == 1 {
      for area in areas where area.readable || area.writable {
        populate(space, area.start, area.end - area.start, write: area.writable && !area.shared)
      }
    }
    return 0
  }

  func munlockall() throws(Errno) -> UInt32 {
    try currentSpace().state.withLock { $0.populatesNewAreas = false }
    return 0
  }

  func munlock() throws(Errno) -> UInt32 {
    guard let space = process.space else { throw .noMemory }
    guard UInt64(a) + UInt64(b) <= 0xC000_0000 else { throw .noMemory }
    var address = a & ~0xFFF
    while address < a &+ b {
      guard let area = space.state.withLock({ $0.areas.find(address) }) else { throw .noMemory }
      address = area.end
    }
    return 0
  }

  func sigpending() throws(Errno) -> UInt32 {
    let pending = process.signals.withLock { $0.pending.set.union(task.pending.set) }
    try UserMemory.write32(UInt32(truncatingIfNeeded: pending.bits & task.blocked.bits), to: a)
    return 0
  }

  func settimeofday() throws(Errno) -> UInt32 {
    try require(.time)
    if a != 0 { Scheduler.setWallClock(Int64(try timeval(a))) }
    return 0
  }

  func stime() throws(Errno) -> UInt32 {
    try require(.time)
    Scheduler.setWallClock(Int64(int(try UserMemory.read32(a))) * 1_000_000_000)
    return 0
  }

  func getRobustList() throws(Errno) -> UInt32 {
    let target: Task
    if a == 0 || int(a) == task.id {
      target = task
    } else {
      guard let found = process.thread(int(a)) else { throw .noSuchProcess }
      target = found
    }
    try UserMemory.write32(target.robustList, to: b)
    try UserMemory.write32(12, to: c)
    return 0
  }

  /// membarrier(2): QUERY 0, GLOBAL 1, PRIVATE_EXPEDITED 8 and its registration 16.
  func membarrier() throws(Errno) -> UInt32 {
    if b != 0 { throw .invalidArgument }
    switch a {
    case 0: return 1 | 8 | 16
    case 16: return 0  // every process may
    case 1, 8:
      Processors.barrier()
      return 0
    default: throw .invalidArgument
    }
  }

  /// memfd_create(2): MFD_CLOEXEC 1, MFD_ALLOW_SEALING 2 (sealing itself is not there).
  func memfdCreate() throws(Errno) -> UInt32 {
    if b & ~1 != 0 { throw .invalidArgument }
    let name = try UserMemory.string(a, limit: 250)
    let inode = try SharedMemory.inode(size: 0)
    let who = process.who
    inode.attributes.withLock { ($0.mode, $0.owner, $0.group) = (Mode.regular | 0o777, who.fsuid, who.fsgid) }
    let path = NamelessFiles.path(called: Array("/memfd:".utf8) + name + Array(" (deleted)".utf8), inode)
    let description = FileDescription(RegularFile(inode), path: path, inode: inode, flags: OpenFlags.readWrite)
    do throws(Errno) { return UInt32(bitPattern: try process.install(description, closeOnExec: b & 1 != 0)) } catch {
      description.abandon()
      throw error
    }
  }
}
