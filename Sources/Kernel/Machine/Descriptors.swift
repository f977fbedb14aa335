import CMachine

/// Segment, task and interrupt descriptors. SPEC: Intel SDM 3A §3.4.5, §6.11, §7.2.
enum Descriptors {
  /// 256 gates of 8 bytes.
  nonisolated(unsafe) private static var gates: InlineArray<256, UInt64> = .init(repeating: 0)

  static func segment(base: UInt32, limit: UInt32, access: UInt8, flags: UInt8) -> UInt64 {
    var value = UInt64(limit & 0xFFFF) | UInt64(limit >> 16 & 0xF) << 48
    value |= UInt64(base & 0xFF_FFFF) << 16 | UInt64(base >> 24) << 56
    return value | UInt64(access) << 40 | UInt64(flags & 0xF) << 52
  }

  /// Fills and loads the descriptor tables of CPU `id`; `%fs` addresses its percpu block from here on.
  static func load(cpu id: Int, apicID: UInt32, doubleFaultStack: UInt32) {
    // SAFETY: static storage, touched only by the CPU it belongs to (or before that CPU starts).
    let cpu = unsafe cpuBlock(id)
    let base = UInt32(truncatingIfNeeded: UInt(bitPattern: cpu))
    unsafe cpu.pointee.this_cpu = unsafe cpu
    unsafe cpu.pointee.id = UInt32(id)
    unsafe cpu.pointee.apic_id = apicID
    unsafe cpu.pointee.preempt_count = 1  // until the scheduler runs here
    unsafe setGate(cpu, 12, segment(base: 0, limit: 0xFFFFF, access: 0x9A, flags: 0xC))
    unsafe setGate(cpu, 13, segment(base: 0, limit: 0xFFFFF, access: 0x92, flags: 0xC))
    unsafe setGate(cpu, 14, segment(base: 0, limit: 0xFFFFF, access: 0xFA, flags: 0xC))
    unsafe setGate(cpu, 15, segment(base: 0, limit: 0xFFFFF, access: 0xF2, flags: 0xC))
    let tss = base + UInt32(PERCPU_TSS)
    let doubleFault = base + UInt32(PERCPU_DOUBLE_FAULT_TSS)
    unsafe setGate(cpu, 16, segment(base: tss, limit: 103, access: 0x89, flags: 0))
    unsafe setGate(cpu, 18, segment(base: base, limit: UInt32(MemoryLayout<percpu>.size) - 1, access: 0x92, flags: 4))
    unsafe setGate(cpu, 31, segment(base: doubleFault, limit: 103, access: 0x89, flags: 0))
    unsafe cpu.pointee.tss.ss0 = UInt32(KERNEL_DS)
    unsafe cpu.pointee.tss.iomap = 104
    unsafe cpu.pointee.double_fault_tss.esp = doubleFaultStack
    unsafe cpu.pointee.double_fault_tss.eip = symbolAddress(&double_fault_entry)
    unsafe cpu.pointee.double_fault_tss.cr3 = KernelSpace.pdpt
    unsafe cpu.pointee.double_fault_tss.cs = UInt32(KERNEL_CS)
    unsafe cpu.pointee.double_fault_tss.ss = UInt32(KERNEL_DS)
    unsafe cpu.pointee.double_fault_tss.ds = UInt32(KERNEL_DS)
    unsafe cpu.pointee.double_fault_tss.es = UInt32(KERNEL_DS)
    unsafe cpu.pointee.double_fault_tss.fs = UInt32(PERCPU_SELECTOR)
    unsafe cpu.pointee.double_fault_tss.eflags = 2
    unsafe segments_load(cpu)
    unsafe withUnsafePointer(to: &gates) { unsafe idt_load($0, 2047) }
  }

  private static func setGate(_ cpu: UnsafeMutablePointer<percpu>, _ index: Int, _ value: UInt64) {
    unsafe (UnsafeMutableRawPointer(cpu) + Int(PERCPU_GDT) + index * 8).assumingMemoryBound(to: UInt64.self).pointee = value
  }

  /// Points every vector at its stub. System calls are open to ring 3; so are #BP and #OF.
  static func fillInterruptTable() {
    let stubs = unsafe symbolAddress(&trap_stubs)
    for vector in 0..<256 {
      unsafe gates[vector] = gate(stubs + UInt32(vector) * 16, privilege: vector == 3 || vector == 4 ? 3 : 0)
    }
    unsafe gates[1] = gate(unsafe symbolAddress(&debug_entry), privilege: 0)
    unsafe gates[0x80] = gate(unsafe symbolAddress(&int80_entry), privilege: 3)
    unsafe gates[8] = UInt64(DF_TSS_SELECTOR) << 16 | 0x85 << 40
  }

  private static func gate(_ handler: UInt32, privilege: UInt64) -> UInt64 {
    UInt64(handler & 0xFFFF) | UInt64(KERNEL_CS) << 16 | (0x8E | privilege << 5) << 40 | UInt64(handler >> 16) << 48
  }
}

/// The percpu block of CPU `id`.
func cpuBlock(_ id: Int) -> UnsafeMutablePointer<percpu> {
  precondition(id >= 0 && id < Int(CPU_MAX))
  // SAFETY: static array of CPU_MAX blocks, index checked.
  return unsafe withUnsafeMutablePointer(to: &machine_cpus) {
    unsafe UnsafeMutableRawPointer($0).assumingMemoryBound(to: percpu.self) + id
  }
}

/// The address of an assembly symbol.
public func symbolAddress<T>(_ symbol: inout T) -> UInt32 {
  unsafe withUnsafePointer(to: &symbol) { UInt32(truncatingIfNeeded: UInt(bitPattern: $0)) }
}

/// Whether CPU `id` has started.
public func cpuIsOnline(_ id: Int) -> Bool { unsafe cpuBlock(id).pointee.online != 0 }

/// The percpu block, for the scheduler.
public func percpuBlock(_ id: Int) -> UnsafeMutablePointer<percpu> { unsafe cpuBlock(id) }
