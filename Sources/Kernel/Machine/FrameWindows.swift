import CMachine
import Primitives

/// Where the kernel looks at frames beyond its direct map: a few pages of address space on each CPU, opened and closed like
/// a stack.
///
/// A thread may sleep or be preempted with open windows. It stays on its CPU then, and the scheduler puts its windows aside
/// and back (`FrameWindows.Saved`).
public enum FrameWindows {
  /// Nested uses of one thread, interrupt handlers on top of it.
  @usableFromInline static var limit: UInt32 { 12 }
  private static var base: UInt32 { 0xF7E0_0000 }
  /// The table entries for `base` and up; 0 until `start`.
  nonisolated(unsafe) private static var entries: UInt32 = 0

  static func start() {
    // SAFETY: boot, one CPU; 16 CPUs have 16 pages each, all in one table.
    unsafe entries = KernelSpace.makeTable(for: base)
  }

  static var exist: Bool { unsafe entries != 0 }

  /// Maps a frame; the address is good until `close`.
  @usableFromInline static func open(_ frame: Frame) -> UnsafeMutablePointer<UInt8> {
    // SAFETY: interrupts are off, so that this stays the same CPU; from the new depth on it is this thread's window.
    let flags = unsafe interrupts_save()
    let block = unsafe percpu_self()!
    let depth = unsafe block.pointee.window_depth
    precondition(depth < limit, "too many open frame windows")
    unsafe block.pointee.window_depth = depth + 1
    unsafe setWindow(block, depth, frame.number)
    let address = show(depth, frame.number)
    unsafe interrupts_restore(flags)
    return unsafe UnsafeMutablePointer(bitPattern: UInt(address))!
  }

  @usableFromInline static func close() {
    // SAFETY: as in `open`. The mapping stays behind, unused, until the next one takes its place.
    let flags = unsafe interrupts_save()
    unsafe percpu_self()!.pointee.window_depth -= 1
    unsafe interrupts_restore(flags)
  }

  /// Whether the running thread has open windows: it must not move to another CPU.
  public static var areOpen: Bool { unsafe percpu_self()!.pointee.window_depth != 0 }

  private static func show(_ depth: UInt32, _ number: UInt32) -> UInt32 {
    let page = UInt32(truncatingIfNeeded: Processors.current) * 16 + depth
    let address = base + page << 12
    let bits = Frame(number).address | PageBits.present | PageBits.writable | PageBits.accessed | PageBits.dirty
    // SAFETY: this CPU's own entry, and no other CPU ever has its translation.
    unsafe pte_write(entries + page * 8, bits | PageBits.noExecute)
    unsafe tlb_invalidate(address)
    return address
  }

  private static func setWindow(_ block: UnsafeMutablePointer<percpu>, _ depth: UInt32, _ number: UInt32) {
    unsafe withUnsafeMutableBytes(of: &block.pointee.windows) {
      unsafe $0.storeBytes(of: number, toByteOffset: Int(depth) * 4, as: UInt32.self)
    }
  }

  /// The windows of a thread that does not run.
  public struct Saved {
    public private(set) var count: UInt32 = 0
    private var frames: InlineArray<12, UInt32> = .init(repeating: 0)
    public init() {}

    /// Takes this CPU's windows over. Interrupts are off.
    public mutating func take() {
      // SAFETY: this CPU's own block.
      let block = unsafe percpu_self()!
      count = unsafe block.pointee.window_depth
      for depth in 0..<count {
        frames[Int(depth)] = unsafe withUnsafeBytes(of: &block.pointee.windows) {
          unsafe $0.load(fromByteOffset: Int(depth) * 4, as: UInt32.self)
        }
      }
      unsafe block.pointee.window_depth = 0
    }

    /// Opens them again, on the same CPU. Interrupts are off.
    public mutating func putBack() {
      let block = unsafe percpu_self()!
      unsafe block.pointee.window_depth = count
      for depth in 0..<count {
        unsafe setWindow(block, depth, frames[Int(depth)])
        _ = show(depth, frames[Int(depth)])
      }
      count = 0
    }
  }
}
