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
    directory(Array("pts".utf8), mode: 0o755)
  }

  public override func add(_ name: [UInt8], block: Bool, _ number: DeviceNumber, mode: UInt32) {
    var attributes = Attributes(mode: (block ? Mode.block : Mode.character) | mode)
    attributes.device = number
    let root = fileSystem.root
    let parts = name.split(separator: 0x2F, maxSplits: 1)
    guard parts.count > 1 else {
      root.mutex.withLock { _ in _ = try? fileSystem.create(name, in: root, attributes) }
      return
    }
    let parent = Array(parts[0])
    if root.mutex.withLock({ _ in try? fileSystem.lookup(parent, in: root) }) == nil { directory(parent, mode: 0o755) }
    guard let inner = root.mutex.withLock({ _ in try? fileSystem.lookup(parent, in: root) }) else { return }
    inner.mutex.withLock { _ in _ = try? fileSystem.create(Array(parts[1]), in: inner, attributes) }
  }

  private func link(_ name: String, _ target: String) {
    let root = fileSystem.root
    root.mutex.withLock { _ in
      _ = try? fileSystem.symlink(Array(name.utf8), in: root, target: Array(target.utf8), Attributes(mode: Mode.link | 0o777))
    }
  }

  private func directory(_ name: [UInt8], mode: UInt32) {
    let root = fileSystem.root
    root.mutex.withLock { _ in _ = try? fileSystem.create(name, in: root, Attributes(mode: Mode.directory | mode)) }
  }
}
