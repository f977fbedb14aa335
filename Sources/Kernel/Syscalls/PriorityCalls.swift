import Processes
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// Nice values and priorities of input and output: each thread has its own.
extension Call {
  private enum Target: UInt32 { case thread, group, user }

  /// What the calls name: a thread, or all threads of a group's or a user's processes; 0 is the caller or its own.
  private func targets(_ target: Target?, _ id: UInt32) throws(Errno) -> [Task] {
    var found: [Process]
    switch target {
    case .thread:
      guard let thread = id == 0 ? task : ProcessTable.shared.thread(int(id)) else { throw .noSuchProcess }
      return [thread]
    case .group:
      let group = id == 0 ? ProcessTable.shared.withTree { process.tree.group } : int(id)
      found = ProcessTable.shared.all().filter { other in ProcessTable.shared.withTree { other.tree.group == group } }
    case .user:
      let user = id == 0 ? process.who.uid : id
      found = ProcessTable.shared.all().filter { $0.who.uid == user }
    case nil: throw .invalidArgument
    }
    let threads = found.flatMap { process in process.signals.withLock { $0.threads } }
    if threads.isEmpty { throw .noSuchProcess }
    return threads
  }

  /// The most favourable nice value of the targets, as 20 - nice. SPEC: getpriority(2).
  func getpriority() throws(Errno) -> UInt32 {
    UInt32(40 - (try targets(Target(rawValue: a), b).map({ $0.baseLevel }).min() ?? 39))
  }

  func setpriority() throws(Errno) -> UInt32 {
    let nice = Int(max(-20, min(19, int(c))))
    let me = process.who
    for thread in try targets(Target(rawValue: a), b) {
      let owner = thread.process.who
      if !me.has(.nice), me.euid != owner.uid, me.euid != owner.euid { throw .notPermitted }
      if nice < thread.baseLevel - 20, !mayTake(nice) { throw .permissionDenied }
      Scheduler.set(thread, nice: nice)
    }
    return 0
  }

  func nice() throws(Errno) -> UInt32 {
    let value = max(-20, min(19, task.baseLevel - 20 + Int(max(-40, min(40, int(a))))))
    if value < task.baseLevel - 20, !mayTake(value) { throw .notPermitted }
    Scheduler.set(task, nice: value)
    return 0
  }

  /// Whether a nice value may go down to this. SPEC: getrlimit(2) RLIMIT_NICE.
  func mayTake(_ nice: Int) -> Bool {
    process.who.has(.nice) || UInt64(20 - nice) <= process.limits.withLock { $0[13].soft }
  }

  /// IOPRIO_WHO_PROCESS is 1, and so on. A class in bits 13…, a level below. SPEC: ioprio_set(2).
  private func inputOutputTargets() throws(Errno) -> [Task] {
    try targets(a == 0 ? nil : Target(rawValue: a - 1), b)
  }

  /// Disks here take requests in the order in which they come, as Linux's do without a scheduler; what is set can be read back,
  /// and a thread's children have it.
  func ioprioSet() throws(Errno) -> UInt32 {
    let (kind, level) = (c >> 13, c & 0x1FFF)
    let me = process.who
    switch kind {
    case 0: guard level == 0 else { throw .invalidArgument }
    case 1:
      guard me.has(.administrate) || me.has(.nice) else { throw .notPermitted }
      guard level < 8 else { throw .invalidArgument }
    case 2: guard level < 8 else { throw .invalidArgument }
    case 3: break
    default: throw .invalidArgument
    }
    for thread in try inputOutputTargets() {
      let owner = thread.process.who
      guard owner.uid == me.euid || owner.uid == me.uid || me.has(.nice) else { throw .notPermitted }
      thread.ioPriority.store(c, ordering: .relaxed)
    }
    return 0
  }

  /// The best of the targets'. That of one thread is as it was set; without one, several count by their nice values.
  func ioprioGet() throws(Errno) -> UInt32 {
    let threads = try inputOutputTargets()
    if a == 1 { return threads[0].ioPriority.load(ordering: .relaxed) }
    return threads.map { thread in
      let own = thread.ioPriority.load(ordering: .relaxed)
      return own >> 13 == 0 ? 2 << 13 | UInt32(thread.baseLevel / 5) : own
    }.min() ?? 0
  }
}
