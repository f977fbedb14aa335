import CMachine

/// The order of spin locks, checked at run time in kernels built with `CHECKED`: whoever holds rank *n* takes greater ranks only.
///
/// The ranks that a CPU holds lie in its percpu block: a holder has preemption off, so it stays there. An interrupt handler
/// starts anew: what it interrupts cannot wait for it.
public enum LockOrder {
  @inlinable @inline(__always) public static func acquire(_ rank: UInt8) {
    #if CHECKED
      push(rank)
    #endif
  }

  @inlinable @inline(__always) public static func release(_ rank: UInt8) {
    #if CHECKED
      pop(rank)
    #endif
  }

  #if CHECKED
    // SAFETY: preemption is off, so the block is this CPU's and nobody else writes these fields; an interrupt handler
    // leaves them as it found them.
    @usableFromInline static func push(_ rank: UInt8) {
      let cpu = unsafe percpu_self()!
      let count = unsafe cpu.pointee.rank_count
      if unsafe count > cpu.pointee.rank_base {
        let held = unsafe load(cpu, count - 1)
        if held >= rank { unsafe lock_order_violation(held, rank) }
      }
      if count < 20 { unsafe store(cpu, count, rank) }
      unsafe cpu.pointee.rank_count = count + 1
    }

    /// Locks are nearly always released last first; one that is not is taken out of the middle.
    @usableFromInline static func pop(_ rank: UInt8) {
      let cpu = unsafe percpu_self()!
      let count = unsafe cpu.pointee.rank_count
      precondition(count > 0, "a lock was released twice")
      var index = min(count, 20) - 1
      while unsafe load(cpu, index) != rank, index > 0 { index -= 1 }
      while index + 1 < min(count, 20) {
        unsafe store(cpu, index, load(cpu, index + 1))
        index += 1
      }
      unsafe cpu.pointee.rank_count = count - 1
    }

    private static func load(_ cpu: UnsafeMutablePointer<percpu>, _ index: UInt32) -> UInt8 {
      unsafe withUnsafePointer(to: &cpu.pointee.ranks) { unsafe UnsafeRawPointer($0).load(fromByteOffset: Int(index), as: UInt8.self) }
    }
    private static func store(_ cpu: UnsafeMutablePointer<percpu>, _ index: UInt32, _ rank: UInt8) {
      unsafe withUnsafeMutablePointer(to: &cpu.pointee.ranks) {
        unsafe UnsafeMutableRawPointer($0).storeBytes(of: rank, toByteOffset: Int(index), as: UInt8.self)
      }
    }
  #endif

  /// Entering an interrupt handler; answers what `leaveInterrupt` needs.
  @inlinable @inline(__always) public static func enterInterrupt() -> UInt32 {
    #if CHECKED
      // SAFETY: interrupts are off: the block is this CPU's.
      let cpu = unsafe percpu_self()!
      let base = unsafe cpu.pointee.rank_base
      unsafe cpu.pointee.rank_base = cpu.pointee.rank_count
      return base
    #else
      return 0
    #endif
  }

  @inlinable @inline(__always) public static func leaveInterrupt(_ base: UInt32) {
    #if CHECKED
      unsafe percpu_self()!.pointee.rank_base = base
    #endif
  }

  /// The ranks that a stopped CPU holds, for reports; empty in unchecked kernels.
  public static func held(by cpu: Int) -> String {
    var text = ""
    #if CHECKED
      // SAFETY: a static array of CPU_MAX blocks; the reader accepts a picture that is just changing.
      guard cpu >= 0, cpu < Int(CPU_MAX) else { return text }
      let block = unsafe withUnsafeMutablePointer(to: &machine_cpus) {
        unsafe UnsafeMutableRawPointer($0).assumingMemoryBound(to: percpu.self) + cpu
      }
      for index in 0..<min(unsafe block.pointee.rank_count, 20) { text += "\(unsafe load(block, index)) " }
    #endif
    return text
  }

  /// Whether this CPU holds no spin lock: what a thread that is about to sleep must be able to say.
  public static var holdsNothing: Bool {
    #if CHECKED
      // SAFETY: interrupts are off while it looks: a thread that moved to another CPU meanwhile would see that one's locks, or
      // those of the one it left.
      let flags = unsafe interrupts_save()
      defer { unsafe interrupts_restore(flags) }
      return unsafe percpu_self()!.pointee.rank_count == percpu_self()!.pointee.rank_base
    #else
      return true
    #endif
  }
}
