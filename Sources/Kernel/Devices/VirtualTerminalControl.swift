import InputEvents
import Machine
import Processes
import Sync
import SystemABI
import Terminal
import Threads
import VFS

/// How a terminal gets its keys. SPEC: ioctl_console(2), KDSKBMODE.
enum KeyboardMode: UInt32 {
  case raw, translated, codes, unicode, off
}

/// What `ioctl` asks of a virtual terminal. SPEC: ioctl_console(2); uapi/linux/kd.h, vt.h.
extension VirtualTerminal {
  /// Throws `notPermitted` for who may not change terminals: another's, without the capability for it.
  func requireOwn() throws(Errno) {
    let process = Task.currentTask.process
    if process.terminal.withLock({ $0 === self }) || process.who.has(.terminals) { return }
    throw .notPermitted
  }

  func control(display command: UInt32, _ argument: UInt32) throws(Errno) -> Int32? {
    switch command {
    case 0x4B33:  // KDGKBTYPE
      let type: [1 of UInt8] = [2]
      try UserMemory.write(type.span, to: argument)
    case 0x4B3B: try UserMemory.write32(settings.withLock { $0.isGraphic } ? 1 : 0, to: argument)  // KDGETMODE
    case 0x4B3A:  // KDSETMODE
      try requireOwn()
      guard argument <= 3 else { throw .invalidArgument }
      let wasGraphic = settings.withLock { settings in
        let was = settings.isGraphic
        settings.isGraphic = argument == 1
        return was
      }
      if wasGraphic, argument != 1 { VirtualTerminals.display.value.forget() }
      screen.with { $0.touchAll() }
      VirtualTerminals.refresh()
    case 0x4B44: try UserMemory.write32(settings.withLock { $0.keyboard.rawValue }, to: argument)  // KDGKBMODE
    case 0x4B45:  // KDSKBMODE
      try requireOwn()
      guard let mode = KeyboardMode(rawValue: argument) else { throw .invalidArgument }
      settings.withLock { $0.keyboard = mode }
      keys.withLock { $0.isUTF8 = mode != .translated }
    case 0x4B31:  // KDGETLED
      let lights: [1 of UInt8] = [lights]
      try UserMemory.write(lights.span, to: argument)
    case 0x4B32:  // KDSETLED
      try requireOwn()
      settings.withLock { $0.lights = argument > 7 ? nil : UInt8(argument) }
      VirtualTerminals.showLights()
    case 0x4B64:  // KDGKBLED
      let flags: [1 of UInt8] = [keys.withLock { $0.lights }]
      try UserMemory.write(flags.span, to: argument)
    case 0x4B65:  // KDSKBLED
      try requireOwn()
      if argument & ~0x77 != 0 { throw .invalidArgument }
      keys.withLock {
        $0.hasNumLock = argument & 2 != 0
        $0.hasCapsLock = argument & 4 != 0
      }
      VirtualTerminals.showLights()
    case 0x4B52: try controlRepetition(argument)  // KDKBDREP
    case 0x4B46, 0x4B47: try controlKeyMap(argument, isSet: command == 0x4B47)  // KDGKBENT, KDSKBENT
    case 0x4B72: try controlFont(argument)  // KDFONTOP
    case 0x4B66: try putFontMap(argument)  // GIO_UNIMAP
    case 0x4B67, 0x4B68: try setFontMap(command == 0x4B67 ? argument : nil)  // PIO_UNIMAP, PIO_UNIMAPCLR
    default: return try control(switching: command, argument)
    }
    return 0
  }

  /// `struct kbd_repeat`: milliseconds until a key repeats, and from then on; what is not above 0 stays. Answers what it is now.
  private func controlRepetition(_ address: UInt32) throws(Errno) {
    try require(.terminals)
    guard Keyboard.shared.isSet else { throw .invalidArgument }
    let keyboard = Keyboard.shared.value
    for code in UInt16(0)..<2 {
      let value = Int32(bitPattern: try UserMemory.read32(address &+ UInt32(code) * 4))
      if value > 0 { keyboard.report(InputEvent(.repetition, code, value, time: Clock.monotonic)) }
    }
    guard let (delay, period) = keyboard.state.withLock({ $0.input.repetition }) else { return }
    try UserMemory.write32(UInt32(bitPattern: delay), to: address)
    try UserMemory.write32(UInt32(bitPattern: period), to: address &+ 4)
  }

  /// `struct kbentry`: a table, a key, and a symbol; as key 0 the whole table with 0 for none, as 127 with 1 for an empty one.
  private func controlKeyMap(_ address: UInt32, isSet: Bool) throws(Errno) {
    let entry = try UserMemory.read32(address)
    let (table, code) = (UInt8(truncatingIfNeeded: entry), UInt8(truncatingIfNeeded: entry >> 8))
    if !isSet {
      let symbol = Keyboard.map.value.withLock { $0.symbol(code, table) }
      // K_HOLE, or K_NOSUCHMAP where there is no table.
      let bits = symbol?.bits ?? (code == 0 ? 0x027F : 0x0200)
      return try UserMemory.write32(entry & 0xFFFF | UInt32(bits) << 16, to: address)
    }
    try require(.terminals)
    let symbol = KeySymbol(bits: UInt16(truncatingIfNeeded: entry >> 16))
    if code == 0, symbol.bits == 0x027F {
      if table == 0 { throw .invalidArgument }
      return Keyboard.map.value.withLock { $0.removeTable(table) }
    }
    if code == 0 { return Keyboard.map.value.withLock { $0.set(0, table, .none) } }
    Keyboard.map.value.withLock { $0.set(code, table, symbol) }
  }

  private func require(_ capability: Capability) throws(Errno) {
    if !Task.currentTask.process.who.has(capability) { throw .notPermitted }
  }

  /// Those that are about all terminals.
  private func control(switching command: UInt32, _ argument: UInt32) throws(Errno) -> Int32? {
    switch command {
    case 0x5600:  // VT_OPENQRY
      let free = VirtualTerminals.all.value.first { !$0.isInUse }
      try UserMemory.write32(free.map { UInt32($0.index + 1) } ?? .max, to: argument)
    case 0x5601:  // VT_GETMODE: VT_AUTO
      try UserMemory.write32(0, to: argument)
      try UserMemory.write32(0, to: argument &+ 4)
    case 0x5602:  // VT_SETMODE
      try requireOwn()
      if try UserMemory.read32(argument) & 0xFF != 0 { throw .invalidArgument }
    case 0x5603:  // VT_GETSTATE
      var used: UInt32 = 1
      for terminal in VirtualTerminals.all.value where terminal.isInUse { used |= 1 << UInt32(terminal.index + 1) }
      try UserMemory.write32(UInt32(VirtualTerminals.active.index + 1), to: argument)
      let state: [2 of UInt8] = [UInt8(used), 0]
      try UserMemory.write(state.span, to: argument &+ 4)
    case 0x5606:  // VT_ACTIVATE
      try requireOwn()
      VirtualTerminals.activate(try index(argument))
    case 0x5607:  // VT_WAITACTIVE
      try requireOwn()
      let wanted = try index(argument)
      do throws(Errno) {
        let _: Bool = try VirtualTerminals.switched.value.wait(reason: "terminal switch") {
          VirtualTerminals.active.index == wanted ? true : nil
        }
      } catch { throw error == .interrupted ? .restart : error }
    case 0x5608:  // VT_DISALLOCATE
      if argument == 0 {
        for terminal in VirtualTerminals.all.value where !terminal.isInUse { terminal.screen.dispose() }
      } else {
        let terminal = VirtualTerminals.all.value[try index(argument)]
        if terminal.isInUse { throw .resourceBusy }
        terminal.screen.dispose()
      }
    default: return nil
    }
    return 0
  }

  private func index(_ number: UInt32) throws(Errno) -> Int {
    guard number >= 1, Int(clamping: number) <= VirtualTerminals.count else { throw .noSuchAddressOrDevice }
    return Int(number) - 1
  }
}
