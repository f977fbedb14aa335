/// A signal number, 1-64. SPEC: signal(7).
public struct Signal: Equatable, Sendable {
  public let number: UInt8
  @inlinable public init(_ number: UInt8) { self.number = number }
  public static let hangUp = Signal(1), interrupt = Signal(2), quit = Signal(3), illegal = Signal(4), trap = Signal(5)
  public static let abort = Signal(6), bus = Signal(7), floatingPoint = Signal(8), kill = Signal(9), user1 = Signal(10)
  public static let segmentation = Signal(11), user2 = Signal(12), pipe = Signal(13), alarm = Signal(14)
  public static let terminate = Signal(15), child = Signal(17), resume = Signal(18), stop = Signal(19)
  public static let terminalStop = Signal(20), terminalInput = Signal(21), terminalOutput = Signal(22)
  public static let urgent = Signal(23), processorTime = Signal(24), fileSize = Signal(25)
  public static let virtualAlarm = Signal(26), profiling = Signal(27), windowChange = Signal(28)

  public enum DefaultAction: Sendable { case terminate, core, ignore, stop, resume }
  public var defaultAction: DefaultAction {
    switch number {
    case 3, 4, 5, 6, 7, 8, 11, 24, 25, 31: .core
    case 17, 23, 28: .ignore
    case 18: .resume
    case 19, 20, 21, 22: .stop
    default: .terminate
    }
  }
  public var isRealTime: Bool { number >= 32 }
}

/// A set of signals, bit n-1 for signal n: `sigset_t` on i386.
public struct SignalSet: Equatable, Sendable {
  public var bits: UInt64
  @inlinable public init(bits: UInt64 = 0) { self.bits = bits }
  @inlinable public func contains(_ signal: Signal) -> Bool { bits >> UInt64(signal.number - 1) & 1 != 0 }
  @inlinable public mutating func insert(_ signal: Signal) { bits |= 1 << UInt64(signal.number - 1) }
  @inlinable public mutating func remove(_ signal: Signal) { bits &= ~(1 << UInt64(signal.number - 1)) }
  public func subtracting(_ other: SignalSet) -> SignalSet { SignalSet(bits: bits & ~other.bits) }
  public func union(_ other: SignalSet) -> SignalSet { SignalSet(bits: bits | other.bits) }
  @inlinable public var isEmpty: Bool { bits == 0 }
  /// SIGKILL and SIGSTOP: never blocked.
  public static var unblockable: SignalSet { SignalSet(bits: 1 << 8 | 1 << 18) }
  /// SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU.
  public static var stops: SignalSet { SignalSet(bits: 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21) }
  public static var resume: SignalSet { SignalSet(bits: 1 << 17) }
  /// Faults are delivered before anything else. SPEC: Linux delivers synchronous signals first.
  static var synchronous: SignalSet { SignalSet(bits: 1 << 10 | 1 << 6 | 1 << 3 | 1 << 4 | 1 << 7 | 1 << 30) }

  /// The signal to deliver first.
  public var first: Signal? {
    let preferred = bits & Self.synchronous.bits
    let set = preferred != 0 ? preferred : bits
    return set == 0 ? nil : Signal(UInt8(set.trailingZeroBitCount + 1))
  }
}

/// What comes with a signal: the fields of `siginfo_t` that programs read.
public struct SignalInformation: Sendable {
  public var signal: Signal
  /// SI_USER 0, SI_KERNEL 128, SI_QUEUE -1, SI_TKILL -6, or a fault's own code.
  public var code: Int32
  public var sender: Int32 = 0
  public var senderUser: UInt32 = 0
  /// SI_TIMER: `sender` is the timer's id then.
  public static var timerCode: Int32 { -2 }
  /// The fault address, the queued value, or SIGCHLD's status.
  public var value: UInt32 = 0

  public init(_ signal: Signal, code: Int32 = 0) {
    self.signal = signal
    self.code = code
  }
}

/// Pending signals: a set, and a queue for those that come with information. Standard signals are queued once.
public struct PendingSignals: Sendable {
  public private(set) var set = SignalSet()
  /// In pieces, so that no queue, however long, needs more than a page at once. Only the last one grows.
  private var queue: [[SignalInformation]] = []
  public private(set) var count = 0
  private static var pieceSize: Int { 64 }

  public init() {}

  /// Adds a signal; false when a standard one was pending already.
  @discardableResult public mutating func add(_ information: SignalInformation) -> Bool {
    if set.contains(information.signal), !information.signal.isRealTime { return false }
    set.insert(information.signal)
    if queue.last.map({ $0.count < Self.pieceSize }) != true { queue.append([]) }
    queue[queue.count - 1].append(information)
    count += 1
    return true
  }

  /// Takes the first deliverable signal out.
  public mutating func take(notIn blocked: SignalSet) -> SignalInformation? {
    guard let signal = set.subtracting(blocked).first else { return nil }
    guard let (piece, index) = find(signal, from: 0) else {
      set.remove(signal)
      return SignalInformation(signal)
    }
    let information = queue[piece].remove(at: index)
    count -= 1
    if !signal.isRealTime || find(signal, from: piece) == nil { set.remove(signal) }
    if queue[piece].isEmpty { queue.remove(at: piece) }
    return information
  }

  private func find(_ signal: Signal, from first: Int) -> (piece: Int, index: Int)? {
    for piece in first..<queue.count {
      if let index = queue[piece].firstIndex(where: { $0.signal == signal }) { return (piece, index) }
    }
    return nil
  }

  /// Whether a timer's signal waits.
  public func containsTimer(_ id: Int32) -> Bool {
    queue.contains { $0.contains { $0.code == SignalInformation.timerCode && $0.sender == id } }
  }

  public mutating func discard(_ signals: SignalSet) {
    if set.bits & signals.bits == 0 { return }
    set = set.subtracting(signals)
    for piece in queue.indices { queue[piece].removeAll { signals.contains($0.signal) } }
    queue.removeAll { $0.isEmpty }
    count = queue.reduce(0) { $0 + $1.count }
  }
}
