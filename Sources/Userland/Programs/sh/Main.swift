import ShellCore
import SystemABI
import UserKit

/// `sh [-c COMMAND [NAME ARG…] | FILE ARG…]`: the POSIX shell.
@main
struct Main {
  static func main() {
    let arguments = Program.arguments
    let shell = Shell()
    if arguments.count > 2, arguments[1] == "-c" {
      shell.name = arguments.count > 3 ? arguments[3] : arguments[0]
      shell.positional = Array(arguments.dropFirst(4))
      shell.runText(arguments[2])
    } else if arguments.count > 1, arguments[1].first != 45 {
      shell.name = arguments[1]
      shell.positional = Array(arguments.dropFirst(2))
      shell.runFile(arguments[1])
    } else if FileDescriptor.standardInput.isTerminal {
      Interactive(shell).loop()
    } else if let text = try? FileDescriptor.standardInput.readAll() {
      shell.runText(text)
    }
    Program.exit(shell.status)
  }
}
