import SystemABI
import UserKit

/// `ps`: every process, from /proc.
@main
struct Main {
  static func main() {
    putLine("  PID  PPID STAT     RSS COMMAND")
    let names = (try? FileSystem.list("/proc")) ?? []
    for id in names.compactMap({ number($0) }).sorted() { show(id) }
    Program.exit(0)
  }

  static func read(_ path: Bytes) -> Bytes? {
    guard let file = try? FileDescriptor.open(path) else { return nil }
    defer { try? file.close() }
    return try? file.readAll()
  }

  static func show(_ id: Int) {
    let folder = "/proc/" + decimal(id)
    guard let stat = read(folder + "/stat"), let open = stat.firstIndex(of: 40), let close = stat.lastIndex(of: 41) else { return }
    let fields = stat[(close + 2)...].split(separator: 32).map { Array($0) }
    guard fields.count > 21 else { return }
    var command = (read(folder + "/cmdline") ?? []).map { $0 == 0 ? 32 : $0 }
    while command.last == 32 { command.removeLast() }
    if command.isEmpty { command = "[" + Array(stat[(open + 1)..<close]) + "]" }
    let pages = number(fields[21]) ?? 0
    let columns: [Bytes] = [pad(decimal(id), 5), pad(fields[1], 5), fields[0] + "   ", pad(decimal(pages * 4), 7), command]
    putLine(Array(columns.joined(separator: [32])))
  }

  static func pad(_ text: Bytes, _ width: Int) -> Bytes { Bytes(repeating: 32, count: max(0, width - text.count)) + text }
}
