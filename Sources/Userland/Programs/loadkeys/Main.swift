import KeyMaps
import SystemABI
import Terminal
import UserKit

/// `loadkeys [-C TERMINAL] MAP|FILE`: what the keys of the keyboard mean, by a map of /usr/share/keymaps or a file.
@main
struct Main {
  private static let folder: Bytes = "/usr/share/keymaps/"

  static func main() {
    var words = Array(Program.arguments.dropFirst())
    var terminals: [Bytes] = ["/dev/tty", "/dev/tty0", "/dev/console"]
    if words.count >= 2, words[0] == "-C" {
      terminals = [words[1]]
      words.removeFirst(2)
    }
    guard words.count == 1, words[0].first != 0x2D else {
      complain("usage: loadkeys [-C TERMINAL] MAP|FILE")
      Program.exit(2)
    }
    let path = words[0].contains(0x2F) ? words[0] : folder + words[0] + ".map"
    let text: Bytes
    do throws(Errno) { text = try FileDescriptor.open(path).readAll() } catch {
      complain(path, error)
      Program.exit(1)
    }
    let map: KeyMapFile
    do throws(KeyMapError) { map = try KeyMapFile(text) } catch {
      complain(path + ":" + decimal(error.line) + ": " + Bytes(error.why.utf8))
      Program.exit(1)
    }
    // A terminal that has no keyboard does not know what this is: a serial line, say.
    var failure = Errno.inappropriateIOCTLForDevice
    for terminal in terminals {
      do throws(Errno) {
        let file = try FileDescriptor.open(terminal, flags: OpenFlags.readWrite | OpenFlags.noControllingTerminal)
        for entry in map.entries {
          let bits = entry.symbol.bits
          // `struct kbentry`, KDSKBENT
          var bytes: Bytes = [entry.table, entry.code, UInt8(truncatingIfNeeded: bits), UInt8(bits >> 8)]
          try file.control(0x4B47, &bytes)
        }
        Program.exit(0)
      } catch { failure = error }
    }
    complain(terminals[terminals.count - 1], failure)
    Program.exit(1)
  }
}
