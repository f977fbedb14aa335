import Machine
import Primitives
import Sync
import SystemABI
import Threads
import VFS

public struct InotifyRank: LockRank { public static let level: UInt8 = 13 }

/// A file that tells what happens to the files it watches. SPEC: inotify(7).
public final class Inotify: OpenFile, FileWatcher {
  struct Event {
    var watch: Int32
    var events: FileEvents
    var cookie: UInt32
    var name: [UInt8]
    /// `struct inotify_event` and a name padded to its size.
    var size: Int { 16 + (name.isEmpty ? 0 : (name.count + 16) / 16 * 16) }
  }
  struct State: ~Copyable {
    var queue = ChunkedQueue<Event>()
    var last: Event?
    var bytes = 0
    /// By rising numbers.
    var watches: [FileWatch] = []
    var lastNumber: Int32 = 0
    var isClosed = false
  }
  /// Events that wait to be read; more are lost, which an event of its own says.
  public static var maximumEvents: Int { 16384 }

  public var identity: FileIdentity { .descriptor("inotify") }
  private let state: SpinLock<State, EventFileRank>
  private let arrived = WaitQueue()
  /// Held while watches are added and taken away on request.
  private let changing = Mutex<Void, InotifyRank>(())
  private let user: InotifyUser

  private init(_ user: InotifyUser) {
    self.user = user
    state = SpinLock(State())
    FileWatches.join(self)
  }

  /// Throws `tooManyOpenFiles` when `user` has his share of them.
  public static func make(user: UInt32) throws(Errno) -> Inotify { Inotify(try InotifyUsers.join(user)) }

  // MARK: Watches

  public var watches: [FileWatch] { state.withLock { $0.watches } }

  private func find(_ number: Int32, in state: borrowing State) -> Int? {
    var (low, high) = (0, state.watches.count)
    while low < high {
      let middle = (low + high) / 2
      if state.watches[middle].number < number { low = middle + 1 } else { high = middle }
    }
    return low < state.watches.count && state.watches[low].number == number ? low : nil
  }

  /// Watches an inode for `wanted`, or changes what it is watched for: to more with `adding`. The watch's number.
  /// Throws `noSpace` when the user has his share of watches, `fileExists` with `isNew` for one that there is.
  public func watch(_ inode: Inode, wanted: UInt32, adding: Bool, isNew: Bool) throws(Errno) -> Int32 {
    try changing.withLock { _ throws(Errno) in
      if let watch = FileWatches.find(inode, self) {
        if isNew { throw .fileExists }
        watch.wanted = adding ? watch.wanted | wanted : wanted
        return watch.number
      }
      try user.takeWatch()
      let watch: FileWatch? = state.withLock { state in
        if state.isClosed || state.lastNumber == .max { return nil }
        state.lastNumber += 1
        let watch = FileWatch(inode, self, number: state.lastNumber, wanted: wanted)
        state.watches.append(watch)
        return watch
      }
      guard let watch else {
        user.giveWatch()
        throw .noSpace
      }
      FileWatches.add(watch)
      // Whoever closed it in between did not find this one on its inode.
      if state.withLock({ $0.isClosed }) { _ = FileWatches.remove(watch) }
      return watch.number
    }
  }

  /// Throws `invalidArgument` when there is no watch with this number.
  public func unwatch(_ number: Int32) throws(Errno) {
    try changing.withLock { _ throws(Errno) in
      let watch = state.withLock { state in find(number, in: state).map { state.watches[$0] } }
      guard let watch, FileWatches.remove(watch) else { throw .invalidArgument }
      ended(watch)
    }
  }

  public func ended(_ watch: FileWatch) {
    let wasThere = state.withLock { state in
      guard let index = find(watch.number, in: state) else { return false }
      state.watches.remove(at: index)
      return true
    }
    guard wasThere else { return }
    user.giveWatch()
    append(Event(watch: watch.number, events: .ignored, cookie: 0, name: []))
  }

  public func close(_ description: FileDescription) {
    let watches = state.withLock { state in
      state.isClosed = true
      let watches = state.watches
      state.watches = []
      return watches
    }
    for watch in watches {
      _ = FileWatches.remove(watch)
      user.giveWatch()
    }
    FileWatches.leave(self)
    InotifyUsers.leave(user)
  }

  // MARK: Events

  public func happened(_ events: FileEvents, _ watch: FileWatch, name: [UInt8], cookie: UInt32) {
    append(Event(watch: watch.number, events: events, cookie: cookie, name: name))
  }

  private func append(_ event: Event) {
    let hasRoom = Frames.hasUnreserved()
    state.withLock { state in
      if state.isClosed { return }
      var event = event
      if state.queue.count >= Self.maximumEvents || !hasRoom {
        event = Event(watch: -1, events: .overflow, cookie: 0, name: [])
      }
      // The same again, with nothing in between that was not read, is said once.
      if let last = state.last, last.watch == event.watch, last.events == event.events, last.name == event.name,
        last.cookie == event.cookie
      {
        return
      }
      state.last = event
      state.bytes += event.size
      state.queue.append(event)
    }
    arrived.wake()
  }

  /// The first event, if it fits into `room`, or nil when there is none. Throws `invalidArgument` when it does not fit.
  private func take(_ room: Int) throws(Errno) -> Event? {
    try state.withLock { state throws(Errno) in
      guard let first = state.queue.first else { return nil }
      guard first.size <= room else { throw .invalidArgument }
      _ = state.queue.popFirst()
      state.bytes -= first.size
      if state.queue.isEmpty { state.last = nil }
      return first
    }
  }

  private var isEmpty: Bool { state.withLock { $0.queue.isEmpty } }

  /// As many whole events as there are and as fit.
  public func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    var total = 0
    while true {
      let event: Event?
      do throws(Errno) { event = try take(buffer.count) } catch {
        if total > 0 { return total }
        throw error
      }
      if let event {
        do throws(Errno) { total += try Self.put(event, &buffer) } catch {
          if total > 0 { return total }
          throw error
        }
        continue
      }
      if total > 0 { return total }
      let _: Bool = try arrived.wait(orFail: description.isNonBlocking, reason: "inotify read") { isEmpty ? nil : true }
    }
  }

  private static func put(_ event: Event, _ buffer: inout IOBuffer) throws(Errno) -> Int {
    var bytes = [UInt8](repeating: 0, count: event.size)
    var out = bytes.mutableSpan
    out.put32(UInt32(bitPattern: event.watch), at: 0)
    out.put32(event.events.rawValue, at: 4)
    out.put32(event.cookie, at: 8)
    out.put32(UInt32(event.size - 16), at: 12)
    for index in event.name.indices { out[16 + index] = event.name[index] }
    return try buffer.put(bytes.span)
  }

  public func poll(_ table: PollTable?) -> PollEvents {
    table?.add(arrived)
    return isEmpty ? [] : [.readable, .normalRead]
  }

  public func control(_ command: UInt32, _ argument: UInt32, _ description: FileDescription) throws(Errno) -> Int32 {
    guard command == 0x541B else { throw .inappropriateIOCTLForDevice }  // FIONREAD
    try UserMemory.write32(UInt32(state.withLock { $0.bytes }), to: argument)
    return 0
  }
}

/// What one user has of it.
public final class InotifyUser {
  let id: UInt32
  fileprivate var instances = 0
  private let watches = SpinLock<Int, EventFileRank>(0)
  init(_ id: UInt32) { self.id = id }

  func takeWatch() throws(Errno) {
    try watches.withLock { count throws(Errno) in
      if count >= InotifyUsers.maximumWatches { throw .noSpace }
      count += 1
    }
  }
  func giveWatch() { watches.withLock { $0 -= 1 } }
}

public enum InotifyUsers {
  public static var maximumInstances: Int { 128 }
  public static var maximumWatches: Int { 65536 }
  private static let users = BootCell<SpinLock<[InotifyUser], EventFileRank>>()
  public static func start() { users.set(SpinLock([])) }

  static func join(_ id: UInt32) throws(Errno) -> InotifyUser {
    try users.value.withLock { users throws(Errno) in
      let user: InotifyUser
      if let known = users.first(where: { $0.id == id }) {
        user = known
      } else {
        user = InotifyUser(id)
        users.append(user)
      }
      if user.instances >= maximumInstances { throw .tooManyOpenFiles }
      user.instances += 1
      return user
    }
  }

  static func leave(_ user: InotifyUser) {
    users.value.withLock { users in
      user.instances -= 1
      if user.instances == 0, let index = users.firstIndex(where: { $0 === user }) { users.remove(at: index) }
    }
  }
}
