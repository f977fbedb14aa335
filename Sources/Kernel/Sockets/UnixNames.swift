import Sync
import VFS

/// Which socket has which name: an inode of the file system, or bytes that begin with NUL. SPEC: unix(7).
enum UnixNames {
  struct Rank: LockRank { static let level: UInt8 = 74 }
  final class Entry {
    let inode: Inode?
    let bytes: [UInt8]
    let socket: UnixSocket
    init(_ inode: Inode?, _ bytes: [UInt8], _ socket: UnixSocket) {
      self.inode = inode
      self.bytes = bytes
      self.socket = socket
    }
  }
  private static let table = BootCell<SpinLock<[[Entry]], Rank>>()

  static func start() { table.set(SpinLock(Array(repeating: [], count: 64))) }

  private static func bucket(_ inode: Inode?, _ bytes: [UInt8]) -> Int {
    if let inode { return Int(truncatingIfNeeded: inode.number) & 63 }
    var hash: UInt32 = 2_166_136_261
    for byte in bytes { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
    return Int(truncatingIfNeeded: hash) & 63
  }

  private static func matches(_ entry: Entry, _ inode: Inode?, _ bytes: [UInt8]) -> Bool {
    if let inode { return entry.inode === inode }
    return entry.inode == nil && entry.bytes == bytes
  }

  static func find(inode: Inode?, _ bytes: [UInt8]) -> UnixSocket? {
    table.value.withLock { $0[bucket(inode, bytes)].first { matches($0, inode, bytes) }?.socket }
  }

  /// Gives a socket a name; false when another has it.
  static func add(inode: Inode?, _ bytes: [UInt8], _ socket: UnixSocket) -> Bool {
    let entry = Entry(inode, bytes, socket)
    return table.value.withLock { table in
      let bucket = bucket(inode, bytes)
      if table[bucket].contains(where: { matches($0, inode, bytes) }) { return false }
      table[bucket].append(entry)
      return true
    }
  }

  static func remove(_ socket: UnixSocket, inode: Inode?, _ bytes: [UInt8]) {
    // The entry outlives the lock: it may hold the socket's last reference.
    let removed: Entry? = table.value.withLock { table in
      let bucket = bucket(inode, bytes)
      guard let index = table[bucket].firstIndex(where: { $0.socket === socket }) else { return nil }
      return table[bucket].remove(at: index)
    }
    _ = removed
  }
}
