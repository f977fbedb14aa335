import Machine
import Primitives
import Sync
import SystemABI
import Threads

struct LoopRank: LockRank { static let level: UInt8 = 68 }
struct LoopQueueRank: LockRank { static let level: UInt8 = 85 }

/// A file, or a part of one, as a block device.
///
/// Whoever starts a request may hold locks of the file system that is on the device; the one that the file is in is asked by a
/// thread of the device's own, which holds none. SPEC: Linux' loop(4).
public final class LoopDevice: BlockDevice {
  /// What the device shows.
  public struct Binding {
    public let inode: Inode
    /// Keeps the file's mount; nil for what has no name.
    public let path: Path?
    public var isReadOnly: Bool
    /// In bytes.
    public var offset: UInt64 = 0
    /// At most so many bytes; 0 for all.
    public var sizeLimit: UInt64 = 0
    /// It ends with its last use.
    public var endsWithUse = false
    /// What whoever bound it calls the file.
    public var name: [UInt8] = []

    public init(_ inode: Inode, path: Path?, isReadOnly: Bool) {
      self.inode = inode
      self.path = path
      self.isReadOnly = isReadOnly
    }

    var sectorCount: UInt64 {
      let size = inode.size
      let rest = size > offset ? size - offset : 0
      return (sizeLimit > 0 ? min(rest, sizeLimit) : rest) / 512
    }
  }

  public let number: UInt32
  private let state = SpinLock<(binding: Binding?, sectorCount: UInt64), LoopRank>((nil, 0))
  private let queue = SpinLock<[BlockRequest], LoopQueueRank>([])
  private let arrived = WaitQueue()
  private var hasThread = false

  init(_ number: UInt32) { self.number = number }

  public var binding: Binding? { state.withLock { $0.binding } }
  public var sectorCount: UInt64 { state.withLock { $0.sectorCount } }

  /// Binds it; one at a time. Throws `resourceBusy`, `noMemory`.
  func bind(_ binding: Binding) throws(Errno) {
    if !hasThread {
      let memory = try ThreadMemory.allocate(user: false)
      Scheduler.begin(Thread(memory) { self.serve() })
      hasThread = true
    }
    try state.withLock { state throws(Errno) in
      if state.binding != nil { throw .resourceBusy }
      state = (binding, binding.sectorCount)
    }
    binding.inode.addUser()
    binding.path?.pin()
  }

  /// Changes what of the file it shows. Throws `noSuchAddressOrDevice`.
  func change(_ change: (inout Binding) -> Void) throws(Errno) {
    try state.withLock { state throws(Errno) in
      guard var binding = state.binding else { throw .noSuchAddressOrDevice }
      change(&binding)
      state = (binding, binding.sectorCount)
    }
  }

  /// Throws `noSuchAddressOrDevice`.
  func unbind() throws(Errno) {
    let old = state.withLock { state in
      let old = state.binding
      state = (nil, 0)
      return old
    }
    guard let old else { throw .noSuchAddressOrDevice }
    old.inode.removeUser()
    old.path?.unpin()
  }

  public func start(_ request: BlockRequest) {
    queue.withLock { $0.append(request) }
    arrived.wake()
  }

  // MARK: The device's thread

  private func serve() -> Never {
    while true {
      // Not with `try?`: the closure's answer would be an optional in an optional, which is never nil.
      let request: BlockRequest
      do throws(Errno) { request = try arrived.wait(interruptible: false, reason: "loop") { takeRequest() } } catch { continue }
      do throws(Errno) {
        try perform(request)
        request.finish(failed: false)
      } catch { request.finish(failed: true) }
    }
  }

  private func takeRequest() -> BlockRequest? { queue.withLock { $0.isEmpty ? nil : $0.removeFirst() } }

  private func perform(_ request: BlockRequest) throws(Errno) {
    guard let binding else { throw .ioError }
    let inode = binding.inode
    if request.operation == .flush {
      try inode.writeBack()
      return try inode.fileSystem.sync(inode)
    }
    if request.operation == .write, binding.isReadOnly { throw .readOnlyFileSystem }
    var position = binding.offset + request.sector * 512
    for piece in request.pieces {
      var address = piece.address
      let end = address + UInt64(piece.count)
      while address < end {
        let frame = Frame(UInt32(address >> 12))
        let at = Int(address & 0xFFF)
        let count = Int(min(end - address, UInt64(pageSize - max(at, Int(position & 0xFFF)))))
        if request.operation == .write {
          try inode.write(from: frame, at..<(at + count), at: position)
        } else {
          try inode.read(into: frame, at..<(at + count), at: position)
        }
        address += UInt64(count)
        position += UInt64(count)
      }
    }
    guard request.operation == .write else { return }
    inode.touch(modification: true)
    if WriteBack.isDue { WriteBack.relieve(inode, written: request.sectorCount * 512) }
  }
}

extension Inode {
  /// Copies a part of one page of the file to a place in a frame. What lies behind its end is zeros.
  fileprivate func read(into frame: Frame, _ range: Range<Int>, at position: UInt64) throws(Errno) {
    guard let index = UInt32(exactly: position >> 12) else { throw .ioError }
    let page = try page(index, wanted: 8)
    defer { Frames.release(page) }
    let start = Int(position & 0xFFF)
    frame.copy(start..<(start + range.count), of: page, to: range.lowerBound)
  }

  /// The other way. The file does not grow.
  fileprivate func write(from frame: Frame, _ range: Range<Int>, at position: UInt64) throws(Errno) {
    guard let index = UInt32(exactly: position >> 12) else { throw .ioError }
    try mutex.withLock { _ throws(Errno) in
      // It may have become shorter than the device.
      guard position + UInt64(range.count) <= size else { throw .ioError }
      let page = try page(index)
      defer { Frames.release(page) }
      let start = Int(position & 0xFFF)
      try fileSystem.reserve(self, index, start..<(start + range.count))
      page.copy(range, of: frame, to: start)
      markDirty(index)
    }
  }
}

/// All loop devices, and /dev/loop-control, which makes more.
public final class LoopDevices: Device, OpenFile {
  private static let cell = BootCell<LoopDevices>()
  /// Held while devices are added, bound and unbound.
  private let devices = Mutex<[BlockNode], LoopDevicesRank>([])
  private static var limit: UInt32 { 256 }
  static var major: UInt32 { 7 }

  /// Registers the control device and the first eight.
  public static func start() {
    let all = LoopDevices()
    cell.set(all)
    DeviceRegistry.register("loop-control", major: 10, minor: 237, all)
    all.devices.withLock { devices in
      for number in 0..<UInt32(8) { Self.add(number, &devices) }
    }
  }

  private static func add(_ number: UInt32, _ devices: inout [BlockNode]) {
    let node = BlockNode(LoopDevice(number), number: DeviceNumber(major: major, minor: number))
    devices.append(node)
    DeviceRegistry.register("loop\(number)", block: true, major: major, minor: number, mode: 0o660, node)
  }

  public func open(_ inode: Inode, flags: UInt32) throws(Errno) -> any OpenFile { self }

  /// LOOP_CTL_ADD and LOOP_CTL_GET_FREE; devices stay once they are there.
  public func control(_ command: UInt32, _ argument: UInt32, _ description: FileDescription) throws(Errno) -> Int32 {
    try devices.withLock { devices throws(Errno) in
      switch command {
      case 0x4C80:
        if devices.contains(where: { ($0.disk as? LoopDevice)?.number == argument }) { throw .fileExists }
        guard argument < Self.limit else { throw .invalidArgument }
        Self.add(argument, &devices)
        return Int32(argument)
      case 0x4C82:
        for node in devices { if let loop = node.disk as? LoopDevice, loop.binding == nil { return Int32(loop.number) } }
        guard let number = (0..<Self.limit).first(where: { number in !devices.contains { ($0.disk as? LoopDevice)?.number == number } })
        else { throw .noSpace }
        Self.add(number, &devices)
        return Int32(number)
      default: throw .inappropriateIOCTLForDevice
      }
    }
  }

  /// Binds a device. Throws `resourceBusy`, and `badFileDescriptor` for one that would be made of itself.
  public static func bind(_ node: BlockNode, _ loop: LoopDevice, to binding: LoopDevice.Binding) throws(Errno) {
    try cell.value.devices.withLock { _ throws(Errno) in
      var below = binding.inode.fileSystem as? BlockNode
      while let other = below {
        if other === node { throw .badFileDescriptor }
        below = (other.disk as? LoopDevice)?.binding?.inode.fileSystem as? BlockNode
      }
      try loop.bind(binding)
      node.resize()
    }
  }

  public static func change(_ node: BlockNode, _ loop: LoopDevice, _ change: (inout LoopDevice.Binding) -> Void) throws(Errno) {
    try cell.value.devices.withLock { _ throws(Errno) in
      try node.invalidate()
      try loop.change(change)
      node.resize()
    }
  }

  /// Throws `resourceBusy` while a file system is mounted from it.
  public static func unbind(_ node: BlockNode, _ loop: LoopDevice) throws(Errno) {
    try node.claim()
    defer { node.release() }
    try cell.value.devices.withLock { _ throws(Errno) in
      if loop.binding == nil { throw .noSuchAddressOrDevice }
      // It ends also where the file cannot be written any more.
      do throws(Errno) { try node.sync() } catch { log("loop\(loop.number): what was written last is lost: errno \(error.rawValue)") }
      node.inode.dropPages()
      try loop.unbind()
      node.resize()
    }
  }
}

struct LoopDevicesRank: LockRank { static let level: UInt8 = 8 }
