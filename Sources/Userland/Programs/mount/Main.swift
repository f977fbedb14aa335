import SystemABI
import UserKit

/// `mount`: shows mounts. `mount [-t TYPE] [-r] [-o OPTIONS] SOURCE PLACE`: adds one.
@main
struct Main {
  static func main() {
    var words = Array(Program.arguments.dropFirst())
    var type: Bytes = "ext2"
    var flags: UInt32 = 0
    var options: Bytes = ""
    if let at = words.firstIndex(of: "-o"), at + 1 < words.count {
      options = words[at + 1]
      words.removeSubrange(at...(at + 1))
    }
    if let at = words.firstIndex(of: "-t"), at + 1 < words.count {
      type = words[at + 1]
      words.removeSubrange(at...(at + 1))
    }
    if let at = words.firstIndex(of: "-r") {
      flags = 1
      words.remove(at: at)
    }
    do throws(Errno) {
      if words.isEmpty {
        put(try FileDescriptor.open("/proc/mounts").readAll())
      } else if words.count == 2 {
        try FileSystem.mount(words[0], at: words[1], type: type, flags: flags, options: options)
      } else {
        complain("mount [-t TYPE] [-r] [-o OPTIONS] SOURCE PLACE")
        Program.exit(2)
      }
    } catch {
      complain(words.last ?? "/proc/mounts", error)
      Program.exit(1)
    }
    Program.exit(0)
  }
}
