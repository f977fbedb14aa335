import SystemABI
import UserKit

/// `head [-n LINES] [-c BYTES] [FILE]`
@main
struct Main {
  static func main() {
    var words = Array(Program.arguments.dropFirst())
    var lines = 10
    var bytes: Int?
    while words.count >= 2, words[0] == "-n" || words[0] == "-c" {
      guard let value = number(words[1]), value >= 0 else {
        complain(words[1] + ": not a count")
        Program.exit(2)
      }
      if words[0] == "-n" { lines = value } else { bytes = value }
      words.removeFirst(2)
    }
    do throws(Errno) {
      let file = words.isEmpty ? FileDescriptor.standardInput : try FileDescriptor.open(words[0])
      var left = bytes ?? .max
      while left > 0, lines > 0 {
        let part = try file.read(min(4096, left))
        if part.isEmpty { break }
        if bytes != nil {
          put(part)
          left -= part.count
          continue
        }
        for byte in part where lines > 0 {
          put([byte])
          if byte == 10 { lines -= 1 }
        }
      }
    } catch {
      complain(words.first ?? "standard input", error)
      Program.exit(1)
    }
    Program.exit(0)
  }
}
