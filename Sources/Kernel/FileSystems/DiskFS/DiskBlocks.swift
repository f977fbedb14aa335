import DiskFS
import Machine
import Primitives
import SystemABI
import VFS

/// A volume's blocks on a device.
final class DiskBlocks: DiskStore {
  private let device: any BlockDevice
  init(_ device: any BlockDevice) { self.device = device }

  /// Sectors of a block.
  static var sectors: UInt64 { UInt64(DiskFormat.blockSize / 512) }
  static func sector(_ block: UInt32) -> UInt64 { UInt64(block) * sectors }

  func read(_ block: UInt32) throws(DiskFSError) -> [UInt8] {
    do throws(Errno) {
      // What the way out of a shortage of memory needs, too.
      let frame = try PageCache.allocate(evenReserved: true)
      defer { Frames.release(frame) }
      let batch = RequestBatch(device, .read)
      batch.add(Self.sector(block), frame, 0..<DiskFormat.blockSize)
      try batch.finish()
      var copy: [UInt8] = []
      copy.reserveCapacity(DiskFormat.blockSize)
      frame.append(0..<DiskFormat.blockSize, to: &copy)
      return copy
    } catch { throw .io }
  }

  /// The most blocks that are copied for the device at once.
  private static var most: Int { 64 }

  /// Writes blocks through frames of its own; one is enough.
  static func write(_ blocks: [(block: UInt32, bytes: [UInt8])], to device: any BlockDevice) throws(Errno) {
    // In the order that they have on the disk, for few requests.
    let sorted = blocks.sorted { $0.block < $1.block }
    var next = 0
    while next < sorted.count {
      let frames = try copies(min(most, sorted.count - next))
      defer { for frame in frames { Frames.release(frame) } }
      let batch = RequestBatch(device, .write)
      for frame in frames {
        let (block, bytes) = sorted[next]
        frame.put(bytes.span.extracting(first: DiskFormat.blockSize), at: 0)
        batch.add(sector(block), frame, 0..<DiskFormat.blockSize)
        next += 1
      }
      try batch.finish()
    }
  }

  /// At least one frame and at most `count`.
  static func copies(_ count: Int) throws(Errno) -> [Frame] {
    var frames = [try PageCache.allocate(evenReserved: true)]
    while frames.count < min(count, most), Frames.hasUnreserved(), let frame = Frames.allocateUnreserved() { frames.append(frame) }
    return frames
  }
}
