import DiskFS
import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// Held while changes are on their way to the disk.
struct DiskCommitRank: LockRank { static let level: UInt8 = 27 }

/// diskfs: a copy-on-write file system whose blocks all have checksums. On-disk structures are Logic/DiskFS's.
///
/// Directories, attributes and the places of pages change in memory and come to the disk together with a commit: after a power cut
/// the volume is what it was at the last one, whole. Pages of files go to free blocks as they are written back, and belong to their
/// file from then on; their file's size and times follow them.
public final class DiskFileSystem: FileSystem {
  struct State {
    let volume: DiskVolume
    /// Nodes are on their way to the disk: what there is in memory of them must stay.
    var isCommitting = false
  }

  private let mounted: MountedDisk
  let state: Mutex<State, FileSystemRank>
  private let committing = Mutex<Void, DiskCommitRank>(())
  /// Blocks that are free for content, as the volume said last.
  private let room = Atomic<UInt32>(0)
  let dirtyPages = PageCounter()

  public var typeName: String { isSynchronous ? "persistfs" : "diskfs" }
  /// As persistfs: no call returns before what it changed is on stable storage.
  public let isSynchronous: Bool
  public var device: (any BlockDevice)? { disk.disk }
  public var deviceNumber: UInt32 { disk.deviceNumber }
  public var root: Inode { mounted.root! }
  public var isReadOnly: Bool { mounted.isReadOnly }
  var disk: BlockNode { mounted.node }
  var table: InodeTable { mounted.inodes }
  public var unwritten: PageCounter? { dirtyPages }

  private init(_ mounted: MountedDisk, _ volume: DiskVolume, synchronous: Bool) {
    self.mounted = mounted
    isSynchronous = synchronous
    state = Mutex(State(volume: volume))
  }

  /// Reads the newest superblock and the map of free blocks. Throws `invalidArgument` for what is no diskfs.
  static func mount(_ node: BlockNode, readOnly: Bool, synchronous: Bool) throws(Errno) -> DiskFileSystem {
    try MountedDisk.claim(node, readOnly: readOnly) { disk throws(Errno) in try mount(disk, synchronous: synchronous) }
  }

  private static func mount(_ mounted: MountedDisk, synchronous: Bool) throws(Errno) -> DiskFileSystem {
    let device = mounted.node.disk
    let volume: DiskVolume
    let limit = UInt32(clamping: device.sectorCount / DiskBlocks.sectors)
    do throws(DiskFSError) { volume = try DiskVolume.open(DiskBlocks(device), limit: limit) } catch {
      if error == .io { throw .ioError }
      log("diskfs: no whole volume on the device")
      throw .invalidArgument
    }
    let fileSystem = DiskFileSystem(mounted, volume, synchronous: synchronous)
    try fileSystem.start()
    return fileSystem
  }

  private func start() throws(Errno) {
    mounted.setRoot(try inode(DiskFormat.root))
    if isReadOnly { return }
    while let object = try look({ volume throws(DiskFSError) in try volume.firstOrphan() }) { try deleteOrphan(object) }
  }

  public func end() { mounted.end() }

  // MARK: The volume

  /// Throws `ioError` for what is not right on the disk.
  func look<Result>(_ body: (DiskVolume) throws(DiskFSError) -> Result) throws(Errno) -> Result {
    try state.withLock { state throws(Errno) in
      do throws(DiskFSError) { return try body(state.volume) } catch { throw errno(error) }
    }
  }

  /// As `look`, for what changes something. After a change that was not finished there are no others.
  func change<Result>(_ body: (DiskVolume) throws(DiskFSError) -> Result) throws(Errno) -> Result {
    if isReadOnly { throw .readOnlyFileSystem }
    return try state.withLock { state throws(Errno) in
      defer { volumeChanged(state.volume) }
      do throws(DiskFSError) { return try body(state.volume) } catch { throw errno(error) }
    }
  }

  private func volumeChanged(_ volume: DiskVolume) {
    room.store(volume.available, ordering: .relaxed)
    if volume.isBroken, mounted.stop() {
      log("diskfs: the disk failed or is not what it must be; nothing is written any more")
    }
  }

  private func errno(_ error: DiskFSError) -> Errno {
    switch error {
    case .io: return .ioError
    case .corrupt:
      if mounted.noteFault() { log("diskfs: something on the disk is not what its checksum or its place says") }
      return .ioError
    case .noSpace: return .noSpace
    }
  }

  // MARK: Room

  /// Blocks that are free besides those that pages in memory will take, and the tree with them.
  private var spare: Int {
    let unwritten = dirtyPages.count
    return Int(room.load(ordering: .relaxed)) - unwritten - unwritten / 64 - 8
  }

  /// Makes sure that there is room for one page more, or some names. Throws `noSpace`. No lock from `committing` on is held, and with
  /// `writesBack` none of an address space.
  func makeRoom(writesBack: Bool = true) throws(Errno) {
    if isReadOnly { throw .readOnlyFileSystem }
    if spare > 0 { return }
    // What was deleted is free afterwards.
    try commit()
    if spare > 0 { return }
    // And what pages in memory replace.
    if writesBack {
      try WriteBack.run(self, waits: false)
      try commit()
    }
    if spare <= 0 { throw .noSpace }
  }

  /// Makes sure that what a change makes can be brought to the disk: for those that give room back in the end.
  func makeRoomForTree() throws(Errno) { if try look({ $0.needsCommit }) { try commit() } }

  // MARK: Commits

  /// Returns when everything that was changed is on stable storage.
  func commit() throws(Errno) {
    try committing.withLock { _ throws(Errno) in
      if isReadOnly {
        if try look({ $0.isBroken }) { throw .ioError }
        return
      }
      let commit = try state.withLock { state throws(Errno) in
        defer { volumeChanged(state.volume) }
        do throws(DiskFSError) {
          let commit = try state.volume.prepareCommit(time: Clock.realtime)
          state.isCommitting = commit != nil
          return commit
        } catch { throw errno(error) }
      }
      guard let commit else { return }
      var failure: Errno?
      do throws(Errno) { try write(commit) } catch { failure = error }
      state.withLock { state in
        state.isCommitting = false
        if failure == nil { state.volume.finishCommit() } else { state.volume.fail() }
        volumeChanged(state.volume)
      }
      if let failure { throw failure }
    }
  }

  private func write(_ commit: DiskCommit) throws(Errno) {
    try DiskBlocks.write(commit.nodes, to: disk.disk)
    try BlockRequest.flush(disk.disk)
    try DiskBlocks.write([commit.superblock], to: disk.disk)
    try BlockRequest.flush(disk.disk)
  }

  public func sync() throws(Errno) { try mounted.ifAlive { () throws(Errno) in try syncAll() } }

  private func syncAll() throws(Errno) {
    try WriteBack.run(self)
    try commit()
  }

  public func sync(_ inode: Inode) throws(Errno) { try commit() }

  public func unmount() throws(Errno) { try mounted.finish { () throws(Errno) in try syncAll() } }

  public func dropUnused() {
    table.dropCleanPages()
    table.dropUnused()
    _ = state.tryWithLock { if !$0.isCommitting { $0.volume.dropClean() } }
  }

  public func statistics() -> FileSystemStatistics {
    var result = FileSystemStatistics(magic: 0x4144_4653)
    state.withLock {
      result.blocks = UInt64($0.volume.blocks)
      result.freeBlocks = UInt64($0.volume.free)
    }
    let unwritten = UInt64(max(0, dirtyPages.count))
    result.freeBlocks -= min(result.freeBlocks, unwritten)
    result.availableBlocks = result.freeBlocks
    return result
  }
}

/// `mount -t diskfs`, and `mount -t persistfs` of the same volumes.
public final class DiskType: FileSystemType {
  private let isSynchronous: Bool
  init(synchronous: Bool) { isSynchronous = synchronous }
  public var name: String { isSynchronous ? "persistfs" : "diskfs" }
  public var needsDevice: Bool { true }
  public func make(
    source: [UInt8], device: Inode?, readOnly: Bool, options: [UInt8], context: PathContext?
  ) throws(Errno) -> any FileSystem {
    return try DiskFileSystem.mount(try MountedDisk.node(of: device), readOnly: readOnly, synchronous: isSynchronous)
  }
}
