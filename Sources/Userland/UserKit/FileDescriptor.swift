import SystemABI

/// An open file. SPEC: swift-system's FileDescriptor.
public struct FileDescriptor: Equatable, Sendable {
  public let rawValue: Int32
  public init(rawValue: Int32) { self.rawValue = rawValue }
  public static let standardInput = FileDescriptor(rawValue: 0)
  public static let standardOutput = FileDescriptor(rawValue: 1)
  public static let standardError = FileDescriptor(rawValue: 2)
  private var raw: UInt32 { UInt32(bitPattern: rawValue) }

  public static func open(_ path: Bytes, flags: UInt32 = 0, mode: UInt32 = 0o666) throws(Errno) -> FileDescriptor {
    try path.withPath { address throws(Errno) in
      FileDescriptor(rawValue: try call(.open, address, flags | OpenFlags.largeFile, mode))
    }
  }
  public func close() throws(Errno) { try call(.close, raw) }

  /// Up to `count` bytes; empty at the end.
  public func read(_ count: Int) throws(Errno) -> Bytes {
    var buffer = Bytes(repeating: 0, count: count)
    let got = try buffer.withMutableAddress { address, count throws(Errno) in
      try call(.read, raw, address, UInt32(count))
    }
    buffer.removeLast(count - Int(got))
    return buffer
  }

  /// Goes back from the end, at most to the beginning.
  public func seek(fromEnd back: Int32) throws(Errno) {
    do throws(Errno) { _ = try call(.lseek, raw, UInt32(bitPattern: -back), 2) } catch {
      if error != .invalidArgument { throw error }
      _ = try call(.lseek, raw, 0, 0)
    }
  }

  public func seek(to position: UInt32) throws(Errno) { _ = try call(.lseek, raw, position, 0) }
  public func truncate(to size: UInt32) throws(Errno) { try call(.ftruncate, raw, size) }
  /// Returns when its content is on stable storage.
  public func synchronize() throws(Errno) { try call(.fsync, raw) }

  public func readAll() throws(Errno) -> Bytes {
    var all: Bytes = []
    while true {
      let part = try read(65536)
      if part.isEmpty { return all }
      all += part
    }
  }

  /// Writes everything.
  public func write(_ bytes: Bytes) throws(Errno) {
    try bytes.withAddress { address, count throws(Errno) in
      var done = 0
      while done < count { done += Int(try call(.write, raw, address + UInt32(done), UInt32(count - done))) }
    }
  }

  public func duplicate(as target: Int32) throws(Errno) { try call(.dup2, raw, UInt32(bitPattern: target)) }
  /// A copy at `minimum` or above that programs started later do not see.
  public func duplicate(from minimum: Int32) throws(Errno) -> FileDescriptor {
    FileDescriptor(rawValue: try call(.fcntl64, raw, 1030, UInt32(bitPattern: minimum)))
  }
  public func setCloseOnExec() throws(Errno) { try call(.fcntl64, raw, 2, 1) }

  public static func pipe() throws(Errno) -> (FileDescriptor, FileDescriptor) {
    var pair = Bytes(repeating: 0, count: 8)
    _ = try pair.withMutableAddress { address, _ throws(Errno) in try call(.pipe2, address, 0) }
    return (
      FileDescriptor(rawValue: Int32(bitPattern: pair.word(0))), FileDescriptor(rawValue: Int32(bitPattern: pair.word(4)))
    )
  }

  public func stat() throws(Errno) -> FileStatus {
    var buffer = Bytes(repeating: 0, count: 96)
    _ = try buffer.withMutableAddress { address, _ throws(Errno) in try call(.fstat64, raw, address) }
    return FileStatus(buffer)
  }

  /// An ioctl on a block of bytes.
  public func control(_ command: UInt32, _ bytes: inout Bytes) throws(Errno) {
    _ = try bytes.withMutableAddress { address, _ throws(Errno) in try call(.ioctl, raw, command, address) }
  }
  public var isTerminal: Bool {
    var settings = Bytes(repeating: 0, count: 36)
    return (try? control(0x5401, &settings)) != nil
  }
}

/// What stat tells.
public struct FileStatus {
  public var device: UInt64
  public var inode: UInt64
  public var mode: UInt32
  public var links: UInt32
  public var owner: UInt32
  public var group: UInt32
  public var special: DeviceNumber
  public var size: UInt64
  public var blocks: UInt64
  public var modified: UInt32

  init(_ b: Bytes) {
    device = UInt64(b.word(0))
    mode = b.word(16)
    links = b.word(20)
    owner = b.word(24)
    group = b.word(28)
    special = DeviceNumber(rawValue: b.word(32))
    size = UInt64(b.word(44)) | UInt64(b.word(48)) << 32
    blocks = UInt64(b.word(56))
    modified = b.word(72)
    inode = UInt64(b.word(88)) | UInt64(b.word(92)) << 32
  }
  public var type: UInt32 { mode & Mode.typeMask }
  public var isDirectory: Bool { type == Mode.directory }
}

/// Calls on names.
public enum FileSystem {
  public static func stat(_ path: Bytes, follow: Bool = true) throws(Errno) -> FileStatus {
    var buffer = Bytes(repeating: 0, count: 96)
    _ = try path.withPath { name throws(Errno) in
      try buffer.withMutableAddress { address, _ throws(Errno) in try call(follow ? .stat64 : .lstat64, name, address) }
    }
    return FileStatus(buffer)
  }

  private static func one(_ number: SyscallNumber, _ path: Bytes, _ b: UInt32 = 0, _ c: UInt32 = 0) throws(Errno) {
    _ = try path.withPath { address throws(Errno) in try call(number, address, b, c) }
  }
  private static func two(_ number: SyscallNumber, _ first: Bytes, _ second: Bytes) throws(Errno) {
    _ = try first.withPath { a throws(Errno) in try second.withPath { b throws(Errno) in try call(number, a, b) } }
  }

  public static func makeDirectory(_ path: Bytes, mode: UInt32 = 0o777) throws(Errno) { try one(.mkdir, path, mode) }
  public static func removeDirectory(_ path: Bytes) throws(Errno) { try one(.rmdir, path) }
  public static func unlink(_ path: Bytes) throws(Errno) { try one(.unlink, path) }
  public static func rename(_ from: Bytes, to: Bytes) throws(Errno) { try two(.rename, from, to) }
  public static func link(_ from: Bytes, to: Bytes) throws(Errno) { try two(.link, from, to) }
  public static func symlink(_ target: Bytes, at path: Bytes) throws(Errno) { try two(.symlink, target, path) }
  public static func changeDirectory(_ path: Bytes) throws(Errno) { try one(.chdir, path) }
  public static func changeRoot(_ path: Bytes) throws(Errno) { try one(.chroot, path) }
  public static func access(_ path: Bytes, _ mode: UInt32) throws(Errno) { try one(.access, path, mode) }
  public static func changeMode(_ path: Bytes, _ mode: UInt32) throws(Errno) { try one(.chmod, path, mode) }
  /// With `detach` it goes even while it is used. SPEC: umount2(2) MNT_DETACH.
  public static func unmount(_ path: Bytes, detach: Bool = false) throws(Errno) { try one(.umount2, path, detach ? 2 : 0) }

  public static func mount(_ source: Bytes, at target: Bytes, type: Bytes, flags: UInt32 = 0, options: Bytes = "") throws(Errno) {
    _ = try source.withPath { a throws(Errno) in
      try target.withPath { b throws(Errno) in
        try type.withPath { c throws(Errno) in try options.withPath { d throws(Errno) in try call(.mount, a, b, c, flags, d) } }
      }
    }
  }

  public static func readLink(_ path: Bytes) throws(Errno) -> Bytes {
    var buffer = Bytes(repeating: 0, count: 4096)
    let length = try path.withPath { name throws(Errno) in
      try buffer.withMutableAddress { address, count throws(Errno) in try call(.readlink, name, address, UInt32(count)) }
    }
    return Array(buffer.prefix(Int(length)))
  }

  public static var currentDirectory: Bytes {
    var buffer = Bytes(repeating: 0, count: 4096)
    let length = try? buffer.withMutableAddress { address, count throws(Errno) in try call(.getcwd, address, UInt32(count)) }
    return Array(buffer.prefix(max(0, Int(length ?? 1) - 1)))
  }

  /// The names in a directory, without `.` and `..`, sorted.
  public static func list(_ path: Bytes) throws(Errno) -> [Bytes] {
    let directory = try FileDescriptor.open(path, flags: OpenFlags.directory)
    defer { try? directory.close() }
    var names: [Bytes] = []
    while true {
      var buffer = Bytes(repeating: 0, count: 8192)
      let length = Int(
        try buffer.withMutableAddress { address, count throws(Errno) in
          try call(.getdents64, UInt32(bitPattern: directory.rawValue), address, UInt32(count))
        })
      if length == 0 { break }
      var at = 0
      while at < length {
        let record = Int(buffer[at + 16]) | Int(buffer[at + 17]) << 8
        let name = Array(buffer[(at + 19)..<(at + record)].prefix { $0 != 0 })
        if name != "." && name != ".." { names.append(name) }
        at += record
      }
    }
    return names.sorted { $0.lexicographicallyPrecedes($1) }
  }

  /// Block size, blocks, free and available blocks of a file system.
  public static func statistics(_ path: Bytes) throws(Errno) -> (blockSize: UInt64, blocks: UInt64, free: UInt64, available: UInt64) {
    var buffer = Bytes(repeating: 0, count: 84)
    _ = try path.withPath { name throws(Errno) in
      try buffer.withMutableAddress { address, _ throws(Errno) in try call(.statfs64, name, 84, address) }
    }
    func long(_ at: Int) -> UInt64 { UInt64(buffer.word(at)) | UInt64(buffer.word(at + 4)) << 32 }
    return (UInt64(buffer.word(4)), long(8), long(16), long(24))
  }
}

/// Output that is gathered and written in large pieces; a terminal sees lines.
public final class Output {
  // SAFETY: programs of this kit have one thread.
  nonisolated(unsafe) private static let shared = Output(.standardOutput)
  public static var standard: Output { unsafe shared }
  private let file: FileDescriptor
  private var buffer: Bytes = []
  public init(_ file: FileDescriptor) { self.file = file }
  public func write(_ bytes: Bytes) {
    buffer += bytes
    if buffer.count > 16384 { flush() }
  }
  public func flush() {
    if buffer.isEmpty { return }
    let bytes = buffer
    buffer = []
    if (try? file.write(bytes)) == nil { _ = try? call(.exitGroup, 1) }
  }
}

/// Prints to standard output.
public func put(_ bytes: Bytes) { Output.standard.write(bytes) }
public func putLine(_ bytes: Bytes) { put(bytes + [10]) }

/// Prints `NAME: WHAT: ERROR` on standard error.
public func complain(_ what: Bytes, _ error: Errno) { complain(what + ": " + error.text) }
public func complain(_ message: Bytes) {
  Output.standard.flush()
  let name = Program.arguments.first.map { Array($0.split(separator: 47).last ?? []) } ?? []
  try? FileDescriptor.standardError.write(name + ": " + message + "\n")
}
