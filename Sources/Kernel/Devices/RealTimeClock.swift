import BootData
import Machine
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// /dev/rtc0: the clock that a battery keeps going, its alarm, and interrupts to count. One at a time has it open.
/// SPEC: rtc(4); Linux uapi/linux/rtc.h.
public final class RealTimeClock: Device, OpenFile, InterruptHandler {
  private struct Rank: LockRank { static let level: UInt8 = 82 }

  /// What has happened and nobody has read; as a timer it is the periodic interrupt, at more frequencies than the chip has.
  private final class Events: PeriodicTimer {
    /// As read gives them: the causes, and how many interrupts in the upper bytes.
    let data = InterruptSpinLock<UInt32, Rank>(0)
    let changed = WaitQueue()
    override func expire(_ times: UInt64) { count(UInt32(clamping: times), 0x40) }
    func count(_ times: UInt32, _ causes: UInt8) {
      // RTC_IRQF: any of them.
      data.withLock { $0 = ($0 &+ times << 8) | 0x80 | UInt32(causes) }
      changed.wake()
    }
  }

  private struct State {
    var isOpen = false
    /// Periodic interrupts a second, and whether they come.
    var frequency: UInt32 = 1
    var isPeriodic = false
    /// When the alarm is: the chip knows the time of day alone.
    var alarm = CalendarTime(secondsSinceEpoch: 0)
    var hasAlarm = false
  }
  private let state = InterruptSpinLock<State, Rank>(State())
  private let events = Events()
  /// More often is for administrators. SPEC: Linux's `max_user_freq`.
  private static var fastest: UInt32 { 64 }

  /// Makes the clock known, if there is one.
  @export(interface) public static func start() {
    guard CMOSClock.time != nil else { return log("rtc: there is none, or it has stopped") }
    let clock = RealTimeClock()
    _ = CMOSClock.setInterrupt(CMOSClock.updates | CMOSClock.alarms | 0x40, false)
    Interrupts.connect(line: 8, pci: false, handler: clock)
    DeviceRegistry.register("rtc0", major: 254, minor: 0, clock)
  }

  public func handleInterrupt() -> Bool {
    let causes = CMOSClock.takeCauses()
    tell(causes)
    return causes != 0
  }

  private func tell(_ causes: UInt8) {
    if causes == 0 { return }
    events.count(1, causes)
    guard causes & CMOSClock.alarms != 0 else { return }
    // It comes once.
    state.withLock { $0.hasAlarm = false }
    setInterrupt(CMOSClock.alarms, false)
  }

  private func setInterrupt(_ cause: UInt8, _ isOn: Bool) { tell(CMOSClock.setInterrupt(cause, isOn)) }

  // MARK: As a file

  public func open(_ inode: Inode, flags: UInt32) throws(Errno) -> any OpenFile {
    let isFree = state.withLock { state in
      if state.isOpen { return false }
      state.isOpen = true
      return true
    }
    if !isFree { throw .resourceBusy }
    events.data.withLock { $0 = 0 }
    return self
  }

  /// The alarm stays: it may be what somebody is to be woken by.
  public func close(_ description: FileDescription) {
    setInterrupt(CMOSClock.updates, false)
    events.set(due: nil, interval: 0)
    state.withLock { ($0.isOpen, $0.isPeriodic) = (false, false) }
  }

  public func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    if buffer.count < 4 { throw .invalidArgument }
    let data: UInt32 = try events.changed.wait(orFail: description.isNonBlocking, reason: "clock interrupt") {
      events.data.withLock { data in
        defer { data = 0 }
        return data == 0 ? nil : data
      }
    }
    let bytes: [4 of UInt8] = [UInt8(truncatingIfNeeded: data), UInt8(data >> 8 & 0xFF), UInt8(data >> 16 & 0xFF), UInt8(data >> 24)]
    return try buffer.put(bytes.span)
  }

  public func poll(_ table: PollTable?) -> PollEvents {
    table?.add(events.changed)
    return events.data.withLock { $0 } == 0 ? [] : [.readable, .normalRead]
  }

  // MARK: Control

  public func control(_ command: UInt32, _ argument: UInt32, _ description: FileDescription) throws(Errno) -> Int32 {
    switch command {
    case 0x7001, 0x7002: try enableAlarm(command == 0x7001)  // RTC_AIE_ON, RTC_AIE_OFF
    case 0x7003, 0x7004: setInterrupt(CMOSClock.updates, command == 0x7003)  // RTC_UIE_ON, RTC_UIE_OFF
    case 0x7005, 0x7006: try enablePeriodic(command == 0x7005)  // RTC_PIE_ON, RTC_PIE_OFF
    case 0x4024_7007: try setDailyAlarm(try time(argument, isOfDay: true))  // RTC_ALM_SET
    case 0x8024_7008: try put(state.withLock { $0.alarm }, argument)  // RTC_ALM_READ
    case 0x8024_7009: try put(now(), argument)  // RTC_RD_TIME
    case 0x4024_700A:  // RTC_SET_TIME
      try require(.time)
      let time = try time(argument)
      // The chip has no century.
      if time.year > 2069 { throw .invalidArgument }
      CMOSClock.set(time)
    case 0x8004_700B: try UserMemory.write32(state.withLock { $0.frequency }, to: argument)  // RTC_IRQP_READ
    case 0x4004_700C: try setFrequency(argument)  // RTC_IRQP_SET
    case 0x8004_700D: try UserMemory.write32(1900, to: argument)  // RTC_EPOCH_READ
    case 0x4028_700F: try setAlarm(argument)  // RTC_WKALM_SET
    case 0x8028_7010:  // RTC_WKALM_RD
      let (alarm, isOn) = state.withLock { ($0.alarm, $0.hasAlarm) }
      try UserMemory.write32(isOn ? 1 : 0, to: argument)
      try put(alarm, argument &+ 4)
    default: throw .inappropriateIOCTLForDevice
    }
    return 0
  }

  private func require(_ capability: Capability) throws(Errno) {
    if !Task.currentTask.process.who.has(capability) { throw .permissionDenied }
  }

  private func now() throws(Errno) -> CalendarTime {
    guard let time = CMOSClock.time else { throw .invalidArgument }
    return time
  }

  /// `struct rtc_time`: second, minute, hour, day, month from 0 on, years since 1900, weekday, day of the year, summer time.
  private func put(_ time: CalendarTime, _ address: UInt32) throws(Errno) {
    let values = [time.second, time.minute, time.hour, time.day, time.month - 1, time.year - 1900, time.weekday, time.dayOfYear, 0]
    for (index, value) in values.enumerated() {
      try UserMemory.write32(UInt32(truncatingIfNeeded: value), to: address &+ UInt32(index) * 4)
    }
  }

  /// A time that there is; of which only that of the day counts, the day being today.
  private func time(_ address: UInt32, isOfDay: Bool = false) throws(Errno) -> CalendarTime {
    var values: [6 of Int] = .init(repeating: 0)
    for index in 0..<6 {
      let value = Int32(bitPattern: try UserMemory.read32(address &+ UInt32(index) * 4))
      // Small enough to count with.
      guard isOfDay && index > 2 || value >= 0 && value < 10_000 else { throw .invalidArgument }
      values[index] = Int(value)
    }
    var time =
      isOfDay ? try now() : CalendarTime(year: values[5] + 1900, month: values[4] + 1, day: values[3], hour: 0, minute: 0, second: 0)
    (time.hour, time.minute, time.second) = (values[2], values[1], values[0])
    if !time.isValid { throw .invalidArgument }
    return time
  }

  // MARK: The alarm

  /// The next time that the clock shows a time of the day.
  private func setDailyAlarm(_ time: CalendarTime) throws(Errno) {
    var alarm = time
    if alarm.secondsSinceEpoch <= (try now()).secondsSinceEpoch { alarm = CalendarTime(secondsSinceEpoch: alarm.secondsSinceEpoch + 86400) }
    arm(alarm, false)
  }

  /// `struct rtc_wkalrm`: whether it is on, whether it has been, two bytes of nothing, and the time.
  private func setAlarm(_ address: UInt32) throws(Errno) {
    let isOn = try UserMemory.read32(address) & 0xFF != 0
    let alarm = try time(address &+ 4)
    let left = alarm.secondsSinceEpoch - (try now()).secondsSinceEpoch
    if isOn, left <= 0 {
      state.withLock { ($0.alarm, $0.hasAlarm) = (alarm, false) }
      return events.count(1, CMOSClock.alarms)
    }
    // The chip compares the time of day alone.
    if left > 86400 { throw .invalidArgument }
    arm(alarm, isOn)
  }

  private func arm(_ alarm: CalendarTime, _ isOn: Bool) {
    setInterrupt(CMOSClock.alarms, false)
    CMOSClock.setAlarm(alarm)
    state.withLock { ($0.alarm, $0.hasAlarm) = (alarm, isOn) }
    if isOn { setInterrupt(CMOSClock.alarms, true) }
  }

  private func enableAlarm(_ isOn: Bool) throws(Errno) {
    state.withLock { $0.hasAlarm = isOn }
    setInterrupt(CMOSClock.alarms, isOn)
  }

  // MARK: The periodic interrupt

  private func setFrequency(_ frequency: UInt32) throws(Errno) {
    guard frequency >= 1, frequency <= 8192 else { throw .invalidArgument }
    if frequency > Self.fastest { try require(.resource) }
    let isPeriodic = state.withLock { state in
      state.frequency = frequency
      return state.isPeriodic
    }
    if isPeriodic { run(frequency) }
  }

  private func enablePeriodic(_ isOn: Bool) throws(Errno) {
    let frequency = state.withLock { $0.frequency }
    if isOn, frequency > Self.fastest { try require(.resource) }
    state.withLock { $0.isPeriodic = isOn }
    if isOn { run(frequency) } else { events.set(due: nil, interval: 0) }
  }

  private func run(_ frequency: UInt32) {
    let interval = 1_000_000_000 / UInt64(frequency)
    events.set(due: .after(interval), interval: interval)
  }
}
