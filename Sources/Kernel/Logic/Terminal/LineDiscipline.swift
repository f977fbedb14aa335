/// What a received byte makes the terminal do besides keeping it.
public enum TerminalEvent: Equatable, Sendable {
  case none
  /// A character that raises a signal for the foreground group.
  case signal(UInt8)
  /// Output is now suspended, or goes on (Ctrl-S, Ctrl-Q).
  case stopOutput
  case startOutput
}

/// How a byte has arrived at a serial line. SPEC: POSIX.1-2024 §11.2.2, BRKINT to PARMRK.
public enum Reception: Sendable {
  case good
  /// The line was silent for longer than a byte lasts.
  case lineBreak
  /// Its parity or its stop bit is wrong.
  case damaged
}

/// The N_TTY line discipline: editing, echo, signals, canonical and raw reads. No locks, no devices.
///
/// SPEC: POSIX.1-2024 chapter 11.1, 11.2; where it leaves a choice, Linux's.
public struct LineDiscipline: Sendable {
  public private(set) var termios = Termios()
  /// Received and not yet read. In canonical mode complete lines come first, then the line being edited.
  private var buffer: [UInt8] = []
  /// Ends of complete lines in `buffer`, exclusive, with whether the line ended in EOF (which is not read).
  private var lines: [(end: Int, isEOF: Bool)] = []
  private var nextIsLiteral = false
  /// Between the `\` and the `/` of what ECHOPRT shows erased.
  private var isErasing = false
  /// What is to be shown of the input, and was not taken yet.
  private var echo: [UInt8] = []
  var output = OutputColumn()

  /// Output is suspended, by a character or (`isHeld`) by a program.
  public private(set) var isStopped = false
  private var isHeld = false

  public static var capacity: Int { 4096 }

  public init() {}

  private var editStart: Int { lines.last?.end ?? 0 }

  /// Whether a read would return something now.
  public var isReadable: Bool {
    termios.isCanonical ? !lines.isEmpty : buffer.count >= max(1, Int(termios.characters[Termios.minimum]))
  }
  /// Bytes that reads could get, for FIONREAD: of complete lines.
  public var readableCount: Int {
    termios.isCanonical ? lines.reduce(editStart) { $0 - ($1.isEOF ? 1 : 0) } : buffer.count
  }

  /// Whether another byte may come: always while a line is being typed, so that one that is too long can be ended.
  public var acceptsInput: Bool { buffer.count < Self.capacity - 1 || termios.isCanonical && lines.isEmpty }
  /// Bytes that are kept.
  public var count: Int { buffer.count }

  // MARK: Input

  /// Takes a byte that has not arrived as it was sent, if it was a byte.
  public mutating func receive(_ byte: UInt8, _ reception: Reception) -> TerminalEvent {
    switch reception {
    case .good: return receive(byte)
    case .lineBreak:
      if termios.has(input: Termios.ignoreBreak) { return .none }
      if termios.has(input: Termios.breakInterrupts) {
        forgetForSignal()
        return .signal(2)
      }
      keep(termios.has(input: Termios.markParity) ? [0xFF, 0, 0] : [0])
    case .damaged:
      if !termios.has(input: Termios.checkParity) { return receive(byte) }
      if termios.has(input: Termios.ignoreParity) { return .none }
      keep(termios.has(input: Termios.markParity) ? [0xFF, 0, byte] : [0])
    }
    return .none
  }

  /// Takes a byte from the line. What is to be seen of it is in `takeEcho`.
  public mutating func receive(_ received: UInt8) -> TerminalEvent {
    var byte = received
    if termios.has(input: Termios.strip) { byte &= 0x7F }
    if termios.has(input: Termios.toLowerCase), termios.has(local: Termios.extended), byte >= 65, byte <= 90 { byte |= 0x20 }
    if termios.has(local: Termios.external) {
      keep([byte])
      return .none
    }
    if nextIsLiteral {
      nextIsLiteral = false
      let event = startIfAnyStarts()
      store(byte)
      return event
    }
    if termios.has(input: Termios.startStop) {
      if isCharacter(byte, Termios.start) { return start() ? .startOutput : .none }
      if isCharacter(byte, Termios.stop) { return stop() ? .stopOutput : .none }
    }
    if termios.has(local: Termios.signals), let signal = signal(for: byte) {
      forgetForSignal()
      if termios.has(input: Termios.startStop) { _ = start() }
      if termios.has(local: Termios.echo) { show(byte) }
      return .signal(signal)
    }
    let event = startIfAnyStarts()
    var isTranslated = false
    if byte == 13 {
      if termios.has(input: Termios.ignoreCR) { return event }
      isTranslated = termios.has(input: Termios.crToNL)
      if isTranslated { byte = 10 }
    } else if byte == 10, termios.has(input: Termios.nlToCR) {
      byte = 13
    }
    if termios.isCanonical { edit(byte) } else { store(byte, showsNewLine: isTranslated) }
    return event
  }

  private func isCharacter(_ byte: UInt8, _ index: Int) -> Bool {
    termios.characters[index] != 0 && byte == termios.characters[index]
  }

  private func signal(for byte: UInt8) -> UInt8? {
    if isCharacter(byte, Termios.interrupt) { return 2 }
    if isCharacter(byte, Termios.quit) { return 3 }
    if isCharacter(byte, Termios.suspend) { return 20 }
    return nil
  }

  private mutating func forgetForSignal() {
    if termios.has(local: Termios.noFlush) { return }
    flush()
    echo = []
  }

  private mutating func edit(_ byte: UInt8) {
    let extended = termios.has(local: Termios.extended)
    if isCharacter(byte, Termios.erase) {
      erase(.character)
    } else if extended, isCharacter(byte, Termios.wordErase) {
      erase(.word)
    } else if isCharacter(byte, Termios.kill) {
      erase(.line)
    } else if extended, isCharacter(byte, Termios.literalNext) {
      nextIsLiteral = true
      if termios.has(local: Termios.echo) {
        finishErasing()
        if termios.has(local: Termios.echoControl) { put([94, 8]) }
      }
    } else if extended, termios.has(local: Termios.echo), isCharacter(byte, Termios.reprint) {
      finishErasing()
      show(byte)
      put([10])
      for index in editStart..<buffer.count { show(buffer[index]) }
    } else if isCharacter(byte, Termios.endOfFile) {
      endLine(0, isEOF: true)
    } else if byte == 10 {
      if termios.has(local: Termios.echo) || termios.has(local: Termios.echoNL) { put([10]) }
      endLine(10)
    } else if isCharacter(byte, Termios.endOfLine) || extended && isCharacter(byte, Termios.endOfLine2) {
      if termios.has(local: Termios.echo) {
        noteStart()
        show(byte)
      }
      endLine(byte)
    } else {
      store(byte)
    }
  }

  /// A full line still takes its end, so that the reader gets on.
  private mutating func endLine(_ byte: UInt8, isEOF: Bool = false) {
    if buffer.count >= Self.capacity { return }
    if byte == 0xFF, termios.has(input: Termios.markParity) { buffer.append(byte) }
    buffer.append(byte)
    lines.append((buffer.count, isEOF))
  }

  private mutating func store(_ byte: UInt8, showsNewLine: Bool = false) {
    guard buffer.count < Self.capacity - 1 else {
      if termios.has(input: Termios.fullBell) { put([7]) }
      return
    }
    if termios.has(local: Termios.echo) {
      finishErasing()
      if byte == 10, showsNewLine {
        put([10])
      } else {
        noteStart()
        show(byte)
      }
    }
    if byte == 0xFF, termios.has(input: Termios.markParity) { buffer.append(byte) }
    buffer.append(byte)
  }

  /// Keeps bytes that mean nothing to anybody but the reader.
  private mutating func keep(_ bytes: [UInt8]) {
    if buffer.count + bytes.count < Self.capacity { buffer += bytes }
  }

  private mutating func noteStart() { if termios.isCanonical, buffer.count == editStart { output.lineStart = output.column } }

  // MARK: Erasing

  private enum Erasure { case character, word, line }

  /// Takes characters off the edited line, all bytes of each in UTF-8.
  private mutating func erase(_ what: Erasure) {
    if buffer.count == editStart { return }
    let isShown = termios.has(local: Termios.echo)
    let showsEach = [Termios.echoKill, Termios.echoKillErase, Termios.echoErase].allSatisfy { termios.has(local: $0) }
    if what == .line, !isShown || !showsEach {
      buffer.removeLast(buffer.count - editStart)
      if !isShown { return }
      finishErasing()
      show(termios.characters[Termios.kill])
      // Where the line is not seen to go, the cursor leaves it.
      if termios.has(local: Termios.echoKill) { put([10]) }
      return
    }
    var sawWord = false
    while buffer.count > editStart {
      let start = lastCharacter()
      let first = buffer[start]
      if isContinuation(first) { break }
      if what == .word {
        if Self.isInWords(first) { sawWord = true } else if sawWord { break }
      }
      let erased = Array(buffer[start...])
      buffer.removeLast(erased.count)
      if isShown { showErased(erased, what) }
      if what == .character { break }
    }
    if buffer.count == editStart { finishErasing() }
  }

  private func isContinuation(_ byte: UInt8) -> Bool { termios.has(input: Termios.utf8) && byte & 0xC0 == 0x80 }

  /// Where the edited line's last character begins.
  private func lastCharacter() -> Int {
    var start = buffer.count - 1
    while start > editStart, isContinuation(buffer[start]) { start -= 1 }
    return start
  }

  /// Letters, digits and the underscore, also those of Latin-1 and the first bytes of UTF-8.
  private static func isInWords(_ byte: UInt8) -> Bool {
    switch byte {
    case 48...57, 65...90, 97...122, 95: true
    case 0xD7, 0xF7: false
    default: byte >= 0xC0
    }
  }

  private mutating func showErased(_ bytes: [UInt8], _ what: Erasure) {
    let first = bytes[0]
    if termios.has(local: Termios.echoPrint) {
      if !isErasing { put([92]) }
      isErasing = true
      show(first)
      for index in 1..<bytes.count { put([bytes[index]]) }
    } else if what == .character, !termios.has(local: Termios.echoErase) {
      show(termios.characters[Termios.erase])
    } else if first == 9 {
      // The blanks that it took are blank already.
      let width = 8 - columnOfLine() & 7
      for _ in 0..<width { echo.append(8) }
      output.moveBack(width)
    } else {
      let isControl = first < 32 || first == 127
      let shown = termios.has(local: Termios.echoControl) ? 2 : 0
      let width = isControl ? shown : termios.has(input: Termios.utf8) ? CharacterWidth.of(bytes) : 1
      for _ in 0..<width { put([8, 32, 8]) }
    }
  }

  private mutating func finishErasing() {
    if isErasing { put([47]) }
    isErasing = false
  }

  /// Where the edited line ends, were it shown from its start.
  private func columnOfLine() -> Int {
    var counted = OutputColumn(column: output.lineStart)
    for byte in buffer[editStart...] {
      if byte != 9, byte < 32 || byte == 127 {
        if termios.has(local: Termios.echoControl) { counted.column += 2 }
      } else {
        counted.advance(byte, isUTF8: termios.has(input: Termios.utf8))
      }
    }
    return counted.column
  }

  // MARK: Echo

  /// Shows a character, as ^X where that is wanted.
  private mutating func show(_ byte: UInt8) {
    if termios.has(local: Termios.echoControl), byte < 32 || byte == 127, byte != 9 {
      if echo.count >= Self.capacity { return }
      echo += [94, byte ^ 64]
      output.column += 2
    } else {
      put([byte])
    }
  }

  private mutating func put(_ bytes: [UInt8]) {
    // Nobody takes it while output is stopped.
    if echo.count < Self.capacity { for byte in bytes { output.process(byte, termios, into: &echo) } }
  }

  /// Takes what is to be shown now: nothing while output is stopped.
  public mutating func takeEcho() -> [UInt8] {
    if isStopped || echo.isEmpty { return [] }
    var taken: [UInt8] = []
    swap(&taken, &echo)
    return taken
  }

  // MARK: Output

  /// Turns what a program writes into what the device gets.
  public mutating func process(_ bytes: [UInt8], into out: inout [UInt8]) {
    output.process(bytes, termios, into: &out)
  }

  /// Suspends output; answers whether that is new.
  public mutating func stop() -> Bool {
    if isStopped { return false }
    isStopped = true
    return true
  }

  /// Lets output go on, unless a program holds it; answers whether that is new.
  public mutating func start() -> Bool {
    if !isStopped || isHeld { return false }
    isStopped = false
    return true
  }

  /// A program suspends output, or lets it go on (TCOOFF, TCOON); answers whether that is new. No character lets it go on then.
  public mutating func hold(_ value: Bool) -> Bool {
    if isHeld == value { return false }
    isHeld = value
    return value ? stop() : start()
  }

  private mutating func startIfAnyStarts() -> TerminalEvent {
    let starts = termios.has(input: Termios.startStop) && termios.has(input: Termios.anyStarts)
    return starts && start() ? .startOutput : .none
  }

  // MARK: Reading

  /// Takes at most `count` bytes for a reader: one line in canonical mode. Empty at end of file.
  public mutating func read(_ count: Int) -> [UInt8] {
    var taken = min(count, buffer.count)
    var dropsEOF = false
    if termios.isCanonical {
      guard let line = lines.first else { return [] }
      let length = line.isEOF ? line.end - 1 : line.end
      taken = min(count, length)
      dropsEOF = line.isEOF && taken == length
      if taken == length { lines.removeFirst() }
    }
    var result = Array(buffer[0..<taken])
    // An editor outside that sends the end of file alone means that.
    if termios.has(local: Termios.external), termios.has(local: Termios.canonical), taken == 1,
      isCharacter(result[0], Termios.endOfFile)
    {
      result = []
    }
    let removed = taken + (dropsEOF ? 1 : 0)
    buffer.removeFirst(removed)
    for index in lines.indices { lines[index].end -= removed }
    return result
  }

  /// Forgets everything received (TCIFLUSH).
  public mutating func flush() {
    buffer = []
    lines = []
    nextIsLiteral = false
    isErasing = false
  }

  /// Forgets whoever has used it: output goes on.
  public mutating func reset() {
    flush()
    echo = []
    isHeld = false
    isStopped = false
  }

  /// Changes the settings. Text typed so far stays readable when canonical mode ends or begins. Answers whether output, stopped
  /// by a character, goes on because no character could let it.
  public mutating func set(_ new: Termios) -> Bool {
    let old = termios
    termios = new
    if old.isCanonical != new.isCanonical {
      nextIsLiteral = false
      isErasing = false
      lines = !new.isCanonical || buffer.isEmpty ? [] : [(buffer.count, false)]
    }
    return old.has(input: Termios.startStop) && !new.has(input: Termios.startStop) && start()
  }
}
