import ShellCore
import SystemABI
import UserKit

/// A pipeline in the background, or a stopped one.
struct Job {
  var number: Int
  var group: Int32
  /// Children that have not ended.
  var members: [Int32]
  var last: Int32
  var status: Int32 = 0
  var isStopped = false
}

struct JobTable {
  var jobs: [Job] = []
  mutating func add(group: Int32, members: [Int32]) -> Job {
    let number = (jobs.map { $0.number }.max() ?? 0) + 1
    let job = Job(number: number, group: group, members: members, last: members.last ?? 0)
    jobs.append(job)
    return job
  }
}

/// Children: starting them, waiting for them, moving them to and from the foreground.
extension Shell {
  /// In a new child: signals as programs expect them, its own group under job control.
  private func becomeChild(group: Int32, foreground: Bool) {
    if isInteractive {
      let own = group == 0 ? Process.id : group
      try? Process.setGroup(0, own)
      if foreground { try? FileDescriptor.standardInput.setForeground(group: own) }
      for signal in [Int32(2), 3, 20, 21, 22] { Process.restoreDefault(signal) }
    }
    isInteractive = false
    jobs = JobTable()
  }

  /// Starts a child that runs `body` and exits with the shell's status.
  private func spawn(group: Int32, foreground: Bool, _ body: () -> Void) -> Int32? {
    do throws(Errno) {
      let child = try Process.fork()
      if child == 0 {
        becomeChild(group: group, foreground: foreground)
        body()
        Program.exit(status)
      }
      if isInteractive { try? Process.setGroup(child, group == 0 ? child : group) }
      return child
    } catch {
      complain("fork", error)
      status = 1
      return nil
    }
  }

  /// Runs `body` in a child and waits for it.
  func runChild(_ body: () -> Void) {
    guard let child = spawn(group: 0, foreground: true, body) else { return }
    waitForeground(group: child, members: [child])
  }

  func runPipeline(_ commands: [Node]) -> Flow {
    guard let (group, members) = startPipeline(commands, foreground: true) else { return .normal }
    waitForeground(group: group, members: members)
    return .normal
  }

  private func startPipeline(_ commands: [Node], foreground: Bool) -> (Int32, [Int32])? {
    var group: Int32 = 0
    var members: [Int32] = []
    var input: FileDescriptor?
    for (index, command) in commands.enumerated() {
      var pipe: (FileDescriptor, FileDescriptor)?
      if index < commands.count - 1 {
        pipe = try? FileDescriptor.pipe()
        guard pipe != nil else { break }
      }
      let child = spawn(group: group, foreground: foreground) {
        if let input {
          try? input.duplicate(as: 0)
          try? input.close()
        }
        if let pipe {
          try? pipe.0.close()
          try? pipe.1.duplicate(as: 1)
          try? pipe.1.close()
        }
        self.runLast(command)
      }
      try? input?.close()
      try? pipe?.1.close()
      input = pipe?.0
      guard let child else { break }
      if group == 0 { group = child }
      members.append(child)
    }
    try? input?.close()
    return members.isEmpty ? nil : (group, members)
  }

  func startBackground(_ node: Node) {
    let child = spawn(group: 0, foreground: false) {
      if !self.isInteractive, let null = try? FileDescriptor.open("/dev/null") { try? null.duplicate(as: 0) }
      self.runLast(node)
    }
    guard let child else { return }
    lastBackground = child
    let job = jobs.add(group: child, members: [child])
    if isInteractive { putLine("[" + decimal(job.number) + "] " + decimal(Int(child))) }
    Output.standard.flush()
    status = 0
  }

  private static func code(_ result: WaitStatus) -> Int32 {
    switch result {
    case .exited(let code): code
    case .signaled(let signal): 128 + signal
    case .stopped(let signal): 128 + signal
    case .continued: 0
    }
  }

  /// Waits until all members ended or one stopped; takes the terminal back.
  func waitForeground(group: Int32, members: [Int32], job existing: Job? = nil) {
    var left = members
    let last = existing?.last ?? members.last ?? 0
    while !left.isEmpty {
      let found: (Int32, WaitStatus)?
      do throws(Errno) { found = try Process.wait(-1, untraced: isInteractive) } catch {
        if error == .interrupted { continue }
        break
      }
      guard let (child, result) = found else { break }
      guard left.contains(child) else {
        note(child, result)
        continue
      }
      if case .stopped = result {
        status = Self.code(result)
        var job = existing ?? jobs.add(group: group, members: left)
        job.isStopped = true
        jobs.jobs.removeAll { $0.number == job.number }
        jobs.jobs.append(job)
        putLine("\n[" + decimal(job.number) + "] Stopped")
        break
      }
      if case .continued = result { continue }
      left.removeAll { $0 == child }
      if child == last {
        status = Self.code(result)
        if isInteractive, case .signaled(let signal) = result, signal != 2, signal != 13 {
          putLine("killed by signal " + decimal(Int(signal)))
        }
      }
      if isInteractive, case .signaled(2) = result { put("\n") }
    }
    if isInteractive { try? FileDescriptor.standardInput.setForeground(group: Process.group) }
    Output.standard.flush()
  }

  /// Remembers what became of a background child.
  func note(_ child: Int32, _ result: WaitStatus) {
    guard let index = jobs.jobs.firstIndex(where: { $0.members.contains(child) }) else { return }
    switch result {
    case .stopped: jobs.jobs[index].isStopped = true
    case .continued: jobs.jobs[index].isStopped = false
    default:
      if child == jobs.jobs[index].last { jobs.jobs[index].status = Self.code(result) }
      jobs.jobs[index].members.removeAll { $0 == child }
    }
  }

  /// Collects ended background children without waiting; interactive shells say so.
  func reapBackground() {
    while let (child, result) = try? Process.wait(-1, noHang: true, untraced: true) { note(child, result) }
    for job in jobs.jobs where job.members.isEmpty {
      if isInteractive { putLine("[" + decimal(job.number) + "] Done " + decimal(Int(job.status))) }
    }
    if isInteractive { jobs.jobs.removeAll { $0.members.isEmpty } }
  }

  /// Waits for one background child, or for all.
  func waitBackground(_ id: Int32?) {
    status = 0
    while let job = jobs.jobs.first(where: { job in
      !job.members.isEmpty && !job.isStopped && (id == nil || job.group == id || job.last == id)
    }) {
      _ = job
      do throws(Errno) {
        guard let (child, result) = try Process.wait(-1) else { break }
        note(child, result)
      } catch {
        if error != .interrupted { break }
      }
    }
    if let id {
      status = jobs.jobs.first { $0.group == id || $0.last == id }?.status ?? 127
      jobs.jobs.removeAll { ($0.group == id || $0.last == id) && $0.members.isEmpty }
    } else {
      jobs.jobs.removeAll { $0.members.isEmpty }
    }
  }

  /// Moves a job to the foreground or lets it go on in the background.
  func resume(_ number: Int?, foreground: Bool) {
    guard let index = number == nil ? jobs.jobs.indices.last : jobs.jobs.firstIndex(where: { $0.number == number }) else {
      complain("no such job")
      status = 1
      return
    }
    var job = jobs.jobs[index]
    job.isStopped = false
    jobs.jobs[index] = job
    if foreground {
      jobs.jobs.remove(at: index)
      try? FileDescriptor.standardInput.setForeground(group: job.group)
    }
    try? Process.kill(0 &- job.group, 18)
    if foreground { waitForeground(group: job.group, members: job.members, job: job) } else { status = 0 }
  }
}
