import UserKit

/// `dmesg`: the kernel's log.
@main
struct Main {
  static func main() {
    guard let log = try? Process.kernelLog() else { Program.exit(1) }
    put(log)
    Program.exit(0)
  }
}
