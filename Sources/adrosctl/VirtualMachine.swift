import Foundation

/// A QEMU machine as a value: small functions make its command line.
struct VirtualMachine {
  var kernel: URL
  var initramfs: URL?
  var commandLine: [String] = []
  var processors = 1
  /// MiB.
  var memory = 256
  var disks: [(file: String, interface: String)] = []
  var network = false
  var display = "none"
  var persist = false
  /// Where the kernel's log goes: QEMU's debug console.
  var log: URL
  /// Where the second serial port's output goes.
  var results: URL?
  var interactive = true
  var extra: [String] = []

  var arguments: [String] {
    var result = [
      "qemu-system-i386", "-accel", processors > 1 ? "tcg,thread=multi" : "tcg", "-cpu", "max", "-m", "\(memory)", "-smp", "\(processors)",
      "-no-reboot", "-kernel", kernel.path, "-append", commandLine.joined(separator: " "), "-device",
      "isa-debug-exit,iobase=0xf4,iosize=0x04", "-debugcon", "file:" + log.path,
    ]
    if let initramfs { result += ["-initrd", initramfs.path] }
    result += ["-display", display]
    // Ctrl-A X quits; Ctrl-C goes to the guest.
    result += ["-chardev", "stdio,id=console,mux=\(interactive ? "on" : "off"),signal=off", "-serial", "chardev:console"]
    if interactive { result += ["-mon", "chardev=console,mode=readline"] } else { result += ["-monitor", "none"] }
    if let results { result += ["-serial", "file:" + results.path] }
    for (index, disk) in disks.enumerated() {
      result += ["-drive", "file=\(disk.file),format=raw,index=\(index),if=\(disk.interface)" + (persist ? "" : ",snapshot=on")]
    }
    result += network ? ["-nic", "user,model=e1000"] : ["-nic", "none"]
    return result + extra
  }
}

/// How a run of the machine ended.
enum Ending {
  case powerOff(status: Int32)
  case panic
  case reset
  case timeout

  /// Reads QEMU's status and the kernel's last words. Only the debug-exit code for a clean power-off passes.
  static func judge(_ outcome: Shell.Outcome, log: URL) -> Ending {
    if outcome.timedOut { return .timeout }
    let text = (try? String(decoding: Data(contentsOf: log), as: UTF8.self)) ?? ""
    if outcome.status == 33 {
      let marker = "power off, status "
      if let line = text.split(separator: "\n").last(where: { $0.contains(marker) }), let at = line.range(of: marker) {
        return .powerOff(status: Int32(line[at.upperBound...]) ?? 0)
      }
      return .panic
    }
    return text.contains("KERNEL PANIC") ? .panic : .reset
  }

  static func tail(_ log: URL, lines: Int = 40) -> String {
    let text = (try? String(decoding: Data(contentsOf: log), as: UTF8.self)) ?? ""
    return text.split(separator: "\n").suffix(lines).joined(separator: "\n")
  }
}
