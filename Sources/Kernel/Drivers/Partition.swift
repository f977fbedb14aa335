import Machine
import Partitions
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
    var nextMinor: UInt32 = 0
    for function in PCI.functions where function.vendor == 0x1AF4 && (function.product == 0x1001 || function.product == 0x1042) {
      guard let disk = VirtioBlock(function) else { continue }
      register(disk, prefix: "vd", index: letter, major: 254, minorBase: UInt32(letter) * 16, minorCount: 16, &nextMinor)
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
        register(
          disk, prefix: "hd", index: position, major: index == 0 ? 3 : 22, minorBase: slave ? 64 : 0, minorCount: 64,
          &nextMinor)
      }
    }
  }

  /// Where an IDE controller's bus-master registers are, if it has any.
  private static func busMaster(of controller: PCIFunction) -> UInt16? {
    guard controller.read8(9) & 0x80 != 0, case .ports(let base) = controller.bar(4), base != 0 else { return nil }
    controller.enable()
    return base
  }

  /// - Parameters:
  ///   - minorCount: Minor numbers of the disk and its partitions.
  ///   - nextMinor: Of the numbers for partitions that have none of their disk's.
  private static func register(
    _ disk: any BlockDevice, prefix: String, index: UInt8, major: UInt32, minorBase: UInt32, minorCount: Int, _ nextMinor: inout UInt32
  ) {
    var name = prefix
    name.unicodeScalars.append(Unicode.Scalar(97 + index))
    log("disk: \(name), \(disk.sectorCount / 2048) MiB")
    DeviceRegistry.register(
      name, block: true, major: major, minor: minorBase,
      BlockNode(disk, number: DeviceNumber(major: major, minor: minorBase)))
    for part in PartitionTable.find(sectors: disk.sectorCount, { read(disk, $0, $1) }) {
      // Those beyond a disk's own numbers have some of a pool, as on Linux.
      let isOwn = part.number < minorCount
      let number = isOwn ? DeviceNumber(major: major, minor: minorBase + UInt32(part.number)) : DeviceNumber(major: 259, minor: nextMinor)
      if !isOwn { nextMinor += 1 }
      let device = Partition(disk, start: part.sectors.lowerBound, count: part.sectors.upperBound - part.sectors.lowerBound)
      DeviceRegistry.register(
        "\(name)\(part.number)", block: true, major: number.major, minor: number.minor, BlockNode(device, number: number))
      log("disk: \(name)\(part.number), \(device.sectorCount / 2048) MiB")
    }
  }

  private static func read(_ disk: any BlockDevice, _ first: UInt64, _ count: Int) -> [UInt8]? {
    guard let frame = Frames.allocate() else { return nil }
    defer { Frames.release(frame) }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count * 512)
    while bytes.count < count * 512 {
      let size = min(pageSize, count * 512 - bytes.count)
      let batch = RequestBatch(disk, .read)
      batch.add(first + UInt64(bytes.count / 512), frame, 0..<size)
      guard (try? batch.finish()) != nil else { return nil }
      frame.append(0..<size, to: &bytes)
    }
    return bytes
  }
}
