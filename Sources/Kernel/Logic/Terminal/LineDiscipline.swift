/// What a received byte makes the terminal do besides keeping it.
public enum TerminalEvent: Equatable, Sendable {
  case none
  /// A character that raises a signal for the foreground group.
  case signal(UInt8)
  /// Output is to be suspended or resumed (Ctrl-S, Ctrl-Q).
  case stopOutput
  case startOutput
}

/// The N_TTY line discipline: editing, echo, signals, canonical and raw reads. No locks, no devices.
///
/// SPEC: POSIX.1-2024 chapter 11.1.
public struct LineDiscipline: Sendable {
  public var termios = Termios()
  /// Received and not yet read. In canonical mode complete lines come first, then the line being edited.
  private var buffer: [UInt8] = []
  /// Ends of complete lines in `buffer`, exclusive, with whether the line ended in EOF (which is not read).
  private var lines: [(end: Int, isEOF: Bool)] = []
  private var nextIsLiteral = false
  /// The cursor's column, for tabs in echo and output.
  private var column = 0
  private var lineStartColumn = 0
  static var capacity: Int { 4096 }

  public init() {}

  private var editStart: Int { lines.last?.end ?? 0 }

  /// Whether a read would return something now.
  public var isReadable: Bool {
    termios.has(local: Termios.canonical) ? !lines.isEmpty : buffer.count >= max(1, Int(termios.characters[Termios.minimum]))
  }
  /// Bytes a read could get, for FIONREAD.
  public var readableCount: Int {
    termios.has(local: Termios.canonical) ? (lines.first.map { $0.isEOF ? $0.end - 1 : $0.end } ?? 0) : buffer.count
  }

  /// Whether another byte may come: always while a line is being typed, so that one that is too long can be ended.
  public var acceptsInput: Bool {
    buffer.count < Self.capacity - 1 || termios.has(local: Termios.canonical) && lines.isEmpty
  }

  // MARK: Input

  /// Takes a byte from the line; echo is appended to `echo`.
  public mutating func receive(_ received: UInt8, echo: inout [UInt8]) -> TerminalEvent {
    var byte = received
    if termios.has(input: Termios.strip) { byte &= 0x7F }
    if nextIsLiteral {
      nextIsLiteral = false
      store(byte, &echo)
      return .none
    }
    if byte == 13 {
      if termios.has(input: Termios.ignoreCR) { return .none }
      if termios.has(input: Termios.crToNL) { byte = 10 }
    } else if byte == 10, termios.has(input: Termios.nlToCR) {
      byte = 13
    }
    if termios.has(input: Termios.startStop) {
      if byte == termios.characters[Termios.start] { return .startOutput }
      if byte == termios.characters[Termios.stop] { return .stopOutput }
    }
    if termios.has(local: Termios.signals), let signal = signal(for: byte) {
      if !termios.has(local: Termios.noFlush) { flush() }
      echoControl(byte, &echo)
      return .signal(signal)
    }
    guard termios.has(local: Termios.canonical) else {
      store(byte, &echo)
      return .none
    }
    edit(byte, &echo)
    return .none
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

  private mutating func edit(_ byte: UInt8, _ echo: inout [UInt8]) {
    let extended = termios.has(local: Termios.extended)
    if isCharacter(byte, Termios.erase) {
      eraseCharacter(&echo)
    } else if extended, isCharacter(byte, Termios.wordErase) {
      eraseWord(&echo)
    } else if isCharacter(byte, Termios.kill) {
      while buffer.count > editStart { eraseCharacter(&echo) }
    } else if extended, isCharacter(byte, Termios.literalNext) {
      nextIsLiteral = true
      if termios.has(local: Termios.echo) { echo += [94, 8] }
    } else if extended, isCharacter(byte, Termios.reprint) {
      echoControl(byte, &echo)
      emit(10, &echo)
      for byte in buffer[editStart...] { echoByte(byte, &echo) }
    } else if isCharacter(byte, Termios.endOfFile) {
      buffer.append(byte)
      lines.append((buffer.count, true))
      lineStartColumn = column
    } else if byte == 10 || isCharacter(byte, Termios.endOfLine) || isCharacter(byte, Termios.endOfLine2) {
      buffer.append(byte)
      if termios.has(local: Termios.echo) || byte == 10 && termios.has(local: Termios.echoNL) { emit(byte, &echo) }
      lines.append((buffer.count, false))
      lineStartColumn = column
    } else {
      store(byte, &echo)
    }
  }

  private mutating func store(_ byte: UInt8, _ echo: inout [UInt8]) {
    // A full line still takes its end, so that the reader gets on.
    guard buffer.count < Self.capacity - 1 else {
      echo.append(7)
      return
    }
    if buffer.count == editStart { lineStartColumn = column }
    buffer.append(byte)
    if termios.has(local: Termios.echo) { echoByte(byte, &echo) }
  }

  /// Takes the last character off the edited line, all bytes of it in UTF-8.
  private mutating func eraseCharacter(_ echo: inout [UInt8]) {
    guard buffer.count > editStart else { return }
    if termios.has(input: Termios.utf8) {
      while buffer.count > editStart + 1, buffer[buffer.count - 1] & 0xC0 == 0x80 { buffer.removeLast() }
    }
    let byte = buffer.removeLast()
    guard termios.has(local: Termios.echo), termios.has(local: Termios.echoErase) else {
      if termios.has(local: Termios.echo) { echoByte(termios.characters[Termios.erase], &echo) }
      return
    }
    var width = 1
    if byte == 9 {
      width = column - columnOfLine()
    } else if byte < 32 || byte == 127 {
      width = termios.has(local: Termios.echoControl) ? 2 : 0
    }
    for _ in 0..<max(0, width) { echo += [8, 32, 8] }
    column -= max(0, width)
  }

  /// Where the edited line would end now, were it printed from its start.
  private func columnOfLine() -> Int {
    var at = lineStartColumn
    for byte in buffer[editStart...] {
      if byte == 9 { at = (at | 7) + 1 } else if byte < 32 || byte == 127 { at += 2 } else if byte & 0xC0 != 0x80 { at += 1 }
    }
    return at
  }

  private mutating func eraseWord(_ echo: inout [UInt8]) {
    while buffer.count > editStart, let last = buffer.last, last == 32 || last == 9 { eraseCharacter(&echo) }
    while buffer.count > editStart, let last = buffer.last, last != 32, last != 9 { eraseCharacter(&echo) }
  }

  private mutating func echoControl(_ byte: UInt8, _ echo: inout [UInt8]) {
    if termios.has(local: Termios.echo) { echoByte(byte, &echo) }
  }

  private mutating func echoByte(_ byte: UInt8, _ echo: inout [UInt8]) {
    if termios.has(local: Termios.echoControl), byte < 32 || byte == 127, byte != 9, byte != 10 {
      echo += [94, byte ^ 64]
      column += 2
    } else {
      emit(byte, &echo)
    }
  }

  // MARK: Output

  private mutating func emit(_ byte: UInt8, _ out: inout [UInt8]) {
    guard termios.has(output: Termios.postProcess) else {
      out.append(byte)
      return
    }
    switch byte {
    case 10:
      if termios.has(output: Termios.nlToCRNL) {
        out.append(13)
        column = 0
      }
      out.append(10)
    case 13:
      if termios.has(output: Termios.crToNLOutput) {
        out.append(10)
        return
      }
      if termios.has(output: Termios.noCRAtStart), column == 0 { return }
      out.append(13)
      column = 0
    case 8:
      out.append(8)
      if column > 0 { column -= 1 }
    case 9:
      out.append(9)
      column = (column | 7) + 1
    default:
      out.append(byte)
      if byte >= 32, byte & 0xC0 != 0x80 { column += 1 }
    }
  }

  /// Turns what a program writes into what the device gets.
  public mutating func process(_ bytes: [UInt8], into out: inout [UInt8]) {
    for byte in bytes { emit(byte, &out) }
  }

  // MARK: Reading

  /// Takes at most `count` bytes for a reader: one line in canonical mode. Empty at end of file.
  public mutating func read(_ count: Int) -> [UInt8] {
    var taken = min(count, buffer.count)
    var dropsEOF = false
    if termios.has(local: Termios.canonical) {
      guard let line = lines.first else { return [] }
      let length = line.isEOF ? line.end - 1 : line.end
      taken = min(count, length)
      dropsEOF = line.isEOF && taken == length
      if taken == length { lines.removeFirst() }
    }
    let result = Array(buffer[0..<taken])
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
  }

  /// Changes the settings. Text typed so far stays readable when canonical mode ends or begins.
  public mutating func set(_ new: Termios) {
    let was = termios.has(local: Termios.canonical)
    termios = new
    let isNow = new.has(local: Termios.canonical)
    if was, !isNow { lines = [] }
    if !was, isNow, !buffer.isEmpty { lines = [(buffer.count, false)] }
  }
}
