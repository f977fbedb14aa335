import CMachine
import Primitives
import SystemABI
import Sync

/// The user half of one address space in PAE tables. The owner's lock guards it. SPEC: Intel SDM 3A §4.4.
@safe public final class PageTable {
  // SAFETY: 32 bytes of heap, 32-aligned; tables below it are frames this object owns.
  private let pdpt: UnsafeMutablePointer<UInt64>
  /// Present user pages.
  public private(set) var residentPages = 0
  /// The most there were; `unmap` brings it up to date.
  private var highest = 0
  public var peakPages: Int { max(highest, residentPages) }

  /// An empty one. Throws `noMemory`.
  public static func make() throws(Errno) -> PageTable {
    var block: UnsafeMutableRawPointer?
    guard unsafe heapAllocateAligned(&block, 32, 32) == 0 else { throw .noMemory }
    return unsafe PageTable(block!.assumingMemoryBound(to: UInt64.self))
  }

  private init(_ pdpt: UnsafeMutablePointer<UInt64>) {
    unsafe self.pdpt = pdpt
    for index in 0..<3 { unsafe pdpt[index] = 0 }
    unsafe pdpt[3] = KernelSpace.directoryEntry
  }

  deinit {
    // SAFETY: no CPU runs on this table any more; user pages are gone, only tables are left.
    for top in 0..<3 {
      let entry = unsafe pdpt[top]
      guard entry & 1 != 0 else { continue }
      let directory = unsafe Self.table(entry)
      for index in 0..<512 {
        let entry = unsafe directory[index]
        if entry & 1 != 0 { Frames.release(Self.frame(entry)) }
      }
      Frames.release(Self.frame(entry))
    }
    unsafe heapFree(UnsafeMutableRawPointer(pdpt))
  }

  /// What CR3 gets.
  public var physicalAddress: UInt32 { unsafe UInt32(UInt(bitPattern: pdpt)) &- 0xC000_0000 }

  @inline(__always) private static func frame(_ entry: UInt64) -> Frame {
    Frame(UInt32(truncatingIfNeeded: (entry & PageBits.addressMask) >> 12))
  }
  @inline(__always) private static func table(_ entry: UInt64) -> UnsafeMutablePointer<UInt64> {
    unsafe frame(entry).pointer.assumingMemoryBound(to: UInt64.self)
  }

  /// The last-level table for an address, or nil.
  @inline(__always) private func leaf(_ va: UInt32) -> UnsafeMutablePointer<UInt64>? {
    let top = unsafe pdpt[Int(va >> 30)]
    guard top & 1 != 0 else { return nil }
    let entry = unsafe Self.table(top)[Int(va >> 21 & 511)]
    return entry & 1 != 0 ? unsafe Self.table(entry) : nil
  }

  private func makeLeaf(_ va: UInt32) throws(Errno) -> UnsafeMutablePointer<UInt64> {
    let topIndex = Int(va >> 30)
    precondition(topIndex < 3)
    if unsafe pdpt[topIndex] & 1 == 0 {
      guard let frame = Frames.allocateZeroed() else { throw .noMemory }
      unsafe pdpt[topIndex] = frame.address | 1
      // The processor caches the PDPT's entries when CR3 is loaded.
      if unsafe cr3_read() == physicalAddress { unsafe cr3_write(physicalAddress) }
    }
    let directory = unsafe Self.table(pdpt[topIndex])
    let index = Int(va >> 21 & 511)
    if unsafe directory[index] & 1 == 0 {
      guard let frame = Frames.allocateZeroed() else { throw .noMemory }
      unsafe directory[index] = frame.address | 7
    }
    return unsafe Self.table(directory[index])
  }

  /// The entry for a page, 0 when there is none.
  public func entry(_ va: UInt32) -> UInt64 {
    guard let table = unsafe leaf(va) else { return 0 }
    return unsafe table[Int(va >> 12 & 511)]
  }

  /// The frame an entry names.
  public static func frame(of entry: UInt64) -> Frame { frame(entry) }

  /// Maps a page, taking over the caller's reference on the frame; an old page there is released.
  public func map(_ va: UInt32, _ frame: Frame, writable: Bool, executable: Bool, copyOnWrite: Bool = false) throws(Errno) {
    let table = unsafe try makeLeaf(va)
    let slot = Int(va >> 12 & 511)
    let old = unsafe table[slot]
    var bits = frame.address | PageBits.present | PageBits.user | PageBits.accessed
    if writable { bits |= PageBits.writable | PageBits.dirty }
    if copyOnWrite { bits |= PageBits.copyOnWrite }
    if executable { Frames.markCode(frame) } else { unsafe bits |= PageBits.noExecute }
    unsafe table[slot] = bits
    if old & 1 != 0 {
      flush(va, pages: 1)
      if old & PageBits.device == 0 { Frames.release(Self.frame(old)) }
    } else {
      residentPages += 1
    }
  }

  /// Maps a page of a device's memory, whose writes may be collected, where nothing is mapped.
  public func mapDevice(_ va: UInt32, _ frame: Frame, writable: Bool, executable: Bool) throws(Errno) {
    let table = unsafe try makeLeaf(va)
    let slot = Int(va >> 12 & 511)
    precondition(unsafe table[slot] & 1 == 0)
    unsafe table[slot] =
      frame.address | PageBits.present | PageBits.user | PageBits.accessed | PageBits.device | MemoryTypes.combiningBits
      | (writable ? PageBits.writable | PageBits.dirty : 0) | (executable ? 0 : PageBits.noExecute)
    residentPages += 1
  }

  /// Removes pages and releases their frames. `flushing` is false when no CPU uses the table any more.
  public func unmap(_ range: Range<UInt32>, flushing: Bool = true) {
    var batch: InlineArray<32, UInt32> = .init(repeating: 0)
    var held = 0
    var first: UInt32 = 0
    var va = range.lowerBound
    highest = peakPages
    while va < range.upperBound {
      guard let table = unsafe leaf(va) else {
        let next = (va & ~0x1F_FFFF) &+ 0x20_0000
        if next < va { break }
        va = next
        continue
      }
      let end = min(range.upperBound, (va & ~0x1F_FFFF) &+ 0x20_0000)
      while va < end {
        let slot = Int(va >> 12 & 511)
        let entry = unsafe table[slot]
        if entry & 1 != 0 {
          unsafe table[slot] = 0
          residentPages -= 1
          if held == 0 { first = va }
          batch[held] = entry & PageBits.device != 0 ? .max : Self.frame(entry).number
          held += 1
          if held == 32 {
            release(batch, held, first, va, flushing)
            held = 0
          }
        }
        va += 4096
      }
    }
    if held > 0 { release(batch, held, first, range.upperBound - 4096, flushing) }
  }

  private func release(_ batch: borrowing InlineArray<32, UInt32>, _ held: Int, _ first: UInt32, _ last: UInt32, _ flushing: Bool) {
    if flushing { flush(first, pages: Int((last - first) >> 12) + 1) }
    for index in 0..<held where batch[index] != .max { Frames.release(Frame(batch[index])) }
  }

  /// Sets the rights of present pages. Copy-on-write pages stay read-only in the table.
  public func protect(_ range: Range<UInt32>, writable: Bool, executable: Bool) {
    forEach(range) { va, entry in
      var bits = unsafe entry & ~(PageBits.writable | PageBits.noExecute)
      if !executable { unsafe bits |= PageBits.noExecute } else if entry & PageBits.device == 0 { Frames.markCode(Self.frame(of: entry)) }
      // Writability comes back through a fault, which knows who shares the page.
      if writable, entry & PageBits.writable != 0 { bits |= PageBits.writable }
      return bits
    }
    flush(range.lowerBound, pages: (range.count) >> 12)
  }

  /// Takes write access away from present pages, for the next write to fault.
  public func writeProtect(_ range: Range<UInt32>) {
    var changed = false
    forEach(range) { va, entry in
      if entry & PageBits.writable != 0 { changed = true }
      return entry & ~PageBits.writable
    }
    if changed { flush(range.lowerBound, pages: range.count >> 12) }
  }

  private func forEach(_ range: Range<UInt32>, _ body: (UInt32, UInt64) -> UInt64) {
    var va = range.lowerBound
    while va < range.upperBound {
      if let table = unsafe leaf(va) {
        let slot = Int(va >> 12 & 511)
        let entry = unsafe table[slot]
        if entry & 1 != 0 { unsafe table[slot] = body(va, entry) }
        va += 4096
      } else {
        va = (va & ~0x1F_FFFF) &+ 0x20_0000
      }
    }
  }

  /// Copies a range's entries to a forked child, both losing write access; frames gain a reference.
  ///
  /// With `shared` the pages stay writable here, and if `writable` there: both see each other's writes.
  public func share(_ range: Range<UInt32>, with child: PageTable, shared: Bool, writable: Bool) throws(Errno) {
    var va = range.lowerBound
    while va < range.upperBound {
      guard let table = unsafe leaf(va) else {
        va = (va & ~0x1F_FFFF) &+ 0x20_0000
        continue
      }
      let end = min(range.upperBound, (va & ~0x1F_FFFF) &+ 0x20_0000)
      var target: UnsafeMutablePointer<UInt64>? = nil
      while va < end {
        let slot = Int(va >> 12 & 511)
        var entry = unsafe table[slot]
        if entry & 1 != 0 {
          if unsafe target == nil { unsafe target = try child.makeLeaf(va) }
          if !shared, entry & PageBits.writable != 0 {
            entry = entry & ~PageBits.writable | PageBits.copyOnWrite
            unsafe table[slot] = entry
          }
          if entry & PageBits.device == 0 { Frames.retain(Self.frame(entry)) }
          unsafe target![slot] = shared && !writable ? entry & ~PageBits.writable : entry
          child.residentPages += 1
        }
        va += 4096
      }
    }
  }

  /// Makes a copy-on-write page writable in place: its frame has no other user.
  public func makeWritable(_ va: UInt32) {
    guard let table = unsafe leaf(va) else { return }
    let slot = Int(va >> 12 & 511)
    unsafe table[slot] = table[slot] & ~PageBits.copyOnWrite | PageBits.writable | PageBits.dirty
    unsafe tlb_invalidate(va)
  }

  /// Drops cached translations of a range on every CPU that runs this table.
  public func flush(_ va: UInt32, pages: Int) {
    enterPreemptionOff()
    let table = physicalAddress
    if unsafe percpu_self()!.pointee.active_pdpt == table {
      if pages > 32 {
        unsafe cr3_write(table)
      } else {
        for page in 0..<UInt32(max(pages, 0)) { unsafe tlb_invalidate(va &+ page << 12) }
      }
    }
    if Processors.count > 1 {
      // SAFETY: the barrier orders the table writes before the look at who uses it; a CPU that loads it later sees them.
      unsafe memory_barrier()
      var mask: UInt32 = 0
      for cpu in 0..<Processors.count where unsafe cpuBlock(cpu).pointee.active_pdpt == table { mask |= 1 << UInt32(cpu) }
      TLB.flush(cpus: mask)
    }
    leavePreemptionOff()
  }
}

extension KernelSpace {
  /// The PDPT entry every address space shares.
  static var directoryEntry: UInt64 { unsafe UInt64(UInt32(UInt(bitPattern: directory)) - 0xC000_0000) | PageBits.present }
}
