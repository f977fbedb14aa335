import CMachine
import Machine
import Signals
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

extension Process {
  /// Whether a thread of this process has that id; the signal lock is not needed for a hint.
  func usesThreadID(_ id: Int32) -> Bool { signals.withLock { $0.threads.contains { $0.id == id } } }

  /// Sends a signal to the process, or one thread of it. Interrupt-safe; permission is the caller's business.
  /// False when as many are queued as may be. SPEC: getrlimit(2) RLIMIT_SIGPENDING.
  ///
  /// `isTimer`: of timers each queues one, and how many there are has its own limit. The code does not tell: programs may write it.
  @discardableResult public func send(_ information: SignalInformation, to target: Task? = nil, isTimer: Bool = false) -> Bool {
    let signal = information.signal
    let isLimited = signal.isRealTime && !isTimer
    if isLimited, !Frames.hasUnreserved(16) { return false }
    let limit = isLimited ? limits.withLock { $0[11].soft } : .max
    return post(information, signal, to: target, limit: limit)
  }

  private func post(_ information: SignalInformation, _ signal: Signal, to target: Task?, limit: UInt64) -> Bool {
    var wakes: [Task] = []
    var resumed = false
    var isLost = false
    signals.withLock { state in
      if signal == .resume || signal == .kill {
        if state.isStopped {
          state.isStopped = false
          resumed = true
        }
        state.pending.discard(.stops)
        for task in state.threads { task.pending.discard(.stops) }
      } else if SignalSet.stops.contains(signal) {
        state.pending.discard(.resume)
      }
      guard !state.ignores(signal, target) else { return }
      if limit != .max, UInt64(state.queuedSignals) >= limit {
        isLost = true
        return
      }
      if let target { target.pending.add(information) } else { state.pending.add(information) }
      for task in state.threads where target == nil || task === target {
        if task.blocked.contains(signal), signal != .kill { continue }
        task.interruptRequested.store(true, ordering: .releasing)
        wakes.append(task)
        if signal != .kill { break }  // any one thread takes it; the kill reaches all
      }
    }
    for task in wakes { task.interrupt() }
    signalEvent.wake()
    if resumed {
      resumeEvent.wake()
      ProcessTable.shared.withTree { tree.stopReport = 0xFFFF }
      notifyParentOfStop(code: 6)
    }
    return !isLost
  }

  /// Tells the parent that this process stopped or went on.
  func notifyParentOfStop(code: Int32) {
    let parent = ProcessTable.shared.withTree { tree.parent }
    guard let parent else { return }
    let silent = parent.signals.withLock { $0.actions[17].flags & SignalAction.noChildStop != 0 }
    if !silent {
      var information = SignalInformation(.child, code: code)
      information.sender = id
      parent.send(information)
    }
    parent.childEvent.wake()
  }
}

extension Process.Signals {
  /// How many wait for the process and its threads.
  var queuedSignals: Int { threads.reduce(pending.count) { $0 + $1.pending.count } }

  /// Whether a signal has no effect, so that it need not be kept.
  func ignores(_ signal: Signal, _ target: Task?) -> Bool {
    if signal == .kill || signal == .stop { return false }
    if threads.contains(where: { $0.isTraced.load(ordering: .relaxed) }) { return false }  // a tracer sees all
    if let target, target.blocked.contains(signal) { return false }
    if target == nil, threads.allSatisfy({ $0.blocked.contains(signal) }) { return false }
    let handler = actions[Int(signal.number)].handler
    return handler == SignalAction.ignore || handler == 0 && (signal.defaultAction == .ignore || signal.defaultAction == .resume)
  }
}

extension Task {
  /// Makes the thread look at its signals soon: ends an interruptible wait, or interrupts another CPU.
  func interrupt() {
    Scheduler.wake(self)
    if cpu != Processors.current { Interrupts.sendReschedule(to: cpu) }
  }

  /// The signals waiting to be delivered to this thread.
  public var deliverable: SignalSet {
    process.signals.withLock { $0.pending.set.union(pending.set).subtracting(blocked.subtracting(.unblockable)) }
  }

  /// Recomputes whether waits must end; called after the mask or the pending set changed.
  public func refreshInterruptRequest() {
    // Under the lock: who gives it something new to look at holds that, too.
    process.signals.withLock { state in
      let pending =
        !state.pending.set.union(self.pending.set).subtracting(blocked.subtracting(.unblockable)).isEmpty
        || isWanted(state)
      interruptRequested.store(pending, ordering: .releasing)
    }
  }

  /// Whether something other than a signal makes the thread go through its work before user mode.
  public var isWanted: Bool { process.signals.withLock { isWanted($0) } }
  private func isWanted(_ state: borrowing Process.Signals) -> Bool {
    state.isStopped || state.groupExit != nil || exitStatus != nil || traceStopWanted.load(ordering: .relaxed)
  }

  /// Replaces the mask and looks at what that lets through.
  public func setBlocked(_ mask: SignalSet) {
    process.signals.withLock { _ in blocked = mask.subtracting(.unblockable) }
    refreshInterruptRequest()
  }

  /// Everything that must happen before this thread goes back to user mode. Answers whether the thread ends.
  @inline(never) func handlePendingWork(_ frame: UserFrame) -> Bool {
    while true {
      if let status = exitStatus {
        stopAtExit(status, frame)
        return true
      }
      guard interruptRequested.load(ordering: .acquiring) else {
        finishRestart(frame, handler: nil)
        restoreMask()
        return false
      }
      interruptRequested.store(false, ordering: .releasing)
      if let status = process.signals.withLock({ $0.groupExit }) {
        exitStatus = status
        continue
      }
      if isTraced.load(ordering: .acquiring) { stopIfWanted(frame) }
      if process.signals.withLock({ $0.isStopped }) {
        if isTraced.load(ordering: .acquiring) { showGroupStop(process.signals.withLock { $0.stopSignal }, frame) }
        waitWhileStopped()
        continue
      }
      guard let (information, action) = takeSignal() else {
        continue
      }
      if isTraced.load(ordering: .acquiring), information.signal != .kill {
        guard let shown = showTracer(information, frame) else { continue }
        deliver(shown, process.signals.withLock { $0.actions[Int(shown.signal.number)] }, frame)
      } else {
        deliver(information, action, frame)
      }
    }
  }

  private func restoreMask() {
    guard let mask = savedMask else { return }
    savedMask = nil
    setBlocked(mask)
  }

  private func takeSignal() -> (SignalInformation, SignalAction)? {
    process.signals.withLock { state in
      let mask = blocked.subtracting(.unblockable)
      guard let information = pending.take(notIn: mask) ?? state.pending.take(notIn: mask) else { return nil }
      let action = state.actions[Int(information.signal.number)]
      if action.handler > 1, action.flags & SignalAction.resetHandler != 0 {
        state.actions[Int(information.signal.number)] = SignalAction()
      }
      // More may wait: look again after this one.
      interruptRequested.store(true, ordering: .releasing)
      return (information, action)
    }
  }

  private func deliver(_ information: SignalInformation, _ action: SignalAction, _ frame: UserFrame) {
    let signal = information.signal
    if action.handler > 1 {
      finishRestart(frame, handler: action)
      do throws(Errno) {
        try SignalFrame.push(information, action, frame, self)
      } catch {
        terminateGroup(status: 11)  // no room for the frame: SIGSEGV
      }
      return
    }
    if action.handler == SignalAction.ignore, signal != .kill, signal != .stop { return }
    switch signal.defaultAction {
    case .ignore, .resume: return
    case .stop:
      if signal != .stop, process.isOrphanedGroup { return }
      stopGroup(signal)
    case .terminate, .core:
      if process.id == 1, signal != .kill || true, process.tree.parent == nil, information.code <= 0 { return }
      terminateGroup(status: UInt32(signal.number) | (signal.defaultAction == .core ? 0x80 : 0))
    }
  }

  /// Ends every thread of the process with a wait status.
  public func terminateGroup(status: UInt32) {
    let others: [Task] = process.signals.withLock { state in
      if state.groupExit == nil { state.groupExit = status }
      for task in state.threads { task.interruptRequested.store(true, ordering: .releasing) }
      return state.threads
    }
    for task in others where task !== self { task.interrupt() }
    process.resumeEvent.wake()
    exitStatus = process.signals.withLock { $0.groupExit }
  }

  private func stopGroup(_ signal: Signal) {
    let others: [Task] = process.signals.withLock { state in
      state.isStopped = true
      state.stopSignal = UInt32(signal.number)
      for task in state.threads { task.interruptRequested.store(true, ordering: .releasing) }
      return state.threads
    }
    for task in others where task !== self { task.interrupt() }
    // A parent that traces it hears from every thread instead.
    let tellsParent = ProcessTable.shared.withTree {
      if let parent = process.tree.parent, parent.tree.tracees.contains(where: { $0.process === process }) { return false }
      process.tree.stopReport = UInt32(signal.number) << 8 | 0x7F
      return true
    }
    if tellsParent { process.notifyParentOfStop(code: 5) }
  }

  private func waitWhileStopped() {
    let _: Bool? = try? process.resumeEvent.wait(interruptible: false, reason: "stopped") {
      process.signals.withLock { !$0.isStopped || $0.groupExit != nil || $0.pending.set.contains(.kill) } ? true : nil
    }
    interruptRequested.store(true, ordering: .releasing)
  }

  /// What becomes of a system call that a signal interrupted: the internal restart codes never reach a program.
  /// SPEC: signal(7) "Interruption of system calls and library functions by signal handlers".
  private func finishRestart(_ frame: UserFrame, handler: SignalAction?) {
    guard frame.vector == 0x80, frame.originalEAX != .max, !skipRestart else {
      skipRestart = false
      return
    }
    let result = Int32(bitPattern: frame.eax)
    guard result >= -514 && result <= -512 else { return }
    let restarts = handler == nil || result == -513 || result == -512 && handler!.flags & SignalAction.restart != 0
    if restarts {
      frame.eax = frame.originalEAX
      frame.eip &-= 2
    } else {
      frame.eax = UInt32(bitPattern: -Errno.interrupted.rawValue)
      sleepDeadline = nil
    }
  }
}

extension Process {
  /// Whether nobody outside the group but in its session could resume it. SPEC: POSIX.1-2024 §3.235.
  public var inOrphanedGroup: Bool { isOrphanedGroup }

  var isOrphanedGroup: Bool {
    let all = ProcessTable.shared.all()
    return ProcessTable.shared.withTree {
      for member in all where member.tree.group == tree.group && member.tree.exit == .running {
        if let parent = member.tree.parent, parent.tree.group != tree.group, parent.tree.session == tree.session {
          return false
        }
      }
      return true
    }
  }
}

/// Sends to every member of a group; false when there is none.
@discardableResult public func sendToGroup(_ group: Int32, _ information: SignalInformation) -> Bool {
  ProcessTable.shared.forEach({ $0.tree.group == group }) { $0.send(information) } > 0
}
