import SystemABI
import UserKit

/// Carries out steps on files and compares what comes of them: `filesteps STEPS`.
///
/// A line is `open NAME PATH`, which gives an open file a name, `close NAME`, `read NAME OFFSET LENGTH SEED`, `write NAME OFFSET LENGTH
/// SEED` (the content that goes with a seed is expected, or written), `fsync NAME`, `create PATH`, `unlink PATH`, `stat PATH`, and at
/// its end perhaps `= ERRNO`: the error that must come, by number.
@main
struct Main {
  private var files: [(name: Bytes, file: FileDescriptor)] = []

  static func main() {
    let arguments = Program.arguments
    guard arguments.count == 2 else { end("usage: filesteps STEPS") }
    var steps = Main()
    do throws(Errno) {
      for line in try FileDescriptor.open(arguments[1]).readAll().split(separator: 10) {
        var words = line.split(separator: 32).map { Array($0) }
        var expected: Int32 = 0
        if words.count > 2, words[words.count - 2] == "=" {
          expected = Int32(number(words[words.count - 1]) ?? -1)
          words.removeLast(2)
        }
        var outcome: Int32 = 0
        do throws(Errno) { try steps.perform(words) } catch { outcome = error.rawValue }
        if outcome != expected {
          end(Array(line) + ": errno " + decimal(Int(outcome)) + ", not " + decimal(Int(expected)))
        }
      }
    } catch { end("the steps: " + error.text) }
    Program.exit(0)
  }

  private static func end(_ message: Bytes) -> Never {
    complain(message)
    Program.exit(1)
  }

  private func value(_ words: [Bytes], _ index: Int) -> Int {
    guard index < words.count, let value = number(words[index]) else { Self.end("a number is missing") }
    return value
  }

  private func file(_ name: Bytes) -> FileDescriptor {
    guard let found = files.last(where: { $0.name == name }) else { Self.end(name + " is not open") }
    return found.file
  }

  private mutating func perform(_ words: [Bytes]) throws(Errno) {
    guard words.count > 1 else { Self.end("a step has at least two words") }
    let name = words[1]
    switch words[0] {
    case "open": files.append((name, try FileDescriptor.open(words[2], flags: OpenFlags.readWrite)))
    case "close":
      try file(name).close()
      files.removeAll { $0.name == name }
    case "read":
      try file(name).seek(to: UInt32(value(words, 2)))
      let bytes = try file(name).read(value(words, 3))
      if bytes != content(value(words, 2), value(words, 3), value(words, 4)) { Self.end(name + " has another content") }
    case "write":
      try file(name).seek(to: UInt32(value(words, 2)))
      try file(name).write(content(value(words, 2), value(words, 3), value(words, 4)))
    case "fsync": try file(name).synchronize()
    case "create": try FileDescriptor.open(name, flags: OpenFlags.writeOnly | OpenFlags.create).close()
    case "unlink": try FileSystem.unlink(name)
    case "stat": _ = try FileSystem.stat(name)
    default: Self.end(words[0] + " is no step")
    }
  }

  /// As the host knows it: PowerCutPlan.content.
  private func content(_ offset: Int, _ length: Int, _ seed: Int) -> Bytes {
    (offset..<(offset + length)).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ ($0 >> 9) &* seed ^ seed) }
  }
}
