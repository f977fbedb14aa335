import CMachine
import Memory
import Primitives
import Sync

/// Large blocks of the heap made of single frames, mapped in a row: what there is when memory is in pieces.
///
/// A block may be freed with locks held and interrupts off, where other CPUs cannot be asked to forget its translations. So its
/// places stay unused until there is need of them and all CPUs have been asked.
enum ScatteredBlocks {
  /// Between device registers and the top.
  private static let base: UInt32 = 0xFC00_0000
  private static let pageCount = 4096
  static let addresses = base..<(base + UInt32(pageCount) << 12)
  /// Ours in a present entry: the block ends with this page.
  private static let last: UInt64 = 0x200
  /// What other entries hold: nothing, or one of these.
  private enum Mark {
    static let taken: UInt64 = 0x100
    static let stale: UInt64 = 0x400
    static let flushing: UInt64 = 0x800
  }
  // SAFETY: entries change, and are looked at, under this lock with interrupts off: they have two halves.
  private static let lock = RawSpinLock()
  nonisolated(unsafe) private static var isFlushing = false
  nonisolated(unsafe) private static var tables: InlineArray<8, UInt32> = .init(repeating: 0)

  /// Makes the page tables.
  static func start() {
    // SAFETY: boot, one CPU.
    for index in 0..<8 { unsafe tables[index] = KernelSpace.makeTable(for: base + UInt32(index) << 21) }
  }

  private static func entry(_ page: Int) -> UInt32 { unsafe tables[page >> 9] + UInt32(page & 511) * 8 }

  /// A block of `count` pages; nil without as many frames, or without a place.
  static func allocate(_ count: Int) -> UInt32? {
    guard unsafe tables[0] != 0, let first = take(count) ?? (flush() ? take(count) : nil) else { return nil }
    for page in 0..<count {
      guard let frame = Frames.allocate() else {
        for other in 0..<page { giveBack(first + other) }
        lock.withInterruptsOff { for other in page..<count { unsafe pte_write(entry(first + other), 0) } }
        return nil
      }
      let bits = frame.address | PageBits.present | PageBits.writable | (page == count - 1 ? last : 0)
      lock.withInterruptsOff { unsafe pte_write(entry(first + page), bits | PageBits.noExecute) }
    }
    return base + UInt32(first) << 12
  }

  private static func take(_ count: Int) -> Int? {
    lock.withInterruptsOff {
      var run = 0
      for page in 0..<pageCount {
        run = unsafe pte_read(entry(page)) == 0 ? run + 1 : 0
        guard run == count else { continue }
        for taken in (page + 1 - count)...page { unsafe pte_write(entry(taken), Mark.taken) }
        return page + 1 - count
      }
      return nil
    }
  }

  /// Frames of all blocks.
  static var frames: Int {
    lock.withInterruptsOff { (0..<pageCount).count { unsafe tables[0] != 0 && pte_read(entry($0)) & PageBits.present != 0 } }
  }

  static func free(_ address: UInt32) {
    var page = Int((address - base) >> 12)
    while !giveBack(page) { page += 1 }
  }

  /// Whether it was the block's last page. Nobody reads the frame through an old translation: the block is nobody's.
  @discardableResult private static func giveBack(_ page: Int) -> Bool {
    let old = lock.withInterruptsOff {
      let old = unsafe pte_read(entry(page))
      unsafe pte_write(entry(page), Mark.stale)
      return old
    }
    precondition(old & PageBits.present != 0, "free of a block that is not there")
    Frames.release(Frame(UInt32(truncatingIfNeeded: (old & PageBits.addressMask) >> 12)))
    return old & last != 0
  }

  /// Makes all CPUs forget what was here; false where they cannot be waited for.
  private static func flush() -> Bool {
    guard unsafe flags_read() & 0x200 != 0 else { return false }
    // Whoever waits for this may be on this CPU, and keep it.
    enterPreemptionOff()
    defer { leavePreemptionOff() }
    let isMine = lock.withInterruptsOff {
      if unsafe isFlushing { return false }
      unsafe isFlushing = true
      mark(Mark.stale, as: Mark.flushing)
      return true
    }
    guard isMine else {
      while lock.withInterruptsOff({ unsafe isFlushing }) { cpu_relax() }
      return true
    }
    unsafe cr3_write(cr3_read())
    TLB.flush(cpus: Processors.mask)
    lock.withInterruptsOff {
      mark(Mark.flushing, as: 0)
      unsafe isFlushing = false
    }
    return true
  }

  private static func mark(_ old: UInt64, as new: UInt64) {
    for page in 0..<pageCount where unsafe pte_read(entry(page)) == old { unsafe pte_write(entry(page), new) }
  }
}
