import Machine
import SystemABI
import VFS

/// The file systems of disks and memory.
public enum StorageFileSystems {
  /// Makes them known to mount, and the registered devices' nodes visible.
  @export(interface) public static func register() {
    let devices = DevFS()
    DeviceRegistry.directory.set(devices)
    FileSystemTypes.register(SimpleType("devtmpfs") { _ throws(Errno) in devices.fileSystem })
    FileSystemTypes.register(
      SimpleType("tmpfs") { options throws(Errno) in
        TmpFS(typeName: "tmpfs", device: DeviceNumber.nextAnonymous(), try TmpFSOptions(options))
      })
    FileSystemTypes.register(Ext2Type())
    FileSystemTypes.register(FATType())
    FileSystemTypes.register(DiskType(synchronous: false))
    FileSystemTypes.register(DiskType(synchronous: true))
    FileSystemTypes.register(OverlayType())
  }

  /// What a live system's root is: it may hold half of memory.
  @export(interface) public static func memoryRoot(device: UInt32) -> any FileSystem {
    var options = TmpFSOptions()
    options.mode = 0o755
    return TmpFS(typeName: "rootfs", device: device, options)
  }

  /// What anonymous shared mappings and shared memory segments are files of.
  @export(interface) public static func sharedMemory(device: UInt32) -> any FileSystem { TmpFS(typeName: "shmem", device: device) }
}
