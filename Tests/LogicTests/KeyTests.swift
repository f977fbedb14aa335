import InputEvents
import Terminal
import Testing

/// A keyboard in front of a terminal.
struct Desk {
  var codes = ScanCodes()
  var down = CodeSet(EventType.key.codes)
  var keyboard = KeyboardState()
  var keys = KeyState()
  var map = KeyMap()
  var modes = Screen.Modes()

  /// What some scan codes do, one action a key.
  mutating func take(_ bytes: [UInt8]) -> [KeyAction] {
    var actions: [KeyAction] = []
    for byte in bytes {
      guard let event = codes.take(byte) else { continue }
      let isRepeat = event.isPressed && down[UInt16(event.code)]
      down[UInt16(event.code)] = event.isPressed
      if let symbol = map.symbol(event.code, 0), symbol.kind == .modifier {
        keyboard.hold(symbol.value, event, isRepeat: isRepeat)
        if !event.isPressed, symbol.value == 3, case .input(let bytes) = keys.altReleased() { actions.append(.input(bytes)) }
        continue
      }
      guard event.isPressed, let symbol = keyboard.symbol(event.code, map, keys) else { continue }
      actions.append(keys.press(symbol, keyboard.modifiers, modes))
    }
    return actions
  }

  mutating func text(_ bytes: [UInt8]) -> String {
    take(bytes).map { if case .input(let bytes) = $0 { String(decoding: bytes, as: UTF8.self) } else { "" } }.joined()
  }
}

@Suite struct KeyTests {
  @Test func lettersAndModifiers() {
    var desk = Desk()
    #expect(desk.text([0x1E, 0x9E]) == "a")
    #expect(desk.text([0x2A, 0x1E, 0x9E, 0xAA, 0x1E]) == "Aa")
    #expect(desk.text([0x2A, 0x03, 0xAA, 0x03]) == "@2")
    #expect(desk.text([0x1D, 0x2E, 0x9D]) == "\u{3}")
    #expect(desk.text([0xE0, 0x1D, 0x1A, 0xE0, 0x9D]) == "\u{1B}")
    #expect(desk.text([0x38, 0x30, 0xB8]) == "\u{1B}b")
    #expect(desk.text([0x1D, 0x39, 0x9D]) == "\0")
    #expect(desk.text([0x1D, 0x0C, 0x9D]) == "\u{1F}")
    #expect(desk.text([0x0E]) == "\u{7F}")
    #expect(desk.text([0x1C]) == "\r")
    // Both shifts, one after the other.
    #expect(desk.text([0x2A, 0x36, 0xAA, 0x1E, 0xB6, 0x1E]) == "Aa")
    // One that repeats is held once.
    #expect(desk.text([0x2A, 0x2A, 0x2A, 0xAA, 0x1E]) == "a")
    // What has no table does nothing, and nothing stays held.
    #expect(desk.text([0x1D, 0x38, 0x2A, 0x1E, 0xAA, 0xB8, 0x9D, 0x1E]) == "a")
  }

  @Test func locks() {
    var desk = Desk()
    #expect(desk.text([0x3A, 0xBA, 0x1E, 0x02, 0x2A, 0x1E, 0xAA]) == "A1a")
    #expect(desk.keys.lights == 4)
    #expect(desk.text([0x3A, 0x1E]) == "a")
    #expect(desk.text([0x47]) == "\u{1B}[1~")
    #expect(desk.text([0x45, 0x47, 0x53]) == "7.")
    #expect(desk.keys.lights == 2)
    #expect(desk.take([0x46]) == [.hold] && desk.keys.isHeld)
  }

  /// What `infocmp linux` says.
  @Test func keysWithNames() {
    var desk = Desk()
    #expect(desk.text([0x3B]) == "\u{1B}[[A" && desk.text([0x3F]) == "\u{1B}[[E" && desk.text([0x40]) == "\u{1B}[17~")
    #expect(desk.text([0x44]) == "\u{1B}[21~" && desk.text([0x57]) == "\u{1B}[23~" && desk.text([0x58]) == "\u{1B}[24~")
    #expect(desk.text([0x2A, 0x3B, 0xAA]) == "\u{1B}[25~")
    #expect(desk.text([0xE0, 0x48]) == "\u{1B}[A" && desk.text([0xE0, 0x50]) == "\u{1B}[B")
    #expect(desk.text([0xE0, 0x4D]) == "\u{1B}[C" && desk.text([0xE0, 0x4B]) == "\u{1B}[D")
    #expect(desk.text([0xE0, 0x47]) == "\u{1B}[1~" && desk.text([0xE0, 0x52]) == "\u{1B}[2~" && desk.text([0xE0, 0x53]) == "\u{1B}[3~")
    #expect(desk.text([0xE0, 0x4F]) == "\u{1B}[4~" && desk.text([0xE0, 0x49]) == "\u{1B}[5~" && desk.text([0xE0, 0x51]) == "\u{1B}[6~")
    #expect(desk.text([0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5]) == "\u{1B}[P")
    desk.modes.applicationCursor = true
    #expect(desk.text([0xE0, 0x48]) == "\u{1B}OA")
    desk.modes.applicationKeypad = true
    #expect(desk.text([0x47, 0x4E, 0xE0, 0x1C]) == "\u{1B}Ow\u{1B}Ol\u{1B}OM")
    desk.modes.newLines = true
    #expect(desk.text([0x1C]) == "\r\n")
  }

  @Test func keysForTheScreen() {
    var desk = Desk()
    #expect(desk.take([0x38, 0x3B, 0xBB, 0x3C, 0xB8]) == [.activate(0), .activate(1)])
    #expect(desk.take([0x1D, 0x38, 0x40, 0xB8, 0x9D]) == [.activate(5)])
    #expect(desk.take([0x38, 0xE0, 0x4D, 0xE0, 0x4B, 0xB8]) == [.activateNext(1), .activateNext(-1)])
    #expect(desk.take([0x2A, 0xE0, 0x49, 0xE0, 0x51, 0xAA]) == [.scroll(1), .scroll(-1)])
    #expect(desk.take([0x1D, 0x38, 0xE0, 0x53, 0xB8, 0x9D]) == [.reboot])
    // A shift that a key brings along is no shift.
    #expect(desk.text([0xE0, 0x2A, 0xE0, 0x48, 0xE0, 0xAA, 0x1E]) == "\u{1B}[Aa")
  }

  @Test func charactersThatAreNotOnAKey() {
    var desk = Desk()
    // Alt and 2 3 3 on the keypad.
    #expect(desk.text([0x38, 0x50, 0xD0, 0x51, 0xD1, 0x51, 0xD1, 0xB8]) == "é")
    desk.map.set(41, 0, KeySymbol(.dead, 1))
    #expect(desk.text([0x29, 0x12]) == "é")
    #expect(desk.text([0x29, 0x29]) == "'")
    #expect(desk.text([0x29, 0x39]) == "'")
    #expect(desk.text([0x29, 0x2C]) == "'z")
    desk.map.set(18, Modifier.altGraph, KeySymbol(character: 0x20AC))
    #expect(desk.text([0xE0, 0x38, 0x12, 0xE0, 0xB8]) == "€")
    desk.map.set(40, 0, KeySymbol(.letter, 0xE4))
    desk.map.set(40, Modifier.shift, KeySymbol(.letter, 0xC4))
    #expect(desk.text([0x28, 0x3A, 0x28]) == "äÄ")
    desk.keys.isUTF8 = false
    #expect(desk.take([0x28]) == [.input([0xC4])])
  }

  @Test func mapsChange() {
    var map = KeyMap()
    #expect(map.symbol(30, Modifier.altGraph | Modifier.alt) == nil)
    map.set(30, Modifier.altGraph | Modifier.alt, KeySymbol(.latin, 0x78))
    #expect(map.symbol(30, Modifier.altGraph | Modifier.alt) == KeySymbol(.latin, 0x78))
    #expect(map.symbol(31, Modifier.altGraph | Modifier.alt) == KeySymbol.none)
    map.removeTable(Modifier.altGraph | Modifier.alt)
    #expect(map.symbol(30, Modifier.altGraph | Modifier.alt) == nil)
    map.removeTable(0)
    #expect(map.symbol(30, 0) != nil)
    // As /usr/include/linux/keyboard.h has them.
    #expect(map.symbol(30, 0)?.bits == 0x0B61 && map.symbol(59, 0)?.bits == 0x0100 && map.symbol(59, Modifier.alt)?.bits == 0x0500)
    #expect(KeySymbol(character: 0x20AC).bits == 0xD0AC && KeySymbol(bits: 0xD0AC).character == 0x20AC)
  }

  @Test(arguments: 1...UInt64(rounds(4, long: 100))) func anyScanCodesAreHarmless(seed: UInt64) {
    var random = RandomNumbers(seed)
    var desk = Desk()
    for _ in 0..<50_000 {
      let value = random.next()
      desk.modes.applicationKeypad = value & 64 != 0
      _ = desk.take([value & 7 == 0 ? 0xE0 : value & 63 == 1 ? 0xE1 : UInt8(truncatingIfNeeded: value >> 8)])
      #expect(desk.keyboard.modifiers < 16)
    }
  }
}
