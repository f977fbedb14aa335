import SystemABI
import UserKit

/// `ls [-l] [-a] [-1] [FILE…]`: lists directories.
@main
struct Main {
  static func main() {
    var long = false
    var all = false
    var paths: [Bytes] = []
    for argument in Program.arguments.dropFirst() {
      if argument.first == 45, argument.count > 1 {
        for flag in argument.dropFirst() {
          switch flag {
          case 108: long = true
          case 97: all = true
          case 49: break
          default:
            complain("unknown option -" + [flag])
            Program.exit(2)
          }
        }
      } else {
        paths.append(argument)
      }
    }
    var status: Int32 = 0
    if paths.isEmpty { paths = ["."] }
    for (index, path) in paths.enumerated() {
      do throws(Errno) {
        guard try FileSystem.stat(path, follow: !long).isDirectory else {
          show(path, path, long)
          continue
        }
        if paths.count > 1 { putLine((index > 0 ? "\n" : "") + path + ":") }
        for name in try FileSystem.list(path) where all || name.first != 46 { show(path + "/" + name, name, long) }
      } catch {
        complain(path, error)
        status = 1
      }
    }
    Program.exit(status)
  }

  static func show(_ path: Bytes, _ name: Bytes, _ long: Bool) {
    guard long, let status = try? FileSystem.stat(path, follow: false) else { return putLine(name) }
    let columns: [Bytes] = [
      modeText(status.mode), pad(decimal(Int(status.links)), 3), pad(decimal(Int(status.owner)), 4),
      pad(decimal(Int(status.group)), 4), [],
    ]
    var line = Bytes(columns.joined(separator: [32]))
    if status.type == Mode.character || status.type == Mode.block {
      line += pad(decimal(Int(status.special.major)) + ", " + decimal(Int(status.special.minor)), 10)
    } else {
      line += pad(decimal(Int64(status.size)), 10)
    }
    line += " " + name
    if status.type == Mode.link, let target = try? FileSystem.readLink(path) { line += " -> " + target }
    putLine(line)
  }

  static func pad(_ text: Bytes, _ width: Int) -> Bytes { Bytes(repeating: 32, count: max(0, width - text.count)) + text }

  static func modeText(_ mode: UInt32) -> Bytes {
    let types: [(UInt32, UInt8)] = [
      (Mode.directory, 100), (Mode.link, 108), (Mode.character, 99), (Mode.block, 98), (Mode.fifo, 112), (Mode.socket, 115),
    ]
    var text: Bytes = [types.first { $0.0 == mode & Mode.typeMask }?.1 ?? 45]
    for shift in [UInt32(6), 3, 0] {
      let bits = mode >> shift
      text += [bits & 4 != 0 ? 114 : 45, bits & 2 != 0 ? 119 : 45, bits & 1 != 0 ? 120 : 45]
    }
    if mode & Mode.sticky != 0 { text[9] = 116 }
    if mode & Mode.setUser != 0 { text[3] = 115 }
    return text
  }
}
