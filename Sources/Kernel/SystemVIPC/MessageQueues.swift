import Machine
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// A queue of typed messages. SPEC: msgget(2), msgsnd(2), msgrcv(2), msgctl(2).
public final class MessageQueue: IPCObject {
  public struct Message {
    public var type: Int32
    public var bytes: [UInt8]
    public init(type: Int32, bytes: [UInt8]) {
      self.type = type
      self.bytes = bytes
    }
  }
  public struct State: ~Copyable {
    public var messages: [Message] = []
    public var byteCount = 0
    public var byteLimit = MessageQueue.defaultLimit
    public var permissions: IPCPermissions
    public var sendTime: Int64 = 0
    public var receiveTime: Int64 = 0
    public var changeTime = Clock.realtime
    public var lastSender: Int32 = 0
    public var lastReceiver: Int32 = 0
    public var isRemoved = false
  }
  public static var maximumSize: Int { 8192 }
  /// Linux's msgmnb: bytes that a queue may hold, unless a privileged process says more.
  public static var defaultLimit: Int { 16384 }
  public let state: SpinLock<State, SegmentRank>
  public let changed = WaitQueue()

  public init(id: Int32, permissions: IPCPermissions) {
    state = SpinLock(State(permissions: permissions))
    super.init(id: id)
  }

  override public var key: UInt32 { state.withLock { $0.permissions.key } }

  private func wait<Result>(_ noWait: Bool, _ empty: Errno, _ body: (inout State) -> Result?) throws(Errno) -> Result {
    var removed = false
    func step() -> Result?? {
      state.withLock { state in
        // A message that came before the end is received, though the receiver runs after it.
        if let result = body(&state) { return .some(result) }
        removed = state.isRemoved
        return removed ? .some(nil) : nil
      }
    }
    let result: Result?
    if let first = step() {
      result = first
    } else {
      if noWait { throw empty }
      result = try changed.wait(reason: "message queue", until: step)
    }
    guard let result, !removed else { throw .identifierRemoved }
    return result
  }

  public func send(_ message: Message, noWait: Bool, sender: Int32) throws(Errno) {
    let _: Bool = try wait(noWait, .wouldBlock) { state in
      guard state.byteCount + message.bytes.count <= state.byteLimit else { return nil }
      state.messages.append(message)
      state.byteCount += message.bytes.count
      state.sendTime = Clock.realtime
      state.lastSender = sender
      return true
    }
    changed.wake()
  }

  /// The message to take: type 0 the first, above 0 the first of that type (or of another with `except`), below 0 the first of the
  /// lowest type up to its absolute value.
  private static func index(_ messages: [Message], _ type: Int32, except: Bool) -> Int? {
    if type == 0 { return messages.isEmpty ? nil : 0 }
    if type > 0 { return messages.firstIndex { except ? $0.type != type : $0.type == type } }
    let limit = type == .min ? .max : -type
    var best: Int?
    for index in messages.indices where messages[index].type <= limit && (best == nil || messages[index].type < messages[best!].type) {
      best = index
    }
    return best
  }

  /// Throws `argListTooLong` for a message that is longer than `limit` unless `truncate`.
  public func receive(
    type: Int32, limit: Int, noWait: Bool, truncate: Bool, except: Bool, receiver: Int32
  ) throws(Errno) -> Message {
    var tooLong = false
    let message: Message? = try wait(noWait, .noMessage) { state -> Message?? in
      guard let index = Self.index(state.messages, type, except: except) else { return nil }
      if state.messages[index].bytes.count > limit, !truncate {
        tooLong = true
        return .some(nil)
      }
      let message = state.messages.remove(at: index)
      state.byteCount -= message.bytes.count
      state.receiveTime = Clock.realtime
      state.lastReceiver = receiver
      return .some(message)
    }
    guard var message, !tooLong else { throw .argListTooLong }
    changed.wake()
    if message.bytes.count > limit { message.bytes.removeLast(message.bytes.count - limit) }
    return message
  }

  public func removed() {
    state.withLock {
      $0.isRemoved = true
      $0.byteLimit = 0  // nothing is sent any more
    }
    changed.wake()
  }
}

public enum MessageQueues {
  private static let cell = BootCell<IPCRegistry<MessageQueue>>()
  public static var all: IPCRegistry<MessageQueue> { cell.value }
  public static func start() { cell.set(IPCRegistry(limit: 32000)) }
}
