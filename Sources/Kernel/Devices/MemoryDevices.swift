import Machine
import Primitives
import SystemABI
import VFS

/// /dev/null, zero, full, random: files of one behaviour. SPEC: null(4), full(4), random(4).
public final class SimpleDevice: Device, OpenFile {
  public enum Kind { case null, zero, full, random }
  private let kind: Kind
  public init(_ kind: Kind) { self.kind = kind }
  public func open(_ inode: Inode, flags: UInt32) throws(Errno) -> any OpenFile { self }
  public var isSeekable: Bool { true }
  public var ignoresPosition: Bool { true }

  public func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    let count = buffer.count
    switch kind {
    case .null: return 0
    case .zero, .full:
      try buffer.putZeroes()
    case .random:
      while buffer.count > 0 { _ = try buffer.put(Random.bytes(min(buffer.count, 1024)).span) }
    }
    return count
  }

  public func write(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno)
    -> (Int, UInt64)
  {
    if kind == .full { throw .noSpace }
    return (buffer.count, 0)
  }

  public static func registerAll() {
    DeviceRegistry.register("null", major: 1, minor: 3, mode: 0o666, SimpleDevice(.null))
    DeviceRegistry.register("zero", major: 1, minor: 5, mode: 0o666, SimpleDevice(.zero))
    DeviceRegistry.register("full", major: 1, minor: 7, mode: 0o666, SimpleDevice(.full))
    DeviceRegistry.register("random", major: 1, minor: 8, mode: 0o666, SimpleDevice(.random))
    DeviceRegistry.register("urandom", major: 1, minor: 9, mode: 0o666, SimpleDevice(.random))
  }
}
