import Machine
import SystemABI
import VFS

/// /dev/fb0: the display's memory for programs that draw themselves. SPEC: Linux fb/api.rst; uapi linux/fb.h.
final class FramebufferDevice: Device, OpenFile {
  private let framebuffer: Framebuffer
  init(_ framebuffer: Framebuffer) { self.framebuffer = framebuffer }

  func open(_ inode: Inode, flags: UInt32) throws(Errno) -> any OpenFile { self }
  var isSeekable: Bool { true }

  var memory: DeviceMemory? {
    // A loader's may begin inside a page, which has something else in it, too.
    if framebuffer.physical & 0xFFF != 0 { return nil }
    return DeviceMemory(firstFrame: UInt32(truncatingIfNeeded: framebuffer.physical >> 12), pages: framebuffer.bytes >> 12)
  }

  // MARK: As a file

  func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    var total = 0
    while buffer.count > 0, offset + UInt64(total) < UInt64(framebuffer.bytes) {
      let start = UInt32(offset) + UInt32(total)
      let count = min(UInt32(clamping: buffer.count), 4096, framebuffer.bytes - start)
      do throws(Errno) {
        total += try buffer.put(framebuffer.window.bytes(start..<(start + count)).span)
      } catch {
        if total > 0 { break }
        throw error
      }
    }
    return total
  }

  func write(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> (Int, UInt64) {
    guard offset < UInt64(framebuffer.bytes) else { throw buffer.count == 0 ? .invalidArgument : .fileTooLarge }
    var total = 0
    while buffer.count > 0, offset + UInt64(total) < UInt64(framebuffer.bytes) {
      let start = UInt32(offset) + UInt32(total)
      do throws(Errno) {
        let bytes = try buffer.takeBytes(limit: Int(min(4096, framebuffer.bytes - start)))
        framebuffer.window.write(bytes.span, at: start)
        total += bytes.count
      } catch {
        if total > 0 { break }
        throw error
      }
    }
    return (total, offset + UInt64(total))
  }

  // MARK: Control

  func control(_ command: UInt32, _ argument: UInt32, _ description: FileDescription) throws(Errno) -> Int32 {
    switch command {
    case 0x4600: try put(variable, argument)  // FBIOGET_VSCREENINFO
    case 0x4601: try setMode(argument)  // FBIOPUT_VSCREENINFO
    case 0x4602: try put(fixed, argument)  // FBIOGET_FSCREENINFO
    case 0x4606: try pan(argument)  // FBIOPAN_DISPLAY
    case 0x4604, 0x4605: throw .invalidArgument  // FBIOGETCMAP, FBIOPUTCMAP: colours are direct
    default: throw .inappropriateIOCTLForDevice
    }
    return 0
  }

  private func put(_ words: [UInt32], _ address: UInt32) throws(Errno) {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(words.count * 4)
    for word in words { for index in 0..<4 { bytes.append(UInt8(truncatingIfNeeded: word >> UInt32(index * 8))) } }
    try UserMemory.write(bytes.span, to: address)
  }

  /// `struct fb_fix_screeninfo`: 68 bytes.
  private var fixed: [UInt32] {
    // id, smem_start, smem_len, type (packed pixels), type_aux, visual (true colour)
    var words: [UInt32] = [0x4F72_6441, 0x4246_2053, 0, 0, UInt32(truncatingIfNeeded: framebuffer.physical), framebuffer.bytes, 0, 0, 2]
    // xpanstep and ypanstep, ywrapstep, line_length, mmio_start, mmio_len, accel, capabilities and reserved
    words += [framebuffer.canPan ? 1 << 16 : 0, 0, framebuffer.pitch, 0, 0, 0, 0, 0]
    return words
  }

  /// `struct fb_var_screeninfo`: 160 bytes.
  private var variable: [UInt32] {
    var words: [UInt32] = [framebuffer.width, framebuffer.height, framebuffer.width, framebuffer.lines, 0, framebuffer.firstLine, 32, 0]
    // Red, green, blue and transparency: offset, length, whether the highest bit is at the right.
    words += [16, 8, 0, 8, 8, 0, 0, 8, 0, 0, 0, 0]
    // nonstd, activate, height and width in millimetres (not known), and the rest of the timing
    words += [0, 0, .max, .max]
    return words + [UInt32](repeating: 0, count: 40 - words.count)
  }

  /// The mode is chosen when the system starts: only its place in memory can be changed.
  private func setMode(_ address: UInt32) throws(Errno) {
    let (width, height, depth) = (
      try UserMemory.read32(address), try UserMemory.read32(address &+ 4), try UserMemory.read32(address &+ 24)
    )
    let activate = try UserMemory.read32(address &+ 84)
    guard width == framebuffer.width, height == framebuffer.height, depth == 32,
      try UserMemory.read32(address &+ 8) <= framebuffer.width, try UserMemory.read32(address &+ 12) <= framebuffer.lines
    else { throw .invalidArgument }
    // FB_ACTIVATE_TEST
    if activate & 15 != 2 { try pan(address) }
    try put(variable, address)
  }

  private func pan(_ address: UInt32) throws(Errno) {
    let (x, y) = (try UserMemory.read32(address &+ 16), try UserMemory.read32(address &+ 20))
    guard x == 0, y <= framebuffer.lines - framebuffer.height else { throw .invalidArgument }
    framebuffer.show(from: y)
  }
}
