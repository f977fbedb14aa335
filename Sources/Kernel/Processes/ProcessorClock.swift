import Sync
import Synchronization
import SystemABI
import Threads

/// A clock that goes while a process, or one of its threads, runs.
///
/// SPEC: clock_getres(2), clock_getcpuclockid(3), pthread_getcpuclockid(3). The number of such a clock is ~id << 3, with 4 for
/// a thread's, and what it counts: 0 all (profiling), 1 time in user mode, 2 all.
public struct ProcessorClock: Sendable {
  let process: Int32
  let thread: Int32?
  private let isVirtual: Bool

  /// CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, or a number made of an id. `invalidArgument` for whose clock a thread
  /// may not have: another process's thread's, or nobody's. To be read, the clock of a process may be named by the caller's
  /// own thread, too.
  public init(_ number: UInt32, of task: Task, reading: Bool = false) throws(Errno) {
    let value = Int32(bitPattern: number)
    guard number == 2 || number == 3 || value < 0 && number & 3 != 3 else { throw .invalidArgument }
    let id = value < 0 ? ~(value >> 3) : 0
    isVirtual = value < 0 && number & 3 == 1
    if value < 0 ? number & 4 != 0 : number == 3 {
      guard id == 0 || task.process.thread(id) != nil else { throw .invalidArgument }
      (process, thread) = (task.process.id, id == 0 ? task.id : id)
    } else {
      let isOwn = id == 0 || reading && id == task.id
      guard isOwn || ProcessTable.shared.find(id) != nil else { throw .invalidArgument }
      (process, thread) = (isOwn ? task.process.id : id, nil)
    }
  }

  public func isOfThread(_ task: Task) -> Bool { thread == task.id }

  /// In nanoseconds; nil when whose clock it is has ended.
  public var time: UInt64? { ProcessTable.shared.find(process).flatMap { time(in: $0) } }

  func time(in owner: Process) -> UInt64? {
    let time: ProcessorTime
    if let thread {
      guard let task = owner.thread(thread) else { return nil }
      time = Scheduler.time(of: task)
    } else {
      time = owner.processorTime
    }
    return isVirtual ? time.user : time.total
  }

  /// Lets `timer` expire when the clock shows `due`, and after each interval from then on. `noSuchProcess` when it has
  /// stopped for ever.
  public func start(_ timer: PeriodicTimer, due: UInt64, interval: UInt64) throws(Errno) {
    guard let owner = ProcessTable.shared.find(process), time(in: owner) != nil else { throw .noSuchProcess }
    owner.startProcessorTimer(.init(timer: timer, clock: self, setting: .init(due: max(due, 1), interval: interval)))
  }

  public func stop(_ timer: PeriodicTimer) { ProcessTable.shared.find(process)?.stopProcessorTimer(timer) }

  /// The interval, and what is left of a timer: at least 1 while it runs, else 0.
  public func left(of timer: PeriodicTimer) -> (interval: UInt64, remaining: UInt64) {
    guard let owner = ProcessTable.shared.find(process), let used = time(in: owner),
      let setting = owner.processorTimers.withLock({ $0.clients.first { $0.timer === timer }?.setting })
    else { return (0, 0) }
    return (setting.interval, setting.due > used ? setting.due - used : 1)
  }

  /// Sleeps until the clock shows `due`, or a signal.
  public func sleep(until due: UInt64) throws(Errno) {
    let sleeper = Sleeper()
    try start(sleeper, due: due, interval: 0)
    defer { stop(sleeper) }
    let _: Bool = try sleeper.queue.wait(reason: "processor time") { sleeper.isOver.load(ordering: .acquiring) ? true : nil }
  }

  private final class Sleeper: PeriodicTimer {
    let queue = WaitQueue()
    let isOver = Atomic<Bool>(false)
    override func expire(_ times: UInt64) {
      isOver.store(true, ordering: .releasing)
      queue.wake()
    }
  }
}
