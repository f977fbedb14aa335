import Machine
import SystemABI
import VFS

/// What a letter written to /proc/sysrq-trigger does. SPEC: Linux admin-guide/sysrq.rst, for its letters.
enum SystemRequest {
  static func perform(_ text: [UInt8]) throws(Errno) {
    switch text.first {
    case UInt8(ascii: "b"): Power.reset()
    case UInt8(ascii: "c"): crash()
    case UInt8(ascii: "o"):
      log("power off, status 0")
      Power.off()
    case UInt8(ascii: "s"): try Mounts.sync()
    case UInt8(ascii: "S"): overflowStack()
    default: throw .invalidArgument
    }
  }

  /// A crash on demand, for testing what a panic prints.
  @inline(never) private static func crash() -> Never { Panic.stop("sysrq triggered crash") }

  /// Ours: runs the kernel stack into its guard page.
  private static func overflowStack() { log("the stack did not overflow at depth \(descend(0))") }

  @inline(never) private static func descend(_ depth: Int) -> Int {
    var block: [256 of UInt8] = .init(repeating: UInt8(truncatingIfNeeded: depth))
    if depth < 1_000_000 { block[depth & 255] &+= UInt8(truncatingIfNeeded: descend(depth + 1)) }
    return depth + Int(block[7])
  }
}
