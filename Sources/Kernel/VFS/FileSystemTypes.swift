import Sync
import Synchronization
import SystemABI

/// A kind of file system that `mount` can make.
public protocol FileSystemType: AnyObject {
  var name: String { get }
  /// Mounts from a source: a device's path for some, anything for others. `options` is mount's data, `size=1m,mode=755`; paths in
  /// it are as `context` sees them, which the first mount has none of.
  func make(source: [UInt8], device: Inode?, readOnly: Bool, options: [UInt8], context: PathContext?) throws(Errno) -> any FileSystem
  /// Whether the source must be a block device.
  var needsDevice: Bool { get }
}

/// The kinds the kernel knows; KernelMain registers them.
public enum FileSystemTypes {
  private static let types = BootCell<SpinLock<[any FileSystemType], LeafRank>>()
  public static func start() { types.set(SpinLock([])) }
  public static func register(_ type: any FileSystemType) { types.value.withLock { $0.append(type) } }
  public static func all() -> [any FileSystemType] { types.value.withLock { $0 } }

  private static func find(_ name: [UInt8]) throws(Errno) -> any FileSystemType {
    guard let type = all().first(where: { Array($0.name.utf8) == name }) else { throw .operationNotSupportedByDevice }
    return type
  }

  /// Mounts what is on a block device.
  public static func make(_ name: [UInt8], on device: Inode, readOnly: Bool) throws(Errno) -> any FileSystem {
    let type = try find(name)
    guard type.needsDevice else { throw .invalidArgument }
    return try type.make(source: [], device: device, readOnly: readOnly, options: [], context: nil)
  }

  /// Throws `operationNotSupportedByDevice` for an unknown kind.
  public static func make(_ name: [UInt8], source: [UInt8], readOnly: Bool, options: [UInt8], context: PathContext) throws(Errno)
    -> any FileSystem
  {
    let type = try find(name)
    var device: Inode?
    if type.needsDevice {
      var walk = PathWalk(context)
      let inode = try walk.resolve(source).inode()
      guard inode.type == Mode.block else { throw .notBlockDevice }
      // A device is mounted once; who wants it in another place gets what is there.
      if let mounted = Mounts.fileSystem(on: inode.attributes.withLock({ $0.device })) {
        guard name.elementsEqual(mounted.typeName.utf8), mounted.isReadOnly == readOnly else { throw .resourceBusy }
        return mounted
      }
      device = inode
    }
    return try type.make(source: source, device: device, readOnly: readOnly, options: options, context: context)
  }
}

extension DeviceNumber {
  private static let anonymous = Atomic<UInt32>(32)
  /// A number for a file system without a device: 0:32 and up, below are the kernel's own.
  public static func nextAnonymous() -> UInt32 {
    DeviceNumber(major: 0, minor: anonymous.wrappingAdd(1, ordering: .relaxed).oldValue & 0xF_FFFF).rawValue
  }
}

/// A file system type made by a closure: those that need no device.
public final class SimpleType: FileSystemType {
  public let name: String
  private let maker: ([UInt8]) throws(Errno) -> any FileSystem
  public init(_ name: String, _ maker: @escaping ([UInt8]) throws(Errno) -> any FileSystem) {
    self.name = name
    self.maker = maker
  }
  public var needsDevice: Bool { false }
  public func make(
    source: [UInt8], device: Inode?, readOnly: Bool, options: [UInt8], context: PathContext?
  ) throws(Errno) -> any FileSystem {
    try maker(options)
  }
}
