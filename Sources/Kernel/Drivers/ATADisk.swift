import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// One of the two IDE channels. Its drives take turns. SPEC: ATA/ATAPI-6 §6, §9.
public final class ATAChannel: InterruptHandler {
  struct Registers {
    let command: PortWindow
    let control: PortWindow
  }
  let registers: Mutex<Registers, DriverMutexRank>
  private let status: PortWindow
  private let interrupts = Atomic<UInt32>(0)
  private let event = WaitQueue()

  public init(command: UInt16, control: UInt16, line: UInt8) {
    let window = PortWindow(base: command, count: 8)
    status = window
    registers = Mutex(Registers(command: window, control: PortWindow(base: control, count: 1)))
    Interrupts.connect(line: line, pci: false, handler: self)
  }

  public func handleInterrupt() -> Bool {
    _ = status.read8(7)  // reading the status acknowledges
    interrupts.wrappingAdd(1, ordering: .releasing)
    event.wake()
    return true
  }

  /// The interrupt count before a command, for `await`.
  var ticket: UInt32 { interrupts.load(ordering: .acquiring) }

  /// Waits for an interrupt newer than the ticket. Throws `ioError` after ten seconds of silence.
  func await(_ ticket: UInt32) throws(Errno) {
    do throws(Errno) {
      let _: Bool = try event.wait(interruptible: false, deadline: .after(10_000_000_000), reason: "ata") {
        interrupts.load(ordering: .acquiring) != ticket ? true : nil
      }
    } catch { throw .ioError }
  }
}

/// An IDE disk in PIO mode.
public final class ATADisk: BlockDevice {
  private let channel: ATAChannel
  private let slave: Bool
  public private(set) var sectorCount: UInt64 = 0
  private var hasLBA48 = false

  /// Identifies a drive; nil when there is none, or it is no disk.
  public init?(_ channel: ATAChannel, slave: Bool) {
    self.channel = channel
    self.slave = slave
    guard let words = channel.registers.withLock({ Self.identify($0, slave: slave) }) else { return nil }
    hasLBA48 = words[83] & 1 << 10 != 0
    let short = UInt64(words[60]) | UInt64(words[61]) << 16
    let long = UInt64(words[100]) | UInt64(words[101]) << 16 | UInt64(words[102]) << 32
    sectorCount = hasLBA48 && long > 0 ? long : short
    if sectorCount == 0 { return nil }
  }

  private static func identify(_ registers: ATAChannel.Registers, slave: Bool) -> [UInt16]? {
    let ports = registers.command
    if ports.read8(7) == 0xFF { return nil }  // a floating bus: no channel
    registers.control.write8(0, 2)  // no interrupts while probing
    defer { registers.control.write8(0, 0) }
    ports.write8(6, slave ? 0xF0 : 0xE0)
    for _ in 0..<4 { _ = registers.control.read8(0) }
    for register in UInt16(2)...5 { ports.write8(register, 0) }
    ports.write8(7, 0xEC)
    if ports.read8(7) == 0 { return nil }
    let deadline = Clock.monotonic + 1_000_000_000
    while ports.read8(7) & 0x80 != 0 { if Clock.monotonic > deadline { return nil } }
    if ports.read8(4) != 0 || ports.read8(5) != 0 { return nil }  // ATAPI or SATA signature
    while ports.read8(7) & 9 == 0 { if Clock.monotonic > deadline { return nil } }
    if ports.read8(7) & 1 != 0 { return nil }
    var words: [UInt16] = []
    for _ in 0..<256 { words.append(ports.read16(0)) }
    return words
  }

  private func issue(_ ports: PortWindow, _ command: (short: UInt8, long: UInt8), _ sector: UInt64, _ count: Int) {
    ports.write8(6, (slave ? 0xF0 : 0xE0) | (hasLBA48 ? 0 : UInt8(truncatingIfNeeded: sector >> 24) & 0xF))
    if hasLBA48 {
      ports.write8(2, UInt8(truncatingIfNeeded: count >> 8))
      for index in UInt64(0)..<3 { ports.write8(3 + UInt16(index), UInt8(truncatingIfNeeded: sector >> (24 + index * 8))) }
    }
    ports.write8(2, UInt8(truncatingIfNeeded: count))
    for index in UInt64(0)..<3 { ports.write8(3 + UInt16(index), UInt8(truncatingIfNeeded: sector >> (index * 8))) }
    ports.write8(7, hasLBA48 ? command.long : command.short)
  }

  /// Waits for DRQ without an interrupt: the first block of a write.
  private func waitReady(_ ports: PortWindow, data: Bool) throws(Errno) {
    let deadline = Clock.monotonic + 5_000_000_000
    while true {
      let status = ports.read8(7)
      if status & 0x80 == 0 {
        if status & 0x21 != 0 { throw .ioError }
        if !data || status & 8 != 0 { return }
      }
      if Clock.monotonic > deadline { throw .ioError }
    }
  }

  private func check(_ sector: UInt64, _ count: Int, _ offset: Int) throws(Errno) {
    guard count > 0, offset >= 0, offset + count * 512 <= pageSize, sector <= sectorCount,
      UInt64(count) <= sectorCount - sector
    else { throw .ioError }
  }

  public func read(_ sector: UInt64, count: Int, into frame: Frame, offset: Int) throws(Errno) {
    try check(sector, count, offset)
    try channel.registers.withLock { registers throws(Errno) in
      let ports = registers.command
      var ticket = channel.ticket
      issue(ports, (0x20, 0x24), sector, count)
      for index in 0..<count {
        try channel.await(ticket)
        ticket = channel.ticket
        try waitReady(ports, data: true)
        frame.withMutableBytes { ports.readWords(0, into: &$0, at: offset + index * 512, count: 256) }
      }
    }
  }

  public func write(_ sector: UInt64, count: Int, from frame: Frame, offset: Int) throws(Errno) {
    try check(sector, count, offset)
    try channel.registers.withLock { registers throws(Errno) in
      let ports = registers.command
      issue(ports, (0x30, 0x34), sector, count)
      for index in 0..<count {
        try waitReady(ports, data: true)
        let ticket = channel.ticket
        frame.withBytes { ports.writeWords(0, from: $0, at: offset + index * 512, count: 256) }
        try channel.await(ticket)
      }
      try waitReady(ports, data: false)
    }
  }

  public func flush() throws(Errno) {
    try channel.registers.withLock { registers throws(Errno) in
      let ports = registers.command
      ports.write8(6, slave ? 0xF0 : 0xE0)
      let ticket = channel.ticket
      ports.write8(7, hasLBA48 ? 0xEA : 0xE7)
      try channel.await(ticket)
      try waitReady(ports, data: false)
    }
  }
}
