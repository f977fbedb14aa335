import Sync
import VFS

/// What uname answers, but for the machine. SPEC: uname(2).
public enum SystemName {
  public static var system: [UInt8] { Array("AdrOS".utf8) }
  /// Programs that look for a feature by the version find Linux's that we follow.
  public static var release: [UInt8] { Array("6.1.0-adros".utf8) }
  public static var version: [UInt8] { Array("#1 SMP PREEMPT AdrOS in Swift".utf8) }

  private static let cell = BootCell<SpinLock<(node: [UInt8], domain: [UInt8]), LeafRank>>()
  public static func start() { cell.set(SpinLock((Array("adros".utf8), Array("(none)".utf8)))) }
  public static var node: [UInt8] { cell.value.withLock { $0.node } }
  public static var domain: [UInt8] { cell.value.withLock { $0.domain } }
  public static func set(_ name: [UInt8]) { cell.value.withLock { $0.node = name } }
  public static func setDomain(_ name: [UInt8]) { cell.value.withLock { $0.domain = name } }
}
