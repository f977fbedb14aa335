import SystemABI
import UserKit

/// `df`: space on the mounted file systems, in KiB.
@main
struct Main {
  static func main() {
    putLine("Filesystem        1K-blocks       Used  Available Mounted on")
    guard let text = try? FileDescriptor.open("/proc/mounts").readAll() else { Program.exit(1) }
    for line in text.split(separator: 10) {
      let fields = line.split(separator: 32).map { Array($0) }
      guard fields.count > 2, let numbers = try? FileSystem.statistics(fields[1]), numbers.blocks > 0 else { continue }
      var row = fields[0] + Bytes(repeating: 32, count: max(1, 16 - fields[0].count))
      for value in [numbers.blocks, numbers.blocks - numbers.free, numbers.available] {
        let text = decimal(Int64(value * numbers.blockSize / 1024))
        row += Bytes(repeating: 32, count: max(1, 11 - text.count)) + text
      }
      putLine(row + " " + fields[1])
    }
    Program.exit(0)
  }
}
