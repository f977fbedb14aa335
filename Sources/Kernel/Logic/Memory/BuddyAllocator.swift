import Primitives

/// What a physical frame is used for.
public enum FrameKind: UInt8, Sendable {
  case reserved = 0  // firmware, kernel image, holes
  case free = 1  // head of a free block of `order`
  case freeTail = 2  // inside a free block
  case used = 3  // allocated; `references` counts its users
  case slab = 4  // holds heap objects of class `order`
  case heapBlock = 5  // head of a heap object of its own
}

/// The 16 bytes kept for every physical frame.
public struct FrameEntry: Sendable {
  public var references: UInt32 = 0
  /// Links of the free list, or of a slab's list of pages with room.
  public var next: UInt32 = 0
  public var previous: UInt32 = 0
  public var kind: UInt8 = 0
  public var order: UInt8 = 0
  /// Slab pages: objects in use. Program pages: 1 where it may be code.
  public var inUse: UInt16 = 0
  public init() {}
}

/// Where the frame table lives: raw memory in the kernel, an array in tests.
public protocol FrameStore {
  var count: UInt32 { get }
  subscript(_ frame: UInt32) -> FrameEntry { get nonmutating set }
}

/// A binary buddy allocator over a frame table. Blocks are `1 << order` frames, naturally aligned.
///
/// Frame 0 is never handed out, so 0 serves as the end of a list.
public struct BuddyAllocator<Store: FrameStore>: ~Copyable {
  public static var maximumOrder: Int { 10 }
  public let store: Store
  var heads: InlineArray<11, UInt32> = .init(repeating: 0)
  /// Frames on the free lists.
  public private(set) var freeCount: UInt32 = 0
  /// Frames ever given to the allocator.
  public private(set) var totalCount: UInt32 = 0

  public init(store: Store) { self.store = store }

  /// Gives a range of frames to the allocator, once, at boot.
  public mutating func add(_ range: Range<UInt32>) {
    var frame = max(range.lowerBound, 1)
    let end = min(range.upperBound, store.count)
    while frame < end {
      var order = Self.maximumOrder
      while order > 0, frame & (1 << UInt32(order) - 1) != 0 || frame + 1 << UInt32(order) > end { order -= 1 }
      totalCount += 1 << UInt32(order)
      free(frame, order: order)
      frame += 1 << UInt32(order)
    }
  }

  /// A block of `1 << order` frames with one reference on its head, or nil when none is left.
  public mutating func allocate(order: Int) -> UInt32? {
    var have = order
    while have <= Self.maximumOrder, heads[have] == 0 { have += 1 }
    guard have <= Self.maximumOrder else { return nil }
    let frame = heads[have]
    unlink(frame, order: have)
    while have > order {
      have -= 1
      push(frame + 1 << UInt32(have), order: have)
    }
    store[frame].kind = FrameKind.used.rawValue
    store[frame].order = UInt8(order)
    store[frame].references = 1
    freeCount -= 1 << UInt32(order)
    return frame
  }

  /// Returns a block, merging it with its free buddies.
  public mutating func free(_ block: UInt32, order given: Int) {
    var frame = block
    var order = given
    freeCount += 1 << UInt32(order)
    while order < Self.maximumOrder {
      let buddy = frame ^ (1 << UInt32(order))
      guard buddy < store.count, store[buddy].kind == FrameKind.free.rawValue, store[buddy].order == UInt8(order)
      else { break }
      unlink(buddy, order: order)
      store[max(frame, buddy)].kind = FrameKind.freeTail.rawValue
      frame = min(frame, buddy)
      order += 1
    }
    push(frame, order: order)
  }

  private mutating func push(_ frame: UInt32, order: Int) {
    let head = heads[order]
    store[frame].kind = FrameKind.free.rawValue
    store[frame].order = UInt8(order)
    store[frame].references = 0
    store[frame].next = head
    store[frame].previous = 0
    if head != 0 { store[head].previous = frame }
    heads[order] = frame
  }

  private mutating func unlink(_ frame: UInt32, order: Int) {
    let entry = store[frame]
    if entry.previous != 0 { store[entry.previous].next = entry.next } else { heads[order] = entry.next }
    if entry.next != 0 { store[entry.next].previous = entry.previous }
  }
}
