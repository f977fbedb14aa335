/// Turns shell text into a tree. SPEC: POSIX.1-2024 Shell Command Language §2.3, §2.10.
public struct Parser {
  private let text: [UInt8]
  private var at = 0
  /// Here-documents whose bodies follow the line being parsed: where to put them is their order.
  private var pendingDocuments: [(delimiter: [UInt8], quoted: Bool, stripTabs: Bool)] = []
  private var documents: [Word] = []
  private var documentCount = 0

  public init(_ text: [UInt8]) { self.text = text }

  /// The whole text as a list.
  public static func parse(_ text: [UInt8]) throws(SyntaxError) -> Node {
    var parser = Parser(text)
    let node = try parser.list(until: [])
    if parser.at < text.count { throw .unexpected([parser.text[parser.at]]) }
    return parser.fillDocuments(node)
  }

  /// Text in which only `$` and backquotes are special, as inside double quotes: arithmetic.
  public static func expandable(_ text: [UInt8]) -> Word? {
    var parser = Parser(text)
    return try? parser.quotedText(until: nil)
  }

  private static func bytes(_ text: StaticString) -> [UInt8] { Array(text.description.utf8) }

  // MARK: Characters

  private var current: UInt8? { at < text.count ? text[at] : nil }
  private func peek(_ offset: Int) -> UInt8? { at + offset < text.count ? text[at + offset] : nil }

  private mutating func skipBlanks() {
    while let byte = current {
      if byte == 32 || byte == 9 {
        at += 1
      } else if byte == 92, peek(1) == 10 {
        at += 2
      } else if byte == 35 {
        while let byte = current, byte != 10 {
          _ = byte
          at += 1
        }
      } else {
        return
      }
    }
  }

  private mutating func skipNewlines() {
    while true {
      skipBlanks()
      guard current == 10 else { return }
      newline()
    }
  }

  /// Steps over a newline and reads the here-documents that begin behind it.
  private mutating func newline() {
    at += 1
    for document in pendingDocuments { readDocument(document) }
    pendingDocuments = []
  }

  private mutating func readDocument(_ document: (delimiter: [UInt8], quoted: Bool, stripTabs: Bool)) {
    var body: [UInt8] = []
    while at < text.count {
      var end = at
      while end < text.count, text[end] != 10 { end += 1 }
      var line = Array(text[at..<end])
      at = min(end + 1, text.count)
      if document.stripTabs { line = Array(line.drop { $0 == 9 }) }
      if line == document.delimiter { break }
      body += line + [10]
    }
    if document.quoted {
      documents.append(Word([.literal(body, quoted: true)]))
    } else {
      var inner = Parser(body)
      documents.append((try? inner.quotedText(until: nil)) ?? Word([.literal(body, quoted: true)]))
    }
  }

  private static func isOperator(_ byte: UInt8) -> Bool {
    switch byte {
    case 59, 38, 124, 60, 62, 40, 41, 10, 32, 9: true  // ; & | < > ( ) newline blanks
    default: false
    }
  }
  private static func isNameStart(_ byte: UInt8) -> Bool { byte >= 65 && byte <= 90 || byte >= 97 && byte <= 122 || byte == 95 }
  private static func isName(_ byte: UInt8) -> Bool { isNameStart(byte) || byte >= 48 && byte <= 57 }

  // MARK: Lists

  /// The reserved word that comes next, if it is one of `words`.
  private func reserved(_ words: [[UInt8]]) -> [UInt8]? {
    var copy = self
    copy.skipBlanks()
    for word in words where copy.text[copy.at...].starts(with: word) {
      let end = copy.at + word.count
      if end == copy.text.count || Self.isOperator(copy.text[end]) { return word }
    }
    return nil
  }

  private mutating func expect(_ word: StaticString) throws(SyntaxError) {
    skipNewlines()
    let bytes = Self.bytes(word)
    guard reserved([bytes]) != nil else { throw fail() }
    skipBlanks()
    at += bytes.count
  }

  private func fail() -> SyntaxError {
    guard at < text.count else { return .incomplete }
    var end = at
    while end < text.count, !Self.isOperator(text[end]) { end += 1 }
    return .unexpected(end == at ? [text[at]] : Array(text[at..<end]))
  }

  /// Commands up to one of the reserved words, `)` or the end.
  private mutating func list(until words: [[UInt8]]) throws(SyntaxError) -> Node {
    var items: [(node: Node, background: Bool)] = []
    while true {
      skipNewlines()
      guard let byte = current, byte != 41, reserved(words) == nil else { break }
      if byte == 59, peek(1) == 59 { break }
      let node = try andOr()
      skipBlanks()
      var background = false
      if current == 38, peek(1) != 38 {
        background = true
        at += 1
      } else if current == 59, peek(1) != 59 {
        at += 1
      } else if current != 10, current != nil, current != 41, !(current == 59 && peek(1) == 59), reserved(words) == nil {
        throw fail()
      }
      items.append((node, background))
    }
    return .list(items)
  }

  private mutating func andOr() throws(SyntaxError) -> Node {
    var left = try pipeline()
    while true {
      skipBlanks()
      if current == 38, peek(1) == 38 {
        at += 2
        skipNewlines()
        left = .and(left, try pipeline())
      } else if current == 124, peek(1) == 124 {
        at += 2
        skipNewlines()
        left = .or(left, try pipeline())
      } else {
        return left
      }
    }
  }

  private mutating func pipeline() throws(SyntaxError) -> Node {
    skipBlanks()
    var negated = false
    if reserved([[33]]) != nil {
      skipBlanks()
      at += 1
      negated = true
    }
    var commands = [try command()]
    while true {
      skipBlanks()
      guard current == 124, peek(1) != 124 else { break }
      at += 1
      skipNewlines()
      commands.append(try command())
    }
    return commands.count == 1 && !negated ? commands[0] : .pipeline(commands, negated: negated)
  }

  private mutating func command() throws(SyntaxError) -> Node {
    skipBlanks()
    guard current != nil else { throw .incomplete }
    if current == 40 {
      at += 1
      let body = try list(until: [])
      guard current == 41 else { throw fail() }
      at += 1
      return try withRedirects(.subshell(body))
    }
    if let word = reserved([
      [105, 102], [119, 104, 105, 108, 101], [117, 110, 116, 105, 108], [102, 111, 114], [99, 97, 115, 101], [123],
    ]) {
      skipBlanks()
      at += word.count
      switch word.count {
      case 1:
        let body = try list(until: [[125]])
        try expect("}")
        return try withRedirects(.group(body))
      case 2: return try withRedirects(try conditional())
      case 3: return try withRedirects(try forLoop())
      case 4: return try withRedirects(try caseClause())
      default: return try withRedirects(try loop(until: word[0] == 117))
      }
    }
    // A word that ends a construct begins no command.
    let closers: [StaticString] = ["then", "else", "elif", "fi", "do", "done", "esac", "}"]
    if reserved(closers.map { Self.bytes($0) }) != nil { throw fail() }
    if let name = functionName() {
      skipNewlines()
      return .function(name: name, body: try command())
    }
    return try simple()
  }

  private mutating func withRedirects(_ node: Node) throws(SyntaxError) -> Node {
    var redirects: [Redirect] = []
    while let redirect = try redirect() { redirects.append(redirect) }
    return redirects.isEmpty ? node : .redirected(node, redirects)
  }

  private mutating func conditional() throws(SyntaxError) -> Node {
    var branches: [(condition: Node, body: Node)] = []
    let then = Self.bytes("then")
    let elif = Self.bytes("elif")
    let otherwise = Self.bytes("else")
    let end = Self.bytes("fi")
    while true {
      let condition = try list(until: [then])
      try expect("then")
      branches.append((condition, try list(until: [elif, otherwise, end])))
      skipNewlines()
      guard let word = reserved([elif, otherwise, end]) else { throw fail() }
      skipBlanks()
      at += word.count
      if word == end { return .conditional(branches, otherwise: nil) }
      if word == otherwise {
        let body = try list(until: [end])
        try expect("fi")
        return .conditional(branches, otherwise: body)
      }
    }
  }

  private mutating func loop(until: Bool) throws(SyntaxError) -> Node {
    let condition = try list(until: [Self.bytes("do")])
    return .loop(condition: condition, body: try doGroup(), until: until)
  }

  private mutating func doGroup() throws(SyntaxError) -> Node {
    try expect("do")
    let body = try list(until: [Self.bytes("done")])
    try expect("done")
    return body
  }

  private mutating func forLoop() throws(SyntaxError) -> Node {
    skipBlanks()
    let name = identifier()
    guard !name.isEmpty else { throw fail() }
    skipNewlines()
    var words: [Word]?
    if reserved([Self.bytes("in")]) != nil {
      skipBlanks()
      at += 2
      var list: [Word] = []
      while true {
        skipBlanks()
        guard let byte = current, byte != 10, byte != 59 else { break }
        guard let word = try word() else { throw fail() }
        list.append(word)
      }
      words = list
    }
    skipBlanks()
    if current == 59 { at += 1 }
    return .each(name: name, words: words, body: try doGroup())
  }

  private mutating func caseClause() throws(SyntaxError) -> Node {
    skipBlanks()
    guard let subject = try word() else { throw fail() }
    try expect("in")
    var branches: [(patterns: [Word], body: Node)] = []
    let end = Self.bytes("esac")
    while true {
      skipNewlines()
      if reserved([end]) != nil { break }
      if current == 40 { at += 1 }
      var patterns: [Word] = []
      repeat {
        if current == 124 { at += 1 }
        skipBlanks()
        guard let pattern = try word() else { throw fail() }
        patterns.append(pattern)
        skipBlanks()
      } while current == 124
      guard current == 41 else { throw fail() }
      at += 1
      branches.append((patterns, try list(until: [end])))
      skipNewlines()
      if current == 59, peek(1) == 59 { at += 2 } else if reserved([end]) == nil { throw fail() }
    }
    try expect("esac")
    return .match(subject, branches)
  }

  private mutating func identifier() -> [UInt8] {
    let start = at
    if let byte = current, Self.isNameStart(byte) {
      while let byte = current, Self.isName(byte) {
        _ = byte
        at += 1
      }
    }
    return Array(text[start..<at])
  }

  /// `name()`: steps over it if it comes next.
  private mutating func functionName() -> [UInt8]? {
    let start = at
    let name = identifier()
    if !name.isEmpty {
      skipBlanks()
      if current == 40, peek(1) == 41 {
        at += 2
        return name
      }
    }
    at = start
    return nil
  }

  // MARK: Simple commands

  private mutating func simple() throws(SyntaxError) -> Node {
    var assignments: [(name: [UInt8], value: Word)] = []
    var words: [Word] = []
    var redirects: [Redirect] = []
    while true {
      skipBlanks()
      if let redirect = try redirect() {
        redirects.append(redirect)
        continue
      }
      guard let byte = current, !Self.isOperator(byte) else { break }
      if words.isEmpty, let name = assignmentName() {
        assignments.append((name, try word() ?? Word()))
        continue
      }
      guard let word = try word() else { break }
      words.append(word)
    }
    if assignments.isEmpty, words.isEmpty, redirects.isEmpty { throw fail() }
    return .simple(assignments: assignments, words: words, redirects: redirects)
  }

  private mutating func assignmentName() -> [UInt8]? {
    let start = at
    let name = identifier()
    if !name.isEmpty, current == 61 {
      at += 1
      return name
    }
    at = start
    return nil
  }

  private mutating func redirect() throws(SyntaxError) -> Redirect? {
    skipBlanks()
    var position = at
    var descriptor: Int32?
    while position < text.count, text[position] >= 48, text[position] <= 57, position - at < 3 {
      descriptor = (descriptor ?? 0) * 10 + Int32(text[position] - 48)
      position += 1
    }
    guard position < text.count, text[position] == 60 || text[position] == 62 else { return nil }
    let isInput = text[position] == 60
    at = position + 1
    var kind: Redirect.Kind = isInput ? .input : .output
    if isInput, current == 60 {
      at += 1
      return try hereDocument(descriptor ?? 0)
    }
    if !isInput, current == 62 {
      kind = .append
      at += 1
    } else if current == 38 {
      kind = .duplicate
      at += 1
    } else if isInput, current == 62 {
      kind = .readWrite
      at += 1
    } else if !isInput, current == 124 {
      at += 1
    }
    skipBlanks()
    guard let target = try word() else { throw fail() }
    return Redirect(descriptor: descriptor ?? (isInput ? 0 : 1), kind: kind, target: target)
  }

  private mutating func hereDocument(_ descriptor: Int32) throws(SyntaxError) -> Redirect {
    var stripTabs = false
    if current == 45 {
      stripTabs = true
      at += 1
    }
    skipBlanks()
    guard let word = try word() else { throw fail() }
    var delimiter: [UInt8] = []
    var quoted = false
    for part in word.parts {
      if case .literal(let text, let isQuoted) = part {
        delimiter += text
        if isQuoted { quoted = true }
      }
    }
    pendingDocuments.append((delimiter, quoted, stripTabs))
    documentCount += 1
    // The body is read at the end of the line; its number stands for it until then.
    return Redirect(descriptor: descriptor, kind: .hereDocument, target: Word([.literal([UInt8(documentCount - 1)], quoted: true)]))
  }

  // MARK: Words

  /// A word, or nil before an operator or the end.
  private mutating func word() throws(SyntaxError) -> Word? {
    var parts: [WordPart] = []
    var plain: [UInt8] = []
    var sawAny = false
    while let byte = current, !Self.isOperator(byte) {
      sawAny = true
      switch byte {
      case 92:  // backslash
        at += 1
        guard let next = current else { throw .incomplete }
        at += 1
        if next == 10 { continue }
        if !plain.isEmpty { parts.append(.literal(plain, quoted: false)) }
        plain = []
        parts.append(.literal([next], quoted: true))
      case 39:  // '
        if !plain.isEmpty { parts.append(.literal(plain, quoted: false)) }
        plain = []
        at += 1
        let start = at
        while let byte = current, byte != 39 {
          _ = byte
          at += 1
        }
        guard current == 39 else { throw .incomplete }
        parts.append(.literal(Array(text[start..<at]), quoted: true))
        at += 1
      case 34:  // "
        if !plain.isEmpty { parts.append(.literal(plain, quoted: false)) }
        plain = []
        at += 1
        let inner = try quotedText(until: 34)
        parts += inner.parts.isEmpty ? [.literal([], quoted: true)] : inner.parts
      case 36, 96:  // $ `
        if let part = try substitution(quoted: false) {
          if !plain.isEmpty { parts.append(.literal(plain, quoted: false)) }
          plain = []
          parts.append(part)
        } else {
          plain.append(byte)
          at += 1
        }
      default:
        plain.append(byte)
        at += 1
      }
    }
    if !plain.isEmpty { parts.append(.literal(plain, quoted: false)) }
    return sawAny ? Word(parts) : nil
  }

  /// Text inside double quotes (or a here-document): only `$`, backquote and backslash are special.
  private mutating func quotedText(until end: UInt8?) throws(SyntaxError) -> Word {
    var parts: [WordPart] = []
    var plain: [UInt8] = []
    while true {
      guard let byte = current else {
        if end == nil { break }
        throw .incomplete
      }
      if byte == end {
        at += 1
        break
      }
      if byte == 92, let next = peek(1) {
        if next == 36 || next == 96 || next == 92 || next == 34 && end != nil {
          plain.append(next)
          at += 2
          continue
        }
        if next == 10 {
          at += 2
          continue
        }
      }
      if byte == 36 || byte == 96, let part = try substitution(quoted: true) {
        if !plain.isEmpty { parts.append(.literal(plain, quoted: true)) }
        plain = []
        parts.append(part)
        continue
      }
      plain.append(byte)
      at += 1
    }
    if !plain.isEmpty { parts.append(.literal(plain, quoted: true)) }
    return Word(parts)
  }

  /// What `$` or a backquote begins; nil for a lone `$`.
  private mutating func substitution(quoted: Bool) throws(SyntaxError) -> WordPart? {
    if current == 96 {
      at += 1
      var inner: [UInt8] = []
      while let byte = current, byte != 96 {
        if byte == 92, let next = peek(1), next == 96 || next == 92 || next == 36 {
          inner.append(next)
          at += 2
          continue
        }
        inner.append(byte)
        at += 1
      }
      guard current == 96 else { throw .incomplete }
      at += 1
      return .command(inner, quoted: quoted)
    }
    guard let next = peek(1) else { return nil }
    if next == 40 {
      if peek(2) == 40 {
        at += 3
        let inner = try balanced(40, 41)
        guard current == 41 else { throw .incomplete }
        at += 1
        return .arithmetic(inner, quoted: quoted)
      }
      at += 2
      return .command(try balanced(40, 41), quoted: quoted)
    }
    if next == 123 {
      at += 2
      return try braced(quoted)
    }
    if Self.isNameStart(next) {
      at += 1
      return .parameter(identifier(), operation: [], colon: false, word: Word(), quoted: quoted)
    }
    if next >= 48 && next <= 57 || [63, 36, 33, 35, 64, 42, 45].contains(next) {
      at += 2
      return .parameter([next], operation: [], colon: false, word: Word(), quoted: quoted)
    }
    return nil
  }

  /// Text up to the closing character, which is stepped over; nesting and quotes are respected.
  private mutating func balanced(_ open: UInt8, _ close: UInt8) throws(SyntaxError) -> [UInt8] {
    var depth = 1
    let start = at
    while let byte = current {
      if byte == 92 {
        at += 1
      } else if byte == 39 {
        at += 1
        while let byte = current, byte != 39 {
          _ = byte
          at += 1
        }
      } else if byte == 34 {
        at += 1
        while let byte = current, byte != 34 {
          if byte == 92 { at += 1 }
          at += 1
        }
      } else if byte == open {
        depth += 1
      } else if byte == close {
        depth -= 1
        if depth == 0 {
          at += 1
          return Array(text[start..<(at - 1)])
        }
      }
      at += 1
    }
    throw .incomplete
  }

  /// `${…}` behind its brace.
  private mutating func braced(_ quoted: Bool) throws(SyntaxError) -> WordPart {
    if current == 35, peek(1) != 125 {
      at += 1
      let name = parameterName()
      guard current == 125 else { throw fail() }
      at += 1
      return .parameter(name, operation: Self.bytes("length"), colon: false, word: Word(), quoted: quoted)
    }
    let name = parameterName()
    guard !name.isEmpty else { throw fail() }
    var colon = false
    if current == 58 {
      colon = true
      at += 1
    }
    var operation: [UInt8] = []
    if let byte = current, [45, 61, 43, 63, 35, 37].contains(byte) {
      operation = [byte]
      at += 1
      if byte == 35 || byte == 37, current == byte {
        operation.append(byte)
        at += 1
      }
    }
    let inner = try balanced(123, 125)
    var parser = Parser(inner)
    // A pattern stays one inside double quotes; a value is quoted with them. SPEC: §2.6.2.
    let isPattern = operation.first == 35 || operation.first == 37
    let word = quoted && !isPattern ? try parser.quotedText(until: nil) : try parser.looseWord()
    return .parameter(name, operation: operation, colon: colon, word: word, quoted: quoted)
  }

  /// A word that may contain blanks and operators: inside `${x:-a b}`.
  private mutating func looseWord() throws(SyntaxError) -> Word {
    var parts: [WordPart] = []
    while current != nil {
      if let word = try word() {
        parts += word.parts
      } else if let byte = current {
        parts.append(.literal([byte], quoted: false))
        at += 1
      }
    }
    return Word(parts)
  }

  private mutating func parameterName() -> [UInt8] {
    let name = identifier()
    if !name.isEmpty { return name }
    let start = at
    while let byte = current, byte >= 48, byte <= 57 {
      _ = byte
      at += 1
    }
    if at > start { return Array(text[start..<at]) }
    if let byte = current, [63, 36, 33, 35, 64, 42, 45].contains(byte) {
      at += 1
      return [byte]
    }
    return []
  }

  // MARK: Here-documents

  /// Puts the bodies in the places of their numbers.
  private func fillDocuments(_ node: Node) -> Node {
    if documents.isEmpty { return node }
    switch node {
    case .simple(let assignments, let words, let redirects):
      return .simple(assignments: assignments, words: words, redirects: redirects.map { fill($0) })
    case .pipeline(let nodes, let negated): return .pipeline(nodes.map { fillDocuments($0) }, negated: negated)
    case .and(let a, let b): return .and(fillDocuments(a), fillDocuments(b))
    case .or(let a, let b): return .or(fillDocuments(a), fillDocuments(b))
    case .list(let items): return .list(items.map { (fillDocuments($0.node), $0.background) })
    case .conditional(let branches, let otherwise):
      return .conditional(
        branches.map { (fillDocuments($0.condition), fillDocuments($0.body)) }, otherwise: otherwise.map { fillDocuments($0) })
    case .loop(let condition, let body, let until):
      return .loop(condition: fillDocuments(condition), body: fillDocuments(body), until: until)
    case .each(let name, let words, let body): return .each(name: name, words: words, body: fillDocuments(body))
    case .match(let word, let branches): return .match(word, branches.map { ($0.patterns, fillDocuments($0.body)) })
    case .group(let body): return .group(fillDocuments(body))
    case .subshell(let body): return .subshell(fillDocuments(body))
    case .function(let name, let body): return .function(name: name, body: fillDocuments(body))
    case .redirected(let body, let redirects): return .redirected(fillDocuments(body), redirects.map { fill($0) })
    }
  }

  private func fill(_ redirect: Redirect) -> Redirect {
    guard redirect.kind == .hereDocument, case .literal(let number, _)? = redirect.target.parts.first, let index = number.first,
      Int(index) < documents.count
    else { return redirect }
    var filled = redirect
    filled.target = documents[Int(index)]
    return filled
  }
}
