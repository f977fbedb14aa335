import Devices
import Machine
import SystemABI

/// The display adapter of emulators: modes through two ports, pixels in the first window.
///
/// SPEC: QEMU docs/specs/standard-vga.rst; Bochs VBE_DISPI interface 0xB0C5.
public enum BochsDisplay {
  private enum Register {
    static let id: UInt16 = 0, width: UInt16 = 1, height: UInt16 = 2, depth: UInt16 = 3, enable: UInt16 = 4
    static let virtualWidth: UInt16 = 6, yOffset: UInt16 = 9, memory: UInt16 = 10
  }

  private struct Ports {
    private let ports = PortWindow(base: 0x1CE, count: 4)
    func read(_ register: UInt16) -> UInt16 {
      ports.write16(0, register)
      return ports.read16(1)
    }
    func write(_ register: UInt16, _ value: UInt16) {
      ports.write16(0, register)
      ports.write16(1, value)
    }
  }

  /// Sets a mode of 32 bits a pixel; nil, with a line in the log, where there is no such adapter or mode.
  @export(interface) public static func start(width: UInt32, height: UInt32) -> Framebuffer? {
    let ports = Ports()
    guard let function = PCI.functions.first(where: { $0.vendor == 0x1234 && $0.product == 0x1111 }),
      case .memory(let address) = function.bar(0), ports.read(Register.id) & 0xFFF0 == 0xB0C0
    else {
      log("display: there is no adapter with a frame buffer")
      return nil
    }
    let bytes = min(UInt32(ports.read(Register.memory)) << 16, Framebuffer.largest)
    guard width >= 320, height >= 200, width % 8 == 0, width <= 4096, height <= 4096, width * height * 4 <= bytes else {
      log("display: no mode of \(width)x\(height)")
      return nil
    }
    ports.write(Register.enable, 0)
    ports.write(Register.width, UInt16(width))
    ports.write(Register.height, UInt16(height))
    ports.write(Register.depth, 32)
    ports.write(Register.enable, 0x41)  // on, linear
    ports.write(Register.virtualWidth, UInt16(width))
    ports.write(Register.yOffset, 0)
    let pages = min(bytes / (width * height * 4), 2)
    log("display: \(width)x\(height) at \(hex(UInt32(truncatingIfNeeded: address)))")
    return Framebuffer(physical: address, bytes: width * height * 4 * pages, width: width, height: height, pitch: width * 4) { line in
      Ports().write(Register.yOffset, UInt16(line))
    }
  }
}
