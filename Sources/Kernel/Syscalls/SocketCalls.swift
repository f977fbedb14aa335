import Machine
import Primitives
import Processes
import Signals
import Sockets
import Sync
import SystemABI
import Threads
import VFS

/// Sockets. SPEC: socket(2), socketcall(2), unix(7).
extension Call {
  private func socketFile(_ number: UInt32) throws(Errno) -> (Socket, FileDescription) {
    let description = try description(number)
    guard let socket = description.file as? Socket else { throw .notSocket }
    return (socket, description)
  }

  private func isNonBlocking(_ description: FileDescription, _ flags: UInt32) -> Bool {
    description.isNonBlocking || flags & MessageFlags.dontWait != 0
  }

  private static func make(_ family: UInt32, _ type: UInt32, _ protocolNumber: UInt32) throws(Errno) -> SocketType {
    guard type & ~(0xF | OpenFlags.closeOnExec | OpenFlags.nonBlocking) == 0 else { throw .invalidArgument }
    guard family == 1 else { throw .addressFamilyNotSupported }
    guard let kind = SocketType(rawValue: type & 0xF) ?? (type & 0xF == 3 ? .datagram : nil) else { throw .socketTypeNotSupported }
    guard protocolNumber == 0 || protocolNumber == 1 else { throw .protocolNotSupported }
    return kind
  }

  private func socketFlags(_ type: UInt32) -> UInt32 { OpenFlags.readWrite | type & OpenFlags.nonBlocking }

  func socket(_ family: UInt32, _ type: UInt32, _ protocolNumber: UInt32) throws(Errno) -> UInt32 {
    let kind = try Self.make(family, type, protocolNumber)
    return try install(
      UnixSocket(kind, resolver: UnixPaths.shared), flags: socketFlags(type), closeOnExec: type & OpenFlags.closeOnExec != 0)
  }

  func socketpair(_ family: UInt32, _ type: UInt32, _ protocolNumber: UInt32, _ address: UInt32) throws(Errno) -> UInt32 {
    let kind = try Self.make(family, type, protocolNumber)
    let (first, second) = UnixSocket.pair(kind, resolver: UnixPaths.shared)
    let close = type & OpenFlags.closeOnExec != 0
    let one = try install(first, flags: socketFlags(type), closeOnExec: close)
    let two: UInt32
    do throws(Errno) { two = try install(second, flags: socketFlags(type), closeOnExec: close) } catch {
      try? process.close(int(one))
      throw error
    }
    do throws(Errno) {
      try UserMemory.write32(one, to: address)
      try UserMemory.write32(two, to: address &+ 4)
    } catch {
      try? process.close(int(one))
      try? process.close(int(two))
      throw error
    }
    return 0
  }

  private func socketAddress(_ address: UInt32, _ length: UInt32) throws(Errno) -> [UInt8] {
    guard length <= 128 else { throw .invalidArgument }
    var buffer = IOBuffer(address, Int(length))
    return try buffer.takeBytes(limit: 128)
  }

  /// Copies an address out, cut to the room that `*length` says; `*length` becomes its real length.
  private func putAddress(_ bytes: [UInt8], to address: UInt32, length: UInt32) throws(Errno) {
    if address == 0 || length == 0 { return }
    let room = int(try UserMemory.read32(length))
    guard room >= 0 else { throw .invalidArgument }
    try UserMemory.write(bytes, 0..<min(bytes.count, Int(room)), to: address)
    try UserMemory.write32(UInt32(bytes.count), to: length)
  }

  func bind(_ number: UInt32, _ address: UInt32, _ length: UInt32) throws(Errno) -> UInt32 {
    let (socket, _) = try socketFile(number)
    try socket.bind(try socketAddress(address, length))
    return 0
  }

  func connect(_ number: UInt32, _ address: UInt32, _ length: UInt32) throws(Errno) -> UInt32 {
    let (socket, description) = try socketFile(number)
    try socket.connect(try socketAddress(address, length), nonBlocking: description.isNonBlocking)
    return 0
  }

  func listen(_ number: UInt32, _ backlog: UInt32) throws(Errno) -> UInt32 {
    try socketFile(number).0.listen(Int(int(backlog) < 0 ? 4096 : int(backlog)))
    return 0
  }

  func accept(_ number: UInt32, _ address: UInt32, _ length: UInt32, flags: UInt32) throws(Errno) -> UInt32 {
    if flags & ~(OpenFlags.closeOnExec | OpenFlags.nonBlocking) != 0 { throw .invalidArgument }
    let (socket, description) = try socketFile(number)
    let accepted = try socket.accept(nonBlocking: description.isNonBlocking)
    let result = try install(accepted, flags: socketFlags(flags), closeOnExec: flags & OpenFlags.closeOnExec != 0)
    do throws(Errno) {
      // A peer that is gone already has no name left.
      let peer = (try? accepted.peerAddress()) ?? [UInt8(accepted.family), 0]
      try putAddress(peer, to: address, length: length)
    } catch {
      try? process.close(int(result))
      throw error
    }
    return result
  }

  func getsockname(_ number: UInt32, _ address: UInt32, _ length: UInt32, peer: Bool) throws(Errno) -> UInt32 {
    let (socket, _) = try socketFile(number)
    try putAddress(peer ? try socket.peerAddress() : socket.localAddress(), to: address, length: length)
    return 0
  }

  func shutdown(_ number: UInt32, _ how: UInt32) throws(Errno) -> UInt32 {
    try socketFile(number).0.shutdown(how)
    return 0
  }

  // MARK: Data

  /// Sends, and raises SIGPIPE for a broken connection unless told not to.
  private func send(_ socket: Socket, _ description: FileDescription, _ message: inout OutgoingMessage) throws(Errno) -> UInt32 {
    defer { for right in message.rights { right.drop() } }
    do throws(Errno) {
      return UInt32(result: try socket.send(&message, nonBlocking: isNonBlocking(description, message.flags)))
    } catch {
      if error == .brokenPipe, message.flags & MessageFlags.noSignal == 0, socket.type != .datagram {
        task.process.send(.init(.pipe), to: task)
      }
      throw error
    }
  }

  func sendto(_ number: UInt32, _ data: UInt32, _ count: UInt32, flags: UInt32, _ address: UInt32, _ length: UInt32) throws(Errno)
    -> UInt32
  {
    let (socket, description) = try socketFile(number)
    var message = OutgoingMessage(
      data: UserVectors(IOBuffer(data, try size(count))), address: address == 0 ? nil : try socketAddress(address, length), rights: [],
      credentials: CallerCredentials.current(), flags: flags)
    return try send(socket, description, &message)
  }

  func recvfrom(_ number: UInt32, _ data: UInt32, _ count: UInt32, flags: UInt32, _ address: UInt32, _ length: UInt32) throws(Errno)
    -> UInt32
  {
    let (socket, description) = try socketFile(number)
    var vectors = UserVectors(IOBuffer(data, try size(count)))
    let message = try socket.receive(into: &vectors, flags: flags, nonBlocking: isNonBlocking(description, flags))
    for right in message.rights { right.drop() }
    if address != 0 { try putAddress(message.address, to: address, length: length) }
    return UInt32(result: message.count)
  }

  /// `struct msghdr` on i386: name, namelen, iov, iovlen, control, controllen, flags; 28 bytes.
  private struct Header {
    let name: UInt32, nameLength: UInt32, vectors: UInt32, vectorCount: UInt32, control: UInt32, controlLength: UInt32
    init(_ address: UInt32) throws(Errno) {
      name = try UserMemory.read32(address)
      nameLength = try UserMemory.read32(address &+ 4)
      vectors = try UserMemory.read32(address &+ 8)
      vectorCount = try UserMemory.read32(address &+ 12)
      control = try UserMemory.read32(address &+ 16)
      controlLength = try UserMemory.read32(address &+ 20)
    }
  }

  func sendmsg(_ number: UInt32, _ address: UInt32, flags: UInt32) throws(Errno) -> UInt32 {
    let (socket, description) = try socketFile(number)
    let header = try Header(address)
    guard header.vectorCount <= 1024 else { throw .messageTooLong }
    var message = OutgoingMessage(
      data: UserVectors(try vectors(header.vectors, header.vectorCount)),
      address: header.name == 0 || header.nameLength == 0 ? nil : try socketAddress(header.name, header.nameLength), rights: [],
      credentials: CallerCredentials.current(), flags: flags)
    if header.control != 0, header.controlLength > 0 { try readControl(header, into: &message) }
    return try send(socket, description, &message)
  }

  /// Control messages: `struct cmsghdr` is length, level, type. SPEC: cmsg(3), unix(7).
  private func readControl(_ header: Header, into message: inout OutgoingMessage) throws(Errno) {
    guard header.controlLength <= 20480 else { throw .invalidArgument }
    var buffer = IOBuffer(header.control, Int(header.controlLength))
    let bytes = try buffer.takeBytes(limit: 20480)
    let span = bytes.span
    var at = 0
    var rights: [FileDescription] = []
    do throws(Errno) {
      while at + 12 <= bytes.count {
        let length = Int(span.u32(at) ?? 0)
        guard length >= 12, length <= bytes.count - at else { throw Errno.invalidArgument }
        if span.u32(at + 4) == 1 {
          switch span.u32(at + 8) {
          case 1: try takeRights(bytes, (at + 12)..<(at + length), &rights)
          case 2: message.credentials = try checkedCredentials(bytes, at + 12, length - 12)
          default: throw Errno.invalidArgument
          }
        }
        at += (length + 3) & ~3
      }
    } catch {
      for right in rights { right.drop() }
      throw error
    }
    message.rights = rights
    let who = process.who
    message.sender = who.uid
    if !who.has(.resource), !who.has(.administrate) { message.rightsLimit = process.limits.withLock { $0[7].soft } }
  }

  private func takeRights(_ bytes: [UInt8], _ range: Range<Int>, _ rights: inout [FileDescription]) throws(Errno) {
    let span = bytes.span
    guard range.count / 4 + rights.count <= 253 else { throw .invalidArgument }
    for offset in stride(from: range.lowerBound, to: range.upperBound - 3, by: 4) {
      let right = try description(span.u32(offset) ?? .max)
      right.adopt()
      rights.append(right)
    }
  }

  private func checkedCredentials(_ bytes: [UInt8], _ at: Int, _ count: Int) throws(Errno) -> PeerCredentials {
    let span = bytes.span
    guard count >= 12, let id = span.u32(at), let user = span.u32(at + 4), let group = span.u32(at + 8) else { throw .invalidArgument }
    let who = process.who
    guard int(id) == process.id || who.has(.administrate), [who.uid, who.euid, who.suid].contains(user) || who.has(.setUser),
      [who.gid, who.egid, who.sgid].contains(group) || who.has(.setGroup)
    else { throw .notPermitted }
    return PeerCredentials(process: int(id), user: user, group: group)
  }

  func recvmsg(_ number: UInt32, _ address: UInt32, flags: UInt32) throws(Errno) -> UInt32 {
    let (socket, description) = try socketFile(number)
    let header = try Header(address)
    guard header.vectorCount <= 1024 else { throw .messageTooLong }
    var data = UserVectors(try vectors(header.vectors, header.vectorCount))
    var message = try socket.receive(into: &data, flags: flags, nonBlocking: isNonBlocking(description, flags))
    let used = try writeControl(header, &message, flags)
    if header.name != 0 {
      try UserMemory.write(message.address, 0..<min(message.address.count, Int(clamping: header.nameLength)), to: header.name)
    }
    try UserMemory.write32(header.name == 0 ? 0 : UInt32(message.address.count), to: address &+ 4)
    try UserMemory.write32(used, to: address &+ 20)
    try UserMemory.write32(message.flags, to: address &+ 24)
    return UInt32(result: message.count)
  }

  /// Writes what came along; answers the bytes used. Files that do not fit are closed again, and MSG_CTRUNC says so.
  private func writeControl(_ header: Header, _ message: inout IncomingMessage, _ flags: UInt32) throws(Errno) -> UInt32 {
    var rights = message.rights
    message.rights = []
    defer { for right in rights { right.drop() } }
    let room = header.control == 0 ? 0 : header.controlLength
    var used: UInt32 = 0
    if let who = message.credentials {
      if room >= 24 {
        for (index, word) in [24, 1, 2, UInt32(bitPattern: who.process), who.user, who.group].enumerated() {
          try UserMemory.write32(word, to: header.control &+ UInt32(index) * 4)
        }
        used = 24
      } else {
        message.flags |= MessageFlags.controlTruncated
      }
    }
    guard !rights.isEmpty else { return used }
    let count = room >= used + 12 ? min(rights.count, Int((room - used - 12) / 4)) : 0
    if count < rights.count { message.flags |= MessageFlags.controlTruncated }
    if count == 0 { return used }
    var written: UInt32 = 0
    while Int(written) < count {
      let number: Int32
      do throws(Errno) {
        number = try process.install(rights[0], closeOnExec: flags & MessageFlags.closeOnExec != 0)
      } catch {
        message.flags |= MessageFlags.controlTruncated
        break
      }
      rights.removeFirst().drop()  // the descriptor has a use of its own now
      try UserMemory.write32(UInt32(bitPattern: number), to: header.control &+ used &+ 12 &+ written * 4)
      written += 1
    }
    for (index, word) in [12 + written * 4, 1, 1].enumerated() {
      try UserMemory.write32(word, to: header.control &+ used &+ UInt32(index) * 4)
    }
    return used + 12 + written * 4
  }

  /// sendmmsg and recvmmsg: `struct mmsghdr` is a msghdr and the count, 32 bytes.
  func multiple(_ body: (UInt32) throws(Errno) -> UInt32) throws(Errno) -> UInt32 {
    var done: UInt32 = 0
    while done < min(c, 1024) {
      let header = b &+ done * 32
      do throws(Errno) { try UserMemory.write32(try body(header), to: header &+ 28) } catch {
        if done > 0 { return done }
        throw error
      }
      done += 1
    }
    return done
  }

  func recvmmsg(wide: Bool) throws(Errno) -> UInt32 {
    let timeout = try timespec(e, wide: wide)
    let deadline = timeout.map { Deadline.after($0) }
    var flags = d & ~0x10000
    let waitForOne = d & 0x10000 != 0
    return try multiple { header throws(Errno) in
      if header != b, let deadline, deadline.hasPassed { throw .wouldBlock }
      let count = try recvmsg(a, header, flags: flags)
      if waitForOne { flags |= MessageFlags.dontWait }
      return count
    }
  }

  // MARK: Options

  func getsockopt(_ number: UInt32, _ level: UInt32, _ name: UInt32, _ value: UInt32, _ length: UInt32) throws(Errno) -> UInt32 {
    let (socket, _) = try socketFile(number)
    guard level == 1 else { throw .notSupportedOnSocket }
    let options = socket.options.withLock { $0 }
    let words: [UInt32]
    switch name {
    case 2: words = [options.reuseAddress ? 1 : 0]
    case 3: words = [socket.type.rawValue]
    case 4: words = [UInt32(bitPattern: socket.takeError())]
    case 6: words = [options.broadcast ? 1 : 0]
    case 7: words = [UInt32(options.sendBuffer)]
    case 8: words = [UInt32(options.receiveBuffer)]
    case 9: words = [options.keepAlive ? 1 : 0]
    case 13: words = [options.linger.on, options.linger.seconds]
    case 16: words = [options.passCredentials ? 1 : 0]
    case 17:
      let who = socket.peerCredentials
      words = [UInt32(bitPattern: who.process), who.user, who.group]
    case 20, 21:
      let time = name == 20 ? options.receiveTimeout : options.sendTimeout
      words = [UInt32(truncatingIfNeeded: time / 1_000_000_000), UInt32(time % 1_000_000_000 / 1000)]
    case 30: words = [socket.isListening ? 1 : 0]
    case 38: words = [0]
    case 39: words = [UInt32(socket.family)]
    default: throw .protocolNotAvailable
    }
    let room = try UserMemory.read32(length)
    guard int(room) >= 0 else { throw .invalidArgument }
    var bytes = [UInt8](repeating: 0, count: words.count * 4)
    var out = bytes.mutableSpan
    for index in words.indices { out.put32(words[index], at: index * 4) }
    let count = min(bytes.count, Int(room))
    try UserMemory.write(bytes, 0..<count, to: value)
    try UserMemory.write32(UInt32(count), to: length)
    return 0
  }

  func setsockopt(_ number: UInt32, _ level: UInt32, _ name: UInt32, _ value: UInt32, _ length: UInt32) throws(Errno) -> UInt32 {
    let (socket, _) = try socketFile(number)
    guard level == 1 else { throw .notSupportedOnSocket }
    guard length >= 4 else { throw .invalidArgument }
    let word = try UserMemory.read32(value)
    let second = length >= 8 ? try UserMemory.read32(value &+ 4) : 0
    if name == 20 || name == 21 || name == 13, length < 8 { throw .invalidArgument }
    if name == 20 || name == 21, int(word) < 0 || second >= 1_000_000 { throw .outOfRange }
    try socket.options.withLock { options throws(Errno) in
      switch name {
      case 2: options.reuseAddress = word != 0
      case 6: options.broadcast = word != 0
      case 7, 32: options.sendBuffer = Int(min(max(word, 2304), 212_992)) * 2
      case 8, 33: options.receiveBuffer = Int(min(max(word, 1152), 212_992)) * 2
      case 9: options.keepAlive = word != 0
      case 13: options.linger = (word != 0 ? 1 : 0, second)
      case 16: options.passCredentials = word != 0
      case 20: options.receiveTimeout = UInt64(word) * 1_000_000_000 + UInt64(second) * 1000
      case 21: options.sendTimeout = UInt64(word) * 1_000_000_000 + UInt64(second) * 1000
      default: throw .protocolNotAvailable
      }
    }
    return 0
  }

  /// The one call that all socket calls once were: a number and a pointer to the arguments.
  func socketcall() throws(Errno) -> UInt32 {
    let counts: [UInt32] = [0, 3, 3, 3, 2, 3, 3, 3, 4, 4, 4, 6, 6, 2, 5, 5, 3, 3, 4, 5, 4]
    guard a >= 1, a < 21 else { throw .invalidArgument }
    var w: [UInt32] = []
    for index in 0..<counts[Int(a)] { w.append(try UserMemory.read32(b &+ index * 4)) }
    switch a {
    case 1: return try socket(w[0], w[1], w[2])
    case 2: return try bind(w[0], w[1], w[2])
    case 3: return try connect(w[0], w[1], w[2])
    case 4: return try listen(w[0], w[1])
    case 5: return try accept(w[0], w[1], w[2], flags: 0)
    case 6: return try getsockname(w[0], w[1], w[2], peer: false)
    case 7: return try getsockname(w[0], w[1], w[2], peer: true)
    case 8: return try socketpair(w[0], w[1], w[2], w[3])
    case 9: return try sendto(w[0], w[1], w[2], flags: w[3], 0, 0)
    case 10: return try recvfrom(w[0], w[1], w[2], flags: w[3], 0, 0)
    case 11: return try sendto(w[0], w[1], w[2], flags: w[3], w[4], w[5])
    case 12: return try recvfrom(w[0], w[1], w[2], flags: w[3], w[4], w[5])
    case 13: return try shutdown(w[0], w[1])
    case 14: return try setsockopt(w[0], w[1], w[2], w[3], w[4])
    case 15: return try getsockopt(w[0], w[1], w[2], w[3], w[4])
    case 16: return try sendmsg(w[0], w[1], flags: w[2])
    case 17: return try recvmsg(w[0], w[1], flags: w[2])
    case 18: return try accept(w[0], w[1], w[2], flags: w[3])
    default: throw .noFunction  // recvmmsg and sendmmsg have had their own numbers for as long
    }
  }
}

/// Socket files, made and found as the calling process sees the file system.
final class UnixPaths: UnixPathResolver {
  private static let cell = BootCell<UnixPaths>()
  static var shared: UnixPaths { cell.value }
  static func start() { cell.set(UnixPaths()) }

  func find(_ path: [UInt8]) throws(Errno) -> Inode {
    let process = Task.currentTask.process
    var walk = PathWalk(process.pathContext)
    let inode = try walk.resolve(path).inode()
    guard inode.type == Mode.socket else { throw .connectionRefused }
    try inode.check(2, process.who)
    return inode.content
  }

  func make(_ path: [UInt8]) throws(Errno) -> Inode {
    let process = Task.currentTask.process
    var walk = PathWalk(process.pathContext)
    let place = try walk.resolveParent(path)
    let who = process.who
    let umask = process.files.withLock { $0.umask }
    let attributes = Attributes(mode: Mode.socket | 0o777 & ~umask, owner: who.fsuid, group: who.fsgid)
    return try Names.create(place, who) { directory throws(Errno) in
      try directory.fileSystem.create(place.name, in: directory, attributes)
    }.inode().content
  }
}

/// The parts of the socket layer that need the process layer; set up at boot.
public enum SocketServices {
  public static func start() {
    UnixSocket.start()
    UnixPaths.start()
    CallerCredentials.source.set(
      .init {
        let process = Task.currentTask.process
        let who = process.who
        return PeerCredentials(process: process.id, user: who.uid, group: who.gid)
      })
  }
}
