/// Something that a person has done to a device, or asks of it. SPEC: Linux uapi/linux/input.h, `struct input_event`.
public struct InputEvent: Equatable, Sendable {
  public var type: EventType
  public var code: UInt16
  public var value: Int32
  /// Nanoseconds, of the clock that its reader has chosen.
  public var time: UInt64

  public init(_ type: EventType, _ code: UInt16, _ value: Int32, time: UInt64 = 0) {
    (self.type, self.code, self.value, self.time) = (type, code, value, time)
  }

  /// Ends what belongs together.
  public static func report(time: UInt64 = 0) -> InputEvent { InputEvent(.synchronisation, 0, 0, time: time) }
  public var isReport: Bool { type == .synchronisation && code == 0 }
}

/// What events are about. SPEC: Linux Documentation/input/event-codes.rst.
public struct EventType: RawRepresentable, Equatable, Sendable {
  public var rawValue: UInt16
  public init(rawValue: UInt16) { self.rawValue = rawValue }
  public static let synchronisation = EventType(rawValue: 0), key = EventType(rawValue: 1), relative = EventType(rawValue: 2)
  public static let miscellaneous = EventType(rawValue: 4), light = EventType(rawValue: 0x11), repetition = EventType(rawValue: 0x14)

  /// How many codes there may be of a type, 0 for types that are none; of the first, how many types there may be.
  public var codes: Int {
    switch rawValue {
    case 0: 0x20
    case 1: 0x300
    case 2: 0x10
    case 3: 0x40
    case 4, 0x12: 8
    case 5: 0x11
    case 0x11: 0x10
    case 0x15: 0x80
    default: 0
    }
  }
}

/// Events on their way to one reader, who gets them in packets that end with a report. SPEC: Linux
/// Documentation/input/event-codes.rst, SYN_REPORT and SYN_DROPPED.
public struct EventRing: Sendable {
  private static let capacity = 64
  private var events: [InputEvent]
  /// The place for the next one, of the oldest one, and behind the last complete packet.
  private var head = 0, tail = 0, packetEnd = 0

  public init() { events = Array(repeating: .report(), count: Self.capacity) }

  private func next(_ index: Int) -> Int { (index + 1) % Self.capacity }

  public var isEmpty: Bool { head == tail }
  /// Whether there is a complete packet.
  public var isReadable: Bool { packetEnd != tail }

  /// Adds an event. When there is no room, what nobody has read is lost, and the reader is told.
  public mutating func put(_ event: InputEvent) {
    // A packet with nothing in it is none.
    if event.isReport, packetEnd == head { return }
    events[head] = event
    head = next(head)
    if head == tail {
      tail = (head + Self.capacity - 2) % Self.capacity
      events[tail] = Self.dropped(event.time)
      packetEnd = tail
    }
    if event.isReport { packetEnd = head }
  }

  private static func dropped(_ time: UInt64) -> InputEvent { InputEvent(.synchronisation, 3, 0, time: time) }

  public mutating func take() -> InputEvent? {
    if !isReadable { return nil }
    let event = events[tail]
    tail = next(tail)
    return event
  }

  /// Forgets everything, and tells the reader so with the next packet, if there was anything.
  public mutating func drop(time: UInt64) {
    if isEmpty { return }
    clear()
    events[head] = Self.dropped(time)
    head = next(head)
  }

  private mutating func clear() { (tail, packetEnd) = (head, head) }

  /// Forgets the events of a type, whose state the reader is about to get.
  public mutating func remove(_ type: EventType) {
    var end = tail
    packetEnd = tail
    var inPacket = 1
    var index = tail
    while index != head {
      let event = events[index]
      index = next(index)
      if event.type == type || event.isReport && inPacket == 0 { continue }
      events[end] = event
      end = next(end)
      inPacket += 1
      if event.isReport {
        inPacket = 0
        packetEnd = end
      }
    }
    head = end
  }
}
