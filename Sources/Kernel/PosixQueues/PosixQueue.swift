import Machine
import Primitives
import Processes
import Signals
import Sync
import SystemABI
import Threads
import VFS

public struct PosixQueueRank: LockRank { public static let level: UInt8 = 83 }

/// A POSIX message queue: messages by priority, in order of arrival among equals. SPEC: mq_overview(7), POSIX.1-2024 mq_send().
public final class PosixQueue: FileNode {
  /// `struct mq_attr` but for the flags.
  public struct Limits {
    public var messages: Int
    public var size: Int
    public init(messages: Int = 10, size: Int = 8192) {
      self.messages = messages
      self.size = size
    }
    /// What counts against RLIMIT_MSGQUEUE.
    public var bytes: UInt64 { UInt64(messages) * (UInt64(size) + 48) }
  }

  /// Who wants to be told that a message has come to the empty queue: once.
  public struct Notification {
    public var process: Process
    public var signal: Signal?
    public var value: UInt32
    public init(process: Process, signal: Signal?, value: UInt32) {
      self.process = process
      self.signal = signal
      self.value = value
    }
  }

  private struct Level {
    var priority: UInt32
    var messages = ChunkedQueue<[UInt8]>()
  }

  private struct State {
    /// The lowest priority first.
    var levels: [Level] = []
    var count = 0
    var bytes = 0
    var receivers = 0
    var notification: Notification?

    mutating func add(_ message: [UInt8], _ priority: UInt32) {
      var index = levels.count
      while index > 0, levels[index - 1].priority > priority { index -= 1 }
      if index == 0 || levels[index - 1].priority != priority {
        levels.insert(Level(priority: priority), at: index)
        index += 1
      }
      levels[index - 1].messages.append(message)
      count += 1
      bytes += message.count
    }

    mutating func take() -> (message: [UInt8], priority: UInt32)? {
      let last = levels.count - 1
      guard last >= 0, let message = levels[last].messages.popFirst() else { return nil }
      let priority = levels[last].priority
      if levels[last].messages.isEmpty { levels.removeLast() }
      count -= 1
      bytes -= message.count
      return (message, priority)
    }
  }

  public let limits: Limits
  private let charge: QueueCharge
  private let state = SpinLock<State, PosixQueueRank>(State())
  private let readable = WaitQueue()
  private let writable = WaitQueue()

  init(_ limits: Limits, _ charge: QueueCharge) {
    self.limits = limits
    self.charge = charge
  }

  override public func makeFile() throws(Errno) -> any OpenFile { PosixQueueFile(self) }

  public var count: Int { state.withLock { $0.count } }

  /// Adds a message; waits while the queue is full. `deadline` in nanoseconds since boot.
  public func send(_ message: [UInt8], priority: UInt32, nonBlocking: Bool, deadline: Deadline?, by sender: Process) throws(Errno) {
    let due = try wait(writable, nonBlocking, deadline) { () -> Notification?? in
      state.withLock { state -> Notification?? in
        if state.count == limits.messages { return nil }
        state.add(message, priority)
        guard state.count == 1, state.receivers == 0 else { return .some(nil) }
        let due = state.notification
        state.notification = nil
        return .some(due)
      }
    }
    readable.wake()
    guard let due, let signal = due.signal else { return }
    var information = SignalInformation(signal, code: -3)  // SI_MESGQ
    information.sender = sender.id
    information.senderUser = sender.who.uid
    information.value = due.value
    due.process.send(information)
  }

  /// Takes the first message of the highest priority; waits while there is none.
  public func receive(nonBlocking: Bool, deadline: Deadline?) throws(Errno) -> (message: [UInt8], priority: UInt32) {
    if let found = state.withLock({ $0.take() }) {
      writable.wake()
      return found
    }
    state.withLock { $0.receivers += 1 }
    defer { state.withLock { $0.receivers -= 1 } }
    let found = try wait(readable, nonBlocking, deadline) { state.withLock { $0.take() } }
    writable.wake()
    return found
  }

  private func wait<Result>(_ queue: WaitQueue, _ nonBlocking: Bool, _ deadline: Deadline?, _ condition: () -> Result?) throws(Errno)
    -> Result
  {
    if let result = condition() { return result }
    if nonBlocking { throw .wouldBlock }
    do throws(Errno) {
      return try queue.wait(deadline: deadline, reason: "mq", until: condition)
    } catch {
      throw error == .interrupted && deadline == nil ? .restart : error
    }
  }

  /// Asks to be told, or with nil no longer. Throws `resourceBusy` while somebody else is to be told.
  public func notify(_ wish: Notification?, of process: Process) throws(Errno) {
    try state.withLock { state throws(Errno) in
      if let wish {
        if state.notification != nil { throw .resourceBusy }
        state.notification = wish
      } else if state.notification?.process === process {
        state.notification = nil
      }
    }
  }

  func forget(_ process: Process) { try? notify(nil, of: process) }

  fileprivate func poll(_ table: PollTable?) -> PollEvents {
    table?.add(readable)
    table?.add(writable)
    let count = self.count
    var events: PollEvents = count > 0 ? [.readable, .normalRead] : []
    if count < limits.messages { events.formUnion([.writable, .normalWrite]) }
    return events
  }

  /// What reading the queue's file shows.
  fileprivate var summary: String {
    let (bytes, wish) = state.withLock { ($0.bytes, $0.notification) }
    return
      "QSIZE:\(bytes) NOTIFY:\(wish.map { $0.signal == nil ? 1 : 0 } ?? 0) SIGNO:\(wish?.signal?.number ?? 0) NOTIFY_PID:\(wish?.process.id ?? 0)\n"
  }
}

/// An open message queue: what its descriptor is for are the mq calls.
public final class PosixQueueFile: OpenFile {
  public let queue: PosixQueue
  init(_ queue: PosixQueue) { self.queue = queue }

  public var isSeekable: Bool { true }
  public func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    let text = Array(queue.summary.utf8)
    guard offset < UInt64(text.count) else { return 0 }
    return try buffer.put(text, from: Int(offset))
  }
  public func poll(_ table: PollTable?) -> PollEvents { queue.poll(table) }
  public func close(_ description: FileDescription) { queue.forget(Task.currentTask.process) }
}
