import CMachine
import Machine
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

extension Process {
  /// Starts process 1: its thread executes the first candidate that works, with /dev/console as 0, 1 and 2.
  @export(interface) public func launch(_ task: Task, candidates: [[UInt8]], arguments: [[UInt8]], environment: [[UInt8]]) {
    let blank = trap_frame(
      edi: 0, esi: 0, ebp: 0, esp_ignored: 0, ebx: 0, edx: 0, ecx: 0, eax: 0, ds: UInt32(USER_DS), es: UInt32(USER_DS), fs: 0,
      vector: 0x80, error: .max, eip: 0, cs: UInt32(USER_CS), eflags: 0x202, esp: 0, ss: UInt32(USER_DS))
    task.prepareUser(blank)
    task.launch = {
      self.openConsole()
      let base = ["HOME=/", "TERM=linux", "PATH=/sbin:/usr/sbin:/bin:/usr/bin"].map { Array($0.utf8) }
      for candidate in candidates {
        var walk = PathWalk(self.pathContext)
        do throws(Errno) {
          let path = try walk.resolve(candidate)
          var execution = Execution(
            task, path: path, name: candidate, arguments: [candidate] + arguments, environment: base + environment)
          try execution.run(task.userFrame)
          return
        } catch {
          if error != .noSuchFileOrDirectory { log("init: a candidate cannot be executed: errno \(error.rawValue)") }
        }
      }
      Panic.stop("no init found: give the kernel init= or an initramfs with /init")
    }
    task.needsAttention = true
    Scheduler.begin(task)
  }

  private func openConsole() {
    var walk = PathWalk(pathContext)
    do throws(Errno) {
      let path = try walk.resolve(Array("/dev/console".utf8))
      let description = try FileDescription.open(path, flags: OpenFlags.readWrite | OpenFlags.noControllingTerminal)
      for _ in 0..<3 { _ = try install(description, closeOnExec: false) }
    } catch { log("init: no /dev/console: errno \(error.rawValue)") }
  }
}
