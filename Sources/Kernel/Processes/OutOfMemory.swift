import Machine
import Memory
import Signals
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// What happens when no page can be found: the process that holds most of memory dies, at once, and the others go on.
/// SPEC: Linux admin-guide/mm/concepts.rst, proc(5) oom_score_adj.
public enum OutOfMemory {
  private struct Rank: LockRank { static var level: UInt8 { 21 } }
  private static let choosing = BootCell<Mutex<Void, Rank>>()
  static func start() { choosing.set(Mutex(())) }

  /// Makes room. Answers whether there is some: if so the caller tries again.
  public static func relieve(_ lack: Thread.Shortage = .page) -> Bool {
    choosing.value.withLock { _ in
      // Somebody else made room while this thread waited.
      if hasRoom(lack) { return true }
      guard let victim = choose(), let space = victim.space else {
        log(
          "out of memory: nobody can be killed for process \(Task.currentTask.process.id); pages: \(Frames.freeCount) free, \(PageCache.count.load(ordering: .relaxed)) of files, \(WriteBack.dirtyCount.load(ordering: .relaxed)) of them dirty"
        )
        return false
      }
      log(
        "out of memory: process \(victim.id) (\(String(decoding: victim.name, as: UTF8.self))) killed, it has \(space.table.residentPages * 4) KiB"
      )
      for process in ProcessTable.shared.all() where process.space === space {
        process.send(SignalInformation(.kill, code: 128))
      }
      space.condemn()
      awaitEnd(of: victim, lack)
      return hasRoom(lack)
    }
  }

  /// What a victim shares with files comes back with its end only: the next is not chosen before that, unless the end does not
  /// come, because it waits for something that the caller holds.
  private static func awaitEnd(of victim: Process, _ lack: Thread.Shortage) {
    for _ in 0..<50 where !hasRoom(lack) && victim !== Task.currentTask.process && victim.space != nil {
      try? Sleep.until(.after(5_000_000), interruptible: false)
    }
  }

  private static func hasRoom(_ lack: Thread.Shortage) -> Bool { lack == .page ? Frames.hasPages(16) : Frames.hasUnreserved(16) }

  /// Process 1 and who asked to be spared are not chosen.
  private static func choose() -> Process? {
    var best: Process?
    var most = 0
    for process in ProcessTable.shared.all() where process.id != 1 {
      guard let space = process.space, !space.isCondemned, let points = score(process) else { continue }
      if best == nil || points > most {
        best = process
        most = points
      }
    }
    return best
  }

  /// Pages held, changed by the wish in /proc/PID/oom_score_adj in thousandths of memory; nil when it must live.
  static func score(_ process: Process) -> Int? {
    let wish = Int(process.oomScoreAdjustment.load(ordering: .relaxed))
    guard wish > -1000, let space = process.space else { return nil }
    return space.table.residentPages + wish * (Int(Frames.totalCount) / 1000)
  }

  /// /proc/PID/oom_score: thousandths of memory, not below 0.
  public static func thousandths(_ process: Process) -> Int {
    guard let points = score(process) else { return 0 }
    return max(0, min(2000, points / max(1, Int(Frames.totalCount) / 1000)))
  }
}

extension AddressSpace {
  /// Takes all private memory from a process that is to die, without waiting for its end: nothing it may hold or wait for
  /// stands in the way. Its threads find nothing mapped any more.
  func condemn() {
    state.withLock { state in
      state.isCondemned = true
      for area in state.areas.areas where !area.shared { table.unmap(area.range) }
    }
  }

  var isCondemned: Bool { state.withLock { $0.isCondemned } }
}
