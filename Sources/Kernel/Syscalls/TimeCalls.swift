import Machine
import Primitives
import Processes
import Signals
import Sync
import SystemABI
import Threads
import VFS

/// Clocks, sleeping, timers, futexes.
extension Call {
  private func now(_ clock: UInt32) throws(Errno) -> UInt64 {
    switch clock {
    case 0, 5, 8, 11: return UInt64(max(0, Clock.realtime))
    case 1, 4, 6, 7, 9: return Clock.monotonic
    case 2: return process.processorTime.total
    case 3: return Scheduler.time(of: task).total
    default:
      guard let time = try ProcessorClock(clock, of: task, reading: true).time else { throw .invalidArgument }
      return time
    }
  }

  func clockGetTime(wide: Bool) throws(Errno) -> UInt32 {
    try putTimespec(try now(a), to: b, wide: wide)
    return 0
  }

  func clockGetResolution(wide: Bool) throws(Errno) -> UInt32 {
    _ = try now(a)
    if b != 0 { try putTimespec(a == 5 || a == 6 ? 10_000_000 : 1, to: b, wide: wide) }
    return 0
  }

  /// adjtimex and clock_adjtime: the clock runs as the machine's counter does, unsynchronised (TIME_ERROR), and is not
  /// steered. `struct timex` has words of 4 bytes, `struct __kernel_timex` of 8.
  func adjustTime(_ address: UInt32, wide: Bool) throws(Errno) -> UInt32 {
    if try UserMemory.read32(address) != 0 {
      try require(.time)
      throw .invalidArgument
    }
    let now = max(0, Clock.realtime)
    let width = wide ? 8 : 4
    var bytes = [UInt8](repeating: 0, count: wide ? 208 : 128)
    var out = bytes.mutableSpan
    // maxerror, esterror, status STA_UNSYNC, constant, precision, tolerance, seconds, microseconds, tick.
    let fields: [(Int, Int64)] = [
      (3, 16_000_000), (4, 16_000_000), (5, 0x40), (6, 2), (7, 1), (8, 32_768_000), (9, now / 1_000_000_000),
      (10, now % 1_000_000_000 / 1000), (11, 10_000),
    ]
    for (index, value) in fields {
      out.put32(UInt32(truncatingIfNeeded: value), at: index * width)
      if wide { out.put32(UInt32(truncatingIfNeeded: value >> 32), at: index * width + 4) }
    }
    try UserMemory.write(bytes.span, to: address)
    return 5
  }

  func clockAdjust(wide: Bool) throws(Errno) -> UInt32 {
    if a != 0 {
      _ = try now(a)
      throw .notSupportedOnSocket
    }
    return try adjustTime(b, wide: wide)
  }

  func clockSetTime(wide: Bool) throws(Errno) -> UInt32 {
    if a == 2 || a == 3 || int(a) < 0 {
      _ = try now(a)
      throw .notPermitted
    }
    guard a == 0 else { throw .invalidArgument }
    try require(.time)
    guard let time = try timespec(b, wide: wide) else { throw .badAddress }
    Scheduler.setWallClock(Int64(time))
    return 0
  }

  func time() throws(Errno) -> UInt32 {
    let seconds = UInt32(truncatingIfNeeded: Clock.realtime / 1_000_000_000)
    if a != 0 { try UserMemory.write32(seconds, to: a) }
    return seconds
  }

  func gettimeofday() throws(Errno) -> UInt32 {
    let now = UInt64(max(0, Clock.realtime))
    if a != 0 {
      try UserMemory.write32(UInt32(truncatingIfNeeded: now / 1_000_000_000), to: a)
      try UserMemory.write32(UInt32(now % 1_000_000_000 / 1000), to: a &+ 4)
    }
    if b != 0 { try UserMemory.write64(0, to: b) }
    return 0
  }

  /// nanosleep and clock_nanosleep; what is left goes to `remaining` when a signal ends it.
  func sleep(clock: UInt32, absolute: Bool, _ request: UInt32, _ remaining: UInt32, wide: Bool) throws(Errno) -> UInt32 {
    if clock == 2 || int(clock) < 0 { return try sleep(by: clock, absolute: absolute, request, remaining, wide: wide) }
    // Only some clocks can be slept by: not raw and coarse ones, nor one's own thread's, which stands still meanwhile.
    guard [0, 1, 7, 8, 9, 11].contains(clock) else { throw (3...6).contains(clock) ? .notSupportedOnSocket : .invalidArgument }
    guard let time = try timespec(request, wide: wide) else { throw .badAddress }
    let deadline = task.sleepDeadline ?? self.deadline(time, absolute: absolute, realtime: [0, 8, 11].contains(clock))
    task.sleepDeadline = nil
    do throws(Errno) { try Sleep.until(deadline) } catch {
      if absolute { throw .restartIfNoHandler }
      if remaining != 0 { try putTimespec(deadline.remaining, to: remaining, wide: wide) }
      // A stop and a continue without a handler must not cut the sleep short. SPEC: signal(7), restart_syscall(2).
      task.sleepDeadline = deadline
      throw .restartIfNoHandler
    }
    return 0
  }

  /// A sleep while the process uses so much of the processors.
  private func sleep(by number: UInt32, absolute: Bool, _ request: UInt32, _ remaining: UInt32, wide: Bool) throws(Errno) -> UInt32 {
    let clock = try ProcessorClock(number, of: task)
    if clock.isOfThread(task) { throw .invalidArgument }
    guard let time = try timespec(request, wide: wide) else { throw .badAddress }
    guard let now = clock.time else { throw .noSuchProcess }
    let due = task.sleepDeadline?.nanoseconds ?? (absolute ? time : now &+ time)
    task.sleepDeadline = nil
    do throws(Errno) { try clock.sleep(until: due) } catch {
      if error != .interrupted || absolute { throw error == .interrupted ? .restartIfNoHandler : error }
      let left = due - min(due, clock.time ?? due)
      if remaining != 0 { try putTimespec(left, to: remaining, wide: wide) }
      task.sleepDeadline = .sinceBoot(due)
      throw .restartIfNoHandler
    }
    return 0
  }

  func alarm() -> UInt32 {
    let old = process.alarm.left.remaining
    process.alarm.set(due: a == 0 ? nil : .after(UInt64(a) * 1_000_000_000), interval: 0)
    return UInt32((old + 999_999_999) / 1_000_000_000)
  }

  func putTimeval(_ nanoseconds: UInt64, to address: UInt32) throws(Errno) {
    try UserMemory.write32(UInt32(truncatingIfNeeded: nanoseconds / 1_000_000_000), to: address)
    try UserMemory.write32(UInt32(nanoseconds % 1_000_000_000 / 1000), to: address &+ 4)
  }

  func timeval(_ address: UInt32) throws(Errno) -> UInt64 {
    let seconds = try UserMemory.read32(address)
    let microseconds = try UserMemory.read32(address &+ 4)
    guard int(seconds) >= 0, microseconds < 1_000_000 else { throw .invalidArgument }
    return UInt64(seconds) * 1_000_000_000 + UInt64(microseconds) * 1000
  }

  func getitimer() throws(Errno) -> UInt32 {
    let left = try intervalTimer()
    try putTimeval(left.interval, to: b)
    try putTimeval(left.remaining, to: b &+ 8)
    return 0
  }

  /// 0 is ITIMER_REAL, 1 ITIMER_VIRTUAL, 2 ITIMER_PROF.
  private func intervalTimer() throws(Errno) -> (interval: UInt64, remaining: UInt64) {
    switch a {
    case 0: return process.alarm.left
    case 1, 2:
      let (remaining, interval) = process.processorTimer(a == 1 ? .virtual : .profiling)
      return (interval, remaining)
    default: throw .invalidArgument
    }
  }

  func setitimer() throws(Errno) -> UInt32 {
    let old = try intervalTimer()
    // Without a new setting the timer is stopped, as on Linux.
    let interval = b == 0 ? 0 : try timeval(b)
    let value = b == 0 ? 0 : try timeval(b &+ 8)
    if a == 0 {
      process.alarm.set(due: value == 0 ? nil : .after(value), interval: value == 0 ? 0 : interval)
    } else {
      process.setProcessorTimer(a == 1 ? .virtual : .profiling, value: value, interval: interval)
    }
    if c != 0 {
      try putTimeval(old.interval, to: c)
      try putTimeval(old.remaining, to: c &+ 8)
    }
    return 0
  }

  func futex(wide: Bool) throws(Errno) -> UInt32 {
    let operation = b & 0x7F
    switch operation {
    case 0, 9:  // WAIT, WAIT_BITSET
      let bits = operation == 9 ? f : .max
      if bits == 0 { throw .invalidArgument }
      let deadline = try futexDeadline(wide: wide, relative: operation == 0, realtime: b & 256 != 0)
      do throws(Errno) { try Futex.wait(a, expected: c, bits: bits, deadline: deadline, in: process) } catch {
        throw error == .interrupted && deadline == nil ? .restart : error
      }
      return 0
    case 1, 10:
      if operation == 10, f == 0 { throw .invalidArgument }
      _ = try UserMemory.read32(a)
      return UInt32(result: Futex.wake(a, Int(max(0, int(c))), bits: operation == 10 ? f : .max, in: process))
    case 3, 4:  // REQUEUE, CMP_REQUEUE
      let expected = operation == 4 ? f : nil
      return UInt32(
        result: try Futex.requeue(
          a, wake: Int(max(0, int(c))), to: e, move: Int(max(0, int(d))), expected: expected, in: process))
    case 5: return try wakeOperation()
    case 6, 13:  // LOCK_PI, whose clock is the real-time one, and LOCK_PI2
      let deadline = try futexDeadline(wide: wide, relative: false, realtime: operation == 6 || b & 256 != 0)
      try PriorityFutex.lock(a, deadline: deadline, trying: false, in: process)
      return 0
    case 7:
      try PriorityFutex.unlock(a, in: process)
      return 0
    case 8:
      try PriorityFutex.lock(a, deadline: nil, trying: true, in: process)
      return 0
    case 11:  // WAIT_REQUEUE_PI
      let deadline = try futexDeadline(wide: wide, relative: false, realtime: b & 256 != 0)
      try Futex.waitForLock(a, expected: c, target: e, deadline: deadline, in: process)
      return 0
    case 12:  // CMP_REQUEUE_PI
      guard c == 1 else { throw .invalidArgument }
      return UInt32(result: try PriorityFutex.requeue(a, to: e, move: Int(max(0, int(d))), expected: f, in: process))
    default: throw .noFunction
    }
  }

  /// A futex call's time in argument 4.
  private func futexDeadline(wide: Bool, relative: Bool, realtime: Bool) throws(Errno) -> Deadline? {
    guard let time = try timespec(d, wide: wide) else { return nil }
    return deadline(time, absolute: !relative, realtime: realtime)
  }

  /// FUTEX_WAKE_OP: changes the second word, wakes on the first, and on the second if its old value compares true.
  private func wakeOperation() throws(Errno) -> UInt32 {
    let encoded = f
    var operand = UInt32(bitPattern: Int32(bitPattern: encoded << 8) >> 20)
    let comparand = Int32(bitPattern: encoded << 20) >> 20
    if encoded >> 31 != 0 { operand = 1 << (operand & 31) }
    var old = try UserMemory.read32(e)
    while true {
      let new: UInt32
      switch encoded >> 28 & 7 {
      case 0: new = operand
      case 1: new = old &+ operand
      case 2: new = old | operand
      case 3: new = old & ~operand
      case 4: new = old ^ operand
      default: throw .noFunction
      }
      let seen = try UserMemory.exchange(e, expected: old, desired: new)
      if seen == old { break }
      old = seen
    }
    var woken = Futex.wake(a, Int(max(0, int(c))), in: process)
    let value = int(old)
    let matches =
      switch encoded >> 24 & 15 {
      case 0: value == comparand
      case 1: value != comparand
      case 2: value < comparand
      case 3: value <= comparand
      case 4: value > comparand
      default: value >= comparand
      }
    if matches { woken += Futex.wake(e, Int(max(0, int(d))), in: process) }
    return UInt32(result: woken)
  }
}
