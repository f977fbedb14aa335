import Machine
import Primitives
import Synchronization
import SystemABI
import Threads
import VFS

/// An IDE disk. SPEC: ATA/ATAPI-6 §6, §8.
public final class ATADisk: BlockDevice {
  private let channel: ATAChannel
  let slave: Bool
  public private(set) var sectorCount: UInt64 = 0
  /// 48-bit addresses.
  private var hasLongAddresses = false
  private var hasDMA = false

  /// Identifies a drive; nil when there is none, or it is no disk.
  public init?(_ channel: ATAChannel, slave: Bool) {
    self.channel = channel
    self.slave = slave
    guard let words = channel.identify(slave: slave) else { return nil }
    hasDMA = words[49] & 1 << 8 != 0 && channel.hasBusMaster
    hasLongAddresses = words[83] & 1 << 10 != 0
    let short = UInt64(words[60]) | UInt64(words[61]) << 16
    let long = UInt64(words[100]) | UInt64(words[101]) << 16 | UInt64(words[102]) << 32
    sectorCount = hasLongAddresses && long > 0 ? long : short
    if sectorCount == 0 { return nil }
  }

  public func start(_ request: BlockRequest) { channel.start(ATATransfer(request, self, byDMA: hasDMA && request.isBelow4GB)) }

  /// Writes the registers of a request's command and starts it.
  func issue(_ transfer: ATATransfer, _ ports: PortWindow) {
    let request = transfer.request
    let (sector, count) = (request.sector, request.sectorCount)
    let select: UInt8 = slave ? 0xF0 : 0xE0
    if request.operation == .flush {
      ports.write8(6, select)
      return ports.write8(7, hasLongAddresses ? 0xEA : 0xE7)
    }
    ports.write8(6, select | (hasLongAddresses ? 0 : UInt8(truncatingIfNeeded: sector >> 24) & 0xF))
    if hasLongAddresses {
      ports.write8(2, UInt8(truncatingIfNeeded: count >> 8))
      for index in UInt64(0)..<3 { ports.write8(3 + UInt16(index), UInt8(truncatingIfNeeded: sector >> (24 + index * 8))) }
    }
    ports.write8(2, UInt8(truncatingIfNeeded: count))
    for index in UInt64(0)..<3 { ports.write8(3 + UInt16(index), UInt8(truncatingIfNeeded: sector >> (index * 8))) }
    let isRead = request.operation == .read
    let command: (short: UInt8, long: UInt8) =
      transfer.usesDMA ? (isRead ? (0xC8, 0x25) : (0xCA, 0x35)) : (isRead ? (0x20, 0x24) : (0x30, 0x34))
    ports.write8(7, hasLongAddresses ? command.long : command.short)
  }
}

extension BlockRequest {
  /// Whether a device with 32-bit addresses reaches all of its memory.
  var isBelow4GB: Bool { pieces.allSatisfy { $0.address + UInt64($0.count) <= 1 << 32 } }
}

/// A request on its way through a channel.
final class ATATransfer {
  let request: BlockRequest
  let disk: ATADisk
  let usesDMA: Bool
  var next: ATATransfer?
  /// What has been moved by the processor: the piece and the bytes of it.
  private var piece = 0
  private var offset = 0
  private(set) var sectorsLeft: Int

  init(_ request: BlockRequest, _ disk: ATADisk, byDMA: Bool) {
    self.request = request
    self.disk = disk
    usesDMA = byDMA && request.operation != .flush
    sectorsLeft = request.sectorCount
  }

  /// Moves one sector through the data port.
  func moveSector(_ ports: PortWindow) {
    let address = request.pieces[piece].address + UInt64(offset)
    let frame = Frame(UInt32(address >> 12))
    let at = Int(address & 0xFFF)
    if request.operation == .read {
      frame.withMutableBytes { ports.readWords(0, into: &$0, at: at, count: 256) }
    } else {
      frame.withBytes { ports.writeWords(0, from: $0, at: at, count: 256) }
    }
    sectorsLeft -= 1
    offset += 512
    if offset == request.pieces[piece].count {
      piece += 1
      offset = 0
    }
  }
}
