import UserKit

/// `echo [-n] [WORD…]`
@main
struct Main {
  static func main() {
    var words = Program.arguments.dropFirst()
    let bare = words.first == "-n"
    if bare { words = words.dropFirst() }
    put(Array(words.joined(separator: [32])) + (bare ? [] : "\n"))
    Program.exit(0)
  }
}
