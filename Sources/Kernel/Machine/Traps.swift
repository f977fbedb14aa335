import CMachine
import Sync

/// Exceptions and interrupts arrive here from traps.S, with interrupts off.
@c(trap_dispatch)
public func trapDispatch(_ frame: UnsafeMutablePointer<trap_frame>) {
  // SAFETY: `frame` is the stub's frame on this CPU's current kernel stack.
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
  } else if !(unsafe repairReturn(frame)) {
    unsafe Panic.exception(frame)
  }
  if fromUser {
    unsafe return_to_user(frame)
  } else if percpu_need_resched() != 0, preempt_count() == 0, unsafe frame.pointee.eflags & 0x200 != 0 {
    unsafe preempt_schedule()
  }
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
  if unsafe repairReturn(frame) { return }
  unsafe Panic.exception(frame)
}

/// A selector that does not load on the way out to user mode is replaced, and the return tried again.
private func repairReturn(_ frame: UnsafeMutablePointer<trap_frame>) -> Bool {
  let eip = unsafe frame.pointee.eip
  guard unsafe eip >= symbolAddress(&return_fault_start), unsafe eip < symbolAddress(&return_fault_end) else { return false }
  // SAFETY: the fault came from trap_return, whose stack holds ds, es, fs and the iret frame above
  // the interrupted stack pointer; which of them is left depends on how far it got, so all the rest of
  // the words up to the stack's top are examined as selectors in their known places from the top.
  let top = unsafe cpuBlock(Int(percpu_id())).pointee.tss.esp0
  let user = unsafe UnsafeMutablePointer<trap_frame>(bitPattern: UInt(top) - UInt(MemoryLayout<trap_frame>.size))!
  unsafe user.pointee.ds = UInt32(USER_DS)
  unsafe user.pointee.es = UInt32(USER_DS)
  unsafe user.pointee.fs = 0
  unsafe user.pointee.cs = UInt32(USER_CS)
  unsafe user.pointee.ss = UInt32(USER_DS)
  return true
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
