import BootData
import CMachine
import Memory
import Primitives
import Sync

/// Bringing up the processor and memory, in the order KernelMain's stages call it.
public enum Machine {
  nonisolated(unsafe) private static var information: BootInformation! = nil
  /// What the boot loader said; set by the first stage.
  public static var boot: BootInformation { unsafe information }
  nonisolated(unsafe) private static var topology: InterruptTopology? = nil

  /// Descriptors, clock, the loader's tables, the frame allocator, the kernel's own page tables.
  public static func startMemory() {
    // SAFETY: first code after boot.S, one CPU, interrupts off.
    EarlyConsole.start()
    Descriptors.fillInterruptTable()
    Descriptors.load(cpu: 0, apicID: 0, doubleFaultStack: 0)
    Clock.calibrate()
    guard let information = unsafe BootInformation(magic: boot_magic, address: boot_info, memory: FirmwareMemory())
    else { Panic.stop("not started by a Multiboot 1 or 2 loader") }
    unsafe Self.information = information
    startFrames(information)
    KernelSpace.start()
    FrameWindows.start()
    ScatteredBlocks.start()
    guard let faultStack = KernelSpace.allocateStack() else { Panic.stop("no memory for a stack") }
    Descriptors.load(cpu: 0, apicID: 0, doubleFaultStack: faultStack)
    enableFastSystemCalls()
    MemoryTypes.start()
  }

  /// The frame table lies behind the image and the modules; what firmware calls usable and nobody uses is free.
  private static func startFrames(_ information: BootInformation) {
    // SAFETY: linker symbols' addresses only.
    var reserved = unsafe symbolAddress(&kernel_image_end) - 0xC000_0000
    for module in information.modules { reserved = max(reserved, module.end) }
    var top: UInt64 = 0
    for range in information.usable { top = max(top, min(range.end, 1 << 36)) }
    let count = UInt32(top >> 12)
    let table = (reserved + 4095) & ~4095
    let tableEnd = (table + count * 16 + 4095) >> 12
    var ranges: [Range<UInt32>] = []
    for range in information.usable {
      let first = UInt32(min((range.start + 4095) >> 12, UInt64(count)))
      let last = UInt32(min(range.end >> 12, UInt64(count)))
      if first < min(last, 0xA0) { ranges.append(max(first, 9)..<min(last, 0xA0)) }
      if max(first, tableEnd) < last { ranges.append(max(first, tableEnd)..<last) }
    }
    unsafe usableFrames = information.usable.reduce(0) {
      $0 + UInt32(min($1.end, UInt64(count) << 12) >> 12) - UInt32(min($1.start, UInt64(count) << 12) >> 12)
    }
    Frames.start(tableAddress: table + 0xC000_0000, count: count, ranges: ranges)
  }

  /// All frames of usable memory, the kernel's own included.
  nonisolated(unsafe) private static var usableFrames: UInt32 = 0
  public static var memoryFrames: UInt32 { unsafe usableFrames }

  /// Whether the command line starts with the kernel's own name.
  public static var bootedByMultiboot1: Bool { unsafe boot_magic == BootInformation.multiboot1Magic }

  /// Interrupt controllers and the timer. `apic` is false under `noapic`; the tables of a PC may describe IOAPICs that a
  /// processor without a local APIC cannot be reached through. SPEC: Intel SDM 3A §10.4.2.
  public static func startInterrupts(apic: Bool) {
    // SAFETY: boot, one CPU.
    let rsdp = boot.rsdp
    let hasLocalAPIC = unsafe cpuid(1, 0).edx & 1 << 9 != 0
    let tables = ACPITables(FirmwareMemory(), rsdp: rsdp)
    if let tables { Power.control.set(ACPIPower(tables)) }
    unsafe topology = apic && hasLocalAPIC ? tables.flatMap { InterruptTopology($0) } : nil
    unsafe Interrupts.start(topology)
    unsafe cpuBlock(0).pointee.apic_id = Interrupts.localID
    unsafe cpuBlock(0).pointee.online = 1
    EventTimer.calibrate()
  }

  /// Starts up to `limit` CPUs in all.
  public static func startProcessors(limit: Int) {
    if let topology = unsafe topology { Processors.startOthers(topology.processors, limit: limit) }
  }

  /// SYSENTER's registers on this CPU. SPEC: Intel SDM 3A §5.8.7.
  static func enableFastSystemCalls() {
    // SAFETY: the entry is sysenter_entry, which loads the real stack from the TSS the MSR points at.
    guard unsafe cpuid(1, 0).edx & 1 << 11 != 0 else { return }
    let block = unsafe cpuBlock(Processors.current)
    let tss = UInt32(truncatingIfNeeded: UInt(bitPattern: block)) + UInt32(PERCPU_TSS)
    unsafe msr_write(0x174, UInt64(KERNEL_CS))
    unsafe msr_write(0x175, UInt64(tss))
    unsafe msr_write(0x176, UInt64(symbolAddress(&sysenter_entry)))
  }
}
