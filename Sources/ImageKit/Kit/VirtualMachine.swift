import Foundation

/// A QEMU machine as a value: small functions make its command line.
public struct VirtualMachine: Sendable {
  public struct Disk: Sendable {
    public var file: String
    /// virtio or ide.
    public var interface: String
    /// Changes stay in memory.
    public var snapshot: Bool
    /// Flushes do not wait for this machine's disk: an image that nobody needs after a power cut here.
    public var disposable = false
    public init(file: String, interface: String, snapshot: Bool) {
      self.file = file
      self.interface = interface
      self.snapshot = snapshot
    }
  }
  public enum Debugger: Sendable {
    /// A gdb stub on a unix socket; the machine waits for it.
    case waiting(socket: String)
  }
  /// How the system gets into memory.
  public enum Loader: Sendable {
    case kernel(URL, initramfs: URL?)
    /// Firmware and the loader of the first disk, or of this CD.
    case disk
    case cd(String)
  }

  public var loader: Loader
  public var commandLine: [String] = []
  public var settings = MachineSettings()
  public var disks: [Disk] = []
  /// QEMU's hostfwd rules.
  public var forwards: [String] = []
  /// Where the kernel's log goes: QEMU's debug console.
  public var log: URL
  /// Where the second serial port's output goes.
  public var results: URL?
  /// Whether the console is a terminal with QEMU's escape keys.
  public var interactive = true
  /// Makes runs repeatable: guest time counts instructions.
  public var countsInstructions = false
  /// What a guest ends the emulator with. Without it there is what a machine has, and no status comes back.
  public var hasExitDevice = true
  public var debugger: Debugger?
  /// Where QEMU's control socket is.
  public var monitor: URL?

  public init(loader: Loader, log: URL) {
    self.loader = loader
    self.log = log
  }

  public var arguments: [String] {
    var result = ["qemu-system-i386", "-accel", settings.processors > 1 ? "tcg,thread=multi" : "tcg", "-cpu", settings.cpu]
    result += ["-m", "\(settings.memory)", "-smp", "\(settings.processors)", "-no-reboot"]
    switch loader {
    case .kernel(let kernel, let initramfs):
      result += ["-kernel", kernel.path, "-append", commandLine.joined(separator: " ")]
      if let initramfs { result += ["-initrd", initramfs.path] }
    case .disk: break
    case .cd(let file): result += ["-cdrom", file, "-boot", "d"]
    }
    if countsInstructions { result += ["-icount", "shift=0,sleep=off,align=off", "-rtc", "clock=vm"] }
    if hasExitDevice { result += ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"] }
    result += ["-debugcon", "file:" + log.path]
    return result + consoleArguments + diskArguments + networkArguments + debuggerArguments
  }

  private var consoleArguments: [String] {
    var result = ["-display", settings.display == "vnc" ? "vnc=127.0.0.1:0,to=99" : settings.display]
    // Ctrl-A X quits; Ctrl-C goes to the guest.
    result += ["-chardev", "stdio,id=console,mux=\(interactive ? "on" : "off"),signal=off", "-serial", "chardev:console"]
    if interactive { result += ["-mon", "chardev=console,mode=readline"] } else { result += ["-monitor", "none"] }
    if let monitor {
      let path = monitor.path.replacingOccurrences(of: ",", with: ",,")
      result += ["-chardev", "socket,id=control,path=\(path),server=on,wait=off", "-mon", "chardev=control,mode=control"]
    }
    // A test has a third port, to which nothing is joined.
    if let results { result += ["-serial", "file:" + results.path, "-serial", "null"] }
    return result
  }

  private var diskArguments: [String] {
    disks.enumerated().flatMap { index, disk in
      // A comma in a file name is doubled: QEMU's options are separated by commas.
      let file = disk.file.replacingOccurrences(of: ",", with: ",,")
      let mode = (disk.snapshot ? ",snapshot=on" : "") + (disk.disposable ? ",cache=unsafe" : "")
      return ["-drive", "file=\(file),format=raw,index=\(index),if=\(disk.interface)\(mode)"]
    }
  }

  private var networkArguments: [String] {
    guard settings.network else { return ["-nic", "none"] }
    return ["-nic", (["user", "model=e1000"] + forwards.map { "hostfwd=" + $0 }).joined(separator: ",")]
  }

  private var debuggerArguments: [String] {
    guard case .waiting(let socket)? = debugger else { return [] }
    return ["-S", "-gdb", "unix:path=\(socket),server=on,wait=off"]
  }
}

/// How a run of the machine ended.
public enum Ending: Sendable, Equatable, CustomStringConvertible {
  case powerOff(status: Int32)
  case panic
  case reset
  case timeout
  /// QEMU itself failed, with these words.
  case failed(String)

  public var description: String {
    switch self {
    case .powerOff(let status): "power off, status \(status)"
    case .panic: "kernel panic"
    case .reset: "reset without power-off"
    case .timeout: "time is up"
    case .failed(let text): "QEMU failed: \(text)"
    }
  }

  /// Reads QEMU's status and the kernel's last words. Only the debug-exit code for a clean power-off passes.
  public static func judge(_ outcome: Shell.Outcome, log: URL) -> Ending {
    if outcome.timedOut { return .timeout }
    let text = (try? String(decoding: Data(contentsOf: log), as: UTF8.self)) ?? ""
    if outcome.status == 33 {
      let marker = "power off, status "
      if let line = text.split(separator: "\n").last(where: { $0.contains(marker) }), let at = line.range(of: marker) {
        return .powerOff(status: Int32(line[at.upperBound...]) ?? 0)
      }
      return .panic
    }
    if outcome.status == 1, text.isEmpty { return .failed("it ended before the kernel began") }
    return text.contains("KERNEL PANIC") ? .panic : .reset
  }

  /// The end of the kernel's log.
  public static func tail(_ log: URL, lines: Int = 40) -> String {
    let text = (try? String(decoding: Data(contentsOf: log), as: UTF8.self)) ?? ""
    return text.split(separator: "\n").suffix(lines).joined(separator: "\n")
  }
}

/// Who else uses an image.
public enum ImageUse {
  /// The process that has a file open for writing, as Linux's /proc tells; nil when there is none.
  public static func writer(of path: String) -> Int32? {
    guard let wanted = realpath(path, nil) else { return nil }
    defer { free(wanted) }
    let file = String(cString: wanted)
    let manager = FileManager.default
    for name in (try? manager.contentsOfDirectory(atPath: "/proc")) ?? [] {
      guard let pid = Int32(name), pid != getpid() else { continue }
      for descriptor in (try? manager.contentsOfDirectory(atPath: "/proc/\(pid)/fd")) ?? [] {
        guard (try? manager.destinationOfSymbolicLink(atPath: "/proc/\(pid)/fd/\(descriptor)")) == file,
          let information = try? String(contentsOfFile: "/proc/\(pid)/fdinfo/\(descriptor)", encoding: .utf8),
          let line = information.split(separator: "\n").first(where: { $0.hasPrefix("flags:") }),
          let flags = Int(line.dropFirst(6).trimmingCharacters(in: .whitespaces), radix: 8), flags & 3 != 0
        else { continue }
        return pid
      }
    }
    return nil
  }
}
