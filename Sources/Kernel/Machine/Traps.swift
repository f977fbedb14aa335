import CMachine
import Sync

/// Exceptions and interrupts arrive here from traps.S, with interrupts off. Answers the frame to return by.
@c(trap_dispatch)
public func trapDispatch(_ pushed: UnsafeMutablePointer<trap_frame>) -> UnsafeMutablePointer<trap_frame> {
  // SAFETY: `pushed` is the stub's frame on this CPU's current kernel stack.
  let frame = unsafe pushed.pointee.eflags & 1 << 17 == 0 ? pushed : unsafe frameOutOfVirtualMode(pushed)
  let vector = unsafe frame.pointee.vector
  let fromUser = unsafe frame.pointee.cs & 3 == 3
  if fromUser { unsafe user_time_stop() }
  if vector == 14 {
    unsafe pageFault(frame, fromUser: fromUser)
  } else if vector >= 32 {
    enterPreemptionOff()
    let base = LockOrder.enterInterrupt()
    Interrupts.dispatch(vector)
    LockOrder.leaveInterrupt(base)
    unsafe preempt_enable_quiet()
  } else if vector == 2 {
    Panic.nonMaskableInterrupt(unsafe frame.pointee.eip, unsafe frame.pointee.ebp)
  } else if fromUser {
    unsafe interrupts_enable()
    unsafe user_exception(frame)
  } else if let user = unsafe frameOfFailedReturn(frame) {
    // SAFETY: the way out is entered anew, as by an exception in the program.
    unsafe user_time_stop()
    unsafe interrupts_enable()
    unsafe user_exception(user)
    unsafe return_to_user(user)
    return unsafe user
  } else if !(unsafe repairSelector(frame)) {
    unsafe Panic.exception(frame)
  }
  if fromUser {
    unsafe return_to_user(frame)
  } else if percpu_need_resched() != 0, preempt_count() == 0, unsafe frame.pointee.eflags & 0x200 != 0 {
    unsafe preempt_schedule()
  }
  return unsafe frame
}

/// A page fault: the process layer resolves it, or the access fails with EFAULT or a signal.
private func pageFault(_ frame: UnsafeMutablePointer<trap_frame>, fromUser: Bool) {
  // SAFETY: as in trapDispatch; user faults may sleep, so interrupts go on.
  let address = unsafe cr2_read()
  if fromUser {
    unsafe interrupts_enable()
    _ = unsafe user_page_fault(frame, address)
    return
  }
  let eip = unsafe frame.pointee.eip
  let inUserAccess = unsafe eip >= symbolAddress(&user_access_start) && eip < symbolAddress(&user_access_end)
  if inUserAccess, address < userEnd {
    // With preemption off the copy must not sleep: it fails at once and the caller retries outside its lock.
    if preempt_count() == 0, unsafe frame.pointee.eflags & 0x200 != 0 {
      unsafe interrupts_enable()
      let resolved = unsafe user_page_fault(frame, address)
      unsafe interrupts_disable()
      if resolved != 0 { return }
    }
    unsafe frame.pointee.eip = symbolAddress(&user_access_fault)
    return
  }
  unsafe Panic.exception(frame)
}

/// Virtual-8086 mode is for the kernel alone to enter, and ours never does; but QEMU's emulator lets a program's IRET do it. The
/// processor then pushes four segment registers more, so that the frame is not where a user's frame is: it is made one, of the
/// program's ordinary segments.
private func frameOutOfVirtualMode(_ frame: UnsafeMutablePointer<trap_frame>) -> UnsafeMutablePointer<trap_frame> {
  // SAFETY: the user's frame lies at the stack's top, across this one: all of it is taken before that is written.
  var whole = unsafe frame.pointee
  let top = unsafe cpuBlock(Int(percpu_id())).pointee.tss.esp0
  let user = unsafe UnsafeMutablePointer<trap_frame>(bitPattern: UInt(top) - UInt(MemoryLayout<trap_frame>.size))!
  whole.eflags &= ~(1 << 17)
  whole.cs = UInt32(USER_CS)
  whole.ss = UInt32(USER_DS)
  whole.ds = UInt32(USER_DS)
  whole.es = UInt32(USER_DS)
  whole.fs = 0
  unsafe user.pointee = whole
  return unsafe user
}

/// A segment register that does not load on the way out to user mode becomes null, and the return is tried again; so does the
/// user's %gs when a thread is switched to.
private func repairSelector(_ frame: UnsafeMutablePointer<trap_frame>) -> Bool {
  let eip = unsafe frame.pointee.eip
  if unsafe eip == symbolAddress(&gs_load_fault) {
    unsafe frame.pointee.eip = symbolAddress(&gs_load_null)
    return true
  }
  guard unsafe eip >= symbolAddress(&return_fault_start), unsafe eip < symbolAddress(&return_fault_iret) else { return false }
  // SAFETY: the fault left the stack pointer at the selector: there a trap from user mode has the user's stack pointer.
  unsafe frame.pointee.esp = 0
  return true
}

/// The user's frame, whole again, after an IRET that faulted: its code or stack segment or its instruction pointer is
/// none that a program can have. The program gets a signal for it, as on Linux.
private func frameOfFailedReturn(_ frame: UnsafeMutablePointer<trap_frame>) -> UnsafeMutablePointer<trap_frame>? {
  guard unsafe frame.pointee.eip == symbolAddress(&return_fault_iret) else { return nil }
  // SAFETY: trap_return had popped all but five words of the user's frame, which ends at the stack's top. The fault's own
  // frame lies across the rest and has the registers in it: they are taken before the rest is written.
  let registers = unsafe frame.pointee
  let top = unsafe cpuBlock(Int(percpu_id())).pointee.tss.esp0
  let user = unsafe UnsafeMutablePointer<trap_frame>(bitPattern: UInt(top) - UInt(MemoryLayout<trap_frame>.size))!
  var whole = registers
  unsafe whole.eip = user.pointee.eip
  unsafe whole.cs = user.pointee.cs
  unsafe whole.eflags = user.pointee.eflags
  unsafe whole.esp = user.pointee.esp
  unsafe whole.ss = user.pointee.ss
  whole.vector = UserFrame.failedReturn
  unsafe user.pointee = whole
  return unsafe user
}

/// The end of user addresses.
public let userEnd: UInt32 = 0xC000_0000

/// A double fault: nearly always a kernel stack that ran into its guard page.
@c(double_fault)
public func doubleFault() {
  // SAFETY: we run on the double-fault stack; the interrupted task's registers are in the main TSS.
  let cpu = unsafe cpuBlock(Int(percpu_id()))
  let address = unsafe cr2_read()
  let eip = unsafe cpu.pointee.tss.eip
  let ebp = unsafe cpu.pointee.tss.ebp
  if KernelSpace.isStackGuard(address) {
    Panic.halt("kernel stack overflow at \(hex(address))", eip: eip, ebp: ebp)
  }
  Panic.halt("double fault, cr2 \(hex(address))", eip: eip, ebp: ebp)
}
