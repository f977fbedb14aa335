import CMachine
import Machine
import Primitives
import Processes
import Signals
import Sync
import SystemABI
import Threads
import VFS

/// ptrace(2) and process_vm_readv(2): debuggers.
extension Call {
  func mayTrace(_ target: Process) -> Bool { target.mayBeInspected(by: process) }

  /// Arguments: request, thread, address, data.
  func ptrace() throws(Errno) -> UInt32 {
    switch a {
    case 0:  // TRACEME
      guard let parent = ProcessTable.shared.withTree({ process.tree.parent }) else { throw .notPermitted }
      try parent.trace(task, seized: false, options: 0)
      return 0
    case 16, 0x4206: return try attach(seize: a == 0x4206)
    case 0x4207:  // INTERRUPT
      let target = try process.tracee(int(b))
      guard ProcessTable.shared.withTree({ target.tracing?.isSeized ?? false }) else { throw .ioError }
      process.interruptTracee(target)
      return 0
    case 8:  // KILL
      try process.tracee(int(b)).process.send(SignalInformation(.kill))
      return 0
    default:
      let (target, tracing, registers) = try process.stoppedTracee(int(b))
      switch a {
      case 1...6, 12, 13, 18, 19, 25, 0x4204, 0x4205: try access(target, registers)
      case 7, 9, 17, 24: return try goOn(target)
      default: try control(target, tracing)
      }
      return 0
    }
  }

  /// Memory and registers of a stopped thread.
  @inline(never) private func access(_ target: Task, _ registers: UserFrame) throws(Errno) {
    switch a {
    case 1, 2:  // PEEKTEXT, PEEKDATA
      let word = try bytes(of: target, c, 4)
      try UserMemory.write(word.span, to: d)
    case 3:  // PEEKUSER
      try UserMemory.write32(try user(target, registers, c), to: d)
    case 4, 5:  // POKETEXT, POKEDATA
      let word = d
      try store([UInt8(word & 0xFF), UInt8(word >> 8 & 0xFF), UInt8(word >> 16 & 0xFF), UInt8(word >> 24)], in: target, c)
    case 6:  // POKEUSER
      guard c & 3 == 0, c < 68 else { throw .ioError }
      var words = Self.words(target, registers)
      words[Int(c / 4)] = d
      try set(words, target, registers)
    case 12: try put(Self.words(target, registers), to: d, limit: 68)
    case 13: try set(try words(at: d, count: 17), target, registers)
    case 18: try put(fpu(target), to: d, limit: 512)
    case 19: setFPU(target, try words(at: d, count: 128))
    case 25: try getThreadArea(of: target, entry: c, to: d)
    default: try registerSet(target, registers, write: a == 0x4205)
    }
  }

  /// What is known of a stop, and what is wanted of later ones.
  @inline(never) private func control(_ target: Task, _ tracing: Tracing) throws(Errno) {
    switch a {
    case 0x4200:
      guard d & ~TraceOptions.all == 0 else { throw .invalidArgument }
      ProcessTable.shared.withTree { tracing.options = d }
    case 0x4201: try UserMemory.write32(ProcessTable.shared.withTree { tracing.message }, to: d)
    case 0x4202:
      guard let information = ProcessTable.shared.withTree({ tracing.information }) else { throw .invalidArgument }
      let bytes = information.bytes
      try UserMemory.write(bytes.span, to: d)
    case 0x4203: try setInformation(tracing)
    case 0x4208:
      guard ProcessTable.shared.withTree({ (tracing.stop ?? 0) >> 16 == TraceEvent.stop.rawValue }) else { throw .ioError }
      process.listen(target)
    case 0x420A, 0x420B:
      guard c == 8 else { throw .invalidArgument }
      if a == 0x420A {
        let mask = target.process.signals.withLock { _ in target.blocked.bits }
        try UserMemory.write32(UInt32(truncatingIfNeeded: mask), to: d)
        try UserMemory.write32(UInt32(truncatingIfNeeded: mask >> 32), to: d &+ 4)
      } else {
        target.setBlocked(SignalSet(bits: try UserMemory.read64(d)))
      }
    default: throw .ioError
    }
  }

  private func attach(seize: Bool) throws(Errno) -> UInt32 {
    guard int(b) > 0 else { throw .noSuchProcess }
    let target = try thread(b)
    guard target.process !== process, target.process.id != 1, mayTrace(target.process) else { throw .notPermitted }
    if seize, c != 0 || d & ~TraceOptions.all != 0 { throw .ioError }
    try process.trace(target, seized: seize, options: seize ? d : 0)
    if !seize { target.process.send(SignalInformation(.stop), to: target) }
    return 0
  }

  /// CONT, SINGLESTEP, SYSCALL, DETACH: with the signal in `d`.
  private func goOn(_ target: Task) throws(Errno) -> UInt32 {
    guard d <= 64 else { throw .ioError }
    process.resume(target, signal: UInt8(d), calls: a == 24, step: a == 9, detach: a == 17)
    return 0
  }

  private func setInformation(_ tracing: Tracing) throws(Errno) {
    let number = try UserMemory.read32(d)
    guard number >= 1, number <= 64 else { throw .invalidArgument }
    var information = SignalInformation(Signal(UInt8(number)), code: int(try UserMemory.read32(d &+ 8)))
    information.sender = int(try UserMemory.read32(d &+ 12))
    information.senderUser = try UserMemory.read32(d &+ 16)
    information.value = try UserMemory.read32(d &+ 20)
    try ProcessTable.shared.withTree { () throws(Errno) in
      guard tracing.information != nil else { throw .invalidArgument }
      tracing.information = information
    }
  }

  // MARK: Registers

  /// `struct user_regs_struct`. SPEC: Linux arch/x86 asm/user_32.h.
  private static func words(_ target: Task, _ frame: UserFrame) -> [UInt32] {
    let r = frame.registers
    let original = r.vector == 0x80 ? r.error : .max
    return [
      r.ebx, r.ecx, r.edx, r.esi, r.edi, r.ebp, r.eax, r.ds & 0xFFFF, r.es & 0xFFFF, r.fs & 0xFFFF, target.savedGS, original, r.eip,
      r.cs & 0xFFFF, r.eflags, r.esp, r.ss & 0xFFFF,
    ]
  }

  /// Throws `ioError` for a selector that user mode may not hold. Flags are those a program may change, and the trap flag.
  private func set(_ words: [UInt32], _ target: Task, _ frame: UserFrame) throws(Errno) {
    for index in [7, 8, 9, 10] where !Self.isUserSelector(words[index]) { throw .ioError }
    guard words[13] & 0xFFFF == UInt32(USER_CS), words[16] & 0xFFFF == UInt32(USER_DS) else { throw .ioError }
    var r = frame.registers
    (r.ebx, r.ecx, r.edx, r.esi, r.edi, r.ebp, r.eax) = (words[0], words[1], words[2], words[3], words[4], words[5], words[6])
    (r.ds, r.es, r.fs) = (words[7] & 0xFFFF, words[8] & 0xFFFF, words[9] & 0xFFFF)
    target.savedGS = words[10] & 0xFFFF
    if r.vector == 0x80 { r.error = words[11] }
    r.eip = words[12]
    r.eflags = r.eflags & ~0x50DD5 | words[14] & 0x50DD5 | 0x200
    r.esp = words[15]
    frame.registers = r
  }

  private static func isUserSelector(_ value: UInt32) -> Bool {
    let selector = value & 0xFFFF
    return selector == 0 || selector == UInt32(USER_DS) || selector & 7 == 3 && (22...24).contains(selector >> 3)
  }

  /// A word of `struct user`: registers, and the debug registers, which are not there.
  private func user(_ target: Task, _ frame: UserFrame, _ offset: UInt32) throws(Errno) -> UInt32 {
    guard offset & 3 == 0, offset < 284 else { throw .ioError }
    return offset < 68 ? Self.words(target, frame)[Int(offset / 4)] : 0
  }

  private func fpu(_ target: Task) -> [UInt32] {
    var words: [UInt32] = []
    target.withSavedFPUState(writes: false) { state in
      for index in 0..<128 { words.append(state[index]) }
    }
    return words
  }

  private func setFPU(_ target: Task, _ words: [UInt32]) {
    target.withSavedFPUState(writes: true) { state in
      for index in 0..<128 { state[index] = words[index] }
    }
  }

  /// GETREGSET and SETREGSET: NT_PRSTATUS and NT_PRXFPREG, through an iovec that is cut to what there is.
  private func registerSet(_ target: Task, _ frame: UserFrame, write: Bool) throws(Errno) {
    let (base, length) = (try UserMemory.read32(d), try UserMemory.read32(d &+ 4))
    let all: [UInt32]
    switch c {
    case 1: all = Self.words(target, frame)
    case 0x46E6_2B7F: all = fpu(target)
    default: throw .invalidArgument
    }
    let count = min(Int(clamping: length / 4), all.count)
    if write {
      let new = try words(at: base, count: count) + all[count...]
      if c == 1 { try set(new, target, frame) } else { setFPU(target, new) }
    } else {
      try put(all, to: base, limit: count * 4)
    }
    try UserMemory.write32(UInt32(count * 4), to: d &+ 4)
  }

  private func words(at address: UInt32, count: Int) throws(Errno) -> [UInt32] {
    var words: [UInt32] = []
    for index in 0..<UInt32(count) { words.append(try UserMemory.read32(address &+ index * 4)) }
    return words
  }

  private func put(_ words: [UInt32], to address: UInt32, limit: Int) throws(Errno) {
    for index in 0..<(limit / 4) { try UserMemory.write32(words[index], to: address &+ UInt32(index) * 4) }
  }

  // MARK: Memory

  @inline(never) private func bytes(of target: Task, _ address: UInt32, _ count: Int) throws(Errno) -> [UInt8] {
    guard let space = target.process.space else { throw .ioError }
    var result: [UInt8] = []
    while result.count < count {
      let more: [UInt8]
      do throws(Errno) {
        more = try space.peek(address &+ UInt32(result.count), count - result.count, forced: true)
      } catch { throw error == .noMemory ? error : .ioError }
      result.append(contentsOf: more)
    }
    return result
  }

  @inline(never) private func store(_ bytes: [UInt8], in target: Task, _ address: UInt32) throws(Errno) {
    guard let space = target.process.space else { throw .ioError }
    var done = 0
    do throws(Errno) {
      while done < bytes.count { done += try space.poke(address &+ UInt32(done), bytes[done...], forced: true) }
    } catch { throw error == .noMemory ? error : .ioError }
  }

  /// process_vm_readv and process_vm_writev: pid, local vectors, remote vectors, flags.
  func processVector(write: Bool) throws(Errno) -> UInt32 {
    guard f == 0, c <= 1024, e <= 1024 else { throw .invalidArgument }
    guard let target = ProcessTable.shared.find(int(a)), let space = target.space else { throw .noSuchProcess }
    guard mayTrace(target) else { throw .notPermitted }
    var local = try vectors(b, c)
    var total: UInt32 = 0
    var part = 0
    for index in 0..<e {
      var address = try UserMemory.read32(d &+ index * 8)
      var left = try UserMemory.read32(d &+ index * 8 &+ 4)
      if Int32(bitPattern: left) < 0 { throw .invalidArgument }
      while left > 0 {
        while part < local.count, local[part].count == 0 { part += 1 }
        if part == local.count { return total }
        do throws(Errno) {
          let wanted = min(Int(left), local[part].count, pageSize - Int(address & 0xFFF))
          let moved: Int
          if write {
            let bytes = try local[part].takeBytes(limit: wanted)
            moved = try space.poke(address, bytes[...], forced: false)
          } else {
            let bytes = try space.peek(address, wanted, forced: false)
            moved = try local[part].put(bytes.span)
          }
          total += UInt32(moved)
          address &+= UInt32(moved)
          left -= UInt32(moved)
        } catch {
          if total > 0 { return total }
          throw error
        }
      }
    }
    return total
  }

  // MARK: Thread-local segments

  /// get_thread_area(2): the descriptor of the entry that the structure names.
  func getThreadArea() throws(Errno) -> UInt32 {
    try getThreadArea(of: task, entry: try UserMemory.read32(a), to: a)
    return 0
  }

  private func getThreadArea(of target: Task, entry: UInt32, to address: UInt32) throws(Errno) {
    let descriptor: UInt64
    switch entry {
    case 22: descriptor = target.tls.0
    case 23: descriptor = target.tls.1
    case 24: descriptor = target.tls.2
    default: throw .invalidArgument
    }
    let words = TLS.description(entry, descriptor)
    for (index, word) in words.enumerated() { try UserMemory.write32(word, to: address &+ UInt32(index) * 4) }
  }
}
