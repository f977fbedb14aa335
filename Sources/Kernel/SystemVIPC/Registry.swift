import Machine
import Processes
import Sync
import SystemABI
import VFS

/// Keys, flags and commands of the System V calls. SPEC: sysvipc(7), Linux uapi linux/ipc.h.
public enum IPCFlags {
  public static let create: UInt32 = 0o1000
  public static let exclusive: UInt32 = 0o2000
  public static let noWait: UInt32 = 0o4000
  public static let remove: UInt32 = 0
  public static let set: UInt32 = 1
  public static let status: UInt32 = 2
  public static let information: UInt32 = 3
}

struct RegistryRank: LockRank { static let level: UInt8 = 51 }

/// Who owns an object and may use it: `struct ipc64_perm`.
public struct IPCPermissions {
  public var key: UInt32
  public var owner: UInt32, group: UInt32
  public var creator: UInt32, creatorGroup: UInt32
  public var mode: UInt32

  public init(key: UInt32, mode: UInt32, _ who: Credentials) {
    self.key = key
    owner = who.euid
    group = who.egid
    creator = who.euid
    creatorGroup = who.egid
    self.mode = mode & 0o777
  }

  /// Throws `permissionDenied` unless all of `wanted` (4 read, 2 write) is allowed.
  public func check(_ wanted: UInt32, _ who: Credentials) throws(Errno) {
    if who.has(.ipcOwner) { return }
    let bits =
      who.euid == owner || who.euid == creator
      ? mode >> 6 : who.isMember(of: group) || who.isMember(of: creatorGroup) ? mode >> 3 : mode
    if bits & wanted != wanted { throw .permissionDenied }
  }

  /// Throws `notPermitted` unless the caller may change or remove the object.
  public func checkOwner(_ who: Credentials) throws(Errno) {
    if !who.has(.administrate), who.euid != owner, who.euid != creator { throw .notPermitted }
  }
}

/// An object with an id.
open class IPCObject {
  public let id: Int32
  public init(id: Int32) { self.id = id }
  open var key: UInt32 { 0 }
}

/// The objects of one kind, by id and key. An id is a slot and how often the slot was used: stale ids find nothing.
public final class IPCRegistry<Object: IPCObject> {
  struct State: ~Copyable {
    var slots: [Object?] = []
    var sequences: [Int32] = []
  }
  private let state = SpinLock<State, RegistryRank>(State())
  private let limit: Int
  private static var slotBits: Int32 { 15 }

  public init(limit: Int) { self.limit = limit }

  /// Finds the object with `key`, or makes one. `make` gets the new id; it must not sleep.
  public func get(
    key: UInt32, flags: UInt32, _ check: (Object) throws(Errno) -> Void, _ make: (Int32) -> Object
  ) throws(Errno) -> Object {
    try state.withLock { state throws(Errno) in
      if key != 0, let found = state.slots.first(where: { $0?.key == key }) ?? nil {
        if flags & (IPCFlags.create | IPCFlags.exclusive) == IPCFlags.create | IPCFlags.exclusive { throw .fileExists }
        try check(found)
        return found
      }
      if key != 0, flags & IPCFlags.create == 0 { throw .noSuchFileOrDirectory }
      let free = state.slots.firstIndex { $0 == nil }
      if free == nil {
        guard state.slots.count < limit else { throw .noSpace }
        state.slots.append(nil)
        state.sequences.append(0)
      }
      let slot = free ?? state.slots.count - 1
      let object = make(Int32(slot) | state.sequences[slot] << Self.slotBits)
      state.slots[slot] = object
      return object
    }
  }

  public func find(_ id: Int32) -> Object? {
    state.withLock { state in
      let slot = Int(id & (1 << Self.slotBits - 1))
      guard id >= 0, slot < state.slots.count, let object = state.slots[slot], object.id == id else { return nil }
      return object
    }
  }

  /// The object in a slot, for the STAT commands that ipcs uses.
  public func at(slot: Int) -> Object? { state.withLock { slot >= 0 && slot < $0.slots.count ? $0.slots[slot] : nil } }

  public func remove(_ object: Object) {
    let removed: Object? = state.withLock { state in
      let slot = Int(object.id & (1 << Self.slotBits - 1))
      guard slot < state.slots.count, state.slots[slot] === object else { return nil }
      let old = state.slots[slot]
      state.slots[slot] = nil
      state.sequences[slot] = (state.sequences[slot] + 1) & 0x7FFF
      return old
    }
    _ = removed
  }

  /// All objects now.
  public func all() -> [Object] { state.withLock { $0.slots.compactMap { $0 } } }
  /// The highest slot in use, or 0.
  public var highest: Int { state.withLock { $0.slots.lastIndex { $0 != nil } ?? 0 } }
}
