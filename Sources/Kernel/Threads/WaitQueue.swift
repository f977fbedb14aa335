import CMachine
import Machine
import SystemABI
import Sync
import Synchronization

/// A place on a wait queue: wakes a thread, or tells a poller.
// SAFETY: nodes leave their queue before they or their thread die; links change under the queue's lock.
@safe open class WaitNode {
  final let thread: Unmanaged<Thread>
  final var next: WaitNode?
  final var previous: Unmanaged<WaitNode>?
  final var queued = false
  /// Woken alone: `wake(count:)` counts only these.
  public final var exclusive = false

  public init(_ thread: Thread) { unsafe self.thread = Unmanaged.passUnretained(thread) }

  /// Called with the queue's lock held, interrupts off.
  open func notify() { unsafe Scheduler.wake(thread._withUnsafeGuaranteedRef { $0 }) }
}

/// Threads waiting for something, in order of arrival. Interrupt-safe to wake.
///
/// It lies in whatever is waited for; `WaitQueue` is one that others can hold on to.
@safe public struct WaitList: ~Copyable, @unchecked Sendable {
  // SAFETY: the links are only touched under `lock` with interrupts off, but for the hint that `isEmpty` is.
  @safe private struct Links: ~Copyable {
    var head: WaitNode?
    var tail: Unmanaged<WaitNode>?

    mutating func append(_ node: WaitNode) {
      unsafe node.previous = unsafe tail
      if let last = unsafe tail { unsafe last._withUnsafeGuaranteedRef { $0.next = node } } else { head = node }
      unsafe tail = Unmanaged.passUnretained(node)
    }

    mutating func unlink(_ node: WaitNode) {
      node.queued = false
      let next = node.next
      node.next = nil
      if let next { unsafe next.previous = unsafe node.previous } else { unsafe tail = unsafe node.previous }
      if let previous = unsafe node.previous {
        unsafe previous._withUnsafeGuaranteedRef { $0.next = next }
      } else {
        head = next
      }
      unsafe node.previous = nil
    }
  }

  private let lock = RawSpinLock()
  private let links = Cell(Links())

  public init() {}

  public func add(_ node: WaitNode) {
    let flags = unsafe interrupts_save()
    lock.acquire()
    precondition(!node.queued)
    node.queued = true
    node.next = nil
    unsafe links.address.pointee.append(node)
    lock.release()
    unsafe interrupts_restore(flags)
  }

  public func remove(_ node: WaitNode) {
    let flags = unsafe interrupts_save()
    lock.acquire()
    if node.queued { unsafe links.address.pointee.unlink(node) }
    lock.release()
    unsafe interrupts_restore(flags)
  }

  /// Whether anybody waits; a hint, for senders that can skip the lock.
  public var isEmpty: Bool { unsafe links.address.pointee.tail == nil }

  /// Wakes everyone, or up to `count` of the exclusive waiters and all others.
  public func wake(_ count: Int = .max) {
    if isEmpty { return }
    let flags = unsafe interrupts_save()
    lock.acquire()
    var left = count
    var node = unsafe links.address.pointee.head
    while let current = node {
      node = current.next
      current.notify()
      if !current.exclusive { continue }
      left -= 1
      if left == 0 { break }
    }
    lock.release()
    unsafe interrupts_restore(flags)
  }

  /// Waits until `condition` answers a value. The condition runs with no lock held and must not sleep.
  ///
  /// - Throws: `interrupted` when a signal ends an interruptible wait, `timedOut` at `deadline`.
  public func wait<Result>(
    interruptible: Bool = true, deadline: Deadline? = nil, reason: StaticString = "", exclusive: Bool = false,
    until condition: () -> Result?
  ) throws(Errno) -> Result {
    if let result = condition() { return result }
    let me = Thread.current
    let node = me.waitNode!
    me.waitReason = reason
    node.exclusive = exclusive
    add(node)
    if let deadline {
      me.timer.fired.store(false, ordering: .relaxed)
      me.timer.start(at: deadline)
    }
    defer {
      if deadline != nil { me.timer.cancel() }
      remove(node)
      Scheduler.cancelBlock()
      me.waitReason = ""
    }
    while true {
      Scheduler.prepareToBlock()
      if let result = condition() { return result }
      if interruptible, me.interruptRequested.load(ordering: .acquiring) { throw .interrupted }
      if deadline != nil, me.timer.fired.load(ordering: .acquiring) { throw .timedOut }
      Scheduler.block()
    }
  }
}

/// A wait list that pollers and others can hold on to.
public final class WaitQueue: Sendable {
  private let list = WaitList()

  public init() {}

  public func add(_ node: WaitNode) { list.add(node) }
  public func remove(_ node: WaitNode) { list.remove(node) }
  public var isEmpty: Bool { list.isEmpty }
  public func wake(_ count: Int = .max) { list.wake(count) }

  /// `WaitList.wait`.
  public func wait<Result>(
    interruptible: Bool = true, deadline: Deadline? = nil, reason: StaticString = "", exclusive: Bool = false,
    until condition: () -> Result?
  ) throws(Errno) -> Result {
    try list.wait(interruptible: interruptible, deadline: deadline, reason: reason, exclusive: exclusive, until: condition)
  }

  /// Waits for a value as reads and writes of streams do: `wouldBlock` at once when they are non-blocking, and a signal restarts
  /// the call or ends it as its handler says.
  ///
  /// A deadline that passes is `wouldBlock` too, as SO_RCVTIMEO has it, and a call with one is not restarted.
  public func wait<Result>(
    orFail nonBlocking: Bool, deadline: Deadline? = nil, reason: StaticString, until condition: () -> Result?
  ) throws(Errno) -> Result {
    if let result = condition() { return result }
    if nonBlocking { throw .wouldBlock }
    do throws(Errno) { return try wait(deadline: deadline, reason: reason, until: condition) } catch {
      switch error {
      case .timedOut: throw .wouldBlock
      case .interrupted: throw deadline == nil ? .restart : error
      default: throw error
      }
    }
  }
}

/// Sleeping without a condition.
public enum Sleep {
  private static let nobody = BootCell<WaitQueue>()

  public static func start() { nobody.set(WaitQueue()) }

  /// Sleeps until `deadline` or a signal (`interrupted`).
  public static func until(_ deadline: Deadline, interruptible: Bool = true) throws(Errno) {
    do throws(Errno) {
      let _: Bool = try nobody.value.wait(interruptible: interruptible, deadline: deadline, reason: "sleep") {
        deadline.hasPassed ? true : nil
      }
    } catch {
      if error != .timedOut { throw error }
    }
  }

  /// Sleeps until the thread is interrupted.
  public static func untilInterrupted(reason: StaticString) -> Errno {
    do throws(Errno) {
      let _: Bool = try nobody.value.wait(reason: reason) { nil }
      return .interrupted
    } catch {
      return error
    }
  }
}
