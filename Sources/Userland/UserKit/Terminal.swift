import SystemABI

/// Terminal settings and job control.
public struct TerminalSettings {
  fileprivate var bytes: Bytes
  public static func current(_ file: FileDescriptor) throws(Errno) -> TerminalSettings {
    var bytes = Bytes(repeating: 0, count: 36)
    try file.control(0x5401, &bytes)
    return TerminalSettings(bytes: bytes)
  }
  public func apply(_ file: FileDescriptor) throws(Errno) {
    var copy = bytes
    try file.control(0x5403, &copy)
  }
  /// Byte by byte, no echo, no signals: for line editing.
  public var raw: TerminalSettings {
    var copy = self
    copy.bytes.setWord(bytes.word(0) & ~0o400, at: 0)
    copy.bytes.setWord(bytes.word(12) & ~UInt32(1 | 2 | 8), at: 12)
    copy.bytes[17 + 6] = 1
    copy.bytes[17 + 5] = 0
    return copy
  }
}

extension FileDescriptor {
  public func setForeground(group: Int32) throws(Errno) {
    var bytes = Bytes(repeating: 0, count: 4)
    bytes.setWord(UInt32(bitPattern: group), at: 0)
    try control(0x5410, &bytes)
  }
  public func takeControl() throws(Errno) {
    var nothing = Bytes(repeating: 0, count: 4)
    try control(0x540E, &nothing)
  }
}
