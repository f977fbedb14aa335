import BootData
import CMachine
import Sync

/// Ending the machine.
public enum Power {
  /// What the firmware says about that; nil within where it says nothing.
  static let control = BootCell<ACPIPower?>()

  /// QEMU's isa-debug-exit: the emulator's status is (code << 1) | 1.
  public static func exitEmulator(code: UInt8) { unsafe outb(0xF4, code) }

  /// Turns the machine off: the emulator's exit device if it is there, else ACPI.
  public static func off() -> Never {
    // SAFETY: nothing returns from here.
    exitEmulator(code: 0x10)
    unsafe interrupts_disable()
    if control.isSet, let power = control.value { turnOff(power) }
    log("it is safe to turn the machine off")
    unsafe halt_forever()
    while true {}
  }

  private static func turnOff(_ power: ACPIPower) {
    // SAFETY: the ports are those that the firmware's tables give for this.
    if unsafe inw(power.controls[0]) & 1 == 0, power.enable.port != 0 {
      unsafe outb(power.enable.port, power.enable.value)
      for _ in 0..<100_000 where unsafe inw(power.controls[0]) & 1 == 0 { cpu_relax() }
    }
    for index in 0..<2 where power.controls[index] != 0 {
      // SLP_TYP, and SLP_EN.
      let old = unsafe inw(power.controls[index]) & ~0x3C00
      unsafe outw(power.controls[index], old | UInt16(power.offTypes[index]) << 10 | 0x2000)
    }
    Clock.spin(microseconds: 1_000_000)
  }

  /// Resets by ACPI's register, then by the keyboard controller, then by a triple fault.
  public static func reset() -> Never {
    // SAFETY: nothing returns from here.
    unsafe interrupts_disable()
    if control.isSet, let power = control.value, power.reset.port != 0 {
      unsafe outb(power.reset.port, power.reset.value)
      Clock.spin(microseconds: 10_000)
    }
    unsafe outb(0x64, 0xFE)
    Clock.spin(microseconds: 10_000)
    unsafe idt_load(UnsafeRawPointer(bitPattern: UInt(0xC000_0000))!, 0)
    unsafe halt_forever()
    while true {}
  }
}
