import CMachine
import Machine
import Scheduling
import SystemABI
import Sync
import Synchronization

/// Chooses what each CPU runs: per-CPU queues, levels with decay and boost, stealing by idle CPUs.
public enum Scheduler {
  /// How long a thread runs while others of its level wait, in nanoseconds.
  static let slice: UInt64 = 10_000_000
  /// How often a thread that others keep from running gets a slice: a sixth of the time is for those.
  static let turnInterval: UInt64 = 50_000_000
  /// The first level of threads that share time.
  static var firstShared: Int { 99 }

  /// One CPU's queue. Its lock is taken with interrupts off and passes from the thread that switches out to the
  /// one that switches in.
  final class CPUQueue {
    let lock = RawSpinLock()
    var ready = RunQueue<Thread>()
    let idle: Thread
    /// The thread just switched out, if it died: freed once its stack is left.
    var dead: Thread?
    /// The thread just switched out, if it may not run here any more: it goes to another CPU once its stack is left.
    var outgoing: Thread?
    /// The level of what runs, for CPUs that wake something more urgent; 140 when idle.
    var runningLevel = 140
    /// When the armed timer interrupt comes; .max for none, 0 while it is served.
    var armed: UInt64 = .max
    var pace = InterruptPace()
    let timerLock = RawSpinLock()
    var timers = TimerHeap<KernelTimer>()
    /// When a level that has to wait gets its turn; which had the last, and when that ends, 0 outside one.
    var nextTurn: UInt64 = 0
    var turnLevel = 0
    var turnEnd: UInt64 = 0
    /// What its threads used: ticks of the time stamp counter in user mode, and nanoseconds in all.
    var userTicks: UInt64 = 0
    var busyTime: UInt64 = 0
    init(idle: Thread) { self.idle = idle }
  }

  nonisolated(unsafe) static var queues: InlineArray<16, CPUQueue?> = .init(repeating: nil)
  /// CPUs in their idle loop.
  static let idleMask = Atomic<UInt32>(0)
  /// Context switches since boot, for /proc/stat.
  public static let switchCount = Atomic<UInt32>(0)

  static func queue(_ cpu: Int) -> CPUQueue {
    // SAFETY: set at boot before the CPU runs threads, never changed.
    unsafe queues[cpu].unsafelyUnwrapped
  }

  /// Turns the boot context into CPU 0's idle thread and makes queues for `count` CPUs.
  public static func start() {
    // SAFETY: boot, one CPU.
    for cpu in 0..<Int(CPU_MAX) where cpu == 0 || cpuIsOnline(cpu) { makeQueue(cpu) }
    adoptIdle(cpu: 0)
  }

  private static func makeQueue(_ cpu: Int) {
    guard let memory = try? ThreadMemory.allocate(user: false) else { Panic.stop("no memory for an idle thread") }
    let idle = Thread(memory, body: nil)
    idle.cpu = cpu
    idle.state = .running
    idle.waitReason = "idle"
    unsafe queues[cpu] = CPUQueue(idle: idle)
  }

  private static func adoptIdle(cpu: Int) {
    let idle = queue(cpu).idle
    // SAFETY: retained for ever; from here Thread.current works on this CPU.
    unsafe percpu_set_thread(Unmanaged.passRetained(idle).toOpaque())
    unsafe preempt_enable_quiet()  // drops the count Descriptors.load started with
  }

  /// The end of boot on every CPU: run what is ready, for ever.
  public static func idleLoop() -> Never {
    // SAFETY: enabling interrupts and halting is one atomic pair on x86.
    let me = Int(percpu_id())
    while true {
      unsafe interrupts_disable()
      let bit = UInt32(1) << UInt32(me)
      idleMask.bitwiseOr(bit, ordering: .acquiringAndReleasing)
      if percpu_need_resched() != 0 || queue(me).ready.count > 0 || steal(for: me) {
        idleMask.bitwiseAnd(~bit, ordering: .acquiringAndReleasing)
        switchAway()
        unsafe interrupts_enable()
        continue
      }
      armTimer(idle: true)
      unsafe wait_for_interrupt()
    }
  }

  static func secondaryStart() -> Never {
    adoptIdle(cpu: Int(percpu_id()))
    idleLoop()
  }

  /// Moves one waiting thread of another CPU here.
  private static func steal(for me: Int) -> Bool {
    guard Processors.count > 1 else { return false }
    for distance in 1..<Processors.count {
      let victim = queue((me + distance) % Processors.count)
      guard victim.ready.count > 0, victim.lock.tryAcquire() else { continue }
      let thread = victim.ready.pop { $0.mayRun(on: me) }
      if let thread { thread.cpu = me }
      victim.lock.release()
      guard let thread else { continue }
      let mine = queue(me)
      mine.lock.acquire()
      mine.ready.push(thread)
      mine.lock.release()
      unsafe percpu_set_need_resched(1)
      return true
    }
    return false
  }

  // MARK: Waking

  /// Makes a new thread runnable on this CPU (an idle CPU may steal it at once).
  public static func begin(_ thread: Thread) {
    let flags = unsafe interrupts_save()
    thread.cpu = Processors.current
    let target = queue(thread.cpu)
    target.lock.acquire()
    thread.state = .ready
    target.ready.push(thread)
    target.lock.release()
    kickIdle(except: thread.cpu)
    if Thread.current === target.idle { unsafe percpu_set_need_resched(1) }
    unsafe interrupts_restore(flags)
  }

  /// Whether a CPU was idle; if so it is the caller's to interrupt, and nobody else's. What the caller put on a queue before is
  /// seen by that CPU, or by the look at its queue that follows its setting the bit.
  private static func takeIdle(_ cpu: Int) -> Bool {
    // SAFETY: orders the push before the look at the mask.
    unsafe memory_barrier()
    let bit = UInt32(1) << UInt32(cpu)
    guard idleMask.load(ordering: .acquiring) & bit != 0 else { return false }
    return idleMask.bitwiseAnd(~bit, ordering: .acquiringAndReleasing).oldValue & bit != 0
  }

  /// Interrupts one idle CPU, which will look for work to steal.
  private static func kickIdle(except cpu: Int) {
    unsafe memory_barrier()
    while true {
      let idle = idleMask.load(ordering: .acquiring) & ~(1 << UInt32(cpu))
      if idle == 0 { return }
      let other = idle.trailingZeroBitCount
      if takeIdle(other) { return Interrupts.sendReschedule(to: other) }
    }
  }

  /// Puts a ready thread that is on no queue on one of a CPU that it may run on. Interrupts are off.
  private static func place(_ thread: Thread) {
    let allowed = thread.affinity & Processors.mask
    let cpu = (allowed == 0 ? Processors.mask : allowed).trailingZeroBitCount
    let target = queue(cpu)
    target.lock.acquire()
    thread.cpu = cpu
    target.ready.push(thread)
    target.lock.release()
    if cpu == Processors.current {
      unsafe percpu_set_need_resched(1)
    } else {
      unsafe percpuBlock(cpu).pointee.need_resched = 1
      _ = takeIdle(cpu)
      Interrupts.sendReschedule(to: cpu)
    }
  }

  /// Changes how a thread is chosen. It counts at once if it runs here, else from its next time on a queue.
  public static func set(_ thread: Thread, policy: SchedulingPolicy, priority: Int) {
    change(thread) {
      $0.policy = policy
      $0.realtimePriority = priority
    }
  }

  public static func set(_ thread: Thread, nice: Int) { change(thread) { $0.baseLevel = 20 + nice } }

  /// Lets a thread run at a level that is not its own; 140 ends that.
  public static func set(_ thread: Thread, inheritedLevel level: Int) { change(thread) { $0.inheritedLevel = level } }

  /// Restricts a thread to CPUs. Throws `invalidArgument` when none of them exists.
  public static func set(_ thread: Thread, affinity: UInt32) throws(Errno) {
    guard affinity & Processors.mask != 0 else { throw .invalidArgument }
    change(thread) { $0.affinity = affinity }
    if thread === Thread.current, !thread.mayRun(on: Processors.current) { yield() }
  }

  /// A thread's level may not change while a queue holds it there: it is taken off and put on again.
  private static func change(_ thread: Thread, _ body: (Thread) -> Void) {
    let flags = unsafe interrupts_save()
    while true {
      let cpu = thread.cpu
      let target = queue(cpu)
      target.lock.acquire()
      guard cpu == thread.cpu else {
        target.lock.release()
        continue
      }
      let queued = thread.state == .ready ? target.ready.pop { $0 === thread } : nil
      body(thread)
      if let queued, queued.mayRun(on: cpu) {
        target.ready.push(queued)
        target.lock.release()
      } else {
        target.lock.release()
        if let queued { place(queued) }
      }
      if cpu != Processors.current {
        unsafe percpuBlock(cpu).pointee.need_resched = 1
        Interrupts.sendReschedule(to: cpu)
      } else {
        unsafe percpu_set_need_resched(1)
      }
      break
    }
    unsafe interrupts_restore(flags)
  }

  /// Whether a woken thread runs at once. Threads that sleep now and then do not interrupt each other: who hands on a lock or
  /// a message goes on until it waits itself, and the switch is not paid twice. One that has computed for longer than a slice
  /// gives way.
  private static func isMoreUrgent(_ woken: Thread, than running: Thread) -> Bool {
    woken.policy.isRealtime ? woken.level < running.level : woken.level + 1 < running.level
  }

  /// Ends a blocked thread's wait; does nothing to one that is not blocked. Interrupt-safe.
  public static func wake(_ thread: Thread) {
    // SAFETY: interrupts go back to what they were.
    let flags = unsafe interrupts_save()
    var cpu: Int
    while true {
      cpu = thread.cpu
      queue(cpu).lock.acquire()
      if cpu == thread.cpu { break }
      queue(cpu).lock.release()
    }
    let target = queue(cpu)
    guard thread.state == .blocked else {
      target.lock.release()
      unsafe interrupts_restore(flags)
      return
    }
    if unsafe cpuThread(cpu) == Unmanaged.passUnretained(thread).toOpaque() {
      thread.state = .running  // it has not switched out yet; it will see this and go on
      target.lock.release()
      unsafe interrupts_restore(flags)
      return
    }
    thread.state = .ready
    if thread.penalty > 0 { thread.penalty = 0 }
    guard thread.mayRun(on: cpu) else {
      target.lock.release()
      place(thread)
      unsafe interrupts_restore(flags)
      return
    }
    target.ready.push(thread)
    target.lock.release()
    let me = Processors.current
    if cpu != me {
      if takeIdle(cpu) || thread.level < target.runningLevel && thread.level < 99 {
        Interrupts.sendReschedule(to: cpu)
        if thread.level < target.runningLevel { unsafe percpuBlock(cpu).pointee.need_resched = 1 }
      } else {
        kickIdle(except: cpu)
      }
    } else if Thread.current === target.idle || isMoreUrgent(thread, than: Thread.current) && (thread.isRealtime || target.turnEnd == 0) {
      unsafe percpu_set_need_resched(1)
    } else {
      kickIdle(except: cpu)
    }
    unsafe interrupts_restore(flags)
    if flags & 0x200 != 0, percpu_need_resched() != 0, preempt_count() == 0 { unsafe preempt_schedule() }
  }

  private static func cpuThread(_ cpu: Int) -> UnsafeMutableRawPointer? { unsafe percpuBlock(cpu).pointee.current_thread }

  // MARK: Switching

  /// Declares that the running thread will sleep; the next `block` sleeps unless a wake came between.
  static func prepareToBlock() {
    // SAFETY: interrupts off around the run-queue lock.
    let flags = unsafe interrupts_save()
    let me = Thread.current
    let target = queue(me.cpu)
    target.lock.acquire()
    me.state = .blocked
    target.lock.release()
    unsafe interrupts_restore(flags)
  }

  /// Returns when a thread that is blocked, or about to be, has left its CPU: its registers are saved then.
  public static func waitUntilOff(_ thread: Thread) {
    while true {
      let flags = unsafe interrupts_save()
      let target = queue(thread.cpu)
      target.lock.acquire()
      let isOn = unsafe cpuThread(thread.cpu) == Unmanaged.passUnretained(thread).toOpaque()
      target.lock.release()
      unsafe interrupts_restore(flags)
      if !isOn { return }
      yield()
    }
  }

  /// Undoes `prepareToBlock`.
  static func cancelBlock() {
    let flags = unsafe interrupts_save()
    let me = Thread.current
    let target = queue(me.cpu)
    target.lock.acquire()
    me.state = .running
    target.lock.release()
    unsafe interrupts_restore(flags)
  }

  /// Sleeps until woken, if nobody has since `prepareToBlock`.
  static func block() {
    precondition(preempt_count() == 0, "sleeping with a spin lock held")
    let flags = unsafe interrupts_save()
    switchAway()
    unsafe interrupts_restore(flags)
  }

  /// Lets others of the same level run.
  public static func yield() {
    let flags = unsafe interrupts_save()
    switchAway(yielding: true)
    unsafe interrupts_restore(flags)
  }

  /// Ends the running thread. What it owned must be gone already, and no caller may own a reference: it would leak.
  public static func exitCurrent() -> Never {
    _ = unsafe interrupts_save()
    markDead()
    switchAway()
    Panic.stop("a dead thread ran")
  }

  @inline(never) private static func markDead() {
    let me = Thread.current
    let target = queue(me.cpu)
    target.lock.acquire()
    me.state = .dead
    target.lock.release()
  }

  /// Picks the next thread and switches to it. Interrupts are off.
  ///
  /// A dying thread never comes back from `context_switch`, so nothing here may own a reference across it: `pick` answers
  /// plain addresses.
  static func switchAway(yielding: Bool = false) {
    let (save, next) = pick(yielding)
    // SAFETY: both stacks are alive: the run-queue lock is held until finishSwitch.
    if save != 0 { unsafe context_switch(UnsafeMutablePointer(bitPattern: UInt(save)), next) }
    if save != 0 { finishSwitch() }
  }

  /// Chooses; with a thread to switch to the queue's lock stays held and the answer is where to save this stack
  /// pointer and the one to load; else (0, 0).
  @inline(never) private static func pick(_ yielding: Bool) -> (save: UInt32, next: UInt32) {
    let cpu = Processors.current
    let queue = queue(cpu)
    unsafe percpu_set_need_resched(0)
    queue.lock.acquire()
    let previous = Thread.current
    charge(previous, on: queue)
    let hasTurn = queue.turnEnd > previous.switchedIn && !yielding
    let isTurn = !hasTurn && previous.switchedIn >= queue.nextTurn && isShared(queue, previous)
    if previous.state == .running, previous !== queue.idle {
      let stays = previous.mayRun(on: cpu) || FrameWindows.areOpen
      if stays, !isTurn {
        // A FIFO thread gives way to more urgent ones only, unless it yields; and who has a turn to real-time ones.
        var limit = previous.policy == .fifo && !yielding ? previous.level - 1 : previous.level
        if hasTurn { limit = min(limit, firstShared - 1) }
        guard let first = queue.ready.firstLevel, first <= limit else {
          queue.lock.release()
          return (0, 0)
        }
      }
      previous.state = .ready
      if stays { queue.ready.push(previous) } else { queue.outgoing = previous }
    }
    let next = (isTurn ? takeTurn(queue, cpu) : nil) ?? queue.ready.pop { $0.mayRun(on: cpu) } ?? queue.idle
    if !isTurn { queue.turnEnd = 0 }
    queue.runningLevel = next === queue.idle ? 140 : next.level
    next.state = .running
    if next === previous {
      queue.lock.release()
      return (0, 0)
    }
    if previous.state == .dead { queue.dead = previous }
    account(previous, next)
    load(next, from: previous, on: cpu)
    // SAFETY: current_thread owns a reference; the switch hands it from one thread to the other.
    unsafe percpu_set_thread(Unmanaged.passRetained(next).toOpaque())
    unsafe Unmanaged.passUnretained(previous).release()
    let save = unsafe withUnsafeMutablePointer(to: &previous.stackPointer) { UInt32(UInt(bitPattern: $0)) }
    return (save, next.stackPointer)
  }

  /// Whether all that want to run share time.
  private static func isShared(_ queue: CPUQueue, _ running: Thread) -> Bool {
    guard let first = queue.ready.firstLevel else { return false }
    return first >= firstShared && (running.state != .running || !running.isRealtime)
  }

  /// The thread whose turn it is, whatever its level: without turns one that computes would wait for ever for many that sleep now
  /// and then, and with it who waits for its locks.
  private static func takeTurn(_ queue: CPUQueue, _ cpu: Int) -> Thread? {
    let now = Thread.current.switchedIn
    queue.nextTurn = now + turnInterval
    let next = queue.ready.popInTurn(from: firstShared, after: queue.turnLevel) { $0.mayRun(on: cpu) }
    if let next {
      queue.turnLevel = next.level
      queue.turnEnd = now + slice
    }
    return next
  }

  /// Books what the running thread used since it was last charged. The queue is this CPU's, and locked.
  static func charge(_ thread: Thread, on queue: CPUQueue) {
    let now = Clock.monotonic
    let used = now &- thread.switchedIn
    thread.switchedIn = now
    thread.runtime &+= used
    // SAFETY: this CPU's own block; interrupts are off.
    let block = unsafe percpu_self()!
    unsafe user_time_settle()
    let identityCalls = unsafe block.pointee.identity_count &- block.pointee.identity_booked
    unsafe block.pointee.identity_booked &+= identityCalls
    let inCalls = unsafe UInt64(identityCalls) * UInt64(block.pointee.identity_cost)
    let ticks = unsafe block.pointee.user_ticks &- min(inCalls, block.pointee.user_ticks)
    unsafe block.pointee.user_ticks = 0
    thread.userTicks &+= ticks
    queue.userTicks &+= ticks
    if thread !== queue.idle { queue.busyTime &+= used }
  }

  private static func account(_ previous: Thread, _ next: Thread) {
    let now = previous.switchedIn
    next.switchedIn = now
    if previous.state == .ready { previous.counts.involuntarySwitches &+= 1 } else { previous.counts.voluntarySwitches &+= 1 }
    switchCount.wrappingAdd(1, ordering: .relaxed)
    let queue = queue(next.cpu)
    if previous === queue.idle { Clock.tick(now) }
    if next !== queue.idle, queue.armed > now + slice { arm(queue, at: now + slice, now: now) }
  }

  /// Loads what user mode of `next` needs: stack, address space, segments, FPU.
  private static func load(_ next: Thread, from previous: Thread, on cpu: Int) {
    // SAFETY: this CPU's own registers and blocks; both threads are alive here.
    let block = unsafe percpu_self()!
    if FrameWindows.areOpen { previous.windows.take() }
    if next.windows.count > 0 { next.windows.putBack() }
    unsafe block.pointee.tss.esp0 = next.stackTop
    // A user thread that is switched to goes on inside the kernel.
    unsafe block.pointee.inside_call = next.fpuArea != nil ? 1 : 0
    if let area = unsafe previous.fpuArea {
      unsafe fpu_save(area, FPUState.extended)
      previous.gs = unsafe gs_read()
    }
    let table = unsafe next.pageTable != 0 ? next.pageTable : KernelSpace.pdpt
    if table != (unsafe block.pointee.active_pdpt) {
      unsafe block.pointee.active_pdpt = table
      unsafe memory_barrier()
      unsafe cr3_write(table)
    }
    if let area = unsafe next.fpuArea {
      unsafe fpu_restore(area, FPUState.extended)
      next.loadSegments()
      unsafe gs_load(UInt32(next.gs))
    }
  }

  /// The first thing on the new stack: passes the queue's lock on, buries the dead.
  static func finishSwitch() {
    let queue = queue(Processors.current)
    let dead = queue.dead
    queue.dead = nil
    let outgoing = queue.outgoing
    queue.outgoing = nil
    queue.lock.release()
    _ = dead
    if let outgoing { place(outgoing) }
  }

  /// Switches this CPU to a page table at once (execve, exit).
  public static func activate(pageTable: UInt32) {
    // SAFETY: interrupts off; the table maps the kernel.
    let flags = unsafe interrupts_save()
    Thread.current.pageTable = pageTable
    let table = unsafe pageTable != 0 ? pageTable : KernelSpace.pdpt
    unsafe percpu_self()!.pointee.active_pdpt = table
    unsafe cr3_write(table)
    unsafe interrupts_restore(flags)
  }

  // MARK: Time

  private static func arm(_ queue: CPUQueue, at deadline: UInt64, now: UInt64) {
    queue.armed = deadline
    EventTimer.arm(after: deadline > now ? deadline - now : 0)
  }

  /// Arms this CPU's interrupt for the next timer, or the end of a slice if it is busy.
  private static func armTimer(idle: Bool, gap: UInt64 = 0) {
    let queue = queue(Processors.current)
    let now = Clock.monotonic
    queue.timerLock.acquire()
    var next = queue.timers.first?.deadline ?? .max
    queue.timerLock.release()
    if !idle { next = min(next, now + slice) }
    next = max(next, now + gap)
    if next == .max {
      if queue.armed != .max { EventTimer.disarm() }
      queue.armed = .max
    } else if next != queue.armed {
      arm(queue, at: next, now: now)
    }
  }

  static func timerInterrupt() {
    let queue = queue(Processors.current)
    let now = Clock.monotonic
    queue.pace.begin(at: now)
    queue.armed = 0
    Clock.tick(now)
    while true {
      queue.timerLock.acquire()
      let timer = queue.timers.popExpired(now: now)
      timer?.cpu = -1
      queue.timerLock.release()
      guard let timer else { break }
      timer.fire()
    }
    let me = Thread.current
    let idle = me === queue.idle
    if !idle {
      me.tick()
      if me.penalty < 5, !me.policy.isRealtime { me.penalty += 1 }
      if queue.ready.count > 0 {
        unsafe percpu_set_need_resched(1)
        kickIdle(except: queue.idle.cpu)
      }
    }
    queue.armed = .max
    armTimer(idle: idle, gap: queue.pace.gap)
    queue.pace.end(at: Clock.monotonic)
  }

  static func add(_ timer: KernelTimer, due: Deadline) {
    let flags = unsafe interrupts_save()
    let cpu = Processors.current
    let queue = queue(cpu)
    queue.timerLock.acquire()
    timer.due = due
    timer.deadline = due.sinceBoot
    let deadline = timer.deadline
    timer.cpu = cpu
    queue.timers.insert(timer)
    let first = queue.timers.first === timer
    queue.timerLock.release()
    if first, deadline < queue.armed { arm(queue, at: deadline, now: Clock.monotonic) }
    unsafe interrupts_restore(flags)
  }

  static func remove(_ timer: KernelTimer) {
    let flags = unsafe interrupts_save()
    while true {
      let cpu = timer.cpu
      if cpu < 0 { break }
      let queue = queue(cpu)
      queue.timerLock.acquire()
      if timer.cpu == cpu {
        queue.timers.remove(timer)
        timer.cpu = -1
        queue.timerLock.release()
        break
      }
      queue.timerLock.release()
    }
    unsafe interrupts_restore(flags)
  }
}

/// A one-shot timer whose `fire` runs in the timer interrupt.
open class KernelTimer: TimerNode {
  public internal(set) final var deadline: UInt64 = 0
  /// What it was started for, from which `deadline` follows.
  final var due = Deadline.sinceBoot(0)
  public final var heapIndex = -1
  /// The CPU whose heap it is in; -1 for none.
  final var cpu = -1

  public init() {}
  /// Runs with interrupts off on the CPU that started the timer.
  open func fire() {}
  /// Called while it waits for a time on the wall clock, and that was set. Interrupts are off; no other timer may be started.
  open func wallClockWasSet() {}

  /// One start at a time: a timer that fires on one CPU may start itself again while somebody sets it on another.
  private final let starting = RawSpinLock()

  /// Fires once at `deadline`, instead of any earlier start.
  public final func start(at deadline: Deadline) {
    let flags = unsafe interrupts_save()
    starting.acquire()
    Scheduler.remove(self)
    Scheduler.add(self, due: deadline)
    starting.release()
    unsafe interrupts_restore(flags)
  }
  /// After this returns the timer does not start to fire; one on another CPU may be firing still.
  public final func cancel() { Scheduler.remove(self) }
}

@c(preempt_schedule)
public func preemptSchedule() {
  // SAFETY: called with preemption on; interrupts go back to what they were.
  guard preempt_count() == 0, unsafe percpu_thread() != nil else { return }
  let flags = unsafe interrupts_save()
  // A thread that has said it will sleep but not yet slept must not lose its turn to a preemption.
  if Thread.current.state == .running { Scheduler.switchAway() }
  unsafe interrupts_restore(flags)
}

@c(timer_interrupt)
public func timerInterruptEntry() { Scheduler.timerInterrupt() }

@c(secondary_cpu_main)
public func secondaryCPUMain() {
  while !Scheduler.started.load(ordering: .acquiring) { cpu_relax() }
  Scheduler.secondaryStart()
}

@c(scheduler_finish_switch)
public func schedulerFinishSwitch() {
  Scheduler.finishSwitch()
  // SAFETY: the first run of a thread: nobody else restores the flag.
  unsafe interrupts_enable()
}

extension Scheduler {
  /// Set once every queue exists.
  public static let started = Atomic<Bool>(false)
}
