import BootData
import CMachine
import Primitives
import Sync
import Synchronization

/// The CPUs: their number, and starting them.
public enum Processors {
  nonisolated(unsafe) private static var running = 1
  /// CPUs that have started.
  public static var count: Int { unsafe running }
  /// The CPU this thread runs on right now; stable only with preemption off.
  @inlinable public static var current: Int { Int(percpu_id()) }

  /// Starts every CPU in `apicIDs` but this one. Each ends up in `ap_main` on its own stack.
  /// SPEC: Intel SDM 3A §8.4.4.1.
  static func startOthers(_ apicIDs: [UInt8], limit: Int) {
    // SAFETY: boot. Page 8 is reserved by Machine.start; the argument words belong to one CPU at a time.
    let bootID = Interrupts.localID
    guard Interrupts.usesAPIC else { return }
    let low = unsafe UnsafeMutableRawPointer(bitPattern: UInt(0xC000_8000))!
    let size = unsafe symbolAddress(&ap_trampoline_end) - symbolAddress(&ap_trampoline_start)
    let arguments = unsafe symbolAddress(&ap_trampoline_args) - symbolAddress(&ap_trampoline_start)
    unsafe low.copyMemory(
      from: UnsafeRawPointer(bitPattern: UInt(symbolAddress(&ap_trampoline_start)))!, byteCount: Int(size))
    for id in apicIDs where UInt32(id) != bootID && count < min(limit, Int(CPU_MAX)) {
      guard let stack = KernelSpace.allocateStack(), let faultStack = KernelSpace.allocateStack() else { return }
      let index = count
      unsafe cpuBlock(index).pointee.apic_id = UInt32(id)
      unsafe cpuBlock(index).pointee.double_fault_tss.esp = faultStack
      unsafe low.storeBytes(of: stack, toByteOffset: Int(arguments), as: UInt32.self)
      unsafe low.storeBytes(of: apEntryAddress(), toByteOffset: Int(arguments) + 4, as: UInt32.self)
      unsafe startingIndex = index
      apReady.store(0, ordering: .releasing)
      Interrupts.sendInit(to: UInt32(id))
      Clock.spin(microseconds: 200)
      Interrupts.sendStartup(to: UInt32(id), page: 8)
      if !waitReady(milliseconds: 20) {
        Interrupts.sendStartup(to: UInt32(id), page: 8)
        guard waitReady(milliseconds: 500) else {
          log("smp: cpu with APIC id \(id) did not start")
          continue
        }
      }
      unsafe running += 1
    }
  }

  /// A bit for every CPU that has started.
  public static var mask: UInt32 { UInt32(truncatingIfNeeded: (UInt64(1) << UInt64(count)) - 1) }

  /// How many CPUs run a user thread inside the kernel at this moment.
  public static var insideCalls: Int {
    (0..<count).reduce(0) { $0 + (unsafe cpuBlock($1).pointee.inside_call != 0 ? 1 : 0) }
  }

  /// What CPUID answers; zeroes beyond the last leaf of its range. SPEC: Intel SDM 2A, CPUID.
  public static func identification(_ leaf: UInt32, _ subleaf: UInt32 = 0) -> (eax: UInt32, ebx: UInt32, ecx: UInt32, edx: UInt32) {
    // SAFETY: reads constants of the processor.
    guard leaf <= (unsafe cpuid(leaf & 0x8000_0000, 0).eax) else { return (0, 0, 0, 0) }
    let answer = unsafe cpuid(leaf, subleaf)
    return (answer.eax, answer.ebx, answer.ecx, answer.edx)
  }

  /// The bytes of registers, up to a zero.
  private static func string(_ words: [UInt32]) -> [UInt8] {
    var text: [UInt8] = []
    for word in words {
      for shift in stride(from: UInt32(0), to: 32, by: 8) { text.append(UInt8(truncatingIfNeeded: word >> shift)) }
    }
    return Array(text.prefix { $0 != 0 }.drop { $0 == 32 })
  }

  /// Who has made it.
  public static var vendor: [UInt8] {
    let leaf = identification(0)
    return string([leaf.ebx, leaf.edx, leaf.ecx])
  }

  /// What it is called, where it says so.
  public static var brand: [UInt8] {
    var words: [UInt32] = []
    for leaf in UInt32(0x8000_0002)...0x8000_0004 {
      let answer = identification(leaf)
      words += [answer.eax, answer.ebx, answer.ecx, answer.edx]
    }
    return string(words)
  }

  /// CPUID.1:EDX, for AT_HWCAP.
  public static var features: UInt32 { unsafe cpuid(1, 0).edx }

  private static func waitReady(milliseconds: UInt64) -> Bool {
    let end = Clock.monotonic + milliseconds * 1_000_000
    while apReady.load(ordering: .acquiring) == 0 {
      if Clock.monotonic > end { return false }
      cpu_relax()
    }
    return true
  }

  nonisolated(unsafe) fileprivate static var startingIndex = 0
  fileprivate static let apReady = Atomic<UInt32>(0)

  private static func apEntryAddress() -> UInt32 { unsafe symbolAddress(&ap_entry) }
}

/// The first Swift code of every CPU but the boot CPU.
@c(ap_main)
public func apMain() {
  // SAFETY: the boot CPU waits for us, so `startingIndex` and the block are ours.
  let index = unsafe Processors.startingIndex
  let block = unsafe cpuBlock(index)
  KernelSpace.enableProtection()
  unsafe Descriptors.load(
    cpu: index, apicID: block.pointee.apic_id, doubleFaultStack: block.pointee.double_fault_tss.esp)
  unsafe cr3_write(KernelSpace.pdpt)
  Machine.enableFastSystemCalls()
  MemoryTypes.start()
  Interrupts.startLocal()
  unsafe block.pointee.online = 1
  Processors.apReady.store(1, ordering: .releasing)
  unsafe secondary_cpu_main()
}

extension Processors {
  /// Returns when every CPU has passed a full memory barrier since the call.
  public static func barrier() {
    enterPreemptionOff()
    memoryBarrier()
    TLB.flush(cpus: mask)  // the interrupt that it sends is the barrier
    leavePreemptionOff()
  }
}

/// Cross-CPU invalidation of cached translations.
public enum TLB {
  /// Drops every user translation on the CPUs in `mask` but this one, and waits until they have.
  /// The caller has preemption off.
  public static func flush(cpus mask: UInt32) {
    let me = Processors.current
    let others = mask & ~(1 << UInt32(me))
    guard others != 0 else { return }
    for cpu in 0..<Processors.count where others & 1 << UInt32(cpu) != 0 {
      unsafe atomic_store(&cpuBlock(cpu).pointee.flush_pending, 1)
      Interrupts.sendShootdown(to: cpu)
    }
    for cpu in 0..<Processors.count where others & 1 << UInt32(cpu) != 0 {
      while unsafe atomic_load(&cpuBlock(cpu).pointee.flush_pending) != 0 {
        serve()  // two CPUs that flush each other with interrupts off must not wait for ever
        cpu_relax()
      }
    }
  }

  /// Does what another CPU asked for.
  static func serve() {
    let me = unsafe percpu_self()!
    if unsafe atomic_load(&me.pointee.flush_pending) != 0 {
      // SAFETY: reloading CR3 with its own value drops all non-global translations.
      unsafe cr3_write(cr3_read())
      unsafe atomic_store(&me.pointee.flush_pending, 0)
    }
  }
}
