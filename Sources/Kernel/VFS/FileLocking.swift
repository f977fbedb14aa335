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

  /// A process that waits for a lock. Who is in its way changes while it does.
  private final class Wait {
    let file: FileLocking
    let wanted: RecordLocks.Lock
    init(_ file: FileLocking, _ wanted: RecordLocks.Lock) {
      self.file = file
      self.wanted = wanted
    }
    var blocker: UInt64? { file.conflict(.record, wanted)?.owner }
  }

  /// Who waits, to find circles among processes. SPEC: POSIX.1-2024 fcntl() EDEADLK.
  private static let waiting = BootCell<SpinLock<[Wait], WaitRank>>()
  private struct WaitRank: LockRank { static let level: UInt8 = FileLockRank.level - 1 }
  public static func start() { waiting.set(SpinLock([])) }

  /// The lock that stands in the way of `wanted`.
  public func conflict(_ kind: Kind, _ wanted: RecordLocks.Lock) -> RecordLocks.Lock? {
    tables.withLock { kind == .record ? $0.records.conflict(with: wanted) : $0.whole.conflict(with: wanted) }
  }

  private func trySet(_ kind: Kind, _ wanted: RecordLocks.Lock) -> Bool {
    let done = tables.withLock { tables in
      if kind == .record {
        if tables.records.conflict(with: wanted) != nil { return false }
        tables.records.set(wanted)
      } else {
        if tables.whole.conflict(with: wanted) != nil { return false }
        tables.whole.set(wanted)
      }
      return true
    }
    if done, !wanted.isExclusive { released.wake() }  // an exclusive lock may have become a shared one
    return done
  }

  /// Takes a lock, waiting for it if `wait`. Throws `wouldBlock`, `deadlock`, or `restart` after a signal.
  public func lock(_ kind: Kind, _ wanted: RecordLocks.Lock, wait: Bool, findCircles: Bool) throws(Errno) {
    if trySet(kind, wanted) { return }
    if !wait { throw .wouldBlock }
    let entry = findCircles ? Wait(self, wanted) : nil
    if let entry { try Self.enter(entry) }
    defer { if let entry { Self.waiting.value.withLock { list in list.removeAll { $0 === entry } } } }
    do throws(Errno) {
      let _: Bool = try released.wait(reason: "file lock") { trySet(kind, wanted) ? true : nil }
    } catch { throw error == .interrupted ? .restart : error }
  }

  /// Throws `deadlock` when who is in the way waits, through others perhaps, for the one that begins to wait.
  private static func enter(_ entry: Wait) throws(Errno) {
    let circle = waiting.value.withLock { list in
      var blocker = entry.blocker
      for _ in 0...list.count {
        if blocker == entry.wanted.owner { return true }
        guard let other = list.first(where: { $0.wanted.owner == blocker }) else { break }
        blocker = other.blocker
      }
      list.append(entry)
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
