import ArgumentParser
import Foundation
#if canImport(Glibc)
  import Glibc
#endif
import ImageKit

struct Run: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Boots the system, with a shell or one command on this terminal.",
    discussion: "Ctrl-C goes to the guest; Ctrl-A X ends the machine. With -- COMMAND the exit status is the command's.")

  @OptionGroup var machine: MachineOptions
  @Option(help: "An ext2 or diskfs image to use as root instead of our own.") var root: String?
  @Option(help: "Another kernel than ours.") var kernel: String?
  @Option(help: "Boot this disk or .iso through its own loader instead.") var boot: String?
  @Option(help: "Another disk: FILE[,if=virtio|ide].") var disk: [String] = []
  @Option(help: "Forward a port of this machine: tcp:2222:22, or auto:22 for a free one.") var forward: [String] = []
  @Option(name: .shortAndLong, help: "debug (the kernel checks its locks) or release.") var configuration: Builder.Configuration = .release
  @Flag(help: "Write changes to the images.") var persist = false
  @Flag(help: "Lay changes of the root over the disk, in memory: it is only read.") var live = false
  @OptionGroup var tracing: Tracing
  @Argument(parsing: .postTerminator, help: "A command to run in the guest.") var command: [String] = []

  func validate() throws {
    if boot != nil, root != nil || kernel != nil || !command.isEmpty {
      throw ValidationError("--boot starts what is on the disk: it takes no --root, --kernel or COMMAND")
    }
    if live, persist || boot != nil { throw ValidationError("--live writes nothing and is our own loader's: no --persist, no --boot") }
    for text in disk {
      let parts = text.components(separatedBy: ",if=")
      if parts.count > 2 || parts.count == 2 && !["virtio", "ide"].contains(parts[1]) {
        throw ValidationError("--disk is FILE or FILE,if=virtio or FILE,if=ide, not \(text)")
      }
    }
  }

  func run() async throws {
    try await reporting {
      let settings = try machine.resolve()
      if !forward.isEmpty, !settings.network {
        throw ToolError("--forward needs a network", why: "there is none", hint: "--net", code: ExitStatus.usage)
      }
      if kernel == nil, boot == nil { try await Builder.build(.kernel, configuration) }
      if boot == nil { try await Builder.build(.userland) }
      let log = try Paths.scratch("kernel-\(ProcessInfo.processInfo.processIdentifier).log")
      var value = VirtualMachine(loader: .disk, log: log)
      value.settings = settings
      value.interactive = isatty(0) == 1
      let monitor = try Machines.socket()
      value.monitor = monitor
      defer { try? FileManager.default.removeItem(at: monitor) }
      value.forwards = try forward.map { try PortForward.rule($0) }
      try addDisks(&value)
      let initramfs = try chooseLoader(&value)
      if !tracing.announce(value.arguments) { return }
      defer { if let initramfs { try? FileManager.default.removeItem(at: initramfs) } }
      let outcome = try await Shell.run(value.arguments, timeout: settings.timeout)
      try await finish(Ending.judge(outcome, log: log), log, settings)
    }
  }

  private func addDisks(_ value: inout VirtualMachine) throws {
    if let boot {
      if !boot.hasSuffix(".iso") { try add(boot, value.settings.rootInterface, &value) }
    } else {
      let image = try root ?? (persist ? RootImage.kept() : RootImage.make()).path
      if root != nil, try ImageVolume.find(in: image).kind == .fat {
        throw ToolError("\(image) cannot be the root", why: "it holds a FAT file system", hint: "--disk \(image)", code: ExitStatus.usage)
      }
      try add(image, value.settings.rootInterface, &value)
    }
    for text in disk {
      let parts = text.components(separatedBy: ",if=")
      try add(parts[0], parts.count > 1 ? parts[1] : "virtio", &value)
    }
  }

  private func add(_ file: String, _ interface: String, _ value: inout VirtualMachine) throws {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: file, isDirectory: &isFolder), !isFolder.boolValue else {
      throw ToolError("there is no image \(file)", why: "no such file", hint: "./adrosctl image -o \(file)", code: ExitStatus.usage)
    }
    if let pid = ImageUse.writer(of: file) {
      throw ToolError("\(file) is in use", why: "already running (pid \(pid)) with it", hint: "end that machine, or copy the image")
    }
    value.disks.append(VirtualMachine.Disk(file: file, interface: interface, snapshot: !persist))
  }

  /// Sets what is booted; answers the initramfs to remove afterwards.
  private func chooseLoader(_ value: inout VirtualMachine) throws -> URL? {
    if let boot {
      value.loader = boot.hasSuffix(".iso") ? .cd(boot) : .disk
      return nil
    }
    let image = kernel.map { URL(fileURLWithPath: $0) } ?? Paths.kernel(configuration)
    try KernelCheck.check(image)
    let initramfs = try RootImage.makeInitramfs(command: command.isEmpty ? nil : command)
    value.loader = .kernel(image, initramfs: initramfs)
    let settings = value.settings
    value.commandLine = settings.commandLine + (live ? ["overlayroot=tmpfs"] : [])
    if !value.commandLine.contains(where: { $0.hasPrefix("root=") }) {
      let partition = value.disks[0].file.isEmpty ? nil : try? ImageVolume.find(in: value.disks[0].file)
      let device = settings.rootInterface == "ide" ? "hda" : "vda"
      value.commandLine.append("root=/dev/\(device)\((partition?.offset ?? 0) > 0 ? "1" : "")")
      if partition?.kind == .diskfs { value.commandLine.append("rootfstype=diskfs") }
    }
    if let video = settings.video { value.commandLine.append("video=" + video) }
    // A window without a command is where somebody wants to type.
    if settings.display != "none", command.isEmpty { value.commandLine += ["console=ttyS0", "console=tty0"] }
    return initramfs
  }

  private func finish(_ ending: Ending, _ log: URL, _ settings: MachineSettings) async throws {
    switch ending {
    case .powerOff(let status):
      try? FileManager.default.removeItem(at: log)
      if status != 0 { throw ExitCode(status) }
      return
    case .failed(let why):
      throw ToolError("QEMU did not start the machine", why: why, hint: "./adrosctl run -v to see its command line")
    case .reset where boot != nil: return  // closing the window is how such a machine ends
    case .panic, .reset, .timeout: break
    }
    Progress.say(Ending.tail(log))
    if case .panic = ending {
      Progress.say(try await Symbolize.symbolize(Ending.tail(log, lines: 200), kernel: Paths.kernel(configuration)))
    }
    if case .timeout = ending {
      throw ToolError(
        "the guest did not finish in time", why: "--timeout \(Int(settings.timeout ?? 0))s", hint: "less \(log.path)",
        code: ExitStatus.timeout)
    }
    throw ToolError(
      "the kernel ended without powering off", why: "\(ending)", hint: "less \(log.path)", code: ExitStatus.kernelPanic)
  }
}

/// What machine to boot, for `run` and `debug`: flags over the configuration.
struct MachineOptions: ParsableArguments {
  @Option(help: "A machine of configs/machines.") var config: String?
  @Option(help: "Number of processors, 1 to 8.") var smp: String?
  @Option(help: "Memory, e.g. 256M or 1G.") var memory: String?
  @Option(help: "QEMU's processor: max, qemu32, n270, …") var cpu: String?
  @Flag(help: "Attach an e1000 network card with user networking.") var net = false
  @Option(help: "Interface of the root disk: virtio or ide.") var rootInterface: String?
  @Option(help: "none, gtk or vnc.") var display: String?
  @Option(help: "The console: text, or a frame buffer like 1024x768.") var video: String?
  @Option(help: "More words for the kernel command line.") var append: [String] = []
  @Option(help: "End after so long (60s, 5m), with status 4.") var timeout: String?

  func resolve() throws -> MachineSettings {
    var settings = try MachineSettings.load(
      config, folder: Paths.configurations, environment: ProcessInfo.processInfo.environment)
    let flags: [(MachineSettings.Key, String, String?)] = [
      (.processors, "--smp", smp), (.memory, "--memory", memory), (.cpu, "--cpu", cpu), (.network, "--net", net ? "yes" : nil),
      (.rootInterface, "--root-interface", rootInterface), (.display, "--display", display),
      (.video, "--video", video), (.timeout, "--timeout", timeout),
    ]
    for (key, flag, value) in flags {
      guard let value else { continue }
      do throws(SettingError) { try settings.set(key, value) } catch {
        throw ToolError("\(flag) \(error.text)", why: "the value is not usable", hint: "./adrosctl help run", code: ExitStatus.usage)
      }
    }
    settings.commandLine += append.flatMap { $0.split(separator: " ").map(String.init) }
    return settings
  }
}

/// `--forward`.
enum PortForward {
  /// QEMU's rule for `tcp:2222:22`, `udp:…` or `auto:22`, on loopback.
  static func rule(_ text: String) throws -> String {
    let parts = text.split(separator: ":").map(String.init)
    if parts.count == 2, parts[0] == "auto", let guest = UInt16(parts[1]) {
      let port = try freePort()
      Progress.say("port \(port) of this machine is the guest's \(guest)")
      return "tcp:127.0.0.1:\(port)-:\(guest)"
    }
    guard parts.count == 3, ["tcp", "udp"].contains(parts[0]), let host = UInt16(parts[1]), host > 0, let guest = UInt16(parts[2]) else {
      throw ToolError(
        "--forward \(text) is no rule", why: "a rule is tcp:HOST:GUEST, udp:HOST:GUEST or auto:GUEST", hint: "--forward tcp:2222:22",
        code: ExitStatus.usage)
    }
    if bind(port: host, datagram: parts[0] == "udp") == nil {
      throw ToolError("port \(host) is busy", why: String(cString: strerror(errno)), hint: "--forward auto:\(guest)")
    }
    return "\(parts[0]):127.0.0.1:\(host)-:\(guest)"
  }

  private static func freePort() throws -> UInt16 {
    guard let port = bind(port: 0, datagram: false) else {
      throw ToolError("no port is free", why: String(cString: strerror(errno)), hint: "--forward tcp:HOST:GUEST")
    }
    return port
  }

  /// Binds and lets go again: the port that it got, or nil.
  private static func bind(port: UInt16, datagram: Bool) -> UInt16? {
    let kind = datagram ? SOCK_DGRAM : SOCK_STREAM
    let file = socket(AF_INET, Int32(kind.rawValue), 0)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var on: Int32 = 1
    setsockopt(file, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let result = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        #if canImport(Glibc)
          let bound = Glibc.bind(file, pointer, length)
        #else
          let bound = Darwin.bind(file, pointer, length)
        #endif
        return bound == 0 ? getsockname(file, pointer, &length) : -1
      }
    }
    return result == 0 ? UInt16(bigEndian: address.sin_port) : nil
  }
}
