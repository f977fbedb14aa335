import InputEvents
import Machine
import Primitives
import Sync
import SystemABI
import Threads
import VFS

/// One open of an input device. SPEC: Linux Documentation/input/input.rst; uapi/linux/input.h.
final class OpenInput: OpenFile {
  private struct Reader: ~Copyable {
    var ring = EventRing()
    var mask = EventMask()
    var hasWallClock = true
    var isRevoked = false
  }
  private let device: InputDevice
  private let reader = InterruptSpinLock<Reader, InputReaderRank>(Reader())
  /// Of `struct input_event`: seconds, microseconds, type, code and value.
  private static var eventSize: Int { 16 }

  init(_ device: InputDevice) { self.device = device }

  func close(_ description: FileDescription) { device.remove(self) }

  private var isRevoked: Bool { reader.withLock { $0.isRevoked } }

  /// An event for it. Interrupt-safe.
  func put(_ event: InputEvent) {
    reader.withLock { reader in
      if reader.isRevoked || !reader.mask.allows(event) { return }
      var event = event
      if reader.hasWallClock { event.time = UInt64(bitPattern: Clock.realtime(at: event.time)) }
      reader.ring.put(event)
    }
  }

  func poll(_ table: PollTable?) -> PollEvents {
    table?.add(device.changed)
    return reader.withLock { reader in
      if reader.isRevoked { return [.hangUp, .error] }
      return reader.ring.isReadable ? [.writable, .normalWrite, .readable, .normalRead] : [.writable, .normalWrite]
    }
  }

  // MARK: Events

  func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    if buffer.count > 0, buffer.count < Self.eventSize { throw .invalidArgument }
    if isRevoked { throw .operationNotSupportedByDevice }
    if buffer.count == 0 { return 0 }
    // Nil once it is taken away.
    let first: InputEvent? = try device.changed.wait(orFail: description.isNonBlocking, reason: "input read") {
      reader.withLock { reader -> InputEvent?? in reader.isRevoked ? .some(nil) : reader.ring.take().map { .some($0) } }
    }
    guard var event = first else { throw .operationNotSupportedByDevice }
    var total = 0
    while true {
      let bytes = Self.bytes(event)
      do throws(Errno) { total += try buffer.put(bytes.span) } catch {
        if total > 0 { break }
        throw error
      }
      guard buffer.count >= Self.eventSize, let next = reader.withLock({ $0.ring.take() }) else { break }
      event = next
    }
    return total
  }

  private static func bytes(_ event: InputEvent) -> [16 of UInt8] {
    var bytes: [16 of UInt8] = .init(repeating: 0)
    var out = bytes.mutableSpan
    out.put32(UInt32(truncatingIfNeeded: event.time / 1_000_000_000), at: 0)
    out.put32(UInt32(event.time % 1_000_000_000 / 1000), at: 4)
    out.put16(event.type.rawValue, at: 8)
    out.put16(event.code, at: 10)
    out.put32(UInt32(bitPattern: event.value), at: 12)
    return bytes
  }

  /// What a program writes has happened, as far as the device knows of such things; lights and the repetition it does.
  func write(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> (Int, UInt64) {
    if buffer.count > 0, buffer.count < Self.eventSize { throw .invalidArgument }
    if isRevoked { throw .operationNotSupportedByDevice }
    var total = 0
    while buffer.count >= Self.eventSize {
      var bytes: [16 of UInt8] = .init(repeating: 0)
      var span = bytes.mutableSpan
      do throws(Errno) { total += try buffer.take(into: &span) } catch {
        if total > 0 { break }
        throw error
      }
      let event = bytes.span
      let type = EventType(rawValue: event.u16(8) ?? 0)
      device.report(InputEvent(type, event.u16(10) ?? 0, Int32(bitPattern: event.u32(12) ?? 0), time: Clock.monotonic))
    }
    return (total, 0)
  }

  // MARK: Control

  func control(_ command: UInt32, _ argument: UInt32, _ description: FileDescription) throws(Errno) -> Int32 {
    if isRevoked { throw .operationNotSupportedByDevice }
    switch command {
    case 0x8004_4501: try UserMemory.write32(0x10001, to: argument)  // EVIOCGVERSION
    case 0x8008_4502:  // EVIOCGID
      try UserMemory.write32(UInt32(device.identity.0) | UInt32(device.identity.1) << 16, to: argument)
      try UserMemory.write32(UInt32(device.identity.2) | UInt32(device.identity.3) << 16, to: argument &+ 4)
    case 0x8008_4503:  // EVIOCGREP
      guard let (delay, period) = device.state.withLock({ $0.input.repetition }) else { throw .noFunction }
      try UserMemory.write32(UInt32(bitPattern: delay), to: argument)
      try UserMemory.write32(UInt32(bitPattern: period), to: argument &+ 4)
    case 0x4008_4503:  // EVIOCSREP
      if device.state.withLock({ $0.input.repetition == nil }) { throw .noFunction }
      for code in UInt16(0)..<2 {
        let value = Int32(bitPattern: try UserMemory.read32(argument &+ UInt32(code) * 4))
        device.report(InputEvent(.repetition, code, value, time: Clock.monotonic))
      }
    case 0x4004_4590: if argument != 0 { try device.own(self) } else { try device.disown(self) }  // EVIOCGRAB
    case 0x4004_4591:  // EVIOCREVOKE
      if argument != 0 { throw .invalidArgument }
      reader.withLock { $0.isRevoked = true }
      try? device.disown(self)
      device.changed.wake()
    case 0x8010_4592: try getMask(argument)  // EVIOCGMASK
    case 0x4010_4593: try setMask(argument)  // EVIOCSMASK
    case 0x4004_45A0: try setClock(try UserMemory.read32(argument))  // EVIOCSCLOCKID
    default: return try get(command, argument)
    }
    return 0
  }

  private func setClock(_ number: UInt32) throws(Errno) {
    // CLOCK_REALTIME; CLOCK_MONOTONIC and CLOCK_BOOTTIME, which are one clock.
    guard number == 0 || number == 1 || number == 7 else { throw .invalidArgument }
    reader.withLock { reader in
      if reader.hasWallClock == (number == 0) { return }
      reader.hasWallClock = number == 0
      reader.ring.drop(time: number == 0 ? UInt64(bitPattern: Clock.realtime) : Clock.monotonic)
    }
  }

  /// Requests with any size: as much as there is room for is given, and how much that is answered.
  private func get(_ command: UInt32, _ argument: UInt32) throws(Errno) -> Int32 {
    // _IOC(_IOC_READ, 'E', …)
    guard command >> 30 == 2, command >> 8 & 0xFF == 0x45 else { throw .invalidArgument }
    let bytes = try about(command & 0xFF)
    var room = IOBuffer(argument, Int(command >> 16 & 0x3FFF))
    return Int32(try room.put(bytes.span))
  }

  private func about(_ request: UInt32) throws(Errno) -> [UInt8] {
    switch request {
    case 0x06: return Array(device.name.utf8) + [0]  // EVIOCGNAME
    case 0x07: return Array(device.place.utf8) + [0]  // EVIOCGPHYS
    case 0x08: throw .noSuchFileOrDirectory  // EVIOCGUNIQ: nothing sets it apart from others of its kind
    case 0x18: return current(.key) { $0.keys }  // EVIOCGKEY
    case 0x19: return current(.light) { $0.lights }  // EVIOCGLED
    case 0x09, 0x1A, 0x1B: return [0, 0, 0, 0]  // EVIOCGPROP, EVIOCGSND, EVIOCGSW: there are none
    case 0x20..<0x40:  // EVIOCGBIT
      let type = EventType(rawValue: UInt16(request & 0x1F))
      guard let codes = device.state.withLock({ $0.input.codes(type) }) else { throw .invalidArgument }
      return codes.bytes
    default: throw .invalidArgument
    }
  }

  /// How something is now: what is under way of it would only say so again.
  private func current(_ type: EventType, _ codes: (borrowing InputState) -> CodeSet) -> [UInt8] {
    device.state.withLock { state in
      reader.withLock { $0.ring.remove(type) }
      return codes(state.input).bytes
    }
  }

  // MARK: Masks

  /// `struct input_mask`: a type, the bytes there is room for, and their address in 64 bits.
  private func mask(_ address: UInt32) throws(Errno) -> (type: EventType?, room: IOBuffer) {
    let type = try UserMemory.read32(address)
    let size = try UserMemory.read32(address &+ 4)
    let bytes = try UserMemory.read32(address &+ 8)
    if try UserMemory.read32(address &+ 12) != 0 { throw .badAddress }
    let meant = EventType(rawValue: UInt16(clamping: type))
    return (meant.codes > 0 ? meant : nil, IOBuffer(bytes, Int(clamping: size)))
  }

  private func getMask(_ address: UInt32) throws(Errno) {
    var (type, room) = try mask(address)
    if let type {
      let all = [UInt8](repeating: 0xFF, count: CodeSet(type.codes).bytes.count)
      let bytes = reader.withLock { $0.mask[type]?.bytes } ?? all
      _ = try room.put(bytes.span)
    }
    if room.count > 0 { try room.putZeroes() }
  }

  private func setMask(_ address: UInt32) throws(Errno) {
    var (type, room) = try mask(address)
    guard let type else { return }
    if room.count % 4 != 0 { throw .invalidArgument }
    var codes = CodeSet(type.codes)
    codes.set(try room.takeBytes(limit: codes.bytes.count))
    reader.withLock { $0.mask[type] = codes }
  }
}
