import ShellCore
import SystemABI
import UserKit

/// A stretch of expanded text and how it may be treated further.
private struct Piece {
  var text: Bytes
  /// Not split into fields, not a pattern.
  var quoted: Bool
  /// From an expansion: split at IFS.
  var splits: Bool
}

/// Expansion. SPEC: POSIX.1-2024 Shell Command Language §2.6.
extension Shell {
  /// Words to fields: parameters, commands, arithmetic, splitting, path names.
  func expand(_ words: [Word]) -> [Bytes] {
    var fields: [Bytes] = []
    for word in words {
      if case .parameter("@", _, _, _, true)? = word.parts.first, word.parts.count == 1 {
        fields += positional
        continue
      }
      for field in split(pieces(word)) { fields += glob(field) }
    }
    return fields
  }

  /// One word to one text: no splitting, no path names.
  func expandToText(_ word: Word) -> Bytes { pieces(word).reduce([]) { $0 + $1.text } }

  /// A word as a pattern: quoted parts are literal.
  func pattern(_ word: Word) -> Pattern {
    var result = Pattern()
    for piece in pieces(word) {
      if piece.quoted { result.append(literal: piece.text) } else { result.append(pattern: piece.text) }
    }
    return result
  }

  private func pieces(_ word: Word) -> [Piece] {
    var result: [Piece] = []
    for (index, part) in word.parts.enumerated() {
      switch part {
      case .literal(let text, let quoted):
        if index == 0, !quoted, text.first == 126 {
          result.append(Piece(text: tilde(text), quoted: false, splits: false))
        } else {
          result.append(Piece(text: text, quoted: quoted, splits: false))
        }
      case .command(let source, let quoted):
        result.append(Piece(text: substitute(source), quoted: quoted, splits: !quoted))
      case .arithmetic(let text, let quoted):
        result.append(Piece(text: arithmetic(text), quoted: quoted, splits: !quoted))
      case .parameter(let name, let operation, let colon, let inner, let quoted):
        result += parameter(name, operation, colon, inner, quoted)
      }
    }
    return result
  }

  private func tilde(_ text: Bytes) -> Bytes {
    if text.count == 1 || text[1] == 47 { return (get("HOME") ?? "/") + text.dropFirst() }
    return text
  }

  // MARK: Parameters

  private func value(_ name: Bytes) -> Bytes? {
    if name.count == 1 {
      switch name[0] {
      case 63: return decimal(Int(status))
      case 36: return decimal(Int(Process.shellID))
      case 33: return decimal(Int(lastBackground))
      case 35: return decimal(positional.count)
      case 64, 42: return positional.isEmpty ? nil : Array(positional.joined(separator: [32]))
      case 45: return exitsOnError ? "e" : ""
      default: break
      }
    }
    if let index = number(name) {
      if index == 0 { return self.name }
      return index <= positional.count ? positional[index - 1] : nil
    }
    return get(name)
  }

  private func parameter(_ name: Bytes, _ operation: Bytes, _ colon: Bool, _ word: Word, _ quoted: Bool) -> [Piece] {
    let current = value(name)
    let missing = current == nil || colon && current!.isEmpty
    func piece(_ text: Bytes) -> [Piece] { [Piece(text: text, quoted: quoted, splits: !quoted)] }
    if operation.isEmpty { return piece(current ?? []) }
    if operation == "length" { return piece(decimal(current?.count ?? 0)) }
    switch operation[0] {
    case 45: return missing ? pieces(word) : piece(current!)
    case 43: return missing ? piece([]) : pieces(word)
    case 61:
      if missing { set(name, expandToText(word)) }
      return piece(get(name) ?? [])
    case 63:
      if missing {
        complain(name + ": " + (word.parts.isEmpty ? "parameter not set" : expandToText(word)))
        if !isInteractive { Program.exit(1) }
      }
      return piece(current ?? [])
    default: return piece(trim(current ?? [], operation, pattern(word)))
    }
  }

  /// `#` and `##` take a matching start away, `%` and `%%` an end; doubled the longest.
  private func trim(_ text: Bytes, _ operation: Bytes, _ pattern: Pattern) -> Bytes {
    let longest = operation.count == 2
    let lengths = longest ? Array((0...text.count).reversed()) : Array(0...text.count)
    for length in lengths {
      if operation[0] == 35 {
        if pattern.matches(Array(text[..<length])) { return Array(text[length...]) }
      } else if pattern.matches(Array(text[(text.count - length)...])) {
        return Array(text[..<(text.count - length)])
      }
    }
    return text
  }

  // MARK: Commands and arithmetic

  private func substitute(_ source: Bytes) -> Bytes {
    do throws(Errno) {
      let (reader, writer) = try FileDescriptor.pipe()
      let child = try Process.fork()
      if child == 0 {
        isInteractive = false
        jobs = JobTable()
        try? reader.close()
        try? writer.duplicate(as: 1)
        try? writer.close()
        runText(source)
        Program.exit(status)
      }
      try? writer.close()
      var output = try reader.readAll()
      try? reader.close()
      switch try Process.wait(child)?.1 {
      case .exited(let code)?: status = code
      case .signaled(let signal)?: status = 128 + signal
      default: break
      }
      while output.last == 10 { output.removeLast() }
      return output
    } catch {
      complain("command substitution", error)
      status = 1
      return []
    }
  }

  private func arithmetic(_ text: Bytes) -> Bytes {
    let source = Parser.expandable(text).map { expandToText($0) } ?? text
    do throws(Arithmetic.Failure) {
      return decimal(try Arithmetic.evaluate(source) { name in Int64(number(self.get(name) ?? []) ?? 0) })
    } catch {
      complain(error == .divisionByZero ? "division by zero" : "arithmetic syntax error: " + source)
      status = 1
      return "0"
    }
  }

  // MARK: Fields and path names

  /// Splits at IFS where a piece allows it. A field is a list of pieces still.
  private func split(_ pieces: [Piece]) -> [[Piece]] {
    let separators = get("IFS") ?? " \t\n"
    var fields: [[Piece]] = []
    var current: [Piece] = []
    var started = false
    for piece in pieces {
      guard piece.splits else {
        current.append(piece)
        started = true
        continue
      }
      var run: Bytes = []
      for byte in piece.text {
        if separators.contains(byte) {
          if !run.isEmpty {
            current.append(Piece(text: run, quoted: false, splits: false))
            started = true
          }
          if started { fields.append(current) }
          current = []
          run = []
          started = false
        } else {
          run.append(byte)
        }
      }
      if !run.isEmpty {
        current.append(Piece(text: run, quoted: false, splits: false))
        started = true
      }
    }
    if started { fields.append(current) }
    return fields
  }

  /// Path names that match a field; the field itself when none does.
  private func glob(_ field: [Piece]) -> [Bytes] {
    let text = field.reduce([] as Bytes) { $0 + $1.text }
    guard field.contains(where: { !$0.quoted && $0.text.contains { $0 == 42 || $0 == 63 || $0 == 91 } }) else { return [text] }
    // Components, each a pattern.
    var components: [Pattern] = [Pattern()]
    var literals: [Bytes] = [[]]
    for piece in field {
      for (index, part) in piece.text.split(separator: 47, omittingEmptySubsequences: false).enumerated() {
        if index > 0 {
          components.append(Pattern())
          literals.append([])
        }
        if piece.quoted {
          components[components.count - 1].append(literal: Array(part))
        } else {
          components[components.count - 1].append(pattern: Array(part))
        }
        literals[literals.count - 1] += part
      }
    }
    var found: [Bytes] = [[]]
    for (index, component) in components.enumerated() {
      let last = index == components.count - 1
      var next: [Bytes] = []
      for prefix in found {
        if !component.hasMagic {
          let path = prefix + literals[index]
          if last {
            if (try? FileSystem.stat(path.isEmpty ? "/" : path, follow: false)) != nil { next.append(path) }
          } else {
            next.append(path + "/")
          }
          continue
        }
        for name in (try? FileSystem.list(prefix.isEmpty ? "." : prefix)) ?? [] {
          if name.first == 46, !component.matchesLeadingDot { continue }
          if component.matches(name) { next.append(prefix + name + (last ? [] : "/")) }
        }
      }
      found = next
    }
    return found.isEmpty ? [text] : found
  }
}
