import EventFiles
import CMachine
import Machine
import Processes
import Signals
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// Processes, threads, families, credentials.
extension Call {
  func exit() -> UInt32 {
    task.exitStatus = (a & 0xFF) << 8
    task.needsAttention = true
    return 0
  }

  func exitGroup() -> UInt32 {
    task.terminateGroup(status: (a & 0xFF) << 8)
    task.needsAttention = true
    return 0
  }

  func fork() throws(Errno) -> UInt32 { try clone(flags: 17, stack: 0, parentID: 0, tls: 0, childID: 0) }
  func vfork() throws(Errno) -> UInt32 {
    try clone(flags: 17 | CloneFlags.vfork | CloneFlags.memory, stack: 0, parentID: 0, tls: 0, childID: 0)
  }

  func clone3() throws(Errno) -> UInt32 {
    guard b >= 64 else { throw .invalidArgument }
    var words: [UInt64] = []
    for index in 0..<UInt32(8) { words.append(try UserMemory.read64(a &+ index * 8)) }
    guard words[0] >> 32 == 0, words[0] & 0xFF == 0, words[4] <= 64, (words[5] == 0) == (words[6] == 0) else {
      throw .invalidArgument
    }
    let flags = UInt32(truncatingIfNeeded: words[0]) | UInt32(truncatingIfNeeded: words[4]) & 0xFF
    let stack = words[5] == 0 ? 0 : UInt32(truncatingIfNeeded: words[5] &+ words[6])
    return try clone(
      flags: flags, stack: stack, parentID: UInt32(truncatingIfNeeded: words[3]), processFile: UInt32(truncatingIfNeeded: words[1]),
      tls: UInt32(truncatingIfNeeded: words[7]), childID: UInt32(truncatingIfNeeded: words[2]))
  }

  /// clone(2): a thread, or a process that shares what the flags say. The old call has one pointer for the parent's copy of the
  /// number and for the descriptor.
  func clone(flags: UInt32, stack: UInt32, parentID: UInt32, processFile: UInt32? = nil, tls: UInt32, childID: UInt32) throws(Errno)
    -> UInt32
  {
    let isThread = flags & CloneFlags.thread != 0
    let shares = CloneFlags.memory | CloneFlags.signalHandlers
    if isThread, flags & shares != shares { throw .invalidArgument }
    if flags & CloneFlags.signalHandlers != 0, flags & CloneFlags.memory == 0 { throw .invalidArgument }
    if !isThread, flags & (CloneFlags.files | CloneFlags.fileSystem | CloneFlags.signalHandlers) != 0 { throw .invalidArgument }
    if flags & CloneFlags.namespaces != 0 { throw .invalidArgument }
    let wantsFile = flags & CloneFlags.processFile != 0
    if wantsFile, isThread || processFile == nil && flags & CloneFlags.parentSetID != 0 { throw .invalidArgument }
    if wantsFile { try process.descriptors.withLock { table throws(Errno) in try table.checkRoom() } }
    let segment = flags & CloneFlags.setTLS != 0 ? try TLS.descriptor(at: tls) : nil
    let child =
      isThread
      ? try process.addThread(from: task)
      : try process.fork(
        from: task, shareMemory: flags & CloneFlags.memory != 0, exitSignal: UInt8(flags & 0xFF))
    // Who runs beside its parent cannot have the same stack; after vfork the parent waits.
    if flags & (CloneFlags.memory | CloneFlags.vfork) == CloneFlags.memory { child.alternateStack = AlternateStack() }
    if let (entry, descriptor) = segment { TLS.set(entry, descriptor, of: child) }
    var registers = frame.registers
    registers.eax = 0
    if stack != 0 { registers.esp = stack }
    child.prepareUser(registers)
    if flags & CloneFlags.childClearID != 0 { child.clearChildID = childID }
    if flags & CloneFlags.parentSetID != 0 { try? UserMemory.write32(UInt32(bitPattern: child.id), to: parentID) }
    if flags & CloneFlags.childSetID != 0 { setChildID(child, childID) }
    // There was room; if another thread took it meanwhile the descriptor is -1.
    if wantsFile {
      let number = (try? openProcess(child.process)) ?? .max
      try? UserMemory.write32(number, to: processFile ?? parentID)
    }
    let childProcess = child.process
    let id = child.id
    let (event, option): (TraceEvent, UInt32) =
      flags & CloneFlags.vfork != 0
      ? (.vfork, TraceOptions.vfork)
      : flags & 0xFF == 17 ? (.fork, TraceOptions.fork) : (.clone, TraceOptions.clone)
    let isTraced = task.isTraced.load(ordering: .relaxed) && ProcessTable.shared.withTree { (task.tracing?.options ?? 0) & option != 0 }
    if isTraced { child.inheritTracing(from: task) }
    Scheduler.begin(child)
    if isTraced { task.stopAt(event, option, message: UInt32(bitPattern: id), frame) }
    if flags & CloneFlags.vfork != 0 {
      let _: Bool? = try? childProcess.vforkEvent.wait(interruptible: false, reason: "vfork") {
        childProcess.vforkDone.load(ordering: .acquiring) ? true : nil
      }
      if isTraced { task.stopAt(.vforkDone, TraceOptions.vforkDone, message: UInt32(bitPattern: id), frame) }
    }
    return UInt32(bitPattern: id)
  }

  /// CLONE_CHILD_SETTID: into the child's memory, before it runs.
  private func setChildID(_ child: Task, _ address: UInt32) {
    if child.process === process {
      try? UserMemory.write32(UInt32(bitPattern: child.id), to: address)
    } else if let space = child.process.space {
      space.store32(UInt32(bitPattern: child.id), at: address)
    }
  }

  func execve() throws(Errno) -> UInt32 {
    let name = try path(a)
    return try execute(try resolve(at: Self.cwd, text: name, follow: true), name, b, c)
  }

  /// What is executed is called /dev/fd/N, or a path from there, where it has no path of its own. SPEC: execveat(2).
  func execveat() throws(Errno) -> UInt32 {
    if e & ~0x1100 != 0 { throw .invalidArgument }
    let text = try path(b)
    var (name, nameStays) = (text, true)
    if text.first != 47, int(a) != Self.atCurrentDirectory {
      name = Array("/dev/fd/\(a)".utf8) + (text.isEmpty ? [] : [47] + text)
      nameStays = process.descriptors.withLock { !$0.isCloseOnExec(int(a)) }
    }
    switch try named(at: a, text, flags: e) {
    case .file(let description): return try execute(description.place, name, nameStays: nameStays, c, d)
    case .place(let path):
      if e & 0x100 != 0, try path.inode().isLink { throw .tooManySymbolicLinkLevels }
      return try execute(path, name, nameStays: nameStays, c, d)
    }
  }

  private func execute(
    _ place: Path, _ name: [UInt8], nameStays: Bool = true, _ argv: UInt32, _ envp: UInt32
  ) throws(Errno) -> UInt32 {
    var budget = 2 << 20
    let arguments = try strings(argv, &budget)
    let environment = try strings(envp, &budget)
    var execution = Execution(
      task, path: place, name: name, arguments: arguments.isEmpty ? [[]] : arguments, environment: environment)
    execution.nameStays = nameStays
    try execution.run(frame)
    return 0
  }

  private func strings(_ list: UInt32, _ budget: inout Int) throws(Errno) -> [[UInt8]] {
    if list == 0 { return [] }
    var result: [[UInt8]] = []
    var at = list
    while true {
      let pointer = try UserMemory.read32(at)
      if pointer == 0 { return result }
      let string: [UInt8]
      do throws(Errno) { string = try UserMemory.string(pointer, limit: 131072) } catch {
        throw error == .fileNameTooLong ? .argListTooLong : error
      }
      budget -= string.count + 5
      if budget < 0 { throw .argListTooLong }
      result.append(string)
      at &+= 4
    }
  }

  func wait4(_ id: Int32, _ status: UInt32, _ options: UInt32, _ usage: UInt32) throws(Errno) -> UInt32 {
    if options & ~0xE000_000B != 0 { throw .invalidArgument }
    let target: Process.WaitTarget
    switch id {
    case -1: target = .any
    case 0: target = .group(ProcessTable.shared.withTree { process.tree.group })
    case ..<0: target = .group(0 &- id)
    default: target = .process(id)
    }
    guard
      let result = try process.wait(
        target, noHang: options & 1 != 0, stopped: options & 2 != 0, continued: options & 8 != 0)
    else { return 0 }
    if status != 0 { try UserMemory.write32(result.status, to: status) }
    if usage != 0 { try putUsage(result.use, to: usage) }
    return UInt32(bitPattern: result.id)
  }

  /// waitid(2): fills a siginfo_t.
  func waitid() throws(Errno) -> UInt32 {
    let target: Process.WaitTarget
    switch a {
    case 0: target = .any
    case 1: target = .process(int(b))
    case 2: target = .group(b == 0 ? ProcessTable.shared.withTree { process.tree.group } : int(b))
    case 3: target = .process(try processFile(b).process.id)
    default: throw .invalidArgument
    }
    let neverWaits = a == 3 ? try description(b).isNonBlocking : false
    if d & 0xE == 0 || d & ~0x0100_000F != 0 { throw .invalidArgument }
    let result = try process.wait(
      target, noHang: d & 1 != 0 || neverWaits, exited: d & 4 != 0, stopped: d & 2 != 0, continued: d & 8 != 0, keep: d & 0x0100_0000 != 0)
    if result == nil, neverWaits, d & 1 == 0 { throw .wouldBlock }
    if e != 0, let result { try putUsage(result.use, to: e) }
    if c == 0 { return 0 }
    try UserMemory.zero(c, count: 128)
    guard let result else { return 0 }
    let status = result.status
    let (code, value): (UInt32, UInt32) =
      status == 0xFFFF
      ? (6, 18)
      : status & 0xFF == 0x7F ? (5, status >> 8) : status & 0x7F == 0 ? (1, status >> 8) : (status & 0x80 != 0 ? 3 : 2, status & 0x7F)
    try UserMemory.write32(17, to: c)
    try UserMemory.write32(code, to: c &+ 8)
    try UserMemory.write32(UInt32(bitPattern: result.id), to: c &+ 12)
    try UserMemory.write32(result.user, to: c &+ 16)
    try UserMemory.write32(value, to: c &+ 20)
    return 0
  }

  func getppid() -> UInt32 { UInt32(bitPattern: process.tree.parentID.load(ordering: .relaxed)) }

  // MARK: Groups and sessions

  private func find(_ id: UInt32) throws(Errno) -> Process {
    if id == 0 { return process }
    guard let found = ProcessTable.shared.find(int(id)) else { throw .noSuchProcess }
    return found
  }

  func getpgid(_ id: UInt32) throws(Errno) -> UInt32 {
    let target = try find(id)
    return UInt32(bitPattern: ProcessTable.shared.withTree { target.tree.group })
  }

  func getsid() throws(Errno) -> UInt32 {
    let target = try find(a)
    return UInt32(bitPattern: ProcessTable.shared.withTree { target.tree.session })
  }

  /// SPEC: POSIX.1-2024 setpgid().
  func setpgid() throws(Errno) -> UInt32 {
    let target = try find(a)
    let group = b == 0 ? target.id : int(b)
    if group < 0 { throw .invalidArgument }
    let all = ProcessTable.shared.all()
    try ProcessTable.shared.withTree { () throws(Errno) in
      let isChild = target.tree.parent === process
      guard target === process || isChild else { throw .noSuchProcess }
      if isChild {
        if target.tree.session != process.tree.session { throw .notPermitted }
        if target.tree.hasExecuted { throw .permissionDenied }
      }
      if target.tree.session == target.id { throw .notPermitted }
      if group != target.id {
        guard all.contains(where: { $0.tree.group == group && $0.tree.session == process.tree.session }) else {
          throw .notPermitted
        }
      }
      target.tree.group = group
    }
    return 0
  }

  func setsid() throws(Errno) -> UInt32 {
    let all = ProcessTable.shared.all()
    try ProcessTable.shared.withTree { () throws(Errno) in
      if all.contains(where: { $0.tree.group == process.id }) { throw .notPermitted }
      process.tree.session = process.id
      process.tree.group = process.id
    }
    process.terminal.withLock { $0 = nil }
    return UInt32(bitPattern: process.id)
  }

  // MARK: Credentials

  func setuid() throws(Errno) -> UInt32 {
    try process.changeCredentials { who throws(Errno) in
      let old = who
      if who.has(.setUser) {
        (who.uid, who.euid, who.suid) = (a, a, a)
      } else if a == who.uid || a == who.suid {
        who.euid = a
      } else {
        throw .notPermitted
      }
      who.userChanged(from: old)
    }
    process.moveAccount()
    return 0
  }

  func setgid() throws(Errno) -> UInt32 {
    try process.changeCredentials { who throws(Errno) in
      if who.has(.setGroup) {
        (who.gid, who.egid, who.sgid) = (a, a, a)
      } else if a == who.gid || a == who.sgid {
        who.egid = a
      } else {
        throw .notPermitted
      }
      who.fsgid = who.egid
    }
    return 0
  }

  /// setresuid: .max leaves an id as it is.
  func setresuid(_ real: UInt32, _ effective: UInt32, _ saved: UInt32) throws(Errno) -> UInt32 {
    try process.changeCredentials { who throws(Errno) in
      let old = who
      if !who.has(.setUser) {
        for id in [real, effective, saved] where id != .max && id != who.uid && id != who.euid && id != who.suid {
          throw .notPermitted
        }
      }
      if real != .max { who.uid = real }
      if effective != .max { who.euid = effective }
      if saved != .max { who.suid = saved }
      who.userChanged(from: old)
    }
    process.moveAccount()
    return 0
  }

  func setresgid(_ real: UInt32, _ effective: UInt32, _ saved: UInt32) throws(Errno) -> UInt32 {
    try process.changeCredentials { who throws(Errno) in
      if !who.has(.setGroup) {
        for id in [real, effective, saved] where id != .max && id != who.gid && id != who.egid && id != who.sgid {
          throw .notPermitted
        }
      }
      if real != .max { who.gid = real }
      if effective != .max { who.egid = effective }
      if saved != .max { who.sgid = saved }
      who.fsgid = who.egid
    }
    return 0
  }

  func setreuid(_ real: UInt32, _ effective: UInt32) throws(Errno) -> UInt32 {
    let who = process.who
    let saved = real != .max || effective != .max && effective != who.uid ? (effective == .max ? who.euid : effective) : UInt32.max
    return try setresuid(real, effective, saved)
  }
  func setregid(_ real: UInt32, _ effective: UInt32) throws(Errno) -> UInt32 {
    let who = process.who
    let saved = real != .max || effective != .max && effective != who.gid ? (effective == .max ? who.egid : effective) : UInt32.max
    return try setresgid(real, effective, saved)
  }

  func store(_ x: UInt32, _ y: UInt32, _ z: UInt32) throws(Errno) -> UInt32 {
    try UserMemory.write32(x, to: a)
    try UserMemory.write32(y, to: b)
    try UserMemory.write32(z, to: c)
    return 0
  }

  func getgroups() throws(Errno) -> UInt32 {
    let groups = process.who.groups
    if a == 0 { return UInt32(groups.count) }
    if int(a) < groups.count { throw .invalidArgument }
    for (index, group) in groups.enumerated() { try UserMemory.write32(group, to: b &+ UInt32(index) * 4) }
    return UInt32(groups.count)
  }

  func setgroups() throws(Errno) -> UInt32 {
    try require(.setGroup)
    guard a <= 65536 else { throw .invalidArgument }
    var groups: [UInt32] = []
    for index in 0..<a { groups.append(try UserMemory.read32(b &+ index * 4)) }
    process.changeCredentials { $0.groups = groups }
    return 0
  }

  // MARK: Limits and the rest

  func getrlimit(wide: Bool) throws(Errno) -> UInt32 {
    guard a < 16 else { throw .invalidArgument }
    let index = Int(a)
    let limit = process.limits.withLock { $0[index] }
    try UserMemory.write32(limit.soft == .max ? .max : UInt32(clamping: limit.soft), to: b)
    try UserMemory.write32(limit.hard == .max ? .max : UInt32(clamping: limit.hard), to: b &+ 4)
    return 0
  }

  private func set(_ limit: ResourceLimit, _ index: Int, of target: Process) throws(Errno) {
    if limit.soft > limit.hard { throw .invalidArgument }
    let mayRaise = process.who.has(.resource)
    try target.limits.withLock { limits throws(Errno) in
      if limit.hard > limits[index].hard, !mayRaise { throw .notPermitted }
      limits[index] = limit
      if index == 1 { target.limitsFileSize.store(limit.soft != ResourceLimit.infinity, ordering: .relaxed) }
    }
    if index == 0 { target.limitProcessorTime(limit) }
    if index == 7 { target.descriptors.withLock { $0.limit = Int(clamping: min(limit.soft, 1_048_576)) } }
  }

  func setrlimit() throws(Errno) -> UInt32 {
    guard a < 16 else { throw .invalidArgument }
    let soft = try UserMemory.read32(b)
    let hard = try UserMemory.read32(b &+ 4)
    let limit = ResourceLimit(
      soft: soft == .max ? .max : UInt64(soft), hard: hard == .max ? .max : UInt64(hard))
    try set(limit, Int(a), of: process)
    return 0
  }

  func prlimit() throws(Errno) -> UInt32 {
    guard b < 16 else { throw .invalidArgument }
    let target = try find(a)
    let index = Int(b)
    let old = target.limits.withLock { $0[index] }
    if c != 0 {
      try set(ResourceLimit(soft: try UserMemory.read64(c), hard: try UserMemory.read64(c &+ 8)), index, of: target)
    }
    if d != 0 {
      try UserMemory.write64(old.soft, to: d)
      try UserMemory.write64(old.hard, to: d &+ 8)
    }
    return 0
  }

  func prctl() throws(Errno) -> UInt32 {
    switch a {
    case 15:  // PR_SET_NAME
      var name = [UInt8](repeating: 0, count: 16)
      for index in 0..<15 {
        var byte: [1 of UInt8] = [0]
        var span = byte.mutableSpan
        try UserMemory.read(b &+ UInt32(index), into: &span)
        if byte[0] == 0 { break }
        name[index] = byte[0]
      }
      let text = Array(name.prefix { $0 != 0 })
      task.name.withLock { $0 = text }
      return 0
    case 16:  // PR_GET_NAME
      var name = task.name.withLock { $0 }
      while name.count < 16 { name.append(0) }
      try UserMemory.write(name, 0..<16, to: b)
      return 0
    case 1:  // PR_SET_PDEATHSIG
      guard b <= 64 else { throw .invalidArgument }
      task.parentDeathSignal = UInt8(b)
      return 0
    case 2:
      try UserMemory.write32(UInt32(task.parentDeathSignal), to: b)
      return 0
    case 3: return 1  // PR_GET_DUMPABLE: always
    case 7, 8, 23, 24, 27, 28, 47: return try capabilityControl()
    case 30: return 50_000  // PR_GET_TIMERSLACK
    case 38:  // PR_SET_NO_NEW_PRIVS
      guard b == 1, c == 0, d == 0, e == 0 else { throw .invalidArgument }
      process.noNewPrivileges.store(true, ordering: .releasing)
      return 0
    case 39: return process.noNewPrivileges.load(ordering: .acquiring) ? 1 : 0
    case 40:  // PR_GET_TID_ADDRESS
      try UserMemory.write32(task.clearChildID, to: b)
      return 0
    case 36:  // PR_SET_CHILD_SUBREAPER
      ProcessTable.shared.withTree { process.tree.isSubreaper = b != 0 }
      return 0
    case 37:
      try UserMemory.write32(ProcessTable.shared.withTree { process.tree.isSubreaper } ? 1 : 0, to: b)
      return 0
    default: throw .invalidArgument
    }
  }

  /// `struct tms`: user, system, children's user, children's system; in hundredths of a second.
  func times() throws(Errno) -> UInt32 {
    if a != 0 {
      let (own, children) = (process.processorTime, process.childrenUse.withLock { $0 })
      for (index, value) in [own.user, own.system, children.time.user, children.time.system].enumerated() {
        try UserMemory.write32(UInt32(truncatingIfNeeded: value / 10_000_000), to: a &+ UInt32(index) * 4)
      }
    }
    return UInt32(truncatingIfNeeded: Clock.monotonic / 10_000_000)
  }

  func getrusage() throws(Errno) -> UInt32 {
    var use: ResourceUse
    switch int(a) {
    case 0: use = process.use
    case -1: use = process.childrenUse.withLock { $0 }
    case 1:
      use = Scheduler.use(of: task)
      use.peakPages = process.use.peakPages
    default: throw .invalidArgument
    }
    try putUsage(use, to: b)
    return 0
  }

  /// `struct rusage`: two times, and 14 numbers of which Linux, too, leaves those that it does not count at 0.
  private func putUsage(_ use: ResourceUse, to address: UInt32) throws(Errno) {
    var words: [18 of UInt32] = .init(repeating: 0)
    for (index, value) in [use.time.user, use.time.system].enumerated() {
      let (seconds, rest) = value.secondsAndNanoseconds
      words[index * 2] = seconds.halves.0
      words[index * 2 + 1] = rest / 1000
    }
    words[4] = UInt32(use.peakPages) * 4  // ru_maxrss, in KiB
    (words[8], words[9]) = (use.minorFaults, use.majorFaults)
    (words[11], words[12]) = (use.pagesRead &* 8, use.pagesDirtied &* 8)  // ru_inblock and ru_oublock, in 512 bytes
    (words[16], words[17]) = (use.voluntarySwitches, use.involuntarySwitches)
    try UserMemory.write(words: words, count: 18, to: address)
  }
}

/// Thread-local storage segments: GDT entries 22-24.
enum TLS {
  /// The entry number and descriptor that a `struct user_desc` asks for; entry -1 for "any".
  static func descriptor(at address: UInt32) throws(Errno) -> (Int32, UInt64) {
    let entry = Int32(bitPattern: try UserMemory.read32(address))
    let base = try UserMemory.read32(address &+ 4)
    let limit = try UserMemory.read32(address &+ 8)
    let flags = try UserMemory.read32(address &+ 12)
    guard entry == -1 || (22...24).contains(entry) else { throw .invalidArgument }
    // Empty: read_exec_only and not_present, or nothing at all.
    if flags == 0x28 || flags == 0, limit == 0, base == 0 { return (entry, 0) }
    // Data of 32 bits that is there, as on Linux: nothing else is of use for thread-local storage.
    guard flags & 1 != 0, flags >> 1 & 3 < 2, flags >> 5 & 1 == 0 else { throw .invalidArgument }
    let access: UInt64 = 0xF0 | (flags >> 3 & 1 == 0 ? 2 : 0) | (flags >> 1 & 1 != 0 ? 4 : 0)  // present, DPL 3
    var value = UInt64(limit & 0xFFFF) | UInt64(base & 0xFF_FFFF) << 16 | access << 40
    value |= UInt64(limit >> 16 & 0xF) << 48 | UInt64(base >> 24) << 56
    value |= UInt64(flags & 1) << 54 | UInt64(flags >> 4 & 1) << 55 | UInt64(flags >> 6 & 1) << 52
    return (entry, value)
  }

  /// The `struct user_desc` of a descriptor; an empty one is read_exec_only and not_present.
  static func description(_ entry: UInt32, _ value: UInt64) -> [UInt32] {
    if value == 0 { return [entry, 0, 0, 0x28] }
    let base = UInt32(truncatingIfNeeded: value >> 16 & 0xFF_FFFF | (value >> 56) << 24)
    let limit = UInt32(truncatingIfNeeded: value & 0xFFFF | (value >> 48 & 0xF) << 16)
    let access = UInt32(truncatingIfNeeded: value >> 40 & 0xFF)
    var flags = UInt32(truncatingIfNeeded: value >> 54 & 1) | (access >> 2 & 3) << 1 | (access >> 1 & 1 ^ 1) << 3
    flags |= UInt32(truncatingIfNeeded: value >> 55 & 1) << 4 | (access >> 7 ^ 1) << 5 | UInt32(truncatingIfNeeded: value >> 52 & 1) << 6
    return [entry, base, limit, flags]
  }

  static func set(_ entry: Int32, _ descriptor: UInt64, of task: Task) {
    switch entry {
    case 22: task.tls.0 = descriptor
    case 23: task.tls.1 = descriptor
    default: task.tls.2 = descriptor
    }
  }
}

extension Call {
  func setThreadArea() throws(Errno) -> UInt32 {
    var (entry, descriptor) = try TLS.descriptor(at: a)
    if entry == -1 {
      entry = task.tls.0 == 0 ? 22 : task.tls.1 == 0 ? 23 : task.tls.2 == 0 ? 24 : -1
      if entry == -1 { throw .noSuchProcess }
      try UserMemory.write32(UInt32(bitPattern: entry), to: a)
    }
    TLS.set(entry, descriptor, of: task)
    descriptor = 0
    task.reloadSegments()
    task.loadGS(task.currentGS)  // which may be of the entry that has changed
    return 0
  }
}
