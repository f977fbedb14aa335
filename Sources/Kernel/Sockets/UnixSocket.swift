import Machine
import Sync
import SystemABI
import Threads
import VFS

struct UnixSocketRank: LockRank { static let level: UInt8 = 77 }
struct UnixReceiveRank: LockRank { static let level: UInt8 = 9 }

/// What sockets of one machine need of the file system, which only the system-call layer can reach: making and finding names.
public protocol UnixPathResolver: AnyObject {
  /// The inode of an existing socket file that the caller may write to.
  func find(_ path: [UInt8]) throws(Errno) -> Inode
  /// Makes a socket file. Throws `fileExists`.
  func make(_ path: [UInt8]) throws(Errno) -> Inode
}

/// A socket of this machine. SPEC: unix(7), POSIX.1-2024 §2.10.17.
public final class UnixSocket: Socket {
  /// One send's data, with what came along.
  final class Message {
    let bytes: [UInt8]
    var start = 0
    var rights: [FileDescription]
    /// The user that its files are counted for.
    let sender: UInt32
    let credentials: PeerCredentials
    let address: [UInt8]
    init(_ bytes: [UInt8], _ message: OutgoingMessage, rights: [FileDescription], address: [UInt8]) {
      self.bytes = bytes
      self.rights = rights
      sender = message.sender
      credentials = message.credentials
      self.address = address
    }
  }

  struct State: ~Copyable {
    /// Received and not yet read; `first` is the index of the oldest.
    var messages: [Message?] = []
    var first = 0
    var queuedBytes = 0
    var peer: UnixSocket?
    var wasConnected = false
    var name: [UInt8] = []
    var inode: Inode?
    /// Connections that nobody has accepted: their server ends.
    var backlog: [UnixSocket] = []
    var backlogLimit = 0
    var isListening = false
    var readEnded = false
    var writeEnded = false
    /// The peer will send no more, or is gone altogether.
    var peerWriteEnded = false
    var peerGone = false
    var error: Errno?
    var peerCredentials = PeerCredentials.nobody
    var ownCredentials = PeerCredentials.nobody

    var messageCount: Int { messages.count - first }
    mutating func append(_ message: Message) {
      messages.append(message)
      queuedBytes += message.bytes.count
    }
    mutating func popFirst() {
      queuedBytes -= messages[first].map { $0.bytes.count - $0.start } ?? 0
      messages[first] = nil
      first += 1
      if first == messages.count {
        messages.removeAll(keepingCapacity: true)
        first = 0
      } else if first > 64 {
        messages.removeFirst(first)
        first = 0
      }
    }
    var hasEnded: Bool { readEnded || peerWriteEnded || peerGone }
  }

  /// A socket that messages carry. Guarded by `FilesUnderWay`.
  struct Passage {
    /// How many messages do.
    var uses = 0
    var description: FileDescription?
    var index = 0
    var isCandidate = false
    /// Uses by unreachable sockets.
    var inner = 0
  }
  var passage = Passage()

  private let state = SpinLock<State, UnixSocketRank>(State())
  /// One reader at a time takes messages apart, across the copies to its memory.
  private let receiving = Mutex<Void, UnixReceiveRank>(())
  /// Any change that a waiter on this socket cares about.
  private let event = WaitQueue()
  /// Senders of datagrams that found this socket full.
  private let space = WaitQueue()
  private let resolver: any UnixPathResolver
  private static var datagramLimit: Int { 10 }
  /// What one send moves at a time.
  private static var pieceSize: Int { 65536 }

  public static func start() {
    UnixNames.start()
    FilesUnderWay.start()
  }

  public init(_ type: SocketType, resolver: any UnixPathResolver) {
    self.resolver = resolver
    super.init(type)
  }

  override public var family: UInt16 { 1 }
  private var isConnectionOriented: Bool { type != .datagram }

  /// Two sockets that are each other's peer. SPEC: POSIX.1-2024 socketpair().
  public static func pair(_ type: SocketType, resolver: any UnixPathResolver) -> (UnixSocket, UnixSocket) {
    let first = UnixSocket(type, resolver: resolver)
    let second = UnixSocket(type, resolver: resolver)
    let caller = CallerCredentials.current()
    first.join(second, caller)
    second.join(first, caller)
    return (first, second)
  }

  private func join(_ other: UnixSocket, _ credentials: PeerCredentials) {
    state.withLock {
      $0.peer = other
      $0.wasConnected = true
      $0.peerCredentials = credentials
    }
  }

  // MARK: Names

  /// The bytes of `sun_path`: a path without its NUL, or an abstract name with its NUL first; empty for an unnamed address.
  private static func name(_ address: [UInt8]) throws(Errno) -> [UInt8] {
    guard address.count >= 2, address.count <= 110 else { throw .invalidArgument }
    guard UInt16(address[0]) | UInt16(address[1]) << 8 == 1 else { throw .invalidArgument }
    let path = Array(address[2...])
    if path.first == 0 || path.isEmpty { return path }
    return Array(path.prefix { $0 != 0 })
  }

  private static func address(_ name: [UInt8]) -> [UInt8] {
    // A path's address has its NUL.
    [1, 0] + (name.isEmpty || name[0] == 0 ? name : name + [0])
  }

  override public func bind(_ address: [UInt8]) throws(Errno) {
    var name = try Self.name(address)
    if state.withLock({ !$0.name.isEmpty }) { throw .invalidArgument }
    if name.isEmpty { return try autobind() }
    var inode: Inode?
    if name[0] != 0 {
      do throws(Errno) { inode = try resolver.make(name) } catch { throw error == .fileExists ? .addressInUse : error }
    } else {
      name = Array(name)
    }
    guard UnixNames.add(inode: inode, name, self) else { throw .addressInUse }
    inode?.addUser()
    state.withLock {
      $0.name = name
      $0.inode = inode
    }
  }

  /// Five hexadecimal digits behind a NUL. SPEC: unix(7) "Autobind feature".
  private func autobind() throws(Errno) {
    for _ in 0..<1000 {
      let value = Random.next() & 0xFFFFF
      var name: [UInt8] = [0]
      for shift in stride(from: UInt32(16), through: 0, by: -4) {
        let digit = UInt8(value >> shift & 15)
        name.append(digit < 10 ? 48 + digit : 87 + digit)
      }
      if UnixNames.add(inode: nil, name, self) {
        let given = name
        return state.withLock { $0.name = given }
      }
    }
    throw .addressInUse
  }

  private func target(_ address: [UInt8]) throws(Errno) -> UnixSocket {
    let name = try Self.name(address)
    if name.isEmpty { throw .invalidArgument }
    let inode = name[0] == 0 ? nil : try resolver.find(name)
    guard let socket = UnixNames.find(inode: inode, name) else { throw .connectionRefused }
    if socket.type != type { throw .protocolWrongTypeForSocket }
    return socket
  }

  override public func localAddress() -> [UInt8] { Self.address(state.withLock { $0.name }) }
  override public func peerAddress() throws(Errno) -> [UInt8] {
    guard let peer = state.withLock({ $0.peer }) else { throw .socketNotConnected }
    return peer.localAddress()
  }
  override public var peerCredentials: PeerCredentials { state.withLock { $0.peerCredentials } }
  override public var isListening: Bool { state.withLock { $0.isListening } }

  // MARK: Connections

  override public func listen(_ backlog: Int) throws(Errno) {
    guard isConnectionOriented else { throw .notSupportedOnSocket }
    let caller = CallerCredentials.current()
    try state.withLock { state throws(Errno) in
      if state.name.isEmpty || state.peer != nil { throw .invalidArgument }
      state.isListening = true
      state.backlogLimit = min(max(backlog, 0), 4096)
      state.ownCredentials = caller
    }
    event.wake()
  }

  override public func connect(_ address: [UInt8], nonBlocking: Bool) throws(Errno) {
    if address.count >= 2, address[0] == 0, address[1] == 0, !isConnectionOriented {
      return state.withLock { $0.peer = nil }  // AF_UNSPEC dissolves the association
    }
    let listener = try target(address)
    if !isConnectionOriented {
      state.withLock {
        $0.peer = listener
        $0.wasConnected = true
      }
      return
    }
    if state.withLock({ $0.peer != nil || $0.wasConnected }) { throw .socketIsConnected }
    if isListening { throw .invalidArgument }
    // The server's end is complete before the listener shows it to anybody.
    let server = UnixSocket(type, resolver: resolver)
    let caller = CallerCredentials.current()
    server.join(self, caller)
    let name = listener.state.withLock { $0.name }
    server.state.withLock { $0.name = name }
    do throws(Errno) {
      let owner = try enqueue(server, at: listener, nonBlocking)
      join(server, owner)
    } catch {
      server.state.withLock { $0.peer = nil }
      throw error
    }
    listener.event.wake()
    event.wake()
  }

  /// Puts a connection on a listener's backlog, waiting for room; answers the listener's credentials.
  private func enqueue(_ server: UnixSocket, at listener: UnixSocket, _ nonBlocking: Bool) throws(Errno) -> PeerCredentials {
    while true {
      let owner: PeerCredentials? = try listener.state.withLock { state throws(Errno) in
        guard state.isListening, !state.readEnded else { throw .connectionRefused }
        if state.backlog.count > state.backlogLimit { return nil }
        state.backlog.append(server)
        return state.ownCredentials
      }
      if let owner { return owner }
      let _: Bool = try listener.space.wait(orFail: nonBlocking, deadline: sendDeadline, reason: "connect") {
        listener.state.withLock { $0.backlog.count <= $0.backlogLimit || !$0.isListening } ? true : nil
      }
    }
  }

  override public func accept(nonBlocking: Bool) throws(Errno) -> Socket {
    guard isConnectionOriented, isListening else { throw .invalidArgument }
    let server = try event.wait(orFail: nonBlocking, deadline: receiveDeadline, reason: "accept") {
      state.withLock { state -> UnixSocket? in state.backlog.isEmpty ? nil : state.backlog.removeFirst() }
    }
    space.wake()
    return server
  }

  private var sendDeadline: Deadline? {
    let timeout = options.withLock { $0.sendTimeout }
    return timeout == 0 ? nil : .after(timeout)
  }
  private var receiveDeadline: Deadline? {
    let timeout = options.withLock { $0.receiveTimeout }
    return timeout == 0 ? nil : .after(timeout)
  }

  override public func shutdown(_ how: UInt32) throws(Errno) {
    guard how <= 2 else { throw .invalidArgument }
    let peer: UnixSocket? = try state.withLock { state throws(Errno) in
      if isConnectionOriented, !state.wasConnected, !state.isListening { throw .socketNotConnected }
      if how != 1 { state.readEnded = true }
      if how != 0 { state.writeEnded = true }
      return state.peer
    }
    if how != 0, isConnectionOriented { peer?.state.withLock { $0.peerWriteEnded = true } }
    event.wake()
    space.wake()
    peer?.event.wake()
  }

  override public func close(_ description: FileDescription) { end() }

  /// The last descriptor is gone. What nobody has read is dropped, and the peer learns of it.
  private func end() {
    let (peer, backlog, dropped, name, inode) = state.withLock { state in
      let result = (state.peer, state.backlog, state.messages, state.name, state.inode)
      state.peer = nil
      state.backlog = []
      state.messages = []
      state.first = 0
      state.queuedBytes = 0
      state.isListening = false
      state.readEnded = true
      state.writeEnded = true
      state.inode = nil
      return result
    }
    UnixNames.remove(self, inode: inode, name)
    inode?.removeUser()
    if isConnectionOriented, let peer {
      let unread = dropped.contains { $0 != nil }
      peer.state.withLock { state in
        // A datagram socket's peer is not bound to us; a connection's is.
        if state.peer === self {
          state.peer = nil
          state.peerGone = true
          if unread { state.error = .connectionReset }
        }
      }
      peer.event.wake()
    }
    for server in backlog { server.end() }
    event.wake()
    space.wake()
    FilesUnderWay.drop(dropped.compactMap { $0 })
  }

  /// The sockets that its messages carry, and those of connections that nobody has accepted.
  var carried: [UnixSocket] {
    let (messages, backlog) = state.withLock { ($0.messages, $0.backlog) }
    let own = messages.flatMap { $0?.rights.compactMap { $0.file as? UnixSocket } ?? [] }
    return backlog.reduce(own) { $0 + $1.carried }
  }

  /// Empties the queue of a socket that nobody can reach.
  func takeMessages() -> [Message] {
    let (messages, backlog) = state.withLock { state in
      let all = (state.messages, state.backlog)
      state.messages = []
      state.first = 0
      state.queuedBytes = 0
      return all
    }
    return backlog.reduce(messages.compactMap { $0 }) { $0 + $1.takeMessages() }
  }

  override public func takeError() -> Int32 {
    state.withLock { state in
      let error = state.error
      state.error = nil
      return error?.rawValue ?? 0
    }
  }

  // MARK: Data

  override public func send(_ message: inout OutgoingMessage, nonBlocking: Bool) throws(Errno) -> Int {
    type == .datagram ? try sendDatagram(&message, nonBlocking) : try sendConnected(&message, nonBlocking)
  }

  private func sendConnected(_ message: inout OutgoingMessage, _ nonBlocking: Bool) throws(Errno) -> Int {
    if let address = message.address, !address.isEmpty {
      throw state.withLock { $0.wasConnected } ? .socketIsConnected : .notSupportedOnSocket
    }
    let record = type == .sequencedPacket
    if record, message.data.count > options.withLock({ $0.sendBuffer }) { throw .messageTooLong }
    var total = 0
    repeat {
      let bytes: [UInt8]
      do throws(Errno) { bytes = try message.data.take(limit: record ? .max : Self.pieceSize) } catch {
        if total > 0 { return total }
        throw error
      }
      let rights = message.rights
      try FilesUnderWay.begin(rights, of: message.sender, limit: message.rightsLimit)
      message.rights = []
      let piece = Message(bytes, message, rights: rights, address: [])
      do throws(Errno) { try deliver(piece, nonBlocking) } catch {
        FilesUnderWay.end(rights, of: message.sender)
        message.rights = rights
        if total > 0 { return total }
        throw error
      }
      total += bytes.count
    } while message.data.count > 0
    return total
  }

  private enum Delivery { case done, full, noPeer }

  /// Puts a message on the peer's queue, waiting for room.
  private func deliver(_ message: Message, _ nonBlocking: Bool) throws(Errno) {
    let limit = options.withLock { $0.sendBuffer }
    while true {
      let (peer, ended, connected) = state.withLock { ($0.peer, $0.writeEnded, $0.wasConnected) }
      if ended { throw .brokenPipe }
      guard let peer else { throw connected ? .brokenPipe : .socketNotConnected }
      let delivery: Delivery = peer.state.withLock { state in
        if state.readEnded { return .noPeer }
        if state.queuedBytes >= limit, state.messageCount > 0 { return .full }
        state.append(message)
        return .done
      }
      switch delivery {
      case .done:
        peer.event.wake()
        return
      case .noPeer: throw .brokenPipe
      case .full:
        let _: Bool = try event.wait(orFail: nonBlocking, deadline: sendDeadline, reason: "unix send") {
          let gone = state.withLock { $0.peer == nil || $0.writeEnded }
          return gone || peer.state.withLock({ $0.queuedBytes < limit || $0.readEnded }) ? true : nil
        }
      }
    }
  }

  private func sendDatagram(_ message: inout OutgoingMessage, _ nonBlocking: Bool) throws(Errno) -> Int {
    let destination: UnixSocket
    if let address = message.address, !address.isEmpty {
      destination = try target(address)
    } else {
      guard let peer = state.withLock({ $0.peer }) else {
        throw state.withLock { $0.peerGone } ? .connectionRefused : .socketNotConnected
      }
      destination = peer
    }
    if state.withLock({ $0.writeEnded }) { throw .brokenPipe }
    if message.data.count > options.withLock({ $0.sendBuffer }) - 32 { throw .messageTooLong }
    let bytes = try message.data.take(limit: .max)
    let own = state.withLock { $0.name }
    let rights = message.rights
    try FilesUnderWay.begin(rights, of: message.sender, limit: message.rightsLimit)
    do throws(Errno) {
      try deliver(Message(bytes, message, rights: rights, address: Self.address(own)), to: destination, nonBlocking)
    } catch {
      FilesUnderWay.end(rights, of: message.sender)
      throw error
    }
    message.rights = []
    return bytes.count
  }

  /// Puts a datagram on a queue, waiting for room.
  private func deliver(_ datagram: Message, to destination: UnixSocket, _ nonBlocking: Bool) throws(Errno) {
    while true {
      let delivery: Delivery = try destination.state.withLock { state throws(Errno) in
        if state.readEnded { return .noPeer }
        if let peer = state.peer, peer !== self, destination !== self { throw .notPermitted }
        if state.messageCount > Self.datagramLimit { return .full }
        state.append(datagram)
        return .done
      }
      switch delivery {
      case .done:
        destination.event.wake()
        return
      case .noPeer: throw .connectionRefused
      case .full:
        let _: Bool = try destination.space.wait(orFail: nonBlocking, deadline: sendDeadline, reason: "unix send") {
          destination.state.withLock { $0.messageCount <= Self.datagramLimit || $0.readEnded } ? true : nil
        }
      }
    }
  }

  override public func receive(into data: inout UserVectors, flags: UInt32, nonBlocking: Bool) throws(Errno) -> IncomingMessage {
    if isConnectionOriented, !state.withLock({ $0.wasConnected }) { throw type == .stream ? .invalidArgument : .socketNotConnected }
    var result = IncomingMessage()
    let deadline = receiveDeadline
    while true {
      let before = data.count
      do throws(Errno) {
        if try take(into: &data, flags, &result) {
          let wanted = type == .stream && flags & MessageFlags.waitAll != 0 && flags & MessageFlags.peek == 0 && data.count > 0
          if !wanted || !result.rights.isEmpty { return result }
        }
        if let error = state.withLock({ $0.error }), result.count == 0 {
          _ = takeError()
          throw error
        }
        if state.withLock({ $0.messageCount == 0 && $0.hasEnded }) || before == 0 && type == .stream { return result }
        let _: Bool = try event.wait(orFail: nonBlocking, deadline: deadline, reason: "unix receive") {
          state.withLock { $0.messageCount > 0 || $0.hasEnded || $0.error != nil } ? true : nil
        }
      } catch {
        if result.count > 0 { return result }
        throw error
      }
    }
  }

  /// Copies what is there; false when there was nothing.
  private func take(into data: inout UserVectors, _ flags: UInt32, _ result: inout IncomingMessage) throws(Errno) -> Bool {
    let passCredentials = options.withLock { $0.passCredentials }
    let took = try receiving.withLock { _ throws(Errno) in
      var took = false
      while let message = state.withLock({ $0.messageCount > 0 ? $0.messages[$0.first] : nil }) {
        // A stream's bytes join, but not across passed files.
        if took, type != .stream || !message.rights.isEmpty || data.count == 0 { break }
        let copied = try data.put(message.bytes, from: message.start)
        took = true
        result.count += copied
        result.address = message.address
        if passCredentials { result.credentials = message.credentials }
        let stop = finish(message, copied, flags, &result)
        if stop { break }
      }
      return took
    }
    if took, flags & MessageFlags.peek == 0 {
      space.wake()
      state.withLock { $0.peer }?.event.wake()
    }
    return took
  }

  /// Takes what was copied off the queue; whether the receive ends here.
  private func finish(_ message: Message, _ copied: Int, _ flags: UInt32, _ result: inout IncomingMessage) -> Bool {
    let left = message.bytes.count - message.start - copied
    if type != .stream, left > 0 { result.flags |= MessageFlags.truncated }
    if type == .sequencedPacket { result.flags |= MessageFlags.endOfRecord }
    if flags & MessageFlags.peek != 0 {
      // The files are only shown to whoever takes them.
      if flags & MessageFlags.truncated != 0, type != .stream { result.count += left }
      return true
    }
    let rights = message.rights
    result.rights += rights
    message.rights = []
    state.withLock { state in
      if type == .stream, left > 0 {
        message.start += copied
        state.queuedBytes -= copied
      } else {
        state.popFirst()
      }
    }
    FilesUnderWay.end(rights, of: message.sender)
    // MSG_TRUNC asks for a datagram's real length.
    if type != .stream, flags & MessageFlags.truncated != 0 { result.count += left }
    return type != .stream || !rights.isEmpty || left > 0
  }

  override public var available: Int {
    state.withLock { state in
      if type == .stream { return state.queuedBytes }
      return state.messageCount > 0 ? state.messages[state.first]?.bytes.count ?? 0 : 0
    }
  }

  override public func poll(_ table: PollTable?) -> PollEvents {
    table?.add(event)
    let (peer, listening) = state.withLock { ($0.peer, $0.isListening) }
    let limit = options.withLock { $0.sendBuffer }
    let hasRoom = !isConnectionOriented || peer == nil || peer!.state.withLock { $0.queuedBytes < limit }
    return state.withLock { state in
      var events: PollEvents = []
      if state.messageCount > 0 || listening && !state.backlog.isEmpty { events.formUnion([.readable, .normalRead]) }
      if state.error != nil { events.insert(.error) }
      if isConnectionOriented {
        if state.hasEnded, !listening { events.formUnion([.readable, .normalRead, .peerHangUp]) }
        if state.peerGone || state.readEnded && state.writeEnded { events.insert(.hangUp) }
        if !listening, !state.wasConnected { events.insert(.hangUp) }
        if !listening, state.wasConnected, hasRoom { events.formUnion([.writable, .normalWrite]) }
        if !listening, !state.wasConnected { events.formUnion([.writable, .normalWrite]) }
      } else {
        if state.readEnded { events.formUnion([.readable, .normalRead, .peerHangUp]) }
        events.formUnion([.writable, .normalWrite])
      }
      return events
    }
  }
}
