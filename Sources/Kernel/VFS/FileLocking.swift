import FileLocks
import Sync
import Synchronization
import SystemABI
import Threads

/// The locks on one file, and who waits for them. An inode gets it with its first lock.
public final class FileLocking {
  struct Tables: ~Copyable {
    /// fcntl's: POSIX ones belong to processes, OFD ones to open files.
    var records = RecordLocks()
    /// flock's: whole files, belonging to open files.
    var whole = RecordLocks()
  }
  private let tables = SpinLock<Tables, FileLockRank>(Tables())
  private let released = WaitQueue()

  public enum Kind: Sendable { case record, whole }

  /// Who waits for whom, to find circles among processes. SPEC: POSIX.1-2024 fcntl() EDEADLK.
  private static let waiting = BootCell<SpinLock<[(waiter: UInt64, owner: UInt64)], LeafRank>>()
  public static func start() { waiting.set(SpinLock([])) }

  /// The lock that stands in the way of `wanted`.
  public func conflict(_ kind: Kind, _ wanted: RecordLocks.Lock) -> RecordLocks.Lock? {
    tables.withLock { kind == .record ? $0.records.conflict(with: wanted) : $0.whole.conflict(with: wanted) }
  }

  private func trySet(_ kind: Kind, _ wanted: RecordLocks.Lock) -> RecordLocks.Lock? {
    let (conflict, mayFree): (RecordLocks.Lock?, Bool) = tables.withLock { tables in
      if kind == .record {
        if let conflict = tables.records.conflict(with: wanted) { return (conflict, false) }
        tables.records.set(wanted)
      } else {
        if let conflict = tables.whole.conflict(with: wanted) { return (conflict, false) }
        tables.whole.set(wanted)
      }
      return (nil, !wanted.isExclusive)
    }
    if mayFree { released.wake() }  // an exclusive lock may have become a shared one
    return conflict
  }

  /// Takes a lock, waiting for it if `wait`. Throws `wouldBlock`, `deadlock`, or `restart` after a signal.
  public func lock(_ kind: Kind, _ wanted: RecordLocks.Lock, wait: Bool, findCircles: Bool) throws(Errno) {
    guard var conflict = trySet(kind, wanted) else { return }
    if !wait { throw .wouldBlock }
    defer { Self.waiting.value.withLock { list in list.removeAll { $0.waiter == wanted.owner } } }
    if findCircles { try Self.note(wanted.owner, waitsFor: conflict.owner) }
    do throws(Errno) {
      let _: Bool = try released.wait(reason: "file lock") {
        guard let now = trySet(kind, wanted) else { return true }
        conflict = now
        return nil
      }
    } catch { throw error == .interrupted ? .restart : error }
  }

  private static func note(_ waiter: UInt64, waitsFor owner: UInt64) throws(Errno) {
    let circle = waiting.value.withLock { list in
      var next = owner
      for _ in 0...list.count {
        if next == waiter { return true }
        guard let edge = list.first(where: { $0.waiter == next }) else { break }
        next = edge.owner
      }
      list.append((waiter, owner))
      return false
    }
    if circle { throw .deadlock }
  }

  public func unlock(_ kind: Kind, owner: UInt64, start: UInt64 = 0, end: UInt64 = .max) {
    let changed = tables.withLock {
      kind == .record
        ? $0.records.remove(owner: owner, start: start, end: end) : $0.whole.remove(owner: owner, start: start, end: end)
    }
    if changed { released.wake() }
  }
}

extension Inode {
  /// The file's locks, if it ever had any.
  public var lockingIfAny: FileLocking? { attributes.withLock { _ in lockTable } }

  /// The file's locks.
  public var locking: FileLocking {
    if let table = lockingIfAny { return table }
    let fresh = FileLocking()
    return attributes.withLock { _ in
      if let table = lockTable { return table }
      lockTable = fresh
      return fresh
    }
  }
}

extension FileDescription {
  /// What owns this open file's locks: a number no process has.
  public var lockOwner: UInt64 { UInt64(UInt(bitPattern: ObjectIdentifier(self))) << 16 }
}
