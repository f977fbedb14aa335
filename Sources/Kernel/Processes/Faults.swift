import Machine
import Signals
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// Work that waits for a thread's return to user mode.
public enum PendingWork {
  /// Whether there is any; cheap, for every system call.
  @inlinable public static var isDue: Bool {
    let task = Task.currentTask
    return task.interruptRequested.load(ordering: .relaxed) || task.needsAttention
  }

  /// Does it. Answers whether the thread is to end; nothing of it is left then but its stack.
  @inline(never) public static func handle(_ frame: UserFrame) -> Bool {
    let task = Task.currentTask
    task.needsAttention = false
    if let launch = task.launch {
      task.launch = nil
      launch()
    }
    if task.takeTick() { task.process.checkProcessorTimers() }
    guard task.handlePendingWork(frame) else { return false }
    task.finish()
    return true
  }
}

/// Exceptions of user code.
public enum Faults {
  /// Resolves a page fault, or posts its signal; false when the access must fail.
  public static func page(_ address: UInt32, error: UInt32, fromUser: Bool) -> Bool {
    let task = Task.currentTask
    guard address < userEnd, let space = task.process.space else {
      if fromUser { post(.segmentation, code: 1, address, task, error) }
      return false
    }
    // An access of the processor's own, amid an instruction of the program: QEMU's IRET into virtual-8086 mode. It fails for what
    // it is, supervisor access to a user's page (SMAP), and would fail again.
    if fromUser, error & 4 == 0 {
      post(.segmentation, code: 128, address, task, error)
      return false
    }
    do throws(FaultFailure) {
      let read = task.counts.pagesRead
      defer { if task.counts.pagesRead == read { task.counts.minorFaults &+= 1 } else { task.counts.majorFaults &+= 1 } }
      try space.resolveFault(address, write: error & 2 != 0, execute: error & 16 != 0)
      if fromUser, error & 2 != 0, WriteBack.isDue { WriteBack.relieve(nil, written: 0) }
      return true
    } catch {
      // Room is made and the instruction tried again, in the kernel too.
      if error == .outOfMemory, OutOfMemory.relieve() { return true }
      if fromUser {
        switch error {
        case .segmentation(let mapped): post(.segmentation, code: mapped ? 2 : 1, address, task, 4)
        case .bus: post(.bus, code: 2, address, task, 4)
        case .outOfMemory: task.terminateGroup(status: 9)
        }
      }
      return false
    }
  }

  private static func post(_ signal: Signal, code: Int32, _ address: UInt32, _ task: Task, _ error: UInt32, vector: UInt32 = 14) {
    task.faultError = error
    task.faultVector = vector
    force(signal, code: code, address, task)
  }

  /// A fault's signal cannot be blocked or ignored away.
  private static func force(_ signal: Signal, code: Int32, _ address: UInt32, _ task: Task) {
    task.process.signals.withLock { state in
      let index = Int(signal.number)
      if task.blocked.contains(signal) || state.actions[index].handler == SignalAction.ignore {
        state.actions[index].handler = 0
        task.blocked.remove(signal)
      }
    }
    var information = SignalInformation(signal, code: code)
    information.value = address
    task.process.send(information, to: task)
  }

  public static func exception(_ frame: UserFrame) {
    let task = Task.currentTask
    let (signal, code): (Signal, Int32) =
      switch frame.vector {
      case 0: (.floatingPoint, 1)
      case 1: (.trap, 2)
      case 3: (.trap, 128)
      case 6: (.illegal, 2)
      case 16, 19: (.floatingPoint, 7)
      case 11, 12: (.bus, 128)
      case 17: (.bus, 1)
      case UserFrame.failedReturn: (.illegal, 8)
      default: (.segmentation, 128)
      }
    post(signal, code: code, frame.eip, task, frame.errorCode, vector: frame.vector)
  }
}
