import ArgumentParser
import Foundation
import ImageKit

@main
struct Adrosctl: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "adrosctl",
    abstract: "Builds, images, runs and tests AdrOS.",
    subcommands: [
      Build.self, Image.self, Run.self, Test.self, Check.self, Debug.self, Symbolize.self, Screenshot.self, SendKey.self, Doctor.self,
      Config.self, Size.self, Completions.self,
    ])

  /// As the library's, with a suggestion for a mistyped subcommand.
  static func main() async {
    let arguments = Array(CommandLine.arguments.dropFirst())
    suggest(arguments, in: Adrosctl.self, path: [])
    await main(arguments)
  }

  private static func suggest(_ arguments: [String], in command: any ParsableCommand.Type, path: [String]) {
    let names = command.configuration.subcommands.compactMap { $0._commandName }
    guard let word = arguments.first, !word.hasPrefix("-"), !names.isEmpty else { return }
    if let index = names.firstIndex(of: word) {
      return suggest(Array(arguments.dropFirst()), in: command.configuration.subcommands[index], path: path + [word])
    }
    // A command with a default takes other words itself; the top has none.
    if command.configuration.defaultSubcommand != nil || word == "help" { return }
    let near = Suggestion.nearest(to: word, in: names)
    let full = (["./adrosctl"] + path).joined(separator: " ")
    Progress.say(
      "\(Progress.coloured("error:", 31)) there is no command \(word)\n  because: the commands are \(names.joined(separator: ", "))\n"
        + "  try: " + (near.map { "did you mean \(full) \($0)?" } ?? "\(full) --help"))
    Foundation.exit(ExitStatus.usage)
  }
}
