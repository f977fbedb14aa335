import CMachine
import Machine
import Memory
import Primitives
import Sync
import SystemABI
import Threads

/// The code and the time that every process finds mapped just below the kernel: `vdso.S`, and the page it reads.
///
/// SPEC: vdso(7); Intel SDM 2B SYSENTER.
public enum VDSO {
  final class Pages {
    let code: Frame
    let time: Frame
    init(code: Frame, time: Frame) {
      self.code = code
      self.time = time
    }
  }
  private static let pages = BootCell<Pages>()
  /// AT_SYSINFO_EHDR.
  public static let address: UInt32 = 0xBFFF_F000
  static let timeAddress: UInt32 = 0xBFFF_E000
  /// The same page again, where programs of AdrOS look for the tick count, its first word.
  static let tickAddress: UInt32 = 0x007F_E000

  /// AT_SYSINFO: `__kernel_vsyscall`.
  public static var entry: UInt32 { address + VDSOImage.offset(.vsyscall) }
  static var signalReturn: UInt32 { address + VDSOImage.offset(.signalReturn) }
  static var rtSignalReturn: UInt32 { address + VDSOImage.offset(.rtSignalReturn) }

  /// Writes the pages, once, at boot.
  @export(interface) public static func start() throws(Errno) {
    guard let code = Frames.allocateZeroed(), let time = Frames.allocateZeroed() else { throw .noMemory }
    VDSOImage.copy(to: code, at: address)
    Clock.publish(in: time)
    pages.set(Pages(code: code, time: time))
  }

  /// The frame behind an area of this kind.
  static func frame(_ kind: AreaKind) -> Frame? {
    switch kind {
    case .ordinary, .stack: nil
    case .vdso: pages.value.code
    case .time: pages.value.time
    }
  }

  /// Adds the pages to a new address space; the clock's are mapped when they are first read.
  static func map(into space: AddressSpace) throws(Errno) {
    space.map(Area(start: address, end: address + 4096, readable: true, writable: false, executable: true, kind: .vdso))
    space.map(Area(start: timeAddress, end: timeAddress + 4096, readable: true, writable: false, executable: false, kind: .time))
    space.mapIfFree(Area(start: tickAddress, end: tickAddress + 4096, readable: true, writable: false, executable: false, kind: .time))
    let frame = pages.value.code
    Frames.retain(frame)
    do throws(Errno) { try space.table.map(address, frame, writable: false, executable: true) } catch {
      Frames.release(frame)
      throw error
    }
  }
}
