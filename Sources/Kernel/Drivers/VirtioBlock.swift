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
    /// Next free descriptor of each.
    var links: [UInt16]
    /// Set by the interrupt for each finished chain.
    var finished: [Bool]
  }
  private let transport: VirtioTransport
  private let queueSize: UInt16
  /// Descriptor table, available ring and used ring, contiguous.
  private let memory: Frame
  private let pages: Int
  private let usedOffset: Int
  /// Request headers and status bytes, 32 bytes a descriptor.
  private let headers: Frame
  private let ring: InterruptSpinLock<Ring, DriverRank>
  private let completion = WaitQueue()
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
    guard size >= 4 else { return nil }
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
      Ring(freeCount: queueSize, links: links, finished: Array(repeating: false, count: Int(queueSize))))
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

  /// Collects finished requests.
  private func reap() {
    ring.withLock { ring in
      memory.withMutableBytes(frames: pages) { bytes in
        while true {
          let index = bytes.span.u16(usedOffset + 2) ?? 0
          if ring.usedIndex == index { return }
          let element = usedOffset + 4 + Int(ring.usedIndex % queueSize) * 8
          let head = Int(bytes.span.u32(element) ?? 0)
          if head < ring.finished.count { ring.finished[head] = true }
          ring.usedIndex &+= 1
        }
      }
    }
    completion.wake()
  }

  /// Queues a request of up to three descriptors and waits for it. SPEC: §5.2.6.
  private func request(_ type: UInt32, sector: UInt64, data: UInt64, length: Int, deviceWrites: Bool) throws(Errno) {
    let needed: UInt16 = length > 0 ? 3 : 2
    while true {
      let head: UInt16? = ring.withLock { ring in
        guard ring.freeCount >= needed else { return nil }
        return submit(&ring, type, sector, data, length, deviceWrites)
      }
      if let head {
        memoryBarrier()
        notify()
        try finish(head, needed)
        return
      }
      let _: Bool? = try? room.wait(interruptible: false, reason: "disk queue") {
        ring.withLock { $0.freeCount >= needed } ? true : nil
      }
    }
  }

  private func submit(
    _ ring: inout Ring, _ type: UInt32, _ sector: UInt64, _ data: UInt64, _ length: Int, _ deviceWrites: Bool
  ) -> UInt16 {
    let head = ring.freeHead
    let header = Int(head) * 32
    let headerAddress = headers.address + UInt64(header)
    headers.withMutableBytes(frames: (Int(queueSize) * 32 + 4095) / 4096) { bytes in
      bytes.put32(type, at: header)
      bytes.put32(0, at: header + 4)
      bytes.put64(sector, at: header + 8)
      bytes[header + 16] = 0xFF
    }
    var parts: [(UInt64, Int, UInt16)] = [(headerAddress, 16, 0)]
    if length > 0 { parts.append((data, length, deviceWrites ? 2 : 0)) }
    parts.append((headerAddress + 16, 1, 2))
    memory.withMutableBytes(frames: pages) { bytes in
      var slot = head
      for (index, part) in parts.enumerated() {
        let at = Int(slot) * 16
        let last = index == parts.count - 1
        bytes.put64(part.0, at: at)
        bytes.put32(UInt32(part.1), at: at + 8)
        bytes.put16(part.2 | (last ? 0 : 1), at: at + 12)
        bytes.put16(last ? 0 : ring.links[Int(slot)], at: at + 14)
        slot = ring.links[Int(slot)]
      }
      ring.freeHead = slot
      ring.freeCount -= UInt16(parts.count)
      ring.finished[Int(head)] = false
      let available = Int(queueSize) * 16
      bytes.put16(head, at: available + 4 + Int(ring.availableIndex % queueSize) * 2)
      ring.availableIndex &+= 1
      memoryBarrier()
      bytes.put16(ring.availableIndex, at: available + 2)
    }
    return head
  }

  private func finish(_ head: UInt16, _ count: UInt16) throws(Errno) {
    let _: Bool? = try? completion.wait(interruptible: false, reason: "disk") {
      ring.withLock { $0.finished[Int(head)] } ? true : nil
    }
    var status: UInt8 = 0xFF
    headers.withMutableBytes(frames: (Int(queueSize) * 32 + 4095) / 4096) { status = $0[Int(head) * 32 + 16] }
    ring.withLock { ring in
      var last = head
      for _ in 1..<count { last = ring.links[Int(last)] }
      ring.links[Int(last)] = ring.freeHead
      ring.freeHead = head
      ring.freeCount += count
    }
    room.wake()
    if status != 0 { throw .ioError }
  }

  private func check(_ sector: UInt64, _ count: Int, _ offset: Int) throws(Errno) {
    guard count > 0, offset >= 0, offset + count * 512 <= pageSize, sector <= sectorCount,
      UInt64(count) <= sectorCount - sector
    else { throw .ioError }
  }

  public func read(_ sector: UInt64, count: Int, into frame: Frame, offset: Int) throws(Errno) {
    try check(sector, count, offset)
    try request(0, sector: sector, data: frame.address + UInt64(offset), length: count * 512, deviceWrites: true)
  }

  public func write(_ sector: UInt64, count: Int, from frame: Frame, offset: Int) throws(Errno) {
    try check(sector, count, offset)
    try request(1, sector: sector, data: frame.address + UInt64(offset), length: count * 512, deviceWrites: false)
  }

  public func flush() throws(Errno) {
    if hasFlush { try request(4, sector: 0, data: 0, length: 0, deviceWrites: false) }
  }
}
