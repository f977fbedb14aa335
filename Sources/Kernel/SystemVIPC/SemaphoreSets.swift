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
    public var waitingForIncrease = 0
    public var waitingForZero = 0
  }
  public struct State: ~Copyable {
    public var semaphores: [Semaphore]
    public var permissions: IPCPermissions
    public var operationTime: Int64 = 0
    public var changeTime = Clock.realtime
    public var isRemoved = false
    /// What SEM_UNDO gives back when a process ends.
    var undo: [(process: Int32, number: Int, change: Int32)] = []
  }
  public static var maximumValue: Int32 { 32767 }
  public let state: SpinLock<State, SegmentRank>
  public let changed = WaitQueue()

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
  private func attempt(_ operations: [SemaphoreOperation], _ process: Process) -> Attempt {
    state.withLock { state in
      if state.isRemoved { return .failed(.identifierRemoved) }
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
        values[index].lastProcess = process.id
      }
      state.semaphores = values
      for operation in operations where operation.undoes && operation.change != 0 { Self.note(&state, operation, process) }
      state.operationTime = Clock.realtime
      return .done
    }
  }

  private static func note(_ state: inout State, _ operation: SemaphoreOperation, _ process: Process) {
    let number = Int(operation.number)
    let change = Int32(operation.change)
    if let index = state.undo.firstIndex(where: { $0.process == process.id && $0.number == number }) {
      state.undo[index].change -= change
    } else {
      state.undo.append((process.id, number, -change))
    }
  }

  /// Does the operations, waiting if need be. Throws `wouldBlock` after `deadline`, `identifierRemoved`, `interrupted`.
  public func operate(_ operations: [SemaphoreOperation], _ process: Process, deadline: UInt64?) throws(Errno) {
    if operations.contains(where: { $0.undoes }) { process.addExitHandler(self) }
    var failure: Errno?
    var waiting: SemaphoreOperation?
    defer { if let waiting { count(waiting, -1) } }
    func step() -> Bool? {
      if let old = waiting { count(old, -1) }
      waiting = nil
      switch attempt(operations, process) {
      case .done: return true
      case .failed(let error):
        failure = error
        return true
      case .blocked(let operation):
        if !operation.waits {
          failure = .wouldBlock
          return true
        }
        waiting = operation
        count(operation, 1)
        return nil
      }
    }
    do throws(Errno) {
      let _: Bool = try changed.wait(deadline: deadline, reason: "semop", until: step)
    } catch { throw error == .timedOut ? .wouldBlock : error }
    if let failure { throw failure }
    if operations.contains(where: { $0.change != 0 }) { changed.wake() }
  }

  private func count(_ operation: SemaphoreOperation, _ delta: Int) {
    state.withLock { state in
      let index = Int(operation.number)
      guard index < state.semaphores.count else { return }
      if operation.change == 0 {
        state.semaphores[index].waitingForZero += delta
      } else {
        state.semaphores[index].waitingForIncrease += delta
      }
    }
  }

  public func processEnded(_ process: Process) {
    state.withLock { state in
      for entry in state.undo where entry.process == process.id && entry.number < state.semaphores.count {
        let value = state.semaphores[entry.number].value + entry.change
        state.semaphores[entry.number].value = min(max(value, 0), Self.maximumValue)
        state.semaphores[entry.number].lastProcess = process.id
      }
      state.undo.removeAll { $0.process == process.id }
    }
    changed.wake()
  }

  /// Sets a value; undo entries for it are forgotten. Throws `outOfRange`.
  public func set(_ number: Int?, _ values: [Int32], _ process: Int32) throws(Errno) {
    try state.withLock { state throws(Errno) in
      for (offset, value) in values.enumerated() {
        if value < 0 || value > Self.maximumValue { throw .outOfRange }
        let index = number ?? offset
        state.semaphores[index].value = value
        state.semaphores[index].lastProcess = process
        state.undo.removeAll { $0.number == index }
      }
      state.changeTime = Clock.realtime
    }
    changed.wake()
  }

  public func removed() {
    state.withLock { $0.isRemoved = true }
    changed.wake()
  }
}

public enum SemaphoreSets {
  private static let cell = BootCell<IPCRegistry<SemaphoreSet>>()
  public static var all: IPCRegistry<SemaphoreSet> { cell.value }
  public static func start() { cell.set(IPCRegistry(limit: 32000)) }
}
