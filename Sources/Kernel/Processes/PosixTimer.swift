import Machine
import Signals
import Sync
import SystemABI
import Threads

public struct PosixTimerRank: LockRank { public static let level: UInt8 = 49 }

/// A timer of a process. SPEC: POSIX.1-2024 timer_create(), Linux timer_create(2).
public final class PosixTimer: PeriodicTimer {
  /// How an expiry is told.
  public enum Notification {
    case none
    case process(Signal)
    case thread(Signal, Int32)
  }
  public let id: Int32
  public let process: Int32
  /// What it goes by.
  public enum Source {
    case monotonic
    case realtime
    case processor(ProcessorClock)
  }
  public let source: Source
  public let notification: Notification
  public let value: UInt32
  /// Expiries since the signal that is still pending was sent.
  public let overrun = InterruptSpinLock<UInt32, PosixTimerRank>(0)

  init(id: Int32, process: Int32, source: Source, notification: Notification, value: UInt32) {
    self.id = id
    self.process = process
    self.source = source
    self.notification = notification
    self.value = value
  }

  public func stop() {
    if case .processor(let clock) = source { clock.stop(self) } else { set(due: nil, interval: 0) }
  }

  override public func reset() { overrun.withLock { $0 = 0 } }

  override public func expire(_ times: UInt64) {
    tell()
    overrun.withLock { $0 = UInt32(clamping: UInt64($0) + times - 1) }
  }

  /// Sends the signal, or counts an overrun while the last one is still pending.
  private func tell() {
    let signal: Signal
    let target: Int32?
    switch notification {
    case .none: return
    case .process(let number): (signal, target) = (number, nil)
    case .thread(let number, let id): (signal, target) = (number, id)
    }
    guard let owner = ProcessTable.shared.find(process) else { return }
    let pending = owner.signals.withLock { state in
      state.pending.containsTimer(id) || state.threads.contains { $0.pending.containsTimer(id) }
    }
    if pending { return overrun.withLock { $0 = $0 == .max ? .max : $0 + 1 } }
    reset()
    var information = SignalInformation(signal, code: SignalInformation.timerCode)
    information.sender = id
    information.value = value
    if let target {
      if let thread = owner.thread(target) { owner.send(information, to: thread, isTimer: true) }
    } else {
      owner.send(information, isTimer: true)
    }
  }
}

extension Process {
  /// Adds a timer; `wouldBlock` when a process has too many.
  public func addTimer(_ source: PosixTimer.Source, _ notification: (Int32) -> (PosixTimer.Notification, value: UInt32)) throws(Errno)
    -> PosixTimer
  {
    try timers.withLock { timers throws(Errno) in
      let id = timers.firstIndex { $0 == nil } ?? timers.count
      guard id < 4096 else { throw .wouldBlock }
      let (how, value) = notification(Int32(id))
      let timer = PosixTimer(id: Int32(id), process: self.id, source: source, notification: how, value: value)
      if id == timers.count { timers.append(timer) } else { timers[id] = timer }
      return timer
    }
  }

  public func timer(_ id: Int32) throws(Errno) -> PosixTimer {
    guard let timer = timers.withLock({ id >= 0 && Int(id) < $0.count ? $0[Int(id)] : nil }) else { throw .invalidArgument }
    return timer
  }

  public func deleteTimer(_ id: Int32) throws(Errno) {
    let timer = try timer(id)
    timers.withLock { $0[Int(id)] = nil }
    timer.stop()
  }

  func deleteTimers() {
    let all = timers.withLock { timers in
      let all = timers
      timers = []
      return all
    }
    for case let timer? in all { timer.stop() }
  }
}
