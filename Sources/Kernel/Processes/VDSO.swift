import Machine
import Memory
import Primitives
import SystemABI
import Sync

/// The page of code that every process maps: `__kernel_vsyscall`, the signal return stubs, the clocks.
public enum VDSO {
  // Until the vDSO image exists, programs get no AT_SYSINFO and use int 0x80.
  public static let base: UInt32 = 0
  public static let entry: UInt32 = 0
  static let signalReturn: UInt32 = 0
  static let rtSignalReturn: UInt32 = 0
  public static let sysenterReturn: UInt32 = 0

  static func map(into space: AddressSpace) throws(Errno) {}
}
