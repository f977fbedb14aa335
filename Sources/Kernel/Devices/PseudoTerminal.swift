import Machine
import Processes
import Signals
import Sync
import SystemABI
import Terminal
import Threads
import VFS

/// A terminal whose other side is a program: what is written to it can be read from the master, and what is written to the
/// master is its input. SPEC: pty(7), ioctl_tty(2).
final class PseudoTerminal: TerminalDevice {
  /// What the terminal has put out and the master has not read.
  final class Output: TerminalOutput {
    static var capacity: Int { 16384 }
    private let bytes = InterruptSpinLock<[UInt8], LeafRank>([])
    let changed = WaitQueue()

    var waiting: Int { bytes.withLock { $0.count } }
    var room: Int { Self.capacity - waiting }

    /// Echo for which there is no room is lost; who writes has looked at the room before.
    func write(_ more: borrowing Span<UInt8>) {
      bytes.withLock { bytes in
        for index in 0..<min(more.count, Self.capacity - bytes.count) { bytes.append(more[index]) }
      }
      changed.wake()
    }

    func flush() { bytes.withLock { $0 = [] } }

    func take(_ count: Int) -> [UInt8] {
      bytes.withLock { bytes in
        let taken = Array(bytes.prefix(count))
        bytes.removeFirst(taken.count)
        return taken
      }
    }
  }

  /// What the master hears of the terminal besides its output.
  struct Packets {
    var isOn = false
    /// TIOCPKT_…, since the last read.
    var status: UInt8 = 0
  }
  let packets = InterruptSpinLock<Packets, LeafRank>(Packets())

  struct Ends {
    /// Open slaves, and whether there was one ever.
    var slaves = 0
    var hadSlave = false
    /// Until the master's owner has said that the slave is ready (unlockpt).
    var isLocked = true
  }

  let index: Int
  let output: Output
  let ends = SpinLock<Ends, LeafRank>(Ends())
  /// Its node in devpts.
  let node: Inode
  /// The master waits for room in the input.
  let inputRoom = WaitQueue()

  init(index: Int, node: Inode) {
    self.index = index
    self.node = node
    output = Output()
    super.init(DeviceNumber(major: PseudoTerminals.major, minor: UInt32(index)), outputs: [output])
    state.withLock { ($0.rows, $0.columns) = (0, 0) }
  }

  override func inputMoved() { inputRoom.wake() }
  override var hangsUpWithSession: Bool { false }

  /// SPEC: ioctl_tty(2), TIOCPKT.
  override func tell(_ change: TerminalChange) {
    let (set, cleared): (UInt8, UInt8)
    switch change {
    case .inputFlushed: (set, cleared) = (1, 0)
    case .outputFlushed: (set, cleared) = (2, 0)
    case .stopped: (set, cleared) = (4, 8)
    case .started: (set, cleared) = (8, 4)
    case .settings(let old, let new):
      if old.stopsAsUsual == new.stopsAsUsual { return }
      (set, cleared) = new.stopsAsUsual ? (32, 16) : (16, 32)
    }
    let isHeard = packets.withLock { packets in
      if packets.isOn { packets.status = packets.status & ~cleared | set }
      return packets.isOn
    }
    if isHeard { output.changed.wake() }
  }

  /// What a master in packet mode has not been told yet, or 0.
  fileprivate func takeStatus() -> UInt8 {
    packets.withLock { packets in
      let status = packets.status
      packets.status = 0
      return status
    }
  }

  /// The slave is opened.
  override func opened(isFirst: Bool) throws(Errno) {
    let isOpen = ends.withLock { ends in
      if ends.isLocked { return false }
      ends.slaves += 1
      ends.hadSlave = true
      return true
    }
    if !isOpen || state.withLock({ $0.isGone }) {
      if isOpen { closed(isLast: false) }
      throw .ioError
    }
  }

  override func closed(isLast: Bool) {
    ends.withLock { $0.slaves -= 1 }
    output.changed.wake()
  }

  /// As long as there is a master.
  override var outlivesItsOpenings: Bool { true }

  /// The last descriptor of every slave is closed: the master reads what is left, and then nothing more.
  fileprivate var isLeft: Bool { ends.withLock { $0.hadSlave && $0.slaves == 0 } }

  /// The master: an open of /dev/ptmx.
  final class Master: OpenFile {
    let terminal: PseudoTerminal
    init(_ terminal: PseudoTerminal) { self.terminal = terminal }

    func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
      let wanted = buffer.count
      if wanted == 0 { return 0 }
      let output = terminal.output
      let inPackets = terminal.packets.withLock { $0.isOn }
      let room = inPackets ? wanted - 1 : wanted
      let packet: [UInt8]? = try output.changed.wait(orFail: description.isNonBlocking, reason: "pty read") {
        if inPackets {
          let status = terminal.takeStatus()
          if status != 0 { return .some([status]) }
        }
        let isLeft = terminal.isLeft  // before the look: what the last slave wrote is seen
        if output.waiting == 0 { return isLeft ? .some(nil) : .none }
        let bytes = output.take(min(room, 4096))
        return .some(inPackets ? [0] + bytes : bytes)
      }
      guard let packet else { throw .ioError }
      terminal.outputMoved()
      return try buffer.put(packet.span)
    }

    func write(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> (Int, UInt64) {
      var total = 0
      while buffer.count > 0 {
        do throws(Errno) {
          let bytes = try buffer.takeBytes(limit: 256)
          var position = 0
          while position < bytes.count {
            let count: Int = try terminal.inputRoom.wait(orFail: description.isNonBlocking, reason: "pty write") {
              let count = terminal.receive(bytes.span, from: position, waitsForRoom: true)
              return count > 0 ? count : nil
            }
            position += count
            total += count
          }
        } catch {
          if total > 0 { break }
          throw error
        }
      }
      return (total, 0)
    }

    func poll(_ table: PollTable?) -> PollEvents {
      table?.add(terminal.output.changed)
      table?.add(terminal.inputRoom)
      var events: PollEvents = []
      if terminal.isLeft { events.formUnion(.hangUp) }
      if terminal.output.waiting > 0 { events.formUnion([.readable, .normalRead]) }
      if terminal.packets.withLock({ $0.status != 0 }) { events.formUnion([.readable, .normalRead, .priority]) }
      if terminal.state.withLock({ $0.line.acceptsInput }) { events.formUnion([.writable, .normalWrite]) }
      return events
    }

    func control(_ command: UInt32, _ argument: UInt32, _ description: FileDescription) throws(Errno) -> Int32 {
      switch command {
      case 0x8004_5430: try UserMemory.write32(UInt32(terminal.index), to: argument)  // TIOCGPTN
      case 0x4004_5431:  // TIOCSPTLCK
        let isLocked = try UserMemory.read32(argument) != 0
        terminal.ends.withLock { $0.isLocked = isLocked }
      case 0x8004_5439: try UserMemory.write32(terminal.ends.withLock { $0.isLocked ? 1 : 0 }, to: argument)  // TIOCGPTLCK
      case 0x5420:  // TIOCPKT
        let isOn = try UserMemory.read32(argument) != 0
        terminal.packets.withLock { if $0.isOn != isOn { $0 = Packets(isOn: isOn) } }
      case 0x8004_5438: try UserMemory.write32(terminal.packets.withLock { $0.isOn ? 1 : 0 }, to: argument)  // TIOCGPKT
      case 0x5441: return try openPeer(flags: argument)  // TIOCGPTPEER
      case 0x541B: try UserMemory.write32(UInt32(terminal.output.waiting), to: argument)  // FIONREAD
      case 0x5411: try UserMemory.write32(0, to: argument)  // TIOCOUTQ: input has arrived when write returns
      // Whose the terminal is, the master may ask without belonging to it.
      case 0x540F: try UserMemory.write32(UInt32(bitPattern: terminal.foregroundGroup), to: argument)  // TIOCGPGRP
      case 0x5429: try UserMemory.write32(UInt32(bitPattern: terminal.state.withLock { $0.session }), to: argument)  // TIOCGSID
      case 0x4004_5436:  // TIOCSIG
        // SIGINT, SIGQUIT, SIGTSTP: what the terminal itself would send.
        guard [2, 3, 20].contains(argument) else { throw .invalidArgument }
        let group = terminal.foregroundGroup
        if group > 0 { sendToGroup(group, SignalInformation(Signal(UInt8(argument)), code: 128)) }
      case 0x540E, 0x5422: throw .inappropriateIOCTLForDevice  // only the slave is anybody's terminal
      default: return try terminal.control(command, argument)
      }
      return 0
    }

    private func openPeer(flags: UInt32) throws(Errno) -> Int32 {
      let process = Task.currentTask.process
      let file = try terminal.open(terminal.node, flags: flags)
      let path = PseudoTerminals.shared.path(of: terminal)
      let description = FileDescription(file, path: path, inode: terminal.node, flags: flags & ~OpenFlags.noControllingTerminal)
      do throws(Errno) { return try process.install(description, closeOnExec: flags & OpenFlags.closeOnExec != 0) } catch {
        description.abandon()
        throw error
      }
    }

    func close(_ description: FileDescription) {
      PseudoTerminals.shared.remove(terminal)
      terminal.cutOff(forEver: true)
    }
  }
}
