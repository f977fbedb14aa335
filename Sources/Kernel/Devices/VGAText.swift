import Machine
import Sync
import Terminal

struct ScreenRank: LockRank { static let level: UInt8 = 94 }

/// The PC's text screen. SPEC: IBM VGA: text memory at 0xB8000, cursor in CRTC registers 0x0E and 0x0F.
public final class VGAText: LogScreen, TerminalOutput {
  struct State: ~Copyable {
    var screen = TextScreen()
    let memory = RegisterWindow(physical: 0xB8000, size: UInt32(TextScreen.columns * TextScreen.rows * 2))
    let controller = PortWindow(base: 0x3D4, count: 2)

    mutating func show() {
      if let range = screen.takeDirty() {
        for index in range { memory.write16(UInt32(index) * 2, screen.cells[index]) }
      }
      let cursor = UInt16(screen.cursor)
      controller.write8(0, 0x0E)
      controller.write8(1, UInt8(cursor >> 8))
      controller.write8(0, 0x0F)
      controller.write8(1, UInt8(cursor & 0xFF))
    }
  }
  private let state = InterruptSpinLock<State, ScreenRank>(State())

  override public init() {
    super.init()
    write([27, 91, 50, 74].span)
  }

  public func write(_ bytes: borrowing Span<UInt8>) {
    state.withLock { state in
      for index in bytes.indices { state.screen.put(bytes[index]) }
      state.show()
    }
  }

  /// A byte of the kernel log, whose lines end in a line feed alone. Left out while the screen is in use: the log may be a panic's.
  override public func put(_ byte: UInt8) {
    state.withLockIfFree { state in
      if byte == 10 { state.screen.put(13) }
      state.screen.put(byte)
      state.show()
    }
  }
}

/// The PS/2 keyboard behind the 8042 controller. SPEC: Intel 8042 (IBM PS/2 Technical Reference).
public final class Keyboard: InterruptHandler {
  private let data = PortWindow(base: 0x60, count: 1)
  private let status = PortWindow(base: 0x64, count: 1)
  private let codes = InterruptSpinLock<ScanCodes, ScreenRank>(ScanCodes())
  private let terminal: TerminalDevice

  public init(_ terminal: TerminalDevice) {
    self.terminal = terminal
    while status.read8(0) & 1 != 0, status.read8(0) != 0xFF { _ = data.read8(0) }
    Interrupts.connect(line: 1, pci: false, handler: self)
  }

  public func handleInterrupt() -> Bool {
    var any = false
    for _ in 0..<16 where status.read8(0) & 1 != 0 {
      let code = data.read8(0)
      for byte in codes.withLock({ $0.receive(code) }) { terminal.receive(byte) }
      any = true
    }
    return any
  }
}
