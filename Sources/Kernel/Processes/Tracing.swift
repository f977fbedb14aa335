import Machine
import Signals
import Sync
import Synchronization
import SystemABI
import Threads

/// What a debugger wants to know of. SPEC: ptrace(2).
public enum TraceOptions {
  public static let markCalls: UInt32 = 1
  public static let fork: UInt32 = 2
  public static let vfork: UInt32 = 4
  public static let clone: UInt32 = 8
  public static let execute: UInt32 = 0x10
  public static let vforkDone: UInt32 = 0x20
  public static let exit: UInt32 = 0x40
  public static let killAtEnd: UInt32 = 0x10_0000
  public static let all: UInt32 = 0x10_007F
}

/// Events that a stop is about, in bits 16 and up of its wait status.
public enum TraceEvent: UInt32 {
  case fork = 1
  case vfork, clone, execute, vforkDone, exit
  case stop = 128
}

/// What a debugger has to do with one thread. The process table's lock guards all of it.
public final class Tracing {
  public let tracer: Process
  /// Attached by PTRACE_SEIZE: stops are told apart, and none is made with a SIGSTOP.
  public let isSeized: Bool
  public var options: UInt32
  /// The wait status of the stop that the thread is in; nil while it runs.
  public internal(set) var stop: UInt32?
  var isReported = false
  /// The thread's registers, while it is stopped.
  public internal(set) var frame: UserFrame?
  /// What the signal was, when it stopped for one; a tracer may change it.
  public var information: SignalInformation?
  /// For PTRACE_GETEVENTMSG.
  public internal(set) var message: UInt32 = 0
  /// What the thread goes on with.
  var signal: UInt8 = 0
  var isStepping = false
  /// Stays in its group's stop until SIGCONT comes (PTRACE_LISTEN).
  var isListening = false
  let event = WaitQueue()

  init(_ tracer: Process, seized: Bool, options: UInt32) {
    self.tracer = tracer
    isSeized = seized
    self.options = options
  }
}

// MARK: The thread that is traced

extension Task {
  /// Stops until the tracer lets it go on, and answers the signal that it is to take then, 0 for none.
  /// One that is `ending` is past all that could kill it, but for another SIGKILL.
  func stopForTracer(
    _ status: UInt32, _ information: SignalInformation?, _ frame: UserFrame, message: UInt32 = 0, ending: Bool = false
  ) -> UInt8 {
    if isBeingKilled(ending) { return 0 }
    let found: Tracing? = ProcessTable.shared.withTree {
      guard let tracing else { return nil }
      tracing.stop = status
      tracing.isReported = false
      tracing.information = information
      tracing.message = message
      tracing.signal = 0
      if tracing.isStepping { frame.registers.eflags &= ~0x100 }
      tracing.isStepping = false
      tracing.frame = frame
      return tracing
    }
    guard let tracing = found else { return information?.signal.number ?? 0 }
    tracing.tracer.hearOf(self, code: 4, status: status >> 8 & 0x7F)
    let _: Bool? = try? tracing.event.wait(interruptible: false, reason: "traced") {
      ProcessTable.shared.withTree { tracing.stop == nil } || isBeingKilled(ending) ? true : nil
    }
    return ProcessTable.shared.withTree {
      tracing.stop = nil
      tracing.frame = nil
      return tracing.signal
    }
  }

  private var isBeingKilled: Bool { isBeingKilled(false) }
  private func isBeingKilled(_ ending: Bool) -> Bool {
    process.signals.withLock { !ending && $0.groupExit != nil || $0.pending.set.contains(.kill) || pending.set.contains(.kill) }
  }

  /// A stop before or after a system call. Answers false when the thread is to die instead.
  public func stopAtCall(_ frame: UserFrame) -> Bool {
    let options = ProcessTable.shared.withTree { tracing?.options ?? 0 }
    let status = 0x057F | (options & TraceOptions.markCalls != 0 ? 0x8000 : 0)
    let signal = stopForTracer(UInt32(status), nil, frame)
    if signal != 0 { process.send(SignalInformation(Signal(signal)), to: self) }
    return !isBeingKilled
  }

  /// Tells the tracer of something, if it asked for that.
  public func stopAt(_ event: TraceEvent, _ option: UInt32, message: UInt32, _ frame: UserFrame) {
    guard ProcessTable.shared.withTree({ tracing.map { $0.options & option != 0 } ?? false }) else { return }
    let signal = stopForTracer(0x057F | event.rawValue << 16, nil, frame, message: message)
    if signal != 0 { process.send(SignalInformation(Signal(signal)), to: self) }
  }

  /// The last stop, with the wait status to come.
  func stopAtExit(_ status: UInt32, _ frame: UserFrame) {
    guard isTraced.load(ordering: .acquiring),
      ProcessTable.shared.withTree({ (tracing?.options ?? 0) & TraceOptions.exit != 0 })
    else { return }
    _ = stopForTracer(0x057F | TraceEvent.exit.rawValue << 16, nil, frame, message: status, ending: true)
  }

  /// After an execve: the event, or the SIGTRAP of old.
  /// - Parameter formerID: Its number before that of the process.
  func tellTracerOfProgram(_ frame: UserFrame, formerID: Int32) {
    guard isTraced.load(ordering: .relaxed) else { return }
    let (event, seized) = ProcessTable.shared.withTree {
      ((tracing?.options ?? 0) & TraceOptions.execute != 0, tracing?.isSeized ?? true)
    }
    if event {
      stopAt(.execute, TraceOptions.execute, message: UInt32(bitPattern: formerID), frame)
    } else if !seized {
      process.send(SignalInformation(.trap), to: self)
    }
  }

  /// Lets the tracer see a signal first. Answers what is to be delivered in its place, if anything.
  func showTracer(_ information: SignalInformation, _ frame: UserFrame) -> SignalInformation? {
    let signal = stopForTracer(UInt32(information.signal.number) << 8 | 0x7F, information, frame)
    if signal == 0 || isBeingKilled { return nil }
    if signal == information.signal.number { return ProcessTable.shared.withTree { tracing?.information } ?? information }
    var other = SignalInformation(Signal(signal))
    other.sender = process.id
    return other
  }

  /// The stop that PTRACE_INTERRUPT, or the start of a seized thread, asks for.
  func stopIfWanted(_ frame: UserFrame) {
    guard traceStopWanted.exchange(false, ordering: .acquiringAndReleasing) else { return }
    _ = stopForTracer(0x057F | TraceEvent.stop.rawValue << 16, nil, frame)
  }

  /// In a stop of the whole group: the tracer is told, and decides whether the thread stays.
  func showGroupStop(_ signal: UInt32, _ frame: UserFrame) {
    let (seized, listening) = ProcessTable.shared.withTree { (tracing?.isSeized ?? false, tracing?.isListening ?? true) }
    if listening { return }
    _ = stopForTracer(signal << 8 | 0x7F | (seized ? TraceEvent.stop.rawValue << 16 : 0), nil, frame)
    if ProcessTable.shared.withTree({ !(tracing?.isListening ?? true) }) { process.signals.withLock { $0.isStopped = false } }
  }

  /// A new thread or process of a traced one is traced too, from its first instruction on.
  public func inheritTracing(from parent: Task) {
    let seized: Bool? = ProcessTable.shared.withTree {
      guard let theirs = parent.tracing else { return nil }
      beTraced(Tracing(theirs.tracer, seized: theirs.isSeized, options: theirs.options))
      traceStopWanted.store(theirs.isSeized, ordering: .relaxed)
      return theirs.isSeized
    }
    guard let seized else { return }
    process.signals.withLock { _ in
      if !seized { pending.add(SignalInformation(.stop)) }
      interruptRequested.store(true, ordering: .releasing)
    }
  }

  /// The table's lock is held.
  private func beTraced(_ new: Tracing) {
    tracing = new
    isTraced.store(true, ordering: .releasing)
    new.tracer.tree.tracees.append(self)
  }

  /// The thread ends, or the process with its leader: its tracer learns of it, unless it is the parent, who learns of the process.
  func endTracing(status: UInt32, isProcess: Bool) {
    guard isTraced.load(ordering: .acquiring) else { return }
    let tracer: Process? = ProcessTable.shared.withTree {
      guard let tracing else { return nil }
      let slot = tracing.tracer.tree
      slot.tracees.removeAll { $0 === self }
      if !(isProcess && process.tree.parent === tracing.tracer) { slot.tracedEnds.append((id, process.tree.group, status)) }
      self.tracing = nil
      return tracing.tracer
    }
    tracer?.hearOf(self, code: 1, status: status)
  }

  /// Another thread executes a program, and has this one's number from now on.
  func endTracingUnheard() { ProcessTable.shared.withTree { tracing?.tracer.letGo(self) } }
}

// MARK: The tracer

extension Process {
  /// SIGCHLD, and an end to waits.
  func hearOf(_ task: Task, code: Int32, status: UInt32) {
    let silent = signals.withLock { $0.actions[17].flags & SignalAction.noChildStop != 0 }
    if !silent {
      var information = SignalInformation(.child, code: code)
      information.sender = task.id
      information.value = status
      send(information)
    }
    childEvent.wake()
  }

  /// Makes this process the tracer of a thread. Throws `notPermitted` when it has one.
  public func trace(_ task: Task, seized: Bool, options: UInt32) throws(Errno) {
    try ProcessTable.shared.withTree { () throws(Errno) in
      guard task.tracing == nil, task.process !== self, tree.exit == .running else { throw .notPermitted }
      task.tracing = Tracing(self, seized: seized, options: options)
      task.isTraced.store(true, ordering: .releasing)
      tree.tracees.append(task)
    }
  }

  /// The thread with a number, if this process traces it and it is stopped.
  public func stoppedTracee(_ id: Int32) throws(Errno) -> (Task, Tracing, UserFrame) {
    let found: (Task, Tracing, UserFrame)? = ProcessTable.shared.withTree {
      guard let task = tree.tracees.first(where: { $0.id == id }), let tracing = task.tracing, tracing.stop != nil,
        let frame = tracing.frame
      else { return nil }
      return (task, tracing, frame)
    }
    guard let found else { throw .noSuchProcess }
    Scheduler.waitUntilOff(found.0)
    return found
  }

  public func tracee(_ id: Int32) throws(Errno) -> Task {
    guard let task = ProcessTable.shared.withTree({ tree.tracees.first { $0.id == id } }) else { throw .noSuchProcess }
    return task
  }

  /// Lets a stopped thread go on.
  public func resume(_ task: Task, signal: UInt8, calls: Bool, step: Bool, detach: Bool = false) {
    let tracing: Tracing? = ProcessTable.shared.withTree {
      guard let tracing = task.tracing, tracing.stop != nil, let frame = tracing.frame else { return nil }
      task.callsAreTraced = calls
      tracing.isStepping = step
      tracing.isListening = false
      if step { frame.registers.eflags |= 0x100 }
      tracing.signal = signal
      tracing.stop = nil
      if detach { letGo(task) }
      return tracing
    }
    tracing?.event.wake()
  }

  /// PTRACE_LISTEN: it stays in the stop of its group.
  public func listen(_ task: Task) {
    let tracing: Tracing? = ProcessTable.shared.withTree {
      guard let tracing = task.tracing, tracing.stop != nil else { return nil }
      tracing.isListening = true
      tracing.stop = nil
      return tracing
    }
    tracing?.event.wake()
  }

  /// PTRACE_INTERRUPT.
  public func interruptTracee(_ task: Task) {
    task.process.signals.withLock { _ in
      task.traceStopWanted.store(true, ordering: .relaxed)
      task.interruptRequested.store(true, ordering: .releasing)
    }
    task.interrupt()
  }

  /// The table's lock is held.
  fileprivate func letGo(_ task: Task) {
    task.tracing = nil
    task.isTraced.store(false, ordering: .releasing)
    task.callsAreTraced = false
    tree.tracees.removeAll { $0 === task }
  }

  /// The tracer ends: who it traced goes on without it, or ends too.
  func endTracingOthers() {
    while true {
      let found: (Task, Tracing)? = ProcessTable.shared.withTree {
        guard let task = tree.tracees.last, let tracing = task.tracing else { return nil }
        tracing.stop = nil
        letGo(task)
        return (task, tracing)
      }
      guard let (task, tracing) = found else { break }
      if tracing.options & TraceOptions.killAtEnd != 0 { task.process.send(SignalInformation(.kill, code: 128)) }
      tracing.event.wake()
    }
    ProcessTable.shared.withTree { tree.tracedEnds = [] }
  }
}
