import Machine
import Processes
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// What a letter written to /proc/sysrq-trigger does. SPEC: Linux admin-guide/sysrq.rst, for its letters.
enum SystemRequest {
  static func perform(_ text: [UInt8]) throws(Errno) {
    switch text.first {
    case UInt8(ascii: "b"): Power.reset()
    case UInt8(ascii: "c"): crash()
    case UInt8(ascii: "o"):
      log("power off, status 0")
      Power.off()
    case UInt8(ascii: "s"): try Mounts.sync()
    case UInt8(ascii: "S"): overflowStack()
    case UInt8(ascii: "t"): logThreads()
    default: throw .invalidArgument
    }
  }

  /// What every thread does, in the kernel's log.
  private static func logThreads() {
    for process in ProcessTable.shared.all() {
      let (exit, parent) = ProcessTable.shared.withTree { (process.tree.exit, process.tree.parent?.id ?? 0) }
      let (threads, stopped, dying) = process.signals.withLock { ($0.threads, $0.isStopped, $0.groupExit != nil) }
      log(
        "process \(process.id) (\(String(decoding: process.name, as: UTF8.self))) of \(parent)\(exit == .running ? "" : ", zombie")\(stopped ? ", stopped" : "")\(dying ? ", dying" : "")"
      )
      for thread in threads {
        log(
          "  thread \(thread.id) \(thread.stateName) cpu \(thread.cpu) \(thread.waitReason) switches \(thread.counts.voluntarySwitches &+ thread.counts.involuntarySwitches) pending \(thread.interruptRequested.load(ordering: .relaxed)) exit \(thread.exitStatus != nil)"
        )
        for address in thread.backtrace { log("    at \(hex(address))") }
      }
    }
  }

  /// A crash on demand, for testing what a panic prints.
  @inline(never) private static func crash() -> Never { Panic.stop("sysrq triggered crash") }

  /// Ours: runs the kernel stack into its guard page.
  private static func overflowStack() { log("the stack did not overflow at depth \(descend(0))") }

  @inline(never) private static func descend(_ depth: Int) -> Int {
    var block: [256 of UInt8] = .init(repeating: UInt8(truncatingIfNeeded: depth))
    if depth < 1_000_000 { block[depth & 255] &+= UInt8(truncatingIfNeeded: descend(depth + 1)) }
    return depth + Int(block[7])
  }
}
