import Machine
import Sync
import SystemABI
import VFS

/// Terminals, which of them is the console, and the simple devices.
public enum Terminals {
  /// `console=` may be given several times: the kernel's log goes to all of them, /dev/console is the last. With `logging` the
  /// kernel's log goes to the screen, if that is one.
  @export(interface) public static func start(consoles: [[UInt8]], logging: Bool, framebuffer: Framebuffer?) throws(Errno) {
    SimpleDevice.registerAll()
    DeviceRegistry.register("tty", major: 5, minor: 0, mode: 0o666, CurrentTerminal())
    var terminals = serialTerminals()
    if let display = display(framebuffer) {
      VirtualTerminals.start(display)
      terminals.append(("tty0", ActiveTerminal()))
      for terminal in VirtualTerminals.all.value { terminals.append(("tty\(terminal.index + 1)", terminal)) }
      startInput()
    }
    var console = terminals.first?.device
    for name in consoles {
      let wanted = name == Array("tty".utf8) ? Array("tty0".utf8) : name
      guard let found = terminals.first(where: { Array($0.name.utf8) == wanted }) else { continue }
      console = found.device
      if logging, !KernelLog.screen.isSet, !wanted.starts(with: Array("ttyS".utf8)) { KernelLog.screen.set(VirtualTerminals.log) }
    }
    PseudoTerminals.start()
    guard let console else { return }
    DeviceRegistry.register("console", major: 5, minor: 1, mode: 0o600, Console(console))
  }

  private static func display(_ framebuffer: Framebuffer?) -> ConsoleDisplay? {
    guard let framebuffer else { return VGAText() }
    DeviceRegistry.register("fb0", major: 29, minor: 0, mode: 0o600, FramebufferDevice(framebuffer))
    return FramebufferDisplay(framebuffer)
  }

  private static func serialTerminals() -> [(name: String, device: any TerminalName)] {
    var result: [(name: String, device: any TerminalName)] = []
    for (index, base) in [UInt16(0x3F8), 0x2F8, 0x3E8, 0x2E8].enumerated() {
      guard let port = SerialPort(base: base) else { continue }
      let line: UInt8 = index & 1 == 0 ? 4 : 3
      let terminal = SerialTerminal(index: index, base: base, line: line, port: port)
      port.attach(terminal, line: line)
      DeviceRegistry.register("ttyS\(index)", major: 4, minor: UInt32(64 + index), mode: 0o620, terminal)
      result.append(("ttyS\(index)", terminal))
    }
    return result
  }

  private static func startInput() {
    guard let controller = PS2Controller() else { return log("keyboard: there is no controller") }
    let mouse = Mouse.find(controller)
    let keyboard = Keyboard(controller)
    controller.connect(keyboard: keyboard, mouse: mouse)
    if mouse != nil { controller.send(0xF4, to: .mouse) }
    Keyboard.shared.set(keyboard)
    keyboard.register(index: 0)
    mouse?.register(index: 1)
  }
}

/// A name for a terminal, which may be another one at another time.
protocol TerminalName: Device {
  var terminal: TerminalDevice { get }
}

/// /dev/console, which stays open whatever happens to its terminal.
private final class Console: Device {
  private let name: any TerminalName
  init(_ name: any TerminalName) { self.name = name }
  func open(_ inode: Inode, flags: UInt32) throws(Errno) -> any OpenFile {
    try name.terminal.open(flags: flags, isConsole: true)
  }
}
