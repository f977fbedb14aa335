import BootData
import BootOptions
import Devices
import Drivers
import EventFiles
import DiskFS
import Ext2
import FileSystems
import Initramfs
import Machine
import Processes
import PosixQueues
import ProcFS
import Primitives
import Sync
import Syscalls
import SystemABI
import SystemVIPC
import Threads
import VFS

/// The stages that need threads: file systems, devices, the first program.
enum Boot {
  final class Context {
    let line: CommandLine
    init(_ line: CommandLine) { self.line = line }
  }
  static let context = BootCell<Context>()

  /// Empty tables of every service: nothing here sleeps or touches hardware.
  static func startServices(_ line: CommandLine) {
    context.set(Context(line))
    PageCache.start()
    WriteBack.start()
    Mounts.start()
    Names.start()
    FileDescription.start()
    FileWatches.start()
    InotifyUsers.start()
    NamelessFiles.start()
    FileLocking.start()
    DeviceRegistry.start()
    FileSystemTypes.start()
    ProcessTable.start()
    FileMappings.start()
    Futex.start()
    PriorityFutex.start()
    SystemName.start()
    SystemLoad.start()
    SocketServices.start()
    SharedSegments.start()
    SemaphoreSets.start()
    MessageQueues.start()
  }

  /// The frame buffer that the loader has set up, or, where `video=` asks for one, the display's.
  private static func framebuffer(_ line: CommandLine) -> Framebuffer? {
    if let loaders = Machine.boot.framebuffer, loaders.width >= 320, loaders.width <= 8192, loaders.height >= 200,
      loaders.height <= 8192, loaders.pitch >= loaders.width * 4, loaders.pitch <= 65536, loaders.pitch % 4 == 0,
      loaders.pitch * loaders.height <= Framebuffer.largest
    {
      log("display: \(loaders.width)x\(loaders.height) by the loader")
      return Framebuffer(
        physical: loaders.address, bytes: loaders.pitch &* loaders.height, width: loaders.width, height: loaders.height,
        pitch: loaders.pitch)
    }
    guard let (width, height) = line.video else { return nil }
    return BochsDisplay.start(width: width, height: height)
  }

  /// The boot thread.
  static func run() {
    do throws(Errno) {
      let root = StorageFileSystems.memoryRoot(device: 1)
      let mount = Mount(root, source: Array("rootfs".utf8), flags: 0)
      Mounts.addRoot(mount)
      let rootPath = Path(mount: mount, dentry: mount.root)
      SharedMemoryStore.cell.set(SharedMemoryStore(StorageFileSystems.sharedMemory(device: 2)))
      try VDSO.start()
      PCI.enumerate()
      try Terminals.start(
        consoles: context.value.line.consoles, logging: !context.value.line.quiet, framebuffer: framebuffer(context.value.line))
      RealTimeClock.start()
      Disks.start()
      LoopDevices.start()
      RAMDisk.start(kilobytes: context.value.line.ramDiskKilobytes)
      StorageFileSystems.register()
      InformationFileSystems.register(commandLine: context.value.line.text)
      PosixQueues.start()
      let unpacked = try InitramfsUnpacker.unpackAll(to: rootPath)
      log("initramfs: \(unpacked) files")
      let line = context.value.line
      let place =
        unpacked == 0 || line.ramdiskInit == nil && !RootMount.exists("/init", in: rootPath)
        ? try RootMount.mount(line, over: rootPath) : rootPath
      RootMount.attach("devtmpfs", at: "/dev", root: place)
      RootMount.attach("proc", at: "/proc", root: place)
      if RootMount.exists("/sys", in: place) { RootMount.attach("sysfs", at: "/sys", root: place) }
      try Flusher.start()
      try VirtualTerminals.startRefreshing()
      try FirstProcess.start(root: place, line)
    } catch { Panic.stop("boot failed: errno \(error.rawValue)") }
  }
}

/// The root file system that `root=` names.
enum RootMount {
  static func exists(_ path: String, in root: Path) -> Bool {
    var walk = PathWalk(PathContext(root: root, directory: root, credentials: Credentials()))
    return (try? walk.resolve(Array(path.utf8))) != nil
  }

  static func attach(_ type: String, at path: String, root: Path) {
    let context = PathContext(root: root, directory: root, credentials: Credentials())
    var walk = PathWalk(context)
    do throws(Errno) {
      let place = try walk.resolve(Array(path.utf8))
      let fileSystem = try FileSystemTypes.make(Array(type.utf8), source: [], readOnly: false, options: [], context: context)
      try Mounts.add(Mount(fileSystem, source: Array(type.utf8), flags: 0), at: place)
    } catch { log("boot: \(path) could not be mounted: errno \(error.rawValue)") }
  }

  /// Mounts the device and makes it the root of everything.
  static func mount(_ line: CommandLine, over old: Path) throws(Errno) -> Path {
    guard let name = line.root, let node = find(name) else {
      log("boot: no root file system: give root=/dev/NAME, root=LABEL=… or root=UUID=…")
      Panic.stop("no root file system")
    }
    do throws(Errno) {
      let fileSystem = try mountRoot(node, line)
      let mount = Mount(fileSystem, source: name, flags: line.readOnly ? MountFlags.readOnly : 0)
      Mounts.replaceRoot(mount)
      return Path(mount: mount, dentry: mount.root)
    } catch {
      log("boot: the root file system cannot be mounted: errno \(error.rawValue)")
      Panic.stop("no root file system")
    }
  }

  /// `rootfstype=` lists the kinds to try; those that are for a root without it.
  private static func mountRoot(_ node: BlockNode, _ line: CommandLine) throws(Errno) -> any FileSystem {
    var failure = Errno.operationNotSupportedByDevice
    for type in (line.rootType ?? Array("ext2,diskfs".utf8)).split(separator: 44) {
      do throws(Errno) { return try FileSystemTypes.make(Array(type), on: node.inode, readOnly: line.readOnly) } catch { failure = error }
    }
    throw failure
  }

  private static func find(_ name: [UInt8]) -> BlockNode? {
    var found: BlockNode?
    let prefix = Array("/dev/".utf8)
    let short = name.starts(with: prefix) ? Array(name.dropFirst(prefix.count)) : name
    let label = Array("LABEL=".utf8)
    let uuid = Array("UUID=".utf8)
    DeviceRegistry.forEach { device, isBlock, _, _, node in
      guard found == nil, isBlock, let node = node as? BlockNode else { return }
      if device == short {
        found = node
      } else if name.starts(with: label) || name.starts(with: uuid) {
        guard let names = names(node) else { return }
        if name.starts(with: label), names.label == Array(name.dropFirst(label.count)) { found = node }
        if name.starts(with: uuid), uuidText(names.uuid) == Array(name.dropFirst(uuid.count)) { found = node }
      }
    }
    return found
  }

  /// What the file system on a device is called.
  private static func names(_ node: BlockNode) -> (label: [UInt8], uuid: [UInt8])? {
    if let bytes = try? node.inode.bytes(at: 1024, count: 1024), let superblock = try? Ext2Superblock(bytes.span) {
      return (superblock.label, superblock.uuid)
    }
    for place in DiskFormat.superblocks {
      let start = UInt64(place) * UInt64(DiskFormat.blockSize)
      guard let bytes = try? node.inode.bytes(at: start, count: DiskFormat.blockSize), let superblock = DiskSuperblock(bytes) else {
        continue
      }
      return (superblock.label, superblock.uuid)
    }
    return nil
  }

  private static func uuidText(_ bytes: [UInt8]) -> [UInt8] {
    var text: [UInt8] = []
    for (index, byte) in bytes.enumerated() {
      if [4, 6, 8, 10].contains(index) { text.append(45) }
      for digit in [byte >> 4, byte & 15] { text.append(digit < 10 ? 48 + digit : 87 + digit) }
    }
    return text
  }
}

/// Unpacks the boot modules into the root.
enum InitramfsUnpacker {
  static func unpackAll(to root: Path) throws(Errno) -> Int {
    var count = 0
    let context = PathContext(root: root, directory: root, credentials: Credentials())
    for module in Machine.boot.modules {
      count += FrameModule.withBytes(module.start, module.end) { archive in unpack(archive, context) }
    }
    return count
  }

  /// Damage ends it, with what came before kept.
  private static func unpack(_ bytes: borrowing Span<UInt8>, _ context: PathContext) -> Int {
    var unpacking = Unpacking(context: context)
    do throws(InitramfsError) { try Initramfs.read(bytes, into: &unpacking) } catch { log("initramfs: the archive is damaged") }
    return unpacking.count
  }
}

/// Makes the files of an archive.
private struct Unpacking: CpioSink {
  let context: PathContext
  var count = 0
  private var entry: CpioEntry?
  /// A file that is being filled, and how far it is; or what a link says.
  private var inode: Inode?
  private var position: UInt64 = 0
  private var target: [UInt8] = []

  init(context: PathContext) { self.context = context }

  private static var longestTarget: Int { 4096 }

  mutating func begin(_ entry: CpioEntry) {
    count += 1
    self.entry = entry
    inode = nil
    position = 0
    target = []
    // A link is made when all of it is known.
    if entry.mode & Mode.typeMask != Mode.link { inode = make(entry) }
  }

  mutating func add(_ bytes: borrowing Span<UInt8>, _ range: Range<Int>) {
    guard let entry else { return }
    if entry.mode & Mode.typeMask == Mode.link {
      for index in range where target.count < Self.longestTarget { target.append(bytes[index]) }
    } else if let inode, inode.isRegular {
      var done = range.lowerBound
      // In pieces: the heap gives no block as large as a file may be.
      while done < range.upperBound {
        let count = min(65536, range.upperBound - done)
        var piece: [UInt8] = []
        piece.reserveCapacity(count)
        for index in done..<(done + count) { piece.append(bytes[index]) }
        do throws(Errno) { try inode.write(bytes: piece, at: position) } catch {
          log("initramfs: a file could not be written: errno \(error.rawValue)")
          self.inode = nil
          return
        }
        position += UInt64(count)
        done += count
      }
    }
  }

  mutating func end() {
    guard let entry, entry.mode & Mode.typeMask == Mode.link else { return }
    _ = make(entry)
  }

  private func make(_ entry: CpioEntry) -> Inode? {
    var walk = PathWalk(context)
    do throws(Errno) {
      let place = try walk.resolveParent([47] + entry.name)
      if place.name.isEmpty || place.name == [46] { return nil }
      var attributes = Attributes(mode: entry.mode, owner: entry.owner, group: entry.group)
      attributes.device = DeviceNumber(major: entry.deviceMajor, minor: entry.deviceMinor)
      let made = try Names.create(place, context.credentials) { directory throws(Errno) in
        entry.mode & Mode.typeMask == Mode.link
          ? try directory.fileSystem.symlink(place.name, in: directory, target: target, attributes)
          : try directory.fileSystem.create(place.name, in: directory, attributes)
      }
      return try made.inode()
    } catch {
      if error != .fileExists { log("initramfs: a file could not be made: errno \(error.rawValue)") }
      return nil
    }
  }
}

/// Process 1.
enum FirstProcess {
  static func start(root: Path, _ line: CommandLine) throws(Errno) {
    let task = try Process.makeFirst(root: root)
    let usual = ["/init", "/sbin/init", "/etc/init", "/bin/init", "/bin/sh"].map { Array($0.utf8) }
    let candidates = line.ramdiskInit.map { [$0] } ?? (line.initPath.map { [$0] } ?? []) + usual
    task.process.launch(task, candidates: candidates, arguments: line.initArguments, environment: line.initEnvironment)
  }
}
