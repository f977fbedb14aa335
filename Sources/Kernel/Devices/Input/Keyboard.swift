import InputEvents
import Machine
import Processes
import Signals
import Sync
import SystemABI
import Terminal
import Threads
import VFS

/// The PS/2 keyboard; what is typed goes to the terminal that is seen. SPEC: IBM PS/2 Technical Reference, keyboard.
final class Keyboard: InputDevice, PS2Receiver {
  struct Keys: ~Copyable {
    var codes = ScanCodes()
    var modifiers = KeyboardState()
    /// Bytes for the keyboard: the first one is on its way.
    var commands: [UInt8] = []
    /// What the terminals want the lights to be.
    var lights: UInt8 = 0
  }
  private let controller: PS2Controller
  private let keys = InterruptSpinLock<Keys, ScreenRank>(Keys())
  private let scanCodes = ScanCodeDevice()
  /// The keyboard, where there is one.
  static let shared = BootCell<Keyboard>()
  static let map = BootCell<InterruptSpinLock<KeyMap, ScreenRank>>()

  init(_ controller: PS2Controller) {
    self.controller = controller
    Self.map.set(InterruptSpinLock(KeyMap()))
    var input = InputState(repetition: (delay: 250, period: 33))
    ScanCodes.forEachCode { input.add(.key, UInt16($0)) }
    for light in UInt16(0)..<3 { input.add(.light, light) }
    input.add(.miscellaneous, Self.scanCode)
    super.init("AT keyboard", place: "isa0060/serio0/input0", identity: (0x11, 1, 1, 0xAB83), input)
    DeviceRegistry.register("kbd", major: 10, minor: 192, scanCodes)
    // The first rate, and its keys.
    _ = controller.ask(.keyboard, 0xF3, 0, 0xF4)
  }

  /// MSC_SCAN.
  private static var scanCode: UInt16 { 4 }

  func take(_ byte: UInt8) {
    if answered(byte) { return }
    scanCodes.put(byte)
    guard let key = keys.withLock({ $0.codes.take(byte) }) else { return }
    let now = Clock.monotonic
    let code = UInt16(key.code)
    let bytes = ScanCodes.bytes(KeyEvent(key.code, isPressed: true))
    report(InputEvent(.miscellaneous, Self.scanCode, Int32(bytes.last ?? 0) | (bytes.count > 1 ? 0x80 : 0), time: now))
    report(InputEvent(.key, code, !key.isPressed ? 0 : isDown(code) ? 2 : 1, time: now))
    report(.report(time: now))
  }

  // MARK: For the terminals

  override func handle(_ event: InputEvent) {
    guard event.type == .key, event.code < 0x80 else { return }
    let key = KeyEvent(UInt8(event.code), isPressed: event.value != 0)
    let terminal = VirtualTerminals.active
    act(on: key, isRepeat: event.value == 2, terminal)
    show(terminal.lights)
  }

  /// Who has kept the keyboard for himself has seen modifiers come up, or go down.
  override func isForAllAgain() {
    let down = state.withLock { $0.input.keys }
    let map = Self.map.value.withLock { $0 }
    keys.withLock { keys in
      keys.modifiers = KeyboardState()
      for code in UInt8(0)..<0x80 where down[UInt16(code)] {
        guard let symbol = map.symbol(code, 0), symbol.kind == .modifier else { continue }
        keys.modifiers.hold(symbol.value, KeyEvent(code, isPressed: true), isRepeat: false)
      }
    }
  }

  private func act(on key: KeyEvent, isRepeat: Bool, _ terminal: VirtualTerminal) {
    let isTaken = terminal.takesRaw(key) || terminal.takesCode(key)
    let modes = terminal.screen.with { $0.modes }
    let map = Self.map.value.withLock { $0 }
    // Who is held is known whoever gets the keys.
    if let symbol = map.symbol(key.code, 0), symbol.kind == .modifier {
      keys.withLock { $0.modifiers.hold(symbol.value, key, isRepeat: isRepeat) }
      if !isTaken, !key.isPressed, symbol.value == 3 { perform(terminal.keys.withLock { $0.altReleased() }, terminal) }
      return
    }
    guard !isTaken, key.isPressed, !isRepeat || modes.repeatsKeys else { return }
    let action = terminal.keys.withLock { locks -> KeyAction in
      let (symbol, modifiers) = keys.withLock { ($0.modifiers.symbol(key.code, map, locks), $0.modifiers.modifiers) }
      return symbol.map { locks.press($0, modifiers, modes) } ?? .none
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

  // MARK: What it does itself

  /// Shows the lights that a terminal wants: scroll, number and capitals lock from bit 0 on. Interrupt-safe.
  func show(_ lights: UInt8) {
    let isNew = keys.withLock { keys in
      if keys.lights == lights { return false }
      keys.lights = lights
      return true
    }
    if !isNew { return }
    let now = Clock.monotonic
    for light in UInt16(0)..<3 { report(InputEvent(.light, light, Int32(lights >> Self.bit(light) & 1), time: now)) }
    report(.report(time: now))
  }

  /// The bit, for keyboards and terminals, of LED_NUML, LED_CAPSL and LED_SCROLLL.
  private static func bit(_ light: UInt16) -> UInt8 { light == 0 ? 1 : light == 1 ? 2 : 0 }

  override func apply(_ event: InputEvent) {
    switch event.type {
    case .light:
      let lights = state.withLock { state in
        (UInt16(0)..<3).reduce(UInt8(0)) { $0 | (state.input.lights[$1] ? 1 << Self.bit($1) : 0) }
      }
      send(0xED, lights)
    case .repetition:
      guard let (delay, period) = state.withLock({ $0.input.repetition }) else { return }
      send(0xF3, Self.rate(delay: delay, period: period))
    default: break
    }
  }

  /// The keyboard's number for a repetition that is not faster. SPEC: IBM PS/2 Technical Reference, Set Typematic Rate/Delay.
  private static func rate(delay: Int32, period: Int32) -> UInt8 {
    let delays = UInt8(clamping: min(max((delay &+ 249) / 250, 1), 4) - 1)
    // (8 + low bits) * 2 ^ high bits * 4.17 milliseconds
    for number in UInt8(0)..<31 where Int32(8 + number & 7) << Int32(number >> 3) * 417 / 100 >= period { return delays << 5 | number }
    return delays << 5 | 31
  }

  /// Whether a byte was the keyboard's answer to a command.
  private func answered(_ byte: UInt8) -> Bool {
    guard byte == 0xFA || byte == 0xFE else { return false }
    return keys.withLock { keys in
      guard !keys.commands.isEmpty else { return false }
      // One that does not understand a command is not asked again.
      if byte == 0xFA { keys.commands.removeFirst() } else { keys.commands.removeAll() }
      if let next = keys.commands.first { controller.send(next, to: .keyboard) }
      return true
    }
  }

  private func send(_ command: UInt8, _ value: UInt8) {
    keys.withLock { keys in
      // A keyboard that does not answer is not told more and more.
      guard keys.commands.count < 32 else { return }
      let isIdle = keys.commands.isEmpty
      keys.commands.append(command)
      keys.commands.append(value)
      if isIdle { controller.send(command, to: .keyboard) }
    }
  }
}
