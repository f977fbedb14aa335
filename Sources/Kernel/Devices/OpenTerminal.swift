import Machine
import Processes
import Signals
import Sync
import SystemABI
import Terminal
import Threads
import VFS

/// One open of a terminal. SPEC: POSIX.1-2024 §11.1.
final class OpenTerminal: OpenFile {
  let terminal: TerminalDevice
  /// The terminal's hang-ups before it was opened: the next one cuts it off. Nil for the console, which none does.
  private let hangUps: UInt32?

  init(_ terminal: TerminalDevice, hangUps: UInt32?) {
    self.terminal = terminal
    self.hangUps = hangUps
  }

  private func isHungUp(_ state: borrowing TerminalDevice.State) -> Bool {
    if state.isGone { return true }
    guard let hangUps else { return false }
    return state.hangUps != hangUps
  }
  private var isHungUp: Bool { terminal.state.withLock { isHungUp($0) } }

  func close(_ description: FileDescription) { terminal.close() }

  func control(_ command: UInt32, _ argument: UInt32, _ description: FileDescription) throws(Errno) -> Int32 {
    if isHungUp { throw .ioError }
    return try terminal.control(command, argument)
  }

  func poll(_ table: PollTable?) -> PollEvents {
    table?.add(terminal.readers)
    table?.add(terminal.writers)
    return terminal.state.withLock { state in
      if isHungUp(state) { return [.readable, .normalRead, .writable, .normalWrite, .hangUp, .error] }
      let isBlocked = state.line.isStopped || terminal.outputs.contains { $0.room < 2048 }
      var events: PollEvents = isBlocked ? [] : [.writable, .normalWrite]
      if state.line.isReadable { events.formUnion([.readable, .normalRead]) }
      return events
    }
  }

  // MARK: Reading

  func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    if buffer.count == 0 || isHungUp { return 0 }
    try terminal.checkForeground(.terminalInput)
    let termios = terminal.state.withLock { $0.line.termios }
    let minimum = Int(termios.characters[Termios.minimum])
    let tenths = UInt64(termios.characters[Termios.time])
    let isTimed = !termios.isCanonical && minimum == 0
    let wanted = buffer.count
    if description.isNonBlocking {
      if !terminal.state.withLock({ $0.line.isReadable || !termios.isCanonical && $0.line.readableCount > 0 }) {
        if isTimed, tenths == 0 { return 0 }
        throw .wouldBlock
      }
      return try take(&buffer)
    }
    do throws(Errno) {
      let _: Bool = try terminal.readers.wait(deadline: isTimed ? .after(tenths * 100_000_000) : nil, reason: "tty read") {
        terminal.state.withLock { state in
          if isHungUp(state) { return true }
          if state.line.termios.isCanonical { return state.line.isReadable }
          return state.line.readableCount >= max(1, min(minimum, wanted)) || tenths > 0 && state.line.readableCount > 0
        } ? true : nil
      }
      // Who was waiting is told; who comes later finds the end.
      if isHungUp { throw .ioError }
      if !termios.isCanonical, minimum > 0, tenths > 0 { try waitBetweenBytes(min(minimum, wanted), tenths) }
    } catch {
      if error != .timedOut { throw error == .interrupted ? .restart : error }
    }
    return try take(&buffer)
  }

  /// VTIME with VMIN: gives up when no byte comes for that long after the first.
  private func waitBetweenBytes(_ minimum: Int, _ tenths: UInt64) throws(Errno) {
    var have = terminal.state.withLock { $0.line.readableCount }
    while have < minimum {
      let before = have
      do throws(Errno) {
        let _: Bool = try terminal.readers.wait(deadline: .after(tenths * 100_000_000), reason: "tty read") {
          terminal.state.withLock { $0.line.readableCount > before || isHungUp($0) } ? true : nil
        }
      } catch {
        // What has come before a signal is read.
        if error == .timedOut || error == .interrupted, before > 0 { return }
        throw error
      }
      if isHungUp { throw .ioError }
      have = terminal.state.withLock { $0.line.readableCount }
    }
  }

  private func take(_ buffer: inout IOBuffer) throws(Errno) -> Int {
    let count = buffer.count
    let bytes = terminal.state.withLock { $0.line.read(count) }
    terminal.inputTaken()
    return try buffer.put(bytes.span)
  }

  // MARK: Writing

  func write(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> (Int, UInt64) {
    if terminal.state.withLock({ $0.line.termios.has(local: Termios.toStop) }) {
      try terminal.checkForeground(.terminalOutput)
    }
    var total = 0
    while buffer.count > 0 {
      do throws(Errno) {
        let bytes = try buffer.takeBytes(limit: 256)
        try write(bytes, nonBlocking: description.isNonBlocking)
        total += bytes.count
      } catch {
        if total > 0 { break }
        throw error
      }
    }
    return (total, 0)
  }

  private func write(_ bytes: [UInt8], nonBlocking: Bool) throws(Errno) {
    // A tab may become eight blanks.
    let most = bytes.count * 8
    let isOpen: Bool = try terminal.writers.wait(orFail: nonBlocking, reason: "tty write") {
      terminal.state.withLock { state in
        if isHungUp(state) { return false }
        guard !state.line.isStopped, terminal.outputs.allSatisfy({ $0.room >= most }) else { return nil }
        var out: [UInt8] = []
        out.reserveCapacity(bytes.count + 16)
        state.line.process(bytes, into: &out)
        terminal.send(out)
        return true
      }
    }
    if !isOpen { throw .ioError }
    terminal.outputWritten()
  }
}
