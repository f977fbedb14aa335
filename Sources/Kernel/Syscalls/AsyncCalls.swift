import EventFiles
import Machine
import Memory
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// Kernel asynchronous input and output. SPEC: io_setup(2), io_submit(2), io_getevents(2), io_cancel(2); Linux uapi
/// linux/aio_abi.h.
extension Call {
  /// `struct iocb`.
  private struct Request {
    var address: UInt32
    var data: UInt64
    var flags: UInt32
    var operation: UInt32
    var number: UInt32
    var buffer: UInt32
    var count: UInt32
    var offset: Int64
    /// An eventfd to tell, if `notifies`.
    var eventNumber: UInt32
    var notifies: Bool
  }

  /// Linux's fs.aio-max-nr.
  private static var greatestCapacity: UInt32 { 65536 }

  func ioSetup() throws(Errno) -> UInt32 {
    guard try UserMemory.read32(b) == 0, int(a) > 0, a <= 0x80_0000 else { throw .invalidArgument }
    guard a <= Self.greatestCapacity else { throw .wouldBlock }
    let space = try currentSpace()
    let used = space.asyncContexts.withLock { $0.reduce(0) { $0 + $1.capacity } }
    guard used + Int(a) <= Int(Self.greatestCapacity) else { throw .wouldBlock }
    let start = try space.mapSomewhere(
      Area(start: 0, end: 4096, readable: true, writable: true, executable: false, shared: false), size: 4096)
    let context = AsyncContext(id: start, capacity: Int(a))
    space.asyncContexts.withLock { $0.append(context) }
    do throws(Errno) { try UserMemory.write32(start, to: b) } catch {
      destroy(context, in: space)
      throw error
    }
    return 0
  }

  private func destroy(_ context: AsyncContext, in space: AddressSpace) {
    space.asyncContexts.withLock { $0.removeAll { $0 === context } }
    context.close()
    space.unmap(context.id..<(context.id + 4096))
  }

  private func context(_ id: UInt32) throws(Errno) -> AsyncContext {
    guard let found = try currentSpace().asyncContexts.withLock({ $0.first { $0.id == id } }) else { throw .invalidArgument }
    return found
  }

  func ioDestroy() throws(Errno) -> UInt32 {
    destroy(try context(a), in: try currentSpace())
    return 0
  }

  /// Submits requests in order; how many there were before the first that is none. Its error, if it is the first of all.
  func ioSubmit() throws(Errno) -> UInt32 {
    let context = try context(a)
    guard int(b) >= 0 else { throw .invalidArgument }
    var done: UInt32 = 0
    while done < b {
      do throws(Errno) { try submit(try UserMemory.read32(c &+ done * 4), context) } catch {
        if done == 0 { throw error }
        break
      }
      done += 1
    }
    return done
  }

  private func submit(_ address: UInt32, _ context: AsyncContext) throws(Errno) {
    let request = try readRequest(address)
    let description = try description(request.number)
    var event: EventCounter?
    if request.notifies {
      event = try self.description(request.eventNumber).file as? EventCounter
      if event == nil { throw .invalidArgument }
    }
    try UserMemory.write32(0, to: address &+ 8)  // aio_key
    try check(request, description)
    try context.admit()
    let result: Int32
    do throws(Errno) { result = Int32(clamping: try perform(request, description)) } catch {
      // A signal does not restart what runs on its own.
      result = -(error.rawValue >= Errno.restart.rawValue ? Errno.interrupted.rawValue : error.rawValue)
    }
    context.finish(.init(data: request.data, request: address, result: result))
    event?.add(1)
  }

  private func readRequest(_ address: UInt32) throws(Errno) -> Request {
    var words: InlineArray<16, UInt32> = .init(repeating: 0)
    try UserMemory.read(address, words: &words)
    // Reserved words must be 0, and buffer and length fit into an address.
    guard words[12] | words[13] == 0, words[7] == 0, words[9] == 0, words[8] <= 0x7FFF_FFFF, words[14] & ~1 == 0 else {
      throw .invalidArgument
    }
    return Request(
      address: address, data: long(words[0], words[1]), flags: words[3], operation: words[4] & 0xFFFF, number: words[5],
      buffer: words[6], count: words[8], offset: Int64(bitPattern: long(words[10], words[11])), eventNumber: words[15],
      notifies: words[14] & 1 != 0)
  }

  /// What cannot be a request is refused; what fails later is an event.
  private func check(_ request: Request, _ description: FileDescription) throws(Errno) {
    switch request.operation {
    case 0, 7: guard description.isReadable else { throw .badFileDescriptor }
    case 1, 8: guard description.isWritable else { throw .badFileDescriptor }
    case 2, 3:
      guard request.flags == 0, request.buffer == 0, request.count == 0, request.offset == 0 else { throw .invalidArgument }
      return
    default: throw .invalidArgument
    }
    if request.offset < 0 { throw .invalidArgument }
    guard request.flags & ~7 == 0 else { throw .notSupportedOnSocket }
    if request.operation < 2 {
      guard UserMemory.isUser(request.buffer, Int(request.count)) else { throw .badAddress }
    }
  }

  private func perform(_ request: Request, _ description: FileDescription) throws(Errno) -> Int {
    let writes = request.operation & 7 == 1 || request.operation == 8
    if request.operation == 2 || request.operation == 3 {
      guard let inode = description.inode, inode.isRegular || inode.isDirectory || inode.type == Mode.block else {
        throw .invalidArgument
      }
      try description.synchronise()
      return 0
    }
    let buffers =
      request.operation >= 7 ? try vectors(request.buffer, request.count) : [IOBuffer(request.buffer, Int(request.count))]
    var offset = UInt64(request.offset)
    let total = try transfer(buffers) { buffer throws(Errno) in
      let count =
        try writes
        ? description.write(&buffer, at: offset).count : description.read(&buffer, at: offset)
      offset += UInt64(count)
      return count
    }
    if writes, request.flags & 6 != 0, description.storage != nil { try description.synchronise() }
    return Int(total)
  }

  /// io_getevents: between `b` and `c` events to `d`; the time in argument 5.
  func ioGetevents(wide: Bool) throws(Errno) -> UInt32 {
    let context = try context(a)
    let timeout = try timespec(e, wide: wide)
    guard int(b) >= 0, int(c) >= 0, int(b) <= int(c) else { throw .invalidArgument }
    let deadline = timeout.map { Deadline.after($0) }
    var count: UInt32 = 0
    if b > 0, timeout != 0 { try context.wait(Int(b), deadline: deadline) }
    while count < c, let event = context.take() {
      let low = UInt32(bitPattern: event.result)
      let words: InlineArray<8, UInt32> = [
        event.data.halves.0, event.data.halves.1, event.request, 0, low, event.result < 0 ? .max : 0, 0, 0,
      ]
      try UserMemory.write(words: words, count: 8, to: d &+ count * 32)
      count += 1
    }
    return count
  }

  /// Its last argument points at a signal mask and its size.
  func ioPgetevents(wide: Bool) throws(Errno) -> UInt32 {
    let mask = f == 0 ? 0 : try UserMemory.read32(f)
    let size = f == 0 ? 0 : try UserMemory.read32(f &+ 4)
    return try masked(mask, size) { () throws(Errno) in try ioGetevents(wide: wide) }
  }

  /// Everything that was submitted is done: there is nothing left to cancel.
  func ioCancel() throws(Errno) -> UInt32 {
    _ = try context(a)
    _ = try UserMemory.read32(b &+ 8)
    throw .invalidArgument
  }
}
