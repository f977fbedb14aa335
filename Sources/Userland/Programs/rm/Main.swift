import SystemABI
import UserKit

/// `rm [-r] [-f] FILE…`
@main
struct Main {
  static func main() {
    var recursive = false
    var force = false
    var status: Int32 = 0
    for path in Program.arguments.dropFirst() {
      if path.first == 45, path.count > 1 {
        recursive = recursive || path.contains(114) || path.contains(82)
        force = force || path.contains(102)
        continue
      }
      do throws(Errno) { try remove(path, recursive) } catch {
        if force, error == .noSuchFileOrDirectory { continue }
        complain(path, error)
        status = 1
      }
    }
    Program.exit(status)
  }

  static func remove(_ path: Bytes, _ recursive: Bool) throws(Errno) {
    guard recursive, try FileSystem.stat(path, follow: false).isDirectory else { return try FileSystem.unlink(path) }
    for name in try FileSystem.list(path) { try remove(path + "/" + name, true) }
    try FileSystem.removeDirectory(path)
  }
}
