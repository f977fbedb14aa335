import Machine
import Processes
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// Writes dirty pages out every few seconds, so that a power cut costs little of what nobody fsynced; and, as it wakes as
/// often as that wants, takes the samples of the load averages.
enum Flusher {
  /// As Linux's dirty_writeback_centisecs: five seconds.
  private static var interval: UInt64 { 5_000_000_000 }

  static func start() throws(Errno) {
    let thread = Thread(try ThreadMemory.allocate(user: false)) {
      var next = Clock.monotonic + interval
      while true {
        waitUntil(next)
        if Mounts.hasUnused.load(ordering: .acquiring) {
          Mounts.finishUnused()
          continue
        }
        if Clock.monotonic >= next {
          next = max(next + interval, Clock.monotonic)
          SystemLoad.sample(runnable: Scheduler.runnableCount - 1)  // without this thread
        }
        do throws(Errno) { try Mounts.sync() } catch {
          log("flusher: a file system could not be written: errno \(error.rawValue)")
          // Pages that cannot be written stay many: not again at once.
          try? Sleep.until(.sinceBoot(next), interruptible: false)
        }
      }
    }
    Scheduler.begin(thread)
  }

  /// Until then, or until there is much to write.
  private static func waitUntil(_ time: UInt64) {
    do throws(Errno) {
      try WriteBack.event.value.wait(interruptible: false, deadline: .sinceBoot(time), reason: "flusher") {
        WriteBack.isDue || Mounts.hasUnused.load(ordering: .acquiring) ? () : nil
      }
    } catch {}
  }
}
