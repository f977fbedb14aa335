import CMachine
import Machine
import Primitives
import Signals
import SystemABI
import Threads

/// The frames a handler runs on, laid out as Linux/i386 lays them out: unwinders and sigreturn read them.
///
/// SPEC: Linux uapi asm/sigcontext.h, asm/ucontext.h; arch/x86 sigframe layouts as sigreturn(2) describes.
enum SignalFrame {
  /// struct sigcontext: 88 bytes.
  private static let contextSize = 88
  /// pretcode, sig, sigcontext, unused FPU area (112 bytes), extramask, retcode.
  private static let oldSize = 4 + 4 + 88 + 112 + 4 + 8
  /// pretcode, sig, pinfo, puc, siginfo (128), ucontext (20 + 88 + 8), retcode.
  private static let newSize = 16 + 128 + 116 + 8

  private static func putContext(
    _ out: inout MutableSpan<UInt8>, _ at: Int, _ r: trap_frame, fpu: UInt32, mask: UInt32, fault: UInt32, error: UInt32,
    trap: UInt32, gs: UInt32
  ) {
    let words: [22 of UInt32] = [
      gs, r.fs, r.es, r.ds, r.edi, r.esi, r.ebp, r.esp, r.ebx, r.edx, r.ecx, r.eax, trap, error, r.eip, r.cs, r.eflags,
      r.esp, r.ss, fpu, mask, fault,
    ]
    for index in words.indices { out.put32(words[index], at: at + index * 4) }
  }

  /// Builds the frame and points the registers at the handler. Throws `badAddress` when the stack is not writable.
  static func push(_ information: SignalInformation, _ action: SignalAction, _ frame: UserFrame, _ task: Task) throws(Errno) {
    var registers = frame.registers
    let mask = task.savedMask ?? task.blocked
    task.savedMask = nil
    let alternate = task.alternateStack
    let stack = action.flags & SignalAction.onStack != 0 ? alternate.start(from: registers.esp) : registers.esp
    let fpu = (stack &- UInt32(FPUFrame.size)) & ~63
    let wantsInformation = action.flags & SignalAction.wantsInformation != 0
    let size = UInt32(wantsInformation ? newSize : oldSize)
    // The ABI wants (esp + 4) & 15 == 0 at the handler's entry.
    let base = ((fpu &- size &+ 4) & ~15) &- 4
    // A handler that has used up its stack ends the process rather than what lies below.
    if stack != registers.esp || alternate.isInUse(at: registers.esp), !alternate.contains(base) { throw .badAddress }
    try task.putFPUFrame(at: fpu)
    var bytes = [UInt8](repeating: 0, count: Int(size))
    var out = bytes.mutableSpan
    let restorer: UInt32
    if action.flags & SignalAction.hasRestorer != 0 {
      restorer = action.restorer
    } else {
      restorer = wantsInformation ? VDSO.rtSignalReturn : VDSO.signalReturn
    }
    out.put32(restorer, at: 0)
    out.put32(UInt32(information.signal.number), at: 4)
    let fault = information.value
    if wantsInformation {
      out.put32(base &+ 16, at: 8)
      out.put32(base &+ 16 &+ 128, at: 12)
      putInformation(&out, 16, information)
      let context = 16 + 128
      out.put32(alternate.base, at: context + 8)
      out.put32(alternate.flags, at: context + 12)
      out.put32(alternate.size, at: context + 16)
      putContext(
        &out, context + 20, registers, fpu: fpu, mask: UInt32(truncatingIfNeeded: mask.bits), fault: fault,
        error: task.faultError, trap: task.faultVector, gs: task.currentGS)
      out.put64(mask.bits, at: context + 108)
      putReturn(&out, Int(size) - 8, number: 173, wide: true)
    } else {
      putContext(
        &out, 8, registers, fpu: fpu, mask: UInt32(truncatingIfNeeded: mask.bits), fault: fault, error: task.faultError,
        trap: task.faultVector, gs: task.currentGS)
      out.put32(UInt32(truncatingIfNeeded: mask.bits >> 32), at: 8 + 88 + 112)
      putReturn(&out, Int(size) - 8, number: 119, wide: false)
    }
    try UserMemory.write(bytes.span, to: base)
    registers.esp = base
    registers.eip = action.handler
    registers.eax = UInt32(information.signal.number)
    registers.edx = wantsInformation ? base &+ 16 : 0
    registers.ecx = wantsInformation ? base &+ 16 &+ 128 : 0
    registers.ds = UInt32(USER_DS)
    registers.es = UInt32(USER_DS)
    registers.cs = UInt32(USER_CS)
    registers.ss = UInt32(USER_DS)
    registers.eflags &= ~0x500  // direction and trap
    frame.registers = registers
    if wantsInformation, alternate.flags & AlternateStack.Flags.disarmed != 0 { task.alternateStack = AlternateStack() }
    var blocked = task.blocked.union(action.mask)
    if action.flags & SignalAction.noDefer == 0 { blocked.insert(information.signal) }
    task.setBlocked(blocked)
  }

  /// The instructions gdb and unwinders recognise a frame by; never executed here.
  private static func putReturn(_ out: inout MutableSpan<UInt8>, _ at: Int, number: UInt32, wide: Bool) {
    if wide {
      out[at] = 0xB8
      out.put32(number, at: at + 1)
      out.put16(0x80CD, at: at + 5)
    } else {
      out.put16(0xB858, at: at)
      out.put32(number, at: at + 2)
      out.put16(0x80CD, at: at + 6)
    }
  }

  /// `siginfo_t`. SPEC: Linux uapi asm-generic/siginfo.h.
  static func putInformation(_ out: inout MutableSpan<UInt8>, _ at: Int, _ information: SignalInformation) {
    out.put32(UInt32(information.signal.number), at: at)
    out.put32(UInt32(bitPattern: information.code), at: at + 8)
    switch information.signal {
    case .segmentation, .bus, .illegal, .floatingPoint, .trap:
      if information.code > 0, information.code < 128 {
        out.put32(information.value, at: at + 12)
        return
      }
      fallthrough
    default:
      out.put32(UInt32(bitPattern: information.sender), at: at + 12)
      out.put32(information.senderUser, at: at + 16)
      out.put32(information.value, at: at + 20)
    }
  }

  /// sigreturn and rt_sigreturn: puts the interrupted registers and mask back.
  static func pop(_ frame: UserFrame, _ task: Task, new: Bool) throws(Errno) {
    // The handler's `ret` has taken pretcode off; the old restorer has also popped the signal number.
    let base = new ? frame.esp &- 4 : frame.esp &- 8
    let context = new ? base &+ 16 &+ 128 &+ 20 : base &+ 8
    var bytes = [UInt8](repeating: 0, count: contextSize)
    var span = bytes.mutableSpan
    try UserMemory.read(context, into: &span)
    let words = bytes.span
    func word(_ index: Int) -> UInt32 { words.u32(index * 4) ?? 0 }
    var mask = UInt64(word(20))
    if new {
      mask = try UserMemory.read64(base &+ 16 &+ 128 &+ 108)
    } else {
      mask |= UInt64(try UserMemory.read32(base &+ 8 &+ 88 &+ 112)) << 32
    }
    if word(19) != 0 { try task.takeFPUFrame(at: word(19)) }
    var registers = frame.registers
    (registers.edi, registers.esi, registers.ebp, registers.ebx) = (word(4), word(5), word(6), word(8))
    (registers.edx, registers.ecx, registers.eax) = (word(9), word(10), word(11))
    (registers.eip, registers.esp) = (word(14), word(7))
    registers.eflags = registers.eflags & ~0x50DD5 | word(16) & 0x50DD5 | 0x200
    // Selectors that user mode may hold; anything else would fault on the way out.
    registers.cs = UInt32(USER_CS)
    registers.ss = UInt32(USER_DS)
    registers.ds = UInt32(USER_DS)
    registers.es = UInt32(USER_DS)
    registers.fs = userSelector(word(1))
    task.loadGS(userSelector(word(0)))
    frame.registers = registers
    if new { try restoreAlternateStack(base &+ 16 &+ 128 &+ 8, registers.esp, task) }
    task.skipRestart = true
    task.setBlocked(SignalSet(bits: mask))
  }

  /// `uc_stack`. What makes no stack is ignored, as on Linux.
  private static func restoreAlternateStack(_ place: UInt32, _ pointer: UInt32, _ task: Task) throws(Errno) {
    let base = try UserMemory.read32(place)
    let flags = try UserMemory.read32(place &+ 4)
    let size = try UserMemory.read32(place &+ 8)
    guard !task.alternateStack.isInUse(at: pointer), let stack = try? AlternateStack(base: base, size: size, flags: flags) else { return }
    task.alternateStack = stack
  }

  private static func userSelector(_ value: UInt32) -> UInt32 {
    let selector = value & 0xFFFF
    if selector == 0 || selector == UInt32(USER_DS) { return selector }
    let entry = selector >> 3
    return selector & 7 == 3 && entry >= 22 && entry <= 24 ? selector : 0
  }
}

extension SignalInformation {
  /// `siginfo_t`, 128 bytes.
  public var bytes: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 128)
    var out = bytes.mutableSpan
    SignalFrame.putInformation(&out, 0, self)
    return bytes
  }
}

extension Task {
  /// sigreturn's work. A frame that cannot be read ends the process, as on Linux.
  public func signalReturn(_ frame: UserFrame, new: Bool) {
    do throws(Errno) { try SignalFrame.pop(frame, self, new: new) } catch {
      process.send(SignalInformation(.segmentation, code: 128), to: self)
    }
  }
}
