import EventFiles
import Machine
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// Files below /proc/sys: what programs ask of the kernel's limits and names. SPEC: proc_sys(5).
///
/// Only what is true here is there, and only what has an effect can be written.
enum Settings {
  /// `path` is from /proc/sys on.
  static var all: [SystemFiles.Item] {
    [
      text("kernel/ostype") { SystemName.system }, text("kernel/osrelease") { SystemName.release },
      text("kernel/version") { SystemName.version },
      SystemFiles.Item("kernel/hostname", { () throws(Errno) in SystemName.node + [10] }, write: setNode),
      SystemFiles.Item("kernel/domainname", { () throws(Errno) in SystemName.domain + [10] }, write: setDomain),
      number("kernel/pid_max") { Int64(ProcessTable.maximumID) }, number("kernel/threads-max") { Int64(ThreadCounts.limit) },
      number("kernel/ngroups_max") { 65536 }, number("kernel/cap_last_cap") { 40 },
      number("kernel/overflowuid") { 65534 }, number("kernel/overflowgid") { 65534 },
      text("kernel/random/uuid") { identifier(Random.bytes(16)) }, text("kernel/random/boot_id") { bootIdentifier.value.text },
      number("fs/nr_open") { 1_048_576 }, number("fs/pipe-max-size") { 1_048_576 },
      number("fs/inotify/max_queued_events") { Int64(Inotify.maximumEvents) },
      number("fs/inotify/max_user_instances") { Int64(InotifyUsers.maximumInstances) },
      number("fs/inotify/max_user_watches") { Int64(InotifyUsers.maximumWatches) },
      number("vm/mmap_min_addr") { Int64(AddressSpace.lowest) },
      SystemFiles.Item("vm/drop_caches", { () throws(Errno) in [] }, write: dropCaches),
    ]
  }

  private static func text(_ path: StaticString, _ value: @escaping () -> [UInt8]) -> SystemFiles.Item {
    SystemFiles.Item(path) { () throws(Errno) in value() + [10] }
  }

  private static func number(_ path: StaticString, _ value: @escaping () -> Int64) -> SystemFiles.Item {
    SystemFiles.Item(path) { () throws(Errno) in
      var text = Text()
      text.addNumbers([value()])
      return text.bytes.dropFirst() + [10]
    }
  }

  private static func name(_ text: [UInt8]) throws(Errno) -> [UInt8] {
    guard Task.currentTask.process.who.has(.administrate) else { throw .notPermitted }
    let name = Array(text.prefix { $0 != 10 && $0 != 0 })
    guard name.count <= 64 else { throw .invalidArgument }
    return name
  }
  private static func setNode(_ text: [UInt8]) throws(Errno) { SystemName.set(try name(text)) }
  private static func setDomain(_ text: [UInt8]) throws(Errno) { SystemName.setDomain(try name(text)) }

  /// 1 drops clean pages, 2 unused names and inodes, 3 both: here one implies the other. SPEC: Linux admin-guide/sysctl/vm.rst.
  private static func dropCaches(_ text: [UInt8]) throws(Errno) {
    guard let first = text.first, first >= 49, first <= 51 else { throw .invalidArgument }
    PageCache.reclaim()
  }

  private static let bootIdentifier = BootCell<SystemFiles.Line>()
  static func start() { bootIdentifier.set(SystemFiles.Line(identifier(Random.bytes(16)))) }

  /// As a version 4 UUID. SPEC: RFC 9562 §5.4.
  private static func identifier(_ random: [UInt8]) -> [UInt8] {
    var text = Text()
    for (index, byte) in random.enumerated() {
      if [4, 6, 8, 10].contains(index) { text.add("-") }
      let value = index == 6 ? byte & 0x0F | 0x40 : index == 8 ? byte & 0x3F | 0x80 : byte
      text.add(hex: UInt64(value), width: 2)
    }
    return text.bytes
  }
}
