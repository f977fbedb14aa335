/// ACPI's tables, which the firmware has left in memory. SPEC: ACPI 6.5 §5.2.5 (RSDP), §5.2.6 (headers), §5.2.7 (RSDT).
public struct ACPITables<Memory: PhysicalBytes> {
  let memory: Memory
  private let root: UInt32

  /// `rsdp` is where the loader has found the pointer to them. Nil when there are none.
  public init?(_ memory: Memory, rsdp known: UInt32?) {
    guard let pointer = known ?? Self.find(memory) else { return nil }
    (self.memory, root) = (memory, memory.u32(pointer &+ 16))
    guard root != 0, isValid(root, "RSDT") else { return nil }
  }

  private static func find(_ memory: Memory) -> UInt32? {
    let ebda = UInt32(memory.u16(0x40E)) << 4
    for range in [ebda..<(ebda + 1024), 0xE0000..<0x10_0000] as [Range<UInt32>] {
      for address in stride(from: range.lowerBound, to: range.upperBound, by: 16)
      where memory.has("RSD PTR ", at: address) && memory.sum(address, count: 20) == 0 {
        return address
      }
    }
    return nil
  }

  /// Whether a table of this name is there, whole.
  func isValid(_ table: UInt32, _ name: StaticString) -> Bool {
    guard memory.has(name, at: table) else { return false }
    let length = memory.u32(table &+ 4)
    return length >= 36 && length < 1 << 20 && memory.sum(table, count: length) == 0
  }

  /// The addresses of all tables of a name.
  func all(_ name: StaticString) -> [UInt32] {
    let count = (memory.u32(root &+ 4) - 36) / 4
    return (0..<min(count, 64)).map { memory.u32(root &+ 36 &+ $0 * 4) }.filter { isValid($0, name) }
  }

  func first(_ name: StaticString) -> UInt32? { all(name).first }
}

extension PhysicalBytes {
  fileprivate func has(_ name: StaticString, at address: UInt32) -> Bool {
    var offset: UInt32 = 0
    for byte in name.description.utf8 {
      if u8(address &+ offset) != byte { return false }
      offset += 1
    }
    return true
  }
}

/// The interrupt topology from ACPI's MADT. SPEC: ACPI 6.5 §5.2.12.
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

  /// Reads the MADT; nil when there is no valid one.
  public init?<Memory: PhysicalBytes>(_ tables: ACPITables<Memory>) {
    guard let table = tables.first("APIC") else { return nil }
    read(tables.memory, table)
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
