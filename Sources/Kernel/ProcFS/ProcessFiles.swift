import Machine
import Primitives
import Processes
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// Files in /proc/PID and in /proc/PID/task/TID. SPEC: proc(5).
enum ProcessFiles {
  /// A file: its name, who may use it, its text, and what a write to it does.
  final class Item {
    let name: StaticString
    let mode: UInt32
    /// It shows the process's memory or where things lie in it.
    let isPrivate: Bool
    let make: (Subject) throws(Errno) -> [UInt8]
    let write: ((Subject, [UInt8]) throws(Errno) -> Void)?
    init(
      _ name: StaticString, mode: UInt32 = 0o444, isPrivate: Bool = false, _ make: @escaping (Subject) throws(Errno) -> [UInt8],
      write: ((Subject, [UInt8]) throws(Errno) -> Void)? = nil
    ) {
      self.name = name
      self.mode = mode
      self.isPrivate = isPrivate
      self.make = make
      self.write = write
    }
  }

  static var all: [Item] {
    [
      Item("stat", ProcessStatus.stat), Item("status", ProcessStatus.status), Item("statm", ProcessStatus.statm),
      Item("cmdline", cmdline), Item("environ", mode: 0o400, isPrivate: true, environ),
      Item("auxv", mode: 0o400, isPrivate: true, auxiliary), Item("personality", mode: 0o400, isPrivate: true, personality),
      Item("maps", isPrivate: true, ProcessMaps.maps), Item("smaps", isPrivate: true, ProcessMaps.smaps),
      Item("smaps_rollup", isPrivate: true, ProcessMaps.rollup), Item("comm", mode: 0o644, comm, write: setName),
      Item("wchan", wchan), Item("mounts") { (_) throws(Errno) in try MountFiles.mounts() },
      Item("mountinfo") { (_) throws(Errno) in try MountFiles.mountinfo() }, Item("limits", limits),
      Item("oom_score") { (subject) throws(Errno) in line(OutOfMemory.thousandths(subject.process)) },
      Item(
        "oom_score_adj", mode: 0o644,
        { (subject) throws(Errno) in line(Int(subject.process.oomScoreAdjustment.load(ordering: .relaxed))) }, write: setAdjustment),
    ]
  }

  private static func line(_ value: Int) -> [UInt8] {
    var text = Text()
    text.add(Int32(value))
    text.add("\n")
    return text.bytes
  }

  /// Anybody may offer himself; only the superuser asks to be spared.
  private static func setAdjustment(_ subject: Subject, _ text: [UInt8]) throws(Errno) {
    let word = String(decoding: text.prefix { $0 != 10 && $0 != 0 }, as: UTF8.self)
    guard let wish = Int32(word), wish >= -1000, wish <= 1000 else { throw .invalidArgument }
    let adjustment = subject.process.oomScoreAdjustment.load(ordering: .relaxed)
    if wish < adjustment, !Task.currentTask.process.who.has(.resource) { throw .permissionDenied }
    subject.process.oomScoreAdjustment.store(wish, ordering: .relaxed)
  }

  private static func cmdline(_ subject: Subject) throws(Errno) -> [UInt8] {
    guard let space = subject.process.space else { return [] }
    return space.bytes(space.layout.arguments)
  }

  private static func environ(_ subject: Subject) throws(Errno) -> [UInt8] {
    guard let space = subject.process.space else { return [] }
    return space.bytes(space.layout.environment)
  }

  private static func auxiliary(_ subject: Subject) throws(Errno) -> [UInt8] {
    guard let space = subject.process.space else { return [] }
    return space.bytes(space.layout.auxiliary)
  }

  private static func personality(_ subject: Subject) throws(Errno) -> [UInt8] {
    var text = Text()
    text.add(hex: UInt64(subject.process.personality.load(ordering: .relaxed)), width: 8)
    text.add("\n")
    return text.bytes
  }

  private static func comm(_ subject: Subject) throws(Errno) -> [UInt8] { subject.name + [10] }

  /// Threads name each other: pthread_setname_np.
  private static func setName(_ subject: Subject, _ text: [UInt8]) throws(Errno) {
    guard let leader = subject.leader, Task.currentTask.process === subject.process else { throw .invalidArgument }
    let name = Array(text.prefix(15).prefix { $0 != 0 && $0 != 10 })
    leader.name.withLock { $0 = name }
  }

  /// What it waits for; `0` when it does not. These are our own words, not names of Linux's functions.
  private static func wchan(_ subject: Subject) throws(Errno) -> [UInt8] {
    guard subject.isOpenToCaller, let leader = subject.leader, !leader.isRunnable else { return [48] }
    return leader.waitReason.utf8CodeUnitCount == 0
      ? [48] : leader.waitReason.description.utf8.map { $0 == 32 ? 95 : $0 }
  }

  private static var limitNames: [(StaticString, StaticString)] {
    [
      ("Max cpu time", "seconds"), ("Max file size", "bytes"), ("Max data size", "bytes"), ("Max stack size", "bytes"),
      ("Max core file size", "bytes"), ("Max resident set", "bytes"), ("Max processes", "processes"), ("Max open files", "files"),
      ("Max locked memory", "bytes"), ("Max address space", "bytes"), ("Max file locks", "locks"), ("Max pending signals", "signals"),
      ("Max msgqueue size", "bytes"), ("Max nice priority", ""), ("Max realtime priority", ""), ("Max realtime timeout", "us"),
    ]
  }

  private static func limits(_ subject: Subject) throws(Errno) -> [UInt8] {
    var text = Text()
    let all = subject.process.limits.withLock { $0 }
    func add(_ name: StaticString, _ soft: [UInt8], _ hard: [UInt8], _ unit: StaticString) {
      for (column, width) in [(Array(name.description.utf8), 26), (soft, 21), (hard, 21), (Array(unit.description.utf8), 10)] {
        let start = text.bytes.count
        text.add(column)
        while text.bytes.count - start < width { text.bytes.append(32) }
      }
      text.add("\n")
    }
    func number(_ value: UInt64) -> [UInt8] {
      if value == .max { return Array("unlimited".utf8) }
      var text = Text()
      text.add(value)
      return text.bytes
    }
    add("Limit", Array("Soft Limit".utf8), Array("Hard Limit".utf8), "Units")
    for (limit, (name, unit)) in zip(all, limitNames) { add(name, number(limit.soft), number(limit.hard), unit) }
    return text.bytes
  }
}
