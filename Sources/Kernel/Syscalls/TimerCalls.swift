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
    let source = try timerSource(a)
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
    let timer = try process.addTimer(source) { (notification, value ?? UInt32(bitPattern: $0)) }
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
    let old = left(of: timer)
    if case .processor(let clock) = timer.source {
      if value == 0 {
        clock.stop(timer)
      } else {
        guard let now = clock.time else { throw .noSuchProcess }
        timer.reset()
        try clock.start(timer, due: b & 1 != 0 ? value : now &+ value, interval: interval)
      }
    } else {
      var isRealtime = false
      if case .realtime = timer.source { isRealtime = true }
      let due = value == 0 ? nil : deadline(value, absolute: b & 1 != 0, realtime: isRealtime)
      timer.set(due: due, interval: value == 0 ? 0 : interval)
    }
    if d != 0 { try put(old, to: d, wide: wide) }
    return 0
  }

  private func timerSource(_ clock: UInt32) throws(Errno) -> PosixTimer.Source {
    switch clock {
    case 0, 8, 11: return .realtime
    case 1, 7, 9: return .monotonic
    case 4, 5, 6: throw .notSupportedOnSocket  // raw and coarse ones only show the time
    default: return .processor(try ProcessorClock(clock, of: task))
    }
  }

  private func left(of timer: PosixTimer) -> (interval: UInt64, remaining: UInt64) {
    if case .processor(let clock) = timer.source { return clock.left(of: timer) }
    return timer.left
  }

  func timerGettime(wide: Bool) throws(Errno) -> UInt32 {
    try put(left(of: try process.timer(int(a))), to: b, wide: wide)
    return 0
  }

  func timerGetoverrun() throws(Errno) -> UInt32 { min(try process.timer(int(a)).overrun.withLock { $0 }, 0x7FFF_FFFF) }

  func timerDelete() throws(Errno) -> UInt32 {
    try process.deleteTimer(int(a))
    return 0
  }
}
