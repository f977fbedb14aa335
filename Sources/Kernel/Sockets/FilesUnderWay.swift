import Sync
import Synchronization
import SystemABI
import Threads
import VFS

struct FilesUnderWayRank: LockRank { static let level: UInt8 = 10 }
private struct DroppedFilesRank: LockRank { static let level: UInt8 = 78 }

/// Open files that messages carry and nobody has received. SPEC: unix(7) SCM_RIGHTS.
///
/// A socket under way keeps what its own queue carries. So sockets can hold each other when no program can reach them any
/// more: `collect` finds those, as a tracing garbage collector does, and what they carry is dropped.
enum FilesUnderWay {
  private struct State {
    /// Those with `underWay` > 0.
    var sockets: [UnixSocket] = []
    var users: [(id: UInt32, count: UInt64)] = []
    /// What the next collections may cost: closing a socket pays for looking at a few others.
    var credit = 0
  }
  private struct Dropped {
    var files: [FileDescription] = []
    /// A socket was closed since the last collection.
    var hasClosed = false
    var isBusy = false
  }
  private static let state = BootCell<Mutex<State, FilesUnderWayRank>>()
  private static let dropped = BootCell<SpinLock<Dropped, DroppedFilesRank>>()
  /// How many sockets there are in `State.sockets`.
  private static let count = Atomic<Int>(0)

  static func start() {
    state.set(Mutex(State()))
    dropped.set(SpinLock(Dropped()))
  }

  /// Files begin their way; `tooManyReferences` when `user` has sent more than `limit` that nobody has received.
  static func begin(_ files: [FileDescription], of user: UInt32, limit: UInt64) throws(Errno) {
    if files.isEmpty { return }
    try state.value.withLock { state throws(Errno) in
      let index = state.users.firstIndex { $0.id == user }
      if let index {
        guard state.users[index].count <= limit else { throw .tooManyReferences }
        state.users[index].count += UInt64(files.count)
      } else {
        state.users.append((user, UInt64(files.count)))
      }
      for file in files {
        guard let socket = file.file as? UnixSocket else { continue }
        socket.passage.uses += 1
        guard socket.passage.uses == 1 else { continue }
        socket.passage.description = file
        socket.passage.index = state.sockets.count
        state.sockets.append(socket)
        count.wrappingAdd(1, ordering: .relaxed)
      }
    }
  }

  /// Files have been received, or are dropped with the message.
  static func end(_ files: [FileDescription], of user: UInt32) {
    if files.isEmpty { return }
    state.value.withLock { state in
      if let index = state.users.firstIndex(where: { $0.id == user }) {
        state.users[index].count -= UInt64(files.count)
        if state.users[index].count == 0 { state.users.remove(at: index) }
      }
      for file in files {
        guard let socket = file.file as? UnixSocket else { continue }
        socket.passage.uses -= 1
        guard socket.passage.uses == 0 else { continue }
        let index = socket.passage.index
        socket.passage = UnixSocket.Passage()
        let last = state.sockets.removeLast()
        count.wrappingSubtract(1, ordering: .relaxed)
        if state.sockets.isEmpty { state.sockets = [] }  // gives a crowd's memory back
        guard last !== socket else { continue }
        state.sockets[index] = last
        last.passage.index = index
      }
    }
  }

  /// A socket was closed, with these messages still to be read. Their files are dropped one after another: they may be sockets
  /// with messages, too, however deep.
  static func drop(_ messages: [UnixSocket.Message]) {
    var files: [FileDescription] = []
    for message in messages {
      end(message.rights, of: message.sender)
      files += message.rights
    }
    if files.isEmpty, count.load(ordering: .relaxed) == 0 { return }
    let isBusy = dropped.value.withLock { dropped in
      dropped.files += files
      dropped.hasClosed = true
      defer { dropped.isBusy = true }
      return dropped.isBusy
    }
    // Whoever is at it, this thread further up or another, does it.
    if !isBusy { dropAll() }
  }

  private static func dropAll() {
    while true {
      let (files, hasClosed) = dropped.value.withLock { dropped in
        let next = (dropped.files, dropped.hasClosed)
        dropped.files = []
        dropped.hasClosed = false
        if next.0.isEmpty, !next.1 { dropped.isBusy = false }
        return next
      }
      for file in files { file.drop() }
      if !files.isEmpty { continue }
      guard hasClosed else { return }
      let found = collect()
      if !found.isEmpty { drop(found) }
    }
  }

  /// The messages of sockets that only such messages hold.
  private static func collect() -> [UnixSocket.Message] {
    let unreachable: [UnixSocket] = state.value.withLock { state in
      state.credit = min(state.credit + 8, 2 * state.sockets.count)
      guard state.credit >= state.sockets.count, !state.sockets.isEmpty else { return [] }
      state.credit -= state.sockets.count
      // Those without a descriptor, and how many of their uses are in each other's queues.
      let candidates = state.sockets.filter { socket in
        socket.passage.isCandidate = socket.passage.description?.uses == Int32(clamping: socket.passage.uses)
        socket.passage.inner = 0
        return socket.passage.isCandidate
      }
      for socket in candidates {
        for other in socket.carried where other.passage.isCandidate { other.passage.inner += 1 }
      }
      // What others carry can be received, and what these carry, too.
      var reachable = candidates.filter { $0.passage.uses > $0.passage.inner }
      for socket in reachable { socket.passage.isCandidate = false }
      while let socket = reachable.popLast() {
        for other in socket.carried where other.passage.isCandidate {
          other.passage.isCandidate = false
          reachable.append(other)
        }
      }
      return candidates.filter { $0.passage.isCandidate }
    }
    return unreachable.flatMap { $0.takeMessages() }
  }
}
