import CSystem
import SystemABI

/// Bytes as text: file names and file content need no encoding, and comparing them needs no Unicode tables.
public typealias Bytes = [UInt8]

extension Array: @retroactive ExpressibleByUnicodeScalarLiteral where Element == UInt8 {
  public init(unicodeScalarLiteral value: StaticString) { self = Array(value.description.utf8) }
}
extension Array: @retroactive ExpressibleByExtendedGraphemeClusterLiteral where Element == UInt8 {
  public init(extendedGraphemeClusterLiteral value: StaticString) { self = Array(value.description.utf8) }
}
extension Array: @retroactive ExpressibleByStringLiteral where Element == UInt8 {
  public init(stringLiteral value: StaticString) { self = Array(value.description.utf8) }
}

/// Makes a system call; a negative result becomes an error.
@discardableResult
func call(_ number: SyscallNumber, _ a: UInt32 = 0, _ b: UInt32 = 0, _ c: UInt32 = 0, _ d: UInt32 = 0, _ e: UInt32 = 0)
  throws(Errno) -> Int32
{
  // SAFETY: callers pass addresses that live until the call returns.
  let result = unsafe system_call(number.rawValue, a, b, c, d, e)
  if result < 0, result > -4096 { throw Errno(rawValue: -result) }
  return result
}

extension Array where Element == UInt8 {
  /// Runs `body` with the address of these bytes and a NUL behind them.
  func withPath<Result, Failure: Error>(_ body: (UInt32) throws(Failure) -> Result) throws(Failure) -> Result {
    let terminated = self + [0]
    return try terminated.withAddress { address, _ throws(Failure) in try body(address) }
  }

  func withAddress<Result, Failure: Error>(_ body: (UInt32, Int) throws(Failure) -> Result) throws(Failure) -> Result {
    // SAFETY: the pointer is used only inside the call.
    try unsafe withUnsafeBufferPointer { buffer throws(Failure) in
      try body(UInt32(UInt(bitPattern: buffer.baseAddress)), buffer.count)
    }
  }

  mutating func withMutableAddress<Result, Failure: Error>(_ body: (UInt32, Int) throws(Failure) -> Result) throws(Failure) -> Result {
    try unsafe withUnsafeMutableBufferPointer { buffer throws(Failure) in
      try body(UInt32(UInt(bitPattern: buffer.baseAddress)), buffer.count)
    }
  }

  func word(_ offset: Int) -> UInt32 {
    UInt32(self[offset]) | UInt32(self[offset + 1]) << 8 | UInt32(self[offset + 2]) << 16 | UInt32(self[offset + 3]) << 24
  }
  mutating func setWord(_ value: UInt32, at offset: Int) {
    for index in 0..<4 { self[offset + index] = UInt8(truncatingIfNeeded: value >> UInt32(index * 8)) }
  }
}

/// The program's own arguments and environment.
public enum Program {
  // SAFETY: the start code saved the initial stack pointer; the kernel laid out argc, argv, NULL, envp, NULL there.
  private static func string(_ address: UInt32) -> Bytes {
    var result: Bytes = []
    var pointer = unsafe UnsafePointer<UInt8>(bitPattern: UInt(address))!
    while unsafe pointer.pointee != 0 {
      result.append(unsafe pointer.pointee)
      unsafe pointer += 1
    }
    return result
  }

  public static var arguments: [Bytes] {
    let count = unsafe Int(program_stack[0])
    var result: [Bytes] = []
    for index in 0..<count { result.append(string(unsafe program_stack[1 + index])) }
    return result
  }

  public static var environment: [Bytes] {
    var index = unsafe Int(program_stack[0]) + 2
    var result: [Bytes] = []
    while unsafe program_stack[index] != 0 {
      result.append(string(unsafe program_stack[index]))
      index += 1
    }
    return result
  }

  public static func exit(_ status: Int32) -> Never {
    Output.standard.flush()
    _ = try? call(.exitGroup, UInt32(bitPattern: status))
    while true {}
  }
}

extension Errno {
  /// What strerror says, for the errors programs meet most.
  public var text: Bytes {
    switch self {
    case .notPermitted: "Operation not permitted"
    case .noSuchFileOrDirectory: "No such file or directory"
    case .noSuchProcess: "No such process"
    case .interrupted: "Interrupted system call"
    case .ioError: "Input/output error"
    case .argListTooLong: "Argument list too long"
    case .execFormatError: "Exec format error"
    case .badFileDescriptor: "Bad file descriptor"
    case .noChildProcess: "No child processes"
    case .wouldBlock: "Resource temporarily unavailable"
    case .noMemory: "Cannot allocate memory"
    case .permissionDenied: "Permission denied"
    case .resourceBusy: "Device or resource busy"
    case .fileExists: "File exists"
    case .improperLink: "Invalid cross-device link"
    case .operationNotSupportedByDevice: "No such device"
    case .notDirectory: "Not a directory"
    case .isDirectory: "Is a directory"
    case .invalidArgument: "Invalid argument"
    case .tooManyOpenFiles: "Too many open files"
    case .inappropriateIOCTLForDevice: "Inappropriate ioctl for device"
    case .noSpace: "No space left on device"
    case .illegalSeek: "Illegal seek"
    case .readOnlyFileSystem: "Read-only file system"
    case .brokenPipe: "Broken pipe"
    case .fileNameTooLong: "File name too long"
    case .directoryNotEmpty: "Directory not empty"
    case .tooManySymbolicLinkLevels: "Too many levels of symbolic links"
    default: ("error " as Bytes) + decimal(Int(rawValue))
    }
  }
}

/// A number in decimal.
public func decimal(_ value: Int64) -> Bytes {
  var digits: Bytes = []
  var rest = value.magnitude
  repeat {
    digits.append(48 + UInt8(rest % 10))
    rest /= 10
  } while rest > 0
  if value < 0 { digits.append(45) }
  return digits.reversed()
}
public func decimal(_ value: Int) -> Bytes { decimal(Int64(value)) }

/// A decimal number; nil when the text is something else.
public func number(_ text: Bytes) -> Int? {
  let digits = text.first == 45 ? Array(text.dropFirst()) : text
  guard !digits.isEmpty, digits.count < 10 else { return nil }
  var value = 0
  for byte in digits {
    guard byte >= 48, byte <= 57 else { return nil }
    value = value * 10 + Int(byte - 48)
  }
  return text.first == 45 ? -value : value
}
