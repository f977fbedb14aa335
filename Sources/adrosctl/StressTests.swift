import Foundation
import ImageKit

/// Debian's stress-ng on four processors: what each stressor asks of a kernel, asked by four processes at once.
///
/// stress-ng says itself when the kernel's answers are wrong. That the kernel lives and ends, and that processes, open files
/// and memory are back where they were, is the rest of the test.
enum StressTests {
  static let name = "programs: stress-ng on four processors"

  /// The long form takes every stressor of these.
  private static let classes = ["cpu", "memory", "vm", "scheduler", "pipe", "interrupt", "filesystem"]
  /// But for these, each with what of Linux it wants.
  private static let excluded = [
    "binderfs": "Binder", "netlink-proc": "netlink", "netlink-task": "netlink", "numa": "NUMA",
    "physpage": "/proc/PID/pagemap", "smi": "/dev/cpu/*/msr", "swap": "swap", "uprobe": "uprobes", "watchdog": "/dev/watchdog",
    "bind-mount": "mount namespaces",
    "mlockmany": "run only on demand by stress-ng itself", "oom-pipe": "run only on demand by stress-ng itself",
  ]
  /// The short form.
  private static let stressors = [
    // machine code and memory
    "opcode", "cpu", "mmap", "mremap", "madvise", "mprotect", "brk", "fault", "vm", "shm", "sysbadaddr", "sigsegv", "sigfpe",
    // processes, signals and time
    "clone", "fork", "vfork", "vforkmany", "exec", "zombie", "wait", "pthread", "ptrace", "kill", "sigabrt", "sigio", "sigq", "sigsuspend",
    "nanosleep", "timer", "timerfd", "schedpolicy", "switch", "yield", "rlimit", "session", "prctl", "get", "set",
    // communication
    "epoll", "poll", "pipe", "pipeherd", "fifo", "sockpair", "futex", "mq", "msg", "sem", "sem-sysv", "eventfd", "splice", "vm-splice",
    // files
    "inotify", "xattr", "fcntl", "flock", "lease", "lockf", "open", "dentry", "dir", "link", "rename", "seek", "readahead", "procfs",
    "utime", "aio", "null",
  ]

  /// Frames and bytes of the heap that a run may keep. Frames of the heap do not count, which cannot give back those that are in
  /// part in use, nor tables of kernel stacks, which stay for the next as many threads, nor the pages of the shell that counts.
  private static let slack = ["processes": 0, "open_files": 0, "frames": 32, "heap_block_frames": 64, "heap_bytes": 256 << 10]

  /// A second for each, three in the long form.
  static func run(_ results: Results, torture: Bool) async throws {
    guard results.selects(name), let folder = try await ProgramTests.unpack(["stress-ng", "dash"], results, name) else { return }
    var tree = RootTree()
    try tree.addTree(folder)
    tree.add(RootEntry(path: "/etc/mtab", kind: .link("/proc/mounts"), mode: 0o777))
    let image = try Paths.scratch("stress.ext2")
    try Ext2Image(time: 1_700_000_000, label: "stress", size: 512 << 20).write(tree, to: image.path)
    await results.check(name) {
      let initramfs = try RootImage.makeInitramfs(command: ["/bin/sh", "-c", command(torture)])
      defer { try? FileManager.default.removeItem(at: initramfs) }
      let log = try Paths.scratch("stress.log")
      let console = try Paths.scratch("stress.console")
      var machine = VirtualMachine(loader: .kernel(Paths.kernel, initramfs: initramfs), log: log)
      machine.settings.processors = 4
      machine.settings.memory = 768
      // The stressor of random instructions would find the one that ends QEMU 7.2: PINSRW with VEX.256 and no prefix, C5 FC C4.
      machine.settings.cpu = "max,-avx"
      machine.disks = [.init(file: image.path, interface: "virtio", snapshot: true)]
      machine.interactive = false
      machine.commandLine = ["quiet", "root=/dev/vda"]
      let outcome = try await Shell.run(machine.arguments, log: console, timeout: torture ? 3600 : 600)
      let ending = Ending.judge(outcome, log: log)
      let text = String(decoding: try Data(contentsOf: console), as: UTF8.self).replacingOccurrences(of: "\r", with: "")
      if ending != .powerOff(status: 0) { throw ToolError("it ended with \(ending)", why: tail(text), hint: "less \(log.path)") }
      try judge(text, log)
    }
  }

  /// Names, and what was wrong; the kernel's state before and after, between which nothing must be lost. Tables of the kernel stay
  /// as large as they once had to be: those that grow with the number of processes, threads, timers and locked pages are grown
  /// before.
  ///
  /// stress-ng's shm leaves objects when its time is up, 2 MB in one run of ten (6 of 60, a second each, on four processors), as
  /// the names in /dev/shm show. They are emptied, which needs no program.
  private static func command(_ torture: Bool) -> String {
    let list =
      torture
      ? "$(for c in \(classes.joined(separator: " ")); do stress-ng --class $c? 2>&1; done)" : stressors.joined(separator: " ")
    return """
      state() { echo "$1"; echo s > /proc/sysrq-trigger; echo 3 > /proc/sys/vm/drop_caches; while read -r line; do echo "$line"; done < /proc/kernel_state; read -r _ pages _ < /proc/$$/statm; echo "own_pages: $pages"; }
      cd /tmp; done=' '
      for s in pipe forkheavy vforkmany resources mlock timerfd; do stress-ng --$s 4 --timeout 2s --temp-path /tmp -q; done; state before
      for s in \(list); do
        case $s in class|*\\'|stressors:|\(excluded.keys.sorted().joined(separator: "|"))) continue;; esac
        case $done in *" $s "*) continue;; esac
        done="$done$s "; echo "$s"
        o=$(stress-ng --$s 4 --timeout \(torture ? 3 : 1)s --temp-path /tmp --iomix-bytes 64M -q 2>&1) || echo "failed: $s: $? $o"
      done
      for f in /dev/shm/*; do [ -f "$f" ] && : > "$f"; done
      state after; set -- $done; echo "ran: $# stressors"
      """
  }

  private static func judge(_ text: String, _ log: URL) throws {
    guard let match = text.firstMatch(of: /(?s)before\n(.*?)(failed:.*)?after\n(.*)ran: (\d+) stressors/) else {
      throw ToolError("it did not come to its end", why: tail(text), hint: "less \(log.path)")
    }
    if let failed = match.output.2 { throw ToolError("stressors failed", why: String(failed), hint: "less \(log.path)") }
    let (before, after) = (state(match.output.1), state(match.output.3))
    for (key, slack) in slack {
      let (old, new) = (before[key] ?? 0, after[key] ?? 0)
      let lost = key == "frames" ? old - new : new - old
      if old == 0 || new == 0 || lost > slack {
        throw ToolError("\(key) was \(old) before and is \(new) after", why: String(match.output.3), hint: "less \(log.path)")
      }
    }
    let numbers = slack.keys.sorted().map { "\($0) \(before[$0] ?? 0) before, \(after[$0] ?? 0) after" }
    Progress.say("\(match.output.4) stressors; " + numbers.joined(separator: "; "))
  }

  private static func state(_ text: Substring) -> [String: Int] {
    var state: [String: Int] = [:]
    for match in text.matches(of: /(\w+):\s+(\d+)/) { state[String(match.output.1)] = Int(match.output.2) }
    state["frames"] = ["free_frames", "kernel_tables", "heap_frames", "heap_block_frames", "own_pages"].reduce(0) { $0 + (state[$1] ?? 0) }
    return state
  }

  private static func tail(_ text: String) -> String { text.split(separator: "\n").suffix(12).joined(separator: "\n  ") }
}
