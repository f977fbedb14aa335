import EventFiles
import Machine
import Primitives
import Processes
import Signals
import Sync
import SystemABI
import Threads
import VFS

/// Waiting for files: poll, select and epoll. SPEC: poll(2), select(2), epoll_wait(2).
extension Call {
  /// Waits until `check` counts something ready. It is asked without registering first: most calls find something at once.
  private func pollLoop(_ timeout: UInt64?, _ check: (PollTable?) -> Int) throws(Errno) -> Int {
    var count = check(nil)
    if count > 0 || timeout == 0 { return count }
    let deadline = timeout.map { Deadline.after($0) }
    let table = ThreadPollTable()
    defer { table.clear() }
    count = check(table)
    while count == 0 {
      do throws(Errno) {
        let nothing = WaitQueue()
        let _: Bool = try nothing.wait(deadline: deadline, reason: "poll") { table.takeSignal() ? true : nil }
      } catch {
        if error == .timedOut { return 0 }
        throw error
      }
      count = check(nil)
    }
    return count
  }

  /// `struct pollfd` is two words here: the descriptor, and events below revents.
  func poll(timeout: UInt64?) throws(Errno) -> UInt32 {
    guard b <= 65536 else { throw .invalidArgument }  // a `Int` is 32 bits wide: compare before converting
    let count = Int(b)
    guard count <= process.limits.withLock({ $0[7].soft }) else { throw .invalidArgument }
    var records = [UInt32](repeating: 0, count: count * 2)
    try UserMemory.read(a, words: &records, 0..<count * 2)
    let files = openFiles(&records, count)
    let ready = try pollLoop(timeout) { table in
      var out = records.mutableSpan
      let files = files.span
      var next = 0
      var ready = 0
      for index in 0..<count where out[index * 2] < 0x8000_0000 {
        let request = out[index * 2 + 1]
        if request >> 16 != PollEvents.invalid.rawValue {
          let wanted = request & 0xFFFF
          let events = files[next].poll(table).rawValue & (wanted | 0x18)
          next &+= 1
          out[index * 2 + 1] = wanted | events << 16
          if events == 0 { continue }
        }
        ready &+= 1
      }
      return ready
    }
    try UserMemory.write(words: records, 0..<count * 2, to: a)
    return UInt32(result: ready)
  }

  /// The open files of all records in one look at the table. Negative numbers have none; those not open get their answer at once.
  private func openFiles(_ records: inout [UInt32], _ count: Int) -> [FileDescription] {
    process.descriptors.withLock { table in
      [FileDescription](capacity: count) { files in
        var records = records.mutableSpan
        for index in 0..<count {
          let number = Int32(bitPattern: records[index * 2])
          var request = records[index * 2 + 1] & 0xFFFF
          if let description = table[number] {
            files.append(description)
          } else if number >= 0 {
            request |= PollEvents.invalid.rawValue << 16
          }
          records[index * 2 + 1] = request
        }
      }
    }
  }

  func ppoll(wide: Bool) throws(Errno) -> UInt32 {
    let timeout = try timespec(c, wide: wide)
    let start = Clock.monotonic
    let result = try masked(d, e) { () throws(Errno) in try poll(timeout: timeout) }
    if let timeout, c != 0 { try? putTimespec(timeout - min(timeout, Clock.monotonic - start), to: c, wide: wide) }
    return result
  }

  /// pselect6's last argument points at the mask's address and size.
  func pselect(wide: Bool) throws(Errno) -> UInt32 {
    let timeout = try timespec(e, wide: wide)
    let mask = f == 0 ? 0 : try UserMemory.read32(f)
    let size = f == 0 ? 0 : try UserMemory.read32(f &+ 4)
    let start = Clock.monotonic
    let result = try masked(mask, size) { () throws(Errno) in try select(a, b, c, d, timeout: timeout) }
    if let timeout, e != 0 { try? putTimespec(timeout - min(timeout, Clock.monotonic - start), to: e, wide: wide) }
    return result
  }

  /// With a temporary signal mask: ppoll, pselect6, epoll_pwait.
  func masked(_ mask: UInt32, _ size: UInt32, _ body: () throws(Errno) -> UInt32) throws(Errno) -> UInt32 {
    guard mask != 0 else { return try body() }
    guard size == 8 else { throw .invalidArgument }
    let new = try UserMemory.read64(mask)
    let old = task.blocked
    task.setBlocked(.init(bits: new))
    do throws(Errno) {
      let result = try body()
      task.setBlocked(old)
      return result
    } catch {
      // The handler must run with the temporary mask's complement blocked: restored on the way out.
      task.savedMask = old
      task.needsAttention = true
      throw error
    }
  }

  /// select with `struct timeval`, which it updates with what is left.
  func select() throws(Errno) -> UInt32 {
    let timeout = e == 0 ? nil : try timeval(e)
    let start = Clock.monotonic
    let result = try select(a, b, c, d, timeout: timeout)
    if let timeout { try? putTimeval(timeout - min(timeout, Clock.monotonic - start), to: e) }
    return result
  }

  /// The old call: a pointer to its five arguments.
  func oldSelect() throws(Errno) -> UInt32 {
    var words: [UInt32] = []
    for index in 0..<UInt32(5) { words.append(try UserMemory.read32(a &+ index * 4)) }
    return try select(words[0], words[1], words[2], words[3], timeout: words[4] == 0 ? nil : try timeval(words[4]))
  }

  func select(_ count: UInt32, _ read: UInt32, _ write: UInt32, _ except: UInt32, timeout: UInt64?) throws(Errno) -> UInt32 {
    guard int(count) >= 0 else { throw .invalidArgument }
    let count = Int(min(count, 65536))
    let words = (count + 31) / 32
    // The three sets one behind the other, as asked and as answered.
    var sets = [UInt32](repeating: 0, count: words * 3)
    let addresses: InlineArray<3, UInt32> = [read, write, except]
    for kind in 0..<3 where addresses[kind] != 0 {
      try UserMemory.read(addresses[kind], words: &sets, kind * words..<(kind + 1) * words)
    }
    let files = try selected(sets, words, count)
    var results = sets
    // What makes a file count as readable, writable and exceptional. SPEC: select(2).
    let masks: InlineArray<3, UInt32> = [1 | 8 | 16 | 64, 4 | 8 | 256, 2]
    let ready = try pollLoop(timeout) { table in
      let asked = sets.span
      let files = files.span
      var answers = results.mutableSpan
      for index in answers.indices { answers[index] = 0 }
      var ready = 0
      var index = 0
      forEachSelected(sets, words, count) { number in
        let events = files[index].poll(table).rawValue
        index &+= 1
        let bit = UInt32(1) << UInt32(number & 31)
        for kind in 0..<3 where events & masks[kind] != 0 {
          let word = kind * words + number / 32
          if asked[word] & bit != 0 {
            answers[word] |= bit
            ready += 1
          }
        }
      }
      return ready
    }
    for kind in 0..<3 where addresses[kind] != 0 {
      try UserMemory.write(words: results, kind * words..<(kind + 1) * words, to: addresses[kind])
    }
    return UInt32(result: ready)
  }

  /// Calls `body` with every number that some set names, in order.
  private func forEachSelected<Failure: Error>(
    _ sets: [UInt32], _ words: Int, _ count: Int, _ body: (Int) throws(Failure) -> Void
  ) throws(Failure) {
    for word in 0..<words {
      var bits = sets[word] | sets[words + word] | sets[2 * words + word]
      while bits != 0 {
        let number = word * 32 + bits.trailingZeroBitCount
        bits &= bits - 1
        if number >= count { break }
        try body(number)
      }
    }
  }

  /// The files that some set names. Throws `badFileDescriptor` for a number that is not open.
  private func selected(_ sets: [UInt32], _ words: Int, _ count: Int) throws(Errno) -> [FileDescription] {
    var files: [FileDescription] = []
    files.reserveCapacity(sets.reduce(0) { $0 + $1.nonzeroBitCount })
    try process.descriptors.withLock { table throws(Errno) in
      try forEachSelected(sets, words, count) { number throws(Errno) in
        guard let description = table[Int32(number)] else { throw .badFileDescriptor }
        files.append(description)
      }
    }
    return files
  }

  // MARK: epoll

  func epollCreate(flags: UInt32) throws(Errno) -> UInt32 {
    if flags & ~OpenFlags.closeOnExec != 0 { throw .invalidArgument }
    return try install(EventPoll(), flags: OpenFlags.readWrite, closeOnExec: flags != 0)
  }

  private func eventPoll(_ number: UInt32) throws(Errno) -> EventPoll {
    guard let set = try description(number).file as? EventPoll else { throw .invalidArgument }
    return set
  }

  /// epoll_ctl(2). `struct epoll_event` has 12 bytes on i386.
  func epollControl() throws(Errno) -> UInt32 {
    let set = try description(a)
    let target = try description(c)
    guard let poll = set.file as? EventPoll, set !== target else { throw .invalidArgument }
    if b == 2 {
      try poll.remove(int(c), target)
      return 0
    }
    guard b == 1 || b == 3 else { throw .invalidArgument }
    let events = try UserMemory.read32(d)
    let data = try UserMemory.read64(d &+ 4)
    if b == 1 {
      try poll.add(int(c), target, events: events, data: data)
    } else {
      try poll.modify(int(c), target, events: events, data: data)
    }
    return 0
  }

  /// `timeout` in nanoseconds; nil waits for ever.
  func epollWait(timeout: UInt64?) throws(Errno) -> UInt32 {
    guard int(c) > 0, c <= 0x7FFF_FFFF / 12 else { throw .invalidArgument }
    guard UserMemory.isUser(b, Int(c) * 12) else { throw .badAddress }
    let set = try eventPoll(a)
    var at = b
    let deadline = timeout == 0 ? nil : timeout.map { Deadline.after($0) }
    let count = try set.wait(limit: Int(c), deadline: deadline, immediate: timeout == 0) { events, data throws(Errno) in
      let record: InlineArray<3, UInt32> = [events, UInt32(truncatingIfNeeded: data), UInt32(truncatingIfNeeded: data >> 32)]
      try UserMemory.write(words: record, count: 3, to: at)
      at &+= 12
    }
    return UInt32(result: count)
  }

  /// Milliseconds as epoll_wait and poll have them: negative waits for ever.
  func milliseconds(_ value: UInt32) -> UInt64? { int(value) < 0 ? nil : UInt64(value) * 1_000_000 }

  func epollPwait2() throws(Errno) -> UInt32 {
    let timeout = try timespec(d, wide: true)
    return try masked(e, f) { () throws(Errno) in try epollWait(timeout: timeout) }
  }
}
