import ArgumentParser

@main
struct Adrosctl: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "adrosctl",
    abstract: "Builds, images, runs and tests AdrOS.",
    subcommands: [Build.self, Image.self, Run.self, Test.self, Check.self, Symbolize.self, Doctor.self])
}
