import Machine
import Sync
import SystemABI
import Threads
import VFS

/// How a socket carries data. SPEC: POSIX.1-2024 <sys/socket.h>, numbers as Linux's.
public enum SocketType: UInt32, Sendable {
  case stream = 1
  case datagram = 2
  case sequencedPacket = 5
}

/// `MSG_*` flags of Linux.
public enum MessageFlags {
  public static let peek: UInt32 = 2
  public static let controlTruncated: UInt32 = 8
  public static let truncated: UInt32 = 0x20
  public static let dontWait: UInt32 = 0x40
  public static let endOfRecord: UInt32 = 0x80
  public static let waitAll: UInt32 = 0x100
  public static let noSignal: UInt32 = 0x4000
  public static let closeOnExec: UInt32 = 0x4000_0000
}

/// `struct ucred`.
public struct PeerCredentials: Sendable {
  public var process: Int32
  public var user: UInt32
  public var group: UInt32
  public init(process: Int32, user: UInt32, group: UInt32) {
    self.process = process
    self.user = user
    self.group = group
  }
  public static var nobody: PeerCredentials { PeerCredentials(process: 0, user: 65534, group: 65534) }
}

/// What a send carries.
public struct OutgoingMessage {
  public var data: UserVectors
  /// A `struct sockaddr` for unconnected datagrams.
  public var address: [UInt8]?
  /// Open files to pass, each with a use of its own.
  public var rights: [FileDescription]
  /// Whose files under way these will be, and how many there may be.
  public var sender: UInt32 = 0
  public var rightsLimit = UInt64.max
  public var credentials: PeerCredentials
  public var flags: UInt32
  public init(data: UserVectors, address: [UInt8]?, rights: [FileDescription], credentials: PeerCredentials, flags: UInt32) {
    self.data = data
    self.address = address
    self.rights = rights
    self.credentials = credentials
    self.flags = flags
  }
}

/// What a receive answers.
public struct IncomingMessage {
  public var count = 0
  public var address: [UInt8] = []
  public var rights: [FileDescription] = []
  public var credentials: PeerCredentials?
  public var flags: UInt32 = 0
  public init() {}
}

/// Settings that every socket has. Times are in nanoseconds, 0 for none.
public struct SocketOptions {
  public var sendBuffer = 212_992
  public var receiveBuffer = 212_992
  public var sendTimeout: UInt64 = 0
  public var receiveTimeout: UInt64 = 0
  public var passCredentials = false
  public var reuseAddress = false
  public var broadcast = false
  public var keepAlive = false
  public var linger: (on: UInt32, seconds: UInt32) = (0, 0)
  public init() {}
}

public struct SocketOptionRank: LockRank { public static let level: UInt8 = 76 }

/// A communication end point. Each family is a subclass; the system calls know only this.
open class Socket: OpenFile {
  public let type: SocketType
  public let options = SpinLock<SocketOptions, SocketOptionRank>(SocketOptions())

  private let number = NamelessFiles.makeNumber()
  public final var identity: FileIdentity { FileIdentity(mode: Mode.socket | 0o777, number: number, name: "socket") }

  public init(_ type: SocketType) { self.type = type }

  open var family: UInt16 { 0 }
  open func bind(_ address: [UInt8]) throws(Errno) { throw .notSupportedOnSocket }
  open func listen(_ backlog: Int) throws(Errno) { throw .notSupportedOnSocket }
  open func accept(nonBlocking: Bool) throws(Errno) -> Socket { throw .notSupportedOnSocket }
  open func connect(_ address: [UInt8], nonBlocking: Bool) throws(Errno) { throw .notSupportedOnSocket }
  open func send(_ message: inout OutgoingMessage, nonBlocking: Bool) throws(Errno) -> Int { throw .notSupportedOnSocket }
  open func receive(into data: inout UserVectors, flags: UInt32, nonBlocking: Bool) throws(Errno) -> IncomingMessage {
    throw .notSupportedOnSocket
  }
  /// 0 ends reading, 1 writing, 2 both.
  open func shutdown(_ how: UInt32) throws(Errno) { throw .notSupportedOnSocket }
  /// The address it is bound to, or its peer's.
  open func localAddress() -> [UInt8] { [] }
  open func peerAddress() throws(Errno) -> [UInt8] { throw .socketNotConnected }
  open var peerCredentials: PeerCredentials { .nobody }
  open var isListening: Bool { false }
  /// The pending error, which is forgotten by this.
  open func takeError() -> Int32 { 0 }
  open func poll(_ table: PollTable?) -> PollEvents { [] }
  open func close(_ description: FileDescription) {}
  /// Bytes that a read would get at once.
  open var available: Int { 0 }

  /// Who the running thread is; families that pass credentials are told by the system-call layer.
  public final func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    var data = UserVectors(buffer)
    let message = try receive(into: &data, flags: 0, nonBlocking: description.isNonBlocking)
    for right in message.rights { right.drop() }
    return message.count
  }

  public final func write(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> (Int, UInt64) {
    var message = OutgoingMessage(
      data: UserVectors(buffer), address: nil, rights: [], credentials: CallerCredentials.current(), flags: 0)
    return (try send(&message, nonBlocking: description.isNonBlocking), 0)
  }

  open func control(_ command: UInt32, _ argument: UInt32, _ description: FileDescription) throws(Errno) -> Int32 {
    guard command == 0x541B else { throw .inappropriateIOCTLForDevice }  // FIONREAD
    try UserMemory.write32(UInt32(clamping: available), to: argument)
    return 0
  }
}

/// Who makes the call: the process layer says it.
public enum CallerCredentials {
  public final class Source {
    let current: () -> PeerCredentials
    public init(_ current: @escaping () -> PeerCredentials) { self.current = current }
  }
  public static let source = BootCell<Source>()
  public static func current() -> PeerCredentials { source.value.current() }
}
