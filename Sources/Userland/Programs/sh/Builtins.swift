import ShellCore
import SystemABI
import UserKit

/// Commands that the shell does itself.
enum Builtins {
  typealias Command = (Shell, [Bytes]) -> Flow

  static func find(_ name: Bytes) -> Command? {
    switch name {
    case ":", "true": { shell, _ in shell.done(0) }
    case "false": { shell, _ in shell.done(1) }
    case "cd": changeDirectory
    case "pwd":
      { shell, _ in
        putLine(FileSystem.currentDirectory); return shell.done(0)
      }
    case "exit":
      { shell, arguments in
        Program.exit(arguments.first.flatMap { number($0) }.map { Int32(truncatingIfNeeded: $0 & 255) } ?? shell.status)
      }
    case "export": export
    case "unset":
      { shell, arguments in
        for name in arguments {
          shell.unset(name)
          shell.functions.removeAll { $0.name == name }
        }
        return shell.done(0)
      }
    case "set": setOptions
    case "shift": shift
    case "echo": echo
    case "test": { shell, arguments in shell.done(Test.evaluate(arguments)) }
    case "[": bracket
    case "break": { _, arguments in .breakLoop(arguments.first.flatMap { number($0) } ?? 1) }
    case "continue": { _, arguments in .continueLoop(arguments.first.flatMap { number($0) } ?? 1) }
    case "return":
      { shell, arguments in
        if let code = arguments.first.flatMap({ number($0) }) { shell.status = Int32(truncatingIfNeeded: code) }
        return .returnFunction
      }
    case "exec": { shell, arguments in shell.execute(arguments) }
    case "eval":
      { shell, arguments in
        shell.runText(Array(arguments.joined(separator: [32])))
        return .normal
      }
    case ".":
      { shell, arguments in
        if let path = arguments.first { shell.runFile(path) }
        return .normal
      }
    case "read": read
    case "wait":
      { shell, arguments in
        shell.waitBackground(arguments.first.flatMap { number($0) }.map { Int32($0) })
        return .normal
      }
    case "jobs": jobs
    case "fg":
      { shell, arguments in
        shell.resume(jobNumber(arguments), foreground: true); return .normal
      }
    case "bg":
      { shell, arguments in
        shell.resume(jobNumber(arguments), foreground: false); return .normal
      }
    case "type", "command": type
    default: nil
    }
  }

  private static func jobNumber(_ arguments: [Bytes]) -> Int? {
    arguments.first.flatMap { number($0.first == 37 ? Array($0.dropFirst()) : $0) }
  }

  private static func changeDirectory(_ shell: Shell, _ arguments: [Bytes]) -> Flow {
    let target = arguments.first == "-" ? shell.get("OLDPWD") ?? "/" : arguments.first ?? shell.get("HOME") ?? "/"
    let old = FileSystem.currentDirectory
    do throws(Errno) { try FileSystem.changeDirectory(target) } catch {
      complain("cd: " + target, error)
      return shell.done(1)
    }
    shell.set("OLDPWD", old)
    shell.set("PWD", FileSystem.currentDirectory)
    return shell.done(0)
  }

  private static func export(_ shell: Shell, _ arguments: [Bytes]) -> Flow {
    if arguments.isEmpty { for line in shell.environment { putLine("export " + line) } }
    for argument in arguments {
      if let equals = argument.firstIndex(of: 61) {
        shell.set(Array(argument[..<equals]), Array(argument[(equals + 1)...]), exported: true)
      } else {
        shell.set(argument, shell.get(argument) ?? [], exported: true)
      }
    }
    return shell.done(0)
  }

  private static func setOptions(_ shell: Shell, _ arguments: [Bytes]) -> Flow {
    if arguments.isEmpty { for variable in shell.variables { putLine(variable.name + "=" + variable.value) } }
    var rest = arguments
    while let option = rest.first, option.count == 2, option[0] == 45 || option[0] == 43 {
      rest.removeFirst()
      if option == "--" {
        shell.positional = rest
        return shell.done(0)
      }
      if option[1] == 101 {
        shell.exitsOnError = option[0] == 45
      } else {
        complain("set: unknown option " + option)
        return shell.done(2)
      }
    }
    if !rest.isEmpty { shell.positional = rest }
    return shell.done(0)
  }

  private static func shift(_ shell: Shell, _ arguments: [Bytes]) -> Flow {
    let count = arguments.first.flatMap { number($0) } ?? 1
    guard count >= 0, count <= shell.positional.count else { return shell.done(1) }
    shell.positional.removeFirst(count)
    return shell.done(0)
  }

  private static func echo(_ shell: Shell, _ arguments: [Bytes]) -> Flow {
    var words = arguments[...]
    var newline = true
    if words.first == "-n" {
      newline = false
      words = words.dropFirst()
    }
    put(Array(words.joined(separator: [32])) + (newline ? "\n" : []))
    return shell.done(0)
  }

  private static func bracket(_ shell: Shell, _ arguments: [Bytes]) -> Flow {
    guard arguments.last == "]" else {
      complain("[: missing ]")
      return shell.done(2)
    }
    return shell.done(Test.evaluate(Array(arguments.dropLast())))
  }

  /// Reads a line, byte by byte: what follows it is for the next reader.
  private static func read(_ shell: Shell, _ arguments: [Bytes]) -> Flow {
    var line: Bytes = []
    var ended = false
    while let part = try? FileDescriptor.standardInput.read(1) {
      guard let byte = part.first else {
        ended = true
        break
      }
      if byte == 10 { break }
      line.append(byte)
    }
    let separators = shell.get("IFS") ?? " \t\n"
    var words = line.split { separators.contains($0) }.map { Array($0) }
    let names = arguments.filter { $0 != "-r" }
    for (index, name) in names.enumerated() {
      if index == names.count - 1 {
        shell.set(name, Array(words.joined(separator: [32])))
      } else {
        shell.set(name, words.isEmpty ? [] : words.removeFirst())
      }
    }
    return shell.done(ended && line.isEmpty ? 1 : 0)
  }

  private static func jobs(_ shell: Shell, _ arguments: [Bytes]) -> Flow {
    shell.reapBackground()
    for job in shell.jobs.jobs {
      putLine("[" + decimal(job.number) + "] " + (job.isStopped ? "Stopped " : "Running ") + decimal(Int(job.group)))
    }
    return shell.done(0)
  }

  private static func type(_ shell: Shell, _ arguments: [Bytes]) -> Flow {
    var failed: Int32 = 0
    for name in arguments where name != "-v" {
      if shell.functions.contains(where: { $0.name == name }) {
        putLine(name + " is a function")
      } else if find(name) != nil {
        putLine(name + " is a shell builtin")
      } else if let path = shell.search(name) {
        putLine(path)
      } else {
        failed = 1
      }
    }
    return shell.done(failed)
  }
}

extension Shell {
  func done(_ status: Int32) -> Flow {
    self.status = status
    return .normal
  }
}

/// test and [. SPEC: POSIX.1-2024 test.
enum Test {
  /// 0 true, 1 false, 2 for an error.
  static func evaluate(_ words: [Bytes]) -> Int32 {
    if let at = words.firstIndex(of: "-o"), at > 0, at < words.count - 1 {
      let left = evaluate(Array(words[..<at]))
      return left == 0 ? 0 : evaluate(Array(words[(at + 1)...]))
    }
    if let at = words.firstIndex(of: "-a"), at > 0, at < words.count - 1 {
      let left = evaluate(Array(words[..<at]))
      return left != 0 ? left : evaluate(Array(words[(at + 1)...]))
    }
    if words.first == "!", words.count > 1 {
      let inner = evaluate(Array(words.dropFirst()))
      return inner > 1 ? inner : 1 - inner
    }
    switch words.count {
    case 0: return 1
    case 1: return words[0].isEmpty ? 1 : 0
    case 2: return unary(words[0], words[1])
    case 3: return binary(words[0], words[1], words[2])
    default: return 2
    }
  }

  private static func truth(_ value: Bool) -> Int32 { value ? 0 : 1 }

  private static func unary(_ operation: Bytes, _ word: Bytes) -> Int32 {
    if operation == "-n" { return truth(!word.isEmpty) }
    if operation == "-z" { return truth(word.isEmpty) }
    if operation == "-t" { return truth(number(word).map { FileDescriptor(rawValue: Int32($0)).isTerminal } ?? false) }
    let isLink = operation == "-L" || operation == "-h"
    guard operation.count == 2, operation[0] == 45 else { return 2 }
    guard let status = try? FileSystem.stat(word, follow: !isLink) else { return 1 }
    switch operation[1] {
    case 101: return 0  // -e
    case 102: return truth(status.type == Mode.regular)
    case 100: return truth(status.isDirectory)
    case 76, 104: return truth(status.type == Mode.link)
    case 98: return truth(status.type == Mode.block)
    case 99: return truth(status.type == Mode.character)
    case 112: return truth(status.type == Mode.fifo)
    case 115: return truth(status.size > 0)
    case 114: return truth((try? FileSystem.access(word, 4)) != nil)
    case 119: return truth((try? FileSystem.access(word, 2)) != nil)
    case 120: return truth((try? FileSystem.access(word, 1)) != nil)
    default: return 2
    }
  }

  private static func binary(_ left: Bytes, _ operation: Bytes, _ right: Bytes) -> Int32 {
    if operation == "=" || operation == "==" { return truth(left == right) }
    if operation == "!=" { return truth(left != right) }
    guard let a = number(left), let b = number(right) else {
      complain("test: numbers expected")
      return 2
    }
    switch operation {
    case "-eq": return truth(a == b)
    case "-ne": return truth(a != b)
    case "-lt": return truth(a < b)
    case "-le": return truth(a <= b)
    case "-gt": return truth(a > b)
    case "-ge": return truth(a >= b)
    default: return 2
    }
  }
}
