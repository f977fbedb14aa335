import Machine
import Processes
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// Files in /proc about the whole system.
enum SystemFiles {
  /// A file: its name, its text, and what a write to it does, if it may be written.
  final class Item {
    let name: StaticString
    let make: () throws(Errno) -> [UInt8]
    let write: (([UInt8]) throws(Errno) -> Void)?
    init(_ name: StaticString, _ make: @escaping () throws(Errno) -> [UInt8], write: (([UInt8]) throws(Errno) -> Void)? = nil) {
      self.name = name
      self.make = make
      self.write = write
    }
  }
  /// The command line as the loader gave it; set at boot.
  static let commandLine = BootCell<Line>()
  final class Line {
    let text: [UInt8]
    init(_ text: [UInt8]) { self.text = text }
  }

  static var all: [Item] {
    [
      Item("meminfo", meminfo), Item("vmstat", vmstat), Item("uptime", uptime), Item("loadavg", loadavg), Item("stat", stat),
      Item("mounts", MountFiles.mounts), Item("devices", devices), Item("swaps", swaps),
      Item("filesystems", filesystems), Item("version", version), Item("cmdline", cmdline), Item("cpuinfo", ProcessorInformation.text),
      Item("interrupts", interrupts), Item("partitions", partitions), Item("kernel_state", kernelState),
      Item("sysrq-trigger", nothing, write: SystemRequest.perform),
    ]
  }

  private static func nothing() throws(Errno) -> [UInt8] { [] }

  static func meminfo() throws(Errno) -> [UInt8] {
    var text = Text()
    let total = UInt64(Machine.memoryFrames) * 4
    let free = UInt64(Frames.freeCount) * 4
    let cached = UInt64(max(0, PageCache.count.load(ordering: .relaxed))) * 4
    text.addSize("MemTotal", kilobytes: total)
    text.addSize("MemFree", kilobytes: free)
    let dirty = UInt64(max(0, WriteBack.dirtyCount.load(ordering: .relaxed))) * 4
    text.addSize("MemAvailable", kilobytes: free + (cached > dirty ? cached - dirty : 0))
    text.addSize("Buffers", kilobytes: 0)
    text.addSize("Cached", kilobytes: cached)
    text.addSize("SwapTotal", kilobytes: 0)
    text.addSize("SwapFree", kilobytes: 0)
    text.addSize("Dirty", kilobytes: dirty)
    let high = Frames.highCounts
    text.addSize("HighTotal", kilobytes: UInt64(high.total) * 4)
    text.addSize("HighFree", kilobytes: UInt64(high.free) * 4)
    text.addSize("LowTotal", kilobytes: total - UInt64(high.total) * 4)
    text.addSize("LowFree", kilobytes: free - min(free, UInt64(high.free) * 4))
    return text.bytes
  }

  /// What of Linux's counters there is.
  private static func vmstat() throws(Errno) -> [UInt8] {
    var text = Text()
    let counters: [(StaticString, UInt64)] = [
      ("nr_free_pages ", UInt64(Frames.freeCount)), ("nr_file_pages ", UInt64(max(0, PageCache.count.load(ordering: .relaxed)))),
      ("nr_dirty ", UInt64(max(0, WriteBack.dirtyCount.load(ordering: .relaxed)))),
    ]
    for (name, value) in counters {
      text.add(name)
      text.add(value)
      text.add("\n")
    }
    return text.bytes
  }

  /// Seconds since boot, and seconds that the CPUs were idle, summed.
  static func uptime() throws(Errno) -> [UInt8] {
    var text = Text()
    var idle: UInt64 = 0
    for cpu in 0..<Processors.count { idle += Scheduler.time(ofCPU: cpu).idle }
    text.addHundredths(Clock.monotonic / 10_000_000)
    text.add(" ")
    text.addHundredths(idle / 10_000_000)
    text.add("\n")
    return text.bytes
  }

  static func loadavg() throws(Errno) -> [UInt8] {
    var text = Text()
    for index in 0..<3 {
      text.addHundredths(UInt64(SystemLoad.hundredths(index)))
      text.add(" ")
    }
    text.add(UInt64(Scheduler.runnableCount))
    text.add("/")
    text.add(UInt64(ProcessTable.shared.count))
    text.add(" ")
    text.add(UInt64(ProcessTable.shared.forkCount.load(ordering: .relaxed)))
    text.add("\n")
    return text.bytes
  }

  /// Times are in hundredths of a second: user, nice, system, idle, and six that are not told apart here.
  static func stat() throws(Errno) -> [UInt8] {
    var text = Text()
    var lines = Text()
    var sum = (busy: ProcessorTime(), idle: UInt64(0))
    for cpu in 0..<Processors.count {
      let (busy, idle) = Scheduler.time(ofCPU: cpu)
      sum.busy += busy
      sum.idle += idle
      lines.add("cpu")
      lines.add(UInt64(cpu))
      lines.addTimes(busy, idle)
    }
    text.add("cpu ")
    text.addTimes(sum.busy, sum.idle)
    text.add(lines.bytes)
    text.add("ctxt ")
    text.add(UInt64(Scheduler.switchCount.load(ordering: .relaxed)))
    text.add("\nbtime ")
    text.add(UInt64(max(0, Clock.realtime - Int64(Clock.monotonic))) / 1_000_000_000)
    text.add("\nprocesses ")
    text.add(UInt64(ProcessTable.shared.forkCount.load(ordering: .relaxed)))
    text.add("\nprocs_running ")
    text.add(UInt64(Scheduler.runnableCount))
    text.add("\nprocs_blocked 0\n")
    return text.bytes
  }

  static func filesystems() throws(Errno) -> [UInt8] {
    var text = Text()
    for type in FileSystemTypes.all() {
      text.add(type.needsDevice ? "\t" : "nodev\t")
      text.add(Array(type.name.utf8))
      text.add("\n")
    }
    return text.bytes
  }

  static func version() throws(Errno) -> [UInt8] {
    SystemName.system + Array(" version ".utf8) + SystemName.release + Array(" (Swift 6) ".utf8) + SystemName.version + [10]
  }

  static func cmdline() throws(Errno) -> [UInt8] { (commandLine.isSet ? commandLine.value.text : []) + [10] }

  private static func swaps() throws(Errno) -> [UInt8] { Array("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".utf8) }

  /// Names by major number: what a driver's devices are called, without their own number.
  private static func devices() throws(Errno) -> [UInt8] {
    var text = Text()
    for (title, wantsBlock) in [("Character devices:\n", false), ("\nBlock devices:\n", true)] as [(StaticString, Bool)] {
      text.add(title)
      var names: [(major: UInt32, name: [UInt8])] = []
      DeviceRegistry.forEach { name, isBlock, number, _, _ in
        if isBlock == wantsBlock, !names.contains(where: { $0.major == number.major }) { names.append((number.major, name)) }
      }
      names.sort { $0.major < $1.major }
      for (major, name) in names {
        text.add(UInt64(major), width: 3)
        text.add(" ")
        text.add(name)
        text.add("\n")
      }
    }
    return text.bytes
  }

  static func interrupts() throws(Errno) -> [UInt8] {
    var text = Text()
    for vector in 32..<256 where Interrupts.count(vector: vector) > 0 {
      text.add(UInt64(vector - 32), width: 3)
      text.add(": ")
      text.add(UInt64(Interrupts.count(vector: vector)), width: 10)
      text.add("\n")
    }
    return text.bytes
  }

  static func partitions() throws(Errno) -> [UInt8] {
    var text = Text()
    text.add("major minor  #blocks  name\n\n")
    DeviceRegistry.forEach { name, isBlock, number, _, device in
      guard isBlock, let node = device as? BlockNode, node.disk.sectorCount > 0 else { return }
      text.add(UInt64(number.major), width: 4)
      text.add(UInt64(number.minor), width: 9)
      text.add(node.disk.sectorCount / 2, width: 11)
      text.add(" ")
      text.add(name)
      text.add("\n")
    }
    return text.bytes
  }

  /// Descriptors of all processes.
  private static var openFiles: Int {
    ProcessTable.shared.all().reduce(0) { $0 + $1.descriptors.withLock { $0.numbers.count } }
  }

  /// Ours: what a leak test compares. Frames, processes, cached names and pages.
  static func kernelState() throws(Errno) -> [UInt8] {
    var text = Text()
    text.addLine("free_frames", UInt64(Frames.freeCount))
    text.addLine("kernel_tables", UInt64(KernelSpace.tableCount))
    text.addLine("processes", UInt64(ProcessTable.shared.count))
    text.addLine("names", UInt64(max(0, DentryCache.count.load(ordering: .relaxed))))
    text.addLine("cached_pages", UInt64(max(0, PageCache.count.load(ordering: .relaxed))))
    text.addLine("open_files", UInt64(openFiles))
    let heap = Heap.usage
    text.addLine("heap_frames", UInt64(heap.frames))
    text.addLine("heap_bytes", UInt64(heap.bytes))
    text.addLine("heap_block_frames", UInt64(heap.blockFrames))
    text.addLine("cpus", UInt64(Processors.count))
    text.addLine("cpus_inside_calls", UInt64(Processors.insideCalls))
    return text.bytes
  }
}

extension Text {
  /// A number of hundredths as a decimal fraction.
  mutating func addHundredths(_ value: UInt64) {
    add(value / 100)
    add(".")
    add(value % 100, width: 2, pad: 48)
  }

  fileprivate mutating func addTimes(_ busy: ProcessorTime, _ idle: UInt64) {
    for value in [busy.user, 0, busy.system, idle] {
      add(" ")
      add(value / 10_000_000)
    }
    add(" 0 0 0 0 0 0\n")
  }
}
