import Machine
import Sync
import Synchronization
import SystemABI
import Threads

/// Memory of a device that programs may map: physical pages.
public struct DeviceMemory: Sendable {
  public let firstFrame: UInt32
  public let pages: UInt32
  public init(firstFrame: UInt32, pages: UInt32) { (self.firstFrame, self.pages) = (firstFrame, pages) }
}

/// What an open file does. Reads and writes may sleep and copy to or from user memory.
public protocol OpenFile: AnyObject {
  /// Reads at `offset` (streams ignore it); 0 at the end.
  func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int
  /// Writes; answers the count and the offset behind it.
  func write(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> (Int, UInt64)
  /// What is possible now; registers `table`'s waiter for changes when given.
  func poll(_ table: PollTable?) -> PollEvents
  func control(_ command: UInt32, _ argument: UInt32, _ description: FileDescription) throws(Errno) -> Int32
  var isSeekable: Bool { get }
  /// A device whose position means nothing: one can seek anywhere, and is at 0.
  var ignoresPosition: Bool { get }
  /// What it is for who finds no name for it.
  var identity: FileIdentity { get }
  /// What a mapping of it shows, where that is not the file's pages.
  var memory: DeviceMemory? { get }
  /// The last descriptor is gone.
  func close(_ description: FileDescription)
}

extension OpenFile {
  public func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    throw .invalidArgument
  }
  public func write(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno)
    -> (Int, UInt64)
  { throw .invalidArgument }
  public func poll(_ table: PollTable?) -> PollEvents { [.readable, .writable, .normalRead, .normalWrite] }
  public func control(_ command: UInt32, _ argument: UInt32, _ description: FileDescription) throws(Errno) -> Int32 {
    throw .inappropriateIOCTLForDevice
  }
  public var isSeekable: Bool { false }
  public var ignoresPosition: Bool { false }
  public var identity: FileIdentity { .descriptor("[file]") }
  public var memory: DeviceMemory? { nil }
  public func close(_ description: FileDescription) {}
}

/// What a file's `poll` registers its wait queues with.
open class PollTable {
  public init() {}
  open func add(_ queue: WaitQueue) {}
}

/// Waits of one thread on several queues at once: poll and select.
public final class ThreadPollTable: PollTable {
  private let thread = Thread.current
  private var entries: [(WaitQueue, PollNode)] = []
  let signalled = Atomic<Bool>(false)

  override public func add(_ queue: WaitQueue) {
    let node = PollNode(thread, self)
    entries.append((queue, node))
    queue.add(node)
  }

  public func clear() {
    for (queue, node) in entries { queue.remove(node) }
    entries = []
  }

  final class PollNode: WaitNode {
    let table: ThreadPollTable
    init(_ thread: Thread, _ table: ThreadPollTable) {
      self.table = table
      super.init(thread)
    }
    override func notify() {
      table.signalled.store(true, ordering: .releasing)
      super.notify()
    }
  }

  /// Whether a queue was woken since the last call.
  public func takeSignal() -> Bool { signalled.exchange(false, ordering: .acquiringAndReleasing) }
}

/// Something that must know when an open file's last descriptor goes: an epoll set that watches it.
public protocol CloseWatcher: AnyObject {
  /// Called once, in the context of the close; may sleep.
  func descriptionClosed(_ description: FileDescription)
}

/// An open file: shared by `dup` and `fork`, so the offset and the status flags live here.
public final class FileDescription {
  public let file: any OpenFile
  /// Where it was opened; nil for pipes and sockets.
  public let path: Path?
  public let inode: Inode?
  private let offset: Mutex<UInt64, OffsetRank>
  private let statusFlags: Atomic<UInt32>
  private let descriptors = Atomic<Int32>(0)
  /// Of the inode's write errors, those that it has been told of or that were before it.
  private let seenErrors: Atomic<UInt32>
  /// Set when `watchers` may hold something: the close of an ordinary file takes no lock for it.
  private let isWatched = Atomic<Bool>(false)
  private var watchers: [any CloseWatcher] = []
  private static let watchLock = BootCell<SpinLock<Void, WatchRank>>()
  public static func start() { watchLock.set(SpinLock(())) }

  public init(_ file: any OpenFile, path: Path? = nil, inode: Inode? = nil, flags: UInt32) {
    self.file = file
    self.path = path
    self.inode = inode
    offset = Mutex(0)
    statusFlags = Atomic(flags)
    seenErrors = Atomic(inode == nil ? 0 : Self.storage(file, inode)?.writeErrors.load(ordering: .relaxed) ?? 0)
    path?.pin()
    inode?.addUser()
  }

  private static func storage(_ file: any OpenFile, _ inode: Inode?) -> Inode? {
    if inode?.type == Mode.block { return (file as? BlockNode)?.inode }
    return inode?.content
  }

  /// The inode that has the content, and has it written back; nil where nothing is.
  public var storage: Inode? { Self.storage(file, inode) }

  /// Brings the file to stable storage. Throws what keeps it from there; and once, that something of it could not be written since it
  /// was opened. SPEC: fsync(2).
  public func synchronise() throws(Errno) {
    guard let storage else { throw .invalidArgument }
    var failure: Errno?
    do throws(Errno) {
      try storage.writeBack()
      try storage.fileSystem.sync(storage)
    } catch { failure = error }
    let errors = storage.writeErrors.load(ordering: .acquiring)
    if seenErrors.exchange(errors, ordering: .acquiringAndReleasing) != errors, failure == nil { failure = .ioError }
    if let failure { throw failure }
  }

  /// After a write, where each is to be on stable storage.
  func synchroniseIfAsked() throws(Errno) {
    if flags & OpenFlags.dataSync != 0 || path?.mount.isSynchronous == true { try synchronise() }
  }

  /// What the file is ready for; with a table, it also tells that when this changes.
  public func poll(_ table: PollTable?) -> PollEvents { file.poll(table) }

  public var flags: UInt32 {
    get { statusFlags.load(ordering: .relaxed) }
    set { statusFlags.store(newValue, ordering: .relaxed) }
  }
  public var isReadable: Bool { flags & OpenFlags.accessMask != OpenFlags.writeOnly && flags & OpenFlags.path == 0 }
  public var isWritable: Bool { flags & OpenFlags.accessMask != 0 && flags & OpenFlags.path == 0 }
  var isDirect: Bool { flags & OpenFlags.direct != 0 }
  public var isNonBlocking: Bool { flags & OpenFlags.nonBlocking != 0 }

  func addDescriptor() { descriptors.wrappingAdd(1, ordering: .relaxed) }

  func removeDescriptor() {
    if descriptors.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0 { finish() }
  }

  /// Tells `watcher` when the last descriptor goes; it may be added several times, and is told as often.
  public func watch(_ watcher: any CloseWatcher) {
    Self.watchLock.value.withLock { _ in watchers.append(watcher) }
    // An exchange: `isOpen`, when asked next, is not looked at before the closer can see this.
    _ = isWatched.exchange(true, ordering: .sequentiallyConsistent)
  }

  public func unwatch(_ watcher: any CloseWatcher) {
    Self.watchLock.value.withLock { _ in
      if let index = watchers.firstIndex(where: { $0 === watcher }) { watchers.remove(at: index) }
    }
  }

  /// Whether some descriptor still names it.
  public var isOpen: Bool { uses > 0 }
  /// Descriptors, and messages under way.
  public var uses: Int32 { descriptors.load(ordering: .acquiring) }

  private func finish() {
    if isWatched.load(ordering: .acquiring) {
      let told = Self.watchLock.value.withLock { _ in
        let all = watchers
        watchers = []
        return all
      }
      for watcher in told { watcher.descriptionClosed(self) }
    }
    if let locking = inode?.lockingIfAny {
      locking.unlock(.whole, owner: lockOwner)
      locking.unlock(.record, owner: lockOwner)
    }
    file.close(self)
    if flags & OpenFlags.path == 0 { FileWatches.tell(self, isWritable ? .closeWritten : .closeUnwritten) }
    path?.unpin()
    inode?.removeUser()
  }

  /// Ends a description that never got a descriptor.
  public func abandon() {
    adopt()
    drop()
  }

  public func read(_ buffer: inout IOBuffer) throws(Errno) -> Int {
    guard isReadable else { throw .badFileDescriptor }
    guard file.isSeekable else { return try read(&buffer, at: 0) }
    return try offset.withLock { position throws(Errno) in
      let count = try read(&buffer, at: position)
      position += UInt64(count)
      return count
    }
  }

  public func write(_ buffer: inout IOBuffer) throws(Errno) -> Int {
    guard isWritable else { throw .badFileDescriptor }
    guard file.isSeekable else { return try write(&buffer, at: 0).count }
    return try offset.withLock { position throws(Errno) in
      let (count, end) = try write(&buffer, at: position)
      position = end
      return count
    }
  }

  /// Reads at `offset`, for who has checked that it may be read.
  public func read(_ buffer: inout IOBuffer, at offset: UInt64) throws(Errno) -> Int {
    let count = try file.read(&buffer, at: offset, self)
    if count > 0 { FileWatches.tell(self, .access) }
    return count
  }

  /// Writes at `offset`, for who has checked that it may be written; the count, and the offset behind it.
  public func write(_ buffer: inout IOBuffer, at offset: UInt64) throws(Errno) -> (count: Int, end: UInt64) {
    let (count, end) = try file.write(&buffer, at: offset, self)
    if count > 0 { FileWatches.tell(self, .modify) }
    return (count, end)
  }

  /// Where the next read or write begins.
  public var position: UInt64 { offset.withLock { $0 } }

  /// Moves the offset by a rule that sees the present one.
  public func seek(_ rule: (UInt64) throws(Errno) -> UInt64) throws(Errno) -> UInt64 {
    try offset.withLock { position throws(Errno) in
      position = try rule(position)
      return position
    }
  }
}

/// A process's descriptors: lowest free number first.
public struct DescriptorTable: ~Copyable {
  private var slots: [FileDescription?] = []
  private var closeOnExec: [Bool] = []
  private var lowestFree = 0
  public var limit = 1024

  public init() {}

  /// Numbers there is room for.
  public var capacity: Int { slots.count }

  public subscript(_ number: Int32) -> FileDescription? {
    guard number >= 0, Int(number) < slots.count else { return nil }
    return slots[Int(number)]
  }

  /// Puts a description at the lowest free number at or above `minimum`. Throws `tooManyOpenFiles`.
  public mutating func add(_ description: FileDescription, closeOnExec close: Bool, minimum: Int = 0) throws(Errno) -> Int32 {
    var number = max(minimum, lowestFree)
    while number < slots.count, slots[number] != nil { number += 1 }
    guard number < limit else { throw .tooManyOpenFiles }
    if minimum <= lowestFree { lowestFree = number + 1 }
    set(number, description, close)
    return Int32(number)
  }

  private mutating func set(_ number: Int, _ description: FileDescription, _ close: Bool) {
    while slots.count <= number {
      slots.append(nil)
      closeOnExec.append(false)
    }
    description.addDescriptor()
    slots[number] = description
    closeOnExec[number] = close
  }

  /// Puts a description at `number`; the one that was there comes back for the caller to drop.
  public mutating func replace(_ number: Int32, with description: FileDescription, closeOnExec close: Bool) throws(Errno)
    -> FileDescription?
  {
    guard number >= 0, Int(number) < limit else { throw .badFileDescriptor }
    let old = self[number]
    set(Int(number), description, close)
    return old
  }

  public mutating func remove(_ number: Int32) -> FileDescription? {
    guard let description = self[number] else { return nil }
    slots[Int(number)] = nil
    lowestFree = min(lowestFree, Int(number))
    return description
  }

  public func isCloseOnExec(_ number: Int32) -> Bool { self[number] != nil && closeOnExec[Int(number)] }
  public mutating func setCloseOnExec(_ number: Int32, _ value: Bool) {
    if self[number] != nil { closeOnExec[Int(number)] = value }
  }

  /// An open file with one more descriptor's use of it, which is the caller's to end with `drop`.
  public func hold(_ number: Int32) throws(Errno) -> FileDescription {
    guard let description = self[number] else { throw .badFileDescriptor }
    description.addDescriptor()
    return description
  }

  /// Throws `tooManyOpenFiles` when there is no number for another file.
  public func checkRoom() throws(Errno) {
    if lowestFree < slots.count, slots[lowestFree...].contains(where: { $0 == nil }) { return }
    guard max(lowestFree, slots.count) < limit else { throw .tooManyOpenFiles }
  }

  /// A copy for a forked child.
  public func copy() -> DescriptorTable {
    var other = DescriptorTable()
    other.slots = slots
    other.closeOnExec = closeOnExec
    other.lowestFree = lowestFree
    other.limit = limit
    for case let description? in slots { description.addDescriptor() }
    return other
  }

  /// Takes out what execve closes, or everything.
  public mutating func takeAll(onlyCloseOnExec: Bool) -> [FileDescription] {
    var taken: [FileDescription] = []
    for number in slots.indices where !onlyCloseOnExec || closeOnExec[number] {
      if let description = slots[number] { taken.append(description) }
      slots[number] = nil
      lowestFree = min(lowestFree, number)
    }
    return taken
  }

  /// The numbers in use, for /proc/self/fd.
  public var numbers: [Int32] { slots.indices.filter { slots[$0] != nil }.map { Int32($0) } }
}

extension FileDescription {
  /// Counts a use that is no descriptor's.
  public func adopt() { addDescriptor() }
  /// Ends one descriptor's use; called outside any spin lock.
  public func drop() { removeDescriptor() }
}
