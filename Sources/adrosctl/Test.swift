import ArgumentParser
import Foundation
import ImageKit

struct Test: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Runs the tests.",
    discussion: "Without a kind: host, image, boot, disk, guest and programs. torture runs the guest's cases in their long forms;\n"
      + "linux runs the C cases on Linux and records what they say there.")
  enum Kind: String, CaseIterable, ExpressibleByArgument { case host, image, boot, disk, guest, programs, torture, linux, all }

  @Argument(help: "host, image, boot, disk, guest, programs, torture, linux or all") var kind: Kind = .all
  @Argument(help: "Only cases whose name contains one of these.") var filters: [String] = []
  @Option(help: "Processor counts for the guest tests.") var smp = "1,4"
  @Option(help: "How long a boot may take (300s, 5m).") var timeout: String?
  @Option(name: .customLong("repeat"), help: "Run everything so many times.") var rounds = 1
  @Flag(help: "Stop after the first failure.") var failFast = false
  @Flag(help: "List the cases and run nothing.") var list = false
  @Option(help: "tap, junit, json or html, and a file behind a colon to write it to.") var report: [Report] = []

  func validate() throws {
    guard rounds > 0 else { throw ValidationError("--repeat is at least 1") }
    for count in smp.split(separator: ",", omittingEmptySubsequences: false) {
      guard let count = Int(count), (1...8).contains(count) else { throw ValidationError("--smp is a list like 1,4 of 1 to 8, not \(smp)") }
    }
    if let timeout, ByteSize.seconds(timeout) == nil { throw ValidationError("--timeout is a time like 60s or 5m, not \(timeout)") }
  }

  func run() async throws {
    let results = Results(failFast: failFast, filters: filters)
    let torture = kind == .torture
    let limit = timeout.flatMap { ByteSize.seconds($0) } ?? (torture ? 3600 : 600)
    try await reporting {
      if list {
        for name in try await GuestTests.names() where results.selects(name) { print("guest \(name)") }
        for name in BootTests.names + DiskTests.names + DiskErrorTests.names + PowerCutTests.names + ImageTests.names + ProgramTests.names
          + ScreenTests.names + [StressTests.name]
        where results.selects(name) { print(name) }
        return
      }
      do throws(Results.Stop) {
        for _ in 0..<rounds { try await round(results, torture, limit) }
      } catch {}
      for report in report { try report.write(results) }
      print("\(results.passed) passed, \(results.failed) failed" + (results.skipped > 0 ? ", \(results.skipped) skipped" : ""))
      if results.failed > 0 || results.passed == 0 { throw ExitCode(ExitStatus.testsFailed) }
    }
  }

  private func round(_ results: Results, _ torture: Bool, _ limit: Double) async throws(Results.Stop) {
    let counts = smp.split(separator: ",").compactMap { Int($0) }
    func wants(_ wanted: Kind) -> Bool { kind == wanted || kind == .all }
    let hosts = filters.isEmpty || filters.contains { $0.hasPrefix("host") }
    if wants(.host) || torture && hosts { try await results.stage("host") { try await HostTests.run(results, torture: torture) } }
    if kind != .host { try await results.stage("build") { try await Builder.build(.all) } }
    if wants(.image) { try await results.stage("image") { try await ImageTests.run(results) } }
    if wants(.boot) { try await results.stage("boot") { try await BootTests.run(results) } }
    if wants(.disk) { try await results.stage("disk") { try await DiskTests.run(results) } }
    if wants(.disk) { try await results.stage("disk") { try await DiskErrorTests.run(results) } }
    if wants(.disk) || torture { try await results.stage("disk") { try await PowerCutTests.run(results, torture: torture) } }
    if wants(.guest) || torture {
      for count in counts {
        try await results.stage("guest") { try await GuestTests.run(results, processors: count, timeout: limit, torture: torture) }
      }
    }
    if kind == .linux { try await results.stage("linux") { try await LinuxOracle.run(results, timeout: limit) } }
    if wants(.programs) { try await results.stage("programs") { try await ProgramTests.run(results, timeout: limit) } }
    if wants(.programs) { try await results.stage("screen") { try await ScreenTests.run(results) } }
    if wants(.programs) || torture { try await results.stage("programs") { try await StressTests.run(results, torture: torture) } }
  }
}
