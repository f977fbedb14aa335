import Machine
import Processes
import Signals
import Sync
import SystemABI
import Threads
import VFS

/// POSIX timers. SPEC: timer_create(2), timer_settime(2), timer_getoverrun(2).
extension Call {
  /// `struct sigevent`: value, signal, how (0 signal, 1 nothing, 4 to a thread), thread id.
  func timerCreate() throws(Errno) -> UInt32 {
    guard [0, 1, 7, 8, 9, 11].contains(a) else { throw .invalidArgument }
    var value: UInt32?
    var notification = PosixTimer.Notification.process(.alarm)
    if b != 0 {
      value = try UserMemory.read32(b)
      let number = try UserMemory.read32(b &+ 4)
      let how = try UserMemory.read32(b &+ 8)
      if how != 1 { guard number >= 1, number <= 64 else { throw .invalidArgument } }
      switch how {
      case 0: notification = .process(Signal(UInt8(number)))
      case 1: notification = .none
      case 4:
        let thread = int(try UserMemory.read32(b &+ 12))
        guard process.signals.withLock({ $0.threads.contains { $0.id == thread } }) else { throw .invalidArgument }
        notification = .thread(Signal(UInt8(number)), thread)
      default: throw .invalidArgument
      }
    }
    let timer = try process.addTimer(isRealtime: a == 0 || a == 8 || a == 11) { (notification, value ?? UInt32(bitPattern: $0)) }
    do throws(Errno) { try UserMemory.write32(UInt32(bitPattern: timer.id), to: c) } catch {
      try? process.deleteTimer(timer.id)
      throw error
    }
    return 0
  }

  func timerSettime(wide: Bool) throws(Errno) -> UInt32 {
    let timer = try process.timer(int(a))
    guard b & ~1 == 0 else { throw .invalidArgument }
    guard let interval = try timespec(c, wide: wide), let value = try timespec(c &+ (wide ? 16 : 8), wide: wide) else {
      throw .invalidArgument
    }
    let old = timer.left
    let due = value == 0 ? nil : deadline(value, absolute: b & 1 != 0, realtime: timer.isRealtime)
    timer.set(due: due, interval: value == 0 ? 0 : interval)
    if d != 0 { try put(old, to: d, wide: wide) }
    return 0
  }

  func timerGettime(wide: Bool) throws(Errno) -> UInt32 {
    let timer = try process.timer(int(a))
    try put(timer.left, to: b, wide: wide)
    return 0
  }

  func timerGetoverrun() throws(Errno) -> UInt32 { min(try process.timer(int(a)).overrun.withLock { $0 }, 0x7FFF_FFFF) }

  func timerDelete() throws(Errno) -> UInt32 {
    try process.deleteTimer(int(a))
    return 0
  }
}
