import ArgumentParser
import Foundation
import ImageKit

struct Screenshot: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Saves the screen of the machine that runs here as a PNG.",
    discussion: "With --when it waits until the text screen shows something. --text prints that screen instead.")

  @Option(name: .shortAndLong, help: "The file.") var output = "screenshot.png"
  @Option(help: "Wait until the text screen has this.") var when: String?
  @Option(help: "How long to wait, in seconds.") var timeout = 30.0
  @Flag(help: "Print the text screen.") var text = false

  func run() async throws {
    try await reporting {
      let monitor = try Machines.latest()
      if let when { _ = try await monitor.wait(for: when, timeout: timeout) }
      if text { return print(try monitor.textScreen()) }
      let file = URL(fileURLWithPath: output)
      try monitor.screenshot(to: file)
      guard FileManager.default.fileExists(atPath: file.path) else {
        throw ToolError("no picture was made", why: "QEMU wrote no \(file.path)", hint: "a folder that QEMU may write to")
      }
      Progress.say("wrote \(output)")
    }
  }
}

struct SendKey: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sendkey", abstract: "Presses keys of the machine that runs here.",
    discussion: "Keys have QEMU's names: a, ret, f2, pgup, ctrl-c, ctrl-alt-f2. With --text they are typed as on a US keyboard.")

  @Flag(help: "KEYS are texts; \\n is the Enter key.") var text = false
  @Argument(help: "Keys, one after the other.") var keys: [String]

  func run() async throws {
    try await reporting {
      let monitor = try Machines.latest()
      for key in keys {
        if text { try monitor.type(key.replacingOccurrences(of: "\\n", with: "\n")) } else { try monitor.press(KeyNames.chord(key)) }
      }
    }
  }
}

extension Monitor {
  /// Waits until the text screen has some text; the screen then.
  func wait(for text: String, timeout: Double = 20) async throws -> TextScreen {
    let deadline = Date().addingTimeInterval(timeout)
    while true {
      let screen = try textScreen()
      if screen.has(text) { return screen }
      guard Date() < deadline else {
        throw ToolError("the screen does not show \(text)", why: "after \(Int(timeout)) seconds it has:\n\(screen)", hint: "--timeout")
      }
      try await Task.sleep(for: .milliseconds(100))
    }
  }
}
