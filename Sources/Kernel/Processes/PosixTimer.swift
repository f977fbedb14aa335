import Machine
import Signals
import Sync
import SystemABI
import Threads

public struct PosixTimerRank: LockRank { public static let level: UInt8 = 48 }

/// A timer of a process. SPEC: POSIX.1-2024 timer_create(), Linux timer_create(2).
public final class PosixTimer: KernelTimer {
  /// How an expiry is told.
  public enum Notification {
    case none
    case process(Signal)
    case thread(Signal, Int32)
  }
  public let id: Int32
  public let process: Int32
  public let isRealtime: Bool
  public let notification: Notification
  public let value: UInt32
  public struct State {
    public var interval: UInt64 = 0
    /// Expiries since the signal that is still pending was sent.
    public var overrun: UInt32 = 0
  }
  public let state = InterruptSpinLock<State, PosixTimerRank>(State())

  init(id: Int32, process: Int32, isRealtime: Bool, notification: Notification, value: UInt32) {
    self.id = id
    self.process = process
    self.isRealtime = isRealtime
    self.notification = notification
    self.value = value
  }

  override public func fire() {
    let interval = state.withLock { $0.interval }
    tell()
    guard interval > 0 else { return }
    var next = deadline + interval
    let now = Clock.monotonic
    if next <= now {
      let missed = (now - next) / interval + 1
      state.withLock { $0.overrun = UInt32(clamping: UInt64($0.overrun) + missed) }
      next += missed * interval
    }
    start(at: next)
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
    if pending { return state.withLock { $0.overrun = $0.overrun == .max ? .max : $0.overrun + 1 } }
    state.withLock { $0.overrun = 0 }
    var information = SignalInformation(signal, code: SignalInformation.timerCode)
    information.sender = id
    information.value = value
    if let target {
      if let thread = owner.thread(target) { owner.send(information, to: thread, isTimer: true) }
    } else {
      owner.send(information, isTimer: true)
    }
  }

  /// Arms it for `deadline` (ns since boot), or stops it with nil.
  public func set(deadline: UInt64?, interval: UInt64) {
    cancel()
    state.withLock { $0 = State(interval: interval) }
    if let deadline { start(at: deadline) }
  }
}

extension Process {
  /// Adds a timer; `wouldBlock` when a process has too many.
  public func addTimer(isRealtime: Bool, _ notification: (Int32) -> (PosixTimer.Notification, value: UInt32)) throws(Errno) -> PosixTimer {
    try timers.withLock { timers throws(Errno) in
      let id = timers.firstIndex { $0 == nil } ?? timers.count
      guard id < 4096 else { throw .wouldBlock }
      let (how, value) = notification(Int32(id))
      let timer = PosixTimer(id: Int32(id), process: self.id, isRealtime: isRealtime, notification: how, value: value)
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
    timer.set(deadline: nil, interval: 0)
  }

  func deleteTimers() {
    let all = timers.withLock { timers in
      let all = timers
      timers = []
      return all
    }
    for case let timer? in all { timer.set(deadline: nil, interval: 0) }
  }
}
