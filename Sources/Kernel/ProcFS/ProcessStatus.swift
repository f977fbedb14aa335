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

/// /proc/PID/stat, status and statm: what ps and top read. SPEC: proc_pid_stat(5), proc_pid_status(5), proc_pid_statm(5).
enum ProcessStatus {
  /// Bytes by what they are.
  private struct Sizes {
    var virtual: UInt64 = 0
    var resident: UInt64 = 0
    var data: UInt64 = 0
    var stack: UInt64 = 0
    var code: UInt64 = 0
    var libraries: UInt64 = 0
  }

  private static func sizes(_ process: Process) -> Sizes {
    var sizes = Sizes()
    guard let space = process.space else { return sizes }
    let program = space.layout.code
    space.state.withLock { state in
      sizes.resident = UInt64(max(0, space.table.residentPages)) * 4096
      for area in state.areas.areas {
        let size = UInt64(area.end - area.start)
        sizes.virtual += size
        if area.kind == .stack {
          sizes.stack += size
        } else if area.executable, area.backing != nil {
          if program.contains(area.start) { sizes.code += size } else { sizes.libraries += size }
        } else if area.writable, !area.shared {
          sizes.data += size
        }
      }
    }
    return sizes
  }

  /// The sets of signals: waiting for the thread and for the process, blocked, ignored, caught.
  private struct SignalSets {
    var own: UInt64 = 0
    var shared: UInt64 = 0
    var blocked: UInt64 = 0
    var ignored = SignalSet()
    var caught = SignalSet()

    init(_ subject: Subject) {
      let thread = subject.leader
      subject.process.signals.withLock { state in
        for number in UInt8(1)...64 {
          let handler = state.actions[Int(number)].handler
          if handler == 1 { ignored.insert(Signal(number)) } else if handler != 0 { caught.insert(Signal(number)) }
        }
        own = thread?.pending.set.bits ?? 0
        shared = state.pending.set.bits
        blocked = thread?.blocked.bits ?? 0
      }
    }
  }

  static func stat(_ subject: Subject) throws(Errno) -> [UInt8] {
    let process = subject.process
    let (parent, group, session, exitSignal, hasExecuted) = ProcessTable.shared.withTree {
      let tree = process.tree
      return (tree.parent?.id ?? 0, tree.group, tree.session, tree.exitSignal, tree.hasExecuted)
    }
    let terminal = process.terminal.withLock { $0 }
    let leader = subject.leader
    let sizes = sizes(process)
    let used = subject.use
    let children = process.childrenUse.withLock { $0 }
    let level = leader?.baseLevel ?? 20
    let isRealtime = leader?.policy.isRealtime ?? false
    let realtime = leader?.realtimePriority ?? 0
    let signals = SignalSets(subject)
    var text = Text()
    text.add(subject.id)
    text.add(" (")
    text.add(subject.name)
    text.add(") ")
    text.bytes.append(subject.state.letter)
    // From the parent's number on.
    text.addNumbers([
      Int64(parent), Int64(group), Int64(session), Int64(terminal?.deviceNumber.rawValue ?? 0), Int64(terminal?.foregroundGroup ?? -1),
      0x40_0000 | (hasExecuted ? 0 : 0x40),  // laid out at random; has forked but not executed
    ])
    text.addNumbers([used.minorFaults, children.minorFaults, used.majorFaults, children.majorFaults].map { Int64($0) })
    text.addNumbers([used.time.user, used.time.system, children.time.user, children.time.system].map { Int64($0 / 10_000_000) })
    text.addNumbers([
      isRealtime ? Int64(-1 - realtime) : Int64(level), Int64(level - 20), Int64(process.signals.withLock { $0.threads.count }), 0,
      Int64(subject.startTime / 10_000_000), Int64(sizes.virtual), Int64(sizes.resident / 4096),
      Int64(min(process.limits.withLock { $0[5].soft }, 0xFFFF_FFFF)),
    ])
    let space = subject.isOpenToCaller ? process.space : nil
    text.addNumbers([
      Int64(space?.layout.code.lowerBound ?? 0), Int64(space?.layout.code.upperBound ?? 0), Int64(space?.layout.stack ?? 0), 0, 0,
    ])
    // The signals below 32, for old programs.
    text.addNumbers([signals.own, signals.blocked, signals.ignored.bits, signals.caught.bits].map { Int64($0 & 0x7FFF_FFFF) })
    text.addNumbers([
      0, 0, 0, Int64(exitSignal), Int64(leader?.cpu ?? 0), isRealtime ? Int64(realtime) : 0, Int64(leader?.policy.rawValue ?? 0),
      0, 0, 0,
    ])
    let heap = space?.state.withLock { $0.brkStart } ?? 0
    text.addNumbers([
      Int64(space?.layout.data.lowerBound ?? 0), Int64(space?.layout.data.upperBound ?? 0), Int64(heap),
      Int64(space?.layout.arguments.lowerBound ?? 0), Int64(space?.layout.arguments.upperBound ?? 0),
      Int64(space?.layout.environment.lowerBound ?? 0), Int64(space?.layout.environment.upperBound ?? 0), 0,
    ])
    text.add("\n")
    return text.bytes
  }

  static func status(_ subject: Subject) throws(Errno) -> [UInt8] {
    let process = subject.process
    var text = Text()
    let leader = subject.leader
    let (parent, tracer) = ProcessTable.shared.withTree { (process.tree.parent?.id ?? 0, leader?.tracing?.tracer.id ?? 0) }
    let who = process.who
    text.add("Name:\t")
    text.add(subject.name)
    text.add("\nUmask:\t")
    text.add(UInt64(process.files.withLock { $0.umask }), width: 4, pad: 48, radix: 8)
    let state = subject.state
    text.add("\nState:\t")
    text.bytes.append(state.letter)
    text.add(" (")
    text.add(state.name)
    text.add(")\n")
    text.addLine("Tgid", UInt64(process.id))
    text.addLine("Ngid", 0)
    text.addLine("Pid", UInt64(subject.id))
    text.addLine("PPid", UInt64(parent))
    text.addLine("TracerPid", UInt64(tracer))
    text.addList("Uid", [who.uid, who.euid, who.suid, who.fsuid])
    text.addList("Gid", [who.gid, who.egid, who.sgid, who.fsgid])
    text.addLine("FDSize", UInt64(process.descriptors.withLock { $0.capacity }))
    text.add("Groups:\t")
    for group in who.groups {
      text.add(UInt64(group))
      text.add(" ")
    }
    text.add("\n")
    if process.space != nil { addSizes(process, &text) }
    text.addLine("Threads", UInt64(process.signals.withLock { $0.threads.count }))
    addSignals(SignalSets(subject), &text)
    for (name, set) in [
      ("CapInh" as StaticString, who.capabilities.inheritable), ("CapPrm", who.capabilities.permitted), ("CapEff", who.effective),
      ("CapBnd", who.capabilities.bounding), ("CapAmb", who.capabilities.ambient),
    ] {
      text.addMask(name, set.bits)
    }
    text.addLine("NoNewPrivs", process.noNewPrivileges.load(ordering: .acquiring) ? 1 : 0)
    text.addLine("Seccomp", 0)
    addProcessors(leader, &text)
    let counts = leader?.counts ?? .init()
    text.addLine("voluntary_ctxt_switches", UInt64(counts.voluntarySwitches))
    text.addLine("nonvoluntary_ctxt_switches", UInt64(counts.involuntarySwitches))
    return text.bytes
  }

  private static func addSizes(_ process: Process, _ text: inout Text) {
    let sizes = sizes(process)
    for (name, size) in [
      ("VmSize" as StaticString, sizes.virtual), ("VmHWM", UInt64(process.use.peakPages) * 4096), ("VmRSS", sizes.resident),
      ("VmData", sizes.data), ("VmStk", sizes.stack), ("VmExe", sizes.code), ("VmLib", sizes.libraries), ("VmSwap", 0),
    ] {
      text.add(name)
      text.add(":\t")
      text.add(size / 1024, width: 8)
      text.add(" kB\n")
    }
  }

  private static func addSignals(_ sets: SignalSets, _ text: inout Text) {
    for (name, bits) in [
      ("SigPnd" as StaticString, sets.own), ("ShdPnd", sets.shared), ("SigBlk", sets.blocked), ("SigIgn", sets.ignored.bits),
      ("SigCgt", sets.caught.bits),
    ] {
      text.addMask(name, bits)
    }
  }

  /// The CPUs that it may run on, as a mask and as ranges.
  private static func addProcessors(_ leader: Task?, _ text: inout Text) {
    let mask = (leader?.affinity ?? .max) & Processors.mask
    text.add("Cpus_allowed:\t")
    text.add(hex: UInt64(mask))
    text.add("\nCpus_allowed_list:\t")
    var isFirst = true
    var cpu = 0
    while cpu < 32 {
      guard mask >> UInt32(cpu) & 1 != 0 else {
        cpu += 1
        continue
      }
      let start = cpu
      while cpu < 31, mask >> UInt32(cpu + 1) & 1 != 0 { cpu += 1 }
      if !isFirst { text.add(",") }
      isFirst = false
      text.add(UInt64(start))
      if cpu > start {
        text.add("-")
        text.add(UInt64(cpu))
      }
      cpu += 1
    }
    text.add("\n")
  }

  /// Pages: all, resident, shared, code, 0, data with stack, 0.
  static func statm(_ subject: Subject) throws(Errno) -> [UInt8] {
    var text = Text()
    let sizes = sizes(subject.process)
    let shared = subject.process.space.map { ProcessMaps.residency(of: $0).shared } ?? 0
    text.add(sizes.virtual / 4096)
    text.addNumbers([sizes.resident / 4096, shared / 4096, sizes.code / 4096, 0, (sizes.data + sizes.stack) / 4096, 0].map { Int64($0) })
    text.add("\n")
    return text.bytes
  }
}
