import Machine
import Processes
import SystemABI
import Threads
import VFS

/// Writes dirty pages out every few seconds, so that a power cut costs little of what nobody fsynced; and, as it wakes as
/// often as that wants, takes the samples of the load averages.
enum Flusher {
  /// As Linux's dirty_writeback_centisecs: five seconds.
  private static var interval: UInt64 { 5_000_000_000 }

  static func start() throws(Errno) {
    let thread = try Thread(user: false) {
      var next = Clock.monotonic
      while true {
        do throws(Errno) {
          next = max(next + interval, Clock.monotonic)
          try Sleep.until(next, interruptible: false)
          SystemLoad.sample(runnable: Scheduler.runnableCount - 1)  // without this thread
          try Mounts.sync()
        } catch { log("flusher: a file system could not be written: errno \(error.rawValue)") }
      }
    }
    Scheduler.begin(thread)
  }
}
