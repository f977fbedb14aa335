import Machine
import Memory
import Processes
import Sync
import SystemABI
import Threads
import VFS

public struct SegmentRank: LockRank { public static let level: UInt8 = 53 }

/// A shared memory segment: a file without a name. SPEC: shmget(2), shmctl(2).
public final class SharedSegment: IPCObject {
  public struct State {
    public var permissions: IPCPermissions
    public var attachTime: Int64 = 0
    public var detachTime: Int64 = 0
    public var changeTime = Clock.realtime
    public var lastProcess: Int32 = 0
    /// To be removed when nobody has it attached.
    public var isDoomed = false
  }
  public let size: UInt32
  public let creator: Int32
  public let inode: Inode
  public let state: SpinLock<State, SegmentRank>

  public init(id: Int32, size: UInt32, inode: Inode, permissions: IPCPermissions, creator: Int32) {
    self.size = size
    self.inode = inode
    self.creator = creator
    state = SpinLock(State(permissions: permissions))
    super.init(id: id)
  }

  override public var key: UInt32 { state.withLock { $0.isDoomed ? 0 : $0.permissions.key } }

  /// How many areas of all processes show it. Counted when asked: forks and exits need not know of segments.
  public var attachments: Int {
    var count = 0
    for process in ProcessTable.shared.all() {
      count += process.space?.state.withLock { state in state.areas.areas.count { $0.backing?.inode === inode } } ?? 0
    }
    return count
  }
}

public enum SharedSegments {
  private static let cell = BootCell<IPCRegistry<SharedSegment>>()
  public static var all: IPCRegistry<SharedSegment> { cell.value }
  public static func start() { cell.set(IPCRegistry(limit: 4096)) }

  /// Removes segments that were given up and are attached nowhere any more.
  public static func sweep() {
    for segment in all.all() where segment.state.withLock({ $0.isDoomed }) && segment.attachments == 0 { all.remove(segment) }
  }
}
