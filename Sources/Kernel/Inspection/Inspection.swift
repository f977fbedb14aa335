import CMachine
import Machine
import Memory
import Processes
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// What a debugger asks a stopped kernel: reports as text. Nothing here waits: what is locked is left out.
public enum Inspection {
  /// The reports by the number that `inspect_report` takes.
  enum Kind: UInt32 {
    case threads, processes, spaces, inodes, locks
  }

  static func report(_ kind: Kind) -> String {
    switch kind {
    case .threads: threads()
    case .processes: processes()
    case .spaces: spaces()
    case .inodes: inodes()
    case .locks: locks()
    }
  }

  private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

  private static func threads() -> String {
    var out = "  TID   PID CPU STATE    LEVEL     RUN ms SWITCHES WAITS FOR\n"
    for process in ProcessTable.shared.all() {
      for task in process.signals.withLock({ $0.threads }) {
        let state = task.stateName
        out += "\(pad(task.id, 5)) \(pad(process.id, 5)) \(pad(Int32(task.cpu), 3)) \(state.description)  \(pad(Int32(task.level), 5)) "
        out +=
          "\(pad(Int32(clamping: task.runtime / 1_000_000), 10)) \(pad(Int32(clamping: task.counts.voluntarySwitches &+ task.counts.involuntarySwitches), 8)) \(task.waitReason.description)\n"
      }
    }
    return out
  }

  private static func pad(_ value: Int32, _ width: Int) -> String {
    var digits = "\(value)"
    while digits.utf8.count < width { digits = " " + digits }
    return digits
  }

  private static func processes() -> String {
    var out = "  PID  PPID  PGRP   SID THREADS FILES STATE   NAME\n"
    for process in ProcessTable.shared.all() {
      let (parent, group, session, exit) = ProcessTable.shared.withTree {
        (process.tree.parent?.id ?? 0, process.tree.group, process.tree.session, process.tree.exit)
      }
      let threads = process.signals.withLock { $0.threads.count }
      let files = process.descriptors.withLock { $0.numbers.count }
      out +=
        "\(pad(process.id, 5)) \(pad(parent, 5)) \(pad(group, 5)) \(pad(session, 5)) \(pad(Int32(threads), 7)) \(pad(Int32(files), 5)) "
      out += (exit == .running ? "running " : "zombie  ") + text(process.name) + "\n"
    }
    return out
  }

  private static func spaces() -> String {
    var out = ""
    for process in ProcessTable.shared.all() {
      guard let space = process.space else { continue }
      out += "\(process.id) \(text(process.name)): page tables \(hex(space.table.physicalAddress)), \(space.table.residentPages) pages\n"
      let shown: Void? = space.state.tryWithLock { state in
        for area in state.areas.areas {
          let rights = (area.readable ? "r" : "-") + (area.writable ? "w" : "-") + (area.executable ? "x" : "-") + (area.shared ? "s" : "p")
          out += "  \(hex(area.start))-\(hex(area.end)) \(rights)\(area.backing == nil ? "" : " inode \(area.backing!.inode.number)")\n"
        }
      }
      if shown == nil { out += "  (in use)\n" }
    }
    return out
  }

  private static func inodes() -> String {
    var out = "cached pages \(PageCache.count.load(ordering: .relaxed)), dirty \(WriteBack.dirtyCount.load(ordering: .relaxed)), "
    out += "names \(DentryCache.count.load(ordering: .relaxed))\n"
    for mount in Mounts.all() { out += "mount \(text(mount.source)) type \(mount.fileSystem.typeName)\n" }
    for process in ProcessTable.shared.all() {
      let open = process.descriptors.withLock { table in table.numbers.map { ($0, table[$0]) } }
      for (number, description) in open {
        guard let inode = description?.inode else { continue }
        let attributes = inode.attributes.withLock { $0 }
        out += "\(pad(process.id, 5)) fd \(pad(number, 3)) inode \(inode.number) mode \(hex(attributes.mode, width: 4)) "
        out += "links \(attributes.links) size \(attributes.size) of \(inode.fileSystem.typeName)\n"
      }
    }
    return out
  }

  /// Ranks are recorded in checked kernels only (`debug -c debug`).
  private static func locks() -> String {
    var out = ""
    for cpu in 0..<Processors.count { out += "cpu \(cpu) holds spin locks of ranks \(LockOrder.held(by: cpu))\n" }
    for process in ProcessTable.shared.all() {
      for task in process.signals.withLock({ $0.threads }) where !task.heldMutexRanks.isEmpty {
        out += "thread \(task.id) holds mutexes of ranks \(task.heldMutexRanks)\n"
      }
    }
    return out
  }
}

/// Called by the debugger: makes a report in `inspect_buffer` and answers its length, or 0 when the kernel cannot be asked here.
@c(inspect_report)
public func inspectReport(_ number: UInt32) -> UInt32 {
  // SAFETY: the machine is stopped but for us; the buffer is ours alone and the copy is bounded.
  guard let kind = Inspection.Kind(rawValue: number), Heap.isFree, ProcessTable.shared.isFree else { return 0 }
  let bytes = Array(Inspection.report(kind).utf8)
  let count = min(bytes.count, 32768)
  unsafe withUnsafeMutablePointer(to: &inspect_buffer) { (buffer) -> Void in
    let raw = UnsafeMutableRawPointer(buffer)
    for index in 0..<count { unsafe raw.storeBytes(of: bytes[index], toByteOffset: index, as: UInt8.self) }
  }
  return UInt32(count)
}
