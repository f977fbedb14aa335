import CMachine

/// The two places where kernel text goes before any driver exists: QEMU's debug console (port 0xE9)
/// and the first serial port, polled.
public enum EarlyConsole {
  /// Whether port 0xE9 answers, which only emulators do.
  nonisolated(unsafe) static var hasDebugPort = false
  /// Whether the log also goes to COM1 (off with `quiet`, or once a terminal owns the port).
  nonisolated(unsafe) public static var serialEnabled = true

  public static func start() {
    // SAFETY: boot, one CPU; the ports are the PC's fixed COM1 and the emulator's debug port.
    unsafe hasDebugPort = inb(0xE9) == 0xE9
    unsafe outb(0x3F9, 0)  // no interrupts
    unsafe outb(0x3FB, 0x80)
    unsafe outb(0x3F8, 1)  // 115200 baud
    unsafe outb(0x3F9, 0)
    unsafe outb(0x3FB, 0x03)  // 8N1
    unsafe outb(0x3FA, 0xC7)  // FIFOs
    unsafe outb(0x3FC, 0x0B)
  }

  /// Turns the log's copy on COM1 on or off.
  public static func setSerial(_ on: Bool) { unsafe serialEnabled = on }

  static func put(_ byte: UInt8) {
    // SAFETY: output ports only; a lost race between CPUs mixes characters at worst.
    if unsafe hasDebugPort { unsafe outb(0xE9, byte) }
    if unsafe serialEnabled {
      if byte == 10 { putSerial(13) }
      putSerial(byte)
    }
  }

  private static func putSerial(_ byte: UInt8) {
    var spins = 0
    while unsafe inb(0x3FD) & 0x20 == 0, spins < 100_000 { spins += 1 }
    unsafe outb(0x3F8, byte)
  }
}
