import Machine
import Processes
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// Calls of a line or two.
extension Call {
  func yield() -> UInt32 {
    Scheduler.yield()
    return 0
  }

  func setTidAddress() -> UInt32 {
    task.clearChildID = a
    return UInt32(bitPattern: task.id)
  }

  func setRobustList() throws(Errno) -> UInt32 {
    guard b == 12 else { throw .invalidArgument }
    task.robustList = a
    return 0
  }

  func setUmask() -> UInt32 {
    process.files.withLock { files in
      let old = files.umask
      files.umask = a & 0o777
      return old
    }
  }

  func signalReturn(new: Bool) -> UInt32 {
    task.signalReturn(frame, new: new)
    task.needsAttention = true
    return 0
  }

  func getcpu() throws(Errno) -> UInt32 {
    if a != 0 { try UserMemory.write32(UInt32(Processors.current), to: a) }
    if b != 0 { try UserMemory.write32(0, to: b) }
    return 0
  }

  func hangUp() throws(Errno) -> UInt32 {
    guard process.who.has(.terminals) else { throw .notPermitted }
    process.terminal.withLock { $0 }?.hangUp()
    return 0
  }

  /// There is one personality, PER_LINUX; all ones asks which.
  func personality() throws(Errno) -> UInt32 {
    // Linux keeps what it does not know; of the flags only ADDR_NO_RANDOMIZE has an effect here.
    if a == .max { return process.personality.load(ordering: .relaxed) }
    return process.personality.exchange(a, ordering: .relaxed)
  }
}
