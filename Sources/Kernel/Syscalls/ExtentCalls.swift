import Machine
import Primitives
import SystemABI
import VFS

/// FS_IOC_FIEMAP: where a file lies on its device.
enum ExtentMap {
  private static var headerSize: UInt32 { 32 }
  private static var extentSize: UInt32 { 56 }
  // What it says of an extent.
  private static var last: UInt32 { 1 }
  private static var delayed: UInt32 { 2 | 4 }  // its place is not known, as it has none
  private static var merged: UInt32 { 0x1000 }

  /// SPEC: linux/fiemap.h, Documentation/filesystems/fiemap.rst. Throws `invalidRequestDescriptor` for what nobody asks of a file here:
  /// its extended attributes.
  static func answer(_ inode: Inode, _ address: UInt32) throws(Errno) {
    let start = try UserMemory.read64(address)
    let length = try UserMemory.read64(address &+ 8)
    let flags = try UserMemory.read32(address &+ 16)
    let room = try UserMemory.read32(address &+ 24)
    if length == 0 || room > (UInt32.max - headerSize) / extentSize { throw .invalidArgument }
    if flags & ~1 != 0 {
      try UserMemory.write32(flags & ~1, to: address &+ 16)
      throw .invalidRequestDescriptor
    }
    if flags & 1 != 0 { try inode.content.writeBack() }
    let (end, overflows) = start.addingReportingOverflow(length)
    var count: UInt32 = 0
    var failure: Errno?
    try inode.forEachExtent(start..<(overflows ? .max : end)) { extent, isLast in
      defer { count += 1 }
      if room == 0 { return true }
      let to = address &+ headerSize &+ count * extentSize
      do throws(Errno) { try put(extent, isLast: isLast, to: to) } catch { failure = error }
      return failure == nil && count + 1 < room
    }
    if let failure { throw failure }
    try UserMemory.write32(count, to: address &+ 20)
  }

  private static func put(_ extent: FileExtent, isLast: Bool, to address: UInt32) throws(Errno) {
    var bytes: [56 of UInt8] = .init(repeating: 0)
    var out = bytes.mutableSpan
    out.put64(extent.logical, at: 0)
    out.put64(extent.physical ?? 0, at: 8)
    out.put64(extent.length, at: 16)
    out.put32(merged | (isLast ? last : 0) | (extent.physical == nil ? delayed : 0), at: 40)
    try UserMemory.write(bytes.span, to: address)
  }
}
