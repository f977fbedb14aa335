import Machine
import Primitives
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// The system as a whole: its name, its memory, its log, its end.
extension Call {
  /// Six fields of 65 bytes. SPEC: uname(2).
  func uname() throws(Errno) -> UInt32 {
    var bytes = [UInt8](repeating: 0, count: 390)
    let fields = [
      SystemName.system, SystemName.node, SystemName.release, SystemName.version,
      Array("i686".utf8), SystemName.domain,
    ]
    for (index, field) in fields.enumerated() {
      for (offset, byte) in field.prefix(64).enumerated() { bytes[index * 65 + offset] = byte }
    }
    try UserMemory.write(bytes.span, to: a)
    return 0
  }

  /// `struct sysinfo`, 64 bytes. SPEC: sysinfo(2).
  func sysinfo() throws(Errno) -> UInt32 {
    var bytes = [UInt8](repeating: 0, count: 64)
    var out = bytes.mutableSpan
    out.put32(UInt32(truncatingIfNeeded: Clock.monotonic / 1_000_000_000), at: 0)
    for index in 0..<3 { out.put32(SystemLoad.fixedPoint(index), at: 4 + index * 4) }
    // In bytes as long as the numbers fit.
    let shift: UInt32 = Frames.totalCount >> 20 == 0 ? 12 : 0
    out.put32(Frames.totalCount << shift, at: 16)
    out.put32(Frames.freeCount << shift, at: 20)
    out.put16(UInt16(clamping: ProcessTable.shared.count), at: 40)
    out.put32(shift == 0 ? 4096 : 1, at: 52)
    try UserMemory.write(bytes.span, to: a)
    return 0
  }

  /// syslog(2): reads of the kernel log.
  func syslog() throws(Errno) -> UInt32 {
    switch a {
    case 3, 4:
      let contents = KernelLog.contents()
      let count = min(contents.count, Int(max(0, int(c))))
      try UserMemory.write(contents, (contents.count - count)..<contents.count, to: b)
      return UInt32(count)
    case 10: return UInt32(KernelLog.capacity)
    case 9: return UInt32(result: KernelLog.contents().count)
    default: throw .invalidArgument
    }
  }

  func getrandom() throws(Errno) -> UInt32 {
    if c & ~7 != 0 { throw .invalidArgument }
    var left = min(try size(b), 1 << 20)
    var at = a
    let total = left
    while left > 0 {
      let bytes = Random.bytes(min(left, 1024))
      try UserMemory.write(bytes.span, to: at)
      at &+= UInt32(bytes.count)
      left -= bytes.count
    }
    return UInt32(total)
  }

  /// reboot(2). Command 0x4144524F is ours: power off, giving the emulator the status in the fourth argument.
  func reboot() throws(Errno) -> UInt32 {
    try require(.boot)
    guard a == 0xFEE1_DEAD, b == 672_274_793 || b == 85_072_278 || b == 369_367_448 || b == 537_993_216 else {
      throw .invalidArgument
    }
    switch c {
    case 0: return 0  // Ctrl-Alt-Del goes to the keyboard's reader anyway
    case 0x4321_FEDC, 0xCDEF_0123: Shutdown.powerOff(status: 0)
    case 0x4144_524F: Shutdown.powerOff(status: d)
    case 0x0123_4567: Shutdown.restart()
    default: throw .invalidArgument
    }
  }

  func sethostname() throws(Errno) -> UInt32 {
    SystemName.set(try newName())
    return 0
  }

  func setdomainname() throws(Errno) -> UInt32 {
    SystemName.setDomain(try newName())
    return 0
  }

  private func newName() throws(Errno) -> [UInt8] {
    try require(.administrate)
    guard int(b) >= 0, b <= 64 else { throw .invalidArgument }
    var buffer = IOBuffer(a, Int(b))
    return try buffer.takeBytes(limit: 64)
  }
}

/// Ending the system with nothing lost.
public enum Shutdown {
  static func quiesce() {
    do throws(Errno) {
      try Mounts.sync()
      // Those on loop devices before those that hold their files.
      for fileSystem in Mounts.fileSystems().reversed() { try fileSystem.unmount() }
    } catch { log("shutdown: a file system could not be written: errno \(error.rawValue)") }
  }
  public static func powerOff(status: UInt32) -> Never {
    quiesce()
    log("power off, status \(status)")
    Power.off()
  }
  public static func restart() -> Never {
    quiesce()
    log("restart")
    Power.reset()
  }
}
