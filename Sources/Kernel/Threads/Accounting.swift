import CMachine
import Machine
import Scheduling
import Sync

/// Processor time, in nanoseconds.
public struct ProcessorTime {
  public var user: UInt64
  public var system: UInt64
  public var total: UInt64 { user + system }
  public init(user: UInt64 = 0, system: UInt64 = 0) {
    self.user = user
    self.system = system
  }
  public static func + (a: Self, b: Self) -> Self { .init(user: a.user + b.user, system: a.system + b.system) }
  /// Of a later and an earlier reading. Rounding may move a nanosecond from one part to the other in between.
  public static func - (a: Self, b: Self) -> Self {
    .init(user: a.user - min(a.user, b.user), system: a.system - min(a.system, b.system))
  }
  public static func += (a: inout Self, b: Self) { a = a + b }

  /// Both parts come from the same counter, but the sum was rounded at every switch.
  init(userTicks: UInt64, total: UInt64) {
    user = min(Clock.nanoseconds(userTicks), total)
    system = total - user
  }
}

/// What threads have used. SPEC: getrusage(2).
public struct ResourceUse {
  public var time = ProcessorTime()
  /// Page faults that were resolved at once, and those that had to read.
  public var minorFaults: UInt32 = 0
  public var majorFaults: UInt32 = 0
  /// Pages read for it, and pages that it made newer than the disk's.
  public var pagesRead: UInt32 = 0
  public var pagesDirtied: UInt32 = 0
  /// Switches to other threads because it waited, and because it had to.
  public var voluntarySwitches: UInt32 = 0
  public var involuntarySwitches: UInt32 = 0
  /// The most pages that a process had at once.
  public var peakPages = 0
  public init() {}

  public static func + (a: Self, b: Self) -> Self {
    var sum = a
    sum.time += b.time
    sum.minorFaults &+= b.minorFaults
    sum.majorFaults &+= b.majorFaults
    sum.pagesRead &+= b.pagesRead
    sum.pagesDirtied &+= b.pagesDirtied
    sum.voluntarySwitches &+= b.voluntarySwitches
    sum.involuntarySwitches &+= b.involuntarySwitches
    sum.peakPages = max(a.peakPages, b.peakPages)
    return sum
  }
  public static func += (a: inout Self, b: Self) { a = a + b }
}

extension Scheduler {
  /// What a thread has used: its time is exact for the running one, up to its last interrupt by the scheduler on another CPU.
  public static func use(of thread: Thread) -> ResourceUse {
    var use = thread.counts
    use.time = time(of: thread)
    return use
  }

  public static func time(of thread: Thread) -> ProcessorTime {
    // SAFETY: interrupts go back to what they were; a thread's numbers change under its queue's lock only.
    let flags = unsafe interrupts_save()
    defer { unsafe interrupts_restore(flags) }
    while true {
      let cpu = thread.cpu
      let queue = queue(cpu)
      queue.lock.acquire()
      defer { queue.lock.release() }
      guard cpu == thread.cpu else { continue }
      if thread === Thread.current { charge(thread, on: queue) }
      return ProcessorTime(userTicks: thread.userTicks, total: thread.runtime)
    }
  }

  /// What a CPU has done since boot, and how long it was idle, in nanoseconds.
  public static func time(ofCPU cpu: Int) -> (busy: ProcessorTime, idle: UInt64) {
    let flags = unsafe interrupts_save()
    defer { unsafe interrupts_restore(flags) }
    let queue = queue(cpu)
    queue.lock.acquire()
    defer { queue.lock.release() }
    if cpu == Processors.current { charge(Thread.current, on: queue) }
    let busy = ProcessorTime(userTicks: queue.userTicks, total: queue.busyTime)
    var idle = queue.idle.runtime
    if queue.runningLevel == 140 {
      let now = Clock.monotonic
      if now > queue.idle.switchedIn { idle += now - queue.idle.switchedIn }
    }
    return (busy, idle)
  }

  /// Threads that run or wait for a CPU.
  public static var runnableCount: Int {
    var count = 0
    let flags = unsafe interrupts_save()
    for cpu in 0..<Processors.count {
      let queue = queue(cpu)
      queue.lock.acquire()
      count += queue.ready.count + (queue.runningLevel == 140 ? 0 : 1)
      queue.lock.release()
    }
    unsafe interrupts_restore(flags)
    return count
  }
}
