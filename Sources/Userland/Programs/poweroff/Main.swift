import SystemABI
import UserKit

/// `poweroff`: ends the system after writing everything out.
@main
struct Main {
  static func main() {
    Process.sync()
    do throws(Errno) { try Process.powerOff(status: 0) } catch {
      complain("poweroff", error)
      Program.exit(1)
    }
  }
}
