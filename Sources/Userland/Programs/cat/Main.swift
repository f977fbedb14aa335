import SystemABI
import UserKit

/// `cat [FILE…]`: files to standard output; `-` or nothing is standard input.
@main
struct Main {
  static func main() {
    let paths = Array(Program.arguments.dropFirst())
    var status: Int32 = 0
    for path in paths.isEmpty ? ["-"] : paths {
      do throws(Errno) {
        let file = path == "-" ? FileDescriptor.standardInput : try FileDescriptor.open(path)
        while true {
          let part = try file.read(65536)
          if part.isEmpty { break }
          try FileDescriptor.standardOutput.write(part)
        }
        if path != "-" { try file.close() }
      } catch {
        complain(path, error)
        status = 1
      }
    }
    Program.exit(status)
  }
}
