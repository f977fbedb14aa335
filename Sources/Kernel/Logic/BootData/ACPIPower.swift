/// How ACPI turns a machine off, and resets it. SPEC: ACPI 6.5 §5.2.9 (FADT), §7.4.2 (\_S5), §4.8.3.2 (PM1 control).
public struct ACPIPower: Sendable {
  /// PM1a_CNT, and PM1b_CNT or 0; what their SLP_TYP fields are for soft off.
  public var controls: [2 of UInt16] = [0, 0]
  public var offTypes: [2 of UInt8] = [0, 0]
  /// Where a byte gives ACPI the control; port 0 where it has it always.
  public var enable: (port: UInt16, value: UInt8) = (0, 0)
  /// Where a byte resets the machine; port 0 where none does.
  public var reset: (port: UInt16, value: UInt8) = (0, 0)

  /// Reads the FADT, and `\_S5` in the DSDT and its like; nil where there is no such thing.
  public init?<Memory: PhysicalBytes>(_ tables: ACPITables<Memory>) {
    let memory = tables.memory
    guard let fixed = tables.first("FACP"), memory.u32(fixed &+ 4) >= 116 else { return nil }
    let ports = [memory.u32(fixed &+ 64), memory.u32(fixed &+ 68)]
    guard ports[0] > 0, ports[0] < 0x10000, ports[1] < 0x10000 else { return nil }
    controls = [UInt16(ports[0]), UInt16(ports[1])]
    if let port = UInt16(exactly: memory.u32(fixed &+ 48)) { enable = (port, memory.u8(fixed &+ 52)) }
    // RESET_REG_SUP, a register of one byte in the space of the ports.
    if memory.u32(fixed &+ 4) >= 129, memory.u32(fixed &+ 112) >> 10 & 1 != 0, memory.u8(fixed &+ 116) == 1,
      memory.u32(fixed &+ 124) == 0, let port = UInt16(exactly: memory.u32(fixed &+ 120))
    {
      reset = (port, memory.u8(fixed &+ 128))
    }
    let description = memory.u32(fixed &+ 40)
    for table in (tables.isValid(description, "DSDT") ? [description] : []) + tables.all("SSDT") {
      if let types = Self.softOff(memory, table) {
        offTypes = types
        return
      }
    }
    return nil
  }

  /// The first two numbers of the package `_S5_`. SPEC: ACPI 6.5 §20.2, NameOp and PackageOp.
  private static func softOff<Memory: PhysicalBytes>(_ memory: Memory, _ table: UInt32) -> [2 of UInt8]? {
    let end = memory.u32(table &+ 4)
    // A name, a package with its length, two numbers: that much must be there.
    guard end > 36 + 16 else { return nil }
    for start in 37..<(end - 16) {
      let place = table &+ start
      guard memory.u32(place) == 0x5F35_535F, memory.u8(place &+ 4) == 0x12 else { continue }
      let before = memory.u8(place &- 1)
      guard before == 0x08 || before == 0x5C && memory.u8(place &- 2) == 0x08 else { continue }
      // The upper two bits of the length's first byte are how many follow it; then the count of elements.
      var next = place &+ 6 &+ UInt32(memory.u8(place &+ 5) >> 6)
      guard memory.u8(next) >= 2 else { continue }
      next = next &+ 1
      guard let first = number(memory, &next), let second = number(memory, &next) else { continue }
      return [first, second]
    }
    return nil
  }

  /// ZeroOp, OneOp or a byte behind BytePrefix, of three bits.
  private static func number<Memory: PhysicalBytes>(_ memory: Memory, _ place: inout UInt32) -> UInt8? {
    let operation = memory.u8(place)
    place = place &+ 1
    if operation == 0 || operation == 1 { return operation }
    guard operation == 0x0A else { return nil }
    let value = memory.u8(place)
    place = place &+ 1
    return value < 8 ? value : nil
  }
}
