import Machine
import Memory
import Primitives
import Sync
import SystemABI
import Threads

/// The page of code that every process maps just below the kernel: `__kernel_vsyscall`, which glibc calls instead of
/// `int $0x80` when AT_SYSINFO names it.
///
/// SPEC: vdso(7); Intel SDM 2B SYSENTER. The page is no ELF image yet, so AT_SYSINFO_EHDR is not given.
public enum VDSO {
  final class Page {
    let frame: Frame
    init(_ frame: Frame) { self.frame = frame }
  }
  private static let page = BootCell<Page>()
  static var address: UInt32 { 0xBFFF_F000 }
  /// AT_SYSINFO_EHDR: none.
  public static var base: UInt32 { 0 }
  /// AT_SYSINFO: 0 on processors without SYSENTER, whose programs use int 0x80.
  public static var entry: UInt32 { page.isSet ? address : 0 }
  static var signalReturn: UInt32 { 0 }
  static var rtSignalReturn: UInt32 { 0 }

  /// push ecx, edx, ebp; mov ebp, esp; sysenter; int $0x80; pop ebp, edx, ecx; ret. The int is where a restarted call
  /// resumes: two bytes before the landing pad.
  private static let code: [14 of UInt8] = [0x51, 0x52, 0x55, 0x89, 0xE5, 0x0F, 0x34, 0xCD, 0x80, 0x5D, 0x5A, 0x59, 0xC3, 0x90]
  /// Where SYSENTER calls return to: behind the int.
  public static var sysenterReturn: UInt32 { address + 9 }

  /// Writes the page, once, at boot.
  public static func start() throws(Errno) {
    guard Processors.features & 1 << 11 != 0 else { return }
    guard let frame = Frames.allocateZeroed() else { throw .noMemory }
    frame.withMutableBytes { bytes in
      for index in code.indices { bytes[index] = code[index] }
    }
    page.set(Page(frame))
  }

  static func map(into space: AddressSpace) throws(Errno) {
    guard page.isSet else { return }
    let frame = page.value.frame
    space.map(Area(start: address, end: address + 4096, readable: true, writable: false, executable: true))
    Frames.retain(frame)
    do throws(Errno) { try space.table.map(address, frame, writable: false, executable: true) } catch {
      Frames.release(frame)
      throw error
    }
  }
}
