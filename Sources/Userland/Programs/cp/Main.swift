import SystemABI
import UserKit

/// `cp SOURCE… TARGET`: regular files.
@main
struct Main {
  static func main() {
    var paths = Array(Program.arguments.dropFirst())
    guard paths.count >= 2 else {
      complain("two or more names are needed: cp SOURCE… TARGET")
      Program.exit(2)
    }
    let target = paths.removeLast()
    let into = (try? FileSystem.stat(target))?.isDirectory ?? false
    if paths.count > 1, !into {
      complain(target, .notDirectory)
      Program.exit(1)
    }
    var status: Int32 = 0
    for path in paths {
      let name = Array(path.split(separator: 47).last ?? [])
      do throws(Errno) { try copy(path, into ? target + "/" + name : target) } catch {
        complain(path, error)
        status = 1
      }
    }
    Program.exit(status)
  }

  static func copy(_ from: Bytes, _ to: Bytes) throws(Errno) {
    let source = try FileDescriptor.open(from)
    let status = try source.stat()
    if status.isDirectory { throw .isDirectory }
    if let old = try? FileSystem.stat(to), old.inode == status.inode, old.device == status.device { throw .invalidArgument }
    let target = try FileDescriptor.open(
      to, flags: OpenFlags.writeOnly | OpenFlags.create | OpenFlags.truncate, mode: status.mode & 0o777)
    while true {
      let part = try source.read(65536)
      if part.isEmpty { break }
      try target.write(part)
    }
    try target.close()
    try source.close()
  }
}
