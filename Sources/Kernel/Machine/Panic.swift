import Sync
import CMachine
import Synchronization

/// The end: a message, a backtrace of every CPU, then the emulator's exit device or a halt.
public enum Panic {
  private static let started = Atomic<UInt32>(0)
  /// Nothing else runs any more.
  public static var isUnderWay: Bool { started.load(ordering: .relaxed) != 0 }
  private static let names: [16 of StaticString] = [
    "divide error", "debug", "NMI", "breakpoint", "overflow", "bound range", "invalid opcode", "no FPU",
    "double fault", "coprocessor overrun", "invalid TSS", "segment not present", "stack fault",
    "general protection", "page fault", "reserved",
  ]

  static func exception(_ frame: UnsafeMutablePointer<trap_frame>) -> Never {
    // SAFETY: the trap stub's frame.
    let vector = unsafe Int(frame.pointee.vector)
    let eip = unsafe frame.pointee.eip
    let name = vector < 16 ? names[vector].description : "exception"
    var text = "\(name) in the kernel, error \(hex(unsafe frame.pointee.error)), eip \(hex(eip))"
    if vector == 14 { text += ", address \(hex(unsafe cr2_read()))" }
    // SAFETY: the trap stub's frame; the stack pointer at the fault is behind it.
    let registers = unsafe frame.pointee
    text += "\n  eax \(hex(registers.eax)) ebx \(hex(registers.ebx)) ecx \(hex(registers.ecx)) edx \(hex(registers.edx))"
    text += "\n  esi \(hex(registers.esi)) edi \(hex(registers.edi)) ebp \(hex(registers.ebp))"
    text += " esp \(hex(UInt32(UInt(bitPattern: frame)) + 64)) flags \(hex(registers.eflags))"
    halt(text, eip: eip, ebp: unsafe frame.pointee.ebp)
  }

  /// Stops the machine with a message and the caller's backtrace.
  public static func stop(_ message: String) -> Never { halt(message, eip: 0, ebp: unsafe frame_address()) }

  static func halt(_ message: String, eip: UInt32, ebp: UInt32) -> Never {
    // SAFETY: nothing returns from here; the log's lock is broken because its holder may be what died.
    unsafe interrupts_disable()
    if started.exchange(1, ordering: .acquiringAndReleasing) != 0 { unsafe halt_forever() }
    unsafe EarlyConsole.serialEnabled = true
    KernelLog.seize()
    log("\nKERNEL PANIC on cpu \(percpu_id()): " + message)
    backtrace(eip: eip, ebp: ebp)
    Interrupts.stopOthers()
    for id in 0..<Processors.count where UInt32(id) != percpu_id() {
      let cpu = unsafe cpuBlock(id)
      log("cpu \(id):")
      backtrace(eip: unsafe cpu.pointee.panic_eip, ebp: unsafe cpu.pointee.panic_ebp)
    }
    if KernelLog.screen.isSet { KernelLog.screen.value.showNow() }
    Power.exitEmulator(code: 0x11)
    unsafe halt_forever()
    while true {}
  }

  /// Other CPUs report where they are, for the panicking one to print.
  static func nonMaskableInterrupt(_ eip: UInt32, _ ebp: UInt32) {
    guard started.load(ordering: .relaxed) != 0 else { return }
    let cpu = unsafe cpuBlock(Int(percpu_id()))
    unsafe cpu.pointee.panic_ebp = ebp
    unsafe cpu.pointee.panic_eip = eip
    unsafe halt_forever()
  }

  private static func backtrace(eip: UInt32, ebp: UInt32) {
    if eip != 0 { log("  at \(hex(eip))") }
    var frame = StackFrame(ebp)
    for _ in 0..<32 {
      guard let (address, caller) = frame.read() else { break }
      log("  at \(hex(address))")
      frame = caller
    }
  }
}

/// A link of the chain of frame pointers on a kernel stack.
public struct StackFrame {
  /// Where it is; 0 behind the chain's end.
  public let pointer: UInt32

  public init(_ pointer: UInt32) { self.pointer = pointer }

  /// The address it returns to, and its caller's frame; nil at the chain's end.
  public func read() -> (address: UInt32, caller: StackFrame)? {
    // SAFETY: only kernel addresses in the image or the stack area that look like a frame are read.
    guard pointer & 3 == 0, pointer >= 0xC010_0000, pointer < 0xF7DF_FFF0 else { return nil }
    if pointer >= 0xF000_0000, KernelSpace.isStackGuard(pointer) { return nil }
    let next = unsafe UnsafePointer<UInt32>(bitPattern: UInt(pointer))!.pointee
    let address = unsafe UnsafePointer<UInt32>(bitPattern: UInt(pointer + 4))!.pointee
    if address < 0xC010_0000 { return nil }
    // Frames of callers lie above.
    return (address, StackFrame(next > pointer ? next : 0))
  }
}

/// Checked kernels: two locks in the wrong order would deadlock some day.
@c(lock_order_violation)
public func lockOrderViolation(_ held: UInt8, _ wanted: UInt8) -> Never {
  Panic.stop("lock of rank \(wanted) taken while holding rank \(held)")
}
