import SystemABI
import UserKit

/// `ln [-s] TARGET NAME`
@main
struct Main {
  static func main() {
    let words = Program.arguments.dropFirst().filter { $0 != "-s" }
    guard words.count == 2 else {
      complain("two names are needed: ln [-s] TARGET NAME")
      Program.exit(2)
    }
    do throws(Errno) {
      if Program.arguments.contains("-s") {
        try FileSystem.symlink(words[0], at: words[1])
      } else {
        try FileSystem.link(words[0], to: words[1])
      }
    } catch {
      complain(words[1], error)
      Program.exit(1)
    }
    Program.exit(0)
  }
}
