import CMachine
import Machine

@c(kernel_main)
public func kernelMain() {
  Machine.startMemory()
  log("AdrOS: \(Frames.freeCount) frames free of \(Frames.totalCount)")
  Machine.startInterrupts(apic: true)
  log("apic \(Interrupts.usesAPIC)")
  Power.off()
}

// placeholders while the layers above are built
@c(preempt_schedule) public func a1() {}
@c(timer_interrupt) public func a2() {}
@c(secondary_cpu_main) public func a3() {}
@c(user_page_fault) public func a4(_ f: UnsafeMutablePointer<trap_frame>, _ a: UInt32) -> UInt32 { 0 }
@c(user_exception) public func a5(_ f: UnsafeMutablePointer<trap_frame>) {}
@c(return_to_user) public func a6(_ f: UnsafeMutablePointer<trap_frame>) {}
@c(syscall_entry) public func a7(_ f: UnsafeMutablePointer<trap_frame>) {}
@c(sysenter_prepare) public func a8(_ f: UnsafeMutablePointer<trap_frame>) -> UInt32 { 0 }
@c(scheduler_finish_switch) public func a9() {}
@c(thread_exit_kernel) public func a10() {}
