import Machine
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

struct EventPollRank: LockRank { static let level: UInt8 = 12 }
struct ReadyListRank: LockRank { static let level: UInt8 = 86 }

/// A set of watched files, and those of them that have something to tell. SPEC: epoll(7), epoll_ctl(2).
public final class EventPoll: OpenFile, CloseWatcher {
  public var identity: FileIdentity { .descriptor("[eventpoll]") }
  /// Event bits beyond poll's. SPEC: Linux uapi linux/eventpoll.h.
  enum Flags {
    static let exclusive: UInt32 = 1 << 28
    static let wakeUp: UInt32 = 1 << 29
    static let oneShot: UInt32 = 1 << 30
    static let edge: UInt32 = 1 << 31
    static let always: UInt32 = 8 | 16
  }

  /// One watched file.
  final class Item: PollTable {
    let number: Int32
    let description: FileDescription
    let owner: EventPoll
    /// The events asked for with their flags, and what to answer with them; under the set's mutex.
    var events: UInt32
    var data: UInt64
    var nextSameNumber: Item?
    /// On the ready list; under its lock.
    var isReady = false
    /// The last look at the list that had begun when it came on it; under its lock.
    var pass: UInt32 = 0
    var nextReady: Item?
    /// Taken out of the set; under the ready list's lock.
    var isGone = false
    /// Where it listens: filled as it enters the set, emptied when it has left it.
    private var nodes: [(WaitQueue, Node)] = []

    init(_ number: Int32, _ description: FileDescription, _ owner: EventPoll, events: UInt32, data: UInt64) {
      self.number = number
      self.description = description
      self.owner = owner
      self.events = events
      self.data = data
    }

    final class Node: WaitNode {
      let item: Item
      init(_ item: Item) {
        self.item = item
        super.init(Thread.current)
      }
      override func notify() { item.owner.markReady(item) }
    }

    override func add(_ queue: WaitQueue) {
      let node = Node(self)
      node.exclusive = events & Flags.exclusive != 0
      nodes.append((queue, node))
      queue.add(node)
    }

    /// Takes it off the file's queues.
    func detach() {
      for (queue, node) in nodes { queue.remove(node) }
      nodes = []
    }
  }

  /// Ready items, first in, first out.
  struct ReadyList: ~Copyable {
    var first: Item?
    var last: Item?
    private var passes: UInt32 = 0

    mutating func append(_ item: Item) {
      if item.isReady || item.isGone { return }
      item.isReady = true
      item.pass = passes
      item.nextReady = nil
      if let last { last.nextReady = item } else { first = item }
      last = item
    }

    /// The first item, or nil when the pass comes to what was put on the list since it began. A pass begins with 0.
    mutating func pop(_ pass: inout UInt32) -> Item? {
      if pass == 0 {
        passes = max(1, passes &+ 1)
        pass = passes
      }
      guard let item = first, Int32(bitPattern: item.pass &- pass) < 0 else { return nil }
      first = item.nextReady
      if first == nil { last = nil }
      item.nextReady = nil
      item.isReady = false
      return item
    }
  }

  /// Watched files by descriptor number; several descriptions may have had one number.
  private let items = Mutex<[Item?], EventPollRank>([])
  private let ready = InterruptSpinLock<ReadyList, ReadyListRank>(ReadyList())
  private let event = WaitQueue()

  public init() {}

  /// Called in any context, interrupts included.
  fileprivate func markReady(_ item: Item) {
    ready.withLock { $0.append(item) }
    event.wake()
  }

  // MARK: The set

  private static func find(_ items: borrowing [Item?], _ number: Int32, _ description: FileDescription) -> Item? {
    guard Int(number) < items.count else { return nil }
    var item = items[Int(number)]
    while let candidate = item {
      if candidate.description === description { return candidate }
      item = candidate.nextSameNumber
    }
    return nil
  }

  /// EPOLL_CTL_ADD. Throws `fileExists`, `notPermitted` for files that poll cannot wait for, `tooManySymbolicLinkLevels` for
  /// sets that would watch themselves, `badFileDescriptor` when the file was closed meanwhile.
  public func add(_ number: Int32, _ description: FileDescription, events: UInt32, data: UInt64) throws(Errno) {
    if description.inode?.isRegular == true || description.inode?.isDirectory == true { throw .notPermitted }
    if let other = description.file as? EventPoll {
      if events & Flags.exclusive != 0 { throw .invalidArgument }
      try checkNesting(other)
    }
    let item = Item(number, description, self, events: events, data: data)
    try items.withLock { items throws(Errno) in
      if Self.find(items, number, description) != nil { throw .fileExists }
      while items.count <= Int(number) { items.append(nil) }
      item.nextSameNumber = items[Int(number)]
      items[Int(number)] = item
      description.watch(self)
      arm(item, registering: true)
    }
    // Who closed it before it was watched has told nobody.
    if !description.isOpen {
      descriptionClosed(description)
      throw .badFileDescriptor
    }
  }

  /// Looks at the file once; with `registering` it also starts to listen. Under the set's mutex, and while the item is in the set.
  private func arm(_ item: Item, registering: Bool) {
    let now = item.description.poll(registering ? item : nil)
    if now.rawValue & (item.events | Flags.always) != 0 { markReady(item) }
  }

  private func checkNesting(_ other: EventPoll) throws(Errno) {
    if other === self { throw .invalidArgument }
    var level: [EventPoll] = [other]
    for _ in 0..<5 {
      var next: [EventPoll] = []
      for set in level {
        if set === self { throw .tooManySymbolicLinkLevels }
        next += set.nested()
      }
      if next.isEmpty { return }
      level = next
    }
    throw .tooManySymbolicLinkLevels
  }

  private func nested() -> [EventPoll] {
    items.withLock { items in
      var result: [EventPoll] = []
      for head in items {
        var item = head
        while let current = item {
          if let set = current.description.file as? EventPoll { result.append(set) }
          item = current.nextSameNumber
        }
      }
      return result
    }
  }

  public func modify(_ number: Int32, _ description: FileDescription, events: UInt32, data: UInt64) throws(Errno) {
    try items.withLock { items throws(Errno) in
      guard let item = Self.find(items, number, description) else { throw .noSuchFileOrDirectory }
      if (item.events | events) & Flags.exclusive != 0 { throw .invalidArgument }
      item.events = events
      item.data = data
      arm(item, registering: false)
    }
  }

  public func remove(_ number: Int32, _ description: FileDescription) throws(Errno) {
    let item = try items.withLock { items throws(Errno) in
      guard let item = Self.take(&items, number, description) else { throw .noSuchFileOrDirectory }
      return item
    }
    description.unwatch(self)
    retire(item)
  }

  private static func take(_ items: inout [Item?], _ number: Int32, _ description: FileDescription) -> Item? {
    guard Int(number) < items.count else { return nil }
    var previous: Item?
    var item = items[Int(number)]
    while let candidate = item {
      if candidate.description === description {
        if let previous { previous.nextSameNumber = candidate.nextSameNumber } else { items[Int(number)] = candidate.nextSameNumber }
        candidate.nextSameNumber = nil
        return candidate
      }
      previous = candidate
      item = candidate.nextSameNumber
    }
    return nil
  }

  private func retire(_ item: Item) {
    item.detach()
    ready.withLock { _ in item.isGone = true }
  }

  public func descriptionClosed(_ description: FileDescription) {
    let found: Item? = items.withLock { items in
      for number in items.indices {
        var item = items[number]
        while let candidate = item {
          if candidate.description === description { return Self.take(&items, Int32(number), description) }
          item = candidate.nextSameNumber
        }
      }
      return nil
    }
    if let found { retire(found) }
  }

  public func close(_ description: FileDescription) {
    let all: [Item] = items.withLock { items in
      var all: [Item] = []
      for head in items {
        var item = head
        while let current = item {
          all.append(current)
          item = current.nextSameNumber
          current.nextSameNumber = nil
        }
      }
      items = []
      return all
    }
    for item in all {
      item.description.unwatch(self)
      retire(item)
    }
    var pass: UInt32 = 0
    while ready.withLock({ $0.pop(&pass) }) != nil {}
  }

  // MARK: Waiting

  private var hasReady: Bool { ready.withLock { $0.first != nil } }

  /// Hands up to `limit` ready events to `deliver`; how many. Level-triggered ones go to the end of the list, to be looked at again.
  private func collect(_ limit: Int, _ deliver: (UInt32, UInt64) throws(Errno) -> Void) throws(Errno) -> Int {
    var pass: UInt32 = 0
    var count = 0
    while count < limit, let item = ready.withLock({ $0.pop(&pass) }) {
      let found: (events: UInt32, data: UInt64)? = items.withLock { _ in
        if item.isGone || item.events & ~(Flags.edge | Flags.oneShot | Flags.wakeUp | Flags.exclusive) == 0 { return nil }
        let events = item.description.poll(nil).rawValue & (item.events | Flags.always) & 0xFFFF
        if events == 0 { return nil }
        if item.events & Flags.oneShot != 0 {
          item.events &= Flags.edge | Flags.oneShot | Flags.wakeUp
        } else if item.events & Flags.edge == 0 {
          ready.withLock { $0.append(item) }  // it may still be ready when everything else has had its turn
        }
        return (events, item.data)
      }
      guard let found else { continue }
      try deliver(found.events, found.data)
      count += 1
    }
    return count
  }

  /// Waits until something is ready or `deadline` (ns since boot) passes. `deliver` gets events and data; 0 after a time-out.
  public func wait(limit: Int, deadline: Deadline?, immediate: Bool, _ deliver: (UInt32, UInt64) throws(Errno) -> Void) throws(Errno)
    -> Int
  {
    while true {
      let count = try collect(limit, deliver)
      if count > 0 || immediate { return count }
      // What was ready may be so no longer, again and again.
      if let deadline, deadline.hasPassed { return 0 }
      if Thread.current.interruptRequested.load(ordering: .relaxed) { throw .interrupted }
      do throws(Errno) {
        let _: Bool = try event.wait(deadline: deadline, reason: "epoll", exclusive: true) { hasReady ? true : nil }
      } catch {
        if error == .timedOut { return 0 }
        throw error
      }
    }
  }

  public func poll(_ table: PollTable?) -> PollEvents {
    table?.add(event)
    // An item on the list may have been read empty since: only what is true now counts.
    var candidates: [Item] = []
    ready.withLock { list in
      var item = list.first
      while let current = item, candidates.count < 64 {
        candidates.append(current)
        item = current.nextReady
      }
    }
    for item in candidates where item.description.poll(nil).rawValue & (item.events | Flags.always) & 0xFFFF != 0 {
      return [.readable, .normalRead]
    }
    return []
  }
}
