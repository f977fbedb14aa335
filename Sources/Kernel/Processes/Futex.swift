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
    var key: Key
    let bits: UInt32
    let woken = Atomic<Bool>(false)
    init(_ key: Key, bits: UInt32) {
      self.key = key
      self.bits = bits
      super.init(Thread.current)
    }
  }
  private static let table = BootCell<Buckets>()
  final class Buckets { let list: [SpinLock<[Waiter], LeafFutexRank>] = (0..<64).map { _ in SpinLock([]) } }
  public struct LeafFutexRank: LockRank { public static let level: UInt8 = 78 }
  public static func start() { table.set(Buckets()) }

  private static func key(_ address: UInt32, in process: Process) throws(Errno) -> Key {
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

  private static func bucket(_ key: Key) -> SpinLock<[Waiter], LeafFutexRank> {
    table.value.list[Int((key.object ^ key.address >> 2) & 63)]
  }

  /// Sleeps while the word holds `expected`. Throws `wouldBlock`, `timedOut`, `interrupted`.
  public static func wait(_ address: UInt32, expected: UInt32, bits: UInt32, deadline: UInt64?, in process: Process)
    throws(Errno)
  {
    let waiter = Waiter(try key(address, in: process), bits: bits)
    let bucket = bucket(waiter.key)
    bucket.withLock { $0.append(waiter) }
    defer { Futex.remove(waiter) }
    if try UserMemory.read32(address) != expected { throw .wouldBlock }
    let queue = WaitQueue()
    let _: Bool = try queue.wait(deadline: deadline, reason: "futex") {
      waiter.woken.load(ordering: .acquiring) ? true : nil
    }
  }

  private static func remove(_ waiter: Waiter) {
    while true {
      let key = waiter.key
      let done = bucket(key).withLock { list in
        if waiter.key != key { return false }
        list.removeAll { $0 === waiter }
        return true
      }
      if done { return }
    }
  }

  /// Wakes up to `count` waiters whose bits match; how many.
  @discardableResult
  public static func wake(_ address: UInt32, _ count: Int, bits: UInt32 = .max, in process: Process) -> Int {
    guard let key = try? key(address, in: process) else { return 0 }
    var woken: [Waiter] = []
    bucket(key).withLock { list in
      var index = 0
      while index < list.count, woken.count < count {
        if list[index].key == key, list[index].bits & bits != 0 {
          woken.append(list.remove(at: index))
        } else {
          index += 1
        }
      }
    }
    for waiter in woken {
      waiter.woken.store(true, ordering: .releasing)
      waiter.notify()
    }
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
    var moved: [Waiter] = []
    bucket(from).withLock { list in
      var index = 0
      while index < list.count, moved.count < move {
        if list[index].key == from {
          let waiter = list.remove(at: index)
          waiter.key = destination
          moved.append(waiter)
        } else {
          index += 1
        }
      }
    }
    bucket(destination).withLock { $0 += moved }
    return woken + moved.count
  }
}
