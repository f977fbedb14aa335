import Processes
import Signals
import Sync
import SystemABI
import Threads

/// What a directory of /proc is about: a process, or, below `task`, one of its threads.
struct Subject {
  let process: Process
  /// Nil for the process as a whole.
  let thread: Task?

  /// The thread that stands for the process.
  var leader: Task? { thread ?? process.leader }
  var id: Int32 { thread?.id ?? process.id }
  var name: [UInt8] { thread?.name.withLock { $0 } ?? process.name }
  var startTime: UInt64 { thread?.startTime ?? process.startTime }

  var use: ResourceUse {
    guard let thread else { return process.use }
    return Scheduler.use(of: thread)
  }

  /// Its state's letter and name: running, sleeping, stopped by a signal or a tracer, ended. SPEC: proc_pid_status(5).
  var state: (letter: UInt8, name: StaticString) {
    if ProcessTable.shared.withTree({ process.tree.exit != .running }) { return (90, "zombie") }
    guard let leader else { return (88, "dead") }
    if ProcessTable.shared.withTree({ leader.tracing?.stop != nil }) { return (116, "tracing stop") }
    if process.signals.withLock({ $0.isStopped }) { return (84, "stopped") }
    return leader.isRunnable ? (82, "running") : (83, "sleeping")
  }

  /// Whether the caller may know what is in its memory, and where. SPEC: ptrace(2) "Ptrace access mode checking".
  var isOpenToCaller: Bool { process.mayBeInspected(by: Task.currentTask.process) }
  func checkAccess() throws(Errno) {
    if !isOpenToCaller { throw .permissionDenied }
  }
}
