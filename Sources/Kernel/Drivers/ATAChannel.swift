import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// One of the two IDE channels. Its drives take turns: one request at a time, the others wait in order.
///
/// A request moves by bus-master DMA, or through the data port where there is none. The interrupt that ends one starts the next.
/// SPEC: ATA/ATAPI-6 §6, §9; Programming Interface for Bus Master IDE Controller 1.0.
public final class ATAChannel: InterruptHandler {
  private struct State: ~Copyable {
    var current: ATATransfer?
    /// When the drive has been silent for too long.
    var limit = Deadline.sinceBoot(0)
    var first: ATATransfer?
    var last: ATATransfer?
  }
  private let ports: PortWindow
  private let control: PortWindow
  /// The bus master's registers, and the frame with the table of a transfer's pieces.
  private let busMaster: (ports: PortWindow, table: Frame)?
  private let state = InterruptSpinLock<State, DriverRank>(State())
  private let watchdog = Watchdog()

  private enum Status {
    static let error: UInt8 = 0x21  // ERR and DF
    static let hasData: UInt8 = 8
    static let busy: UInt8 = 0x80
  }

  /// Ends what a drive does not answer to.
  private final class Watchdog: KernelTimer {
    static var patience: UInt64 { 10_000_000_000 }
    var channel: ATAChannel?  // which stays for ever
    override func fire() { channel?.giveUp() }
  }

  public init(command: UInt16, control: UInt16, line: UInt8, busMaster base: UInt16?) {
    ports = PortWindow(base: command, count: 8)
    self.control = PortWindow(base: control, count: 1)
    if let base, let table = Frames.allocate() {
      busMaster = (PortWindow(base: base, count: 8), table)
    } else {
      busMaster = nil
    }
    watchdog.channel = self
    Interrupts.connect(line: line, pci: false, handler: self)
  }

  var hasBusMaster: Bool { busMaster != nil }

  /// IDENTIFY DEVICE's answer, for a disk; before any request.
  func identify(slave: Bool) -> [UInt16]? {
    if ports.read8(7) == 0xFF { return nil }  // a floating bus: no channel
    control.write8(0, 2)  // no interrupts while probing
    defer { control.write8(0, 0) }
    ports.write8(6, slave ? 0xF0 : 0xE0)
    for _ in 0..<4 { _ = control.read8(0) }
    for register in UInt16(2)...5 { ports.write8(register, 0) }
    ports.write8(7, 0xEC)
    if ports.read8(7) == 0 { return nil }
    let deadline = Deadline.after(1_000_000_000)
    while ports.read8(7) & Status.busy != 0 { if deadline.hasPassed { return nil } }
    if ports.read8(4) != 0 || ports.read8(5) != 0 { return nil }  // ATAPI or SATA signature
    while ports.read8(7) & (Status.hasData | 1) == 0 { if deadline.hasPassed { return nil } }
    if ports.read8(7) & 1 != 0 { return nil }
    var words: [UInt16] = []
    for _ in 0..<256 { words.append(ports.read16(0)) }
    return words
  }

  func start(_ transfer: ATATransfer) {
    let ended: ATATransfer? = state.withLock { state in
      if let last = state.last { last.next = transfer } else { state.first = transfer }
      state.last = transfer
      return state.current == nil ? beginNext(&state) : nil
    }
    if let ended { finish(ended, failed: true) }
  }

  /// Starts the first request that waits; answers it instead if it fails at once.
  private func beginNext(_ state: inout State) -> ATATransfer? {
    guard let transfer = state.first else { return nil }
    state.first = transfer.next
    if state.first == nil { state.last = nil }
    transfer.next = nil
    state.current = transfer
    state.limit = .after(Watchdog.patience)
    watchdog.start(at: state.limit)
    if transfer.usesDMA { prepareDMA(transfer.request) }
    transfer.disk.issue(transfer, ports)
    if transfer.usesDMA { busMaster?.ports.write8(0, transfer.request.operation == .read ? 9 : 1) }
    // The first sector of a write comes without an interrupt.
    if !transfer.usesDMA, transfer.request.operation == .write {
      guard waitForData() else {
        state.current = nil
        return transfer
      }
      transfer.moveSector(ports)
    }
    return nil
  }

  /// Describes a request's memory to the bus master: address and length of each piece, none across 64 KiB.
  private func prepareDMA(_ request: BlockRequest) {
    guard let (registers, table) = busMaster else { return }
    table.withMutableBytes { bytes in
      var at = 0
      for piece in request.pieces {
        var address = UInt32(truncatingIfNeeded: piece.address)
        var left = UInt32(piece.count)
        while left > 0 {
          let count = min(left, 0x10000 - (address & 0xFFFF))
          bytes.put32(address, at: at)
          bytes.put32(count & 0xFFFF, at: at + 4)
          address &+= count
          left -= count
          at += 8
        }
      }
      bytes.put32((bytes.span.u32(at - 4) ?? 0) | 1 << 31, at: at - 4)
    }
    registers.write8(0, 0)
    registers.write32(4, UInt32(truncatingIfNeeded: table.address))
    registers.write8(2, registers.read8(2) | 6)  // interrupt and error are cleared by writing ones
    registers.write8(0, request.operation == .read ? 8 : 0)
  }

  /// Waits for a drive that takes data: at most for some microseconds, with interrupts off.
  private func waitForData() -> Bool {
    for _ in 0..<100_000 {
      let status = ports.read8(7)
      if status & Status.busy != 0 { continue }
      if status & Status.error != 0 { return false }
      if status & Status.hasData != 0 { return true }
    }
    return false
  }

  public func handleInterrupt() -> Bool {
    var ended: ATATransfer?
    var hasFailed = false
    var stillborn: ATATransfer?
    state.withLock { state in
      let status = ports.read8(7)  // which acknowledges it
      guard let transfer = state.current, let outcome = advance(transfer, status) else { return }
      state.current = nil
      ended = transfer
      hasFailed = outcome
      watchdog.cancel()
      stillborn = beginNext(&state)
    }
    if let ended { finish(ended, failed: hasFailed) }
    if let stillborn { finish(stillborn, failed: true) }
    return true
  }

  /// Takes a transfer on after an interrupt; whether it failed once it is over.
  private func advance(_ transfer: ATATransfer, _ status: UInt8) -> Bool? {
    if transfer.usesDMA, let registers = busMaster?.ports {
      let outcome = registers.read8(2)
      guard outcome & 4 != 0 else { return nil }  // somebody else's interrupt
      registers.write8(0, 0)
      registers.write8(2, outcome | 6)
      return status & Status.error != 0 || outcome & 2 != 0
    }
    if status & Status.busy != 0 { return nil }
    if status & Status.error != 0 { return true }
    switch transfer.request.operation {
    case .flush: return false
    case .read:
      guard waitForData() else { return true }
      transfer.moveSector(ports)
      return transfer.sectorsLeft == 0 ? false : nil
    case .write:
      if transfer.sectorsLeft == 0 { return false }
      guard waitForData() else { return true }
      transfer.moveSector(ports)
      return nil
    }
  }

  /// Tells of a request's end, and goes on with the next if that failed at once.
  private func finish(_ transfer: ATATransfer, failed: Bool) {
    transfer.request.finish(failed: failed)
    guard failed else { return }
    let next: ATATransfer? = state.withLock { state in state.current == nil ? beginNext(&state) : nil }
    if let next { finish(next, failed: true) }
  }

  /// The drive is silent: a reset, and the request has failed.
  private func giveUp() {
    let ended: ATATransfer? = state.withLock { state in
      // The next request may have begun while the timer fired.
      guard let transfer = state.current, state.limit.hasPassed else { return nil }
      state.current = nil
      busMaster?.ports.write8(0, 0)
      control.write8(0, 4)
      for _ in 0..<16 { _ = control.read8(0) }
      control.write8(0, 0)
      return transfer
    }
    guard let ended else { return }
    log("ata: no answer to a request at sector \(ended.request.sector); the channel is reset")
    finish(ended, failed: true)
  }
}
