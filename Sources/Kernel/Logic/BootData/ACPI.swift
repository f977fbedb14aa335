/// The interrupt topology from ACPI's MADT.
///
/// SPEC: ACPI 6.5 §5.2.5 (RSDP), §5.2.12 (MADT).
public struct InterruptTopology: Sendable {
  /// An interrupt controller for devices: where its registers are and its first global interrupt.
  public struct IOAPIC: Equatable, Sendable {
    public var id: UInt8
    public var address: UInt32
    public var base: UInt32
  }
  /// An ISA interrupt that is wired elsewhere, or with another polarity.
  public struct Override: Equatable, Sendable {
    public var isa: UInt8
    public var global: UInt32
    public var activeLow: Bool
    public var level: Bool
  }
  public var localAPIC: UInt32 = 0xFEE0_0000
  public var processors: [UInt8] = []
  public var ioapics: [IOAPIC] = []
  public var overrides: [Override] = []

  /// Finds and reads the MADT; nil when there is no valid one.
  public init?<Memory: PhysicalBytes>(memory: Memory, rsdp known: UInt32?) {
    guard let root = known ?? Self.findRSDP(memory) else { return nil }
    let rsdt = memory.u32(root &+ 16)
    guard rsdt != 0, Self.valid(memory, rsdt, "RSDT") else { return nil }
    let count = (memory.u32(rsdt &+ 4) - 36) / 4
    for index in 0..<min(count, 64) {
      let table = memory.u32(rsdt &+ 36 &+ index * 4)
      if Self.valid(memory, table, "APIC") {
        read(memory, table)
        return
      }
    }
    return nil
  }

  private static func findRSDP<Memory: PhysicalBytes>(_ memory: Memory) -> UInt32? {
    let ebda = UInt32(memory.u16(0x40E)) << 4
    for range in [ebda..<(ebda + 1024), 0xE0000..<0x10_0000] as [Range<UInt32>] {
      for address in stride(from: range.lowerBound, to: range.upperBound, by: 16)
      where matches(memory, address, "RSD PTR ") && memory.sum(address, count: 20) == 0 {
        return address
      }
    }
    return nil
  }

  private static func matches<Memory: PhysicalBytes>(_ memory: Memory, _ address: UInt32, _ name: StaticString) -> Bool {
    var offset: UInt32 = 0
    for scalar in name.description.utf8 {
      if memory.u8(address &+ offset) != scalar { return false }
      offset += 1
    }
    return true
  }

  private static func valid<Memory: PhysicalBytes>(_ memory: Memory, _ table: UInt32, _ name: StaticString) -> Bool {
    guard matches(memory, table, name) else { return false }
    let length = memory.u32(table &+ 4)
    return length >= 36 && length < 1 << 20 && memory.sum(table, count: length) == 0
  }

  private mutating func read<Memory: PhysicalBytes>(_ memory: Memory, _ table: UInt32) {
    let length = memory.u32(table &+ 4)
    localAPIC = memory.u32(table &+ 36)
    var offset: UInt32 = 44
    while offset + 2 <= length {
      let entry = table &+ offset
      let size = UInt32(memory.u8(entry &+ 1))
      guard size >= 2, offset + size <= length else { return }
      switch memory.u8(entry) {
      case 0 where size >= 8:
        if memory.u32(entry &+ 4) & 1 != 0 { processors.append(memory.u8(entry &+ 3)) }
      case 1 where size >= 12:
        ioapics.append(
          IOAPIC(id: memory.u8(entry &+ 2), address: memory.u32(entry &+ 4), base: memory.u32(entry &+ 8)))
      case 2 where size >= 10:
        let flags = memory.u16(entry &+ 8)
        overrides.append(
          Override(
            isa: memory.u8(entry &+ 3), global: memory.u32(entry &+ 4), activeLow: flags & 3 == 3,
            level: flags >> 2 & 3 == 3))
      default: break
      }
      offset += size
    }
  }
}
