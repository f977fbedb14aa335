import SystemABI
import UserKit

/// Carries out a plan of changes to a file system, and writes down on a device of its own how far they are to be found after a
/// power cut. `powercut PLAN DEVICE [each]` runs in the file system's root.
///
/// A line of the plan is `write NAME OFFSET LENGTH SEED`, `truncate NAME SIZE`, `rename OLD NEW`, `link OLD NEW`, `unlink NAME`,
/// `fsync NAME`, which is followed by its directory's, or `sync`. After the last two the line's number goes to the device,
/// with `each` after every line.
@main
struct Main {
  static func main() {
    let arguments = Program.arguments
    guard arguments.count == 3 || arguments.count == 4 else { end("usage: powercut PLAN DEVICE [each]") }
    do throws(Errno) {
      let plan = try FileDescriptor.open(arguments[1]).readAll()
      let device = try FileDescriptor.open(arguments[2], flags: OpenFlags.readWrite)
      for (number, line) in plan.split(separator: 10).enumerated() {
        let words = line.split(separator: 32).map { Array($0) }
        do throws(Errno) { try perform(words) } catch { end("line " + decimal(number) + ": " + error.text) }
        if arguments.count == 4 || words[0] == "fsync" || words[0] == "sync" { try mark(device, number) }
      }
    } catch { end("the plan or the device: " + error.text) }
    Program.exit(0)
  }

  private static func end(_ message: Bytes) -> Never {
    complain(message)
    Program.exit(1)
  }

  private static func perform(_ words: [Bytes]) throws(Errno) {
    guard words.count > 1 else { return Process.sync() }
    let name = words[1]
    switch words[0] {
    case "write":
      let (offset, length, seed) = (try value(words, 2), try value(words, 3), try value(words, 4))
      let file = try FileDescriptor.open(name, flags: OpenFlags.writeOnly | OpenFlags.create)
      try file.seek(to: UInt32(offset))
      try file.write(content(offset, length, seed))
      try file.close()
    case "truncate":
      let file = try FileDescriptor.open(name, flags: OpenFlags.writeOnly)
      try file.truncate(to: UInt32(try value(words, 2)))
      try file.close()
    case "rename": try FileSystem.rename(name, to: words[2])
    case "link": try FileSystem.link(name, to: words[2])
    case "unlink": try FileSystem.unlink(name)
    case "fsync":
      try synchronize(name)
      try synchronize(name.lastIndex(of: 47).map { Array(name[..<$0]) } ?? ".")
    default: throw .invalidArgument
    }
  }

  private static func value(_ words: [Bytes], _ index: Int) throws(Errno) -> Int {
    guard index < words.count, let value = number(words[index]) else { throw .invalidArgument }
    return value
  }

  private static func synchronize(_ name: Bytes) throws(Errno) {
    let file = try FileDescriptor.open(name)
    try file.synchronize()
    try file.close()
  }

  /// As the host knows it: PowerCutTests.content.
  private static func content(_ offset: Int, _ length: Int, _ seed: Int) -> Bytes {
    (offset..<(offset + length)).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ ($0 >> 9) &* seed ^ seed) }
  }

  /// A sector of the device for each mark, so that none is written over another.
  private static func mark(_ device: FileDescriptor, _ number: Int) throws(Errno) {
    var sector = Bytes(repeating: 0, count: 512)
    let text: Bytes = "mark " + decimal(number)
    sector.replaceSubrange(0..<text.count, with: text)
    try device.seek(to: UInt32(number * 4096))
    try device.write(sector)
    try device.synchronize()
  }
}
