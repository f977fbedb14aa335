import CMachine
import Machine
import Synchronization
import Threads

@c(kernel_main)
public func kernelMain() {
  Machine.startMemory()
  log("AdrOS: \(Frames.freeCount) frames free of \(Frames.totalCount)")
  Machine.startInterrupts(apic: true)
  Machine.startProcessors(limit: 8)
  log(unsafe "cpus \(Processors.count)")
  Scheduler.start()
  Sleep.start()
  Scheduler.started.store(true, ordering: .releasing)
  for n in 0..<6 {
    let t = try! Thread(user: false) {
      for i in 0..<5 { log("thread \(n) round \(i) cpu \(Processors.current)"); try? Sleep.until(Clock.monotonic + 20_000_000)
        if n == 5 && i == 4 { Power.off() }
      }
    }
    Scheduler.begin(t)
  }
  Scheduler.idleLoop()
}

// placeholders while the layers above are built
@c(user_page_fault) public func a4(_ f: UnsafeMutablePointer<trap_frame>, _ a: UInt32) -> UInt32 { 0 }
@c(user_exception) public func a5(_ f: UnsafeMutablePointer<trap_frame>) {}
@c(return_to_user) public func a6(_ f: UnsafeMutablePointer<trap_frame>) {}
@c(syscall_entry) public func a7(_ f: UnsafeMutablePointer<trap_frame>) {}
@c(sysenter_prepare) public func a8(_ f: UnsafeMutablePointer<trap_frame>) -> UInt32 { 0 }
