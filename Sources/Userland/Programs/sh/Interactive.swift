import ShellCore
import SystemABI
import UserKit

/// The prompt: line editing, history, job control.
final class Interactive {
  private let shell: Shell
  private var history: [Bytes] = []

  init(_ shell: Shell) {
    self.shell = shell
    shell.isInteractive = true
    for signal in [Int32(2), 3, 20, 21, 22] { Process.ignore(signal) }
    try? Process.setGroup(0, 0)
    try? FileDescriptor.standardInput.setForeground(group: Process.group)
  }

  func loop() {
    var text: Bytes = []
    while true {
      shell.reapBackground()
      guard let line = readLine(text.isEmpty ? prompt : "> ") else {
        put("\n")
        return
      }
      text += line + "\n"
      do throws(SyntaxError) {
        let tree = try Parser.parse(text)
        remember(Array(text.dropLast()))
        text = []
        _ = shell.run(tree)
      } catch {
        if error == .incomplete { continue }
        if case .unexpected(let what) = error { complain("syntax error near '" + what + "'") }
        shell.status = 2
        text = []
      }
      Output.standard.flush()
    }
  }

  private var prompt: Bytes {
    if let custom = shell.get("PS1") { return custom }
    return "adros:" + FileSystem.currentDirectory + (Process.userID == 0 ? "# " : "$ ")
  }

  private func remember(_ line: Bytes) {
    if !line.isEmpty, history.last != line { history.append(line) }
    if history.count > 500 { history.removeFirst() }
  }

  // MARK: Line editing

  private struct Line {
    var text: Bytes = []
    var cursor = 0
  }

  /// One edited line; nil at end of file. Ctrl-C starts over.
  private func readLine(_ prompt: Bytes) -> Bytes? {
    guard let settings = try? TerminalSettings.current(.standardInput) else { return nil }
    try? settings.raw.apply(.standardInput)
    defer { try? settings.apply(.standardInput) }
    var line = Line()
    var place = history.count
    put(prompt)
    Output.standard.flush()
    while true {
      guard let byte = readByte() else { return line.text.isEmpty ? nil : line.text }
      switch byte {
      case 13, 10:
        put("\r\n")
        Output.standard.flush()
        return line.text
      case 4:
        if line.text.isEmpty { return nil }
        erase(&line, forward: true)
      case 3:
        put("^C\r\n")
        line = Line()
        place = history.count
        redraw(prompt, line)
        continue
      case 8, 127: erase(&line, forward: false)
      case 1: line.cursor = 0
      case 5: line.cursor = line.text.count
      case 2: line.cursor = max(0, line.cursor - 1)
      case 6: line.cursor = min(line.text.count, line.cursor + 1)
      case 11: line.text.removeLast(line.text.count - line.cursor)
      case 21:
        line.text.removeFirst(line.cursor)
        line.cursor = 0
      case 23: eraseWord(&line)
      case 12: put("\u{1B}[H\u{1B}[2J")
      case 16: recall(&line, &place, by: -1)
      case 14: recall(&line, &place, by: 1)
      case 27: escape(&line, &place)
      default:
        if byte >= 32 {
          line.text.insert(byte, at: line.cursor)
          line.cursor += 1
        }
      }
      redraw(prompt, line)
    }
  }

  private func readByte() -> UInt8? {
    while true {
      do throws(Errno) { return try FileDescriptor.standardInput.read(1).first } catch {
        if error != .interrupted { return nil }
      }
    }
  }

  private func redraw(_ prompt: Bytes, _ line: Line) {
    put("\r" + prompt + line.text + "\u{1B}[K")
    let back = line.text.count - line.cursor
    if back > 0 { put("\u{1B}[" + decimal(back) + "D") }
    Output.standard.flush()
  }

  private func erase(_ line: inout Line, forward: Bool) {
    if forward {
      if line.cursor < line.text.count { line.text.remove(at: line.cursor) }
    } else if line.cursor > 0 {
      line.cursor -= 1
      line.text.remove(at: line.cursor)
    }
  }

  private func eraseWord(_ line: inout Line) {
    while line.cursor > 0, line.text[line.cursor - 1] == 32 { erase(&line, forward: false) }
    while line.cursor > 0, line.text[line.cursor - 1] != 32 { erase(&line, forward: false) }
  }

  private func recall(_ line: inout Line, _ place: inout Int, by step: Int) {
    let target = place + step
    guard target >= 0, target <= history.count else { return }
    place = target
    line.text = target == history.count ? [] : history[target]
    line.cursor = line.text.count
  }

  private func escape(_ line: inout Line, _ place: inout Int) {
    guard readByte() == 91, let code = readByte() else { return }
    switch code {
    case 65: recall(&line, &place, by: -1)
    case 66: recall(&line, &place, by: 1)
    case 67: line.cursor = min(line.text.count, line.cursor + 1)
    case 68: line.cursor = max(0, line.cursor - 1)
    case 72: line.cursor = 0
    case 70: line.cursor = line.text.count
    case 51:
      _ = readByte()
      erase(&line, forward: true)
    default: break
    }
  }
}
