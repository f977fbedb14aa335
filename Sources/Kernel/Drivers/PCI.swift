import Machine
import Sync
import SystemABI

/// One PCI function. SPEC: PCI Local Bus 3.0 §6.
public struct PCIFunction {
  public let bus: UInt8
  public let device: UInt8
  public let function: UInt8
  public let vendor: UInt16
  public let product: UInt16
  public let classCode: UInt8
  public let subclass: UInt8
  public let interface: UInt8
  public let interruptLine: UInt8

  func read32(_ offset: UInt8) -> UInt32 { PCI.read(bus, device, function, offset) }
  func write32(_ offset: UInt8, _ value: UInt32) { PCI.write(bus, device, function, offset, value) }
  public func read16(_ offset: UInt8) -> UInt16 { UInt16(truncatingIfNeeded: read32(offset & 0xFC) >> UInt32((offset & 2) * 8)) }
  public func read8(_ offset: UInt8) -> UInt8 { UInt8(truncatingIfNeeded: read32(offset & 0xFC) >> UInt32((offset & 3) * 8)) }

  /// A base address register.
  public enum Bar {
    case ports(UInt16)
    case memory(UInt64)
    case none
  }

  public func bar(_ index: UInt8) -> Bar {
    let value = read32(0x10 + index * 4)
    if value & 1 != 0 { return value & ~3 == 0 ? .none : .ports(UInt16(truncatingIfNeeded: value & ~3)) }
    if value & ~0xF == 0 { return .none }
    var address = UInt64(value & ~0xF)
    if value >> 1 & 3 == 2 { address |= UInt64(read32(0x14 + index * 4)) << 32 }
    return .memory(address)
  }

  /// The offset of the first capability with an id at or behind `start`; nil when there is none. SPEC: §6.7.
  public func capability(_ id: UInt8, after start: UInt8 = 0) -> UInt8? {
    guard read16(6) & 0x10 != 0 else { return nil }
    var offset = start == 0 ? read8(0x34) & 0xFC : read8(start + 1) & 0xFC
    for _ in 0..<48 where offset != 0 {
      if read8(offset) == id { return offset }
      offset = read8(offset + 1) & 0xFC
    }
    return nil
  }

  /// Lets the function decode its windows and be a bus master.
  public func enable() { write32(4, read32(4) & 0xFFFF | 7) }
}

/// Configuration space through ports 0xCF8 and 0xCFC, and the list of what is there.
public enum PCI {
  private static let cell = BootCell<List>()
  final class List {
    var functions: [PCIFunction] = []
  }
  struct Rank: LockRank { static let level: UInt8 = 95 }
  private static let ports = BootCell<InterruptSpinLock<PortWindow, Rank>>()

  public static var functions: [PCIFunction] { cell.isSet ? cell.value.functions : [] }

  static func read(_ bus: UInt8, _ device: UInt8, _ function: UInt8, _ offset: UInt8) -> UInt32 {
    ports.value.withLock { ports in
      ports.write32(0, address(bus, device, function, offset))
      return ports.read32(4)
    }
  }

  static func write(_ bus: UInt8, _ device: UInt8, _ function: UInt8, _ offset: UInt8, _ value: UInt32) {
    ports.value.withLock { ports in
      ports.write32(0, address(bus, device, function, offset))
      ports.write32(4, value)
    }
  }

  private static func address(_ bus: UInt8, _ device: UInt8, _ function: UInt8, _ offset: UInt8) -> UInt32 {
    1 << 31 | UInt32(bus) << 16 | UInt32(device & 31) << 11 | UInt32(function & 7) << 8 | UInt32(offset & 0xFC)
  }

  /// Finds every function on every bus.
  @export(interface) public static func enumerate() {
    ports.set(InterruptSpinLock(PortWindow(base: 0xCF8, count: 8)))
    let list = List()
    for bus in UInt8(0)...255 {
      for device in UInt8(0)..<32 {
        guard read(bus, device, 0, 0) & 0xFFFF != 0xFFFF else { continue }
        let multifunction = read(bus, device, 0, 0x0C) >> 16 & 0x80 != 0
        for function in UInt8(0)..<(multifunction ? 8 : 1) {
          let id = read(bus, device, function, 0)
          guard id & 0xFFFF != 0xFFFF else { continue }
          let kind = read(bus, device, function, 8)
          list.functions.append(
            PCIFunction(
              bus: bus, device: device, function: function, vendor: UInt16(truncatingIfNeeded: id),
              product: UInt16(id >> 16), classCode: UInt8(kind >> 24), subclass: UInt8(kind >> 16 & 0xFF),
              interface: UInt8(kind >> 8 & 0xFF),
              interruptLine: UInt8(read(bus, device, function, 0x3C) & 0xFF)))
        }
      }
      // Buses behind bridges are few; an empty bus 1 ends the search on a plain PC.
      if bus > 0, !list.functions.contains(where: { $0.bus == bus }) { break }
    }
    cell.set(list)
    for function in list.functions {
      log(
        "pci: \(function.bus):\(function.device).\(function.function) \(hex(UInt32(function.vendor), width: 4)):\(hex(UInt32(function.product), width: 4)) class \(hex(UInt32(function.classCode) << 8 | UInt32(function.subclass), width: 4)) irq \(function.interruptLine)"
      )
    }
  }
}
