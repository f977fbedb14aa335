import Foundation
import ImageKit

/// Debian's stress-ng on four processors: what each stressor asks of a kernel, asked by four processes at once.
///
/// The list is of those that pass. stress-ng says itself when the kernel's answers are wrong; that the kernel lives, and
/// ends, is the rest of the test.
enum StressTests {
  static let name = "programs: stress-ng on four processors"

  private static let stressors = [
    // machine code and memory
    "opcode", "cpu", "mmap", "mremap", "madvise", "mprotect", "brk", "fault", "vm", "shm", "sysbadaddr", "sigsegv", "sigfpe",
    // processes, signals and time
    "clone", "fork", "vfork", "vforkmany", "exec", "zombie", "wait", "pthread", "ptrace", "kill", "sigabrt", "sigio", "sigq", "sigsuspend",
    "nanosleep", "timer", "timerfd", "schedpolicy", "switch", "yield", "rlimit", "session", "prctl", "get", "set",
    // communication
    "epoll", "poll", "pipe", "pipeherd", "fifo", "sockpair", "futex", "mq", "msg", "sem", "sem-sysv", "eventfd", "splice", "vm-splice",
    // files
    "fcntl", "flock", "lease", "lockf", "open", "dentry", "dir", "link", "rename", "seek", "readahead", "procfs", "utime", "aio", "null",
  ]

  /// A second for each, ten in the long form.
  static func run(_ results: Results, torture: Bool) async throws {
    guard results.selects(name), let folder = try await ProgramTests.unpack(["stress-ng", "dash"], results, name) else { return }
    var tree = RootTree()
    try tree.addTree(folder)
    let image = try Paths.scratch("stress.ext2")
    try Ext2Image(time: 1_700_000_000, label: "stress", size: 512 << 20).write(tree, to: image.path)
    let seconds = torture ? 10 : 1
    await results.check(name) {
      let command =
        "for s in \(stressors.joined(separator: " ")); do"
        + " o=$(stress-ng --$s 4 --timeout \(seconds)s --temp-path /tmp -q 2>&1) || echo \"$s: $? $o\"; done; echo end"
      let initramfs = try RootImage.makeInitramfs(command: ["/bin/sh", "-c", command])
      defer { try? FileManager.default.removeItem(at: initramfs) }
      let log = try Paths.scratch("stress.log")
      let console = try Paths.scratch("stress.console")
      var machine = VirtualMachine(loader: .kernel(Paths.kernel, initramfs: initramfs), log: log)
      machine.settings.processors = 4
      machine.settings.memory = 768
      machine.disks = [.init(file: image.path, interface: "virtio", snapshot: true)]
      machine.interactive = false
      machine.commandLine = ["quiet", "root=/dev/vda"]
      let outcome = try await Shell.run(machine.arguments, log: console, timeout: Double(stressors.count * (seconds + 4)))
      let ending = Ending.judge(outcome, log: log)
      let text = String(decoding: try Data(contentsOf: console), as: UTF8.self).replacingOccurrences(of: "\r", with: "")
      if text.trimmingCharacters(in: .whitespacesAndNewlines) != "end" || ending != .powerOff(status: 0) {
        let tail = text.split(separator: "\n").suffix(12).joined(separator: "\n  ")
        throw ToolError("stressors failed (\(ending))", why: tail, hint: "less \(log.path)")
      }
    }
  }
}
