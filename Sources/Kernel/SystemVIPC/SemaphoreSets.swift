import Machine
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// One operation of semop: `struct sembuf`.
public struct SemaphoreOperation {
  public var number: UInt16
  public var change: Int16
  public var flags: UInt16
  public init(number: UInt16, change: Int16, flags: UInt16) {
    self.number = number
    self.change = change
    self.flags = flags
  }
  var undoes: Bool { flags & 0x1000 != 0 }
  var waits: Bool { UInt32(flags) & IPCFlags.noWait == 0 }
}

/// A set of semaphores. SPEC: semget(2), semop(2), semctl(2).
public final class SemaphoreSet: IPCObject, ExitHandler {
  public struct Semaphore {
    public var value: Int32 = 0
    public var lastProcess: Int32 = 0
  }

  /// Operations that cannot be done yet. Who makes them possible does them: a value that is zero for a moment only lets
  /// everybody go on who waits for that, and whoever came first is first.
  final class Waiter {
    let operations: [SemaphoreOperation]
    let process: Int32
    /// The first of them that cannot be done. This and the outcome are under the set's lock.
    var blocker: SemaphoreOperation
    var outcome: Outcome?
    let event = WaitQueue()
    enum Outcome {
      case done
      case failed(Errno)
    }
    init(_ operations: [SemaphoreOperation], _ process: Int32, _ blocker: SemaphoreOperation) {
      self.operations = operations
      self.process = process
      self.blocker = blocker
    }
  }

  public struct State: ~Copyable {
    public var semaphores: [Semaphore]
    public var permissions: IPCPermissions
    public var operationTime: Int64 = 0
    public var changeTime = Clock.realtime
    public var isRemoved = false
    /// What SEM_UNDO gives back when a process ends.
    var undo: [(process: Int32, number: Int, change: Int32)] = []
    /// First come, first served.
    var waiters: [Waiter] = []

    /// How many wait for a semaphore to become larger, or zero.
    public func waiting(for number: Int, zero: Bool) -> Int {
      waiters.count { Int($0.blocker.number) == number && ($0.blocker.change == 0) == zero }
    }
  }
  public static var maximumValue: Int32 { 32767 }
  public let state: SpinLock<State, SegmentRank>

  public init(id: Int32, count: Int, permissions: IPCPermissions) {
    state = SpinLock(State(semaphores: Array(repeating: Semaphore(), count: count), permissions: permissions))
    super.init(id: id)
  }

  override public var key: UInt32 { state.withLock { $0.permissions.key } }

  private enum Attempt {
    case done
    case blocked(SemaphoreOperation)
    case failed(Errno)
  }

  /// All operations or none.
  private static func attempt(_ state: inout State, _ operations: [SemaphoreOperation], _ process: Int32) -> Attempt {
    var values = state.semaphores
    for operation in operations {
      let index = Int(operation.number)
      guard index < values.count else { return .failed(.fileTooLarge) }
      if operation.change == 0 {
        if values[index].value != 0 { return .blocked(operation) }
        continue
      }
      let result = values[index].value + Int32(operation.change)
      if result < 0 { return .blocked(operation) }
      if result > Self.maximumValue { return .failed(.outOfRange) }
      values[index].value = result
      values[index].lastProcess = process
    }
    state.semaphores = values
    for operation in operations where operation.undoes && operation.change != 0 { Self.note(&state, operation, process) }
    state.operationTime = Clock.realtime
    return .done
  }

  /// After a change: does what waiters can have done now, and answers those that must be woken.
  private static func settle(_ state: inout State) -> [Waiter] {
    var settled: [Waiter] = []
    var goesOn = !state.waiters.isEmpty
    while goesOn {
      goesOn = false
      var index = 0
      while index < state.waiters.count {
        let waiter = state.waiters[index]
        switch attempt(&state, waiter.operations, waiter.process) {
        case .blocked(let operation):
          waiter.blocker = operation
          index += 1
          continue
        case .done: waiter.outcome = .done
        case .failed(let error): waiter.outcome = .failed(error)
        }
        goesOn = true
        state.waiters.remove(at: index)
        settled.append(waiter)
      }
    }
    return settled
  }

  /// Changes something under the lock, and lets those go on who waited for it.
  private func change<Result, Failure: Error>(_ body: (inout State) throws(Failure) -> Result) throws(Failure) -> Result {
    let (result, settled) = try state.withLock { state throws(Failure) in (try body(&state), Self.settle(&state)) }
    for waiter in settled { waiter.event.wake() }
    return result
  }

  private static func note(_ state: inout State, _ operation: SemaphoreOperation, _ process: Int32) {
    let number = Int(operation.number)
    let change = Int32(operation.change)
    if let index = state.undo.firstIndex(where: { $0.process == process && $0.number == number }) {
      state.undo[index].change -= change
    } else {
      state.undo.append((process, number, -change))
    }
  }

  /// Does the operations, waiting if need be. Throws `wouldBlock` after `deadline`, `identifierRemoved`, `interrupted`.
  public func operate(_ operations: [SemaphoreOperation], _ process: Process, deadline: Deadline?) throws(Errno) {
    if operations.contains(where: { $0.undoes }) { process.addExitHandler(self) }
    let waiter: Waiter? = try change { state throws(Errno) in
      if state.isRemoved { throw .identifierRemoved }
      switch Self.attempt(&state, operations, process.id) {
      case .done: return nil
      case .failed(let error): throw error
      case .blocked(let operation):
        if !operation.waits { throw .wouldBlock }
        let waiter = Waiter(operations, process.id, operation)
        state.waiters.append(waiter)
        return waiter
      }
    }
    if let waiter { try wait(waiter, deadline) }
  }

  private func wait(_ waiter: Waiter, _ deadline: Deadline?) throws(Errno) {
    let outcome: Waiter.Outcome
    do throws(Errno) {
      outcome = try waiter.event.wait(deadline: deadline, reason: "semop") { state.withLock { _ in waiter.outcome } }
    } catch {
      // It may have been done while a signal or the time ended the wait.
      let late = state.withLock { state in
        state.waiters.removeAll { $0 === waiter }
        return waiter.outcome
      }
      guard let late else { throw error == .timedOut ? .wouldBlock : error }
      outcome = late
    }
    if case .failed(let error) = outcome { throw error }
  }

  public func processEnded(_ process: Process) {
    change { state in
      for entry in state.undo where entry.process == process.id && entry.number < state.semaphores.count {
        let value = state.semaphores[entry.number].value + entry.change
        state.semaphores[entry.number].value = min(max(value, 0), Self.maximumValue)
        state.semaphores[entry.number].lastProcess = process.id
      }
      state.undo.removeAll { $0.process == process.id }
    }
  }

  /// Sets a value; undo entries for it are forgotten. Throws `outOfRange`.
  public func set(_ number: Int?, _ values: [Int32], _ process: Int32) throws(Errno) {
    if values.contains(where: { $0 < 0 || $0 > Self.maximumValue }) { throw .outOfRange }
    change { state in
      for (offset, value) in values.enumerated() {
        let index = number ?? offset
        state.semaphores[index].value = value
        state.semaphores[index].lastProcess = process
        state.undo.removeAll { $0.number == index }
      }
      state.changeTime = Clock.realtime
    }
  }

  public func removed() {
    let waiters = state.withLock { state in
      state.isRemoved = true
      for waiter in state.waiters { waiter.outcome = .failed(.identifierRemoved) }
      let waiters = state.waiters
      state.waiters = []
      return waiters
    }
    for waiter in waiters { waiter.event.wake() }
  }
}

public enum SemaphoreSets {
  private static let cell = BootCell<IPCRegistry<SemaphoreSet>>()
  public static var all: IPCRegistry<SemaphoreSet> { cell.value }
  public static func start() { cell.set(IPCRegistry(limit: 32000)) }
}
