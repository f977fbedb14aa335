import Foundation
import ImageKit

#if canImport(Glibc)
  import Glibc
#endif

/// A running machine's control socket. SPEC: QEMU Machine Protocol; one JSON object a line both ways.
final class Monitor {
  private let file: Int32
  private var received: [UInt8] = []

  init(_ socket: URL) throws {
    file = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(socket.path.utf8)
    guard file >= 0, bytes.count < 108 else {
      throw ToolError("no monitor", why: "the socket's path is too long", hint: "a shorter TMPDIR")
    }
    withUnsafeMutableBytes(of: &address.sun_path) { for (index, byte) in bytes.enumerated() { $0[index] = byte } }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(file, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
    guard result == 0 else {
      throw ToolError("no monitor at \(socket.path)", why: String(cString: strerror(errno)), hint: "is the machine running?")
    }
    _ = try line()  // the greeting
    try execute("qmp_capabilities")
  }

  deinit { close(file) }

  /// Runs a command; its answer. Events in between are nobody's.
  @discardableResult func execute(_ command: String, _ arguments: [String: Any] = [:]) throws -> Any? {
    var request = try JSONSerialization.data(withJSONObject: ["execute": command, "arguments": arguments])
    request.append(10)
    let sent = request.withUnsafeBytes { write(file, $0.baseAddress, $0.count) }
    guard sent == request.count else { throw ToolError("the machine hung up", why: command, hint: "") }
    while true {
      guard let answer = try JSONSerialization.jsonObject(with: line()) as? [String: Any] else { continue }
      if let failure = answer["error"] as? [String: Any] {
        throw ToolError("the machine refuses \(command)", why: failure["desc"] as? String ?? "no reason given", hint: "")
      }
      if let result = answer["return"] { return result }
    }
  }

  private func line() throws -> Data {
    while true {
      if let end = received.firstIndex(of: 10) {
        let line = Data(received[..<end])
        received.removeSubrange(...end)
        return line
      }
      var buffer = [UInt8](repeating: 0, count: 4096)
      let count = read(file, &buffer, buffer.count)
      guard count > 0 else { throw ToolError("the machine hung up", why: "it has ended", hint: "") }
      received += buffer[0..<count]
    }
  }

  // MARK: What it is for

  /// The screen as a PNG.
  func screenshot(to path: URL) throws { try execute("screendump", ["filename": path.path, "format": "png"]) }

  /// What is to be read on the screen, in text mode or drawn with the kernel's own font.
  func textScreen() throws -> TextScreen {
    let path = try Paths.scratch("text-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: path) }
    try execute("screendump", ["filename": path.path, "format": "ppm"])
    let picture = try Picture(Data(contentsOf: path))
    if !picture.isTextMode { return TextScreen(picture) }
    try execute("pmemsave", ["val": 0xB8000, "size": TextScreen.memorySize, "filename": path.path])
    return TextScreen(memory: try Data(contentsOf: path))
  }

  /// Presses keys together, by QEMU's names, and lets them go.
  func press(_ keys: [String]) throws {
    for isDown in [true, false] {
      let events = (isDown ? keys : keys.reversed()).map { key in
        ["type": "key", "data": ["down": isDown, "key": ["type": "qcode", "data": key]]] as [String: Any]
      }
      try execute("input-send-event", ["events": events])
    }
  }

  /// Moves the mouse, to the right and down, and turns its wheel away from the hand.
  func moveMouse(x: Int = 0, y: Int = 0, wheel: Int = 0) throws {
    func event(_ type: String, _ data: [String: Any]) -> [String: Any] { ["type": type, "data": data] }
    var events = [event("rel", ["axis": "x", "value": x]), event("rel", ["axis": "y", "value": y])]
    if wheel != 0 { events.append(event("btn", ["down": true, "button": wheel > 0 ? "wheel-up" : "wheel-down"])) }
    try execute("input-send-event", ["events": events])
  }

  /// Presses a button of the mouse: `left`, `right`, `middle`, `side` or `extra`.
  func click(_ button: String) throws {
    for isDown in [true, false] {
      try execute("input-send-event", ["events": [["type": "btn", "data": ["down": isDown, "button": button]] as [String: Any]]])
    }
  }

  /// Types a text as on a US keyboard, no faster than QEMU's keyboard has room for: sixteen bytes that the guest has not taken.
  func type(_ text: String) throws {
    for character in text {
      try press(try KeyNames.keys(for: character))
      usleep(4000)
    }
  }

  func quit() { _ = try? execute("quit") }
}

/// Keys by name. SPEC: QEMU's QKeyCode.
enum KeyNames {
  private static let plain: [Character: String] = [
    " ": "spc", "\n": "ret", "\t": "tab", "-": "minus", "=": "equal", "[": "bracket_left", "]": "bracket_right", ";": "semicolon",
    "'": "apostrophe", "`": "grave_accent", "\\": "backslash", ",": "comma", ".": "dot", "/": "slash", "\u{1B}": "esc",
    "\u{7F}": "backspace",
  ]
  private static let shifted: [Character: String] = [
    "!": "1", "@": "2", "#": "3", "$": "4", "%": "5", "^": "6", "&": "7", "*": "8", "(": "9", ")": "0", "_": "minus", "+": "equal",
    "{": "bracket_left", "}": "bracket_right", ":": "semicolon", "\"": "apostrophe", "~": "grave_accent", "|": "backslash", "<": "comma",
    ">": "dot", "?": "slash",
  ]

  static func keys(for character: Character) throws -> [String] {
    if let name = plain[character] { return [name] }
    if let name = shifted[character] { return ["shift", name] }
    if let byte = character.asciiValue, character.isLetter || character.isNumber {
      return character.isUppercase ? ["shift", character.lowercased()] : [String(UnicodeScalar(byte))]
    }
    throw ToolError("no key types \(character)", why: "the keyboard is a US one", hint: "./adrosctl sendkey --help", code: ExitStatus.usage)
  }

  /// `ctrl-alt-f2`: names with dashes between them.
  static func chord(_ text: String) -> [String] { text == "-" ? ["minus"] : text.split(separator: "-").map(String.init) }
}

/// The control sockets of machines that `run` has started.
enum Machines {
  static func socket() throws -> URL {
    let name = "monitor-\(ProcessInfo.processInfo.processIdentifier)"
    let here = try Paths.scratch(name)
    if here.path.utf8.count < 108 { return here }
    return FileManager.default.temporaryDirectory.appendingPathComponent("adros-" + name)
  }

  /// The machine that was started last and still runs.
  static func latest() throws -> Monitor {
    let folders = [try Paths.scratch("."), FileManager.default.temporaryDirectory]
    let found = folders.flatMap { folder in
      ((try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: [.creationDateKey])) ?? []).filter {
        $0.lastPathComponent.hasPrefix(folder == folders[0] ? "monitor-" : "adros-monitor-")
      }
    }
    func date(_ url: URL) -> Date { (try? url.resourceValues(forKeys: [.creationDateKey]).creationDate) ?? .distantPast }
    for socket in found.sorted(by: { date($0) > date($1) }) {
      if let monitor = try? Monitor(socket) { return monitor }
    }
    throw ToolError(
      "no machine is running", why: "nothing answers for this checkout", hint: "./adrosctl run --display vnc", code: ExitStatus.usage)
  }
}
