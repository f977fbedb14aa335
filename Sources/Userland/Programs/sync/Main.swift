import UserKit

/// `sync`: returns when everything written is on the disks.
@main
struct Main {
  static func main() {
    guard Program.arguments.count == 1 else {
      complain("sync takes no arguments")
      Program.exit(2)
    }
    Process.sync()
    Program.exit(0)
  }
}
