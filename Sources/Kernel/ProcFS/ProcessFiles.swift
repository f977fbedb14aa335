import Machine
import Memory
import Primitives
import Processes
import Signals
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// Files in /proc/PID.
enum ProcessFiles {
  /// A file: its name, who may use it, its text, and what a write to it does.
  final class Item {
    let name: StaticString
    let mode: UInt32
    let make: (Process) throws(Errno) -> [UInt8]
    let write: ((Process, [UInt8]) throws(Errno) -> Void)?
    init(
      _ name: StaticString, mode: UInt32 = 0o444, _ make: @escaping (Process) throws(Errno) -> [UInt8],
      write: ((Process, [UInt8]) throws(Errno) -> Void)? = nil
    ) {
      self.name = name
      self.mode = mode
      self.make = make
      self.write = write
    }
  }
  static var all: [Item] {
    [
      Item("stat", stat), Item("status", status), Item("statm", statm), Item("cmdline", cmdline),
      Item("environ", mode: 0o400, environ), Item("auxv", mode: 0o400, auxiliary),
      Item("personality", mode: 0o400, personality), Item("maps", maps), Item("comm", comm),
      Item("mounts") { (_) throws(Errno) in try SystemFiles.mounts() }, Item("limits", limits),
      Item("oom_score") { (process) throws(Errno) in line(OutOfMemory.thousandths(process)) },
      Item(
        "oom_score_adj", mode: 0o644, { (process) throws(Errno) in line(Int(process.oomScoreAdjustment.load(ordering: .relaxed))) },
        write: setAdjustment),
    ]
  }

  private static func line(_ value: Int) -> [UInt8] {
    var text = Text()
    text.add(Int32(value))
    text.add("\n")
    return text.bytes
  }

  /// Anybody may offer himself; only the superuser asks to be spared.
  private static func setAdjustment(_ process: Process, _ text: [UInt8]) throws(Errno) {
    let word = String(decoding: text.prefix { $0 != 10 && $0 != 0 }, as: UTF8.self)
    guard let wish = Int32(word), wish >= -1000, wish <= 1000 else { throw .invalidArgument }
    if wish < process.oomScoreAdjustment.load(ordering: .relaxed), !Task.currentTask.process.who.has(.resource) { throw .permissionDenied }
    process.oomScoreAdjustment.store(wish, ordering: .relaxed)
  }

  /// R running, S sleeping, T stopped, Z zombie.
  private static func state(_ process: Process) -> UInt8 {
    let isZombie = ProcessTable.shared.withTree { process.tree.exit != .running }
    if isZombie { return 90 }
    return process.signals.withLock { state in
      if state.isStopped { return 84 }
      return state.threads.contains { $0.isRunnable } ? 82 : 83
    }
  }

  private static func sizes(_ process: Process) -> (virtual: UInt64, resident: UInt64) {
    guard let space = process.space else { return (0, 0) }
    return space.state.withLock { ($0.areas.totalSize, UInt64(max(0, space.table.residentPages)) * 4096) }
  }

  static func stat(_ process: Process) throws(Errno) -> [UInt8] {
    var text = Text()
    let (parent, group, session) = ProcessTable.shared.withTree {
      (process.tree.parent?.id ?? 0, process.tree.group, process.tree.session)
    }
    let terminal = process.terminal.withLock { $0 }
    let threads = process.signals.withLock { $0.threads }
    let (virtual, resident) = sizes(process)
    let used = process.use
    text.add(process.id)
    text.add(" (")
    text.add(process.name)
    text.add(") ")
    text.bytes.append(state(process))
    for value in [parent, group, session, Int32(bitPattern: terminal?.deviceNumber.rawValue ?? 0), terminal?.foregroundGroup ?? -1] {
      text.add(" ")
      text.add(value)
    }
    let level = threads.first?.baseLevel ?? 20
    let children = process.childrenUse.withLock { $0 }
    text.add(" 0 ")
    for count in [used.minorFaults, children.minorFaults, used.majorFaults, children.majorFaults] {
      text.add(UInt64(count))
      text.add(" ")
    }
    for value in [used.time.user, used.time.system, children.time.user, children.time.system] {
      text.add(value / 10_000_000)
      text.add(" ")
    }
    text.add(UInt64(level))
    text.add(" ")
    text.add(Int32(level - 20))
    text.add(" ")
    text.add(UInt64(threads.count))
    text.add(" 0 ")
    text.add(process.startTime / 10_000_000)
    text.add(" ")
    text.add(virtual)
    text.add(" ")
    text.add(resident / 4096)
    text.add(" 4294967295 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n")
    return text.bytes
  }

  static func status(_ process: Process) throws(Errno) -> [UInt8] {
    var text = Text()
    let parent = ProcessTable.shared.withTree { process.tree.parent?.id ?? 0 }
    let who = process.who
    let code = state(process)
    text.add("Name:\t")
    text.add(process.name)
    text.add("\nState:\t")
    text.bytes.append(code)
    text.add(code == 82 ? " (running)" : code == 84 ? " (stopped)" : code == 90 ? " (zombie)" : " (sleeping)")
    text.add("\nTgid:\t")
    text.add(process.id)
    text.add("\nPid:\t")
    text.add(process.id)
    text.add("\nPPid:\t")
    text.add(parent)
    text.add("\nTracerPid:\t")
    text.add(ProcessTable.shared.withTree { process.signals.withLock { $0.threads.first }?.tracing?.tracer.id } ?? 0)
    text.add("\nUid:")
    for id in [who.uid, who.euid, who.suid, who.fsuid] {
      text.add("\t")
      text.add(UInt64(id))
    }
    text.add("\nGid:")
    for id in [who.gid, who.egid, who.sgid, who.fsgid] {
      text.add("\t")
      text.add(UInt64(id))
    }
    text.add("\n")
    let (virtual, resident) = sizes(process)
    text.addSize("VmSize", kilobytes: virtual / 1024)
    text.addSize("VmRSS", kilobytes: resident / 1024)
    let threads = process.signals.withLock { $0.threads }
    text.addSize("VmHWM", kilobytes: UInt64(process.use.peakPages) * 4)
    text.addLine("Threads", UInt64(threads.count))
    addSignals(process, &text)
    for (name, set) in [
      ("CapInh" as StaticString, who.capabilities.inheritable), ("CapPrm", who.capabilities.permitted), ("CapEff", who.effective),
      ("CapBnd", who.capabilities.bounding), ("CapAmb", who.capabilities.ambient),
    ] {
      text.addMask(name, set.bits)
    }
    let counts = threads.first?.counts ?? .init()
    text.addLine("voluntary_ctxt_switches", UInt64(counts.voluntarySwitches))
    text.addLine("nonvoluntary_ctxt_switches", UInt64(counts.involuntarySwitches))
    text.addLine("NoNewPrivs", process.noNewPrivileges.load(ordering: .acquiring) ? 1 : 0)
    return text.bytes
  }

  /// The sets of signals: waiting for the thread and for the process, blocked, ignored, caught.
  private static func addSignals(_ process: Process, _ text: inout Text) {
    var (ignored, caught) = (SignalSet(), SignalSet())
    let (own, shared, blocked) = process.signals.withLock { state in
      for number in UInt8(1)...64 {
        let handler = state.actions[Int(number)].handler
        if handler == 1 { ignored.insert(Signal(number)) } else if handler != 0 { caught.insert(Signal(number)) }
      }
      let thread = state.threads.first
      return (thread?.pending.set.bits ?? 0, state.pending.set.bits, thread?.blocked.bits ?? 0)
    }
    for (name, bits) in [
      ("SigPnd" as StaticString, own), ("ShdPnd", shared), ("SigBlk", blocked), ("SigIgn", ignored.bits), ("SigCgt", caught.bits),
    ] {
      text.addMask(name, bits)
    }
  }

  static func statm(_ process: Process) throws(Errno) -> [UInt8] {
    var text = Text()
    let (virtual, resident) = sizes(process)
    text.add(virtual / 4096)
    text.add(" ")
    text.add(resident / 4096)
    text.add(" 0 0 0 0 0\n")
    return text.bytes
  }

  static func cmdline(_ process: Process) throws(Errno) -> [UInt8] {
    guard let space = process.space else { return [] }
    return space.bytes(space.argumentRange)
  }

  static func environ(_ process: Process) throws(Errno) -> [UInt8] {
    guard let space = process.space else { return [] }
    return space.bytes(space.environmentRange)
  }

  static func auxiliary(_ process: Process) throws(Errno) -> [UInt8] {
    guard let space = process.space else { return [] }
    return space.bytes(space.auxiliaryRange)
  }

  static func personality(_ process: Process) throws(Errno) -> [UInt8] {
    var text = Text()
    text.add(hex: UInt64(process.personality.load(ordering: .relaxed)), width: 8)
    text.add("\n")
    return text.bytes
  }

  static func comm(_ process: Process) throws(Errno) -> [UInt8] { process.name + [10] }

  static func maps(_ process: Process) throws(Errno) -> [UInt8] {
    var text = Text()
    guard let space = process.space else { return [] }
    let (areas, heap) = space.state.withLock { ($0.areas.areas, $0.brkStart) }
    let root = Task.currentTask.process.pathContext.root
    for area in areas {
      text.add(hex: UInt64(area.start), width: 8)
      text.add("-")
      text.add(hex: UInt64(area.end), width: 8)
      text.add(" ")
      text.bytes += [area.readable ? 114 : 45, area.writable ? 119 : 45, area.executable ? 120 : 45, area.shared ? 115 : 112]
      text.add(" ")
      text.add(hex: area.backing == nil ? 0 : UInt64(area.pageOffset) << 12, width: 8)
      let device = DeviceNumber(rawValue: area.backing?.inode.fileSystem.deviceNumber ?? 0)
      text.add(" ")
      text.add(hex: UInt64(device.major), width: 2)
      text.add(":")
      text.add(hex: UInt64(device.minor), width: 2)
      text.add(" ")
      text.add(area.backing?.inode.number ?? 0)
      if let path = area.backing?.path?.text(root: root) {
        text.add("                  ")
        text.add(path)
      } else if area.kind != .ordinary {
        text.add(
          area.kind == .stack ? "                  [stack]" : area.kind == .vdso ? "                  [vdso]" : "                  [vvar]")
      } else if area.backing == nil, area.start >= heap.pageDown, area.start < heap &+ 0x100_0000, area.start <= heap &+ 4096 {
        text.add("                  [heap]")
      }
      text.add("\n")
    }
    return text.bytes
  }

  static func limits(_ process: Process) throws(Errno) -> [UInt8] {
    var text = Text()
    let all = process.limits.withLock { $0 }
    text.add("Limit                     Soft Limit           Hard Limit           Units     \n")
    let names: [(Int, StaticString)] = [
      (3, "Max stack size            "), (6, "Max processes             "), (7, "Max open files            "),
    ]
    for (index, name) in names {
      text.add(name)
      for value in [all[index].soft, all[index].hard] {
        if value == .max {
          text.add("unlimited            ")
        } else {
          let start = text.bytes.count
          text.add(value)
          while text.bytes.count - start < 21 { text.add(" ") }
        }
      }
      text.add(index == 3 ? "bytes     \n" : index == 6 ? "processes \n" : "files     \n")
    }
    return text.bytes
  }
}
