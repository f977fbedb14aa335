import Machine
import SystemABI
import Threads
import VFS

/// Writes dirty pages out every few seconds, so that a power cut costs little of what nobody fsynced.
enum Flusher {
  /// As Linux's dirty_writeback_centisecs: five seconds.
  private static var interval: UInt64 { 5_000_000_000 }

  static func start() throws(Errno) {
    let thread = try Thread(user: false) {
      while true {
        do throws(Errno) {
          try Sleep.until(Clock.monotonic + interval, interruptible: false)
          try Mounts.sync()
        } catch { log("flusher: a file system could not be written: errno \(error.rawValue)") }
      }
    }
    Scheduler.begin(thread)
  }
}
