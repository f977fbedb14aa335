import CMachine
import SystemABI

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
  /// Bytes of an image.
  public static var size: Int { unsafe areaSize }
  /// An image lies in a block, at a multiple of 64: before it is room for what signal frames have there, behind it for a word.
  public static var alignment: Int { 64 }
  public static var prefix: Int { 128 }
  public static var blockSize: Int { prefix + size + 4 }

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

  /// Makes an image in a block that loads as fresh registers, and what is around it that never changes.
  public static func makeBlock(_ block: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
    // SAFETY: `blockSize` bytes.
    unsafe block.initializeMemory(as: UInt8.self, repeating: 0, count: blockSize)
    let image = unsafe block + prefix
    unsafe image.storeBytes(of: 0xFFFF_FFFF, toByteOffset: 8 - FPUFrame.headerSize, as: UInt32.self)  // the tags: unused
    unsafe reset(image)
    return unsafe image
  }

  public static func reset(_ image: UnsafeMutableRawPointer) {
    // SAFETY: `size` bytes and the word behind them. Zeroes but for the default control words: without a state's bit in its header
    // XRSTOR begins it anew.
    unsafe image.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    unsafe image.storeBytes(of: 0x37F, as: UInt16.self)
    unsafe image.storeBytes(of: 0x1F80, toByteOffset: 24, as: UInt32.self)
    if extended != 0 { unsafe FPUFrame.mark(image) }
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
    unsafe FPUFrame.mark(image)
  }
}

/// The FPU's part of a signal frame: an FSAVE header and an image of `FPUState`, whose unused bytes say what there is of it.
///
/// SPEC: Linux uapi asm/sigcontext.h (`_fpstate_32`, `_fpx_sw_bytes`).
public enum FPUFrame {
  public static var headerSize: Int { 112 }
  public static var size: Int { headerSize + FPUState.size + 4 }
  private static var extendedMagic: UInt32 { 0x4650_5853 }
  private static var endMagic: UInt32 { 0x4650_5845 }

  /// Says that there is more than FXSAVE's part, and where it ends.
  static func mark(_ image: UnsafeMutableRawPointer) {
    // SAFETY: bytes that the processor leaves alone, and the word behind the image.
    let words: [5 of UInt32] = [extendedMagic, UInt32(size), FPUState.extended, 0, UInt32(FPUState.size)]
    for index in words.indices { unsafe image.storeBytes(of: words[index], toByteOffset: 464 + index * 4, as: UInt32.self) }
    unsafe image.storeBytes(of: endMagic, toByteOffset: FPUState.size, as: UInt32.self)
  }

  /// Copies a frame out. A switch of threads meanwhile stores what is there already.
  public static func put(_ image: UnsafeMutableRawPointer, at address: UInt32) throws(Errno) {
    // SAFETY: the block of the running thread's own image; user_copy recovers from faults.
    let header = unsafe image - headerSize
    let control = unsafe image.load(as: UInt32.self)
    unsafe header.storeBytes(of: control | 0xFFFF_0000, as: UInt32.self)
    unsafe header.storeBytes(of: control >> 16 | 0xFFFF_0000, toByteOffset: 4, as: UInt32.self)
    unsafe header.storeBytes(of: control >> 16, toByteOffset: 108, as: UInt32.self)  // the status; 0 above it: an FXSAVE image follows
    guard UserMemory.isUser(address, size) else { throw .badAddress }
    let left = unsafe user_copy(UnsafeMutableRawPointer(bitPattern: UInt(address)), header, UInt32(size))
    if left != 0 { throw .badAddress }
  }

  /// Reads a frame into an image. False when a page of the frame is missing: preemption is off. The image is fit to load either
  /// way: a switch stores registers there, but leaves parts of the header as they are.
  public static func take(_ address: UInt32, into image: UnsafeMutableRawPointer) -> Bool {
    // SAFETY: `size` bytes and a word. What the processor supports is not the frame's to say.
    let supported = unsafe image.load(fromByteOffset: 28, as: UInt32.self)
    let isExtended = unsafe copy(address &+ UInt32(headerSize), into: image)
    // What a frame of old does not have begins anew.
    if isExtended != true, FPUState.extended != 0 {
      unsafe (image + 512).initializeMemory(as: UInt8.self, repeating: 0, count: FPUState.size - 512)
    }
    unsafe image.storeBytes(of: supported, toByteOffset: 28, as: UInt32.self)
    unsafe FPUState.clean(image, mask: supported, legacy: isExtended != true)
    return isExtended != nil
  }

  /// Whether there is more than FXSAVE's part; nil when a page is missing.
  private static func copy(_ address: UInt32, into image: UnsafeMutableRawPointer) -> Bool? {
    // SAFETY: `size` bytes and a word; user_copy recovers from faults.
    guard let source = unsafe UnsafeRawPointer(bitPattern: UInt(address)), unsafe user_copy(image, source, 512) == 0 else { return nil }
    let saysSo =
      unsafe FPUState.extended != 0 && image.load(fromByteOffset: 464, as: UInt32.self) == extendedMagic
      && image.load(fromByteOffset: 480, as: UInt32.self) == UInt32(FPUState.size)
    if !saysSo { return false }
    guard unsafe user_copy(image + 512, source + 512, UInt32(FPUState.size - 508)) == 0 else { return nil }
    return unsafe image.load(fromByteOffset: FPUState.size, as: UInt32.self) == endMagic
  }
}
