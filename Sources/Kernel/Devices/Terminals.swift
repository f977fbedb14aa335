import Machine
import Sync
import SystemABI
import VFS

/// Terminals, which of them is the console, and the simple devices.
public enum Terminals {
  /// `console=` may be given several times: the kernel's log goes to all of them, /dev/console is the last. With `logging` the
  /// kernel's log goes to the screen, if that is one.
  @export(interface) public static func start(consoles: [[UInt8]], logging: Bool) throws(Errno) {
    SimpleDevice.registerAll()
    DeviceRegistry.register("tty", major: 5, minor: 0, mode: 0o666, CurrentTerminal())
    var terminals: [(name: String, device: any Device)] = serialTerminals()
    if consoles.contains(where: { $0.starts(with: Array("tty".utf8)) && !$0.starts(with: Array("ttyS".utf8)) }) {
      terminals.append(("tty0", screenTerminal(logging: logging)))
    }
    var console = terminals.first?.device
    for name in consoles {
      let wanted = name == Array("tty1".utf8) || name == Array("tty".utf8) ? Array("tty0".utf8) : name
      if let found = terminals.first(where: { Array($0.name.utf8) == wanted }) { console = found.device }
    }
    PseudoTerminals.start()
    guard let console else { return }
    DeviceRegistry.register("console", major: 5, minor: 1, mode: 0o600, console)
  }

  private static func serialTerminals() -> [(name: String, device: any Device)] {
    var result: [(name: String, device: any Device)] = []
    for (index, base) in [UInt16(0x3F8), 0x2F8, 0x3E8, 0x2E8].enumerated() {
      guard let port = SerialPort(base: base) else { continue }
      let terminal = TerminalDevice(DeviceNumber(major: 4, minor: UInt32(64 + index)), outputs: [port])
      port.attach(terminal, line: index & 1 == 0 ? 4 : 3)
      DeviceRegistry.register("ttyS\(index)", major: 4, minor: UInt32(64 + index), mode: 0o620, terminal)
      result.append(("ttyS\(index)", terminal))
    }
    return result
  }

  /// The text screen and the keyboard.
  private static func screenTerminal(logging: Bool) -> any Device {
    let screen = VGAText()
    let terminal = TerminalDevice(DeviceNumber(major: 4, minor: 1), outputs: [screen])
    for minor in UInt32(0)...1 { DeviceRegistry.register("tty\(minor)", major: 4, minor: minor, mode: 0o620, terminal) }
    keyboard.set(Keyboard(terminal))
    if logging { KernelLog.screen.set(screen) }
    return terminal
  }
  private static let keyboard = BootCell<Keyboard>()
}
