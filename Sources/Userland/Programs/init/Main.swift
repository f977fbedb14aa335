import SystemABI
import UserKit

/// Process 1: mounts the file systems, runs a command or keeps a shell on the console, reaps orphans, ends the system.
///
/// From an initramfs it first moves to the root file system that the kernel command line names; with `overlayroot=tmpfs` the disk
/// stays as it is, and what changes lies over it in memory. A file `/command` beside it
/// holds the words of a command to run instead of a shell; the system then ends with its status.
@main
struct Main {
  static func main() {
    let command = readCommand()
    let hasRoot = enterRoot()
    mountAll()
    mountPersistent()
    openConsole()
    try? Process.newSession()
    try? FileDescriptor.standardInput.takeControl()
    if let command { end(hasRoot ? run(command, environment: environment) : 3) }
    if hasRoot, isRamdisk, let program = option("init=") { start([program], environment) }
    if !hasRoot { complain("no root file system: this is the emergency shell; type exit to power off") }
    _ = run(["/bin/sh"], environment: environment)
    complain("the shell ended; powering off")
    end(0)
  }

  /// Whether we came from the initramfs, whose init is /init.
  private static var isRamdisk: Bool { Program.arguments.first == "/init" }

  static var environment: [Bytes] {
    ["PATH=/sbin:/usr/sbin:/bin:/usr/bin", "HOME=/root", "TERM=linux", "USER=root"]
  }

  private static func end(_ status: Int32) -> Never {
    Output.standard.flush()
    Process.sync()
    try? Process.powerOff(status: status)
    while true {}
  }

  /// The words of /command.
  private static func readCommand() -> [Bytes]? {
    guard let file = try? FileDescriptor.open("/command"), let text = try? file.readAll() else { return nil }
    try? file.close()
    return text.split(separator: 0, omittingEmptySubsequences: false).dropLast().map { Array($0) }
  }

  /// The value of `name=` on the kernel command line.
  private static func option(_ name: Bytes) -> Bytes? {
    guard let file = try? FileDescriptor.open("/proc/cmdline"), let text = try? file.readAll() else { return nil }
    try? file.close()
    for word in text.split(whereSeparator: { $0 == 32 || $0 == 10 }) where word.starts(with: name) {
      return Array(word.dropFirst(name.count))
    }
    return nil
  }

  /// Mounts root= and makes it our root. False when there is none or it cannot be mounted.
  private static func enterRoot() -> Bool {
    guard isRamdisk, let device = option("root=") else { return true }
    let type = option("rootfstype=") ?? "ext2"
    do throws(Errno) {
      if let layer = option("overlayroot=") {
        guard layer == "tmpfs" else { throw .invalidArgument }
        try mountLive(device, type)
      } else {
        try FileSystem.mount(device, at: "/root", type: type)
      }
      try FileSystem.changeDirectory("/root")
      try FileSystem.changeRoot(".")
      return true
    } catch {
      complain("cannot mount " + device, error)
      return false
    }
  }

  /// The disk, which is only read, under a layer in memory.
  private static func mountLive(_ device: Bytes, _ type: Bytes) throws(Errno) {
    for folder in ["/lower", "/live"] as [Bytes] { try FileSystem.makeDirectory(folder) }
    let readOnly: UInt32 = 1
    try FileSystem.mount(device, at: "/lower", type: type, flags: readOnly)
    try FileSystem.mount("tmpfs", at: "/live", type: "tmpfs", options: "mode=755")
    for folder in ["/live/upper", "/live/work"] as [Bytes] { try FileSystem.makeDirectory(folder) }
    try FileSystem.mount(
      "overlay", at: "/root", type: "overlay", options: "lowerdir=/lower,upperdir=/live/upper,workdir=/live/work")
  }

  /// A diskfs volume with the label `persist` keeps what is in /persist: nothing that a call there has done is lost.
  private static func mountPersistent() {
    guard let file = try? FileDescriptor.open("/proc/partitions"), let text = try? file.readAll() else { return }
    try? file.close()
    for line in text.split(separator: 10) {
      let words = line.split(separator: 32)
      guard words.count == 4, words[0] != Array("major".utf8)[...] else { continue }
      let device = "/dev/" + Bytes(words[3])
      guard isPersistent(device) else { continue }
      try? FileSystem.makeDirectory("/persist")
      do throws(Errno) { try FileSystem.mount(device, at: "/persist", type: "persistfs") } catch {
        complain("cannot mount /persist", error)
      }
      return
    }
  }

  /// Whether one of the two superblocks says so; the kernel looks whether it is whole.
  private static func isPersistent(_ device: Bytes) -> Bool {
    guard let file = try? FileDescriptor.open(device) else { return false }
    defer { try? file.close() }
    for place in [4096, 8192] as [UInt32] {
      try? file.seek(to: place)
      let label: Bytes = "persist"
      if let block = try? file.read(96), block.count == 96, block.starts(with: "AdrOSdf" as Bytes),
        block[64..<71] == label[...], block[71] == 0
      {
        return true
      }
    }
    return false
  }

  private static func mountAll() {
    let mounts: [(Bytes, Bytes)] = [
      ("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("devpts", "/dev/pts"), ("tmpfs", "/dev/shm"), ("tmpfs", "/tmp"),
    ]
    for (type, place) in mounts {
      if place.starts(with: "/dev/" as Bytes) { try? FileSystem.makeDirectory(place) }
      guard (try? FileSystem.stat(place)) != nil else { continue }
      if let mounted = try? FileSystem.stat(place + "/self"), mounted.type == Mode.link { continue }
      do throws(Errno) { try FileSystem.mount(type, at: place, type: type) } catch {
        if error != .resourceBusy { complain("cannot mount " + place, error) }
      }
    }
  }

  /// The console by its name in this root: the one that the kernel opened lies where programs cannot see it, and ttyname(3)
  /// would not find it.
  private static func openConsole() {
    guard let console = try? FileDescriptor.open("/dev/console", flags: OpenFlags.readWrite | OpenFlags.noControllingTerminal) else {
      return
    }
    for number in 0..<3 as Range<Int32> { try? console.duplicate(as: number) }
    if console.rawValue > 2 { try? console.close() }
  }

  /// Runs a program in the foreground and reaps whatever else ends meanwhile.
  private static func run(_ words: [Bytes], environment: [Bytes]) -> Int32 {
    guard let child = try? Process.fork() else { return 126 }
    if child == 0 {
      // Taking the terminal from the background raises SIGTTOU, which must not stop us.
      Process.ignore(22)
      try? Process.setGroup(0, 0)
      try? FileDescriptor.standardInput.setForeground(group: Process.id)
      Process.restoreDefault(22)
      start(words, environment)
    }
    while true {
      do throws(Errno) {
        guard let (ended, status) = try Process.wait(-1), ended == child else { continue }
        switch status {
        case .exited(let code): return code
        case .signaled(let signal): return 128 + signal
        default: continue
        }
      } catch {
        if error != .interrupted { return 126 }
      }
    }
  }

  private static func start(_ words: [Bytes], _ environment: [Bytes]) -> Never {
    let folders: [Bytes] = words[0].contains(47) ? [""] : ["/sbin/", "/usr/sbin/", "/bin/", "/usr/bin/"]
    var failure = Errno.noSuchFileOrDirectory
    for folder in folders {
      do throws(Errno) { try Process.execute(folder + words[0], words, environment: environment) } catch {
        if error != .noSuchFileOrDirectory { failure = error }
      }
    }
    complain(words[0], failure)
    Program.exit(failure == .noSuchFileOrDirectory ? 127 : 126)
  }
}
