import UserKit

/// `uname [-a] [-s] [-n] [-r] [-v] [-m]`
@main
struct Main {
  static func main() {
    guard let names = try? Process.systemName() else { Program.exit(1) }
    let flags: Bytes = "snrvm"
    var wanted: [Int] = []
    for option in Program.arguments.dropFirst() {
      for flag in option.dropFirst() {
        if flag == 97 { wanted = [0, 1, 2, 3, 4] } else if let index = flags.firstIndex(of: flag) { wanted.append(index) }
      }
    }
    if wanted.isEmpty { wanted = [0] }
    putLine(Array(wanted.map { names[$0] }.joined(separator: [32])))
    Program.exit(0)
  }
}
