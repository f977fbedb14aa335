import SystemABI
import UserKit

/// `kill [-SIGNAL] PID…`
@main
struct Main {
  static let names: [(Bytes, Int)] = [
    ("HUP", 1), ("INT", 2), ("QUIT", 3), ("KILL", 9), ("USR1", 10), ("USR2", 12), ("TERM", 15), ("CONT", 18), ("STOP", 19),
  ]

  static func main() {
    var words = Array(Program.arguments.dropFirst())
    var signal = 15
    if let first = words.first, first.first == 45, first.count > 1 {
      let name = Array(first.dropFirst())
      guard let found = number(name) ?? names.first(where: { $0.0 == name })?.1 else {
        complain("unknown signal " + name)
        Program.exit(2)
      }
      signal = found
      words.removeFirst()
    }
    var status: Int32 = 0
    for word in words {
      guard let id = number(word) else {
        complain(word + ": not a process id")
        status = 1
        continue
      }
      do throws(Errno) { try Process.kill(Int32(id), Int32(signal)) } catch {
        complain(word, error)
        status = 1
      }
    }
    Program.exit(status)
  }
}
