import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads

/// A transfer of sectors in a row, from or to pieces of memory that stay the caller's until it is done.
public final class BlockRequest {
  public enum Operation { case read, write, flush }
  /// Bytes that lie in a row in physical memory, whole sectors.
  public struct Piece {
    public let address: UInt64
    public var count: Int
  }
  /// What every driver takes at once.
  public static var maximumPieces: Int { 32 }
  public static var maximumSectors: Int { 256 }

  public let operation: Operation
  /// The first one; a partition moves it to the disk's count.
  public private(set) var sector: UInt64
  public private(set) var sectorCount = 0
  public private(set) var pieces: [Piece] = []

  private static var done: UInt32 { 1 }
  private static var failed: UInt32 { 2 }
  private let outcome = Atomic<UInt32>(0)
  private let ended = WaitQueue()

  public init(_ operation: Operation, sector: UInt64 = 0) {
    self.operation = operation
    self.sector = sector
  }

  /// Adds a part of a frame; false when it is not the next on the disk, or the request is full.
  func append(_ sector: UInt64, _ frame: Frame, _ range: Range<Int>) -> Bool {
    let count = range.count / 512
    guard sector == self.sector + UInt64(sectorCount), sectorCount + count <= Self.maximumSectors else { return false }
    let address = frame.address + UInt64(range.lowerBound)
    if let last = pieces.last, last.address + UInt64(last.count) == address {
      pieces[pieces.count - 1].count += range.count
    } else {
      if pieces.count == Self.maximumPieces { return false }
      pieces.append(Piece(address: address, count: range.count))
    }
    sectorCount += count
    return true
  }

  /// Places it so many sectors further on: from a partition's count to its disk's.
  public func move(by sectors: UInt64) { sector += sectors }

  public var isDone: Bool { outcome.load(ordering: .acquiring) != 0 }
  public var hasFailed: Bool { outcome.load(ordering: .acquiring) == Self.failed }

  /// The driver's last word, once. Interrupt-safe.
  public func finish(failed: Bool) {
    outcome.store(failed ? Self.failed : Self.done, ordering: .releasing)
    ended.wake()
  }

  /// Returns when it is done.
  /// - Throws: `ioError` when the device could not do it.
  public func wait() throws(Errno) {
    let _: Bool? = try? ended.wait(interruptible: false, reason: "disk") { isDone ? true : nil }
    if hasFailed { throw .ioError }
  }
}

/// A disk or partition.
public protocol BlockDevice: AnyObject {
  /// In 512-byte sectors.
  var sectorCount: UInt64 { get }
  /// Starts a transfer that lies on the device, whose `finish` is called when it is done: here, or in an interrupt. Requests
  /// may be done in another order. A flush is done when everything that was done before it started is on stable storage.
  /// May sleep while the device is busy.
  func start(_ request: BlockRequest)
}

extension BlockRequest {
  /// Starts it; one that leaves the device fails.
  func submit(to device: any BlockDevice) {
    let count = UInt64(sectorCount)
    guard sector <= device.sectorCount, count <= device.sectorCount - sector else { return finish(failed: true) }
    device.start(self)
  }

  /// Returns when everything that a device has been given is on stable storage.
  public static func flush(_ device: any BlockDevice) throws(Errno) {
    let request = BlockRequest(.flush)
    device.start(request)
    try request.wait()
  }
}

/// Pieces of pages for a device, in as few requests as their places allow. A request starts once the next piece lies elsewhere.
public final class RequestBatch {
  private let device: any BlockDevice
  private let operation: BlockRequest.Operation
  public private(set) var requests: [BlockRequest] = []
  private var isOpen = false

  public init(_ device: any BlockDevice, _ operation: BlockRequest.Operation) {
    self.device = device
    self.operation = operation
  }

  public func add(_ sector: UInt64, _ frame: Frame, _ range: Range<Int>) {
    if isOpen, let last = requests.last, last.append(sector, frame, range) { return }
    start()
    let request = BlockRequest(operation, sector: sector)
    _ = request.append(sector, frame, range)
    requests.append(request)
    isOpen = true
  }

  /// Starts what has not started.
  public func start() {
    if isOpen, let last = requests.last { last.submit(to: device) }
    isOpen = false
  }

  /// Returns when all is done. Throws `ioError` when some of it failed.
  public func finish() throws(Errno) {
    start()
    var failure: Errno?
    for request in requests { do throws(Errno) { try request.wait() } catch { failure = error } }
    if let failure { throw failure }
  }
}
