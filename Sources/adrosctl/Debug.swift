import ArgumentParser
import Foundation
import ImageKit

struct Debug: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Boots the system stopped at its first instruction, with gdb on this terminal.",
    discussion:
      "gdb gets the kernel's symbols and the commands of configs/gdb/adros.py: adros-threads, adros-processes, adros-spaces, adros-inodes, adros-locks."
  )

  @OptionGroup var machine: MachineOptions
  @Option(name: .customLong("break"), help: "Stop at this function first.") var breakpoint: String?
  @Option(help: "An ext2 image to use as root instead of our own.") var root: String?
  @Option(name: .shortAndLong, help: "debug (the kernel checks its locks) or release.") var configuration: Builder.Configuration = .release
  @Option(parsing: .upToNextOption, help: "gdb commands to run instead of giving a prompt.") var batch: [String] = []
  @OptionGroup var tracing: Tracing
  @Argument(parsing: .postTerminator, help: "A command to run in the guest.") var command: [String] = []

  func run() async throws {
    try await reporting {
      try Shell.require("gdb", package: "gdb", purpose: "is the debugger")
      try await Builder.build(.kernel, configuration)
      try await Builder.build(.userland)
      let pid = ProcessInfo.processInfo.processIdentifier
      let socket = FileManager.default.temporaryDirectory.appendingPathComponent("adros-gdb-\(pid)")
      let log = try Paths.scratch("kernel-\(pid).log")
      let console = try Paths.scratch("console-\(pid).log")
      let initramfs = try RootImage.makeInitramfs(command: command.isEmpty ? nil : command)
      defer { for file in [socket, initramfs, log] { try? FileManager.default.removeItem(at: file) } }
      var value = VirtualMachine(loader: .kernel(Paths.kernel(configuration), initramfs: initramfs), log: log)
      value.settings = try machine.resolve()
      value.interactive = false
      value.debugger = .waiting(socket: socket.path)
      value.disks = [.init(file: try root ?? RootImage.make().path, interface: value.settings.rootInterface, snapshot: true)]
      value.commandLine = value.settings.commandLine + ["root=/dev/" + (value.settings.rootInterface == "ide" ? "hda" : "vda")]
      let arguments = value.arguments
      // Swift's debug information makes gdb complain about modules it cannot find.
      var gdb = [
        "gdb", "-q", "-iex", "set complaints 0", Paths.kernel(configuration).path, "-ex", "set architecture i386", "-ex",
        "target remote \(socket.path)",
      ]
      gdb += ["-ex", "source " + Paths.inTop("configs/gdb/adros.py").path]
      if let breakpoint { gdb += ["-ex", "hbreak \(breakpoint)", "-ex", "continue"] }
      if !batch.isEmpty { gdb += ["-batch"] + batch.flatMap { ["-ex", $0] } }
      if !tracing.announce(arguments) || !tracing.announce(gdb) { return }
      Progress.say("the guest's console goes to \(console.path)")
      let emulator = Task { try await Shell.run(arguments, log: console) }
      defer { emulator.cancel() }
      let deadline = Date().addingTimeInterval(10)
      while !FileManager.default.fileExists(atPath: socket.path) {
        if Date() > deadline {
          throw ToolError("QEMU does not listen for gdb", why: Ending.tail(console), hint: Shell.quoted(arguments))
        }
        try await Task.sleep(for: .milliseconds(20))
      }
      let outcome = try await Shell.run(gdb)
      if outcome.status != 0 { throw ToolError("gdb failed", why: "status \(outcome.status)", hint: Shell.quoted(gdb)) }
    }
  }
}
