import ShellCore
import SystemABI
import UserKit

/// Why a list ends early.
enum Flow {
  case normal
  case breakLoop(Int)
  case continueLoop(Int)
  case returnFunction
}

/// The shell's state and the execution of its trees. SPEC: POSIX.1-2024 Shell Command Language.
final class Shell {
  var variables: [(name: Bytes, value: Bytes, exported: Bool)] = []
  var functions: [(name: Bytes, body: Node)] = []
  var positional: [Bytes] = []
  var name: Bytes = "sh"
  var status: Int32 = 0
  var lastBackground: Int32 = 0
  var exitsOnError = false
  /// Prompts, jobs in process groups of their own, terminal hand-over.
  var isInteractive = false
  /// The next simple command is the last this process runs.
  private var replacesItself = false
  var jobs = JobTable()
  var loopDepth = 0

  init() {
    for entry in Program.environment {
      guard let equals = entry.firstIndex(of: 61) else { continue }
      set(Array(entry[..<equals]), Array(entry[(equals + 1)...]), exported: true)
    }
    if get("PATH") == nil { set("PATH", "/sbin:/usr/sbin:/bin:/usr/bin", exported: true) }
  }

  // MARK: Variables

  func get(_ name: Bytes) -> Bytes? { variables.first { $0.name == name }?.value }

  func set(_ name: Bytes, _ value: Bytes, exported: Bool = false) {
    if let index = variables.firstIndex(where: { $0.name == name }) {
      variables[index].value = value
      if exported { variables[index].exported = true }
    } else {
      variables.append((name, value, exported))
    }
  }

  func unset(_ name: Bytes) { variables.removeAll { $0.name == name } }

  var environment: [Bytes] { variables.filter { $0.exported }.map { $0.name + "=" + $0.value } }

  // MARK: Running text

  func runText(_ text: Bytes) {
    do throws(SyntaxError) { _ = run(try Parser.parse(text)) } catch {
      switch error {
      case .incomplete: complain("syntax error: unexpected end of file")
      case .unexpected(let what): complain("syntax error near '" + what + "'")
      }
      status = 2
    }
  }

  func runFile(_ path: Bytes) {
    do throws(Errno) {
      let file = try FileDescriptor.open(path)
      let text = try file.readAll()
      try? file.close()
      runText(text)
    } catch {
      complain(path, error)
      status = 127
    }
  }

  // MARK: Trees

  func run(_ node: Node) -> Flow {
    switch node {
    case .list(let items): return runList(items)
    case .and(let left, let right):
      let flow = run(left)
      guard case .normal = flow, status == 0 else { return flow }
      return run(right)
    case .or(let left, let right):
      let flow = run(left)
      guard case .normal = flow, status != 0 else { return flow }
      return run(right)
    case .pipeline(let commands, let negated):
      let flow = commands.count == 1 ? run(commands[0]) : runPipeline(commands)
      if negated { status = status == 0 ? 1 : 0 }
      return flow
    case .simple(let assignments, let words, let redirects): return runSimple(assignments, words, redirects, node)
    case .conditional(let branches, let otherwise):
      for branch in branches {
        let flow = run(branch.condition)
        guard case .normal = flow else { return flow }
        if status == 0 { return run(branch.body) }
      }
      status = 0
      return otherwise.map { run($0) } ?? .normal
    case .loop(let condition, let body, let until): return runLoop(condition, body, until)
    case .each(let name, let words, let body): return runEach(name, words, body)
    case .match(let word, let branches): return runMatch(word, branches)
    case .group(let body): return run(body)
    case .subshell(let body):
      runChild { _ = self.run(body) }
      return .normal
    case .function(let name, let body):
      functions.removeAll { $0.name == name }
      functions.append((name, body))
      status = 0
      return .normal
    case .redirected(let body, let redirects):
      var flow = Flow.normal
      withRedirects(redirects) { flow = self.run(body) }
      return flow
    }
  }

  private func runList(_ items: [(node: Node, background: Bool)]) -> Flow {
    for item in items {
      if item.background {
        startBackground(item.node)
        continue
      }
      let flow = run(item.node)
      guard case .normal = flow else { return flow }
      if exitsOnError, status != 0, Self.isPlain(item.node) { Program.exit(status) }
    }
    return .normal
  }

  private static func isPlain(_ node: Node) -> Bool {
    switch node {
    case .and, .or: return false
    case .pipeline(_, let negated): return !negated
    default: return true
    }
  }

  private func runLoop(_ condition: Node, _ body: Node, _ until: Bool) -> Flow {
    loopDepth += 1
    defer { loopDepth -= 1 }
    var last: Int32 = 0
    while true {
      let flow = run(condition)
      guard case .normal = flow else { return leaveLoop(flow) ?? .normal }
      if (status == 0) == until { break }
      let inner = run(body)
      last = status
      switch inner {
      case .normal: break
      case .continueLoop(let depth) where depth <= 1: break
      default: return leaveLoop(inner) ?? .normal
      }
    }
    status = last
    return .normal
  }

  /// What a loop passes on to the one around it; nil when it ends here.
  private func leaveLoop(_ flow: Flow) -> Flow? {
    switch flow {
    case .breakLoop(let depth): depth > 1 ? .breakLoop(depth - 1) : nil
    case .continueLoop(let depth): depth > 1 ? .continueLoop(depth - 1) : nil
    default: flow
    }
  }

  private func runEach(_ name: Bytes, _ words: [Word]?, _ body: Node) -> Flow {
    loopDepth += 1
    defer { loopDepth -= 1 }
    status = 0
    for value in words.map({ expand($0) }) ?? positional {
      set(name, value)
      let flow = run(body)
      switch flow {
      case .normal: break
      case .continueLoop(let depth) where depth <= 1: break
      default: return leaveLoop(flow) ?? .normal
      }
    }
    return .normal
  }

  private func runMatch(_ word: Word, _ branches: [(patterns: [Word], body: Node)]) -> Flow {
    let text = expandToText(word)
    status = 0
    for branch in branches where branch.patterns.contains(where: { pattern($0).matches(text) }) { return run(branch.body) }
    return .normal
  }

  // MARK: Simple commands

  /// Runs the last thing a child has to do: a program takes the child's place, so that `$!` is the program's number.
  func runLast(_ node: Node) {
    switch node {
    case .pipeline(let commands, negated: false) where commands.count == 1: runLast(commands[0])
    case .simple:
      replacesItself = true
      _ = run(node)
    default: _ = run(node)
    }
  }

  private func runSimple(_ assignments: [(name: Bytes, value: Word)], _ words: [Word], _ redirects: [Redirect], _ node: Node) -> Flow {
    let replaces = replacesItself
    replacesItself = false
    var expanded = expand(words)
    if expanded.isEmpty {
      status = 0
      for assignment in assignments { set(assignment.name, expandToText(assignment.value)) }
      withRedirects(redirects) {}
      return .normal
    }
    if let function = functions.first(where: { $0.name == expanded[0] }) {
      return callFunction(function.body, Array(expanded.dropFirst()), redirects)
    }
    if let builtin = Builtins.find(expanded[0]) {
      var flow = Flow.normal
      let command = expanded.removeFirst()
      if command == "exec", expanded.isEmpty {
        _ = apply(redirects)
        return .normal
      }
      for assignment in assignments { set(assignment.name, expandToText(assignment.value)) }
      withRedirects(redirects) { flow = builtin(self, expanded) }
      Output.standard.flush()
      return flow
    }
    let start = {
      for assignment in assignments { self.set(assignment.name, self.expandToText(assignment.value), exported: true) }
      guard self.apply(redirects) else { Program.exit(1) }
      self.execute(expanded)
    }
    if replaces { start() }
    runChild(start)
    return .normal
  }

  private func callFunction(_ body: Node, _ arguments: [Bytes], _ redirects: [Redirect]) -> Flow {
    let saved = positional
    positional = arguments
    withRedirects(redirects) { _ = self.run(body) }
    positional = saved
    return .normal
  }

  /// Replaces this process with a program; ends it with 126 or 127 when that fails.
  func execute(_ words: [Bytes]) -> Never {
    let path = words[0].contains(47) ? words[0] : search(words[0])
    guard let path else {
      complain(words[0] + ": not found")
      Program.exit(127)
    }
    do throws(Errno) { try Process.execute(path, words, environment: environment) } catch {
      if error == .execFormatError {
        // A script without #! is for us. SPEC: §2.9.1.6.
        name = path
        positional = Array(words.dropFirst())
        runFile(path)
        Program.exit(status)
      }
      complain(words[0], error)
      Program.exit(error == .noSuchFileOrDirectory ? 127 : 126)
    }
    Program.exit(126)
  }

  /// The program of a name on $PATH.
  func search(_ name: Bytes) -> Bytes? {
    for folder in (get("PATH") ?? []).split(separator: 58, omittingEmptySubsequences: false) {
      let path = (folder.isEmpty ? "." : Array(folder)) + "/" + name
      if (try? FileSystem.access(path, 1)) != nil, let status = try? FileSystem.stat(path), !status.isDirectory { return path }
    }
    return nil
  }

  // MARK: Redirection

  /// Opens what the redirects name onto their descriptors; false after a complaint.
  func apply(_ redirects: [Redirect]) -> Bool {
    for redirect in redirects {
      do throws(Errno) { try apply(redirect) } catch {
        complain(expandToText(redirect.target), error)
        status = 1
        return false
      }
    }
    return true
  }

  private func apply(_ redirect: Redirect) throws(Errno) {
    let text = expandToText(redirect.target)
    let file: FileDescriptor
    switch redirect.kind {
    case .duplicate:
      if text == "-" {
        try? FileDescriptor(rawValue: redirect.descriptor).close()
        return
      }
      guard let source = number(text) else { throw .badFileDescriptor }
      try FileDescriptor(rawValue: Int32(source)).duplicate(as: redirect.descriptor)
      return
    case .hereDocument: file = try document(text)
    case .input: file = try FileDescriptor.open(text)
    case .output: file = try FileDescriptor.open(text, flags: OpenFlags.writeOnly | OpenFlags.create | OpenFlags.truncate)
    case .append: file = try FileDescriptor.open(text, flags: OpenFlags.writeOnly | OpenFlags.create | OpenFlags.append)
    case .readWrite: file = try FileDescriptor.open(text, flags: OpenFlags.readWrite | OpenFlags.create)
    }
    if file.rawValue != redirect.descriptor {
      try file.duplicate(as: redirect.descriptor)
      try file.close()
    }
  }

  /// A here-document's text behind a descriptor: a child feeds a pipe, so that any length works.
  private func document(_ text: Bytes) throws(Errno) -> FileDescriptor {
    let (reader, writer) = try FileDescriptor.pipe()
    if try Process.fork() == 0 {
      try? reader.close()
      try? writer.write(text)
      Program.exit(0)
    }
    try writer.close()
    return reader
  }

  /// Runs `body` with redirects in place, then puts the descriptors back.
  func withRedirects(_ redirects: [Redirect], _ body: () -> Void) {
    if redirects.isEmpty { return body() }
    Output.standard.flush()
    var saved: [(Int32, FileDescriptor?)] = []
    for redirect in redirects {
      let copy = try? FileDescriptor(rawValue: redirect.descriptor).duplicate(from: 10)
      saved.append((redirect.descriptor, copy))
    }
    if apply(redirects) { body() }
    Output.standard.flush()
    for (descriptor, copy) in saved.reversed() {
      if let copy {
        try? copy.duplicate(as: descriptor)
        try? copy.close()
      } else {
        try? FileDescriptor(rawValue: descriptor).close()
      }
    }
  }
}
