import CMachine
import Memory
import Primitives
import Sync

/// The kernel heap: slabs of one size a page, over the frame allocator; larger blocks are whole frames, in a row or mapped so.
///
/// Each CPU keeps some free objects of every size, which it takes and gives without a lock, and goes to the slabs for several
/// at a time.
///
/// It serves Swift's allocator (`posix_memalign`, `free`) on every CPU. Objects are found back through
/// their frame's entry, so there are no headers.
public enum Heap {
  /// Whether nobody is inside the allocators: a debugger that stopped the machine asks before it uses them.
  public static var isFree: Bool { lock.isFree && Frames.isFree && (unsafe percpu_self()!.pointee.heap_busy) == 0 }

  /// Frames that hold small objects, the bytes of objects in them, and frames of large ones. Looks at the whole frame table.
  public static var usage: (frames: Int, bytes: Int, blockFrames: Int) {
    // SAFETY: entries are read without the lock: the numbers are a moment's.
    var result = (frames: 0, bytes: 0, blockFrames: 0)
    for number in 0..<Int(unsafe Frames.tableCount) {
      let entry = unsafe Frames.table[number]
      if entry.kind == FrameKind.heapBlock.rawValue { result.blockFrames += 1 << Int(entry.order) }
      if entry.kind != FrameKind.slab.rawValue { continue }
      result.frames += 1
      result.bytes += Int(entry.inUse) << (4 + Int(entry.order))
    }
    result.blockFrames += ScatteredBlocks.frames
    return result
  }

  /// Object sizes in bytes; a slab page holds 4096 / size of them.
  private static let smallest: UInt32 = 16

  nonisolated(unsafe) private static var bins: InlineArray<9, UInt32> = .init(repeating: 0)
  private static let lock = RawSpinLock()

  @inline(__always) private static func classIndex(_ size: UInt32) -> Int {
    size <= 16 ? 0 : 28 - (size - 1).leadingZeroBitCount
  }

  /// How many free objects of a size a CPU keeps: 32 up to 128 bytes, and not more than a page of the greater ones.
  @inline(__always) private static func cacheLimit(_ index: Int) -> UInt32 { index <= 3 ? 32 : 256 >> UInt32(index) }

  /// Before the frame allocator runs (the boot loader's tables are being read), blocks come from here and stay.
  nonisolated(unsafe) private static var bootUsed: UInt32 = 0

  private static func allocateAtBoot(_ size: UInt32) -> UnsafeMutableRawPointer? {
    // SAFETY: boot, one CPU; static storage of 16 KiB.
    let start = unsafe bootUsed
    guard size <= 16384 - start else { return nil }
    unsafe bootUsed = (start + size + 15) & ~15
    return unsafe UnsafeMutableRawPointer(bitPattern: UInt(symbolAddress(&boot_arena) + start))
  }

  static func allocate(size: UInt32, alignment: UInt32) -> UnsafeMutableRawPointer? {
    let needed = max(size, alignment)
    if unsafe Frames.table == nil { return unsafe allocateAtBoot(needed) }
    if needed > 2048 {
      let frames = (needed + 4095) >> 12
      guard frames <= 1024 else { return nil }
      let order = frames <= 1 ? 0 : 32 - (frames - 1).leadingZeroBitCount
      #if CHECKED
        // What is rare in practice is frequent here.
        if order > 0, unsafe tsc_read() >> 6 & 3 == 0, let address = ScatteredBlocks.allocate(Int(frames)) {
          return unsafe UnsafeMutableRawPointer(bitPattern: UInt(address))
        }
      #endif
      if let frame = Frames.allocate(order: order) {
        unsafe Frames.table[Int(frame.number)].kind = FrameKind.heapBlock.rawValue
        return unsafe frame.pointer
      }
      guard order > 0, let address = ScatteredBlocks.allocate(Int(frames)) else { return nil }
      return unsafe UnsafeMutableRawPointer(bitPattern: UInt(address))
    }
    let index = classIndex(needed)
    let object = unsafe exclusively { unsafe heap_cache_pop(UInt32(index)) ?? refill(index) }
    #if CHECKED
      if let object = unsafe object { unsafe checkFree(object, index) }
    #endif
    return unsafe object
  }

  // SAFETY: with interrupts off the CPU's own lists are nobody else's; who stops the machine in between sees it by `heap_busy`.
  @inline(__always) private static func exclusively<Result>(_ body: () -> Result) -> Result {
    let flags = unsafe interrupts_save()
    unsafe percpu_self()!.pointee.heap_busy = 1
    defer {
      unsafe percpu_self()!.pointee.heap_busy = 0
      unsafe interrupts_restore(flags)
    }
    return body()
  }

  /// An object from the slabs, and some for this CPU's list.
  // SAFETY: bins and slab pages are only touched under `lock` with interrupts off.
  @inline(never) private static func refill(_ index: Int) -> UnsafeMutableRawPointer? {
    lock.acquire()
    defer { lock.release() }
    for _ in 0..<cacheLimit(index) / 2 {
      guard let object = unsafe takeObject(index) else { break }
      _ = unsafe heap_cache_push(UInt32(index), object)
    }
    return unsafe heap_cache_pop(UInt32(index))
  }

  /// Half of this CPU's objects of a size go back to the slabs.
  // SAFETY: as in `refill`.
  @inline(never) private static func drain(_ index: Int) {
    // Pages that are empty then go outside the lock.
    var empty: InlineArray<16, UInt32> = .init(repeating: 0)
    var emptyCount = 0
    lock.acquire()
    for _ in 0..<cacheLimit(index) / 2 {
      guard let object = unsafe heap_cache_pop(UInt32(index)) else { break }
      if let number = unsafe giveObject(object, index) {
        empty[emptyCount] = number
        emptyCount += 1
      }
    }
    lock.release()
    for place in 0..<emptyCount { Frames.release(Frame(empty[place])) }
  }

  /// The free list of a slab page is threaded through its free objects; `references` of the frame's entry
  /// holds the first one's offset + 1, or 0 when the page is full.
  private static func takeObject(_ index: Int) -> UnsafeMutableRawPointer? {
    if unsafe bins[index] == 0 {
      guard let frame = Frames.allocate() else { return nil }
      makeSlab(frame, index)
    }
    let number = unsafe bins[index]
    let entry = unsafe Frames.table + Int(number)
    let page = unsafe Frame(number).pointer
    let offset = unsafe Int(entry.pointee.references) - 1
    let object = unsafe page + offset
    unsafe entry.pointee.references = object.load(as: UInt32.self)
    unsafe entry.pointee.inUse += 1
    if unsafe entry.pointee.references == 0 { unsafe unlink(entry, index) }
    return unsafe object
  }

  #if CHECKED
    // SAFETY: a free object is the heap's, under its lock; its first word is the free list's.
    private static let freePattern: UInt32 = 0x5A5A_5A5A

    private static func markFree(_ object: UnsafeMutableRawPointer, _ index: Int) {
      for offset in stride(from: 4, to: Int(smallest) << index, by: 4) {
        unsafe object.storeBytes(of: freePattern, toByteOffset: offset, as: UInt32.self)
      }
    }

    private static func freeWords(_ object: UnsafeMutableRawPointer, _ index: Int) -> Bool {
      for offset in stride(from: 4, to: Int(smallest) << index, by: 4)
      where unsafe object.load(fromByteOffset: offset, as: UInt32.self) != freePattern { return false }
      return true
    }

    private static func checkFree(_ object: UnsafeMutableRawPointer, _ index: Int) {
      if unsafe freeWords(object, index) { return }
      let address = UInt32(truncatingIfNeeded: UInt(bitPattern: object))
      var text = "heap: the object of \(Int(smallest) << index) bytes at \(hex(address)) was written after it was freed:"
      for offset in stride(from: 0, to: min(Int(smallest) << index, 64), by: 4) {
        text += " " + hex(unsafe object.load(fromByteOffset: offset, as: UInt32.self))
      }
      Panic.stop(text)
    }
  #endif

  private static func makeSlab(_ frame: Frame, _ index: Int) {
    let size = Int(smallest) << index
    let entry = unsafe Frames.table + Int(frame.number)
    unsafe entry.pointee.kind = FrameKind.slab.rawValue
    unsafe entry.pointee.order = UInt8(index)
    unsafe entry.pointee.inUse = 0
    unsafe entry.pointee.references = 1
    var offset = 0
    while offset < pageSize {
      let next = offset + size
      unsafe frame.pointer.storeBytes(of: next < pageSize ? UInt32(next + 1) : 0, toByteOffset: offset, as: UInt32.self)
      #if CHECKED
        unsafe markFree(frame.pointer + offset, index)
      #endif
      offset = next
    }
    unsafe link(entry, frame.number, index)
  }

  private static func link(_ entry: UnsafeMutablePointer<FrameEntry>, _ number: UInt32, _ index: Int) {
    let head = unsafe bins[index]
    unsafe entry.pointee.next = head
    unsafe entry.pointee.previous = 0
    if head != 0 { unsafe Frames.table[Int(head)].previous = number }
    unsafe bins[index] = number
  }

  private static func unlink(_ entry: UnsafeMutablePointer<FrameEntry>, _ index: Int) {
    let next = unsafe entry.pointee.next
    let previous = unsafe entry.pointee.previous
    if previous != 0 { unsafe Frames.table[Int(previous)].next = next } else { unsafe bins[index] = next }
    if next != 0 { unsafe Frames.table[Int(next)].previous = previous }
  }

  static func free(_ pointer: UnsafeMutableRawPointer) {
    let address = UInt32(truncatingIfNeeded: UInt(bitPattern: pointer))
    let number = (address &- directMapBase) >> 12
    guard number < (unsafe Frames.tableCount), unsafe Frames.table[Int(number)].kind == FrameKind.slab.rawValue else {
      return freeBlock(address)
    }
    // The page stays a slab of this size: an object of it is in use.
    let index = unsafe Int(Frames.table[Int(number)].order)
    #if CHECKED
      if unsafe freeWords(pointer, index) { Panic.stop("heap: the object at \(hex(address)) is freed twice") }
      unsafe markFree(pointer, index)
    #endif
    exclusively { if unsafe heap_cache_push(UInt32(index), pointer) > cacheLimit(index) { drain(index) } }
  }

  @inline(never) private static func freeBlock(_ address: UInt32) {
    let arena = unsafe symbolAddress(&boot_arena)
    if address >= arena, address < arena + 16384 { return }
    if ScatteredBlocks.addresses.contains(address) { return ScatteredBlocks.free(address) }
    let number = (address &- directMapBase) >> 12
    precondition(number < (unsafe Frames.tableCount), "free of a foreign pointer")
    Frames.release(Frame(number))
  }

  /// Puts an object back into its page; the page's number if that is empty then, and is no slab any more.
  private static func giveObject(_ object: UnsafeMutableRawPointer, _ index: Int) -> UInt32? {
    // SAFETY: the caller holds `lock`.
    let address = UInt32(truncatingIfNeeded: UInt(bitPattern: object))
    let number = (address &- directMapBase) >> 12
    let entry = unsafe Frames.table + Int(number)
    let first = unsafe entry.pointee.references
    unsafe object.storeBytes(of: first, as: UInt32.self)
    unsafe entry.pointee.references = (address & 0xFFF) + 1
    unsafe entry.pointee.inUse -= 1
    if first == 0 { unsafe link(entry, number, index) }
    // An empty page goes back, unless it is its bin's only one: that would thrash.
    guard unsafe entry.pointee.inUse == 0, unsafe entry.pointee.next != 0 || entry.pointee.previous != 0 else { return nil }
    unsafe unlink(entry, index)
    unsafe entry.pointee.references = 1
    unsafe entry.pointee.kind = FrameKind.used.rawValue
    unsafe entry.pointee.order = 0
    return number
  }
}

/// What the Swift runtime calls for every object and array. `where` gets the block. SPEC: POSIX posix_memalign().
@c(heap_allocate)
public func heapAllocateAligned(_ out: UnsafeMutablePointer<UnsafeMutableRawPointer?>, _ alignment: Int, _ size: Int) -> Int32 {
  guard let block = unsafe Heap.allocate(size: UInt32(size), alignment: UInt32(alignment)) else { return 12 }
  unsafe out.pointee = block
  return 0
}

@c(heap_free)
public func heapFree(_ pointer: UnsafeMutableRawPointer?) {
  if let pointer = unsafe pointer { unsafe Heap.free(pointer) }
}
