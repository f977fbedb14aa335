import BootData
import BootOptions
import Devices
import FileSystems
import Initramfs
import Machine
import Processes
import Sync
import Syscalls
import SystemABI
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
    Mounts.start()
    Names.start()
    DeviceRegistry.start()
    FileSystemTypes.start()
    ProcessTable.start()
    Futex.start()
    SystemName.start()
  }

  /// The boot thread.
  static func run() {
    do throws(Errno) {
      let root = TmpFS(typeName: "rootfs", device: 1, mode: 0o755)
      let mount = Mount(root, source: Array("rootfs".utf8), flags: 0)
      Mounts.addRoot(mount)
      let rootPath = Path(mount: mount, dentry: mount.root)
      SharedMemoryStore.cell.set(SharedMemoryStore(TmpFS(typeName: "shmem", device: 2)))
      try DeviceSetup.run(context.value.line)
      let unpacked = try InitramfsUnpacker.unpackAll(to: rootPath)
      log("initramfs: \(unpacked) files")
      try FirstProcess.start(root: rootPath, context.value.line)
    } catch { Panic.stop("boot failed: errno \(error.rawValue)") }
  }
}

/// Terminals and the simple devices.
enum DeviceSetup {
  static func run(_ line: CommandLine) throws(Errno) {
    SimpleDevice.registerAll()
    DeviceRegistry.register("tty", major: 5, minor: 0, mode: 0o666, CurrentTerminal())
    var consoles: [any Device] = []
    for (index, base) in [UInt16(0x3F8), 0x2F8, 0x3E8, 0x2E8].enumerated() {
      guard let port = SerialPort(base: base) else { continue }
      let terminal = TerminalDevice(DeviceNumber(major: 4, minor: UInt32(64 + index)), outputs: [port])
      port.attach(terminal, line: index & 1 == 0 ? 4 : 3)
      DeviceRegistry.register("ttyS\(index)", major: 4, minor: UInt32(64 + index), mode: 0o620, terminal)
      consoles.append(terminal)
    }
    guard let console = consoles.first else { return }
    DeviceRegistry.register("console", major: 5, minor: 1, mode: 0o600, console)
  }
}

/// Unpacks the boot modules into the root.
enum InitramfsUnpacker {
  static func unpackAll(to root: Path) throws(Errno) -> Int {
    var count = 0
    let context = PathContext(root: root, directory: root, credentials: Credentials())
    for module in unsafe Machine.boot.modules {
      let archive = FrameModule.bytes(module.start, module.end)
      var reader = CpioReader()
      while true {
        let entry: CpioEntry?
        do throws(CpioError) { entry = try reader.next(archive.span) } catch {
          log("initramfs: the archive is damaged")
          break
        }
        guard let entry else { break }
        try add(entry, archive, context)
        count += 1
      }
    }
    return count
  }

  private static func add(_ entry: CpioEntry, _ archive: [UInt8], _ context: PathContext) throws(Errno) {
    var walk = PathWalk(context)
    let place = try walk.resolveParent([47] + entry.name)
    if place.name.isEmpty || place.name == [46] { return }
    let who = context.credentials
    var attributes = Attributes(mode: entry.mode, owner: entry.owner, group: entry.group)
    attributes.device = DeviceNumber(major: entry.deviceMajor, minor: entry.deviceMinor)
    do throws(Errno) {
      let made = try Names.create(place, who) { directory throws(Errno) in
        entry.mode & Mode.typeMask == Mode.link
          ? try directory.fileSystem.symlink(place.name, in: directory, target: Array(archive[entry.content]), attributes)
          : try directory.fileSystem.create(place.name, in: directory, attributes)
      }
      if entry.mode & Mode.typeMask == Mode.regular {
        try made.inode().write(bytes: Array(archive[entry.content]), at: 0)
      }
    } catch { if error != .fileExists { throw error } }
  }
}

/// Process 1.
enum FirstProcess {
  static func start(root: Path, _ line: CommandLine) throws(Errno) {
    let task = try Process.makeFirst(root: root)
    let candidates = line.ramdiskInit.map { [$0] } ?? ["/init", "/sbin/init", "/bin/sh"].map { Array($0.utf8) }
    task.process.launch(task, candidates: candidates, arguments: line.initArguments, environment: line.initEnvironment)
  }
}
