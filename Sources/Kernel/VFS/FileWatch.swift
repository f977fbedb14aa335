import Primitives
import Sync
import Synchronization
import SystemABI

/// What happens to files, with the numbers of inotify(7).
public struct FileEvents: OptionSet, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  public static let access = FileEvents(rawValue: 1)
  public static let modify = FileEvents(rawValue: 2)
  public static let attributes = FileEvents(rawValue: 4)
  public static let closeWritten = FileEvents(rawValue: 8)
  public static let closeUnwritten = FileEvents(rawValue: 0x10)
  public static let open = FileEvents(rawValue: 0x20)
  public static let movedFrom = FileEvents(rawValue: 0x40)
  public static let movedTo = FileEvents(rawValue: 0x80)
  public static let create = FileEvents(rawValue: 0x100)
  public static let delete = FileEvents(rawValue: 0x200)
  public static let deleteSelf = FileEvents(rawValue: 0x400)
  public static let moveSelf = FileEvents(rawValue: 0x800)
  /// All that can be asked for.
  public static let askable = FileEvents(rawValue: 0xFFF)
  public static let unmount = FileEvents(rawValue: 0x2000)
  public static let overflow = FileEvents(rawValue: 0x4000)
  public static let ignored = FileEvents(rawValue: 0x8000)
  /// What it happened to is a directory.
  public static let isDirectory = FileEvents(rawValue: 0x4000_0000)
}

/// Somebody who wants to know what happens to files.
public protocol FileWatcher: AnyObject {
  /// Called with no spin lock held, maybe with mutexes of the file layers; must not sleep.
  func happened(_ events: FileEvents, _ watch: FileWatch, name: [UInt8], cookie: UInt32)
  /// The watch is off its inode.
  func ended(_ watch: FileWatch)
  /// Its watches.
  var watches: [FileWatch] { get }
}

/// A watch on one inode, which it keeps in memory but not from being deleted.
public final class FileWatch {
  public let inode: Inode
  public let watcher: any FileWatcher
  /// The watcher's own number for it.
  public let number: Int32
  private let wantedBits: Atomic<UInt32>
  /// Nothing of children whose name is gone.
  public static var excludesUnlinked: UInt32 { 0x0400_0000 }
  /// It ends with its first event.
  public static var isOneShot: UInt32 { 0x8000_0000 }

  public init(_ inode: Inode, _ watcher: any FileWatcher, number: Int32, wanted: UInt32) {
    self.inode = inode
    self.watcher = watcher
    self.number = number
    wantedBits = Atomic(wanted)
  }

  /// The events asked for, with `excludesUnlinked` and `isOneShot`.
  public var wanted: UInt32 {
    get { wantedBits.load(ordering: .relaxed) }
    set { wantedBits.store(newValue, ordering: .relaxed) }
  }
}

/// Who watches which inode, and the telling.
public enum FileWatches {
  private static let lock = BootCell<SpinLock<Void, WatchRank>>()
  /// All there are: nothing that happens costs more than a look at it while nobody watches anything.
  private static let count = Atomic<Int>(0)
  private static let lastCookie = Atomic<UInt32>(0)
  private static let watchers = BootCell<SpinLock<[any FileWatcher], WatchRank>>()
  public static func start() {
    lock.set(SpinLock(()))
    watchers.set(SpinLock([]))
  }

  public static func join(_ watcher: any FileWatcher) { watchers.value.withLock { $0.append(watcher) } }
  public static func leave(_ watcher: any FileWatcher) {
    watchers.value.withLock { all in
      if let index = all.firstIndex(where: { $0 === watcher }) { all.remove(at: index) }
    }
  }

  @inline(__always) static var hasNone: Bool { count.load(ordering: .relaxed) == 0 }

  public static func add(_ watch: FileWatch) {
    lock.value.withLock { _ in
      watch.inode.watches.append(watch)
      watch.inode.isWatched.store(true, ordering: .releasing)
    }
    count.wrappingAdd(1, ordering: .relaxed)
  }

  /// Takes a watch off its inode; false when it was off already.
  public static func remove(_ watch: FileWatch) -> Bool {
    let wasThere = lock.value.withLock { _ in
      guard let index = watch.inode.watches.firstIndex(where: { $0 === watch }) else { return false }
      watch.inode.watches.remove(at: index)
      if watch.inode.watches.isEmpty { watch.inode.isWatched.store(false, ordering: .releasing) }
      return true
    }
    if wasThere { count.wrappingSubtract(1, ordering: .relaxed) }
    return wasThere
  }

  /// The watch that `watcher` has on an inode.
  public static func find(_ inode: Inode, _ watcher: any FileWatcher) -> FileWatch? {
    lock.value.withLock { _ in inode.watches.first { $0.watcher === watcher } }
  }

  /// Tells those who watch an open file, or the directory it was opened in.
  @inline(__always) public static func tell(_ description: FileDescription, _ events: FileEvents) {
    if hasNone { return }
    if let inode = description.inode { tell(inode, description.path?.dentry, events) }
  }

  /// Tells of what happened to an inode by way of `dentry`, whose directory's watchers are told its name.
  @inline(__always) public static func tell(_ inode: Inode, _ dentry: Dentry?, _ events: FileEvents) {
    if !hasNone { tellBoth(inode, dentry, events) }
  }

  @inline(never) private static func tellBoth(_ inode: Inode, _ dentry: Dentry?, _ events: FileEvents) {
    let events = inode.isDirectory ? events.union(.isDirectory) : events
    if let dentry, let directory = dentry.parent?.inode, directory.isWatched.load(ordering: .acquiring) {
      tell(directory, events, name: dentry.name, isUnlinked: dentry.inode !== inode)
    }
    tell(inode, events)
  }

  /// Tells those who watch `directory` of one of its names.
  static func tell(_ directory: Inode, _ events: FileEvents, name: [UInt8], of inode: Inode?, cookie: UInt32 = 0) {
    if hasNone { return }
    tell(directory, inode?.isDirectory == true ? events.union(.isDirectory) : events, name: name, cookie: cookie)
  }

  /// Tells those who watch an inode of what happened to it, or to one of its names.
  static func tell(_ inode: Inode, _ events: FileEvents, name: [UInt8] = [], cookie: UInt32 = 0, isUnlinked: Bool = false) {
    guard inode.isWatched.load(ordering: .acquiring) else { return }
    let watches = lock.value.withLock { _ in inode.watches }
    for watch in watches where watch.wanted & events.rawValue & FileEvents.askable.rawValue != 0 {
      let wanted = watch.wanted
      if isUnlinked, wanted & FileWatch.excludesUnlinked != 0 { continue }
      let isLast = wanted & FileWatch.isOneShot != 0
      if isLast, !remove(watch) { continue }
      watch.watcher.happened(events, watch, name: name, cookie: cookie)
      if isLast { watch.watcher.ended(watch) }
    }
  }

  /// A number that ties the two events of a move together.
  static func cookie() -> UInt32 { lastCookie.wrappingAdd(1, ordering: .relaxed).newValue }

  /// An inode goes: its watchers learn why, and that their watches are over.
  static func end(_ inode: Inode, _ events: FileEvents) {
    guard inode.isWatched.load(ordering: .acquiring) else { return }
    for watch in lock.value.withLock({ _ in inode.watches }) { end(watch, events) }
  }

  private static func end(_ watch: FileWatch, _ events: FileEvents) {
    guard remove(watch) else { return }
    if events.contains(.unmount) || watch.wanted & events.rawValue & FileEvents.askable.rawValue != 0 {
      watch.watcher.happened(events, watch, name: [], cookie: 0)
    }
    watch.watcher.ended(watch)
  }

  /// A file system goes with everything that is watched on it.
  static func unmounted(_ fileSystem: any FileSystem) {
    for watcher in watchers.value.withLock({ $0 }) {
      for watch in watcher.watches where watch.inode.fileSystem === fileSystem {
        end(watch, watch.inode.isDirectory ? [.unmount, .isDirectory] : .unmount)
      }
    }
  }
}
