import Machine
import Primitives
import Sync
import SystemABI

struct RAMDiskRank: LockRank { static let level: UInt8 = 86 }

/// A disk in memory, empty at first: what has not been written reads as zeros and takes none of it. BLKFLSBUF from its only user
/// empties it again. SPEC: Linux admin-guide/blockdev/ramdisk.rst, for names, sizes and that.
public final class RAMDisk: BlockDevice {
  /// As many as `start` registers: /dev/ram0 and on.
  private static var count: UInt32 { 4 }
  private static var major: UInt32 { 1 }

  public let sectorCount: UInt64
  /// Frames by the place of their page, each with a reference.
  private let pages = SpinLock<RadixTree, RAMDiskRank>(RadixTree())

  init(kilobytes: UInt32) { sectorCount = UInt64(kilobytes) * 2 }

  /// - Parameter kilobytes: The size of each, which is more than memory has, perhaps: then writes fail.
  public static func start(kilobytes: UInt32) {
    for number in 0..<count {
      let node = BlockNode(RAMDisk(kilobytes: kilobytes), number: DeviceNumber(major: major, minor: number))
      DeviceRegistry.register("ram\(number)", block: true, major: major, minor: number, mode: 0o660, node)
    }
  }

  public func start(_ request: BlockRequest) {
    var position = request.sector * 512
    for piece in request.pieces {
      guard transfer(piece, at: position, writing: request.operation == .write) else { return request.finish(failed: true) }
      position += UInt64(piece.count)
    }
    request.finish(failed: false)
  }

  /// False when there is no memory.
  private func transfer(_ piece: BlockRequest.Piece, at position: UInt64, writing: Bool) -> Bool {
    var (address, position) = (piece.address, position)
    let end = address + UInt64(piece.count)
    while address < end {
      let (mine, start) = (Frame(UInt32(address >> 12)), Int(address & 0xFFF))
      let place = Int(position & 0xFFF)
      let count = Int(min(end - address, UInt64(pageSize - max(start, place))))
      let index = UInt32(position >> 12)
      if let page = writing ? madePage(index) : page(index) {
        if writing {
          page.copy(start..<(start + count), of: mine, to: place)
        } else {
          mine.copy(place..<(place + count), of: page, to: start)
        }
        Frames.release(page)
      } else {
        if writing { return false }
        mine.zero(from: start, to: start + count)
      }
      address += UInt64(count)
      position += UInt64(count)
    }
    return true
  }

  /// With a reference for the caller.
  private func page(_ index: UInt32) -> Frame? {
    pages.withLock { tree in
      let value = tree[index]
      if value == 0 { return nil }
      Frames.retain(Frame(value))
      return Frame(value)
    }
  }

  private func madePage(_ index: UInt32) -> Frame? {
    if let page = page(index) { return page }
    // Write-back waits for this: nothing is written back to make room.
    guard let frame = Frames.allocateUnreserved() else { return nil }
    frame.zero()
    let isFirst = pages.withLock { tree in
      if tree[index] != 0 { return false }
      Frames.retain(frame)
      tree.set(index, to: frame.number)
      return true
    }
    if isFirst { return frame }
    Frames.release(frame)
    return page(index)
  }

  /// Gives back all that it has.
  func empty() {
    while true {
      let value = pages.withLock { tree -> UInt32 in
        guard let found = tree.first(from: 0) else { return 0 }
        tree.set(found.index, to: 0)
        return found.value
      }
      if value == 0 { return }
      Frames.release(Frame(value))
    }
  }
}
