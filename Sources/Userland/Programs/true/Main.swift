import UserKit

/// `true`: succeeds.
@main
struct Main {
  static func main() { Program.exit(0) }
}
