import Machine
import Primitives
import SystemABI
import VFS

/// A range of a disk as a block device.
public final class Partition: BlockDevice {
  private let disk: any BlockDevice
  private let firstSector: UInt64
  public let sectorCount: UInt64
  init(_ disk: any BlockDevice, start: UInt64, count: UInt64) {
    self.disk = disk
    firstSector = start
    sectorCount = count
  }
  public func start(_ request: BlockRequest) {
    request.move(by: firstSector)
    disk.start(request)
  }
}

/// Disks: finding them, their partitions, their names.
public enum Disks {
  /// Starts every disk driver and registers what it finds.
  @export(interface) public static func start() {
    var letter = UInt8(0)
    for function in PCI.functions where function.vendor == 0x1AF4 && (function.product == 0x1001 || function.product == 0x1042) {
      guard let disk = VirtioBlock(function) else { continue }
      register(disk, prefix: "vd", index: letter, major: 254, minorBase: UInt32(letter) * 16)
      letter += 1
    }
    guard let controller = PCI.functions.first(where: { $0.classCode == 1 && $0.subclass == 1 }) else { return }
    let busMaster = busMaster(of: controller)
    let channels = [
      ATAChannel(command: 0x1F0, control: 0x3F6, line: 14, busMaster: busMaster),
      ATAChannel(command: 0x170, control: 0x376, line: 15, busMaster: busMaster.map { $0 + 8 }),
    ]
    for (index, channel) in channels.enumerated() {
      for slave in [false, true] {
        guard let disk = ATADisk(channel, slave: slave) else { continue }
        let position = UInt8(index * 2 + (slave ? 1 : 0))
        register(disk, prefix: "hd", index: position, major: index == 0 ? 3 : 22, minorBase: slave ? 64 : 0)
      }
    }
  }

  /// Where an IDE controller's bus-master registers are, if it has any.
  private static func busMaster(of controller: PCIFunction) -> UInt16? {
    guard controller.read8(9) & 0x80 != 0, case .ports(let base) = controller.bar(4), base != 0 else { return nil }
    controller.enable()
    return base
  }

  private static func register(_ disk: any BlockDevice, prefix: String, index: UInt8, major: UInt32, minorBase: UInt32) {
    var name = prefix
    name.unicodeScalars.append(Unicode.Scalar(97 + index))
    log("disk: \(name), \(disk.sectorCount / 2048) MiB")
    DeviceRegistry.register(
      name, block: true, major: major, minor: minorBase,
      BlockNode(disk, number: DeviceNumber(major: major, minor: minorBase)))
    for (number, range) in partitions(disk) {
      let part = Partition(disk, start: range.lowerBound, count: range.upperBound - range.lowerBound)
      let minor = minorBase + UInt32(number)
      DeviceRegistry.register(
        "\(name)\(number)", block: true, major: major, minor: minor,
        BlockNode(part, number: DeviceNumber(major: major, minor: minor)))
      log("disk: \(name)\(number), \(part.sectorCount / 2048) MiB")
    }
  }

  /// The partitions of an MBR or GPT. SPEC: UEFI 2.10 §5.2.1, §5.3.
  private static func partitions(_ disk: any BlockDevice) -> [(Int, Range<UInt64>)] {
    guard disk.sectorCount > 64, let frame = Frames.allocate() else { return [] }
    defer { Frames.release(frame) }
    guard (try? BlockRequest.readStart(of: disk, sectors: 8, into: frame)) != nil else { return [] }
    var found: [(Int, Range<UInt64>)] = []
    var isGPT = false
    frame.withBytes { bytes in
      guard bytes.u16(510) == 0xAA55 else { return }
      for index in 0..<4 {
        let at = 446 + index * 16
        let type = bytes[at + 4]
        if type == 0xEE { isGPT = true }
        let start = UInt64(bytes.u32(at + 8) ?? 0)
        let count = UInt64(bytes.u32(at + 12) ?? 0)
        if type != 0, type != 0xEE, count > 0, start > 0, start + count <= disk.sectorCount {
          found.append((index + 1, start..<(start + count)))
        }
      }
      if isGPT, bytes.u64(512) == 0x5452_4150_2049_4645 {
        for index in 0..<16 {
          let at = 1024 + index * 128
          guard at + 128 <= bytes.count, bytes.u64(at) != 0 || bytes.u64(at + 8) != 0 else { continue }
          let start = bytes.u64(at + 32) ?? 0
          let end = bytes.u64(at + 40) ?? 0
          if start > 0, end >= start, end < disk.sectorCount { found.append((index + 1, start..<(end + 1))) }
        }
      }
    }
    return found
  }
}
