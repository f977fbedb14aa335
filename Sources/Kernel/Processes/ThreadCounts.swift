import Machine
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// How many threads there are: of each user, for RLIMIT_NPROC, and in all. A process counts as one thread until it is reaped.
public enum ThreadCounts {
  /// One user's count.
  public final class User {
    let id: UInt32
    let count = Atomic<Int>(0)
    init(_ id: UInt32) { self.id = id }
  }

  private static let users = BootCell<SpinLock<[User], LeafRank>>()
  private static let total = Atomic<Int>(0)

  static func start() { users.set(SpinLock([])) }

  /// Threads together may take a sixth of memory for their kernel stacks, and fit where stacks are mapped; Linux's
  /// `threads-max` is made in the same way.
  public static var limit: Int { min(Int((Frames.totalCount - Frames.highCounts.total) / 6 / (KernelSpace.stackSize / 4096 + 1)), 6400) }

  static func user(_ id: UInt32) -> User {
    let found = users.value.withLock { $0.first { $0.id == id } }
    if let found { return found }
    let new = User(id)
    // Those that nobody is any more make room; they die outside the lock.
    var unused: [User] = []
    let result = users.value.withLock { list in
      if let other = list.first(where: { $0.id == id }) { return other }
      for index in list.indices.reversed() where isKnownUniquelyReferenced(&list[index]) { unused.append(list.remove(at: index)) }
      list.append(new)
      return new
    }
    _ = unused
    return result
  }

  /// Counts one more thread. Throws `wouldBlock` when the system or the user has enough. SPEC: fork(2) EAGAIN.
  static func take(_ user: User, limit allowed: UInt64, mayExceed: Bool) throws(Errno) {
    let all = total.wrappingAdd(1, ordering: .relaxed).newValue
    let mine = user.count.wrappingAdd(1, ordering: .relaxed).newValue
    if all > limit || !mayExceed && UInt64(mine) > allowed {
      give(user)
      throw .wouldBlock
    }
  }

  static func give(_ user: User) {
    total.wrappingSubtract(1, ordering: .relaxed)
    user.count.wrappingSubtract(1, ordering: .relaxed)
  }
}

extension Process {
  /// Counts a thread that `parent`'s limits allow.
  func countThread(for parent: Process) throws(Errno) {
    let limit = parent.limits.withLock { $0[6].soft }
    let mayExceed = parent.who.has(.resource) || parent.who.has(.administrate)
    try account.withLock { user throws(Errno) in
      try ThreadCounts.take(user, limit: limit, mayExceed: mayExceed)
      countedThreads.wrappingAdd(1, ordering: .relaxed)
    }
  }

  func uncountThread() {
    account.withLock { user in
      ThreadCounts.give(user)
      countedThreads.wrappingSubtract(1, ordering: .relaxed)
    }
  }

  /// The real user has changed: its threads are another's now.
  public func moveAccount() {
    let new = ThreadCounts.user(who.uid)
    account.withLock { user in
      if user === new { return }
      let threads = countedThreads.load(ordering: .relaxed)
      user.count.wrappingSubtract(threads, ordering: .relaxed)
      new.count.wrappingAdd(threads, ordering: .relaxed)
      user = new
    }
  }
}
