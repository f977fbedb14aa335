import Glibc
import Terminal
import Testing

/// A line discipline that is typed into.
private struct Line {
  var line = LineDiscipline()

  init(_ change: (inout Termios) -> Void = { _ in }) {
    var termios = Termios()
    change(&termios)
    _ = line.set(termios)
  }

  /// Types; answers what is echoed.
  mutating func type(_ text: String) -> String { type(Array(text.utf8)) }
  mutating func type(_ bytes: [UInt8]) -> String {
    for byte in bytes { _ = line.receive(byte) }
    return echo()
  }
  mutating func echo() -> String { String(decoding: line.takeEcho(), as: UTF8.self) }
  mutating func event(_ byte: UInt8) -> TerminalEvent { line.receive(byte) }
  mutating func event(_ byte: UInt8, _ reception: Reception) -> TerminalEvent { line.receive(byte, reception) }
  mutating func read(_ count: Int = 100) -> String { String(decoding: line.read(count), as: UTF8.self) }
  mutating func bytes() -> [UInt8] { line.read(100) }
  mutating func put(_ text: String) -> String {
    var out: [UInt8] = []
    line.process(Array(text.utf8), into: &out)
    return String(decoding: out, as: UTF8.self)
  }
  mutating func set(_ change: (inout Termios) -> Void) {
    var termios = line.termios
    change(&termios)
    _ = line.set(termios)
  }
}

private let erase = "\u{7F}"
private let wiped = "\u{8} \u{8}"

// MARK: Editing

@Test func canonicalLinesAreEdited() {
  var line = Line()
  #expect(line.type("helo\(erase)lo\r") == "helo\(wiped)lo\r\n")
  #expect(line.read() == "hello\n")
  _ = line.type("one two\u{17}three\n")
  #expect(line.read() == "one three\n")
  _ = line.type("gone\u{15}kept\n")
  #expect(line.read() == "kept\n")
  _ = line.type("é\(erase)e\n")
  #expect(line.read() == "e\n")
}

@Test func wordsEndWhereLettersDo() {
  var line = Line()
  #expect(line.type("a b.c_1--\u{17}") == "a b.c_1--" + String(repeating: wiped, count: 5))
  #expect(line.type("\u{17}\n") == String(repeating: wiped, count: 2) + "\r\n")
  #expect(line.read() == "a \n")
}

@Test func controlCharactersTabsAndWideOnesAreWipedAsTheyWereShown() {
  var line = Line()
  #expect(line.type("a\u{1}\(erase)") == "a^A\(wiped)\(wiped)")
  #expect(line.type("\t\(erase)") == "\t" + String(repeating: "\u{8}", count: 7))
  #expect(line.type("字\(erase)") == "字\(wiped)\(wiped)")
  #expect(line.type("\n") == "\r\n")
  #expect(line.read() == "a\n")
  _ = line.put("prompt")
  #expect(line.type("xy\t\(erase)") == "xy\t" + String(repeating: "\u{8}", count: 8))
}

@Test func theLineIsKilledAsTheEchoSettingsSay() {
  var line = Line()
  #expect(line.type("ab\u{15}") == "ab\(wiped)\(wiped)")
  line.set { $0.local &= ~Termios.echoKillErase }
  #expect(line.type("ab\u{15}") == "ab^U\r\n")
  line.set { $0.local &= ~Termios.echoKill }
  #expect(line.type("ab\u{15}") == "ab^U")
  line.set { $0.local &= ~Termios.echo }
  #expect(line.type("ab\u{15}c\n") == "")
  #expect(line.read() == "c\n")
}

@Test func erasedTextIsPrintedOnPaper() {
  var line = Line { $0.local |= Termios.echoPrint }
  #expect(line.type("abc\(erase)\(erase)d") == "abc\\cb/d")
  #expect(line.type("\(erase)\(erase)\n") == "\\da/\r\n")
  #expect(line.read() == "\n")
}

@Test func withoutEchoEraseItsCharacterIsShown() {
  var line = Line { $0.local &= ~Termios.echoErase }
  #expect(line.type("ab\(erase)\n") == "ab^?\r\n")
  #expect(line.read() == "a\n")
}

@Test func theNextCharacterIsLiteral() {
  var line = Line()
  #expect(line.type("\u{16}\u{3}\u{16}\u{7F}\n") == "^\u{8}^C^\u{8}^?\r\n")
  #expect(line.read() == "\u{3}\u{7F}\n")
}

@Test func theLineIsPrintedAgain() {
  var line = Line()
  #expect(line.type("ab\u{12}c\n") == "ab^R\r\nabc\r\n")
  #expect(line.read() == "abc\n")
}

@Test func linesEndInSeveralCharacters() {
  var line = Line {
    $0.characters[Termios.endOfLine] = 59
    $0.characters[Termios.endOfLine2] = 46
  }
  #expect(line.type("a;b.c\n") == "a;b.c\r\n")
  #expect(line.line.readableCount == 6)
  #expect([line.read(), line.read(), line.read()] == ["a;", "b.", "c\n"])
  line.set { $0.local &= ~Termios.extended }
  _ = line.type("b.c\n")
  #expect(line.read() == "b.c\n")
}

@Test func endOfFileEndsAReadWithoutANewline() {
  var line = Line()
  #expect(line.type("abc\u{4}") == "abc")
  #expect(line.line.isReadable && line.line.readableCount == 3)
  #expect(line.read() == "abc")
  _ = line.type("\u{4}")
  #expect(line.line.isReadable)
  #expect(line.read() == "")
  #expect(!line.line.isReadable)
}

@Test func shortReadsLeaveTheRestOfALine() {
  var line = Line()
  _ = line.type("abcdef\nxy\n")
  #expect(line.read(2) == "ab")
  #expect(line.read() == "cdef\n")
  #expect(line.read() == "xy\n")
}

@Test func aFullLineTakesItsEnd() {
  var line = Line { $0.input |= Termios.fullBell }
  _ = line.type([UInt8](repeating: 120, count: LineDiscipline.capacity - 1))
  #expect(line.type("y") == "\u{7}")
  #expect(line.line.acceptsInput)
  _ = line.type([UInt8](repeating: 10, count: 100))
  #expect(line.line.count == LineDiscipline.capacity)
  #expect(!line.line.acceptsInput)
  #expect(line.line.read(5000).count == LineDiscipline.capacity)
}

@Test func newLinesAreShownWithoutEcho() {
  var line = Line { $0.local = $0.local & ~Termios.echo | Termios.echoNL }
  #expect(line.type("ab\n") == "\r\n")
}

@Test func controlCharactersAreShownAsTheyAre() {
  var line = Line { $0.local &= ~Termios.echoControl }
  #expect(line.type("a\u{1}\(erase)\(erase)") == "a\u{1}\(wiped)")
}

// MARK: Input

@Test func carriageReturnsAreTranslated() {
  var line = Line { $0.input = Termios.nlToCR }
  _ = line.type("a\n\r")
  line.set { $0.local &= ~Termios.canonical }
  #expect(line.read() == "a\r\r")
  line.set { $0.input = Termios.ignoreCR | Termios.crToNL }
  _ = line.type("b\r\n")
  #expect(line.read() == "b\n")
}

@Test func theEighthBitIsStripped() {
  var line = Line { $0.input |= Termios.strip }
  _ = line.type([0xE1, 0x8A])
  #expect(line.read() == "a\n")
}

@Test func capitalsBecomeSmall() {
  var line = Line { $0.input |= Termios.toLowerCase }
  _ = line.type("ABc\n")
  #expect(line.read() == "abc\n")
  line.set { $0.local &= ~Termios.extended }
  _ = line.type("ABc\n")
  #expect(line.read() == "ABc\n")
}

@Test func signalCharactersFlush() {
  for (byte, signal) in [(UInt8(3), UInt8(2)), (28, 3), (26, 20)] {
    var line = Line()
    _ = line.type("abc")
    #expect(line.event(byte) == .signal(signal))
    #expect(line.echo() == "^" + String(UnicodeScalar(byte + 64)))
    #expect(line.line.count == 0)
    line.set { $0.local |= Termios.noFlush }
    _ = line.type("abc")
    #expect(line.event(byte) == .signal(signal))
    #expect(line.line.count == 3)
    line.set { $0.local &= ~Termios.signals }
    #expect(line.event(byte) == .none)
  }
}

@Test func outputStopsAndGoesOn() {
  var line = Line()
  #expect(line.event(0x13) == .stopOutput)
  #expect(line.event(0x13) == .none)
  #expect(line.type("ab") == "")
  #expect(line.event(0x11) == .startOutput)
  #expect(line.echo() == "ab")
  _ = line.event(0x13)
  #expect(line.event(3) == .signal(2))
  #expect(!line.line.isStopped)
  _ = line.event(0x13)
  line.set { $0.input &= ~Termios.startStop }
  #expect(!line.line.isStopped)
}

@Test func anyCharacterLetsOutputGoOn() {
  var line = Line { $0.input |= Termios.anyStarts }
  _ = line.event(0x13)
  #expect(line.event(97) == .startOutput)
  _ = line.type("\n")
  #expect(line.read() == "a\n")
}

@Test func whatAProgramHoldsNoCharacterLetsGo() {
  var line = Line()
  #expect(line.line.hold(true) == true)
  #expect(line.event(0x11) == .none)
  #expect(line.line.isStopped)
  #expect(line.line.hold(false) == true)
  #expect(!line.line.isStopped)
}

@Test func breaksAreIgnoredSignalsOrBytes() {
  var line = Line { $0.local &= ~Termios.canonical }
  #expect(line.event(0, .lineBreak) == .none)
  #expect(line.bytes() == [0])
  line.set { $0.input |= Termios.markParity }
  _ = line.event(0, .lineBreak)
  #expect(line.bytes() == [0xFF, 0, 0])
  line.set { $0.input |= Termios.breakInterrupts }
  #expect(line.event(0, .lineBreak) == .signal(2))
  line.set { $0.input |= Termios.ignoreBreak }
  #expect(line.event(0, .lineBreak) == .none)
  #expect(line.line.count == 0)
}

@Test func damagedBytesAreMarked() {
  var line = Line { $0.local &= ~Termios.canonical }
  _ = line.event(65, .damaged)
  #expect(line.bytes() == [65])
  line.set { $0.input |= Termios.checkParity }
  _ = line.event(65, .damaged)
  #expect(line.bytes() == [0])
  line.set { $0.input |= Termios.markParity }
  _ = line.event(65, .damaged)
  _ = line.event(0xFF, .good)
  #expect(line.bytes() == [0xFF, 0, 65, 0xFF, 0xFF])
  line.set { $0.input |= Termios.ignoreParity }
  _ = line.event(65, .damaged)
  #expect(line.line.count == 0)
}

@Test func anExternalEditorGetsEverything() {
  var line = Line { $0.local |= Termios.external }
  #expect(line.type("a\u{3}\(erase)\u{4}") == "")
  #expect(line.line.isReadable)
  #expect(line.bytes() == [97, 3, 127, 4])
}

@Test func whatWasTypedSurvivesAChangeOfMode() {
  var line = Line()
  _ = line.type("ab\u{4}c")
  line.set { $0.local &= ~Termios.canonical }
  #expect(line.bytes() == [97, 98, 0, 99])
  _ = line.type("de")
  line.set { $0.local |= Termios.canonical }
  #expect(line.read() == "de")
}

// MARK: Output

@Test func newLinesReturn() {
  var line = Line()
  #expect(line.put("a\nb") == "a\r\nb")
  line.set { $0.output = 0 }
  #expect(line.put("a\nb") == "a\nb")
}

@Test func tabsBecomeBlanks() {
  var line = Line { $0.output |= Termios.tabs }
  #expect(line.put("a\tb\n\t|") == "a       b\r\n        |")
  #expect(line.put("\r字\t|") == "\r字      |")
}

@Test func returnsAreTranslated() {
  var line = Line { $0.output = Termios.postProcess | Termios.crToNLOutput }
  #expect(line.put("a\rb") == "a\nb")
  line.set { $0.output = Termios.postProcess | Termios.noCRAtStart | Termios.nlReturns }
  #expect(line.put("\n\ra\r\rb\n\r") == "\na\rb\n")
}

@Test func smallLettersBecomeCapitals() {
  var line = Line { $0.output |= Termios.toUpperCase }
  #expect(line.put("aZ1é") == "AZ1é")
}

// MARK: Everything at once

/// A terminal of the machine that runs the tests.
private final class HostTerminal {
  let master: Int32
  let slave: Int32

  init?() {
    master = unsafe open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK)
    var unlocked: Int32 = 0
    // TIOCSPTLCK and TIOCGPTPEER
    guard master >= 0, unsafe ioctl(master, 0x4004_5431, &unlocked) == 0 else { return nil }
    slave = ioctl(master, 0x5441, O_RDWR | O_NOCTTY | O_NONBLOCK)
    if slave < 0 { return nil }
  }

  deinit {
    close(slave)
    close(master)
  }

  func set(_ new: Termios) {
    var settings = termios()
    unsafe tcgetattr(slave, &settings)
    settings.c_iflag = new.input
    settings.c_oflag = new.output
    settings.c_lflag = new.local
    unsafe withUnsafeMutableBytes(of: &settings.c_cc) { bytes in
      for index in 0..<17 { unsafe bytes[index] = new.characters[index] }
    }
    unsafe tcsetattr(slave, TCSANOW, &settings)
  }

  private func read(_ file: Int32, _ count: Int) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: count)
    let got = unsafe Glibc.read(file, &bytes, count)
    return got < 0 ? nil : Array(bytes.prefix(got))
  }

  func send(_ byte: UInt8) { withUnsafeBytes(of: byte) { _ = unsafe write(master, $0.baseAddress!, 1) } }
  func put(_ bytes: [UInt8]) { bytes.withUnsafeBytes { _ = unsafe write(slave, $0.baseAddress!, $0.count) } }

  /// What the reader gets in one read; nil where it would wait. Where it would, all input has been worked on.
  func input(_ count: Int) -> [UInt8]? { read(slave, count) }
  /// What the terminal has put out. Who expects some of it waits for that.
  func output(_ expected: Int = 0) -> [UInt8] {
    var all: [UInt8] = []
    for _ in 0..<1000 {
      while let more = read(master, 4096), !more.isEmpty { all += more }
      if all.count >= expected { break }
      var wait = pollfd(fd: master, events: Int16(POLLIN), revents: 0)
      _ = unsafe poll(&wait, 1, 1)
    }
    return all
  }
}

private func pick(_ flags: [UInt32], _ random: inout RandomNumbers) -> UInt32 {
  flags.reduce(0) { random.next() & 1 == 0 ? $0 : $0 | $1 }
}

/// Settings of which each flag is as likely on as off, but for output that stops, and for ECHOPRT, of which Linux keeps a part
/// until echo is on again.
private func randomSettings(_ random: inout RandomNumbers, isUTF8: Bool) -> Termios {
  var termios = Termios()
  termios.input =
    pick([Termios.strip, Termios.nlToCR, Termios.ignoreCR, Termios.crToNL, Termios.markParity], &random)
    | (isUTF8 ? Termios.utf8 : pick([Termios.toLowerCase], &random))
  termios.output = pick(
    [
      Termios.postProcess, Termios.nlToCRNL, Termios.crToNLOutput, Termios.noCRAtStart, Termios.nlReturns, Termios.tabs,
      isUTF8 ? 0 : Termios.toUpperCase,
    ], &random)
  termios.local = pick(
    [
      Termios.signals, Termios.canonical, Termios.echo, Termios.echoErase, Termios.echoKill, Termios.echoNL, Termios.noFlush,
      Termios.echoControl, Termios.echoKillErase, Termios.extended,
    ], &random)
  if random.next() % 4 != 0 { termios.local |= Termios.canonical | Termios.echo }
  if random.next() % 32 == 0 { termios.local |= Termios.external }
  if random.next() % 3 == 0 { termios.characters[Termios.endOfLine] = 59 }
  if random.next() % 3 == 0 { termios.characters[Termios.endOfLine2] = 46 }
  return termios
}

/// Text as it is typed, with every character that may mean something.
private func randomCharacter(_ random: inout RandomNumbers, isUTF8: Bool) -> [UInt8] {
  switch random.next() % 12 {
  case 0, 1: return [127]
  case 2: return [[UInt8(23), 21, 22, 18, 4][Int(random.next() % 5)]]
  case 3: return [[UInt8(3), 28, 26][Int(random.next() % 3)]]
  case 4: return [[UInt8(10), 13][Int(random.next() & 1)]]
  case 5: return [9]
  case 6: return [UInt8(random.next() % 32)].filter { $0 != 17 && $0 != 19 }
  case 7: return isUTF8 ? Array(["é", "ß", "→", "ñ"][Int(random.next() % 4)].utf8) : [65 + UInt8(random.next() % 26)]
  case 8: return [[UInt8(59), 46, 95, 32][Int(random.next() % 4)]]
  default: return [97 + UInt8(random.next() % 26)]
  }
}

/// Types the same into our discipline and into Linux's, and compares every echo and every read.
@Test func theDisciplineIsTheOneOfLinux() throws {
  for seed in 0..<UInt64(rounds(150, long: 20_000)) {
    let terminal = try #require(HostTerminal(), "this machine has no pseudoterminals")
    var random = RandomNumbers(seed)
    var line = LineDiscipline()
    var history: [String] = []
    let isUTF8 = random.next() & 1 == 0
    var termios = randomSettings(&random, isUTF8: isUTF8)
    _ = line.set(termios)
    terminal.set(termios)
    func isSame(_ what: String, _ here: [UInt8], _ there: [UInt8]) -> Bool {
      if here == there { return true }
      Issue.record("seed \(seed), \(termios): \(what) \(here.prefix(40)), Linux \(there.prefix(40)), after \(history.suffix(12))")
      return false
    }
    /// A read that finds nothing has waited until what was typed was worked on: nothing is ever left unread.
    func readsAreSame() -> Bool {
      if !line.isReadable { return isSame("a read", [], terminal.input(9) ?? []) }
      while line.isReadable {
        let count = Int(1 + random.next() % 9)
        history.append("read \(count)")
        if !isSame("a read", line.read(count), terminal.input(count) ?? [0xEE, 0xEE]) { return false }
      }
      return true
    }
    for _ in 0..<40 {
      // Where echo changes in the middle of a line, tabs are erased by what was last known of its start, which differs.
      if line.count == 0, random.next() % 4 == 0 {
        termios = randomSettings(&random, isUTF8: isUTF8)
        _ = line.set(termios)
        terminal.set(termios)
        history.append("set")
        guard readsAreSame() else { return }
      }
      let characters = randomCharacter(&random, isUTF8: isUTF8)
      if random.next() % 6 == 0 {
        history.append("write \(characters)")
        var out: [UInt8] = []
        line.process(characters, into: &out)
        terminal.put(characters)
        guard isSame("output", out, terminal.output()) else { return }
        continue
      }
      history.append("type \(characters)")
      for byte in characters {
        _ = line.receive(byte)
        terminal.send(byte)
        guard readsAreSame() else { return }
      }
      let echo = line.takeEcho()
      guard isSame("echo", echo, terminal.output(echo.count)) else { return }
    }
  }
}

@Test func randomInputNeverTraps() {
  var random = RandomNumbers(12)
  var line = LineDiscipline()
  for _ in 0..<rounds(200_000, long: 10_000_000) {
    let value = random.next()
    _ = line.receive(UInt8(truncatingIfNeeded: value), (value >> 8) % 50 == 0 ? .damaged : (value >> 8) % 50 == 1 ? .lineBreak : .good)
    if (value >> 16) % 40 == 0 { _ = line.read(Int((value >> 24) % 50)) }
    if (value >> 16) % 64 == 1 { _ = line.takeEcho() }
    if (value >> 16) % 256 == 2 {
      var new = Termios()
      new.local = UInt32(truncatingIfNeeded: random.next())
      new.input = UInt32(truncatingIfNeeded: random.next())
      new.output = UInt32(truncatingIfNeeded: random.next())
      _ = line.set(new)
    }
    #expect(line.count <= LineDiscipline.capacity && line.readableCount <= line.count)
  }
}
