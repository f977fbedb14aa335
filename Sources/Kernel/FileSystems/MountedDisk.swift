import Machine
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// A device with a file system on it, for as long as that is mounted, and that file system's inodes.
final class MountedDisk {
  let node: BlockNode
  let inodes = InodeTable()
  private(set) var root: Inode?
  /// Whether it is mounted still.
  private let isAlive = Mutex<Bool, FileSystemLifeRank>(true)
  /// Mounted to be read only, or it must not be written any more.
  private let isStopped: Atomic<Bool>
  private let faultCount = Atomic<UInt32>(0)

  private init(_ node: BlockNode, readOnly: Bool) {
    self.node = node
    isStopped = Atomic(readOnly)
  }

  /// The disk that a special file stands for. Throws `noSuchAddressOrDevice`.
  static func node(of device: Inode?) throws(Errno) -> BlockNode {
    guard let device, let node = DeviceRegistry.find(block: true, device.attributes.withLock({ $0.device })) as? BlockNode else {
      throw .noSuchAddressOrDevice
    }
    return node
  }

  /// Takes a device for what `make` makes of it, which it has until `end`. Throws `resourceBusy`.
  static func claim<Made>(_ node: BlockNode, readOnly: Bool, _ make: (MountedDisk) throws(Errno) -> Made) throws(Errno) -> Made {
    try node.claim()
    let disk = MountedDisk(node, readOnly: readOnly)
    do throws(Errno) {
      // What the device's own cache has of it is old from now on.
      try node.invalidate()
      return try make(disk)
    } catch {
      disk.end()
      throw error
    }
  }

  func setRoot(_ inode: Inode) {
    inode.addUser()
    root = inode
  }

  /// Lets go of what keeps it in memory, and of the device.
  func end() {
    root = nil
    inodes.removeAll()
    node.release()
  }

  var isReadOnly: Bool { isStopped.load(ordering: .acquiring) }

  /// Nothing is written any more; whether that is new.
  @discardableResult func stop() -> Bool { !isStopped.exchange(true, ordering: .acquiringAndReleasing) }

  /// Notes that something on the device cannot be right; whether to tell, which is done a few times only.
  func noteFault() -> Bool { faultCount.wrappingAdd(1, ordering: .relaxed).oldValue < 8 }
  var hasFaults: Bool { faultCount.load(ordering: .relaxed) > 0 }

  /// Synchronises, unless the file system has ended or is only read.
  func ifAlive(_ body: () throws(Errno) -> Void) throws(Errno) {
    if isReadOnly { return }
    try isAlive.withLock { isAlive throws(Errno) in if isAlive { try body() } }
  }

  /// The last synchronisation, where the file system is not only read.
  func finish(_ body: () throws(Errno) -> Void) throws(Errno) {
    try isAlive.withLock { isAlive throws(Errno) in
      isAlive = false
      if !isReadOnly { try body() }
    }
    try node.invalidate()
  }
}
