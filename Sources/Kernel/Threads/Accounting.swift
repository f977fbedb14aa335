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

extension Scheduler {
  /// What a thread has used: exact for the running one, up to its last interrupt by the scheduler for one on another CPU.
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
