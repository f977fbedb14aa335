import Machine
import Processes
import Signals
import Sync
import SystemABI
import Terminal
import Threads

/// The PS/2 keyboard behind the 8042 controller; what is typed goes to the terminal that is seen.
/// SPEC: Intel 8042 (IBM PS/2 Technical Reference, keyboard and auxiliary device controller).
final class Keyboard: InterruptHandler {
  struct State: ~Copyable {
    var keyboard = KeyboardState()
    /// Bytes for the keyboard: the first one is on its way.
    var commands: [UInt8] = []
    var lights: UInt8 = 0
  }
  private let data = PortWindow(base: 0x60, count: 1)
  private let status = PortWindow(base: 0x64, count: 1)
  private let state = InterruptSpinLock<State, ScreenRank>(State())
  static let map = BootCell<InterruptSpinLock<KeyMap, ScreenRank>>()

  /// Nil where no controller answers.
  init?() {
    Self.map.set(InterruptSpinLock(KeyMap()))
    // Whatever the firmware has left: it may have met keys that somebody pressed meanwhile.
    guard command(0xAD), command(0xA7) else { return nil }
    drain()
    guard command(0x20), let old = answer() else { return nil }
    // Interrupts of the first port, and scan codes of set 1.
    guard command(0x60), write(old & ~0x30 | 0x41), command(0xAE) else { return nil }
    drain()
    _ = write(0xF4)
    _ = answer()
    drain()
    Interrupts.connect(line: 1, pci: false, handler: self)
  }

  // MARK: The controller

  private func drain() {
    for _ in 0..<64 where status.read8(0) & 1 != 0 { _ = data.read8(0) }
  }

  /// Waits until the controller takes a byte; false where it never does.
  private func waitForRoom() -> Bool {
    for _ in 0..<100_000 where status.read8(0) & 2 == 0 { return true }
    return false
  }

  private func command(_ byte: UInt8) -> Bool {
    // Where there is none, all bits are set.
    if status.read8(0) == 0xFF || !waitForRoom() { return false }
    status.write8(0, byte)
    return true
  }

  @discardableResult private func write(_ byte: UInt8) -> Bool {
    if !waitForRoom() { return false }
    data.write8(0, byte)
    return true
  }

  private func answer() -> UInt8? {
    for _ in 0..<100_000 where status.read8(0) & 1 != 0 { return data.read8(0) }
    return nil
  }

  func handleInterrupt() -> Bool {
    var any = false
    for _ in 0..<16 where status.read8(0) & 1 != 0 {
      take(data.read8(0))
      any = true
    }
    return any
  }

  private func take(_ byte: UInt8) {
    let terminal = VirtualTerminals.active
    if answered(byte) { return }
    if terminal.takesRaw(byte) { return }
    guard let (event, isRepeat) = state.withLock({ $0.keyboard.take(byte) }) else { return }
    if terminal.takesCode(event) { return }
    act(on: event, isRepeat: isRepeat, terminal)
    show(terminal.lights)
  }

  private func act(on event: KeyEvent, isRepeat: Bool, _ terminal: VirtualTerminal) {
    let modes = terminal.screen.with { $0.modes }
    let map = Self.map.value.withLock { $0 }
    if let symbol = map.symbol(event.code, 0), symbol.kind == .modifier {
      state.withLock { $0.keyboard.hold(symbol.value, event, isRepeat: isRepeat) }
      if !event.isPressed, symbol.value == 3 { perform(terminal.keys.withLock { $0.altReleased() }, terminal) }
      return
    }
    guard event.isPressed, !isRepeat || modes.repeatsKeys else { return }
    let action = terminal.keys.withLock { keys -> KeyAction in
      let (symbol, modifiers) = state.withLock { ($0.keyboard.symbol(event.code, map, keys), $0.keyboard.modifiers) }
      return symbol.map { keys.press($0, modifiers, modes) } ?? .none
    }
    perform(action, terminal)
  }

  private func perform(_ action: KeyAction, _ terminal: VirtualTerminal) {
    switch action {
    case .none: break
    case .input(let bytes): terminal.type(bytes)
    case .scroll(let pages): terminal.scrollBack(pages: pages)
    case .activate(let index): VirtualTerminals.activate(index)
    case .activateNext(let step): VirtualTerminals.activateNext(step)
    case .activateLast: VirtualTerminals.activateLast()
    case .hold: terminal.setStopped(terminal.keys.withLock { $0.isHeld })
    case .reboot: ProcessTable.shared.find(1)?.send(SignalInformation(.interrupt, code: 128))
    }
  }

  // MARK: Lights

  /// Whether a byte was the keyboard's answer to a command.
  private func answered(_ byte: UInt8) -> Bool {
    guard byte == 0xFA || byte == 0xFE else { return false }
    return state.withLock { state in
      guard !state.commands.isEmpty else { return false }
      if byte == 0xFA { state.commands.removeFirst() }
      if let next = state.commands.first { write(next) }
      return true
    }
  }

  private func show(_ lights: UInt8) {
    state.withLock { state in
      guard state.lights != lights else { return }
      state.lights = lights
      let isIdle = state.commands.isEmpty
      state.commands += [0xED, lights]
      if isIdle { write(0xED) }
    }
  }
}
