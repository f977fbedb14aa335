/// How soon after one timer interrupt the next may come.
///
/// Timers, however many and however short their intervals, must not take a whole CPU. What an interrupt costs lies in part
/// outside its handler (controllers' registers, a hypervisor's work), so it is not enough to look at the handler's time: the
/// gap doubles while threads get less time between two interrupts than an interrupt takes, and shrinks when they
/// get plenty.
public struct InterruptPace {
  /// In nanoseconds.
  public static let shortest: UInt64 = 5_000
  public static let longest: UInt64 = 10_000_000

  private var began: UInt64 = 0
  private var ended: UInt64 = 0
  /// The next interrupt may come so many nanoseconds after the end of this one.
  public private(set) var gap = shortest

  public init() {}

  public mutating func begin(at now: UInt64) {
    let forThreads = now &- ended
    let forTimers = ended &- began
    if forThreads < forTimers { gap = min(gap * 2, Self.longest) }
    if forThreads / 4 > forTimers { gap = max(gap / 2, Self.shortest) }
    began = now
  }

  public mutating func end(at now: UInt64) { ended = now }
}
