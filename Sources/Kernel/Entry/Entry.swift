import CMachine
import Machine
import Processes
import Signals
import Syscalls
import Synchronization
import SystemABI
import Threads

// The border between assembly and the safe layers: pointers to trap frames become `UserFrame`s here.

@c(syscall_entry)
public func syscallEntry(_ frame: UnsafeMutablePointer<trap_frame>) {
  // SAFETY: the entry stub's frame at the top of this thread's kernel stack.
  let frame = unsafe UserFrame(unsafe frame)
  SyscallDispatcher.dispatch(frame)
  leave(frame)
}

/// A SYSENTER call whose user stack, with argument 6 on it, cannot be read. Interrupts are off when it returns.
@c(sysenter_fault)
public func sysenterFault(_ frame: UnsafeMutablePointer<trap_frame>) {
  Task.currentTask.process.send(SignalInformation(.segmentation, code: 128), to: Task.currentTask)
  // SAFETY: as in syscallEntry.
  unsafe leave(UserFrame(unsafe frame))
}

/// Every way back to user mode: pending signals, a stop, a switch, the end. Interrupts are off when it returns.
@c(return_to_user)
public func returnToUser(_ frame: UnsafeMutablePointer<trap_frame>) { unsafe leave(UserFrame(unsafe frame)) }

private func leave(_ frame: UserFrame) {
  while true {
    // SAFETY: the checks and the return happen with interrupts off, so nothing is missed in between.
    unsafe interrupts_disable()
    if percpu_need_resched() != 0 {
      Scheduler.yield()
      continue
    }
    if !PendingWork.isDue {
      unsafe user_time_resume()
      return
    }
    unsafe user_time_settle()
    unsafe interrupts_enable()
    if PendingWork.handle(frame) { Scheduler.exitCurrent() }
  }
}

/// A page fault by user mode or by a copy on its behalf. Answers 1 when the access can be tried again.
@c(user_page_fault)
public func userPageFault(_ frame: UnsafeMutablePointer<trap_frame>, _ address: UInt32) -> UInt32 {
  // SAFETY: the trap stub's frame.
  let error = unsafe frame.pointee.error
  let fromUser = unsafe frame.pointee.cs & 3 == 3
  return Faults.page(address, error: error, fromUser: fromUser) ? 1 : 0
}

@c(user_exception)
public func userException(_ frame: UnsafeMutablePointer<trap_frame>) {
  // SAFETY: the trap stub's frame, from user mode.
  unsafe Faults.exception(UserFrame(unsafe frame))
}
