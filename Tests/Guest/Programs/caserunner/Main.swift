import SystemABI
import UserKit

/// Runs every case of /tests/list in a process group of its own and reports in KTAP on the second serial port.
///
/// A line of the list is `LIMIT sh FAMILY/NAME` or `LIMIT c FAMILY NAME`; LIMIT is in seconds of guest time. After a case the
/// processes, open files and frames are where they were before, or it fails as a leak.
@main
struct Main {
  /// What a case may leave: frames, and bytes of the kernel's heap, whose own frames do not count: those that are in part in use
  /// it cannot give back. Frames of the heap's large blocks have a measure of their own: tables stay as large as they once had
  /// to be.
  static let frameSlack = 16
  static let heapSlack = 48 << 10
  static let blockSlack = 64

  static func main() {
    guard let report = try? FileDescriptor.open("/dev/ttyS1", flags: OpenFlags.writeOnly | OpenFlags.closeOnExec),
      let list = try? FileDescriptor.open("/tests/list").readAll()
    else {
      complain("no /dev/ttyS1 or /tests/list")
      Program.exit(1)
    }
    let lines = list.split(separator: 10).map { Array($0) }
    say(report, "KTAP version 1\n1.." + decimal(lines.count))
    for (index, line) in lines.enumerated() { run(line, index + 1, report) }
    Program.exit(0)
  }

  static func say(_ report: FileDescriptor, _ text: Bytes) { try? report.write(text + "\n") }

  static func run(_ line: Bytes, _ order: Int, _ report: FileDescriptor) {
    let words = line.split(separator: 32).map { Array($0) }
    guard words.count >= 3, let limit = number(words[0]) else { return say(report, "# bad line " + line) }
    let action = Array(line[(words[0].count + 1)...])
    say(report, "# running " + action)
    let before = State.settled()
    let failure = execute(words, limit)
    let output = takeOutput()
    let after = State.settled(after: before)
    let problem = failure ?? after.leak(since: before)
    guard let problem else { return say(report, "ok " + decimal(order) + " - " + action) }
    for text in output.split(separator: 10).suffix(40) { say(report, "# " + Array(text)) }
    say(report, "# " + problem)
    say(report, "not ok " + decimal(order) + " - " + action)
  }

  /// The end of what the case wrote, which goes: its pages would look like a leak.
  static func takeOutput() -> Bytes {
    guard let file = try? FileDescriptor.open("/tmp/output") else { return [] }
    defer {
      try? file.close()
      try? FileSystem.unlink("/tmp/output")
    }
    guard (try? file.seek(fromEnd: 16384)) != nil else { return [] }
    return (try? file.readAll()) ?? []
  }

  /// What went wrong, or nil.
  static func execute(_ words: [Bytes], _ limit: Int) -> Bytes? {
    do throws(Errno) {
      try FileSystem.makeDirectory("/tmp/case")
      let child = try Process.fork()
      if child == 0 { becomeCase(words) }
      try? Process.setGroup(child, child)
      let status = try finish(child, limit)
      try? Process.kill(-child, 9)
      // What the case left behind is ours now only if it was a direct child; init reaps the rest.
      try cleanUp()
      guard let status else { return "took more than " + decimal(limit) + " seconds" }
      switch status {
      case .exited(0): return nil
      case .exited(let code): return "exit status " + decimal(Int(code))
      case .signaled(let signal): return "killed by signal " + decimal(Int(signal))
      default: return "ended strangely"
      }
    } catch { return "the runner failed: " + error.text }
  }

  /// The status, or nil when the time was up and the case was killed.
  static func finish(_ child: Int32, _ limit: Int) throws(Errno) -> WaitStatus? {
    let start = State.uptime
    while true {
      if let (_, status) = try Process.wait(child, noHang: true) { return status }
      if State.uptime - start > limit * 100 {
        // What hangs, in the kernel's log.
        if let file = try? FileDescriptor.open("/proc/sysrq-trigger", flags: OpenFlags.writeOnly) {
          try? file.write("t\n")
          try? file.close()
        }
        try Process.kill(-child, 9)
        _ = try Process.wait(child)
        return nil
      }
      try Process.sleep(milliseconds: 2)
    }
  }

  static func becomeCase(_ words: [Bytes]) -> Never {
    do throws(Errno) {
      try Process.setGroup(0, 0)
      let output = try FileDescriptor.open(
        "/tmp/output", flags: OpenFlags.writeOnly | OpenFlags.create | OpenFlags.truncate, mode: 0o644)
      let input = try FileDescriptor.open("/dev/null")
      try input.duplicate(as: 0)
      try output.duplicate(as: 1)
      try output.duplicate(as: 2)
      try input.close()
      try output.close()
      try FileSystem.changeDirectory("/tmp/case")
      var environment: [Bytes] = ["PATH=/sbin:/bin", "HOME=/root", "TERM=linux"]
      if (try? FileSystem.stat("/tests/torture")) != nil { environment.append("TORTURE=1") }
      if words[1] == "c" {
        try Process.execute("/tests/c/" + words[2], [words[2]] + words.dropFirst(3), environment: environment)
      }
      let script: Bytes = ". /tests/lib.sh; . /tests/" + words[2] + ".sh"
      try Process.execute("/bin/sh", ["sh", "-c", script], environment: environment)
    } catch { complain("cannot start", error) }
    Program.exit(126)
  }

  /// In a child: what a walk of a deep tree leaves in a program's heap would look like a leak.
  static func cleanUp() throws(Errno) {
    let child = try Process.fork()
    if child == 0 {
      do throws(Errno) {
        try removeTree("/tmp/case")
        if (try? FileSystem.stat("/var/case")) != nil { try removeTree("/var/case") }
      } catch { complain("cleaning up", error) }
      Program.exit(0)
    }
    _ = try Process.wait(child)
  }

  static func removeTree(_ path: Bytes) throws(Errno) {
    for name in try FileSystem.list(path) {
      let child = path + "/" + name
      // A case that failed may have left something mounted.
      while (try? FileSystem.unmount(child, detach: true)) != nil {}
      if try FileSystem.stat(child, follow: false).isDirectory { try removeTree(child) } else { try FileSystem.unlink(child) }
    }
    try FileSystem.removeDirectory(path)
  }
}

/// What must be the same before and after a case.
struct State {
  var frames = 0
  var processes = 0
  var files = 0
  var heap = 0
  var blocks = 0
  var cached = 0

  static func lines(_ path: Bytes) -> [Bytes] {
    guard let file = try? FileDescriptor.open(path) else { return [] }
    defer { try? file.close() }
    return ((try? file.readAll()) ?? []).split(separator: 10).map { Array($0) }
  }

  /// Hundredths of a second since boot.
  static var uptime: Int {
    guard let text = lines("/proc/uptime").first?.prefix(while: { $0 != 32 }) else { return 0 }
    return number(text.filter { $0 != 46 }) ?? 0
  }

  static func now() -> State {
    var state = State()
    for line in lines("/proc/kernel_state") {
      guard let colon = line.firstIndex(of: 58), let value = number(Array(line[(colon + 2)...])) else { continue }
      let name = Array(line[..<colon])
      // Tables for kernel stacks stay for the next as many threads.
      if name == "free_frames" || name == "kernel_tables" || name == "heap_frames" || name == "heap_block_frames" { state.frames += value }
      if name == "processes" { state.processes = value }
      if name == "open_files" { state.files = value }
      if name == "heap_bytes" { state.heap = value }
      if name == "heap_block_frames" { state.blocks = value }
      if name == "cached_pages" { state.cached = value }
    }
    // Our own pages: we have read what the case wrote.
    if let sizes = lines("/proc/self/statm").first?.split(separator: 32), sizes.count > 1 { state.frames += number(Array(sizes[1])) ?? 0 }
    return state
  }

  /// The state without caches. Orphans that init reaps and files that dying processes close get a moment.
  /// With `before`: what a killed case left takes its time to end and to be reaped.
  static func settled(after before: State? = nil) -> State {
    Process.sync()  // dirty pages are no leak
    var last = now()
    for _ in 0..<1000 {
      try? Process.sleep(milliseconds: 2)
      let next = now()
      let isMore = before.map { next.processes > $0.processes || next.files > $0.files } ?? false
      if !isMore, next.processes == last.processes, next.files == last.files { break }
      last = next
    }
    if let file = try? FileDescriptor.open("/proc/sys/vm/drop_caches", flags: OpenFlags.writeOnly) {
      try? file.write("3\n")
      try? file.close()
    }
    return now()
  }

  func leak(since before: State) -> Bytes? {
    if processes > before.processes {
      return "leaked processes: " + decimal(before.processes) + " before, " + decimal(processes) + " after"
    }
    if files > before.files { return "leaked open files: " + decimal(before.files) + " before, " + decimal(files) + " after" }
    if frames + Main.frameSlack < before.frames || heap > before.heap + Main.heapSlack || blocks > before.blocks + Main.blockSlack {
      var text: Bytes = "leaked memory:"
      let numbers: [(Bytes, Int)] = [
        (" frames before ", before.frames), (", after ", frames), ("; heap bytes ", before.heap), (" to ", heap),
        ("; frames in large blocks ", before.blocks), (" to ", blocks),
        ("; cached pages ", before.cached), (" to ", cached),
      ]
      for (name, value) in numbers { text += name + decimal(value) }
      return text
    }
    return nil
  }
}
