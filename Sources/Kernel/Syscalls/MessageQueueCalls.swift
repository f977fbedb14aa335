import Machine
import PosixQueues
import Processes
import Signals
import Sync
import SystemABI
import Threads
import VFS

/// POSIX message queues. SPEC: mq_overview(7), mq_open(2), mq_notify(2), mq_getsetattr(2).
extension Call {
  /// Linux's limits, without and with CAP_SYS_RESOURCE; a message is one piece of the kernel's memory.
  private static var ordinaryLimits: PosixQueue.Limits { .init(messages: 10, size: 8192) }
  private static var greatestLimits: PosixQueue.Limits { .init(messages: 65536, size: 65536) }

  /// The C library passes the name without its slash.
  private func queueName() throws(Errno) -> ParentAndName {
    let name = try path(a)
    if name.isEmpty { throw .noSuchFileOrDirectory }
    if name.count > 255 { throw .fileNameTooLong }
    if name.contains(47) || name == [46] || name == [46, 46] { throw .permissionDenied }
    return ParentAndName(parent: PosixQueues.root, name: name, wantsDirectory: false)
  }

  func mqOpen() throws(Errno) -> UInt32 {
    let access = b & OpenFlags.accessMask
    guard access != 3 else { throw .invalidArgument }
    let name = try queueName()
    var limits: PosixQueue.Limits?
    if b & OpenFlags.create != 0, d != 0 { limits = try queueLimits(d) }
    let who = process.who
    var walk = PathWalk(PathContext(root: PosixQueues.root, directory: PosixQueues.root, credentials: who))
    var place = try? walk.resolve(name.name)
    if place != nil {
      if b & OpenFlags.create != 0, b & OpenFlags.exclusive != 0 { throw .fileExists }
    } else {
      guard b & OpenFlags.create != 0 else { throw .noSuchFileOrDirectory }
      let umask = process.files.withLock { $0.umask }
      let attributes = newAttributes(Mode.regular | c & 0o777 & ~umask, in: name.parent)
      let wanted = limits ?? Self.ordinaryLimits
      place = try Names.create(name, who) { directory throws(Errno) in
        guard let system = directory.fileSystem as? PosixQueueFS else { throw .noFunction }
        return try system.create(name.name, attributes, wanted)
      }
    }
    guard let place else { throw .noSuchFileOrDirectory }
    try place.inode().check(access == 0 ? 4 : access == OpenFlags.writeOnly ? 2 : 6, who)
    let description = try FileDescription.open(place, flags: b & (OpenFlags.accessMask | OpenFlags.nonBlocking))
    do throws(Errno) { return UInt32(bitPattern: try process.install(description, closeOnExec: true)) } catch {
      description.abandon()
      throw error
    }
  }

  private func queueLimits(_ address: UInt32) throws(Errno) -> PosixQueue.Limits {
    let (messages, size) = (int(try UserMemory.read32(address &+ 4)), int(try UserMemory.read32(address &+ 8)))
    let greatest = process.who.has(.resource) ? Self.greatestLimits : Self.ordinaryLimits
    guard messages > 0, size > 0, messages <= greatest.messages, size <= greatest.size else { throw .invalidArgument }
    return .init(messages: Int(messages), size: Int(size))
  }

  func mqUnlink() throws(Errno) -> UInt32 {
    try Names.remove(try queueName(), directory: false, process.who)
    return 0
  }

  private func queue(_ number: UInt32) throws(Errno) -> (PosixQueue, FileDescription) {
    let description = try description(number)
    guard let file = description.file as? PosixQueueFile else { throw .badFileDescriptor }
    return (file.queue, description)
  }

  /// The time in argument 5, on the real-time clock.
  private func queueDeadline(wide: Bool) throws(Errno) -> Deadline? { try timespec(e, wide: wide).map { .wallClock($0) } }

  func mqSend(wide: Bool) throws(Errno) -> UInt32 {
    let deadline = try queueDeadline(wide: wide)
    guard d < 32768 else { throw .invalidArgument }
    let (queue, description) = try queue(a)
    guard description.flags & OpenFlags.accessMask != 0 else { throw .badFileDescriptor }
    guard c <= UInt32(queue.limits.size) else { throw .messageTooLong }
    if !Frames.hasUnreserved(32) { throw .noMemory }
    var buffer = IOBuffer(b, Int(c))
    let message = try buffer.takeBytes(limit: Int(c))
    try queue.send(message, priority: d, nonBlocking: description.isNonBlocking, deadline: deadline, by: process)
    return 0
  }

  func mqReceive(wide: Bool) throws(Errno) -> UInt32 {
    let deadline = try queueDeadline(wide: wide)
    let (queue, description) = try queue(a)
    guard description.flags & OpenFlags.accessMask != OpenFlags.writeOnly else { throw .badFileDescriptor }
    guard c >= UInt32(queue.limits.size) else { throw .messageTooLong }
    let found = try queue.receive(nonBlocking: description.isNonBlocking, deadline: deadline)
    let message = found.message
    try UserMemory.write(message.span, to: b)
    if d != 0 { try UserMemory.write32(found.priority, to: d) }
    return UInt32(message.count)
  }

  /// `struct sigevent`: a signal, or nothing but the queue's being taken. SIGEV_THREAD needs a netlink socket, which is not here.
  func mqNotify() throws(Errno) -> UInt32 {
    var wish: PosixQueue.Notification?
    if b != 0 {
      let value = try UserMemory.read32(b)
      let number = try UserMemory.read32(b &+ 4)
      switch try UserMemory.read32(b &+ 8) {
      case 0:
        guard number >= 1, number <= 64 else { throw .invalidArgument }
        wish = .init(process: process, signal: Signal(UInt8(number)), value: value)
      case 1: wish = .init(process: process, signal: nil, value: value)
      case 2: throw .noFunction
      default: throw .invalidArgument
      }
    }
    let (queue, _) = try queue(a)
    try queue.notify(wish, of: process)
    return 0
  }

  /// `struct mq_attr`: flags, most messages, most bytes of one, how many there are, and four words of nothing.
  func mqGetsetattr() throws(Errno) -> UInt32 {
    var wanted: UInt32?
    if b != 0 {
      let flags = try UserMemory.read32(b)
      guard flags & ~OpenFlags.nonBlocking == 0 else { throw .invalidArgument }
      wanted = flags
    }
    let (queue, description) = try queue(a)
    let old = description.flags & OpenFlags.nonBlocking
    if let wanted { description.flags = description.flags & ~OpenFlags.nonBlocking | wanted }
    if c != 0 {
      var words: [8 of UInt32] = .init(repeating: 0)
      (words[0], words[1]) = (old, UInt32(queue.limits.messages))
      (words[2], words[3]) = (UInt32(queue.limits.size), UInt32(queue.count))
      try UserMemory.write(words: words, count: 8, to: c)
    }
    return 0
  }
}
