import CMachine
import Machine
import Primitives
import Signals
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// `clone` flags. SPEC: clone(2).
public enum CloneFlags {
  public static let memory: UInt32 = 0x100
  public static let fileSystem: UInt32 = 0x200
  public static let files: UInt32 = 0x400
  public static let signalHandlers: UInt32 = 0x800
  public static let processFile: UInt32 = 0x1000
  public static let vfork: UInt32 = 0x4000
  public static let parent: UInt32 = 0x8000
  public static let thread: UInt32 = 0x10000
  public static let setTLS: UInt32 = 0x80000
  public static let parentSetID: UInt32 = 0x100000
  public static let childClearID: UInt32 = 0x200000
  public static let childSetID: UInt32 = 0x1000000
  /// CLONE_NEWNS and its like; there is one of each here.
  public static let namespaces: UInt32 = 0x7E02_0000
}

extension Process {
  /// The first process: no parent, the given root.
  @export(interface) public static func makeFirst(root: Path) throws(Errno) -> Task {
    let id = ProcessTable.shared.allocateID()
    let context = FileContext(paths: PathContext(root: root, directory: root, credentials: Credentials()))
    let process = Process(
      id: id, space: try AddressSpace.make(), files: context, tree: TreeSlot(group: id, session: id))
    process.alarm.process = id
    let task = Task(process, id: id, try ThreadMemory.allocate(user: true))
    process.signals.withLock { $0.threads.append(task) }
    _ = ProcessTable.shared.add(process)
    return task
  }

  /// fork: a child with copies of everything. The child's thread is not started yet.
  public func fork(from parent: Task, shareMemory: Bool, exitSignal: UInt8) throws(Errno) -> Task {
    guard let space else { throw .noMemory }
    try PageCache.admit()
    let childSpace = shareMemory ? space : try space.fork()
    let id = ProcessTable.shared.allocateID()
    let context = files.withLock { FileContext(paths: $0.paths, umask: $0.umask) }
    let (group, session) = ProcessTable.shared.withTree { (tree.group, tree.session) }
    let child = Process(id: id, space: childSpace, files: context, tree: TreeSlot(group: group, session: session))
    do throws(Errno) { try child.countThread(for: self) } catch {
      child.leaveFiles()
      throw error
    }
    do throws(Errno) { return try complete(child, from: parent, exitSignal) } catch {
      child.uncountThread()
      child.abandon()
      throw error
    }
  }

  /// Undoes what has been made of a child that will not be.
  private func abandon() {
    leaveFiles()
    let open = descriptors.withLock { $0.takeAll(onlyCloseOnExec: false) }
    for description in open { release(description) }
    signals.withLock { $0.threads = [] }  // which refers to the process, too
  }

  /// The rest of fork: what may fail comes first, and then the child is there.
  private func complete(_ child: Process, from parent: Task, _ exitSignal: UInt8) throws(Errno) -> Task {
    let id = child.id
    child.alarm.process = id
    child.oomScoreAdjustment.store(oomScoreAdjustment.load(ordering: .relaxed), ordering: .relaxed)
    child.personality.store(personality.load(ordering: .relaxed), ordering: .relaxed)
    child.noNewPrivileges.store(noNewPrivileges.load(ordering: .relaxed), ordering: .relaxed)
    child.tree.exitSignal = exitSignal
    let task = Task(child, id: id, try ThreadMemory.allocate(user: true))
    task.inheritMachineState(from: parent)
    task.inheritScheduling(from: parent)
    task.ioPriority.store(parent.ioPriority.load(ordering: .relaxed), ordering: .relaxed)
    task.inheritName(from: parent)
    task.blocked = parent.blocked
    task.alternateStack = parent.alternateStack
    let actions = signals.withLock { $0.actions }
    child.signals.withLock {
      $0.actions = actions
      $0.threads.append(task)
    }
    var copy = Optional(descriptors.withLock { $0.copy() })
    child.descriptors.withLock { $0 = copy.take()! }
    let terminal = self.terminal.withLock { $0 }
    child.terminal.withLock { $0 = terminal }
    let image = executable.withLock { $0 }
    image.path?.pin()
    child.executable.withLock { $0 = image }
    let limits = self.limits.withLock { $0 }
    child.limits.withLock { $0 = limits }
    if limits[0].soft != ResourceLimit.infinity || limits[0].hard != ResourceLimit.infinity { child.limitProcessorTime(limits[0]) }
    child.limitsFileSize.store(limits[1].soft != ResourceLimit.infinity, ordering: .relaxed)
    guard ProcessTable.shared.add(child, childOf: self, by: parent) else { throw .restartAlways }
    return task
  }

  /// Adds a thread to this process (CLONE_THREAD).
  public func addThread(from parent: Task) throws(Errno) -> Task {
    try PageCache.admit()
    try countThread(for: self)
    do throws(Errno) { return try newThread(from: parent) } catch {
      uncountThread()
      throw error
    }
  }

  private func newThread(from parent: Task) throws(Errno) -> Task {
    let task = Task(self, id: ProcessTable.shared.allocateID(), try ThreadMemory.allocate(user: true))
    task.inheritMachineState(from: parent)
    task.inheritScheduling(from: parent)
    task.ioPriority.store(parent.ioPriority.load(ordering: .relaxed), ordering: .relaxed)
    task.inheritName(from: parent)
    task.blocked = parent.blocked
    let dying = signals.withLock { state in
      if state.groupExit != nil { return true }
      state.threads.append(task)
      return false
    }
    if dying { throw .wouldBlock }
    return task
  }
}

extension Task {
  /// The end of a thread, on its own kernel stack: gives back everything but the stack.
  @inline(never) func finish() {
    let status = process.statusAtEnd(of: self)
    Futex.releaseRobustList(of: self)
    PriorityFutex.release(ownedBy: self)
    if clearChildID != 0 {
      let address = clearChildID
      clearChildID = 0
      if (try? UserMemory.write32(0, to: address)) != nil { Futex.wake(address, 1, in: process) }
    }
    // That was the last use of user memory. Off its tables before this thread leaves the list: once it has, the process may
    // end, or execute a program, and the tables die. A parent that learns of the end finds the memory free.
    Scheduler.activate(pageTable: 0)
    let used = Scheduler.use(of: self)
    let last = process.signals.withLock { state in
      state.endedUse += used
      state.threads.removeAll { $0 === self }
      if id == process.id { state.endedLeader = self }
      return state.threads.isEmpty
    }
    // The leader's tracer hears of the end of the process.
    if id != process.id { endTracing(status: status, isProcess: false) }
    guard last else {
      process.uncountThread()
      return process.childEvent.wake()  // an execve waits to be alone
    }
    process.closeEverything()
    process.endTracingOthers()
    let final = process.signals.withLock { $0.groupExit } ?? status
    process.takeEndedLeader()?.endTracing(status: final, isProcess: true)
    process.finish(status: final, by: self, counted: used.time)
  }
}

extension Process {
  /// The status of a thread that begins to end: that of the group, which the last one to begin gives it if nobody has.
  func statusAtEnd(of task: Task) -> UInt32 {
    signals.withLock { state in
      let own = task.exitStatus ?? 0
      if state.groupExit == nil, !state.threads.contains(where: { $0 !== task && $0.exitStatus == nil }) { state.groupExit = own }
      return state.groupExit ?? own
    }
  }

  /// The leader, if it has ended before others.
  func takeEndedLeader() -> Task? {
    signals.withLock { state in
      let leader = state.endedLeader
      state.endedLeader = nil
      return leader
    }
  }

  /// The last thread is gone: files, session, children.
  func closeEverything() {
    alarm.set(due: nil, interval: 0)
    deleteTimers()
    let open = descriptors.withLock { $0.takeAll(onlyCloseOnExec: false) }
    for description in open { release(description) }
    leaveFiles()
    let handlers = exitHandlers.withLock { list in
      let all = list
      list = []
      return all
    }
    for handler in handlers { handler.processEnded(self) }
    endSession()
    reparentChildren()
  }

  /// The very end: memory, then the news for the parent.
  func finish(status: UInt32, by last: Task, counted: ProcessorTime) {
    _ = replaceSpace(nil)
    let used = Scheduler.time(of: last)
    signals.withLock { $0.endedUse.time += used - counted }
    signalVforkParent()
    becomeZombie(status)
  }

  public func signalVforkParent() {
    vforkDone.store(true, ordering: .releasing)
    vforkEvent.wake()
  }

  /// Ends its use of root, working directory and program.
  private func leaveFiles() {
    let paths = pathContext
    paths.root.unpin()
    paths.directory.unpin()
    let program = executable.withLock { slot in
      let old = slot.path
      slot.path = nil
      return old
    }
    program?.unpin()
  }

  private func endSession() {
    let isLeader = ProcessTable.shared.withTree { tree.session == id }
    let terminal = self.terminal.withLock { slot in
      let old = slot
      slot = nil
      return old
    }
    if isLeader { terminal?.sessionEnded(id) }
  }

  /// Children go to the nearest subreaper, else to process 1.
  private func reparentChildren() {
    guard let first = ProcessTable.shared.find(1), first !== self else { return }
    var wake = false
    var orphans: [Process] = []
    ProcessTable.shared.withTree {
      var heir = first
      var ancestor = tree.parent
      while let candidate = ancestor {
        if candidate.tree.isSubreaper, candidate.tree.exit == .running {
          heir = candidate
          break
        }
        ancestor = candidate.tree.parent
      }
      orphans = tree.children
      tree.children = []
      for child in orphans {
        child.tree.parent = heir
        heir.tree.children.append(child)
        if child.tree.exit != .running { wake = true }
      }
    }
    if wake { first.childEvent.wake() }
    for child in orphans {
      for task in child.signals.withLock({ $0.threads }) where task.parentDeathSignal != 0 {
        child.send(SignalInformation(Signal(task.parentDeathSignal), code: 0))
      }
    }
    hangUpOrphanedGroups(orphans)
  }

  /// A stopped group that just lost its last outside parent gets SIGHUP and SIGCONT. SPEC: POSIX.1-2024 _exit().
  private func hangUpOrphanedGroups(_ children: [Process]) {
    for child in children where child.signals.withLock({ $0.isStopped }) && child.isOrphanedGroup {
      let group = child.tree.group
      sendToGroup(group, SignalInformation(.hangUp, code: 128))
      sendToGroup(group, SignalInformation(.resume, code: 128))
    }
  }

  private func becomeZombie(_ status: UInt32) {
    var parent: Process?
    var signal: UInt8 = 0
    ProcessTable.shared.withTree {
      parent = tree.parent
      signal = tree.exitSignal
      tree.exit = .zombie(status)
    }
    endEvent.wake()
    guard let parent else {
      Panic.stop("process 1 ended with status \(status)")
    }
    // A parent that ignores SIGCHLD leaves no zombies. SPEC: POSIX.1-2024 _exit() consequences.
    let ignoring =
      signal == 17
      && parent.signals.withLock { state in
        state.actions[17].handler == SignalAction.ignore || state.actions[17].flags & SignalAction.noChildWait != 0
      }
    if ignoring { reap(by: parent, counted: false) }
    if (1...64).contains(signal) {  // clone takes any number
      var information = SignalInformation(Signal(signal), code: status & 0x7F != 0 ? 2 : 1)
      information.sender = id
      information.senderUser = who.uid
      information.value = status & 0x7F != 0 ? status & 0x7F : status >> 8
      parent.send(information)
    }
    parent.childEvent.wake()
  }

  /// Removes a zombie from the table and its parent. Only a child that was waited for counts in its parent's times.
  func reap(by parent: Process, counted: Bool = true) {
    let mine = ProcessTable.shared.withTree {
      guard case .zombie = tree.exit else { return false }
      tree.exit = .reaped
      // Not `parent`: it may have ended meanwhile, and left it to another.
      tree.parent?.tree.children.removeAll { $0 === self }
      tree.parent = nil
      return true
    }
    guard mine else { return }
    if counted {
      let all = use + childrenUse.withLock { $0 }
      parent.childrenUse.withLock { $0 += all }
    }
    ProcessTable.shared.remove(self)
    uncountThread()
  }

  /// What `wait` looks for.
  public enum WaitTarget {
    case any
    case process(Int32)
    case group(Int32)

    func includes(_ child: Int32, _ group: Int32) -> Bool {
      switch self {
      case .any: true
      case .process(let id): child == id
      case .group(let id): group == id
      }
    }
  }
  public struct WaitResult {
    public var id: Int32
    public var status: UInt32
    public var user: UInt32
    public var use: ResourceUse
    /// News of a thread that is traced: nothing to reap.
    var isTraced = false
  }

  /// Waits for a child. SPEC: POSIX.1-2024 waitpid(), Linux wait4(2), waitid(2).
  /// - Returns: nil with `noHang` and nothing to report.
  public func wait(
    _ target: WaitTarget, noHang: Bool, exited: Bool = true, stopped: Bool, continued: Bool, keep: Bool = false
  ) throws(Errno) -> WaitResult? {
    do throws(Errno) {
      return try childEvent.wait(reason: "wait") { () -> WaitResult?? in
        switch look(target, exited, stopped, continued, keep) {
        case .found(let result): return .some(.some(result))
        case .noChild: return .some(WaitResult(id: 0, status: 0, user: 0, use: .init()))
        case .nothingYet: return noHang ? .some(nil) : nil
        }
      }.map { result throws(Errno) -> WaitResult in
        if result.id == 0 { throw .noChildProcess }
        if result.isTraced {
          var result = result
          let thread = ProcessTable.shared.withTree { tree.tracees.first { $0.id == result.id } }
          if let thread { result.use = Scheduler.use(of: thread) }
          return result
        }
        var result = result
        guard let child = ProcessTable.shared.find(result.id) else { return result }
        result.user = child.who.uid
        result.use = child.use + child.childrenUse.withLock { $0 }
        if result.status & 0xFF != 0x7F, result.status != 0xFFFF, !keep { child.reap(by: self) }
        return result
      }
    } catch { throw error == .interrupted ? .restart : error }
  }

  private enum Finding {
    case found(WaitResult)
    case noChild
    case nothingYet
  }

  private func look(_ target: WaitTarget, _ exited: Bool, _ stopped: Bool, _ continued: Bool, _ keep: Bool) -> Finding {
    ProcessTable.shared.withTree {
      var candidates = false
      // Threads before the process that they were of.
      if let index = tree.tracedEnds.firstIndex(where: { target.includes($0.id, $0.group) }) {
        if exited {
          let end = keep ? tree.tracedEnds[index] : tree.tracedEnds.remove(at: index)
          return .found(WaitResult(id: end.id, status: end.status, user: 0, use: .init(), isTraced: true))
        }
        candidates = true
      }
      for child in tree.children {
        guard target.includes(child.id, child.tree.group) else { continue }
        candidates = true
        if exited, case .zombie(let status) = child.tree.exit {
          return .found(WaitResult(id: child.id, status: status, user: 0, use: .init()))
        }
        if let report = child.tree.stopReport, report == 0xFFFF ? continued : stopped {
          if !keep { child.tree.stopReport = nil }
          return .found(WaitResult(id: child.id, status: report, user: 0, use: .init()))
        }
      }
      for task in tree.tracees where target.includes(task.id, task.process.tree.group) {
        candidates = true
        if let tracing = task.tracing, let stop = tracing.stop, !tracing.isReported {
          if !keep { tracing.isReported = true }
          return .found(WaitResult(id: task.id, status: stop, user: 0, use: .init(), isTraced: true))
        }
      }
      return candidates ? .nothingYet : .noChild
    }
  }
}
