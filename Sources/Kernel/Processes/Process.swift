import Machine
import Primitives
import Signals
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

public struct ProcessTreeRank: LockRank { public static let level: UInt8 = 50 }
public struct ProcessRank: LockRank { public static let level: UInt8 = 55 }
public struct SignalRank: LockRank { public static let level: UInt8 = 80 }

/// One signal's disposition. SPEC: sigaction(2), i386 `struct sigaction`.
public struct SignalAction {
  public static let ignore: UInt32 = 1
  public static let noChildStop: UInt32 = 1
  public static let noChildWait: UInt32 = 2
  public static let wantsInformation: UInt32 = 4
  public static let hasRestorer: UInt32 = 0x0400_0000
  public static let onStack: UInt32 = 0x0800_0000
  public static let restart: UInt32 = 0x1000_0000
  public static let noDefer: UInt32 = 0x4000_0000
  public static let resetHandler: UInt32 = 0x8000_0000
  public var handler: UInt32 = 0
  public var flags: UInt32 = 0
  public var restorer: UInt32 = 0
  public var mask = SignalSet()
  public init() {}
}

/// A terminal as processes see it: something sessions own.
open class ControllingTerminal {
  public init() {}
  /// The session died or gave the terminal up.
  open func sessionEnded(_ session: Int32) {}
  /// Cuts off whatever has it open. SPEC: vhangup(2).
  open func hangUp() {}
  /// Device number for /proc/pid/stat.
  open var deviceNumber: DeviceNumber { DeviceNumber(rawValue: 0) }
  open var foregroundGroup: Int32 { 0 }
}

/// A process: an address space, descriptors, credentials, signal dispositions, and one or more threads.
public final class Process {
  public enum ExitState: Equatable {
    case running
    /// The wait status, as wait4 returns it.
    case zombie(UInt32)
    case reaped
  }
  public struct Signals: ~Copyable {
    public var actions: [SignalAction] = Array(repeating: SignalAction(), count: 65)
    public var pending = PendingSignals()
    public var isStopped = false
    /// What stopped it last.
    var stopSignal: UInt32 = 19
    /// Set when the whole group must exit with this wait status.
    public var groupExit: UInt32?
    public var threads: [Task] = []
    /// The thread that has the process's number, after its end.
    var endedLeader: Task?
    /// What threads that ended used: a thread leaves the list and joins this sum in one step.
    var endedUse = ResourceUse()
  }
  public struct FileContext: ~Copyable {
    /// With the credentials of all that the process does.
    public var paths: PathContext
    public var umask: UInt32 = 0o22
  }

  public let id: Int32
  /// Its place in the process table's list; under the table's lock.
  var tableIndex = 0
  /// How many had been added with it; under the table's lock.
  var serial: UInt32 = 0
  public let tree: TreeSlot
  public let signals: InterruptSpinLock<Signals, SignalRank>
  public let descriptors = SpinLock<DescriptorTable, ProcessRank>(DescriptorTable())
  public let files: SpinLock<FileContext, ProcessRank>
  private let spaceSlot: SpinLock<AddressSpace?, ProcessRank>
  public let terminal = SpinLock<ControllingTerminal?, ProcessRank>(nil)
  /// The program's file, for /proc/pid/exe; and its name, for ps.
  public let executable = SpinLock<(path: Path?, name: [UInt8]), ProcessRank>((nil, []))
  public let limits = SpinLock<[ResourceLimit], ProcessRank>(ResourceLimit.defaults)
  /// Whether there is one on the size of files: few processes have one, and every write asks.
  public let limitsFileSize = Atomic<Bool>(false)
  /// Parents wait here for their children; stopped threads for SIGCONT; vfork parents for the child.
  public let childEvent = WaitQueue()
  public let resumeEvent = WaitQueue()
  /// Woken when it has ended: polls of its descriptors.
  public let endEvent = WaitQueue()
  /// Woken whenever a signal becomes pending: readers of signalfd.
  public let signalEvent = WaitQueue()
  public let vforkDone = Atomic<Bool>(false)
  public let vforkEvent = WaitQueue()
  public let startTime: UInt64
  /// What children that were waited for used, with theirs.
  public let childrenUse = SpinLock<ResourceUse, ProcessRank>(.init())

  /// What all its threads used so far.
  public var use: ResourceUse {
    var (threads, sum) = signals.withLock { ($0.threads, $0.endedUse) }
    for thread in threads { sum += Scheduler.use(of: thread) }
    if let space { sum.peakPages = max(sum.peakPages, space.table.peakPages) }
    return sum
  }
  public var processorTime: ProcessorTime {
    var (threads, sum) = signals.withLock { ($0.threads, $0.endedUse.time) }
    for thread in threads { sum += Scheduler.time(of: thread) }
    return sum
  }
  public let alarm: AlarmTimer
  let processorTimers = SpinLock<ProcessorTimers, ProcessRank>(.init())
  /// Whether timer interrupts have to look at them.
  let watchesProcessorTime = Atomic<Bool>(false)
  let exitHandlers = SpinLock<[any ExitHandler], ProcessRank>([])
  public let personality = Atomic<UInt32>(0)
  /// Programs it executes gain nothing from set-user-id bits. SPEC: prctl(2) PR_SET_NO_NEW_PRIVS.
  public let noNewPrivileges = Atomic<Bool>(false)
  /// /proc/PID/oom_score_adj: -1000 never killed for memory, 1000 first.
  public let oomScoreAdjustment = Atomic<Int32>(0)
  /// Whose threads its threads count as, and how many there are.
  let account: SpinLock<ThreadCounts.User, LeafRank>
  let countedThreads = Atomic<Int>(0)
  /// POSIX timers by id.
  public let timers = SpinLock<[PosixTimer?], ProcessRank>([])

  init(id: Int32, space: AddressSpace?, files context: consuming FileContext, tree slot: TreeSlot) {
    self.id = id
    tree = slot
    signals = InterruptSpinLock(Signals())
    context.paths.root.pin()
    context.paths.directory.pin()
    account = SpinLock(ThreadCounts.user(context.paths.credentials.uid))
    files = SpinLock(context)
    spaceSlot = SpinLock(space)
    startTime = Clock.monotonic
    alarm = AlarmTimer()
  }

  public var space: AddressSpace? { spaceSlot.withLock { $0 } }
  /// Replaces the address space; the old one comes back so that it dies outside the lock.
  public func replaceSpace(_ space: AddressSpace?) -> AddressSpace? {
    if let old = self.space {
      let peak = old.table.peakPages
      signals.withLock { $0.endedUse.peakPages = max($0.endedUse.peakPages, peak) }
    }
    return spaceSlot.withLock { slot in
      let old = slot
      slot = space
      return old
    }
  }

  /// Its first thread's, or the program's when that has ended.
  public var name: [UInt8] { leader?.name.withLock { $0 } ?? executable.withLock { $0.name } }
  /// The thread with the process's number, while it lives; else another.
  public var leader: Task? { signals.withLock { state in state.threads.first { $0.id == id } ?? state.threads.first } }
  public var who: Credentials { pathContext.credentials }

  /// Who may look into it: the same user in all respects, or the superuser. SPEC: ptrace(2) "Ptrace access mode checking".
  public func mayBeInspected(by process: Process) -> Bool {
    let (me, other) = (process.who, who)
    if me.has(.trace) || process === self { return true }
    return [other.uid, other.euid, other.suid].allSatisfy { $0 == me.uid }
      && [other.gid, other.egid, other.sgid].allSatisfy { $0 == me.gid }
  }

  public var pathContext: PathContext { files.withLock { $0.paths } }

  /// Changes what paths are resolved with, all at once, or not if that fails. `change` is called with a lock held.
  public func changePaths<Failure: Error>(_ change: (PathContext) throws(Failure) -> PathContext) throws(Failure) {
    // What has been goes outside the lock.
    var old: PathContext?
    try files.withLock { files throws(Failure) in
      let new = try change(files.paths)
      old = files.paths
      files.paths = new
    }
    _ = old
  }

  public func changeCredentials<Result, Failure: Error>(
    _ change: (inout Credentials) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    var result: Result?
    try changePaths { paths throws(Failure) in
      var who = paths.credentials
      result = try change(&who)
      return paths.with(credentials: who)
    }
    return result!
  }

  /// Works in another directory from now on, which is pinned for it.
  public func changeDirectory(to path: Path) {
    path.pin()
    var old = path
    changePaths { paths in
      old = paths.directory
      return paths.with(directory: path)
    }
    old.unpin()
  }

  public func changeRoot(to path: Path) {
    path.pin()
    var old = path
    changePaths { paths in
      old = paths.root
      return paths.with(root: path)
    }
    old.unpin()
  }

  /// Who has the old root for a root or a working directory has the new one from now on.
  public func leaveRoot(_ old: Path, for new: Path) {
    var count = 0
    changePaths { paths in
      let (root, directory) = (paths.root.isSame(as: old), paths.directory.isSame(as: old))
      count = (root ? 1 : 0) + (directory ? 1 : 0)
      return count == 0 ? paths : paths.with(root: root ? new : nil, directory: directory ? new : nil)
    }
    for _ in 0..<count {
      new.pin()
      old.unpinLater()
    }
  }

  public func description(_ number: Int32) throws(Errno) -> FileDescription {
    guard let description = descriptors.withLock({ $0[number] }) else { throw .badFileDescriptor }
    return description
  }

  public func install(_ description: FileDescription, closeOnExec: Bool, minimum: Int = 0) throws(Errno) -> Int32 {
    try descriptors.withLock { table throws(Errno) in
      try table.add(description, closeOnExec: closeOnExec, minimum: minimum)
    }
  }

  public func close(_ number: Int32) throws(Errno) {
    guard let old = descriptors.withLock({ $0.remove(number) }) else { throw .badFileDescriptor }
    release(old)
  }

  /// Ends a descriptor's use of an open file. Any close of a file gives up the process's record locks on it.
  /// SPEC: POSIX.1-2024 close(), fcntl().
  public func release(_ description: FileDescription) {
    description.inode?.lockingIfAny?.unlock(.record, owner: UInt64(id))
    description.drop()
  }
}

/// Something that must know when a process has ended: it gives back what the process still holds of it.
public protocol ExitHandler: AnyObject {
  /// Called once by the dying process; may sleep.
  func processEnded(_ process: Process)
}

extension Process {
  /// Tells `handler` of this process's end, once.
  public func addExitHandler(_ handler: any ExitHandler) {
    exitHandlers.withLock { list in if !list.contains(where: { $0 === handler }) { list.append(handler) } }
  }
}

/// The part of a process the tree lock guards.
public final class TreeSlot {
  public var parent: Process? {
    didSet { parentID.store(parent?.id ?? 0, ordering: .relaxed) }
  }
  /// The parent's id, readable without the tree lock.
  public let parentID = Atomic<Int32>(0)
  public var children: [Process] = []
  public var group: Int32
  public var session: Int32
  public var exit = Process.ExitState.running
  public var stopReport: UInt32?
  public var exitSignal: UInt8 = 17
  public var isSubreaper = false
  public var hasExecuted = false
  /// Threads that this process traces, and those that ended: id, group and wait status.
  var tracees: [Task] = []
  var tracedEnds: [(id: Int32, group: Int32, status: UInt32)] = []
  init(group: Int32, session: Int32) {
    self.group = group
    self.session = session
  }
}

/// `struct rlimit`, soft and hard; .max is infinity. SPEC: getrlimit(2).
public struct ResourceLimit {
  public var soft: UInt64
  public var hard: UInt64
  public static var infinity: UInt64 { .max }
  public init(soft: UInt64, hard: UInt64) {
    self.soft = soft
    self.hard = hard
  }
  /// Indexed by resource number 0-15.
  static var defaults: [ResourceLimit] {
    var all = Array(repeating: ResourceLimit(soft: infinity, hard: infinity), count: 16)
    all[3] = ResourceLimit(soft: 8 << 20, hard: infinity)  // stack
    all[4] = ResourceLimit(soft: 0, hard: infinity)  // core
    all[7] = ResourceLimit(soft: 1024, hard: 1_048_576)  // descriptors
    let threads = UInt64(ThreadCounts.limit / 2)
    all[6] = ResourceLimit(soft: threads, hard: threads)  // processes
    all[8] = ResourceLimit(soft: 64 << 10, hard: 64 << 10)  // locked memory
    all[11] = ResourceLimit(soft: 2048, hard: 2048)
    all[12] = ResourceLimit(soft: 819200, hard: 819200)
    all[13] = ResourceLimit(soft: 0, hard: 0)
    all[14] = ResourceLimit(soft: 0, hard: 0)
    return all
  }
}

/// SIGALRM after a while: alarm(), setitimer(ITIMER_REAL).
public final class AlarmTimer: PeriodicTimer {
  public var process: Int32 = 0
  override public func expire(_ times: UInt64) {
    if let process = ProcessTable.shared.find(process) { process.send(SignalInformation(.alarm, code: 128)) }
  }
}

/// A user thread.
extension Process {
  /// Its thread of a number.
  public func thread(_ id: Int32) -> Task? { signals.withLock { $0.threads.first { $0.id == id } } }
}

public final class Task: Thread {
  override public var keepsSetID: Bool { process.who.has(.keepSetID) }
  override public var fileSizeLimit: UInt64 {
    process.limitsFileSize.load(ordering: .relaxed) ? process.limits.withLock { $0[1].soft } : .max
  }
  override public func exceededFileSize() { process.send(SignalInformation(.fileSize), to: self) }

  /// A timer interrupt came since the last look at the process's timers.
  private var hasTicked = false
  override public func tick() {
    guard process.watchesProcessorTime.load(ordering: .relaxed) else { return }
    hasTicked = true
    needsAttention = true
  }
  func takeTick() -> Bool {
    defer { hasTicked = false }
    return hasTicked
  }

  public let process: Process
  /// As ioprio_set takes it: a class and a level.
  public let ioPriority = Atomic<UInt32>(0)
  /// Its own, as PR_SET_NAME sets it: up to 15 bytes.
  public let name = SpinLock<[UInt8], ProcessRank>([])
  public let startTime = Clock.monotonic
  /// The process's number for its first thread, and for one that has executed a program in its place.
  public internal(set) var id: Int32
  /// Guarded by the process's signal lock.
  public var blocked = SignalSet()
  public var pending = PendingSignals()
  /// A mask to put back once a signal has been delivered (sigsuspend, ppoll).
  public var savedMask: SignalSet?
  public var alternateStack = AlternateStack()
  public var clearChildID: UInt32 = 0
  public var robustList: UInt32 = 0
  /// The locks in user memory that it holds and others want, and the one it waits for; under `PriorityFutex`'s mutex.
  var priorityLocks: [PriorityFutex.Lock] = []
  var waitsForLock: PriorityFutex.Lock?
  /// It is ending and can own no more of them.
  var hasLeftLocks = false
  /// Sent to this process when the thread's parent ends; 0 for none.
  public var parentDeathSignal: UInt8 = 0
  /// Set by exit: the thread ends on its way out of the kernel.
  public var exitStatus: UInt32?
  /// When a sleep that a stop interrupted was to end: the restarted call goes on with it.
  public var sleepDeadline: Deadline?
  /// Something besides signals waits for the way out: an exit, a mask to restore, a call to restart.
  public var needsAttention = false
  /// Set by sigreturn and execve: the registers are not a system call's to restart.
  public var skipRestart = false

  /// Under the process table's lock, and a hint of it for who does not hold that.
  public internal(set) var tracing: Tracing?
  public let isTraced = Atomic<Bool>(false)
  /// A stop is wanted that no signal makes.
  let traceStopWanted = Atomic<Bool>(false)
  /// Stops before and after each system call; written while the thread is stopped.
  public var callsAreTraced = false

  func inheritName(from parent: Task) {
    let text = parent.name.withLock { $0 }
    name.withLock { $0 = text }
  }

  /// Process 1's start, run in place of a return from the kernel.
  var launch: (() -> Void)?

  init(_ process: Process, id: Int32, _ memory: ThreadMemory) {
    self.process = process
    self.id = id
    super.init(memory)
    pageTable = process.space?.table.physicalAddress ?? 0
  }

  @inlinable public static var currentTask: Task { Thread.current(as: Task.self) }
}

/// All processes and their family ties.
public final class ProcessTable {
  private static let cell = BootCell<ProcessTable>()
  public static var shared: ProcessTable { cell.value }
  public static func start() {
    ThreadCounts.start()
    OutOfMemory.start()
    cell.set(ProcessTable())
  }

  struct State: ~Copyable {
    /// By id: all of them, so that nothing grows under the lock.
    var byID: [Process?] = Array(repeating: nil, count: Int(maximumID))
    /// In no order; each process knows its place.
    var live: [Process] = []
    var lastID: Int32 = 0
    /// Processes ever added.
    var added: UInt32 = 0
    /// Ids have been used up once: from now on look before reusing one.
    var wrapped = false
  }
  private let state = InterruptSpinLock<State, ProcessTreeRank>(State())
  public static var maximumID: Int32 { 32768 }
  /// Processes ever made, for /proc/stat.
  public let forkCount = Atomic<UInt32>(0)

  /// Whether nobody holds the table's lock; for a debugger.
  public var isFree: Bool { state.isFree }

  /// Runs `body` with the family ties locked. It must not sleep.
  public func withTree<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    try state.withLock { _ throws(Failure) in try body() }
  }

  /// A number no process, group or session uses; ids of threads come from here too.
  public func allocateID() -> Int32 {
    state.withLock { state in
      while true {
        state.lastID += 1
        if state.lastID >= Self.maximumID {
          state.lastID = 300
          state.wrapped = true
        }
        let id = state.lastID
        if !state.wrapped || !Self.isUsed(state, id) { return id }
      }
    }
  }

  private static func isUsed(_ state: borrowing State, _ id: Int32) -> Bool {
    if state.byID[Int(id)] != nil { return true }
    for process in state.live where process.tree.group == id || process.tree.session == id || process.usesThreadID(id) { return true }
    return false
  }

  /// Adds a process to the table, and to its parent's family. Answers false, with nothing done, when a signal waits for the
  /// forking thread: what is sent to a whole group must not miss a child that is being made.
  func add(_ process: Process, childOf parent: Process? = nil, by thread: Task? = nil) -> Bool {
    let added = state.withLock { state in
      if let thread, thread.interruptRequested.load(ordering: .acquiring) { return false }
      if let parent {
        process.tree.parent = parent
        parent.tree.children.append(process)
      }
      state.added += 1
      process.serial = state.added
      state.byID[Int(process.id)] = process
      process.tableIndex = state.live.count
      state.live.append(process)
      return true
    }
    if added { forkCount.wrappingAdd(1, ordering: .relaxed) }
    return added
  }

  /// Does something with every process, zombies too, that `condition`, asked under the table's lock, is true of; their number.
  ///
  /// Those that were made meanwhile have their turn too: after all others had theirs, so that a signal has stopped who
  /// makes them.
  @discardableResult public func forEach(_ condition: (Process) -> Bool, _ body: (Process) -> Void) -> Int {
    var total = 0
    var seen: UInt32 = 0
    for _ in 0..<8 {
      let (found, last) = take(after: seen, condition)
      if found.isEmpty { break }
      for process in found { body(process) }
      total += found.count
      seen = last
    }
    return total
  }

  /// Processes added after number `seen` that a condition is true of, and the number of the last one added.
  private func take(after seen: UInt32, _ condition: (Process) -> Bool) -> ([Process], UInt32) {
    while true {
      var found: [Process] = []
      // Room first: nothing grows under the lock.
      found.reserveCapacity(count + 16)
      let last: UInt32? = state.withLock { state in
        for process in state.live where process.serial > seen && condition(process) {
          if found.count == found.capacity { return nil }
          found.append(process)
        }
        return state.added
      }
      if let last { return (found, last) }
    }
  }

  func remove(_ process: Process) {
    let removed: Process? = state.withLock { state in
      let old = state.byID[Int(process.id)]
      state.byID[Int(process.id)] = nil
      let last = state.live.removeLast()
      if last !== process {
        state.live[process.tableIndex] = last
        last.tableIndex = process.tableIndex
      }
      return old
    }
    _ = removed
  }

  public func find(_ id: Int32) -> Process? {
    state.withLock { state in
      id > 0 && id < Self.maximumID ? state.byID[Int(id)] : nil
    }
  }

  /// The thread of a number, in whatever process.
  public func thread(_ id: Int32) -> Task? {
    // Most are their process's first.
    if let found = find(id)?.thread(id) { return found }
    for process in all() {
      if let found = process.thread(id) { return found }
    }
    return nil
  }

  public var count: Int { state.withLock { $0.live.count } }

  /// All processes by id.
  public func all() -> [Process] {
    let list = state.withLock { $0.live }
    return list.sorted { $0.id < $1.id }
  }
}
