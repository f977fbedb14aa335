import Foundation
import ImageKit

/// Ways to boot, and what bad input gets: each a run of the machine, judged by its ending and its console.
enum BootTests {
  static let names = [
    "boot: GRUB and Multiboot 2 from an MBR disk", "boot: GRUB and Multiboot 2 from a GPT disk", "boot: GRUB from a CD",
    "boot: a processor without NX, 8259 controllers, IDE", "boot: an Atom processor", "boot: 32 MiB of memory", "boot: 8 processors",
    "boot: a root by its label, without an initramfs", "boot: a command's status comes back",
    "boot: a command that the root does not have", "boot: a corrupt superblock is no panic", "boot: a kernel stack overflow has a name",
    "boot: a panic has a backtrace with names", "boot: the log stays out of a command's output", "boot: VGA text shows the console",
    "boot: gdb asks the stopped kernel for its processes", "boot: a live system leaves its disk alone",
    "boot: what is in /persist outlives a crash, on a root of diskfs", "boot: an initramfs packed by gzip",
    "boot: GRUB's frame buffer shows the console", "boot: ACPI turns the machine off",
  ]

  static func run(_ results: Results) async throws {
    let folder = try Paths.scratch("boot-tests")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let root = try RootImage.make(name: "boot-root.ext2").path
    try await loaders(results, folder)
    let machines: [(name: String, command: [String], change: (inout VirtualMachine) -> Void)] = [
      (
        names[3], ["uname", "-m"],
        {
          $0.settings.cpu = "qemu32"; $0.commandLine.append("noapic"); $0.disks[0].interface = "ide"
        }
      ),
      (names[4], ["uname", "-m"], { $0.settings.cpu = "n270" }),
      (names[5], ["uname", "-m"], { $0.settings.memory = 32 }),
      (names[6], ["uname", "-m"], { $0.settings.processors = 8 }),
    ]
    for (name, command, change) in machines {
      await results.check(name) {
        let run = try await start(root, command, change)
        try expect(run, .powerOff(status: 0), output: "i686")
      }
    }
    await results.check(names[8]) { try expect(try await start(root, ["/bin/sh", "-c", "exit 42"]), .powerOff(status: 42), output: "") }
    await results.check(names[9]) {
      try expect(try await start(root, ["no-such-command"]), .powerOff(status: 127), output: "no-such-command")
    }
    await results.check(names[10]) {
      let broken = folder.appendingPathComponent("broken.ext2")
      try FileManager.default.copyItem(at: URL(fileURLWithPath: root), to: broken)
      let file = try FileHandle(forUpdating: broken)
      try file.seek(toOffset: 1024)
      try file.write(contentsOf: Data(repeating: 0xA5, count: 56))
      try file.close()
      try expect(try await start(broken.path, ["true"]), .powerOff(status: 3), output: "cannot mount /dev/vda")
    }
    await results.check(names[11]) {
      let run = try await start(root, ["/bin/sh", "-c", "echo S > /proc/sysrq-trigger"])
      try expect(run, .panic, log: "kernel stack overflow")
    }
    await results.check(names[12]) {
      let run = try await start(root, ["/bin/sh", "-c", "echo c > /proc/sysrq-trigger"]) { $0.settings.processors = 2 }
      try expect(run, .panic, log: "cpu 1:")
      let symbols = try await Symbolize.symbolize(run.log, kernel: Paths.kernel)
      guard symbols.contains("SystemRequest") else { throw ToolError("the backtrace has no names", why: symbols, hint: "") }
    }
    await results.check(names[13]) {
      let run = try await start(root, ["echo", "only this"]) {
        $0.commandLine = $0.commandLine.filter { $0 != "quiet" } + ["console=ttyS1"]
      }
      // Without "quiet" the log goes to the first serial port too: only "quiet", which run always gives, keeps it apart.
      try expect(run, .powerOff(status: 0), log: "power off")
      let quiet = try await start(root, ["echo", "only this"])
      guard quiet.console == "only this" else { throw ToolError("the output is mixed", why: quiet.console, hint: "") }
    }
    await results.check(names[14]) { try await vga(root, folder) }
    await results.check(names[16]) { try await live(root, folder) }
    await results.check(names[17]) { try await persistent(folder) }
    await results.check(names[18]) {
      let run = try await start(root, ["uname", "-m"], packer: ["gzip", "-9"])
      try expect(run, .powerOff(status: 0), output: "i686")
    }
    await results.check(names[20]) {
      let run = try await start(root, ["true"]) { $0.hasExitDevice = false }
      guard run.log.contains("power off, status 0") else { throw ToolError("it did not turn itself off", why: run.log, hint: "") }
      // QEMU ends as it does for any guest.
      try expect(run, .reset)
    }
    await results.check(names[15]) {
      try Shell.require("gdb", package: "gdb", purpose: "is the debugger")
      let arguments = ["debug", "--break", "fork_return", "--batch", "continue", "continue", "adros-processes", "adros-spaces"]
      let text = try await Shell.capture([Paths.inTop("adrosctl").path] + arguments + ["--", "/bin/sh", "-c", "ls"], what: "debug failed")
      guard text.contains("PPID"), text.contains("running init"), text.contains("rwxp") || text.contains("rw-p") else {
        throw ToolError("the reports are missing", why: text, hint: "")
      }
    }
  }

  /// A root that changes in memory, while its disk, which could be written, does not.
  private static func live(_ root: String, _ folder: URL) async throws {
    let disk = folder.appendingPathComponent("live.ext2")
    try FileManager.default.copyItem(at: URL(fileURLWithPath: root), to: disk)
    let before = try Data(contentsOf: disk)
    let script = "echo changed > /etc/motd; rm /bin/ls; mkdir /new; cat /etc/motd; mount; echo /bin/l*; sync"
    let run = try await start(disk.path, ["/bin/sh", "-c", script]) {
      $0.disks[0].snapshot = false
      $0.commandLine.append("overlayroot=tmpfs")
    }
    try expect(run, .powerOff(status: 0), output: "changed\noverlay / overlay rw")
    guard !run.console.contains("/bin/ls") else { throw ToolError("/bin/ls is there", why: run.console, hint: "") }
    guard try Data(contentsOf: disk) == before else { throw ToolError("the disk was written", why: disk.path, hint: "") }
  }

  /// Nobody synchronises anything before the kernel stops.
  private static func persistent(_ folder: URL) async throws {
    let disk = folder.appendingPathComponent("persist.diskfs")
    try DiskImage(time: RootImage.time(), label: "persist", size: 4 << 20).write(RootTree(), to: disk.path)
    let root = try RootImage.make(name: "boot-root.diskfs", kind: .diskfs).path
    func boot(_ script: String) async throws -> Finished {
      try await start(root, ["/bin/sh", "-c", script]) {
        $0.commandLine.append("rootfstype=diskfs")
        $0.disks.append(.init(file: disk.path, interface: "virtio", snapshot: false))
      }
    }
    let write =
      "echo kept > /persist/a; mkdir /persist/d; mv /persist/a /persist/d/b; echo more >> /persist/d/b; echo c > /proc/sysrq-trigger"
    try expect(try await boot(write), .panic, output: "")
    _ = try await ImageVolume.find(in: disk.path).check()
    try expect(
      try await boot("mount; cat /persist/d/b"), .powerOff(status: 0), output: "/dev/vdb /persist persistfs rw,sync 0 0\nkept\nmore")
  }

  struct Finished {
    var ending: Ending
    var console: String
    var log: String
  }

  /// - Parameter packer: What packs the initramfs in place, with a name of its own.
  private static func start(
    _ root: String, _ command: [String], packer: [String] = [], _ change: (inout VirtualMachine) -> Void = { _ in }
  ) async throws -> Finished {
    var initramfs = try RootImage.makeInitramfs(command: command)
    if !packer.isEmpty {
      try await Shell.capture(packer + ["-f", initramfs.path], what: "\(packer[0]) failed")
      initramfs = initramfs.appendingPathExtension("gz")
    }
    defer { try? FileManager.default.removeItem(at: initramfs) }
    let log = try Paths.scratch("boot.log")
    var machine = VirtualMachine(loader: .kernel(Paths.kernel, initramfs: initramfs), log: log)
    machine.disks = [.init(file: root, interface: "virtio", snapshot: true)]
    machine.commandLine = ["quiet"]
    change(&machine)
    machine.commandLine.append("root=/dev/" + (machine.disks[0].interface == "ide" ? "hda" : "vda"))
    return try await finish(machine, input: nil)
  }

  private static func finish(_ machine: VirtualMachine, input: URL?) async throws -> Finished {
    var machine = machine
    machine.interactive = false
    try Data().write(to: machine.log)
    let console = try Paths.scratch("boot.console")
    let outcome = try await Shell.run(machine.arguments, log: console, input: input, timeout: 60)
    let text = String(decoding: try Data(contentsOf: console), as: UTF8.self).replacingOccurrences(of: "\r", with: "")
    return Finished(
      ending: Ending.judge(outcome, log: machine.log), console: text.trimmingCharacters(in: .whitespacesAndNewlines),
      log: String(decoding: try Data(contentsOf: machine.log), as: UTF8.self))
  }

  private static func expect(_ run: Finished, _ ending: Ending, output: String = "", log: String = "") throws {
    if run.ending == ending, output.isEmpty || run.console.contains(output), log.isEmpty || run.log.contains(log) { return }
    throw ToolError(
      "the machine ended with \(run.ending)",
      why: "wanted \(ending) \(output)\(log)\nconsole:\n\(run.console)\nlog:\n\(run.log.suffix(3000))",
      hint: "")
  }

  /// Images with GRUB: commands are typed at the shell's prompt.
  private static func loaders(_ results: Results, _ folder: URL) async throws {
    let input = folder.appendingPathComponent("input")
    // What is typed before the kernel has its serial port is lost: empty lines.
    try Data((String(repeating: "\n", count: 40) + "uname -a; ls /sbin; poweroff\n").utf8).write(to: input)
    let log = try Paths.scratch("boot.log")
    for (index, table) in PartitionTable.allCases.enumerated() {
      await results.check(names[index]) {
        let file = folder.appendingPathComponent("\(table.rawValue).img").path
        try await make(["--disk", table.rawValue, "--boot", "grub", "-o", file])
        var machine = VirtualMachine(loader: .disk, log: log)
        machine.disks = [.init(file: file, interface: "ide", snapshot: true)]
        try expect(try await finish(machine, input: input), .powerOff(status: 0), output: "AdrOS adros", log: "Multiboot 2")
      }
    }
    await results.check(names[2]) {
      let file = folder.appendingPathComponent("cd.iso").path
      try await make(["--iso", "-o", file])
      let machine = VirtualMachine(loader: .cd(file), log: log)
      try expect(try await finish(machine, input: input), .powerOff(status: 0), output: "AdrOS adros", log: "Multiboot 2")
    }
    await results.check(names[names.count - 1]) {
      let file = folder.appendingPathComponent("framebuffer.img").path
      try await make(["--disk", "mbr", "--boot", "grub", "--append", "video=640x480 console=ttyS0 console=tty0", "-o", file])
      var machine = VirtualMachine(loader: .disk, log: log)
      machine.disks = [.init(file: file, interface: "ide", snapshot: true)]
      try await ScreenTests.with(machine, folder) { monitor in _ = try await monitor.wait(for: "adros:/#") }
      let text = String(decoding: try Data(contentsOf: log), as: UTF8.self)
      guard text.contains("display: 640x480 by the loader") else {
        throw ToolError(
          "the frame buffer is not the loader's", why: text.split(separator: "\n").prefix(20).joined(separator: "\n"), hint: "")
      }
    }
    await results.check(names[7]) {
      var machine = VirtualMachine(loader: .kernel(Paths.kernel, initramfs: nil), log: log)
      machine.disks = [.init(file: try RootImage.make(name: "boot-root.ext2").path, interface: "virtio", snapshot: true)]
      machine.commandLine = ["quiet", "root=LABEL=adros"]
      try expect(try await finish(machine, input: input), .powerOff(status: 0), output: "poweroff")
    }
  }

  private static func make(_ arguments: [String]) async throws {
    guard let command = try Adrosctl.parseAsRoot(["image"] + arguments + ["--append", "quiet"]) as? Image.Make else {
      throw ToolError("image does not parse", why: "\(arguments)", hint: "")
    }
    try await command.run()
  }

  /// The console on the text screen.
  private static func vga(_ root: String, _ folder: URL) async throws {
    try await ScreenTests.withMachine(root, ["/bin/sh", "-c", "echo shown on the screen; sleep 60"], folder) { monitor in
      _ = try await monitor.wait(for: "shown on the screen")
    }
  }
}
