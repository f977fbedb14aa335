/// Blocks that growing files have for themselves, so that files that grow at the same time do not lie in each other. The disk knows
/// nothing of them; a few files' are kept, and when the disk is full, none.
public struct Ext2Reservations: Sendable {
  struct Window: Sendable {
    /// The inode's number.
    let owner: UInt32
    var blocks: Range<UInt32>
    /// How long the next one will be.
    var length: UInt32
    var lastUse: UInt32
  }
  private var windows: [Window] = []
  private var time: UInt32 = 0
  /// The one whose last use is longest ago makes room for another.
  public static let most = 16
  public static let shortest: UInt32 = 16
  public static let longest: UInt32 = 512

  public init() {}

  public var isEmpty: Bool { windows.isEmpty }

  /// The rest of a file's window.
  public func window(of owner: UInt32) -> Range<UInt32>? { windows.first { $0.owner == owner }?.blocks }

  /// Where the search goes on behind a block that is another file's.
  public func end(of block: UInt32, for owner: UInt32) -> UInt32? {
    windows.first { $0.owner != owner && $0.blocks.contains(block) }?.blocks.upperBound
  }

  /// A file has taken a block: what comes behind it is its own, as far as `limit` and nobody else's. A window that it has used up
  /// makes way for one twice as long.
  public mutating func take(_ block: UInt32, for owner: UInt32, limit: UInt32) {
    time &+= 1
    let index = windows.firstIndex { $0.owner == owner }
    if let index, windows[index].blocks.contains(block) {
      windows[index].blocks = (block + 1)..<windows[index].blocks.upperBound
      windows[index].lastUse = time
      return
    }
    var length = Self.shortest
    if let index {
      // One that was left has told nothing about how the file grows.
      length = windows[index].blocks.isEmpty ? min(2 * windows[index].length, Self.longest) : windows[index].length
      windows.remove(at: index)
    } else if windows.count == Self.most {
      var oldest = 0
      for other in windows.indices where time &- windows[other].lastUse > time &- windows[oldest].lastUse { oldest = other }
      windows.remove(at: oldest)
    }
    var end = min(block + 1 + length, max(limit, block + 1))
    for other in windows where other.blocks.lowerBound > block && !other.blocks.isEmpty { end = min(end, other.blocks.lowerBound) }
    windows.append(Window(owner: owner, blocks: (block + 1)..<end, length: length, lastUse: time))
  }

  /// A file does not grow any more.
  public mutating func release(_ owner: UInt32) { windows.removeAll { $0.owner == owner } }

  public mutating func releaseAll() { windows = [] }
}
