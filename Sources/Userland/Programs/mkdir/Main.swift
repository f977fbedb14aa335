import SystemABI
import UserKit

/// `mkdir [-p] DIRECTORY…`
@main
struct Main {
  static func main() {
    var status: Int32 = 0
    let parents = Program.arguments.contains("-p")
    for path in Program.arguments.dropFirst() where path != "-p" {
      do throws(Errno) {
        if parents { try makeParents(path) } else { try FileSystem.makeDirectory(path) }
      } catch {
        complain(path, error)
        status = 1
      }
    }
    Program.exit(status)
  }

  static func makeParents(_ path: Bytes) throws(Errno) {
    for end in path.indices where end > 0 && path[end] == 47 { try make(Array(path[..<end])) }
    try make(path)
  }

  static func make(_ path: Bytes) throws(Errno) {
    do throws(Errno) { try FileSystem.makeDirectory(path) } catch { if error != .fileExists { throw error } }
  }
}
