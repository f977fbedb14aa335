import Signals
import Sync
import Synchronization
import SystemABI
import Threads

/// What happens when a process has used so much of the processors: ITIMER_VIRTUAL and ITIMER_PROF of setitimer(2), the limit
/// RLIMIT_CPU of getrlimit(2), and what waits for a `ProcessorClock`.
///
/// Who runs when a timer interrupt comes looks on its way back to user mode: late by a slice at most, never early.
public struct ProcessorTimers {
  /// In nanoseconds of the process's time.
  struct Timer {
    /// 0 when it is stopped.
    var due: UInt64 = 0
    var interval: UInt64 = 0

    /// How often it has expired; it starts again after its interval.
    mutating func expire(at used: UInt64) -> UInt64 {
      guard due > 0, used >= due else { return 0 }
      let times = interval == 0 ? 1 : (used - due) / interval + 1
      due = interval == 0 ? 0 : due &+ times &* interval
      return times
    }
  }
  /// A timer that waits for a clock of the process or of one of its threads.
  struct Client {
    let timer: PeriodicTimer
    let clock: ProcessorClock
    var setting: Timer
  }
  /// What a timer counts: time in user mode, or all.
  public enum Kind { case virtual, profiling }
  var virtual = Timer()
  var profiling = Timer()
  /// When the next SIGXCPU is due, and the end; .max for never.
  var nextWarning = UInt64.max
  var end = UInt64.max
  var clients: [Client] = []

  subscript(kind: Kind) -> Timer {
    get { kind == .virtual ? virtual : profiling }
    set { if kind == .virtual { virtual = newValue } else { profiling = newValue } }
  }

  var isIdle: Bool { virtual.due == 0 && profiling.due == 0 && nextWarning == .max && end == .max && clients.isEmpty }
}

extension Process {
  /// Sets a timer: `value` is from now on, 0 stops it.
  public func setProcessorTimer(_ kind: ProcessorTimers.Kind, value: UInt64, interval: UInt64) {
    let used = used(by: kind)
    processorTimers.withLock { timers in
      timers[kind] = value == 0 ? .init() : .init(due: used + value, interval: interval)
      watchesProcessorTime.store(!timers.isIdle, ordering: .relaxed)
    }
  }

  /// What is left of a timer, at least 1 while it runs; and its interval.
  public func processorTimer(_ kind: ProcessorTimers.Kind) -> (remaining: UInt64, interval: UInt64) {
    let used = used(by: kind)
    let timer = processorTimers.withLock { $0[kind] }
    return (timer.due == 0 ? 0 : timer.due > used ? timer.due - used : 1, timer.interval)
  }

  private func used(by kind: ProcessorTimers.Kind) -> UInt64 {
    let time = processorTime
    return kind == .virtual ? time.user : time.user + time.system
  }

  /// RLIMIT_CPU has changed, in seconds.
  public func limitProcessorTime(_ limit: ResourceLimit) {
    func nanoseconds(_ seconds: UInt64) -> UInt64 {
      let (product, isTooLarge) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
      return isTooLarge ? .max : product
    }
    processorTimers.withLock { timers in
      (timers.nextWarning, timers.end) = (nanoseconds(limit.soft), nanoseconds(limit.hard))
      watchesProcessorTime.store(!timers.isIdle, ordering: .relaxed)
    }
  }

  /// After a timer interrupt in a process that has some of this.
  func checkProcessorTimers() {
    let time = processorTime
    let total = time.user + time.system
    let due: [Signal] = processorTimers.withLock { timers in
      var due: [Signal] = []
      if timers.virtual.expire(at: time.user) > 0 { due.append(.virtualAlarm) }
      if timers.profiling.expire(at: total) > 0 { due.append(.profiling) }
      if total >= timers.end {
        due.append(.kill)
        timers.end = .max
      } else if total >= timers.nextWarning {
        due.append(.processorTime)
        timers.nextWarning = total + 1_000_000_000
      }
      watchesProcessorTime.store(!timers.isIdle, ordering: .relaxed)
      return due
    }
    for signal in due { send(SignalInformation(signal, code: 128)) }
    expireClients()
  }

  func startProcessorTimer(_ client: ProcessorTimers.Client) {
    processorTimers.withLock { timers in
      timers.clients.removeAll { $0.timer === client.timer }
      timers.clients.append(client)
      watchesProcessorTime.store(true, ordering: .relaxed)
    }
    // Its time may be over already, and the process asleep.
    expireClients()
  }

  func stopProcessorTimer(_ timer: PeriodicTimer) {
    processorTimers.withLock { timers in
      timers.clients.removeAll { $0.timer === timer }
      watchesProcessorTime.store(!timers.isIdle, ordering: .relaxed)
    }
  }

  private func expireClients() {
    let clients = processorTimers.withLock { $0.clients }
    for client in clients {
      guard let used = client.clock.time(in: self) else {
        stopProcessorTimer(client.timer)
        continue
      }
      let times: UInt64 = processorTimers.withLock { timers in
        guard let index = timers.clients.firstIndex(where: { $0.timer === client.timer }) else { return 0 }
        let times = timers.clients[index].setting.expire(at: used)
        if timers.clients[index].setting.due == 0 { timers.clients.remove(at: index) }
        watchesProcessorTime.store(!timers.isIdle, ordering: .relaxed)
        return times
      }
      if times > 0 { client.timer.expire(times) }
    }
  }
}
