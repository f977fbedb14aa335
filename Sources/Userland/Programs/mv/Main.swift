import SystemABI
import UserKit

/// `mv SOURCE… TARGET`, within one file system.
@main
struct Main {
  static func main() {
    var paths = Array(Program.arguments.dropFirst())
    guard paths.count >= 2 else {
      complain("two or more names are needed: mv SOURCE… TARGET")
      Program.exit(2)
    }
    let target = paths.removeLast()
    let into = (try? FileSystem.stat(target))?.isDirectory ?? false
    var status: Int32 = 0
    for path in paths {
      let name = Array(path.split(separator: 47).last ?? [])
      do throws(Errno) { try FileSystem.rename(path, to: into ? target + "/" + name : target) } catch {
        complain(path, error)
        status = 1
      }
    }
    Program.exit(status)
  }
}
