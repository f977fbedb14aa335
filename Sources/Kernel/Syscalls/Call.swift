import Machine
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// One system call: its arguments and who makes it.
public struct Call {
  let frame: UserFrame
  let task: Task
  var process: Process { task.process }

  var a: UInt32 { frame.ebx }
  var b: UInt32 { frame.ecx }
  var c: UInt32 { frame.edx }
  var d: UInt32 { frame.esi }
  var e: UInt32 { frame.edi }
  var f: UInt32 { frame.ebp }

  /// A signed argument.
  func int(_ value: UInt32) -> Int32 { Int32(bitPattern: value) }
  /// A 64-bit argument in two registers, low word first.
  func long(_ low: UInt32, _ high: UInt32) -> UInt64 { UInt64(high) << 32 | UInt64(low) }
  /// A byte count; sizes with the top bit set are errors as on Linux.
  func size(_ value: UInt32) throws(Errno) -> Int {
    guard value <= 0x7FFF_FFFF else { throw .invalidArgument }
    return Int(min(value, 0x7FFF_F000))
  }

  func description(_ number: UInt32) throws(Errno) -> FileDescription { try process.description(int(number)) }

  /// A path argument.
  func path(_ address: UInt32) throws(Errno) -> [UInt8] { try UserMemory.string(address) }

  static var atCurrentDirectory: Int32 { -100 }

  /// The place a path names, relative to a directory descriptor.
  func resolve(at directory: UInt32, _ address: UInt32, follow: Bool = true) throws(Errno) -> Path {
    let text = try path(address)
    return try resolve(at: directory, text: text, follow: follow)
  }

  /// - Parameter limits: Bits of `WalkLimit`.
  func resolve(at directory: UInt32, text: [UInt8], follow: Bool, limits: UInt32 = 0) throws(Errno) -> Path {
    var walk = try walk(at: directory, text, limits: limits)
    return try walk.resolve(text, follow: follow)
  }

  /// What a call is about: an open file, or a place.
  enum Named {
    case file(FileDescription)
    case place(Path)
  }

  /// What a directory descriptor, a path and flags name: with AT_EMPTY_PATH and an empty path, what the descriptor itself is of.
  /// - Parameter flags: AT_SYMLINK_NOFOLLOW 0x100, AT_EMPTY_PATH 0x1000; the others are the caller's business.
  @inline(__always) func named(at directory: UInt32, _ text: [UInt8], flags: UInt32) throws(Errno) -> Named {
    if text.isEmpty, flags & 0x1000 != 0 {
      if int(directory) == Self.atCurrentDirectory { return .place(process.pathContext.directory) }
      return .file(try description(directory))
    }
    return .place(try resolve(at: directory, text: text, follow: flags & 0x100 == 0))
  }

  @inline(__always) func walk(at directory: UInt32, _ text: [UInt8], limits: UInt32 = 0) throws(Errno) -> PathWalk {
    var base: Path?
    if text.first != 47 || limits != 0, int(directory) != Self.atCurrentDirectory {
      if text.isEmpty { throw .noSuchFileOrDirectory }
      base = try directoryPath(directory)
    }
    return PathWalk(process.pathContext, from: base, limits: limits)
  }

  func resolveParent(at directory: UInt32, _ address: UInt32) throws(Errno) -> ParentAndName {
    let text = try path(address)
    var walk = try walk(at: directory, text)
    return try walk.resolveParent(text)
  }

  private func directoryPath(_ number: UInt32) throws(Errno) -> Path {
    guard let path = try description(number).path else { throw .notDirectory }
    guard try path.inode().isDirectory else { throw .notDirectory }
    return path
  }

  /// `struct timespec`: 32-bit or 64-bit seconds; nil for a null pointer. In nanoseconds.
  func timespec(_ address: UInt32, wide: Bool) throws(Errno) -> UInt64? {
    if address == 0 { return nil }
    let seconds: Int64
    let nanoseconds: UInt32
    if wide {
      seconds = Int64(bitPattern: try UserMemory.read64(address))
      nanoseconds = try UserMemory.read32(address &+ 8)
    } else {
      seconds = Int64(Int32(bitPattern: try UserMemory.read32(address)))
      nanoseconds = try UserMemory.read32(address &+ 4)
    }
    guard seconds >= 0, nanoseconds < 1_000_000_000 else { throw .invalidArgument }
    return UInt64(min(seconds, 4_000_000_000)) * 1_000_000_000 + UInt64(nanoseconds)
  }

  func putTimespec(_ nanoseconds: UInt64, to address: UInt32, wide: Bool) throws(Errno) {
    let (seconds, rest) = nanoseconds.secondsAndNanoseconds
    var words: [4 of UInt32] = .init(repeating: 0)
    (words[0], words[1]) = seconds.halves
    words[wide ? 2 : 1] = rest
    try UserMemory.write(words: words, count: wide ? 4 : 2, to: address)
  }

  /// Throws `notPermitted` without the capability.
  func require(_ capability: Capability) throws(Errno) {
    if !process.who.has(capability) { throw .notPermitted }
  }
}

extension UInt64 {
  /// The low and the high word.
  var halves: (UInt32, UInt32) { (UInt32(truncatingIfNeeded: self), UInt32(truncatingIfNeeded: self >> 32)) }
}

extension UInt32 {
  /// A non-negative count as a call's result.
  init(result: Int) { self = UInt32(truncatingIfNeeded: result) }
}
