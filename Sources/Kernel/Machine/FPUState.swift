import CMachine

/// What of a program's registers beyond the general ones is kept with each thread: the x87's and SSE's, and AVX's where the
/// processor has them.
///
/// SPEC: Intel SDM 1 §13 (XSAVE), 2A (FXSAVE).
public enum FPUState {
  /// Bits of XCR0: x87, SSE, AVX.
  private static var wanted: UInt32 { 7 }
  nonisolated(unsafe) private static var states: UInt32 = 0
  nonisolated(unsafe) private static var areaSize = 512

  /// The states that XSAVE keeps; 0 where only FXSAVE is there.
  public static var extended: UInt32 { unsafe states }
  /// Bytes of an image, which lies at a multiple of 64.
  public static var size: Int { unsafe areaSize }
  public static var alignment: Int { 64 }
  /// 512 for FXSAVE's part, 64 for the header, 256 for AVX.
  private static var extendedSize: Int { 832 }

  /// Per CPU: turns XSAVE on if there is one that keeps AVX's registers.
  static func start() {
    // SAFETY: all CPUs are alike; the first one's answers are there before a thread has an image.
    guard unsafe cpuid(1, 0).ecx & 1 << 26 != 0, unsafe cpuid(0, 0).eax >= 13, unsafe cpuid(13, 0).eax & wanted == wanted else { return }
    unsafe cr4_write(cr4_read() | 1 << 18)
    unsafe xcr0_write(wanted)
    guard Int(unsafe cpuid(13, 0).ebx) == extendedSize else {
      unsafe cr4_write(cr4_read() & ~(1 << 18))
      return
    }
    unsafe areaSize = extendedSize
    unsafe states = wanted
  }

  /// Makes an image that loads as fresh registers.
  public static func reset(_ image: UnsafeMutableRawPointer) {
    // SAFETY: `size` bytes. Zeroes but for the default control words: without a state's bit in its header XRSTOR begins it anew.
    unsafe image.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    unsafe image.storeBytes(of: 0x37F, as: UInt16.self)
    unsafe image.storeBytes(of: 0x1F80, toByteOffset: 24, as: UInt32.self)
  }

  /// After a change from outside: what an image may not say is taken out, so that loading it cannot fail. `legacy` says that the
  /// x87's and SSE's part was written: it counts, whatever the header says.
  public static func clean(_ image: UnsafeMutableRawPointer, mask: UInt32, legacy: Bool) {
    // SAFETY: `size` bytes; the header lies behind the FXSAVE image.
    let control = unsafe image.load(fromByteOffset: 24, as: UInt32.self)
    unsafe image.storeBytes(of: control & (mask == 0 ? 0xFFBF : mask), toByteOffset: 24, as: UInt32.self)
    guard extended != 0 else { return }
    let present = unsafe image.load(fromByteOffset: 512, as: UInt32.self) & wanted | (legacy ? 3 : 0)
    unsafe image.storeBytes(of: present, toByteOffset: 512, as: UInt32.self)
    for offset in stride(from: 516, to: 576, by: 4) { unsafe image.storeBytes(of: 0, toByteOffset: offset, as: UInt32.self) }
  }
}
