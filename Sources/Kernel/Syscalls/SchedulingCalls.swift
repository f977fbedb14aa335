import Machine
import Primitives
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// Priorities, policies and CPUs. SPEC: sched(7), sched_setscheduler(2), sched_setaffinity(2), nice(2).
extension Call {
  /// The thread that a call names; 0 is the caller. Throws `noSuchProcess`, `invalidArgument` for what cannot be a thread's number.
  func thread(_ id: UInt32) throws(Errno) -> Task {
    if int(id) < 0 { throw .invalidArgument }
    return try existingThread(id)
  }

  private func existingThread(_ id: UInt32) throws(Errno) -> Task {
    if id == 0 || int(id) == task.id { return task }
    guard let found = ProcessTable.shared.thread(int(id)) else { throw .noSuchProcess }
    return found
  }

  /// Throws `notPermitted` unless the caller may change the scheduling of `other`.
  private func checkOwner(_ other: Task) throws(Errno) {
    let (me, owner) = (process.who, other.process.who)
    if !me.has(.nice), me.euid != owner.uid, me.euid != owner.euid { throw .notPermitted }
  }

  func schedGetscheduler() throws(Errno) -> UInt32 {
    let thread = try thread(a)
    return thread.policy.rawValue | (thread.resetOnFork ? 0x4000_0000 : 0)
  }

  func schedGetparam() throws(Errno) -> UInt32 {
    try UserMemory.write32(UInt32(result: try thread(a).realtimePriority), to: b)
    return 0
  }

  /// sched_setscheduler; `policy` nil keeps the thread's own (sched_setparam).
  func schedSet(_ id: UInt32, policy number: UInt32?, _ parameter: UInt32) throws(Errno) -> UInt32 {
    let priority = int(try UserMemory.read32(parameter))
    let thread = try thread(id)
    let wanted = number.map { $0 & ~0x4000_0000 } ?? thread.policy.rawValue
    guard let policy = SchedulingPolicy(rawValue: wanted) else { throw .invalidArgument }
    try apply(thread, policy, Int(priority), resetOnFork: number.map { $0 & 0x4000_0000 != 0 } ?? thread.resetOnFork)
    return 0
  }

  private func apply(_ thread: Task, _ policy: SchedulingPolicy, _ priority: Int, resetOnFork: Bool) throws(Errno) {
    guard policy.isRealtime ? (1...99).contains(priority) : priority == 0 else { throw .invalidArgument }
    try checkOwner(thread)
    if policy.isRealtime, !process.who.has(.nice) {
      let limit = thread.process.limits.withLock { $0[14].soft }
      if UInt64(priority) > limit, policy != thread.policy || priority > thread.realtimePriority { throw .notPermitted }
    }
    thread.resetOnFork = resetOnFork
    Scheduler.set(thread, policy: policy, priority: priority)
    PriorityFutex.priorityChanged(of: thread)
  }

  func schedPriorityLimit(maximum: Bool) throws(Errno) -> UInt32 {
    guard let policy = SchedulingPolicy(rawValue: a) else { throw .invalidArgument }
    return policy.isRealtime ? (maximum ? 99 : 1) : 0
  }

  func schedRrGetInterval(wide: Bool) throws(Errno) -> UInt32 {
    let thread = try thread(a)
    try putTimespec(thread.policy == .fifo ? 0 : 10_000_000, to: b, wide: wide)
    return 0
  }

  func schedSetaffinity() throws(Errno) -> UInt32 {
    let thread = try existingThread(a)
    try checkOwner(thread)
    guard b > 0 else { throw .invalidArgument }
    var buffer = IOBuffer(c, Int(min(b, 4)))
    let bytes = try buffer.takeBytes(limit: 4)
    var mask: UInt32 = 0
    for (index, byte) in bytes.enumerated() { mask |= UInt32(byte) << UInt32(index * 8) }
    try Scheduler.set(thread, affinity: mask)
    return 0
  }

  func schedGetaffinity() throws(Errno) -> UInt32 {
    guard b >= 4, b & 3 == 0 else { throw .invalidArgument }
    try UserMemory.write32(try existingThread(a).affinity & Processors.mask, to: c)
    return 4
  }

  /// `struct sched_attr`, 48 bytes of it: size, policy, flags (64), nice, priority, and deadlines that are not ours.
  func schedSetattr() throws(Errno) -> UInt32 {
    if c != 0 { throw .invalidArgument }
    let size = try UserMemory.read32(b)
    guard size == 0 || size >= 48 else { throw .invalidArgument }
    guard let policy = SchedulingPolicy(rawValue: try UserMemory.read32(b &+ 4)) else { throw .invalidArgument }
    let flags = try UserMemory.read64(b &+ 8)
    let nice = int(try UserMemory.read32(b &+ 16))
    let priority = int(try UserMemory.read32(b &+ 20))
    guard flags & ~1 == 0, (-20...19).contains(nice) else { throw .invalidArgument }
    let thread = try thread(a)
    if !policy.isRealtime, Int(nice) < thread.baseLevel - 20, !mayTake(Int(nice)) { throw .notPermitted }
    try apply(thread, policy, Int(priority), resetOnFork: flags & 1 != 0)
    if !policy.isRealtime { Scheduler.set(thread, nice: Int(nice)) }
    return 0
  }

  func schedGetattr() throws(Errno) -> UInt32 {
    guard c >= 48, d == 0 else { throw .invalidArgument }
    let thread = try thread(a)
    var words: [12 of UInt32] = .init(repeating: 0)
    words[0] = 48
    words[1] = thread.policy.rawValue
    words[2] = thread.resetOnFork ? 1 : 0
    if thread.policy.isRealtime {
      words[5] = UInt32(result: thread.realtimePriority)
    } else {
      words[4] = UInt32(bitPattern: Int32(thread.baseLevel - 20))
    }
    try UserMemory.write(words: words, count: 12, to: b)
    return 0
  }
}
