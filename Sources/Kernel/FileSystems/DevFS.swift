import Sync
import SystemABI
import Threads
import VFS

/// The device nodes, in memory: every mount of devtmpfs shows the same ones.
public final class DevFS: DeviceNodes {
  public let fileSystem = TmpFS(typeName: "devtmpfs", device: 6, mode: 0o755)

  /// Shows the devices known so far, and later ones as they come.
  public override init() {
    super.init()
    DeviceRegistry.forEach { name, isBlock, number, mode, _ in add(name, block: isBlock, number, mode: mode) }
    link("fd", "/proc/self/fd")
    link("stdin", "/proc/self/fd/0")
    link("stdout", "/proc/self/fd/1")
    link("stderr", "/proc/self/fd/2")
    directory("pts", mode: 0o755)
  }

  public override func add(_ name: [UInt8], block: Bool, _ number: DeviceNumber, mode: UInt32) {
    var attributes = Attributes(mode: (block ? Mode.block : Mode.character) | mode)
    attributes.device = number
    let root = fileSystem.root
    root.mutex.withLock { _ in _ = try? fileSystem.create(name, in: root, attributes) }
  }

  private func link(_ name: String, _ target: String) {
    let root = fileSystem.root
    root.mutex.withLock { _ in
      _ = try? fileSystem.symlink(Array(name.utf8), in: root, target: Array(target.utf8), Attributes(mode: Mode.link | 0o777))
    }
  }

  private func directory(_ name: String, mode: UInt32) {
    let root = fileSystem.root
    root.mutex.withLock { _ in
      _ = try? fileSystem.create(Array(name.utf8), in: root, Attributes(mode: Mode.directory | mode))
    }
  }
}
