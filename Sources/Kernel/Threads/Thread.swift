import CMachine
import Machine
import Scheduling
import SystemABI
import Sync
import Synchronization

/// How a thread is chosen, with Linux's numbers. SPEC: sched(7).
public enum SchedulingPolicy: UInt32, Sendable {
  case other = 0
  case fifo = 1
  case roundRobin = 2
  case batch = 3
  case idle = 5
  public var isRealtime: Bool { self == .fifo || self == .roundRobin }
}

/// What a thread needs and there may be too little of. It is taken before the thread is made: an initializer of a class that
/// throws leaves what it has of the object behind (Embedded Swift 6.2).
@safe public struct ThreadMemory {
  let stackTop: UInt32
  /// Registers of the FPU; nil for kernel threads.
  let fpuArea: UnsafeMutableRawPointer?

  /// Throws `noMemory`.
  public static func allocate(user: Bool) throws(Errno) -> ThreadMemory {
    guard let stack = KernelSpace.allocateStack() else { throw .noMemory }
    if !user { return unsafe ThreadMemory(stackTop: stack, fpuArea: nil) }
    var area: UnsafeMutableRawPointer?
    guard unsafe heapAllocateAligned(&area, FPUState.alignment, FPUState.blockSize) == 0 else {
      KernelSpace.freeStack(top: stack)
      throw .noMemory
    }
    // SAFETY: fresh bytes of that size and alignment.
    return unsafe ThreadMemory(stackTop: stack, fpuArea: FPUState.makeBlock(area!))
  }
}

/// A thread of execution with a kernel stack. User threads are subclasses that know their process.
// SAFETY: the FPU area is private to this file and the switch; it lives exactly as long as the thread.
@safe open class Thread: RunQueueNode {
  public enum State: UInt8, Sendable {
    /// Not begun: a signal may know it already, but nothing may run it, as it has no registers yet.
    case new
    case ready, running, blocked, dead
  }

  public typealias Body = () -> Void

  /// What no file may grow beyond by its writes. SPEC: getrlimit(2) RLIMIT_FSIZE.
  open var fileSizeLimit: UInt64 { .max }
  /// Whether files that it writes to keep their set-user-id and set-group-id bits.
  open var keepsSetID: Bool { true }
  /// It has tried to.
  open func exceededFileSize() {}
  /// A timer interrupt has come while it runs. Interrupts are off.
  open func tick() {}

  /// Guarded by the run-queue lock of `cpu`.
  final var state: State = .new
  public final var runNext: Thread?
  /// The CPU whose run queue lock guards this thread.
  public internal(set) final var cpu: Int = 0
  /// Its place in a run queue: 0…98 real-time, 99…138 by nice value, moved down by use and back up by sleeping, 139 idle.
  public final private(set) var level = 119
  /// 20 + nice, 0…39.
  public final var baseLevel = 20 { didSet { updateLevel() } }
  final var penalty = 0 { didSet { updateLevel() } }
  /// SPEC: sched(7).
  public final var policy = SchedulingPolicy.other { didSet { updateLevel() } }
  /// 1…99 for the real-time policies, else 0.
  public final var realtimePriority = 0 { didSet { updateLevel() } }
  /// The level of the most urgent thread that waits for a lock of its, 140 without one.
  public final var inheritedLevel = 140 { didSet { updateLevel() } }
  /// The CPUs it may run on, a bit each.
  public final var affinity = UInt32.max

  private final func updateLevel() {
    let own =
      switch policy {
      case .fifo, .roundRobin: 99 - min(max(realtimePriority, 1), 99)
      case .idle: 139
      case .other, .batch: 99 + min(39, max(0, baseLevel + penalty))
      }
    level = min(own, inheritedLevel)
  }
  /// Whether it runs before all that share time: by its policy, or for somebody who waits for it.
  public final var isRealtime: Bool { level < 99 }
  /// Its place among those who wait for the same thing: threads that share time are equals.
  public final var urgency: Int { min(level, 99) }
  final func mayRun(on cpu: Int) -> Bool {
    windows.count == 0 ? affinity >> UInt32(cpu) & 1 != 0 : cpu == self.cpu
  }

  final var stackPointer: UInt32 = 0
  final let stackTop: UInt32
  /// Physical address of the PDPT to run with; 0 for kernel threads.
  public final var pageTable: UInt32 = 0
  /// An image of `FPUState`, or nil for kernel threads.
  final var fpuArea: UnsafeMutableRawPointer?
  /// The user's thread-local segments, GDT entries 22-24, and its %gs selector.
  public final var tls: (UInt64, UInt64, UInt64) = (0, 0, 0)
  final var gs: UInt16 = 0
  final let body: Body?

  /// Nanoseconds spent on a CPU, up to the last switch.
  public internal(set) final var runtime: UInt64 = 0
  final var switchedIn: UInt64 = 0
  /// Ticks of the time stamp counter in user mode, up to the last switch.
  final var userTicks: UInt64 = 0
  /// What it has used but for its time, which is in `runtime` and `userTicks`. Only the thread itself and its switches write it.
  public final var counts = ResourceUse()

  /// Set by whoever wants an interruptible wait to end (a signal); cleared by the owner.
  public final let interruptRequested = Atomic<Bool>(false)
  #if CHECKED
    /// The ranks of the sleeping locks it holds.
    final var held: [12 of UInt8] = .init(repeating: 0)
    final var heldCount = 0
  #endif
  /// What could not be found for it: a frame for a page, or for the kernel's own use. The system call's end looks.
  public enum Shortage: UInt8 { case none, page, kernel }
  public final var lacksMemory = Shortage.none
  /// Frames beyond the direct map that it was looking at when it was switched away from.
  final var windows = FrameWindows.Saved()
  final let timer = WakeTimer()
  /// Links this thread into the one wait queue it may be on through `WaitQueue.wait`.
  final var waitNode: WaitNode!
  /// What it waits for, for ps and the debugger.
  public final var waitReason: StaticString = ""

  /// A user's thread that is not yet running.
  public init(_ memory: ThreadMemory) {
    stackTop = memory.stackTop
    unsafe fpuArea = memory.fpuArea
    body = nil
    waitNode = WaitNode(self)
    unsafe timer.thread = unsafe Unmanaged.passUnretained(self)
  }

  /// A kernel thread that is not yet running.
  public init(_ memory: ThreadMemory, body: Body?) {
    stackTop = memory.stackTop
    unsafe fpuArea = nil
    self.body = body
    waitNode = WaitNode(self)
    unsafe timer.thread = unsafe Unmanaged.passUnretained(self)
    prepareKernelStack()
  }

  deinit {
    KernelSpace.freeStack(top: stackTop)
    if let area = unsafe fpuArea { unsafe heapFree(area - FPUState.prefix) }
  }

  /// The running thread. The %fs load is one instruction, so migration cannot tear it.
  @inlinable public static var current: Thread {
    // SAFETY: percpu.current_thread holds a retained thread from the scheduler's start on.
    unsafe Unmanaged<Thread>.fromOpaque(percpu_thread()!).takeUnretainedValue()
  }

  /// The running thread as the subclass the caller knows it to be.
  @inlinable public static func current<T: Thread>(as type: T.Type) -> T {
    unsafe unsafeDowncast(current, to: type)
  }

  /// For reports: what it does now, in eight columns.
  public final var stateName: StaticString {
    switch state {
    case .new: "new    "
    case .ready: "ready  "
    case .running: "running"
    case .blocked: "blocked"
    case .dead: "dead   "
    }
  }

  /// The ranks of the sleeping locks it holds, in checked kernels; else empty.
  public final var heldMutexRanks: String {
    var text = ""
    #if CHECKED
      for index in 0..<min(heldCount, 12) { text += "\(held[index]) " }
    #endif
    return text
  }

  /// Whether it runs or waits for a CPU; a hint.
  public final var isRunnable: Bool { state == .running || state == .ready }

  /// Where in the kernel it was switched away from: return addresses, the innermost first; none for one that runs.
  public final var backtrace: [UInt32] {
    guard state == .blocked else { return [] }
    // SAFETY: `context_switch` left four registers there, the last of them the frame pointer. A thread that just wakes leaves
    // something else: what leads out of its stack is not followed.
    let saved = unsafe UnsafePointer<UInt32>(bitPattern: UInt(stackPointer))!
    var addresses: [UInt32] = []
    var frame = StackFrame(unsafe saved[3])
    let stack = (stackTop - KernelSpace.stackSize)..<stackTop - 8
    while addresses.count < 32, stack.contains(frame.pointer), let (address, caller) = frame.read() {
      addresses.append(address)
      frame = caller
    }
    return addresses
  }

  private final func push(_ value: UInt32, at pointer: inout UInt32) {
    pointer -= 4
    // SAFETY: inside this thread's own, not yet running stack.
    unsafe UnsafeMutablePointer<UInt32>(bitPattern: UInt(pointer))!.pointee = value
  }

  private final func prepareKernelStack() {
    var pointer = stackTop
    push(unsafe symbolAddress(&thread_entry_trampoline), at: &pointer)
    for _ in 0..<4 { push(0, at: &pointer) }
    stackPointer = pointer
  }

  /// Makes this thread return to user mode with these registers when first scheduled.
  public final func prepareUser(_ registers: trap_frame) {
    var pointer = stackTop - UInt32(MemoryLayout<trap_frame>.size)
    // SAFETY: as in push.
    unsafe UnsafeMutablePointer<trap_frame>(bitPattern: UInt(pointer))!.pointee = registers
    push(unsafe symbolAddress(&fork_return), at: &pointer)
    for _ in 0..<4 { push(0, at: &pointer) }
    stackPointer = pointer
  }

  /// The registers this user thread entered the kernel with (at the top of its stack).
  public final var userFrame: UserFrame {
    // SAFETY: entry from user mode always builds its frame at the stack's top.
    unsafe UserFrame(unsafe UnsafeMutablePointer(bitPattern: UInt(stackTop) - UInt(MemoryLayout<trap_frame>.size))!)
  }

  /// How it is chosen: as its parent.
  public final func inheritScheduling(from parent: Thread) {
    baseLevel = parent.baseLevel
    affinity = parent.affinity
    if resetsOnFork(parent) { return }
    policy = parent.policy
    realtimePriority = parent.realtimePriority
  }

  /// SCHED_RESET_ON_FORK: children of a privileged thread are ordinary ones.
  public final var resetOnFork = false
  private final func resetsOnFork(_ parent: Thread) -> Bool {
    if parent.resetOnFork, baseLevel < 20 { baseLevel = 20 }
    return parent.resetOnFork
  }

  /// Copies the running thread's FPU state and segments to a thread being forked from it.
  public final func inheritMachineState(from parent: Thread) {
    // SAFETY: `parent` is the running thread, so its live registers are in the CPU.
    if let mine = unsafe fpuArea { unsafe fpu_save(mine, FPUState.extended) }
    tls = parent.tls
    gs = unsafe gs_read()
  }

  /// Fresh FPU state, no segments: execve.
  public final func resetMachineState() {
    // SAFETY: the running thread's own state; preemption off so that it stays on this CPU.
    enterPreemptionOff()
    tls = (0, 0, 0)
    gs = 0
    unsafe gs_load(0)
    if let mine = unsafe fpuArea {
      unsafe FPUState.reset(mine)
      unsafe fpu_restore(mine, FPUState.extended)
    }
    loadSegments()
    leavePreemptionOff()
  }

  /// Writes this thread's segments to the running CPU's GDT; preemption is off.
  public final func loadSegments() {
    // SAFETY: this CPU's own GDT, entries 22-24.
    let gdt = unsafe (UnsafeMutableRawPointer(percpu_self()!) + Int(PERCPU_GDT) + 22 * 8)
    unsafe gdt.storeBytes(of: tls, as: (UInt64, UInt64, UInt64).self)
  }

  /// Puts this running thread's segments into the GDT at once.
  public final func reloadSegments() {
    enterPreemptionOff()
    loadSegments()
    leavePreemptionOff()
  }

  /// The %gs selector user mode has now.
  public final var currentGS: UInt32 { UInt32(unsafe gs_read()) }
  /// Gives user mode a %gs selector; the caller checked that it loads.
  public final func loadGS(_ selector: UInt32) {
    // SAFETY: null, the user data segment or one of this thread's own TLS entries.
    unsafe gs_load(selector & 0xFFFF)
  }
  /// Error code and vector of the last fault, for signal frames.
  public final var faultError: UInt32 = 0
  public final var faultVector: UInt32 = 0

  /// Puts the FPU's part of a signal frame of the running thread.
  public final func putFPUFrame(at address: UInt32) throws(Errno) {
    // SAFETY: the running thread's own image; saved with preemption off, and what a switch stores there later is the same.
    enterPreemptionOff()
    unsafe fpu_save(fpuArea!, FPUState.extended)
    leavePreemptionOff()
    try unsafe FPUFrame.put(fpuArea!, at: address)
  }

  /// Loads the FPU's part of a signal frame.
  public final func takeFPUFrame(at address: UInt32) throws(Errno) {
    guard UserMemory.isUser(address, FPUFrame.size) else { throw .badAddress }
    for _ in 0..<16 {
      enterPreemptionOff()
      // SAFETY: the running thread's own image. When the copy fails what is in it does not count: the next switch saves the
      // registers there.
      let isTaken = unsafe FPUFrame.take(address, into: fpuArea!)
      if isTaken { unsafe fpu_restore(fpuArea!, FPUState.extended) }
      leavePreemptionOff()
      if isTaken { return }
      // The frame lies in two pages at most.
      _ = try UserMemory.read32(address)
      _ = try UserMemory.read32(address &+ UInt32(FPUFrame.size - 4))
    }
    throw .badAddress
  }
}

extension Thread {
  /// The FPU image of a thread that does not run; `body` says with `writes` that it writes the first 512 bytes.
  public final func withSavedFPUState(writes: Bool, _ body: (inout MutableSpan<UInt32>) -> Void) {
    // SAFETY: the area is this thread's; what is in it may come from user memory and is made harmless.
    var span = unsafe MutableSpan(_unsafeStart: fpuArea!.assumingMemoryBound(to: UInt32.self), count: FPUState.size / 4)
    let supported = span[7]
    body(&span)
    span[7] = supported
    unsafe FPUState.clean(fpuArea!, mask: supported, legacy: writes)
  }
  /// The %gs selector of a thread that does not run.
  public final var savedGS: UInt32 {
    get { UInt32(gs) }
    set { gs = UInt16(truncatingIfNeeded: newValue) }
  }
}

/// A timer that wakes its thread.
@safe final class WakeTimer: KernelTimer {
  // SAFETY: the thread owns the timer and cancels it before it dies.
  var thread: Unmanaged<Thread>!
  override func fire() {
    fired.store(true, ordering: .releasing)
    unsafe Scheduler.wake(thread._withUnsafeGuaranteedRef { $0 })
  }
  let fired = Atomic<Bool>(false)
}

/// Where a kernel thread starts: runs its body and exits.
@c(thread_main)
public func threadMain() {
  Thread.current.body?()
  Scheduler.exitCurrent()
}
