import Machine
import Primitives
import Processes
import Signals
import Sync
import SystemABI
import Threads
import VFS

/// Signals to read instead of handling them. SPEC: signalfd(2); `struct signalfd_siginfo` has 128 bytes.
public final class SignalFile: OpenFile {
  public var identity: FileIdentity { .descriptor("[signalfd]") }
  private let wanted: SpinLock<SignalSet, EventFileRank>
  static var recordSize: Int { 128 }

  public init(_ signals: SignalSet) { wanted = SpinLock(signals.subtracting(.unblockable)) }

  public func set(_ signals: SignalSet) { wanted.withLock { $0 = signals.subtracting(.unblockable) } }

  /// A pending signal of the caller that is wanted.
  private func take() -> SignalInformation? {
    let others = SignalSet(bits: ~wanted.withLock { $0 }.bits)
    let task = Task.currentTask
    return task.process.signals.withLock { state in
      task.pending.take(notIn: others) ?? state.pending.take(notIn: others)
    }
  }

  public func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    guard buffer.count >= Self.recordSize else { throw .invalidArgument }
    let first = try Task.currentTask.process.signalEvent.wait(orFail: description.isNonBlocking, reason: "signalfd") { take() }
    var total = 0
    var next: SignalInformation? = first
    while let information = next {
      _ = try buffer.put(Self.record(information).span)
      total += Self.recordSize
      next = buffer.count >= Self.recordSize ? take() : nil
    }
    return total
  }

  private static func record(_ information: SignalInformation) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: recordSize)
    var out = bytes.mutableSpan
    out.put32(UInt32(information.signal.number), at: 0)
    out.put32(UInt32(bitPattern: information.code), at: 8)
    out.put32(UInt32(bitPattern: information.sender), at: 12)
    out.put32(information.senderUser, at: 16)
    out.put32(information.value, at: information.signal == .child ? 40 : 44)
    out.put64(UInt64(information.value), at: 48)
    return bytes
  }

  public func poll(_ table: PollTable?) -> PollEvents {
    let task = Task.currentTask
    table?.add(task.process.signalEvent)
    let wanted = self.wanted.withLock { $0 }
    let pending = task.process.signals.withLock { $0.pending.set.union(task.pending.set) }
    return pending.bits & wanted.bits != 0 ? [.readable, .normalRead] : []
  }
}
