import BootData
import CMachine
import Memory
import Primitives
import SystemABI
import Sync

/// Bits of a PAE page-table entry. SPEC: Intel SDM 3A §4.4.2.
public enum PageBits {
  public static let present: UInt64 = 1
  public static let writable: UInt64 = 2
  public static let user: UInt64 = 4
  /// With the page attribute table as `MemoryTypes` sets it: writes are collected; write-through without that table.
  static let writeCombining: UInt64 = 8
  static let cacheDisable: UInt64 = 16
  public static let accessed: UInt64 = 0x20
  public static let dirty: UInt64 = 0x40
  static let large: UInt64 = 0x80
  static let global: UInt64 = 0x100
  /// Ours: a writable private page that is shared until somebody writes.
  public static let copyOnWrite: UInt64 = 0x200
  /// Ours: no frame of the kernel's, but memory of a device.
  public static let device: UInt64 = 0x400
  static let addressMask: UInt64 = 0x000F_FFFF_FFFF_F000
  /// No-execute; zero on processors without it.
  nonisolated(unsafe) public internal(set) static var noExecute: UInt64 = 0
}

/// The kernel's own mappings, shared by every address space through the fourth PDPT entry.
public enum KernelSpace {
  nonisolated(unsafe) static var directory: UnsafeMutableRawPointer! = nil
  /// Physical address of a PDPT with nothing below 3 GiB.
  nonisolated(unsafe) public private(set) static var pdpt: UInt32 = 0
  private static let lock = RawSpinLock()
  /// Tables for stacks and devices, which stay once they are there.
  nonisolated(unsafe) private static var tables: UInt32 = 0
  public static var tableCount: UInt32 { unsafe tables }
  nonisolated(unsafe) private static var nextMMIO: UInt32 = 0xF800_0000
  nonisolated(unsafe) private static var nextStack: UInt32 = 0xF000_0000
  nonisolated(unsafe) private static var freeStacks: UInt32 = 0
  /// Places for stacks whose frames were given back.
  nonisolated(unsafe) private static var bareStacks: [UInt32] = []

  /// Replaces the boot mapping: text read-execute, rodata read, the rest no-execute.
  static func start() {
    // SAFETY: boot, one CPU; every table written here is a fresh frame in the direct map, and the new
    // mapping covers what the old one did above 3 GiB.
    if unsafe cpuid(0x8000_0000, 0).eax >= 0x8000_0001, unsafe cpuid(0x8000_0001, 0).edx & 1 << 20 != 0 {
      unsafe PageBits.noExecute = 1 << 63
    }
    unsafe directory = Frames.allocateZeroed()!.pointer
    let nx = unsafe PageBits.noExecute
    let base = PageBits.present | PageBits.writable | PageBits.global
    for index in 0..<384 {
      setDirectory(index, UInt64(index) << 21 | base | PageBits.large | nx)
    }
    let text = unsafe symbolAddress(&kernel_text_start)..<symbolAddress(&kernel_text_end)
    let readOnlyEnd = unsafe symbolAddress(&kernel_rodata_end)
    let imageEnd = unsafe symbolAddress(&kernel_image_end)
    var large: UInt32 = 0xC000_0000
    while large < imageEnd {
      let table = Frames.allocateZeroed()!
      for slot in 0..<UInt32(512) {
        let va = large + slot << 12
        var bits = PageBits.present | PageBits.global | UInt64(va - 0xC000_0000)
        if text.contains(va) {
        } else if va >= text.upperBound, va < readOnlyEnd {
          bits |= nx
        } else {
          bits |= nx | PageBits.writable
        }
        unsafe table.pointer.storeBytes(of: bits, toByteOffset: Int(slot) * 8, as: UInt64.self)
      }
      setDirectory(Int((large - 0xC000_0000) >> 21), table.address | base)
      large += 0x20_0000
    }
    let top = Frames.allocateZeroed()!
    let entry = unsafe UInt64(UInt32(UInt(bitPattern: directory)) - 0xC000_0000) | PageBits.present
    unsafe top.pointer.storeBytes(of: entry, toByteOffset: 24, as: UInt64.self)
    unsafe pdpt = UInt32(top.address)
    // Other CPUs come up through boot_pdpt, whose identity half they need until they load `pdpt`.
    unsafe withUnsafeMutablePointer(to: &boot_pdpt) {
      unsafe UnsafeMutableRawPointer($0).storeBytes(of: entry, toByteOffset: 24, as: UInt64.self)
    }
    enableProtection()
    unsafe cr3_write(pdpt)
  }

  /// Per CPU: global pages, and SMEP and SMAP where present.
  static func enableProtection() {
    var cr4 = unsafe cr4_read() | 1 << 7 | 1 << 9 | 1 << 10  // PGE, OSFXSR, OSXMMEXCPT
    if unsafe cpuid(0, 0).eax >= 7 {
      let features = unsafe cpuid(7, 0).ebx
      if features & 1 << 7 != 0 { cr4 |= 1 << 20 }
      if features & 1 << 20 != 0 {
        cr4 |= 1 << 21
        unsafe machine_smap = 1
      }
    }
    unsafe cr4_write(cr4)
    unsafe cr0_write(cr0_read() & ~0x4 & ~0x8 | 0x2 | 0x20)  // no EM, no TS; MP, NE
    FPUState.start()
  }

  private static func setDirectory(_ index: Int, _ value: UInt64) {
    unsafe directory.storeBytes(of: value, toByteOffset: index * 8, as: UInt64.self)
  }

  /// The table entry for a kernel address, making the table if needed. `lock` is held.
  private static func entryAddress(_ va: UInt32) -> UInt32 {
    let index = Int((va - 0xC000_0000) >> 21)
    var entry = unsafe directory.load(fromByteOffset: index * 8, as: UInt64.self)
    if entry & PageBits.present == 0 {
      let table = Frames.allocateZeroed()!
      unsafe tables += 1
      entry = table.address | PageBits.present | PageBits.writable
      setDirectory(index, entry)
    }
    return UInt32(entry & PageBits.addressMask) &+ 0xC000_0000 &+ (va >> 12 & 511) * 8
  }

  /// The address of the table entry for `va`, whose table is there from now on.
  static func makeTable(for va: UInt32) -> UInt32 {
    // SAFETY: boot, one CPU.
    entryAddress(va)
  }

  /// Maps device registers, uncached, or device memory whose writes may be collected, and returns their address.
  public static func mapDevice(physical: UInt64, size: UInt32, combinesWrites: Bool = false) -> UInt32 {
    // SAFETY: a fresh range of the device window; the lock orders writers of the shared directory.
    let flags = unsafe interrupts_save()
    lock.acquire()
    let first = UInt32(physical & 0xFFF)
    let pages = (first + size + 4095) >> 12
    let start = unsafe nextMMIO
    unsafe nextMMIO += pages << 12
    precondition(unsafe nextMMIO <= ScatteredBlocks.addresses.lowerBound, "no room for device registers")
    for page in 0..<pages {
      let bits =
        (physical & ~0xFFF) + UInt64(page) << 12 | PageBits.present | PageBits.writable
        | (combinesWrites ? MemoryTypes.combiningBits : PageBits.cacheDisable) | PageBits.global
      unsafe pte_write(entryAddress(start + page << 12), bits | PageBits.noExecute)
    }
    lock.release()
    unsafe interrupts_restore(flags)
    return start + first
  }

  /// The size of a kernel stack; a guard page lies below it.
  public static let stackSize: UInt32 = 16384

  /// A kernel stack: its top. Freed stacks are reused with their frames; nil when memory is exhausted.
  public static func allocateStack() -> UInt32? {
    // SAFETY: as in mapDevice; the lists are threaded through the stacks' top words, and through `bareStacks` for those
    // without frames.
    let flags = unsafe interrupts_save()
    lock.acquire()
    defer {
      lock.release()
      unsafe interrupts_restore(flags)
    }
    if unsafe freeStacks != 0 {
      let top = unsafe freeStacks
      unsafe freeStacks = UnsafePointer<UInt32>(bitPattern: UInt(top - 4))!.pointee
      return top
    }
    let start: UInt32
    if let bare = unsafe bareStacks.popLast() {
      start = bare
    } else {
      start = unsafe nextStack
      guard start < 0xF7DF_0000 else { return nil }
      unsafe nextStack = start + stackSize + 4096
    }
    guard mapStack(start) else {
      unsafe bareStacks.append(start)
      return nil
    }
    return start + stackSize + 4096
  }

  /// Frames for the pages above the guard; all or none. They are not global, so that loading CR3 forgets them.
  private static func mapStack(_ start: UInt32) -> Bool {
    let pages = stackSize >> 12
    var frames: InlineArray<8, Frame> = .init(repeating: Frame(0))
    for page in 0..<pages {
      guard let frame = Frames.allocate() else {
        for other in 0..<page { Frames.release(frames[Int(other)]) }
        return false
      }
      frames[Int(page)] = frame
    }
    for page in 0..<pages {
      let bits = frames[Int(page)].address | PageBits.present | PageBits.writable
      unsafe pte_write(entryAddress(start + (page + 1) << 12), bits | PageBits.noExecute)
    }
    return true
  }

  public static func freeStack(top: UInt32) {
    // SAFETY: the caller's thread no longer runs on it.
    let flags = unsafe interrupts_save()
    lock.acquire()
    unsafe UnsafeMutablePointer<UInt32>(bitPattern: UInt(top - 4))!.pointee = freeStacks
    unsafe freeStacks = top
    lock.release()
    unsafe interrupts_restore(flags)
  }

  /// Gives the frames of unused stacks back: memory is short.
  public static func trimStacks() {
    // SAFETY: stacks on the free list belong to nobody; their frames go only when no CPU can have a translation left.
    enterPreemptionOff()
    while true {
      let flags = unsafe interrupts_save()
      lock.acquire()
      let top = unsafe freeStacks
      if top == 0 {
        lock.release()
        unsafe interrupts_restore(flags)
        break
      }
      unsafe freeStacks = UnsafePointer<UInt32>(bitPattern: UInt(top - 4))!.pointee
      let start = top - stackSize - 4096
      var frames: InlineArray<8, Frame> = .init(repeating: Frame(0))
      for page in 0..<(stackSize >> 12) {
        let entry = entryAddress(start + (page + 1) << 12)
        frames[Int(page)] = unsafe Frame(UInt32(truncatingIfNeeded: (pte_read(entry) & PageBits.addressMask) >> 12))
        unsafe pte_write(entry, 0)
      }
      lock.release()
      unsafe interrupts_restore(flags)
      unsafe cr3_write(cr3_read())
      TLB.flush(cpus: Processors.mask)
      for page in 0..<(stackSize >> 12) { Frames.release(frames[Int(page)]) }
      let again = unsafe interrupts_save()
      lock.acquire()
      unsafe bareStacks.append(start)
      lock.release()
      unsafe interrupts_restore(again)
    }
    leavePreemptionOff()
  }

  /// Whether an address is in a guard page of the stack area.
  static func isStackGuard(_ va: UInt32) -> Bool {
    va >= 0xF000_0000 && va < (unsafe nextStack) && (va - 0xF000_0000) % (stackSize + 4096) < 4096
  }
}

/// Physical memory as firmware left it, through the direct map; beyond it, frame windows.
struct FirmwareMemory: PhysicalBytes {
  func u8(_ address: UInt32) -> UInt8 {
    // SAFETY: the boot mapping and the direct map both cover the first 768 MiB. ACPI's tables lie at the end of memory.
    if address < 0x3000_0000 { return unsafe UnsafePointer<UInt8>(bitPattern: UInt(address &+ 0xC000_0000))!.pointee }
    guard FrameWindows.exist else { return 0 }
    let page = unsafe FrameWindows.open(Frame(address >> 12))
    defer { FrameWindows.close() }
    return unsafe page[Int(address & 0xFFF)]
  }
}
