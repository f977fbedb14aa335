import Machine
import Memory
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads

/// Threads waiting on user words. SPEC: futex(2).
///
/// Keys are physical: address space and address, or the page of a shared mapping.
public enum Futex {
  struct Key: Equatable {
    var object: UInt32
    var address: UInt32
  }
  final class Waiter: WaitNode {
    /// Kept alive: it may go on, and end, between being marked as woken and being woken.
    let task: Task
    var key: Key
    let bits: UInt32
    /// It goes on to a lock with priority inheritance: only `requeuePriority` may wake it.
    let next: PriorityFutex.Waiter?
    let woken = Atomic<Bool>(false)
    init(_ key: Key, bits: UInt32, next: PriorityFutex.Waiter? = nil) {
      task = Task.currentTask
      self.key = key
      self.bits = bits
      self.next = next
      super.init(task)
    }
  }
  private static let table = BootCell<Buckets>()
  final class Bucket {
    let waiters = SpinLock<[Waiter], LeafFutexRank>([])
  }
  final class Buckets {
    let list = (0..<64).map { _ in Bucket() }
    /// Held while waiters are on no list because they change it.
    let moving = SpinLock<Void, MovingRank>(())
  }
  public struct MovingRank: LockRank { public static let level: UInt8 = 77 }
  public struct LeafFutexRank: LockRank { public static let level: UInt8 = 78 }
  public static func start() { table.set(Buckets()) }

  static func key(_ address: UInt32, in process: Process) throws(Errno) -> Key {
    guard address & 3 == 0 else { throw .invalidArgument }
    guard let space = process.space else { throw .badAddress }
    let area = space.state.withLock { $0.areas.find(address) }
    if let area, area.shared {
      _ = try UserMemory.read32(address)
      let frame = PageTable.frame(of: space.table.entry(address.pageDown))
      return Key(object: frame.number, address: address & 0xFFF)
    }
    return Key(object: space.table.physicalAddress, address: address)
  }

  private static func bucket(_ key: Key) -> Bucket {
    table.value.list[Int((key.object ^ key.address >> 2) & 63)]
  }

  /// Sleeps while the word holds `expected`. Throws `wouldBlock`, `timedOut`, `interrupted`. Who was woken has succeeded,
  /// whatever else has happened: the wake was meant for one waiter and is not lost.
  public static func wait(_ address: UInt32, expected: UInt32, bits: UInt32, deadline: Deadline?, in process: Process)
    throws(Errno)
  {
    let waiter = Waiter(try key(address, in: process), bits: bits)
    bucket(waiter.key).waiters.withLock { $0.append(waiter) }
    do throws(Errno) {
      if try UserMemory.read32(address) != expected { throw .wouldBlock }
      let queue = WaitList()
      let _: Bool = try queue.wait(deadline: deadline, reason: "futex") {
        waiter.woken.load(ordering: .acquiring) ? true : nil
      }
    } catch {
      if remove(waiter) { throw error }
    }
  }

  /// Takes a waiter off its list; false if it was woken instead.
  private static func remove(_ waiter: Waiter) -> Bool {
    while true {
      let removed = bucket(waiter.key).waiters.withLock { list in
        guard let index = list.firstIndex(where: { $0 === waiter }) else { return false }
        list.remove(at: index)
        return true
      }
      if removed { return true }
      if waiter.woken.load(ordering: .acquiring) { return false }
      // On its way from one list to the other.
      table.value.moving.withLock { _ in }
    }
  }

  /// Wakes up to `count` waiters whose bits match; how many.
  @discardableResult
  public static func wake(_ address: UInt32, _ count: Int, bits: UInt32 = .max, in process: Process) -> Int {
    guard let key = try? key(address, in: process) else { return 0 }
    var woken: [Waiter] = []
    bucket(key).waiters.withLock { list in
      var index = 0
      while index < list.count, woken.count < count {
        if list[index].key == key, list[index].bits & bits != 0, list[index].next == nil {
          let waiter = list.remove(at: index)
          waiter.woken.store(true, ordering: .releasing)
          woken.append(waiter)
        } else {
          index += 1
        }
      }
    }
    for waiter in woken { waiter.notify() }
    return woken.count
  }

  /// Wakes some and moves others to another word; how many in all.
  public static func requeue(
    _ address: UInt32, wake count: Int, to target: UInt32, move: Int, expected: UInt32?, in process: Process
  ) throws(Errno) -> Int {
    if let expected, try UserMemory.read32(address) != expected { throw .wouldBlock }
    let from = try key(address, in: process)
    let destination = try key(target, in: process)
    let woken = wake(address, count, in: process)
    let moved = table.value.moving.withLock { _ in
      var moved: [Waiter] = []
      bucket(from).waiters.withLock { list in
        var index = 0
        while index < list.count, moved.count < move {
          if list[index].key == from, list[index].next == nil {
            let waiter = list.remove(at: index)
            waiter.key = destination
            moved.append(waiter)
          } else {
            index += 1
          }
        }
      }
      bucket(destination).waiters.withLock { $0 += moved }
      return moved.count
    }
    return woken + moved
  }

  // MARK: Waiters that go on to a lock

  /// As `wait`, and answers with the lock at `target` held: somebody's `requeuePriority` takes it from the one to the other.
  public static func waitForLock(_ address: UInt32, expected: UInt32, target: UInt32, deadline: Deadline?, in process: Process)
    throws(Errno)
  {
    let next = PriorityFutex.Waiter(try key(target, in: process), target)
    let waiter = Waiter(try key(address, in: process), bits: .max, next: next)
    if waiter.key == next.key { throw .invalidArgument }
    bucket(waiter.key).waiters.withLock { $0.append(waiter) }
    do throws(Errno) {
      if try UserMemory.read32(address) != expected { throw .wouldBlock }
    } catch {
      if remove(waiter) { throw error }
    }
    try PriorityFutex.sleep(next, deadline) { remove(waiter) }
  }

  /// Takes the next waiter that goes on to a lock off a word, for `PriorityFutex` to give it that or have it wait there.
  /// Throws `invalidArgument` when it is not on its way to `target`, or does not go on to any.
  static func takeNext(_ from: Key, _ target: Key) throws(Errno) -> PriorityFutex.Waiter? {
    try bucket(from).waiters.withLock { list throws(Errno) in
      guard let index = list.firstIndex(where: { $0.key == from }) else { return nil }
      guard let next = list[index].next, next.key == target else { throw .invalidArgument }
      let waiter = list.remove(at: index)
      waiter.woken.store(true, ordering: .releasing)
      return next
    }
  }

  // MARK: Robust lists

  /// Marks the locks that an ending thread holds: the next owner learns that this one died. SPEC: get_robust_list(2);
  /// Linux Documentation/locking/robust-futex-ABI.rst. The list is the program's: any of it may be wrong.
  static func releaseRobustList(of task: Task) {
    let head = task.robustList
    task.robustList = 0
    guard head != 0, let first = try? UserMemory.read32(head), let offset = try? UserMemory.read32(head &+ 4),
      let pending = try? UserMemory.read32(head &+ 8)
    else { return }
    var entry = first
    var left = 2048
    while entry & ~1 != head, left > 0 {
      // Read first: who gets the lock may free the entry.
      let next = try? UserMemory.read32(entry & ~1)
      if entry & ~1 != pending & ~1 {
        guard (try? ownerDied(entry & ~1 &+ offset, task, isPI: entry & 1 != 0, isPending: false)) != nil else { return }
      }
      guard let next else { return }
      entry = next
      left -= 1
    }
    if pending & ~1 != 0 { try? ownerDied(pending & ~1 &+ offset, task, isPI: pending & 1 != 0, isPending: true) }
  }

  private static func ownerDied(_ word: UInt32, _ task: Task, isPI: Bool, isPending: Bool) throws(Errno) {
    guard word & 3 == 0 else { throw .invalidArgument }
    var value = try UserMemory.read32(word)
    while true {
      if isPending, !isPI, value == 0 {
        wake(word, 1, in: task.process)  // it died between its unlock and its wake
        return
      }
      guard value & 0x3FFF_FFFF == UInt32(bitPattern: task.id) else { return }
      let seen = try UserMemory.exchange(word, expected: value, desired: value & 0x8000_0000 | 0x4000_0000)
      if seen == value { break }
      value = seen
    }
    if !isPI, value & 0x8000_0000 != 0 { wake(word, 1, in: task.process) }
  }
}
