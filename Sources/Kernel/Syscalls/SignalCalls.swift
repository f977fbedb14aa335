import Machine
import Processes
import Signals
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// Signals. SPEC: signal(7), sigaction(2), kill(2).
extension Call {
  private func signal(_ number: UInt32) throws(Errno) -> Signal {
    guard number >= 1, number <= 64 else { throw .invalidArgument }
    return Signal(UInt8(number))
  }

  private func exchange(_ number: UInt32, _ new: SignalAction?) throws(Errno) -> SignalAction {
    let signal = try signal(number)
    if new != nil, signal == .kill || signal == .stop { throw .invalidArgument }
    return process.signals.withLock { state in
      let index = Int(signal.number)
      let old = state.actions[index]
      if let new {
        state.actions[index] = new
        let ignored = new.handler == 1 || new.handler == 0 && (signal.defaultAction == .ignore)
        if ignored {
          var set = SignalSet()
          set.insert(signal)
          state.pending.discard(set)
          for task in state.threads { task.pending.discard(set) }
        }
      }
      return old
    }
  }

  /// rt_sigaction: handler, flags, restorer, 64-bit mask.
  func rtSigaction() throws(Errno) -> UInt32 {
    guard d == 8 else { throw .invalidArgument }
    var new: SignalAction?
    if b != 0 {
      var words = InlineArray<5, UInt32>(repeating: 0)
      try UserMemory.read(b, words: &words)
      var action = SignalAction()
      action.handler = words[0]
      action.flags = words[1]
      action.restorer = words[2]
      action.mask = SignalSet(bits: UInt64(words[4]) << 32 | UInt64(words[3])).subtracting(.unblockable)
      new = action
    }
    let old = try exchange(a, new)
    if c != 0 {
      let bits = old.mask.bits
      let words: InlineArray<5, UInt32> = [
        old.handler, old.flags, old.restorer, UInt32(truncatingIfNeeded: bits), UInt32(truncatingIfNeeded: bits >> 32),
      ]
      try UserMemory.write(words: words, count: 5, to: c)
    }
    return 0
  }

  /// The old sigaction: handler, 32-bit mask, flags, restorer.
  func oldSigaction() throws(Errno) -> UInt32 {
    var new: SignalAction?
    if b != 0 {
      var action = SignalAction()
      action.handler = try UserMemory.read32(b)
      action.mask = SignalSet(bits: UInt64(try UserMemory.read32(b &+ 4))).subtracting(.unblockable)
      action.flags = try UserMemory.read32(b &+ 8)
      action.restorer = try UserMemory.read32(b &+ 12)
      new = action
    }
    let old = try exchange(a, new)
    if c != 0 {
      try UserMemory.write32(old.handler, to: c)
      try UserMemory.write32(UInt32(truncatingIfNeeded: old.mask.bits), to: c &+ 4)
      try UserMemory.write32(old.flags, to: c &+ 8)
      try UserMemory.write32(old.restorer, to: c &+ 12)
    }
    return 0
  }

  func signalCall() throws(Errno) -> UInt32 {
    var action = SignalAction()
    action.handler = b
    action.flags = SignalAction.resetHandler | SignalAction.noDefer
    return try exchange(a, action).handler
  }

  func rtSigprocmask(wide: Bool) throws(Errno) -> UInt32 {
    if wide, d != 8 { throw .invalidArgument }
    let old = task.blocked
    if b != 0 {
      let set = SignalSet(bits: wide ? try UserMemory.read64(b) : UInt64(try UserMemory.read32(b)))
      let new: SignalSet
      switch a {
      case 0: new = old.union(set)
      case 1: new = old.subtracting(set)
      case 2: new = wide ? set : SignalSet(bits: old.bits & ~0xFFFF_FFFF | set.bits)
      default: throw .invalidArgument
      }
      task.setBlocked(new)
    }
    if c != 0 {
      if wide { try UserMemory.write64(old.bits, to: c) } else { try UserMemory.write32(UInt32(truncatingIfNeeded: old.bits), to: c) }
    }
    return 0
  }

  func rtSigpending() throws(Errno) -> UInt32 {
    let pending = process.signals.withLock { $0.pending.set.union(task.pending.set) }
    let blocked = SignalSet(bits: pending.bits & task.blocked.bits)
    if b == 8 {
      try UserMemory.write64(blocked.bits, to: a)
    } else {
      try UserMemory.write32(UInt32(truncatingIfNeeded: blocked.bits), to: a)
    }
    return 0
  }

  func rtSigsuspend() throws(Errno) -> UInt32 {
    guard b == 8 else { throw .invalidArgument }
    return try sigsuspend(.init(bits: try UserMemory.read64(a)))
  }

  func sigsuspend(_ mask: SignalSet) throws(Errno) -> UInt32 {
    task.savedMask = task.blocked
    task.needsAttention = true
    task.setBlocked(mask)
    let error = Sleep.untilInterrupted(reason: "sigsuspend")
    throw error == .interrupted ? .restartIfNoHandler : error
  }

  func pause() throws(Errno) -> UInt32 {
    _ = Sleep.untilInterrupted(reason: "pause")
    throw .restartIfNoHandler
  }

  /// `stack_t`: base, flags, size.
  func sigaltstack() throws(Errno) -> UInt32 {
    let old = task.alternateStack
    if a != 0 {
      let base = try UserMemory.read32(a)
      let flags = try UserMemory.read32(a &+ 4)
      let size = try UserMemory.read32(a &+ 8)
      if old.isInUse(at: frame.esp) { throw .notPermitted }
      do throws(AlternateStack.Failure) { task.alternateStack = try AlternateStack(base: base, size: size, flags: flags) } catch {
        throw error == .tooSmall ? .noMemory : .invalidArgument
      }
    }
    if b != 0 {
      try UserMemory.write32(old.base, to: b)
      try UserMemory.write32(old.state(at: frame.esp), to: b &+ 4)
      try UserMemory.write32(old.size, to: b &+ 8)
    }
    return 0
  }

  func maySignal(_ target: Process, _ signal: UInt32) -> Bool {
    let me = process.who
    let other = target.who
    if me.has(.kill) || me.euid == other.suid || me.euid == other.uid || me.uid == other.suid || me.uid == other.uid {
      return true
    }
    return signal == 18 && ProcessTable.shared.withTree { target.tree.session == process.tree.session }
  }

  private func information(_ number: UInt32, code: Int32) throws(Errno) -> SignalInformation? {
    if number == 0 { return nil }
    var information = SignalInformation(try signal(number), code: code)
    information.sender = process.id
    information.senderUser = process.who.uid
    return information
  }

  func kill() throws(Errno) -> UInt32 {
    if b > 64 { throw .invalidArgument }
    let id = int(a)
    let information = try information(b, code: 0)
    if id > 0 {
      guard let target = ProcessTable.shared.find(id) else { throw .noSuchProcess }
      guard maySignal(target, b) else { throw .notPermitted }
      if let information { target.send(information) }
      return 0
    }
    let group = id == 0 ? ProcessTable.shared.withTree { process.tree.group } : 0 &- id
    let me = process
    var allowed = false
    let found = ProcessTable.shared.forEach({
      id == -1 ? $0.id > 1 && $0 !== me : $0.tree.group == group
    }) { target in
      guard maySignal(target, b) else { return }
      allowed = true
      if let information { target.send(information) }
    }
    if found == 0 { throw .noSuchProcess }
    if !allowed { throw .notPermitted }
    return 0
  }

  /// tkill and tgkill.
  func tkill(group: UInt32?, _ id: UInt32, _ number: UInt32) throws(Errno) -> UInt32 {
    if int(id) <= 0 || number > 64 { throw .invalidArgument }
    for candidate in ProcessTable.shared.all() where group == nil || candidate.id == int(group!) {
      let found = candidate.thread(int(id))
      guard let found else { continue }
      guard maySignal(candidate, number) else { throw .notPermitted }
      if let information = try information(number, code: -6) { candidate.send(information, to: found) }
      return 0
    }
    throw .noSuchProcess
  }

  /// rt_sigtimedwait: takes a pending signal out, or waits for one.
  func sigtimedwait(wide: Bool) throws(Errno) -> UInt32 {
    guard d == 8 else { throw .invalidArgument }
    let wanted = SignalSet(bits: try UserMemory.read64(a)).subtracting(.unblockable)
    let deadline = try timespec(c, wide: wide).map { Deadline.after($0) }
    let saved = task.blocked
    task.setBlocked(saved.subtracting(wanted))
    defer { task.setBlocked(saved) }
    while true {
      // First, so that what comes from here on ends the sleep.
      task.interruptRequested.store(false, ordering: .sequentiallyConsistent)
      let found = process.signals.withLock { state in
        let others = SignalSet(bits: ~wanted.bits)
        return task.pending.take(notIn: others) ?? state.pending.take(notIn: others)
      }
      if let found {
        if b != 0 {
          try UserMemory.zero(b, count: 128)
          try UserMemory.write32(UInt32(found.signal.number), to: b)
          try UserMemory.write32(UInt32(bitPattern: found.code), to: b &+ 8)
          try UserMemory.write32(UInt32(bitPattern: found.sender), to: b &+ 12)
          try UserMemory.write32(found.senderUser, to: b &+ 16)
          try UserMemory.write32(found.value, to: b &+ 20)
        }
        return UInt32(found.signal.number)
      }
      if let deadline, deadline.hasPassed { throw .wouldBlock }
      if !task.deliverable.subtracting(wanted).isEmpty || task.isWanted { throw .interrupted }
      do throws(Errno) { try Sleep.until(deadline ?? .sinceBoot(.max)) } catch {}
    }
  }
}
