import CSystem
import SystemABI

/// How a child ended or stopped.
public enum WaitStatus: Equatable {
  case exited(Int32)
  case signaled(Int32)
  case stopped(Int32)
  case continued
  init(_ raw: UInt32) {
    if raw == 0xFFFF {
      self = .continued
    } else if raw & 0xFF == 0x7F {
      self = .stopped(Int32(raw >> 8 & 0xFF))
    } else if raw & 0x7F == 0 {
      self = .exited(Int32(raw >> 8 & 0xFF))
    } else {
      self = .signaled(Int32(raw & 0x7F))
    }
  }
}

/// Calls about processes.
public enum Process {
  public static var id: Int32 { (try? call(.getpid)) ?? 0 }
  /// The id this program started with: `$$` stays the same in a shell's children.
  nonisolated(unsafe) private static var firstID: Int32 = 0
  public static var shellID: Int32 {
    if unsafe firstID == 0 { unsafe firstID = id }
    return unsafe firstID
  }
  public static var parent: Int32 { (try? call(.getppid)) ?? 0 }
  public static var userID: UInt32 { UInt32(bitPattern: (try? call(.getuid32)) ?? 0) }
  /// 0 in the child.
  public static func fork() throws(Errno) -> Int32 {
    Output.standard.flush()
    return try call(.fork)
  }

  /// Replaces this program; returns only to throw.
  public static func execute(_ path: Bytes, _ arguments: [Bytes], environment: [Bytes]) throws(Errno) {
    Output.standard.flush()
    let strings = arguments.map { $0 + [0] } + environment.map { $0 + [0] }
    var block: Bytes = []
    for string in strings { block += string }
    _ = try path.withPath { name throws(Errno) in
      try block.withAddress { base, _ throws(Errno) in
        var pointers: [UInt32] = []
        var at = base
        for (index, string) in strings.enumerated() {
          if index == arguments.count { pointers.append(0) }
          pointers.append(at)
          at += UInt32(string.count)
        }
        if environment.isEmpty { pointers.append(0) }
        pointers.append(0)
        let table = pointers
        // SAFETY: the block and the table outlive the call.
        let address = unsafe table.withUnsafeBufferPointer { UInt32(UInt(bitPattern: $0.baseAddress)) }
        return try call(.execve, name, address, address + UInt32(arguments.count + 1) * 4)
      }
    }
  }

  /// Waits; nil with `noHang` and nothing to report.
  public static func wait(_ id: Int32, noHang: Bool = false, untraced: Bool = false) throws(Errno) -> (Int32, WaitStatus)? {
    var status = Bytes(repeating: 0, count: 4)
    let options = (noHang ? 1 : 0) | (untraced ? 10 : 0)
    let child = try status.withMutableAddress { address, _ throws(Errno) in
      try call(.wait4, UInt32(bitPattern: id), address, UInt32(options))
    }
    return child == 0 ? nil : (child, WaitStatus(status.word(0)))
  }

  public static func kill(_ id: Int32, _ signal: Int32) throws(Errno) {
    try call(.kill, UInt32(bitPattern: id), UInt32(bitPattern: signal))
  }
  public static func setGroup(_ id: Int32, _ group: Int32) throws(Errno) {
    try call(.setpgid, UInt32(bitPattern: id), UInt32(bitPattern: group))
  }
  public static var group: Int32 { (try? call(.getpgrp)) ?? 0 }
  public static func newSession() throws(Errno) { try call(.setsid) }

  /// Ignores a signal, gives it its default back, or runs a C function on it.
  public static func ignore(_ signal: Int32) { setHandler(signal, 1) }
  public static func restoreDefault(_ signal: Int32) { setHandler(signal, 0) }
  private static func setHandler(_ signal: Int32, _ handler: UInt32) {
    var action = Bytes(repeating: 0, count: 20)
    action.setWord(handler, at: 0)
    _ = try? action.withAddress { address, _ throws(Errno) in
      try call(.rtSigaction, UInt32(bitPattern: signal), address, 0, 8)
    }
  }

  public static func sleep(milliseconds: UInt64) throws(Errno) {
    var time = Bytes(repeating: 0, count: 8)
    time.setWord(UInt32(milliseconds / 1000), at: 0)
    time.setWord(UInt32(milliseconds % 1000) * 1_000_000, at: 4)
    _ = try time.withAddress { address, _ throws(Errno) in try call(.nanosleep, address, 0) }
  }

  /// The six fields of uname.
  public static func systemName() throws(Errno) -> [Bytes] {
    var buffer = Bytes(repeating: 0, count: 390)
    _ = try buffer.withMutableAddress { address, _ throws(Errno) in try call(.uname, address) }
    return (0..<6).map { field in Array(buffer[(field * 65)..<(field * 65 + 65)].prefix { $0 != 0 }) }
  }

  public static func kernelLog() throws(Errno) -> Bytes {
    var buffer = Bytes(repeating: 0, count: 32768)
    let length = try buffer.withMutableAddress { address, count throws(Errno) in
      try call(.syslog, 3, address, UInt32(count))
    }
    return Array(buffer.prefix(Int(length)))
  }

  public static func sync() { _ = try? call(.sync) }

  /// Ends the system; `status` is what an emulator gets to know.
  public static func powerOff(status: Int32) throws(Errno) {
    do throws(Errno) { try call(.reboot, 0xFEE1_DEAD, 672_274_793, 0x4144_524F, UInt32(bitPattern: status)) } catch {
      // A kernel that is not ours takes no status.
      try call(.reboot, 0xFEE1_DEAD, 672_274_793, 0x4321_FEDC)
    }
  }
  public static func restart() throws(Errno) { try call(.reboot, 0xFEE1_DEAD, 672_274_793, 0x0123_4567) }
}
