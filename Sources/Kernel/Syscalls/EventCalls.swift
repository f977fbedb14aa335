import EventFiles
import Machine
import Processes
import Signals
import Sync
import SystemABI
import Threads
import VFS

/// Files that stand for events: eventfd, timerfd, signalfd.
extension Call {
  /// Gives a new file a descriptor.
  func install(_ file: any OpenFile, flags: UInt32, closeOnExec: Bool) throws(Errno) -> UInt32 {
    let description = FileDescription(file, flags: flags)
    do throws(Errno) { return UInt32(bitPattern: try process.install(description, closeOnExec: closeOnExec)) } catch {
      description.abandon()
      throw error
    }
  }

  /// SPEC: eventfd(2): EFD_SEMAPHORE is 1.
  func eventfd(flags: UInt32) throws(Errno) -> UInt32 {
    if flags & ~(OpenFlags.closeOnExec | OpenFlags.nonBlocking | 1) != 0 { throw .invalidArgument }
    return try install(
      EventCounter(a, isSemaphore: flags & 1 != 0), flags: OpenFlags.readWrite | flags & OpenFlags.nonBlocking,
      closeOnExec: flags & OpenFlags.closeOnExec != 0)
  }

  func signalfd(flags: UInt32) throws(Errno) -> UInt32 {
    guard c == 8 else { throw .invalidArgument }
    if flags & ~(OpenFlags.closeOnExec | OpenFlags.nonBlocking) != 0 { throw .invalidArgument }
    let signals = SignalSet(bits: try UserMemory.read64(b))
    if int(a) != -1 {
      guard let file = try description(a).file as? SignalFile else { throw .invalidArgument }
      file.set(signals)
      return a
    }
    return try install(
      SignalFile(signals), flags: OpenFlags.readWrite | flags & OpenFlags.nonBlocking, closeOnExec: flags & OpenFlags.closeOnExec != 0)
  }

  func timerfdCreate() throws(Errno) -> UInt32 {
    guard [0, 1, 7, 8, 9].contains(a), b & ~(OpenFlags.closeOnExec | OpenFlags.nonBlocking) == 0 else { throw .invalidArgument }
    return try install(
      TimerFile(isRealtime: a == 0 || a == 8), flags: OpenFlags.readWrite | b & OpenFlags.nonBlocking,
      closeOnExec: b & OpenFlags.closeOnExec != 0)
  }

  private func timerFile(_ number: UInt32) throws(Errno) -> TimerFile {
    guard let file = try description(number).file as? TimerFile else { throw .invalidArgument }
    return file
  }

  /// `struct itimerspec`: interval and value; TFD_TIMER_ABSTIME is 1, TFD_TIMER_CANCEL_ON_SET 2.
  func timerfdSettime(wide: Bool) throws(Errno) -> UInt32 {
    let timer = try timerFile(a)
    if b & ~3 != 0 { throw .invalidArgument }
    let size: UInt32 = wide ? 16 : 8
    guard let interval = try timespec(c, wide: wide), let value = try timespec(c &+ size, wide: wide) else { throw .badAddress }
    let old = timer.setting
    timer.set(
      deadline: value == 0 ? nil : deadline(value, absolute: b & 1 != 0, realtime: timer.isRealtime), interval: interval,
      endsWithSetting: b & 3 == 3 && timer.isRealtime)
    if d != 0 { try put(old, to: d, wide: wide) }
    return 0
  }

  func timerfdGettime(wide: Bool) throws(Errno) -> UInt32 {
    try put(try timerFile(a).setting, to: b, wide: wide)
    return 0
  }

  func put(_ setting: (interval: UInt64, remaining: UInt64), to address: UInt32, wide: Bool) throws(Errno) {
    try putTimespec(setting.interval, to: address, wide: wide)
    try putTimespec(setting.remaining, to: address &+ (wide ? 16 : 8), wide: wide)
  }

  /// When a timer fires; what lies in the past fires at once. Relative times do not follow the wall clock.
  func deadline(_ value: UInt64, absolute: Bool, realtime: Bool) -> Deadline {
    if !absolute { return .after(value) }
    return realtime ? .wallClock(value) : .sinceBoot(value)
  }

  // MARK: inotify

  func inotifyInit(flags: UInt32) throws(Errno) -> UInt32 {
    if flags & ~(OpenFlags.closeOnExec | OpenFlags.nonBlocking) != 0 { throw .invalidArgument }
    let file = try Inotify.make(user: process.who.uid)
    return try install(file, flags: flags & OpenFlags.nonBlocking, closeOnExec: flags & OpenFlags.closeOnExec != 0)
  }

  private func inotify() throws(Errno) -> Inotify {
    guard let file = try description(a).file as? Inotify else { throw .invalidArgument }
    return file
  }

  /// IN_ONLYDIR is 0x0100_0000, IN_DONT_FOLLOW 0x0200_0000, IN_MASK_CREATE 0x1000_0000, IN_MASK_ADD 0x2000_0000.
  /// SPEC: inotify_add_watch(2).
  func inotifyAddWatch() throws(Errno) -> UInt32 {
    // Linux wants one of the bits it knows, askable or not.
    if c & 0xF700_EFFF == 0 { throw .invalidArgument }
    let description = try description(a)
    let (adds, isNew) = (c & 0x2000_0000 != 0, c & 0x1000_0000 != 0)
    if adds, isNew { throw .invalidArgument }
    guard let file = description.file as? Inotify else { throw .invalidArgument }
    let inode = try resolve(at: Self.cwd, b, follow: c & 0x0200_0000 == 0).inode()
    if c & 0x0100_0000 != 0, !inode.isDirectory { throw .notDirectory }
    try inode.check(4, process.who)
    let wanted = c & (FileEvents.askable.rawValue | FileWatch.excludesUnlinked | FileWatch.isOneShot)
    return UInt32(bitPattern: try file.watch(inode, wanted: wanted, adding: adds, isNew: isNew))
  }

  func inotifyRemoveWatch() throws(Errno) -> UInt32 {
    try inotify().unwatch(int(b))
    return 0
  }
}
