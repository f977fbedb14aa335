import BootData
import CMachine
import Sync

/// The clock that a battery keeps going. SPEC: Motorola MC146818A datasheet.
public enum CMOSClock {
  /// What it interrupts for, as registers B and C have it.
  public static var updates: UInt8 { 0x10 }
  public static var alarms: UInt8 { 0x20 }
  private static let lock = RawSpinLock()

  // SAFETY: the lock is held between the index and the data; ports 0x70 and 0x71 are the PC's fixed CMOS.
  private static func read(_ register: UInt8) -> UInt8 {
    unsafe outb(0x70, register)
    return unsafe inb(0x71)
  }
  private static func write(_ register: UInt8, _ value: UInt8) {
    unsafe outb(0x70, register)
    unsafe outb(0x71, value)
  }

  private static var isUpdating: Bool { read(10) & 0x80 != 0 }
  private static func all() -> [UInt8] { [0, 2, 4, 7, 8, 9].map { read($0) } }

  /// What it shows: two equal readings with no update between them. Nil where there is none.
  public static var time: CalendarTime? {
    for _ in 0..<10_000 {
      let found: (registers: [UInt8], statusB: UInt8)? = lock.withInterruptsOff {
        if isUpdating { return nil }
        let first = all()
        return !isUpdating && first == all() ? (first, read(11)) : nil
      }
      if let found { return CalendarTime(registers: found.registers, statusB: found.statusB) }
    }
    return nil
  }

  /// Sets it to a time of 1970 to 2069.
  public static func set(_ time: CalendarTime) {
    lock.withInterruptsOff {
      let statusB = read(11)
      // It stands still meanwhile.
      write(11, statusB | 0x80)
      for (register, value) in zip([UInt8(0), 2, 4, 7, 8, 9], time.registers(statusB: statusB)) { write(register, value) }
      write(11, statusB & ~0x80)
    }
  }

  /// Chooses the time of day at which it raises the alarm.
  public static func setAlarm(_ time: CalendarTime) {
    lock.withInterruptsOff {
      for (register, value) in zip([UInt8(1), 3, 5], time.registers(statusB: read(11))) { write(register, value) }
    }
  }

  /// Lets it interrupt for something, or no more. What it was to interrupt for, and has not: nobody else will be told. Interrupt-safe.
  public static func setInterrupt(_ cause: UInt8, _ isOn: Bool) -> UInt8 {
    lock.withInterruptsOff {
      let statusB = read(11)
      // What happened while nobody had asked for it is forgotten.
      let missed = read(12) & statusB & (isOn ? 0x70 : 0x70 & ~cause)
      write(11, isOn ? statusB | cause : statusB & ~cause)
      return missed
    }
  }

  /// What it has interrupted for. Interrupt-safe.
  public static func takeCauses() -> UInt8 {
    lock.withInterruptsOff {
      let causes = read(12)
      return causes & 0x80 == 0 ? 0 : causes & read(11) & 0x70
    }
  }
}
