import ArgumentParser
import Foundation

struct Run: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Boots the system, with a shell or one command on this terminal.",
    discussion: "Ctrl-C goes to the guest; Ctrl-A X ends the machine. With -- COMMAND the exit status is the command's.")

  @Option(help: "Number of processors, 1 to 8.") var smp = 1
  @Option(help: "Memory, e.g. 256M or 1G.") var memory = "256M"
  @Flag(help: "Attach an e1000 network card with user networking.") var net = false
  @Option(help: "An ext2 image to use as root instead of our own.") var root: String?
  @Option(help: "Another disk: FILE[,if=virtio|ide].") var disk: [String] = []
  @Option(help: "Interface of the root disk: virtio or ide.") var rootInterface = "virtio"
  @Option(help: "More words for the kernel command line.") var append: [String] = []
  @Option(help: "none or gtk.") var display = "none"
  @Option(help: "End after so many seconds, with status 4.") var timeout: Double?
  @Flag(help: "Write changes to the images.") var persist = false
  @Flag(name: [.short, .long], help: "Print the QEMU command and do nothing.") var dryRun = false
  @Argument(parsing: .postTerminator, help: "A command to run in the guest.") var command: [String] = []

  func validate() throws {
    guard (1...8).contains(smp) else { throw ValidationError("--smp is a number from 1 to 8, not \(smp)") }
    guard let size = Self.megabytes(memory) else { throw ValidationError("--memory is a size like 256M or 1G, not \(memory)") }
    guard size >= 32 else { throw ValidationError("--memory \(memory) is too little: the system needs 32M") }
    guard ["virtio", "ide"].contains(rootInterface) else { throw ValidationError("--root-interface is virtio or ide") }
    guard ["none", "gtk"].contains(display) else { throw ValidationError("--display is none or gtk, not \(display)") }
  }

  static func megabytes(_ text: String) -> Int? {
    guard let unit = text.last, let number = Int(text.dropLast()) else { return Int(text) }
    switch unit {
    case "M", "m": return number
    case "G", "g": return number * 1024
    default: return Int(text)
    }
  }

  func run() async throws {
    try await reporting {
      try await Builder.build(.all)
      let image = try root.map { try Self.checked($0) } ?? RootImage.make().path
      let log = Paths.output.appendingPathComponent("kernel-\(ProcessInfo.processInfo.processIdentifier).log")
      var machine = VirtualMachine(kernel: Paths.kernel, log: log)
      machine.initramfs = try RootImage.makeInitramfs(command: command.isEmpty ? nil : command)
      machine.processors = smp
      machine.memory = Self.megabytes(memory) ?? 256
      machine.network = net
      machine.display = display
      machine.persist = persist
      machine.disks = [(image, rootInterface)]
      for text in disk {
        let parts = text.components(separatedBy: ",if=")
        machine.disks.append((try Self.checked(parts[0]), parts.count > 1 ? parts[1] : "virtio"))
      }
      machine.commandLine = ["quiet", "root=/dev/" + (rootInterface == "ide" ? "hda" : "vda")] + append
      machine.interactive = isatty(0) == 1
      if dryRun {
        print(Shell.quoted(machine.arguments))
        return
      }
      let outcome = try await Shell.run(machine.arguments, timeout: timeout)
      try? FileManager.default.removeItem(at: machine.initramfs!)
      try finish(Ending.judge(outcome, log: log), log)
    }
  }

  private func finish(_ ending: Ending, _ log: URL) throws {
    switch ending {
    case .powerOff(let status):
      try? FileManager.default.removeItem(at: log)
      if status != 0 { throw ExitCode(status) }
    case .panic, .reset:
      Progress.say(Ending.tail(log))
      throw ToolError(
        "the kernel ended without powering off", why: "a panic or a reset", hint: "./adrosctl symbolize < \(log.path)",
        code: Exit.kernelPanic)
    case .timeout:
      Progress.say(Ending.tail(log))
      throw ToolError("the guest did not finish in time", why: "--timeout \(timeout ?? 0)", hint: "less \(log.path)", code: Exit.timeout)
    }
  }

  static func checked(_ path: String) throws -> String {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), !isFolder.boolValue else {
      throw ToolError("there is no image \(path)", why: "no such file", hint: "./adrosctl image -o \(path)", code: Exit.usage)
    }
    return path
  }
}
