import Machine
import Processes
import Signals
import Sync
import SystemABI
import Terminal
import Threads
import VFS

/// Whose terminal it is. SPEC: POSIX.1-2024 §11.1.2 to 11.1.4.
extension TerminalDevice {
  /// Takes the terminal from a session, which is told.
  final func release(_ session: Int32) {
    let group: Int32 = state.withLock { state in
      guard state.session == session else { return 0 }
      let group = state.foreground
      state.session = 0
      state.foreground = 0
      return group
    }
    forget(session: session)
    if group > 0 {
      sendToGroup(group, SignalInformation(.hangUp, code: 128))
      sendToGroup(group, SignalInformation(.resume, code: 128))
    }
  }

  private func forget(session: Int32) {
    for process in ProcessTable.shared.all() where ProcessTable.shared.withTree({ process.tree.session == session }) {
      process.terminal.withLock { if $0 === self { $0 = nil } }
    }
  }

  /// Makes this the controlling terminal of the caller's session if it may be. SPEC: POSIX.1-2024 §11.1.3.
  final func adopt(steal: Bool) throws(Errno) {
    let process = Task.currentTask.process
    let (isLeader, session, group) = ProcessTable.shared.withTree {
      (process.tree.session == process.id, process.tree.session, process.tree.group)
    }
    guard isLeader else { throw .notPermitted }
    if process.terminal.withLock({ $0 != nil && $0 !== self }) { throw .notPermitted }
    let old = try state.withLock { state throws(Errno) in
      let old = state.session
      if old == session { return old }
      if old != 0, !steal { throw .notPermitted }
      state.session = session
      state.foreground = group
      return old
    }
    if old != 0, old != session { forget(session: old) }
    process.terminal.withLock { $0 = self }
  }

  /// An open by a session's leader that has no terminal makes this one its own, but for O_NOCTTY.
  final func adoptIfFree(_ flags: UInt32) {
    if flags & OpenFlags.noControllingTerminal == 0 {
      let taken = state.withLock { $0.session != 0 }
      if !taken, Task.currentTask.process.terminal.withLock({ $0 == nil }) { try? adopt(steal: false) }
    }
  }

  /// Whatever has it open finds its end, and its session is told. SPEC: tty_ioctl(4), TIOCVHANGUP; vhangup(2).
  final func cutOff(forEver: Bool) {
    let session = state.withLock { state in
      cut(&state)
      if forEver { state.isGone = true }
      return state.session
    }
    isCutOff()
    guard session > 0 else { return }
    release(session)
    if let leader = ProcessTable.shared.find(session) {
      leader.send(SignalInformation(.hangUp, code: 128))
      leader.send(SignalInformation(.resume, code: 128))
    }
  }

  /// Interrupt-safe: what has it open finds its end, and the session's leader is told. When that one ends, the session has no
  /// terminal any more. SPEC: POSIX.1-2024 §11.1.10.
  final func carrierLost() {
    let session = state.withLock { state in
      cut(&state)
      return state.session
    }
    isCutOff()
    guard session > 0, let leader = ProcessTable.shared.find(session) else { return }
    leader.send(SignalInformation(.hangUp, code: 128))
    leader.send(SignalInformation(.resume, code: 128))
  }

  /// Stops a background process that touches its terminal. SPEC: POSIX.1-2024 §11.1.4.
  final func checkForeground(_ signal: Signal) throws(Errno) {
    let task = Task.currentTask
    let process = task.process
    let foreground = state.withLock { $0.foreground }
    guard foreground != 0, process.terminal.withLock({ $0 === self }) else { return }
    let group = ProcessTable.shared.withTree { process.tree.group }
    if group == foreground { return }
    let ignored = process.signals.withLock {
      $0.actions[Int(signal.number)].handler == SignalAction.ignore || task.blocked.contains(signal)
    }
    if ignored {
      if signal == .terminalOutput { return }
      throw .ioError
    }
    if process.inOrphanedGroup { throw .ioError }
    sendToGroup(group, SignalInformation(signal, code: 128))
    throw .restart
  }
}
