import Machine
import Sync
import Synchronization
import SystemABI
import Threads

/// Locks in user memory whose owner runs at the level of whoever waits most urgently. SPEC: futex(2), "Priority-inheritance
/// futexes"; Linux Documentation/locking/rt-mutex-design.rst.
///
/// The word holds the owner's thread number, and says whether anybody waits. The kernel learns of a lock when somebody has to
/// wait for it, and forgets it with the last waiter. One mutex guards all of them: it orders whole chains of owners and waiters,
/// and who takes a lock that is free never comes here.
public enum PriorityFutex {
  private struct Rank: LockRank { static let level: UInt8 = 14 }
  private enum Word {
    static let waiters: UInt32 = 1 << 31
    static let ownerDied: UInt32 = 1 << 30
    static let owner: UInt32 = 0x3FFF_FFFF
  }

  /// A lock that somebody waits for.
  final class Lock {
    let key: Futex.Key
    var owner: Task
    /// The most urgent first, in order of arrival among equals.
    var waiters: [Waiter] = []

    init(_ key: Futex.Key, owner: Task) {
      self.key = key
      self.owner = owner
    }

    func insert(_ waiter: Waiter) {
      let index = waiters.firstIndex { $0.task.urgency > waiter.task.urgency } ?? waiters.count
      waiters.insert(waiter, at: index)
    }
  }

  final class Waiter: WaitNode {
    /// Kept alive: it may go on, and end, between being given the lock and being woken.
    let task: Task
    let key: Futex.Key
    /// The lock's word in the waiter's own memory.
    let address: UInt32
    let isOwner = Atomic<Bool>(false)
    /// The owner before ended without unlocking: the word does not say yet who has the lock.
    var mustClaim = false
    /// Why it could not be given the lock.
    var failure: Errno?

    init(_ key: Futex.Key, _ address: UInt32) {
      task = Task.currentTask
      self.key = key
      self.address = address
      super.init(task)
    }
  }

  private struct Table: ~Copyable {
    var buckets: [[Lock]] = .init(repeating: [], count: 64)

    private func index(_ key: Futex.Key) -> Int { Int((key.object ^ key.address >> 2) & 63) }
    func find(_ key: Futex.Key) -> Lock? { buckets[index(key)].first { $0.key == key } }
    mutating func add(_ lock: Lock) { buckets[index(lock.key)].append(lock) }
    mutating func remove(_ lock: Lock) { buckets[index(lock.key)].removeAll { $0 === lock } }
  }
  private static let table = BootCell<Mutex<Table, Rank>>()
  public static func start() { table.set(Mutex(Table())) }

  // MARK: Locking

  /// FUTEX_LOCK_PI and FUTEX_TRYLOCK_PI. `deadline` in nanoseconds since boot.
  ///
  /// - Throws: `deadlock` when the caller would wait for itself, `noSuchProcess` when the owner is gone, `wouldBlock`
  ///   when only trying, `timedOut`, `invalidArgument` for a word that others use differently.
  public static func lock(_ address: UInt32, deadline: Deadline?, trying: Bool, in process: Process) throws(Errno) {
    let waiter = Waiter(try Futex.key(address, in: process), address)
    let taken = try table.value.withLock { table throws(Errno) in
      try acquire(address, for: waiter, trying: trying, &table)
    }
    if !taken { try sleep(waiter, deadline) { false } }
  }

  /// Takes the lock at once, or has `waiter` wait for it: false.
  private static func acquire(_ address: UInt32, for waiter: Waiter, trying: Bool, _ table: inout Table) throws(Errno) -> Bool {
    var value = try UserMemory.read32(address)
    while true {
      let number = value & Word.owner
      if number == UInt32(bitPattern: waiter.task.id) { throw .deadlock }
      var lock = table.find(waiter.key)
      if number == 0, lock == nil {
        let new = UInt32(bitPattern: waiter.task.id) | value & Word.ownerDied
        let seen = try UserMemory.exchange(address, expected: value, desired: new)
        if seen == value { return true }
        value = seen
        continue
      }
      if let lock {
        // With nobody's number the lock is on its way from an owner that died to the next.
        guard number == UInt32(bitPattern: lock.owner.id) || number == 0 && value & Word.ownerDied != 0 else {
          throw .invalidArgument
        }
      } else {
        guard let owner = ProcessTable.shared.thread(Int32(bitPattern: number)), !owner.hasLeftLocks else {
          let now = try UserMemory.read32(address)
          if now == value { throw .noSuchProcess }
          value = now
          continue
        }
        lock = Lock(waiter.key, owner: owner)
      }
      guard let lock else { continue }
      if trying { throw .wouldBlock }
      if value & Word.waiters == 0 {
        let seen = try UserMemory.exchange(address, expected: value, desired: value | Word.waiters)
        if seen != value {
          value = seen
          continue
        }
      }
      try checkChain(from: lock, to: waiter.task)
      if lock.waiters.isEmpty {
        if table.find(waiter.key) == nil { table.add(lock) }
        if !lock.owner.priorityLocks.contains(where: { $0 === lock }) { lock.owner.priorityLocks.append(lock) }
      }
      lock.insert(waiter)
      waiter.task.waitsForLock = lock
      spread(from: lock.owner)
      return false
    }
  }

  /// Throws `deadlock` if the owner of `lock` waits, directly or not, for `task`.
  private static func checkChain(from lock: Lock, to task: Task) throws(Errno) {
    var owner = lock.owner
    for _ in 0..<1024 {
      if owner === task { throw .deadlock }
      guard let next = owner.waitsForLock else { return }
      owner = next.owner
    }
    throw .deadlock
  }

  /// Waits until the lock is the waiter's. `withdraw` takes it away from wherever else it waited, and says whether it still was there.
  static func sleep(_ waiter: Waiter, _ deadline: Deadline?, withdraw: () -> Bool) throws(Errno) {
    do throws(Errno) {
      let queue = WaitQueue()
      let _: Bool = try queue.wait(deadline: deadline, reason: "futex") {
        waiter.isOwner.load(ordering: .acquiring) ? true : nil
      }
    } catch {
      let failure: Errno = error == .interrupted ? .restartAlways : error
      if withdraw() { throw failure }
      let owns = table.value.withLock { table in
        if waiter.isOwner.load(ordering: .relaxed) { return true }
        leave(waiter, &table)
        return false
      }
      if !owns { throw failure }
    }
    if let failure = waiter.failure { throw failure }
    if waiter.mustClaim {
      try table.value.withLock { table throws(Errno) in try claim(waiter, &table) }
    }
  }

  /// Gives up waiting.
  private static func leave(_ waiter: Waiter, _ table: inout Table) {
    guard let lock = waiter.task.waitsForLock else { return }
    waiter.task.waitsForLock = nil
    lock.waiters.removeAll { $0 === waiter }
    let owner = lock.owner
    if lock.waiters.isEmpty { forget(lock, &table) }
    spread(from: owner)
  }

  private static func forget(_ lock: Lock, _ table: inout Table) {
    table.remove(lock)
    lock.owner.priorityLocks.removeAll { $0 === lock }
  }

  /// Writes into the word who has the lock, after an owner's end.
  private static func claim(_ waiter: Waiter, _ table: inout Table) throws(Errno) {
    guard let lock = table.find(waiter.key), lock.owner === waiter.task else { return }
    if lock.waiters.isEmpty { forget(lock, &table) }
    try set(waiter.address, to: UInt32(bitPattern: waiter.task.id) | Word.waiters | Word.ownerDied)
  }

  private static func set(_ address: UInt32, to new: UInt32) throws(Errno) {
    var value = try UserMemory.read32(address)
    while true {
      let seen = try UserMemory.exchange(address, expected: value, desired: new)
      if seen == value { return }
      value = seen
    }
  }

  // MARK: Unlocking

  /// FUTEX_UNLOCK_PI. Throws `notPermitted` unless the caller owns the lock.
  public static func unlock(_ address: UInt32, in process: Process) throws(Errno) {
    let key = try Futex.key(address, in: process)
    let me = Task.currentTask
    try table.value.withLock { table throws(Errno) in
      var value = try UserMemory.read32(address)
      while true {
        guard value & Word.owner == UInt32(bitPattern: me.id) else { throw .notPermitted }
        let lock = table.find(key)
        if let lock, lock.owner !== me { throw .invalidArgument }
        let next = lock?.waiters.first
        let new = next.map { UInt32(bitPattern: $0.task.id) | Word.waiters } ?? 0
        let seen = try UserMemory.exchange(address, expected: value, desired: new)
        if seen == value {
          if let lock { hand(lock, claiming: false, &table) }
          return
        }
        value = seen
      }
    }
  }

  /// Makes the first waiter the owner.
  private static func hand(_ lock: Lock, claiming: Bool, _ table: inout Table) {
    let old = lock.owner
    old.priorityLocks.removeAll { $0 === lock }
    if lock.waiters.isEmpty {
      table.remove(lock)
    } else {
      let waiter = lock.waiters.removeFirst()
      lock.owner = waiter.task
      waiter.task.waitsForLock = nil
      waiter.mustClaim = claiming
      if lock.waiters.isEmpty, !claiming { table.remove(lock) } else { waiter.task.priorityLocks.append(lock) }
      spread(from: waiter.task)
      waiter.isOwner.store(true, ordering: .releasing)
      waiter.notify()
    }
    spread(from: old)
  }

  /// A thread ends, or executes another program: its locks go to who waits for them, who learns why.
  static func release(ownedBy task: Task, executing: Bool = false) {
    table.value.withLock { table in
      task.hasLeftLocks = !executing
      while let lock = task.priorityLocks.first { hand(lock, claiming: true, &table) }
    }
  }

  // MARK: Moving waiters

  /// FUTEX_CMP_REQUEUE_PI: the first waiter of `address` gets the lock at `target`, or waits there with up to `move` others.
  /// How many were woken or moved.
  public static func requeue(_ address: UInt32, to target: UInt32, move: Int, expected: UInt32, in process: Process)
    throws(Errno) -> Int
  {
    let from = try Futex.key(address, in: process)
    let key = try Futex.key(target, in: process)
    if from == key { throw .invalidArgument }
    return try table.value.withLock { table throws(Errno) in
      if try UserMemory.read32(address) != expected { throw .wouldBlock }
      var count = 0
      while count <= move, let waiter = try Futex.takeNext(from, key) {
        do throws(Errno) {
          if try acquire(target, for: waiter, trying: false, &table) {
            waiter.isOwner.store(true, ordering: .releasing)
            waiter.notify()
          }
        } catch {
          // It cannot be put back in its place: it has the error to deal with.
          waiter.failure = error
          waiter.isOwner.store(true, ordering: .releasing)
          waiter.notify()
          throw error
        }
        count += 1
      }
      return count
    }
  }

  // MARK: Inheritance

  /// Gives a thread the level of who waits for it, and passes that on to whom the thread waits for.
  private static func spread(from first: Task) {
    var task = first
    for _ in 0..<1024 {
      var level = 140
      for lock in task.priorityLocks {
        // A level that sharing time has given for a moment is not passed on: the owner would keep it, whatever it does.
        if let waiter = lock.waiters.first, waiter.task.isRealtime { level = min(level, waiter.task.level) }
      }
      if level == task.inheritedLevel { return }
      Scheduler.set(task, inheritedLevel: level)
      guard let lock = task.waitsForLock else { return }
      reorder(task, in: lock)
      task = lock.owner
    }
  }

  private static func reorder(_ task: Task, in lock: Lock) {
    guard let index = lock.waiters.firstIndex(where: { $0.task === task }) else { return }
    lock.insert(lock.waiters.remove(at: index))
  }

  /// A thread's own policy or priority has changed.
  public static func priorityChanged(of task: Task) {
    table.value.withLock { _ in
      guard let lock = task.waitsForLock else { return }
      reorder(task, in: lock)
      spread(from: lock.owner)
    }
  }
}
