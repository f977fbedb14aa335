import ShellCore
import Testing

private func text(_ string: String) -> [UInt8] { Array(string.utf8) }

@Test(arguments: [
  ("a*c", "abbbc", true), ("a*c", "abd", false), ("[a-c]x", "bx", true), ("[!a-c]x", "bx", false), ("?", "", false), ("*", "", true),
  ("*.tar.*", "a.tar.gz", true), ("[]]", "]", true), ("[", "[", true),
]) func patterns(pattern: String, word: String, matches: Bool) {
  var parsed = Pattern()
  parsed.append(pattern: text(pattern))
  #expect(parsed.matches(text(word)) == matches)
}

@Test(arguments: [
  ("1+2*3", 7), ("(1+2)*3", 9), ("-5/2", -2), ("7%3", 1), ("1<<4|1", 17), ("0x10+010", 24), ("!0&&3>2", 1), ("x*2", 42), ("5-2-1", 2),
]) func arithmetic(source: String, value: Int) throws {
  #expect(try Arithmetic.evaluate(text(source)) { _ in 21 } == Int64(value))
}

@Test func arithmeticErrors() {
  #expect(throws: Arithmetic.Failure.divisionByZero) { try Arithmetic.evaluate(text("1/0")) { _ in 0 } }
  #expect(throws: Arithmetic.Failure.syntax) { try Arithmetic.evaluate(text("1+")) { _ in 0 } }
  #expect(throws: Arithmetic.Failure.syntax) { try Arithmetic.evaluate(text("(1")) { _ in 0 } }
}

@Test(arguments: ["if true; then", "echo 'open", "echo \"open", "while x; do", "$(echo", "a |", "{ a;", "case x in a)"]) func incomplete(
  source: String
) {
  #expect(throws: SyntaxError.incomplete) { try Parser.parse(text(source)) }
}

@Test(arguments: ["fi", "a || ;", ")", "if true; fi"]) func unexpected(source: String) {
  #expect(throws: SyntaxError.self) { try Parser.parse(text(source)) }
}

@Test func aPipelineOfSimpleCommands() throws {
  guard case .list(let items) = try Parser.parse(text("x=1 ls -l *.c | wc -l > out &\n")), items.count == 1, items[0].background,
    case .pipeline(let commands, false) = items[0].node, commands.count == 2,
    case .simple(let assignments, let words, _) = commands[0], case .simple(_, _, let redirects) = commands[1]
  else {
    Issue.record("another tree")
    return
  }
  #expect(assignments.count == 1 && assignments[0].name == text("x"))
  #expect(words.map { $0.plain } == [text("ls"), text("-l"), text("*.c")])
  #expect(redirects == [Redirect(descriptor: 1, kind: .output, target: Word([.literal(text("out"), quoted: false)]))])
}

@Test func hereDocumentsTakeTheLinesBehindThem() throws {
  guard case .list(let items) = try Parser.parse(text("cat <<A <<'B'\none\nA\n$two\nB\necho x\n")), items.count == 2,
    case .simple(_, _, let redirects) = items[0].node
  else {
    Issue.record("another tree")
    return
  }
  #expect(redirects[0].target == Word([.literal(text("one\n"), quoted: true)]))
  #expect(redirects[1].target == Word([.literal(text("$two\n"), quoted: true)]))
}

@Test func randomTextNeverTraps() {
  var state: UInt64 = 9
  let alphabet = Array("ab $(){};|&<>\"'`\n\\=*#!".utf8) + Array("if then fi do done case esac".utf8)
  for _ in 0..<20000 {
    var source: [UInt8] = []
    for _ in 0..<24 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      source.append(alphabet[Int(state >> 33) % alphabet.count])
    }
    _ = try? Parser.parse(source)
  }
}
