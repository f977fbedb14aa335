import CMachine
import Primitives

/// The ELF image of `vdso.S` inside the kernel.
public enum VDSOImage {
  public enum Symbol { case vsyscall, landing, signalReturn, rtSignalReturn }

  /// Where a symbol is in the image, in bytes.
  public static func offset(_ symbol: Symbol) -> UInt32 {
    // SAFETY: only the symbols' addresses count.
    let address =
      switch symbol {
      case .vsyscall: unsafe symbolAddress(&vdso_vsyscall)
      case .landing: unsafe symbolAddress(&vdso_landing)
      case .signalReturn: unsafe symbolAddress(&vdso_sigreturn)
      case .rtSignalReturn: unsafe symbolAddress(&vdso_rt_sigreturn)
      }
    return unsafe address - symbolAddress(&vdso_image)
  }

  /// Writes the image, which programs will see at `address`, to a zeroed frame. Without SYSENTER, `__kernel_vsyscall` is an
  /// int and a return.
  public static func copy(to frame: Frame, at address: UInt32) {
    // SAFETY: boot, before the first program.
    unsafe sysenter_landing = address + offset(.landing)
    // SAFETY: the image lies in the kernel's read-only data between its two symbols.
    let image = unsafe UnsafeRawBufferPointer(
      start: UnsafeRawPointer(bitPattern: UInt(symbolAddress(&vdso_image))),
      count: Int(symbolAddress(&vdso_image_end) - symbolAddress(&vdso_image)))
    frame.withMutableBytes { bytes in
      for index in 0..<image.count { bytes[index] = unsafe image[index] }
      guard Processors.features & 1 << 11 == 0 else { return }
      let start = Int(offset(.vsyscall))
      bytes[start] = 0xCD
      bytes[start + 1] = 0x80
      bytes[start + 2] = 0xC3
    }
  }
}
