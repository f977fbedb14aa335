/// A range of physical memory.
public struct MemoryRange: Equatable, Sendable {
  public var start: UInt64
  public var end: UInt64
  public init(start: UInt64, end: UInt64) {
    self.start = start
    self.end = end
  }
}

/// A file the boot loader put in memory.
public struct BootModule: Equatable, Sendable {
  public var start: UInt32
  public var end: UInt32
}

/// What the boot loader says: usable memory, modules, the command line, the ACPI root.
///
/// SPEC: Multiboot 0.6.96 §3.3, Multiboot2 §3.6.
public struct BootInformation: Sendable {
  public var usable: [MemoryRange] = []
  public var modules: [BootModule] = []
  public var commandLine: [UInt8] = []
  public var loader: [UInt8] = []
  /// A frame buffer that the loader has set up: pixels of 32 bits, in place of the text mode.
  public struct Framebuffer: Equatable, Sendable {
    public var address: UInt64
    /// Bytes from one line to the next.
    public var pitch: UInt32
    public var width: UInt32
    public var height: UInt32
  }
  public var framebuffer: Framebuffer?
  /// Physical address of a copy of the ACPI RSDP, where the loader gives one.
  public var rsdp: UInt32?

  public static let multiboot1Magic: UInt32 = 0x2BAD_B002
  public static let multiboot2Magic: UInt32 = 0x36D7_6289

  /// Reads the loader's structure at `address`; nil when `magic` is neither Multiboot version's.
  public init?<Memory: PhysicalBytes>(magic: UInt32, address: UInt32, memory: Memory) {
    switch magic {
    case Self.multiboot1Magic: readMultiboot1(address, memory)
    case Self.multiboot2Magic: readMultiboot2(address, memory)
    default: return nil
    }
  }

  private mutating func readMultiboot1<Memory: PhysicalBytes>(_ base: UInt32, _ memory: Memory) {
    let flags = memory.u32(base)
    if flags & 1 << 2 != 0 { commandLine = memory.string(memory.u32(base &+ 16)) }
    if flags & 1 << 9 != 0 { loader = memory.string(memory.u32(base &+ 64)) }
    if flags & 1 << 3 != 0 {
      let count = min(memory.u32(base &+ 20), 64)
      let list = memory.u32(base &+ 24)
      for index in 0..<count {
        let entry = list &+ index * 16
        modules.append(BootModule(start: memory.u32(entry), end: memory.u32(entry &+ 4)))
      }
    }
    if flags & 1 << 6 != 0 {
      let length = min(memory.u32(base &+ 44), 65536)
      let list = memory.u32(base &+ 48)
      var offset: UInt32 = 0
      while offset + 24 <= length {
        let entry = list &+ offset
        addUsable(start: memory.u64(entry &+ 4), length: memory.u64(entry &+ 12), kind: memory.u32(entry &+ 20))
        offset += max(memory.u32(entry) & 0xFFFF, 20) + 4
      }
    } else if flags & 1 != 0 {
      addUsable(start: 0, length: UInt64(memory.u32(base &+ 4)) << 10, kind: 1)
      addUsable(start: 0x10_0000, length: UInt64(memory.u32(base &+ 8)) << 10, kind: 1)
    }
  }

  private mutating func readMultiboot2<Memory: PhysicalBytes>(_ base: UInt32, _ memory: Memory) {
    let total = min(memory.u32(base), 1 << 20)
    var offset: UInt32 = 8
    while offset + 8 <= total {
      let tag = base &+ offset
      let size = memory.u32(tag &+ 4)
      guard size >= 8, size <= total - offset else { return }
      switch memory.u32(tag) {
      case 0: return
      case 1: commandLine = memory.string(tag &+ 8, limit: Int(size - 8))
      case 2: loader = memory.string(tag &+ 8, limit: Int(size - 8))
      case 3: modules.append(BootModule(start: memory.u32(tag &+ 8), end: memory.u32(tag &+ 12)))
      case 6:
        let step = max(memory.u32(tag &+ 8), 24)
        var entry: UInt32 = 16
        while entry + 24 <= size {
          let at = tag &+ entry
          addUsable(start: memory.u64(at), length: memory.u64(at &+ 8), kind: memory.u32(at &+ 16))
          entry += step
        }
      // Direct colour, red, green and blue from the highest of three bytes down.
      case 8 where size >= 38 && memory.u8(tag &+ 29) == 1 && memory.u8(tag &+ 28) == 32 && memory.u8(tag &+ 32) == 16:
        framebuffer = Framebuffer(
          address: memory.u64(tag &+ 8), pitch: memory.u32(tag &+ 16), width: memory.u32(tag &+ 20), height: memory.u32(tag &+ 24))
      case 14, 15: rsdp = tag &+ 8
      default: break
      }
      offset += (size + 7) & ~7
    }
  }

  private mutating func addUsable(start: UInt64, length: UInt64, kind: UInt32) {
    let (end, overflow) = start.addingReportingOverflow(length)
    if kind == 1, !overflow, length > 0 { usable.append(MemoryRange(start: start, end: end)) }
  }
}
