import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

struct DriverRank: LockRank { static let level: UInt8 = 88 }
struct DriverMutexRank: LockRank { static let level: UInt8 = 45 }

/// How a virtio device's registers are reached: ports (legacy) or PCI capabilities (modern).
/// SPEC: Virtual I/O Device 1.1 §4.1.
enum VirtioTransport {
  case legacy(PortWindow)
  case modern(common: RegisterWindow, notify: RegisterWindow, isr: RegisterWindow, device: RegisterWindow, multiplier: UInt32)
}

/// A virtio disk with one queue of requests. SPEC: Virtual I/O Device 1.1 §2.6, §5.2.
public final class VirtioBlock: BlockDevice, InterruptHandler {
  private struct Ring: ~Copyable {
    var freeHead: UInt16 = 0
    var freeCount: UInt16
    var availableIndex: UInt16 = 0
    var usedIndex: UInt16 = 0
    /// The descriptor behind each, in a chain or among the free ones.
    var links: [UInt16]
    /// Of the chains that the device has, by their first descriptors.
    var requests: [BlockRequest?]
    var lengths: [UInt16]
  }
  private let transport: VirtioTransport
  private let queueSize: UInt16
  /// Descriptor table, available ring and used ring, contiguous.
  private let memory: Frame
  private let pages: Int
  private let usedOffset: Int
  /// Request headers and status bytes, 32 bytes a descriptor.
  private let headers: Frame
  private var headerFrames: Int { (Int(queueSize) * 32 + 4095) / 4096 }
  private let ring: InterruptSpinLock<Ring, DriverRank>
  private let room = WaitQueue()
  private var notifyOffset: UInt32 = 0
  public private(set) var sectorCount: UInt64 = 0
  private var hasFlush = false

  /// Resets and starts the device. Nil when it is not usable.
  public init?(_ function: PCIFunction) {
    function.enable()
    guard let transport = Self.findTransport(function) else { return nil }
    self.transport = transport
    Self.setStatus(transport, 0)
    Self.setStatus(transport, 1)
    Self.setStatus(transport, 3)
    let flush = Self.negotiate(transport)
    guard let flush else { return nil }
    let size = Self.selectQueue(transport)
    guard size >= BlockRequest.maximumPieces + 2 else { return nil }
    queueSize = min(size, 256)
    // Legacy devices dictate the size; its layout is computed from it.
    let entries = Int(queueSize)
    let available = entries * 16
    usedOffset = (available + 6 + entries * 2 + 4095) & ~4095
    pages = (usedOffset + 6 + entries * 8 + 4095) / 4096
    var order = 0
    while 1 << order < pages { order += 1 }
    var headerOrder = 0
    while (1 << headerOrder) * 4096 < entries * 32 { headerOrder += 1 }
    guard let memory = Frames.allocate(order: order), let headers = Frames.allocate(order: headerOrder) else { return nil }
    self.memory = memory
    self.headers = headers
    memory.withMutableBytes(frames: pages) { bytes in
      for index in bytes.indices { bytes[index] = 0 }
    }
    var links: [UInt16] = []
    for index in 0..<queueSize { links.append(index + 1) }
    ring = InterruptSpinLock(
      Ring(
        freeCount: queueSize, links: links, requests: Array(repeating: nil, count: entries),
        lengths: Array(repeating: 0, count: entries)))
    hasFlush = flush
    startQueue()
    sectorCount = readCapacity()
    Interrupts.connect(line: function.interruptLine, pci: true, handler: self)
    Self.setStatus(transport, Self.isModern(transport) ? 15 : 7)
  }

  private static func isModern(_ transport: VirtioTransport) -> Bool {
    if case .modern = transport { return true }
    return false
  }

  private static func findTransport(_ function: PCIFunction) -> VirtioTransport? {
    var windows: [RegisterWindow?] = Array(repeating: nil, count: 5)
    var multiplier: UInt32 = 0
    var at = function.capability(9)
    while let offset = at {
      let kind = Int(function.read8(offset + 3))
      if kind >= 1, kind <= 4, windows[kind] == nil, case .memory(let base) = function.bar(function.read8(offset + 4)) {
        let start = function.read32(offset + 8)
        windows[kind] = RegisterWindow(physical: base + UInt64(start), size: max(function.read32(offset + 12), 64))
        if kind == 2 { multiplier = function.read32(offset + 16) }
      }
      at = function.capability(9, after: offset)
    }
    if let common = windows[1], let notify = windows[2], let isr = windows[3], let device = windows[4] {
      return .modern(common: common, notify: notify, isr: isr, device: device, multiplier: multiplier)
    }
    if case .ports(let base) = function.bar(0) { return .legacy(PortWindow(base: base, count: 64)) }
    return nil
  }

  private static func setStatus(_ transport: VirtioTransport, _ status: UInt8) {
    switch transport {
    case .legacy(let ports): ports.write8(18, status)
    case .modern(let common, _, _, _, _):
      common.write8(20, status)
      if status == 0 { while common.read8(20) != 0 {} }
    }
  }

  /// Accepts FLUSH and, on modern devices, VERSION_1. Answers whether the device has a cache to flush; nil on refusal.
  private static func negotiate(_ transport: VirtioTransport) -> Bool? {
    switch transport {
    case .legacy(let ports):
      let offered = ports.read32(0)
      ports.write32(4, offered & 1 << 9)
      return offered & 1 << 9 != 0
    case .modern(let common, _, _, _, _):
      common.write32(0, 0)
      let offered = common.read32(4)
      common.write32(8, 0)
      common.write32(12, offered & 1 << 9)
      common.write32(8, 1)
      common.write32(12, 1)
      common.write8(20, 11)
      return common.read8(20) & 8 != 0 ? offered & 1 << 9 != 0 : nil
    }
  }

  private static func selectQueue(_ transport: VirtioTransport) -> UInt16 {
    switch transport {
    case .legacy(let ports):
      ports.write16(14, 0)
      return ports.read16(12)
    case .modern(let common, _, _, _, _):
      common.write16(22, 0)
      return common.read16(24)
    }
  }

  private func startQueue() {
    let base = memory.address
    switch transport {
    case .legacy(let ports): ports.write32(8, memory.number)
    case .modern(let common, _, _, _, let multiplier):
      common.write16(24, queueSize)
      for (offset, address) in [
        (UInt32(32), base), (40, base + UInt64(queueSize) * 16), (48, base + UInt64(usedOffset)),
      ] {
        common.write32(offset, UInt32(truncatingIfNeeded: address))
        common.write32(offset + 4, UInt32(address >> 32))
      }
      notifyOffset = UInt32(common.read16(30)) * multiplier
      common.write16(28, 1)
    }
  }

  private func readCapacity() -> UInt64 {
    switch transport {
    case .legacy(let ports): return UInt64(ports.read32(20)) | UInt64(ports.read32(24)) << 32
    case .modern(_, _, _, let device, _): return UInt64(device.read32(0)) | UInt64(device.read32(4)) << 32
    }
  }

  private func notify() {
    switch transport {
    case .legacy(let ports): ports.write16(16, 0)
    case .modern(_, let notify, _, _, _): notify.write16(notifyOffset, 0)
    }
  }

  public func handleInterrupt() -> Bool {
    let status: UInt8
    switch transport {
    case .legacy(let ports): status = ports.read8(19)
    case .modern(_, _, let isr, _, _): status = isr.read8(0)
    }
    guard status & 1 != 0 else { return false }
    reap()
    return true
  }

  /// Ends requests that the device has done.
  private func reap() {
    while true {
      let (request, failed): (BlockRequest?, Bool) = ring.withLock { takeFinished(&$0) }
      guard let request else { break }
      request.finish(failed: failed)
    }
    room.wake()
  }

  /// The next chain that the device has used, which is free again; its request, and whether it failed.
  private func takeFinished(_ ring: inout Ring) -> (BlockRequest?, Bool) {
    let head: Int? = memory.withMutableBytes(frames: pages) { bytes in
      let index = bytes.span.u16(usedOffset + 2) ?? 0
      if ring.usedIndex == index { return nil }
      memoryBarrier()
      let element = usedOffset + 4 + Int(ring.usedIndex % queueSize) * 8
      ring.usedIndex &+= 1
      return Int(bytes.span.u32(element) ?? 0)
    }
    guard let head, head < ring.requests.count, let request = ring.requests[head].take() else { return (nil, false) }
    var status: UInt8 = 0xFF
    headers.withMutableBytes(frames: headerFrames) { status = $0[head * 32 + 16] }
    var last = head
    for _ in 1..<Int(ring.lengths[head]) { last = Int(ring.links[last]) }
    ring.links[last] = ring.freeHead
    ring.freeHead = UInt16(head)
    ring.freeCount += ring.lengths[head]
    return (request, status != 0)
  }

  public func start(_ request: BlockRequest) {
    if request.operation == .flush, !hasFlush { return request.finish(failed: false) }
    let needed = UInt16(request.pieces.count + 2)
    while !ring.withLock({ queue(request, needed, &$0) }) {
      let _: Bool? = try? room.wait(interruptible: false, reason: "disk queue") {
        ring.withLock { $0.freeCount >= needed } ? true : nil
      }
    }
    memoryBarrier()
    notify()
  }

  /// Puts a request's header, pieces and status byte into the queue; false without room. SPEC: §2.6.5, §2.6.13, §5.2.6.
  private func queue(_ request: BlockRequest, _ needed: UInt16, _ ring: inout Ring) -> Bool {
    guard ring.freeCount >= needed else { return false }
    let head = ring.freeHead
    let header = Int(head) * 32
    let headerAddress = headers.address + UInt64(header)
    let type: UInt32 =
      switch request.operation {
      case .read: 0
      case .write: 1
      case .flush: 4
      }
    headers.withMutableBytes(frames: headerFrames) { bytes in
      bytes.put32(type, at: header)
      bytes.put32(0, at: header + 4)
      bytes.put64(request.operation == .flush ? 0 : request.sector, at: header + 8)
      bytes[header + 16] = 0xFF
    }
    memory.withMutableBytes(frames: pages) { bytes in
      var slot = head
      for index in 0..<Int(needed) {
        let isLast = index == Int(needed) - 1
        let next = ring.links[Int(slot)]
        let at = Int(slot) * 16
        var (address, length, flags) = (headerAddress, UInt32(16), UInt16(0))
        if isLast {
          (address, length, flags) = (headerAddress + 16, 1, Self.deviceWrites)
        } else if index > 0 {
          let piece = request.pieces[index - 1]
          (address, length, flags) = (piece.address, UInt32(piece.count), request.operation == .read ? Self.deviceWrites : 0)
        }
        bytes.put64(address, at: at)
        bytes.put32(length, at: at + 8)
        bytes.put16(flags | (isLast ? 0 : Self.hasNext), at: at + 12)
        bytes.put16(isLast ? 0 : next, at: at + 14)
        slot = next
      }
      ring.freeHead = slot
      ring.freeCount -= needed
      ring.lengths[Int(head)] = needed
      let available = Int(queueSize) * 16
      bytes.put16(head, at: available + 4 + Int(ring.availableIndex % queueSize) * 2)
      ring.availableIndex &+= 1
      memoryBarrier()
      bytes.put16(ring.availableIndex, at: available + 2)
    }
    ring.requests[Int(head)] = request
    return true
  }

  private static var hasNext: UInt16 { 1 }
  private static var deviceWrites: UInt16 { 2 }
}
