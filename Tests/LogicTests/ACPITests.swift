import BootData
import Testing

/// Memory with tables in it, from 0xE0000 on.
private struct Firmware: PhysicalBytes {
  var bytes = [UInt8](repeating: 0, count: 0x2000)
  static let base: UInt32 = 0xE0000
  func u8(_ address: UInt32) -> UInt8 {
    let index = Int(address) - Int(Self.base)
    return bytes.indices.contains(index) ? bytes[index] : 0
  }

  mutating func put(_ new: [UInt8], at offset: Int) { bytes.replaceSubrange(offset..<(offset + new.count), with: new) }

  /// A table with its header, whose sum is 0.
  mutating func table(_ name: String, _ content: [UInt8], at offset: Int) {
    var table = Array(name.utf8) + Self.word(UInt32(36 + content.count)) + [UInt8](repeating: 0, count: 28) + content
    table[9] = 0 &- table.reduce(0, &+)
    put(table, at: offset)
  }

  static func word(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }

  /// A machine as QEMU's: power management at 0x600, a reset register at 0xCF9.
  init(softOff: [UInt8] = [0x08] + Array("_S5_".utf8) + [0x12, 0x06, 0x04, 0x0A, 0x05, 0x01, 0x00, 0x00], fixedLength: Int = 244) {
    var pointer = Array("RSD PTR ".utf8) + [UInt8](repeating: 0, count: 8) + Self.word(Self.base + 0x100)
    pointer[8] = 0 &- pointer.reduce(0, &+)
    put(pointer, at: 0x40)
    table("RSDT", Self.word(Self.base + 0x200) + Self.word(Self.base + 0x400), at: 0x100)
    var fixed = [UInt8](repeating: 0, count: fixedLength - 36)
    func set(_ value: [UInt8], _ offset: Int) {
      for (index, byte) in value.enumerated() where offset - 36 + index < fixed.count { fixed[offset - 36 + index] = byte }
    }
    set(Self.word(Self.base + 0x600), 40)
    set(Self.word(0xB2) + [0xF1], 48)
    set(Self.word(0x604), 64)
    set(Self.word(1 << 10), 112)
    set([1, 8, 0, 1] + Self.word(0xCF9), 116)
    set([0x0F], 128)
    table("FACP", fixed, at: 0x200)
    table(
      "APIC", Self.word(0xFEE0_0000) + Self.word(1) + [0, 8, 0, 3, 1, 0, 0, 0, 1, 12, 2, 0] + Self.word(0xFEC0_0000) + Self.word(0),
      at: 0x400)
    table("DSDT", [UInt8](repeating: 0x5F, count: 50) + softOff + [UInt8](repeating: 0, count: 30), at: 0x600)
  }
}

@Suite struct ACPITests {
  private func power(_ firmware: Firmware) -> ACPIPower? { ACPITables(firmware, rsdp: nil).flatMap { ACPIPower($0) } }

  @Test func tablesAreFound() throws {
    let tables = try #require(ACPITables(Firmware(), rsdp: nil))
    let topology = try #require(InterruptTopology(tables))
    #expect(topology.processors == [3] && topology.ioapics.map(\.address) == [0xFEC0_0000])
    let power = try #require(ACPIPower(tables))
    #expect(power.controls[0] == 0x604 && power.controls[1] == 0 && power.offTypes[0] == 5 && power.offTypes[1] == 1)
    #expect(power.enable == (0xB2, 0xF1) && power.reset == (0xCF9, 0x0F))
    #expect(ACPITables(Firmware(), rsdp: Firmware.base + 0x41) == nil)
  }

  @Test func softOffInItsForms() {
    let name = Array("_S5_".utf8)
    // A name from the root, a length of two bytes, constants.
    #expect(power(Firmware(softOff: [0x08, 0x5C] + name + [0x12, 0x47, 0x00, 0x02, 0x00, 0x01]))?.offTypes[1] == 1)
    for other in [
      [], [0x07] + name + [0x12, 6, 2, 0, 0], [0x08] + name + [0x13, 6, 2, 0, 0], [0x08] + name + [0x12, 6, 1, 0, 0],
      [0x08] + name + [0x12, 6, 2, 0x0B, 0, 0], [0x08] + name + [0x12, 6, 2, 0x0A, 8, 0],
    ] as [[UInt8]] {
      #expect(power(Firmware(softOff: other)) == nil, "\(other)")
    }
    // A table of ACPI 1.0 knows no register for resets.
    #expect(power(Firmware(fixedLength: 116))?.reset.port == 0)
    #expect(power(Firmware(fixedLength: 100)) == nil)
  }

  /// Any damage is noticed or harmless.
  @Test func damage() {
    var random = RandomNumbers(17)
    for _ in 0..<rounds(2000, long: 200_000) {
      var firmware = Firmware()
      for _ in 0..<(1 + random.next() % 8) { firmware.bytes[Int(random.next() % 0x700)] = UInt8(truncatingIfNeeded: random.next()) }
      // With the sums put right, so that what lies inside is looked at.
      for offset in [0x100, 0x200, 0x400, 0x600] {
        let length = Int(firmware.u32(Firmware.base + UInt32(offset) + 4))
        guard length >= 36, offset + length < firmware.bytes.count else { continue }
        firmware.bytes[offset + 9] &-= firmware.bytes[offset..<(offset + length)].reduce(0, &+)
      }
      guard let tables = ACPITables(firmware, rsdp: Firmware.base + 0x40) else { continue }
      if let power = ACPIPower(tables) { #expect(power.offTypes[0] < 8 && power.controls[0] > 0) }
      _ = InterruptTopology(tables)
    }
  }
}
