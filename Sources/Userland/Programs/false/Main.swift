import UserKit

/// `false`: fails.
@main
struct Main {
  static func main() { Program.exit(1) }
}
