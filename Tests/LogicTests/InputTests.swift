import InputEvents
import Testing

@Suite struct InputTests {
  private func drain(_ ring: inout EventRing) -> [InputEvent] {
    var events: [InputEvent] = []
    while let event = ring.take() { events.append(event) }
    return events
  }
  private let a = InputEvent(.key, 30, 1), b = InputEvent(.key, 48, 1), x = InputEvent(.relative, 0, 5)

  @Test func packetsAreReadWhole() {
    var ring = EventRing()
    ring.put(a)
    let none = ring.take()
    #expect(!ring.isReadable && none == nil && !ring.isEmpty)
    ring.put(b)
    ring.put(.report())
    ring.put(x)
    #expect(drain(&ring) == [a, b, .report()])
    #expect(!ring.isReadable)
    ring.put(.report(time: 7))
    // Nothing is a packet of its own.
    ring.put(.report(time: 8))
    #expect(drain(&ring) == [x, .report(time: 7)])
  }

  @Test func whatIsTooMuchIsToldOf() {
    var ring = EventRing()
    for number in 0..<40 {
      ring.put(InputEvent(.relative, 0, Int32(number + 1), time: UInt64(number)))
      ring.put(.report(time: UInt64(number)))
    }
    let events = drain(&ring)
    #expect(events.first?.type == .synchronisation && events.first?.code == 3)
    #expect(events.count < 64 && events.suffix(2).first?.value == 40)
    // Of a packet that is longer than the ring the end is left.
    for number in 0..<200 { ring.put(InputEvent(.relative, 0, Int32(number))) }
    #expect(!ring.isReadable)
    ring.put(.report())
    let rest = drain(&ring)
    #expect(rest.first?.code == 3 && rest.dropLast().last?.value == 199 && rest.last == .report())
  }

  @Test func eventsAreTakenBack() {
    var ring = EventRing()
    for event in [a, x, .report(), b, .report(), x] { ring.put(event) }
    ring.remove(.key)
    #expect(drain(&ring) == [x, .report()])
    ring.put(.report())
    #expect(drain(&ring) == [x, .report()])
    ring.put(a)
    ring.drop(time: 9)
    #expect(!ring.isReadable)
    ring.put(b)
    ring.put(.report())
    #expect(drain(&ring) == [InputEvent(.synchronisation, 3, 0, time: 9), b, .report()])
    ring.drop(time: 10)
    #expect(ring.isEmpty)
  }

  /// Against the simplest ring there can be: whatever is read was put, in order, and ends with a report.
  @Test func randomEvents() {
    var random = RandomNumbers(5)
    var ring = EventRing()
    var last: Int32 = 0
    var put: Int32 = 0
    for _ in 0..<rounds(20_000, long: 2_000_000) {
      switch random.next() % 8 {
      case 0: ring.put(.report())
      case 1: if random.next() % 40 == 0 { ring.remove(.key) }
      case 2:
        if random.next() % 8 != 0 { continue }
        while let event = ring.take() {
          if event.type == .synchronisation { continue }
          #expect(event.value > last && event.value <= put)
          last = event.value
        }
      default:
        put += 1
        ring.put(InputEvent(random.next() % 2 == 0 ? .key : .relative, 1, put))
      }
    }
    #expect(last > 0)
  }

  @Test func onlyWhatIsNewIsAnEvent() {
    var state = InputState(repetition: (delay: 250, period: 33))
    state.add(.key, 30)
    state.add(.light, 1)
    state.add(.relative, 0)
    func isNew(_ type: EventType, _ code: UInt16, _ value: Int32) -> Bool { state.take(InputEvent(type, code, value)) }
    let down = [isNew(.key, 30, 1), isNew(.key, 30, 1), isNew(.key, 30, 2), state.keys[30]]
    #expect(down == [true, false, true, true])
    let up = [isNew(.key, 30, 0), isNew(.key, 30, 0), state.keys[30]]
    #expect(up == [true, false, false])
    let unknown = [isNew(.key, 48, 1), isNew(.key, 65535, 1), isNew(.relative, 1, 1), isNew(.relative, 0, 0)]
    #expect(unknown == [false, false, false, false])
    let lit = [isNew(.light, 1, 1), isNew(.light, 1, 7), state.lights[1]]
    #expect(lit == [true, false, true])
    let moved = [isNew(.relative, 0, 5), isNew(.relative, 0, 5)]
    #expect(moved == [true, true])
    let repeated = [
      isNew(.repetition, 0, 500), isNew(.repetition, 0, 500), isNew(.repetition, 1, -1), isNew(.repetition, 2, 1),
    ]
    #expect(repeated == [true, false, false, false])
    #expect(state.repetition?.delay == 500 && state.repetition?.period == 33)
    let reports = [isNew(.synchronisation, 0, 0), isNew(.synchronisation, 3, 0)]
    #expect(reports == [true, false])
    for type in [UInt16(3), 5, 0x12, 0x15, 0x17, 0x1F, 0x20, 65535] {
      let isEvent = isNew(EventType(rawValue: type), 0, 1)
      #expect(!isEvent)
    }
    #expect(state.codes(.synchronisation)?.bytes == [0x07, 0, 0x12, 0] && state.codes(.repetition) == nil)
    #expect(state.codes(.key)?.bytes.count == 96 && state.codes(.key)?[30] == true)
  }

  @Test func readersChoose() {
    var mask = EventMask()
    #expect(mask.allows(a) && mask.allows(x))
    mask[.key] = CodeSet(EventType.key.codes, 48)
    #expect(!mask.allows(a) && mask.allows(b) && mask.allows(x))
    mask[.synchronisation] = CodeSet(EventType.synchronisation.codes, EventType.key.rawValue)
    #expect(mask.allows(b) && !mask.allows(x) && mask.allows(.report()))
    var set = CodeSet(17, 16)
    #expect(set.bytes == [0, 0, 1, 0] && !set[17] && !set[40000])
    set.set([0xFF, 0xFF])
    #expect(set.bytes == [0xFF, 0xFF, 0, 0])
    set.set([1, 0, 0xFF, 0xFF])
    #expect(set.bytes == [1, 0, 1, 0])
  }

  /// Every key's bytes are those that make it, and no other's.
  @Test func scanCodesBothWays() {
    var codes = ScanCodes()
    var count = 0
    for code in UInt8(0)...255 {
      for isPressed in [true, false] {
        let event = KeyEvent(code, isPressed: isPressed)
        let bytes = ScanCodes.bytes(event)
        if bytes.isEmpty { continue }
        for byte in bytes.dropLast() { #expect(codes.take(byte) == nil) }
        let last = codes.take(bytes[bytes.count - 1])
        #expect(last == event)
        count += 1
      }
    }
    #expect(count == 2 * 107)
    let others = [codes.take(0x54), codes.take(0x55), codes.take(0)]
    #expect(others == [KeyEvent(99, isPressed: true), nil, nil])
  }

  private func packets(_ kind: MouseKind, _ bytes: [UInt8], gap: UInt64 = 1_000_000) -> [MousePacket] {
    var mouse = MousePackets(kind)
    var time: UInt64 = 1_000_000_000
    return bytes.compactMap {
      time += gap
      return mouse.take($0, time: time)
    }
  }

  @Test func mice() {
    #expect(packets(.plain, [0x09, 5, 3]) == [MousePacket(buttons: 1, x: 5, y: -3, wheel: 0)])
    #expect(packets(.plain, [0x3C, 0xFB, 0xFD]) == [MousePacket(buttons: 4, x: -5, y: 3, wheel: 0)])
    #expect(packets(.wheel, [0x08, 0, 0, 0xFF, 0x08, 0, 0, 1]).map(\.wheel) == [1, -1])
    #expect(packets(.wheel, [0x08, 0, 0, 0x80]).map(\.wheel) == [128])
    #expect(packets(.fiveButtons, [0x0A, 0, 0, 0x1F]) == [MousePacket(buttons: 0x0A, x: 0, y: 0, wheel: 1)])
    #expect(packets(.fiveButtons, [0x08, 0, 0, 0x28]) == [MousePacket(buttons: 0x10, x: 0, y: 0, wheel: 8)])
    // The beginning is found again, and what never came is not waited for.
    #expect(packets(.plain, [1, 2, 0x08, 1, 1]).count == 1)
    #expect(packets(.plain, [0x08, 1, 0x09, 5, 3], gap: 600_000_000).isEmpty)
    // An answer that is nobody's has the bit, too: what comes after half a second is a packet again.
    var mouse = MousePackets(.plain)
    let found = [(0xFA, 0), (0x08, 1_000_000_000), (1, 1_000_000_001), (1, 1_000_000_002)].map {
      mouse.take(UInt8($0.0), time: UInt64($0.1))
    }
    #expect(found == [nil, nil, nil, MousePacket(buttons: 0, x: 1, y: -1, wheel: 0)])
  }
}
