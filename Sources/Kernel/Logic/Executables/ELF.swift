import Primitives

/// Why an image cannot be executed. Both mean ENOEXEC.
public enum ExecutableError: Error, Equatable {
  case notAnExecutable
  case malformed
}

/// A 32-bit i386 ELF image's headers. SPEC: System V ABI (gABI) chapters 4-5, i386 psABI.
public struct ELFImage: Sendable {
  public struct Segment: Equatable, Sendable {
    public var address: UInt32
    public var fileOffset: UInt32
    public var fileSize: UInt32
    public var memorySize: UInt32
    public var readable: Bool
    public var writable: Bool
    public var executable: Bool
  }
  public var entry: UInt32
  /// Position-independent: loaded wherever there is room.
  public var isDynamic: Bool
  public var segments: [Segment] = []
  /// Where the program interpreter's path lies in the file.
  public var interpreter: (offset: UInt32, size: UInt32)?
  public var headerOffset: UInt32
  public var headerCount: UInt16
  /// PT_GNU_STACK says that the stack need not be executable.
  public var executableStack = true

  /// Reads the headers at the start of a file of `fileSize` bytes; `head` is its first bytes.
  public init(_ head: borrowing Span<UInt8>, fileSize: UInt64) throws(ExecutableError) {
    guard head.count >= 52, head[0] == 0x7F, head[1] == 0x45, head[2] == 0x4C, head[3] == 0x46 else {
      throw .notAnExecutable
    }
    guard head[4] == 1, head[5] == 1, head[6] == 1, head.u16(18) == 3, let type = head.u16(16), type == 2 || type == 3
    else { throw .notAnExecutable }
    isDynamic = type == 3
    guard let entry = head.u32(24), let table = head.u32(28), let size = head.u16(42), let count = head.u16(44),
      size == 32, count > 0, count <= 64, UInt64(table) + UInt64(count) * 32 <= UInt64(head.count)
    else { throw .malformed }
    self.entry = entry
    headerOffset = table
    headerCount = count
    for index in 0..<Int(count) { try readHeader(head, Int(table) + index * 32, fileSize) }
    guard !segments.isEmpty else { throw .malformed }
  }

  private mutating func readHeader(_ head: borrowing Span<UInt8>, _ at: Int, _ fileSize: UInt64) throws(ExecutableError) {
    guard let type = head.u32(at), let offset = head.u32(at + 4), let address = head.u32(at + 8),
      let inFile = head.u32(at + 16), let inMemory = head.u32(at + 20), let flags = head.u32(at + 24)
    else { throw .malformed }
    switch type {
    case 1:
      if inMemory == 0 { return }
      guard inFile <= inMemory, UInt64(offset) + UInt64(inFile) <= fileSize,
        UInt64(address) + UInt64(inMemory) <= 0xBFFF_0000, offset & 0xFFF == address & 0xFFF
      else { throw .malformed }
      if let last = segments.last, address < last.address + last.memorySize { throw .malformed }
      segments.append(
        Segment(
          address: address, fileOffset: offset, fileSize: inFile, memorySize: inMemory, readable: flags & 4 != 0,
          writable: flags & 2 != 0, executable: flags & 1 != 0))
    case 3:
      guard inFile > 1, inFile <= 4096, UInt64(offset) + UInt64(inFile) <= fileSize else { throw .malformed }
      interpreter = (offset, inFile)
    case 0x6474_E551: executableStack = flags & 1 != 0
    default: break
    }
  }

  /// The page-aligned range all segments span.
  public var span: Range<UInt32> {
    let low = segments[0].address.pageDown
    let last = segments[segments.count - 1]
    return low..<((last.address + last.memorySize + 0xFFF) & ~0xFFF)
  }

  /// Where the program headers are in memory, before relocation: AT_PHDR.
  public var headersAddress: UInt32 {
    for segment in segments where headerOffset >= segment.fileOffset && headerOffset < segment.fileOffset + segment.fileSize {
      return segment.address + (headerOffset - segment.fileOffset)
    }
    return 0
  }
}

/// `#!interpreter [argument]` on a script's first line. SPEC: execve(2).
public struct ScriptLine: Equatable, Sendable {
  public var interpreter: [UInt8]
  public var argument: [UInt8]?

  /// Nil when `head` starts no script, or its line names nothing.
  public init?(_ head: borrowing Span<UInt8>) {
    guard head.count > 2, head[0] == 35, head[1] == 33 else { return nil }
    var line: [UInt8] = []
    var index = 2
    while index < min(head.count, 256), head[index] != 10, head[index] != 0 {
      line.append(head[index])
      index += 1
    }
    while let last = line.last, last == 32 || last == 9 { line.removeLast() }
    let start = line.firstIndex { $0 != 32 && $0 != 9 } ?? line.count
    let end = line[start...].firstIndex { $0 == 32 || $0 == 9 } ?? line.count
    guard start < end else { return nil }
    interpreter = Array(line[start..<end])
    let rest = Array(line[end...].drop { $0 == 32 || $0 == 9 })
    argument = rest.isEmpty ? nil : rest
  }
}
