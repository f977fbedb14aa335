import Machine
import Sync
import SystemABI
import Threads

/// A device that special files name by number.
public protocol Device: AnyObject {
  /// A file to talk to it. Throws `noSuchAddressOrDevice`, `resourceBusy` and the like.
  func open(_ inode: Inode, flags: UInt32) throws(Errno) -> any OpenFile
}

/// Devices of one driver that come and go.
public protocol DeviceFamily: AnyObject {
  func device(minor: UInt32) -> (any Device)?
}

/// Devices by type and number; filled by drivers.
public enum DeviceRegistry {
  struct Entry {
    let isBlock: Bool
    let number: DeviceNumber
    let name: [UInt8]
    let mode: UInt32
    let device: any Device
  }
  private static let entries = BootCell<SpinLock<[Entry], LeafRank>>()
  /// Drivers whose character devices come and go, by major number.
  private static let families = BootCell<SpinLock<[(major: UInt32, family: any DeviceFamily)], LeafRank>>()
  /// Where nodes of new devices appear (devfs), once it exists.
  public static let directory = BootCell<DeviceNodes>()

  public static func start() {
    entries.set(SpinLock([]))
    families.set(SpinLock([]))
  }

  public static func register(major: UInt32, _ family: any DeviceFamily) { families.value.withLock { $0.append((major, family)) } }

  /// Makes a device known, and gives it a node in /dev.
  public static func register(
    _ name: String, block: Bool = false, major: UInt32, minor: UInt32, mode: UInt32 = 0o600, _ device: any Device
  ) {
    let entry = Entry(
      isBlock: block, number: DeviceNumber(major: major, minor: minor), name: Array(name.utf8), mode: mode, device: device)
    entries.value.withLock { $0.append(entry) }
    if directory.isSet { directory.value.add(entry.name, block: block, entry.number, mode: mode) }
  }

  public static func find(block: Bool, _ number: DeviceNumber) -> (any Device)? {
    if let device = entries.value.withLock({ $0.first { $0.isBlock == block && $0.number == number }?.device }) { return device }
    if block { return nil }
    return families.value.withLock { $0.first { $0.major == number.major }?.family }?.device(minor: number.minor)
  }

  /// Names of block devices, for `root=` and /proc/partitions.
  public static func forEach(_ body: ([UInt8], Bool, DeviceNumber, UInt32, any Device) -> Void) {
    for entry in entries.value.withLock({ $0 }) { body(entry.name, entry.isBlock, entry.number, entry.mode, entry.device) }
  }
}

/// Something that shows device nodes (devfs).
open class DeviceNodes {
  public init() {}
  open func add(_ name: [UInt8], block: Bool, _ number: DeviceNumber, mode: UInt32) {}
}

/// An open regular file.
public final class RegularFile: OpenFile {
  let inode: Inode
  /// What may not be executed while this is open.
  private let written: Inode?

  public init(_ inode: Inode) {
    self.inode = inode
    written = nil
  }

  private init(_ inode: Inode, writing written: Inode) {
    self.inode = inode
    self.written = written
  }

  /// Throws `textFileBusy`.
  static func open(_ inode: Inode, flags: UInt32) throws(Errno) -> RegularFile {
    if flags & OpenFlags.accessMask == 0 { return RegularFile(inode) }
    let content = inode.content
    try content.beginUse(1)
    return RegularFile(inode, writing: content)
  }

  deinit { written?.endUse(1) }

  public func close(_ description: FileDescription) { if let written { written.fileSystem.wasWritten(written) } }

  public var isSeekable: Bool { true }
  public func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    let content = inode.content
    if description.isDirect { return try content.readDirect(&buffer, at: offset) }
    return try content.read(&buffer, at: offset)
  }
  public func write(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno)
    -> (Int, UInt64)
  {
    let (content, append) = (inode.content, description.flags & OpenFlags.append != 0)
    let result =
      description.isDirect
      ? try content.writeDirect(&buffer, at: offset, append: append) : try content.write(&buffer, at: offset, append: append)
    try description.synchroniseIfAsked()
    return result
  }
}

/// An open directory: read through `getdents`.
public final class DirectoryFile: OpenFile {
  init() {}
  public var isSeekable: Bool { true }
  public func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    throw .isDirectory
  }
}

/// A file that only names a place (O_PATH).
final class PathFile: OpenFile {}

extension FileDescription {
  /// Opens what is at `path`. Permissions were checked. May sleep (a FIFO waits for its other end).
  public static func open(_ path: Path, flags: UInt32) throws(Errno) -> FileDescription {
    let inode = try path.useInode()
    defer { inode.removeUser() }
    let kept = flags & ~(OpenFlags.create | OpenFlags.exclusive | OpenFlags.truncate | OpenFlags.noControllingTerminal)
    if flags & OpenFlags.path != 0 {
      return FileDescription(PathFile(), path: path, inode: inode, flags: kept)
    }
    if flags & OpenFlags.direct != 0, !inode.allowsDirect { throw .invalidArgument }
    let file: any OpenFile
    switch inode.type {
    case Mode.regular:
      if let node = inode.payload as? FileNode { file = try node.makeFile() } else { file = try RegularFile.open(inode, flags: flags) }
    case Mode.directory: file = DirectoryFile()
    case Mode.character, Mode.block:
      if path.mount.flags & MountFlags.noDevices != 0 { throw .permissionDenied }
      let number = inode.attributes.withLock { $0.device }
      guard let device = DeviceRegistry.find(block: inode.type == Mode.block, number) else { throw .noSuchAddressOrDevice }
      file = try device.open(inode.content, flags: flags)
    case Mode.fifo: file = try Pipe.openFIFO(inode.content, flags: flags)
    case Mode.link: throw .tooManySymbolicLinkLevels
    default: throw .noSuchAddressOrDevice
    }
    let description = FileDescription(file, path: path, inode: inode, flags: kept)
    FileWatches.tell(description, .open)
    return description
  }
}

/// A regular inode with its own way of being read (procfs): its payload makes the file.
open class FileNode {
  public init() {}
  open func makeFile() throws(Errno) -> any OpenFile { throw .noSuchAddressOrDevice }
}
