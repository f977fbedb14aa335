import SystemABI
import UserKit

/// `wc [-l] [-w] [-c] [FILE…]`: lines, words, bytes.
@main
struct Main {
  static func main() {
    var wanted: Bytes = []
    var paths: [Bytes] = []
    for argument in Program.arguments.dropFirst() {
      if argument.first == 45, argument.count > 1 { wanted += argument.dropFirst() } else { paths.append(argument) }
    }
    var status: Int32 = 0
    for path in paths.isEmpty ? ["-"] : paths {
      do throws(Errno) {
        let file = path == "-" ? FileDescriptor.standardInput : try FileDescriptor.open(path)
        let counts = try count(file)
        var line: Bytes = []
        for (flag, value) in [(UInt8(108), counts.0), (119, counts.1), (99, counts.2)] where wanted.isEmpty || wanted.contains(flag) {
          line += (line.isEmpty ? [] : " ") + decimal(value)
        }
        putLine(line + (path == "-" ? [] : " " + path))
      } catch {
        complain(path, error)
        status = 1
      }
    }
    Program.exit(status)
  }

  static func count(_ file: FileDescriptor) throws(Errno) -> (Int, Int, Int) {
    var lines = 0
    var words = 0
    var bytes = 0
    var inWord = false
    while true {
      let part = try file.read(65536)
      if part.isEmpty { return (lines, words, bytes) }
      bytes += part.count
      for byte in part {
        if byte == 10 { lines += 1 }
        let blank = byte == 32 || byte >= 9 && byte <= 13
        if !blank, !inWord { words += 1 }
        inWord = !blank
      }
    }
  }
}
