import BootData
import CMachine
import Sync
import Synchronization

/// A driver's interrupt handler. Runs with interrupts off; must not sleep or free the last reference of anything large.
public protocol InterruptHandler: AnyObject {
  /// Handles the interrupt; answers whether its device had raised one (lines may be shared).
  func handleInterrupt() -> Bool
}

/// Interrupt controllers: local APIC and IOAPIC, or the 8259 pair under `noapic`.
///
/// SPEC: Intel SDM 3A §10, 82093AA IOAPIC datasheet, 8259A datasheet.
public enum Interrupts {
  static let firstLine = 0x20
  static let timerVector: UInt32 = 0xEF
  static let rescheduleVector: UInt32 = 0xFD
  static let shootdownVector: UInt32 = 0xFE

  nonisolated(unsafe) static var local: UInt32 = 0  // mapped registers; 0 without an APIC
  /// Filled at boot; `handlers` grows under `lock`.
  private final class Tables {
    var ioapics: [(registers: UInt32, base: UInt32, count: UInt32)] = []
    var overrides: [InterruptTopology.Override] = []
    var handlers: [[any InterruptHandler]] = Array(repeating: [], count: 64)
  }
  nonisolated(unsafe) private static var tables: Tables! = nil
  nonisolated(unsafe) private static var counts: InlineArray<256, UInt32> = .init(repeating: 0)
  private static let lock = RawSpinLock()

  public static var usesAPIC: Bool { unsafe local != 0 }

  /// Boot CPU: routes nothing yet, masks the PICs.
  static func start(_ topology: InterruptTopology?) {
    // SAFETY: boot, one CPU; ports and registers are the controllers' own.
    unsafe tables = Tables()
    remapPIC()
    guard let topology, !topology.ioapics.isEmpty else { return }
    unsafe local = KernelSpace.mapDevice(physical: UInt64(topology.localAPIC), size: 4096)
    unsafe tables.overrides = topology.overrides
    for controller in topology.ioapics {
      let registers = KernelSpace.mapDevice(physical: UInt64(controller.address), size: 32)
      unsafe mmio_write32(registers, 1)
      let count = unsafe (mmio_read32(registers + 16) >> 16 & 0xFF) + 1
      unsafe tables.ioapics.append((registers, controller.base, count))
      for pin in 0..<count { writeRedirection(registers, pin, low: 1 << 16, high: 0) }
    }
    startLocal()
  }

  /// Every CPU: software-enables its local APIC.
  static func startLocal() {
    guard usesAPIC else { return }
    unsafe mmio_write32(local + 0xF0, 0x1FF)
    unsafe mmio_write32(local + 0x80, 0)
    unsafe mmio_write32(local + 0x350, 1 << 16)  // LINT0: nothing from the PIC
    unsafe mmio_write32(local + 0x360, 0x400)  // LINT1: NMI
    unsafe mmio_write32(local + 0x320, UInt32(timerVector))  // one-shot
    unsafe mmio_write32(local + 0x3E0, 0xB)  // divide by 1
  }

  static var localID: UInt32 { usesAPIC ? unsafe mmio_read32(local + 0x20) >> 24 : 0 }

  private static func remapPIC() {
    unsafe outb(0x20, 0x11)
    unsafe outb(0xA0, 0x11)
    unsafe outb(0x21, 0x20)
    unsafe outb(0xA1, 0x28)
    unsafe outb(0x21, 4)
    unsafe outb(0xA1, 2)
    unsafe outb(0x21, 1)
    unsafe outb(0xA1, 1)
    unsafe outb(0x21, 0xFB)  // only the cascade
    unsafe outb(0xA1, 0xFF)
  }

  private static func writeRedirection(_ registers: UInt32, _ pin: UInt32, low: UInt32, high: UInt32) {
    unsafe mmio_write32(registers, 0x10 + pin * 2 + 1)
    unsafe mmio_write32(registers + 16, high)
    unsafe mmio_write32(registers, 0x10 + pin * 2)
    unsafe mmio_write32(registers + 16, low)
  }

  /// Connects a handler to an ISA interrupt or a PCI function's interrupt line, 0-15.
  public static func connect(line: UInt8, pci: Bool, handler: any InterruptHandler) {
    // SAFETY: `handlers` is changed under `lock` with interrupts off, and only grows.
    guard line < 24 else { return }
    let flags = unsafe interrupts_save()
    lock.acquire()
    var global = UInt32(line)
    var level = pci
    var activeLow = false
    if usesAPIC, let override = unsafe tables.overrides.first(where: { $0.isa == line }) {
      global = override.global
      level = override.level || pci
      activeLow = override.activeLow
    }
    if global < 64 {
      unsafe tables.handlers[Int(global)].append(handler)
      route(global, level: level, activeLow: activeLow)
    }
    lock.release()
    unsafe interrupts_restore(flags)
  }

  private static func route(_ global: UInt32, level: Bool, activeLow: Bool) {
    if usesAPIC {
      for controller in unsafe tables.ioapics where global >= controller.base && global < controller.base + controller.count {
        let low = UInt32(firstLine) + global | (activeLow ? 1 << 13 : 0) | (level ? 1 << 15 : 0)
        let destination = unsafe cpuBlock(0).pointee.apic_id
        writeRedirection(controller.registers, global - controller.base, low: low, high: destination << 24)
      }
    } else {
      let port: UInt16 = global < 8 ? 0x21 : 0xA1
      unsafe outb(port, inb(port) & ~(1 << UInt8(global & 7)))
      if level, global >= 3 {
        let edge: UInt16 = global < 8 ? 0x4D0 : 0x4D1
        unsafe outb(edge, inb(edge) | 1 << UInt8(global & 7))
      }
    }
  }

  static func dispatch(_ vector: UInt32) {
    unsafe counts[Int(vector)] &+= 1
    switch vector {
    case timerVector:
      acknowledge(vector)
      unsafe timer_interrupt()
    case rescheduleVector:
      acknowledge(vector)  // the flag it was sent for is already set; the way out acts on it
    case shootdownVector:
      acknowledge(vector)
      TLB.serve()
    case 0xFF: break
    default:
      let line = Int(vector) - firstLine
      if line == 0, !usesAPIC {
        acknowledge(vector)
        unsafe timer_interrupt()
        return
      }
      guard line < 64 else { return }
      for handler in unsafe tables.handlers[line] { _ = handler.handleInterrupt() }
      acknowledge(vector)
    }
  }

  private static func acknowledge(_ vector: UInt32) {
    if usesAPIC {
      unsafe mmio_write32(local + 0xB0, 0)
    } else {
      if vector >= 0x28 { unsafe outb(0xA0, 0x20) }
      unsafe outb(0x20, 0x20)
    }
  }

  /// How often a vector fired, for /proc/interrupts.
  public static func count(vector: Int) -> UInt32 { unsafe counts[vector] }

  private static func send(_ command: UInt32, to apicID: UInt32) {
    // SAFETY: interrupts are off around the two-part command register.
    let flags = unsafe interrupts_save()
    unsafe mmio_write32(local + 0x310, apicID << 24)
    unsafe mmio_write32(local + 0x300, command)
    while unsafe mmio_read32(local + 0x300) & 1 << 12 != 0 { cpu_relax() }
    unsafe interrupts_restore(flags)
  }

  /// Makes another CPU look at its `need_resched`.
  public static func sendReschedule(to cpu: Int) {
    send(rescheduleVector, to: unsafe cpuBlock(cpu).pointee.apic_id)
  }

  static func sendShootdown(to cpu: Int) {
    send(shootdownVector, to: unsafe cpuBlock(cpu).pointee.apic_id)
  }

  static func sendInit(to apicID: UInt32) { send(0x4500, to: apicID) }
  static func sendStartup(to apicID: UInt32, page: UInt32) { send(0x4600 | page, to: apicID) }

  /// Panic: an NMI to everybody else, and time for them to note where they were.
  static func stopOthers() {
    guard usesAPIC, Processors.count > 1 else { return }
    send(0xC4400, to: 0)
    Clock.spin(microseconds: 2000)
  }
}

/// A one-shot timer interrupt on the calling CPU.
public enum EventTimer {
  /// Local APIC timer ticks a millisecond.
  nonisolated(unsafe) private static var apicTicksPerMillisecond: UInt32 = 0

  static func calibrate() {
    // SAFETY: boot, one CPU; masked while it counts down.
    guard Interrupts.usesAPIC else {
      unsafe outb(0x21, inb(0x21) & ~1)
      return
    }
    let local = unsafe Interrupts.local
    unsafe mmio_write32(local + 0x320, 1 << 16)
    unsafe mmio_write32(local + 0x380, 0xFFFF_FFFF)
    Clock.spin(microseconds: 5000)
    let left = unsafe mmio_read32(local + 0x390)
    unsafe mmio_write32(local + 0x380, 0)
    unsafe mmio_write32(local + 0x320, Interrupts.timerVector)
    unsafe apicTicksPerMillisecond = max((0xFFFF_FFFF - left) / 5, 100)
  }

  /// Fires once, `nanoseconds` from now (clamped to what the hardware counts).
  public static func arm(after nanoseconds: UInt64) {
    // SAFETY: this CPU's own timer, or the one PIT of a uniprocessor.
    if Interrupts.usesAPIC {
      let bounded = min(max(nanoseconds, 1000), 1_000_000_000)
      let ticks = bounded * UInt64(unsafe apicTicksPerMillisecond) / 1_000_000
      unsafe mmio_write32(Interrupts.local + 0x380, UInt32(truncatingIfNeeded: max(ticks, 1)))
    } else {
      let bounded = min(max(nanoseconds, 10_000), 50_000_000)
      let count = UInt16(truncatingIfNeeded: max(bounded * 1193 / 1_000_000, 1))
      unsafe outb(0x43, 0x30)
      unsafe outb(0x40, UInt8(truncatingIfNeeded: count))
      unsafe outb(0x40, UInt8(count >> 8))
    }
  }

  /// No interrupt until armed again.
  public static func disarm() {
    if Interrupts.usesAPIC { unsafe mmio_write32(Interrupts.local + 0x380, 0) }
  }
}
