import SystemABI
import UserKit

/// `umount [-l] PLACE…`: takes mounts away, with -l also those that are in use, once they are not.
@main
struct Main {
  static func main() {
    var places = Array(Program.arguments.dropFirst())
    let isLazy = places.first == "-l"
    if isLazy { places.removeFirst() }
    if places.isEmpty {
      complain("umount [-l] PLACE...")
      Program.exit(2)
    }
    var status: Int32 = 0
    for place in places {
      do throws(Errno) { try FileSystem.unmount(place, detach: isLazy) } catch {
        complain(place, error)
        status = 1
      }
    }
    Program.exit(status)
  }
}
