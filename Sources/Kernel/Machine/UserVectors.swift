import Primitives
import SystemABI

/// Several ranges of user memory that a call reads from or writes to in turn, as `struct iovec[]` gives them.
public struct UserVectors {
  private var segments: [IOBuffer]
  private var next = 0
  /// Bytes left in all of them.
  public private(set) var count: Int

  public init(_ segments: [IOBuffer]) {
    self.segments = segments
    count = segments.reduce(0) { $0 + $1.count }
  }

  public init(_ buffer: IOBuffer) {
    segments = [buffer]
    count = buffer.count
  }

  private mutating func skipEmpty() { while next < segments.count, segments[next].count == 0 { next += 1 } }

  /// Up to `limit` bytes from the front. Throws `badAddress` with nothing consumed of the segment that failed.
  public mutating func take(limit: Int) throws(Errno) -> [UInt8] {
    skipEmpty()
    guard next < segments.count else { return [] }
    // Most calls have one segment: no second copy.
    var bytes = try segments[next].takeBytes(limit: limit)
    count -= bytes.count
    skipEmpty()
    while bytes.count < limit, next < segments.count {
      let more = try segments[next].takeBytes(limit: limit - bytes.count)
      count -= more.count
      bytes += more
      skipEmpty()
    }
    return bytes
  }

  /// Copies `bytes` from `start` on, as much as there is room for; how many.
  public mutating func put(_ bytes: [UInt8], from start: Int) throws(Errno) -> Int {
    var done = start
    skipEmpty()
    while done < bytes.count, next < segments.count {
      let copied = try segments[next].put(bytes, from: done)
      done += copied
      count -= copied
      skipEmpty()
    }
    return done - start
  }
}
