import CMachine
import Memory
import Primitives
import Sync

/// Where physical memory below 768 MiB is mapped for the kernel.
@usableFromInline let directMapBase: UInt32 = 0xC000_0000
/// The end of memory the direct map reaches, in frames.
@usableFromInline let directMapFrames: UInt32 = 0x3000_0000 >> 12

extension Frame {
  /// The kernel's address of this frame.
  @inlinable var mapped: UInt32 { number << 12 &+ 0xC000_0000 }
  @inlinable var pointer: UnsafeMutableRawPointer {
    unsafe UnsafeMutableRawPointer(bitPattern: UInt(mapped))!
  }
}

/// The kernel's frame table in raw memory.
@safe struct MappedFrameStore: FrameStore {
  let base: UnsafeMutablePointer<FrameEntry>?
  let count: UInt32
  subscript(_ frame: UInt32) -> FrameEntry {
    @inline(__always) get { unsafe base.unsafelyUnwrapped[Int(frame)] }
    @inline(__always) nonmutating _modify { yield unsafe &base.unsafelyUnwrapped[Int(frame)] }
  }
}

/// Physical memory: allocation with reference counts.
///
/// Frames of the direct map are for the kernel's own structures. Pages of programs and files come from beyond it as long as
/// there are some; the kernel reaches those through `FrameWindows`.
///
/// A frame starts with one reference; `release` of the last one frees it. Interrupt-safe.
public enum Frames {
  private static let lock = RawSpinLock()
  nonisolated(unsafe) private static var allocator = unsafe BuddyAllocator(store: MappedFrameStore(base: nil, count: 0))
  nonisolated(unsafe) private static var high = unsafe BuddyAllocator(store: MappedFrameStore(base: nil, count: 0))
  nonisolated(unsafe) static var table: UnsafeMutablePointer<FrameEntry>! = nil
  nonisolated(unsafe) public private(set) static var tableCount: UInt32 = 0

  /// Sets up the table at `tableAddress` for `count` frames and frees `ranges`.
  static func start(tableAddress: UInt32, count: UInt32, ranges: [Range<UInt32>]) {
    // SAFETY: boot, one CPU; the caller reserved `count` entries of mapped memory at tableAddress.
    let base = unsafe UnsafeMutablePointer<FrameEntry>(bitPattern: UInt(tableAddress))!
    unsafe base.initialize(repeating: FrameEntry(), count: Int(count))
    unsafe table = base
    unsafe tableCount = count
    unsafe allocator = BuddyAllocator(store: MappedFrameStore(base: base, count: count))
    unsafe high = BuddyAllocator(store: MappedFrameStore(base: base, count: count))
    for range in ranges {
      if range.lowerBound < directMapFrames {
        unsafe allocator.add(range.lowerBound..<min(range.upperBound, directMapFrames))
      }
      if range.upperBound > directMapFrames { unsafe high.add(max(range.lowerBound, directMapFrames)..<range.upperBound) }
    }
  }

  static var isFree: Bool { lock.isFree }

  /// `1 << order` contiguous frames of the direct map, with unspecified content, or nil when memory is exhausted.
  public static func allocate(order: Int = 0) -> Frame? {
    // SAFETY: `allocator` is only touched under `lock`.
    lock.withInterruptsOff { unsafe allocator.allocate(order: order).map { Frame($0) } }
  }

  /// Frames that only the kernel's own structures may use: what frees memory must not run out of it.
  public static var reserve: UInt32 { min(max((unsafe allocator.totalCount) / 64, 64), 1024) }

  /// Whether the kernel may take more of the direct map, `more` frames for instance, for what users ask for.
  public static func hasUnreserved(_ more: UInt32 = 0) -> Bool { unsafe allocator.freeCount > reserve + more }
  /// Whether there are as many frames for programs' pages.
  public static func hasPages(_ more: UInt32 = 0) -> Bool { unsafe high.freeCount > more || hasUnreserved(more) }

  /// One frame for a program's or a file's page; nil when only the reserve is left.
  public static func allocateUnreserved() -> Frame? {
    if unsafe high.freeCount > 0, let frame = lock.withInterruptsOff({ unsafe high.allocate(order: 0) }) { return Frame(frame) }
    return hasUnreserved() ? allocate() : nil
  }

  /// One frame of zeroes.
  public static func allocateZeroed() -> Frame? {
    guard let frame = allocate() else { return nil }
    // SAFETY: the frame is ours alone and inside the direct map.
    unsafe page_zero(frame.pointer)
    return frame
  }

  @inline(__always) private static func references(_ frame: Frame) -> UnsafeMutablePointer<UInt32> {
    precondition(frame.number < (unsafe tableCount))
    // SAFETY: bounds checked; `references` is the entry's first field.
    return unsafe UnsafeMutableRawPointer(table + Int(frame.number)).assumingMemoryBound(to: UInt32.self)
  }

  public static func retain(_ frame: Frame) {
    // SAFETY: the pointer is a live table entry; the increment is atomic.
    unsafe atomic_add(references(frame), 1)
  }

  /// Drops one reference and frees the block with the last.
  public static func release(_ frame: Frame) {
    // SAFETY: as in retain.
    let left = unsafe atomic_add(references(frame), UInt32(bitPattern: -1))
    precondition(left != UInt32.max, "frame released twice")
    if left == 0 {
      if unsafe table[Int(frame.number)].inUse != 0 { forgetCode(frame) }
      lock.withInterruptsOff {
        let order = unsafe Int(table[Int(frame.number)].order)
        if frame.number < directMapFrames {
          unsafe allocator.free(frame.number, order: order)
        } else {
          unsafe high.free(frame.number, order: order)
        }
      }
    }
  }

  /// A page is mapped for programs to execute.
  static func markCode(_ frame: Frame) {
    // SAFETY: a frame in use is its users', and all of them write the same.
    if frame.number < (unsafe tableCount) { unsafe table[Int(frame.number)].inUse = 1 }
  }

  /// Overwrites what may have been executed. An emulator has its translation and looks at every write to such a page until all of
  /// them are gone, bytes that nobody overwrites included: a stack in one made the whole system three times slower.
  @inline(never) private static func forgetCode(_ frame: Frame) {
    // SAFETY: the last reference is gone, so the frame is this call's.
    unsafe table[Int(frame.number)].inUse = 0
    frame.zero()
  }

  public static func referenceCount(_ frame: Frame) -> UInt32 { unsafe references(frame).pointee }

  public static var freeCount: UInt32 { unsafe allocator.freeCount + high.freeCount }
  public static var totalCount: UInt32 { unsafe allocator.totalCount + high.totalCount }
  /// Of them beyond the direct map.
  public static var highCounts: (total: UInt32, free: UInt32) { unsafe (high.totalCount, high.freeCount) }
}
