import Machine
import Sync
import SystemABI
import Threads

/// From where and as whom paths are resolved.
public struct PathContext {
  public var root: Path
  public var directory: Path
  public var credentials: Credentials
  public init(root: Path, directory: Path, credentials: Credentials) {
    self.root = root
    self.directory = directory
    self.credentials = credentials
  }
}

/// The directory a path's last component lies in, and that component.
public struct ParentAndName {
  public var parent: Path
  public var name: [UInt8]
  /// The path ended in a slash: it must name a directory.
  public var wantsDirectory: Bool

  public init(parent: Path, name: [UInt8], wantsDirectory: Bool) {
    self.parent = parent
    self.name = name
    self.wantsDirectory = wantsDirectory
  }
}

/// What is forbidden on the way, as openat2 numbers it. SPEC: openat2(2).
public enum WalkLimit {
  /// Other mounts.
  public static let noCrossing: UInt32 = 1
  /// Links that are more than text, and all links.
  public static let noMagicLinks: UInt32 = 2
  public static let noLinks: UInt32 = 4
  /// Out of where it begins; `inRoot` takes that for the root.
  public static let beneath: UInt32 = 8
  public static let inRoot: UInt32 = 16
  /// What is not in memory.
  public static let cached: UInt32 = 32
}

/// Path resolution. SPEC: POSIX.1-2024 §4.16, Linux path_resolution(7).
public struct PathWalk {
  static var maximumLinks: Int { 40 }
  private static var slash: UInt8 { 47 }
  private static var dot: UInt8 { 46 }
  private(set) var context: PathContext
  private let limits: UInt32
  private var linksFollowed = 0
  /// What the link says that the walk has come to, and what comes behind it.
  private var rest: [UInt8] = []
  private var isAtLink = false

  /// - Parameter limits: Bits of `WalkLimit`.
  public init(_ context: PathContext, limits: UInt32 = 0) {
    self.context = context
    self.limits = limits
    if limits & WalkLimit.inRoot != 0 { self.context.root = context.directory }
  }

  /// The place a path names. `follow` says whether a link as the last component is followed.
  public mutating func resolve(_ path: [UInt8], follow: Bool = true) throws(Errno) -> Path {
    guard !path.isEmpty else { throw .noSuchFileOrDirectory }
    return try walk(path, from: try start(of: path, from: context.directory), follow: follow)
  }

  /// Where a path, or what a link in a directory says, begins.
  @inline(__always) private func start(of path: [UInt8], from directory: Path) throws(Errno) -> Path {
    if path[0] != Self.slash { return directory }
    if limits & WalkLimit.beneath != 0 { throw .improperLink }
    return context.root
  }

  /// The directory part and the last name: for calls that make or remove names.
  /// - Throws: `fileExists`, `resourceBusy` or `invalidArgument` are the callers' business: `.` and `..` come back as names.
  public mutating func resolveParent(_ path: [UInt8]) throws(Errno) -> ParentAndName {
    guard !path.isEmpty else { throw .noSuchFileOrDirectory }
    var end = path.count
    while end > 0, path[end - 1] == Self.slash { end -= 1 }
    var start = end
    while start > 0, path[start - 1] != Self.slash { start -= 1 }
    return try resolveParent(path, start..<end, from: try self.start(of: path, from: context.directory))
  }

  private mutating func resolveParent(_ path: [UInt8], _ last: Range<Int>, from base: Path) throws(Errno) -> ParentAndName {
    let (start, end) = (last.lowerBound, last.upperBound)
    let parent = start == 0 ? base : try walk(Array(path[0..<start]), from: base, follow: true)
    guard try parent.inode().isDirectory else { throw .notDirectory }
    if end - start > 255 { throw .fileNameTooLong }
    return ParentAndName(parent: parent, name: Array(path[start..<end]), wantsDirectory: end < path.count)
  }

  /// As `resolveParent`, for a file that is to be made if it is not there: where the last name is a link, that is where the link leads.
  public mutating func resolveCreation(_ path: [UInt8]) throws(Errno) -> ParentAndName {
    var place = try resolveParent(path)
    while true {
      let name = place.name
      if name.isEmpty || name == [Self.dot] || name == [Self.dot, Self.dot] { return place }
      let found = try step(place.parent, try place.parent.inode(), name, 0..<name.count)
      guard let inode = found.dentry.inode, inode.isLink, inode.payload as? LinkTarget == nil else { return place }
      let target = try followed(inode, from: place.parent)
      var end = target.count
      while end > 0, target[end - 1] == Self.slash { end -= 1 }
      var start = end
      while start > 0, target[start - 1] != Self.slash { start -= 1 }
      place = try resolveParent(target, start..<end, from: try self.start(of: target, from: place.parent))
    }
  }

  /// What a link in a directory says. Throws `tooManySymbolicLinkLevels`, `improperLink`.
  private mutating func followed(_ link: Inode, from directory: Path) throws(Errno) -> [UInt8] {
    linksFollowed += 1
    if linksFollowed > Self.maximumLinks || limits & WalkLimit.noLinks != 0 { throw .tooManySymbolicLinkLevels }
    let target = try link.fileSystem.readLink(link)
    guard !target.isEmpty else { throw .noSuchFileOrDirectory }
    if limits & WalkLimit.noCrossing != 0, target[0] == Self.slash, context.root.mount !== directory.mount { throw .improperLink }
    return target
  }

  private mutating func walk(_ path: [UInt8], from start: Path, follow: Bool) throws(Errno) -> Path {
    var place = try walkToLink(path, from: start, follow: follow)
    while isAtLink {
      isAtLink = false
      place = try walkToLink(rest, from: place, follow: follow)
    }
    return place
  }

  /// Walks to the end, or to the next link that is followed: what is left is in `rest` then.
  private mutating func walkToLink(_ path: [UInt8], from start: Path, follow: Bool) throws(Errno) -> Path {
    var current = start
    var known: Inode?  // of `current`
    let bytes = path.span
    let count = bytes.count
    var position = 0
    while true {
      while position < count, bytes[position] == Self.slash { position += 1 }
      if position == count {
        if count > 0, bytes[count - 1] == Self.slash {
          let last = if let known { known } else { try current.inode() }
          guard last.isDirectory else { throw .notDirectory }
        }
        return current
      }
      let nameStart = position
      while position < count, bytes[position] != Self.slash { position += 1 }
      let length = position - nameStart
      let directory = if let known { known } else { try current.inode() }
      guard directory.isDirectory else { throw .notDirectory }
      try directory.checkSearch(context.credentials)
      if length == 1, bytes[nameStart] == Self.dot { continue }
      if length == 2, bytes[nameStart] == Self.dot, bytes[nameStart + 1] == Self.dot {
        current = limits == 0 ? up(current) : try upWithin(current)
        known = nil
        continue
      }
      if length > 255 { throw .fileNameTooLong }
      let child = try step(current, directory, path, nameStart..<position)
      guard let inode = child.dentry.inode else { throw .noSuchFileOrDirectory }
      if inode.isLink, position < count || follow {
        if let target = inode.payload as? LinkTarget {
          current = try jump(target, from: current)
          if position == count { return current }
          known = nil
          continue
        }
        let target = try followed(inode, from: current)
        let base = try self.start(of: target, from: current)
        rest = position < count ? target + [Self.slash] + path[position...] : target
        isAtLink = true
        return base
      }
      current = child
      known = inode
    }
  }

  /// Follows a link that is more than text.
  private mutating func jump(_ target: LinkTarget, from current: Path) throws(Errno) -> Path {
    linksFollowed += 1
    if linksFollowed > Self.maximumLinks || limits & (WalkLimit.noLinks | WalkLimit.noMagicLinks) != 0 {
      throw .tooManySymbolicLinkLevels
    }
    if limits & (WalkLimit.beneath | WalkLimit.inRoot) != 0 { throw .improperLink }
    let found = try target.resolve()
    if limits & WalkLimit.noCrossing != 0, found.mount !== current.mount { throw .improperLink }
    return found
  }

  private func upWithin(_ path: Path) throws(Errno) -> Path {
    if limits & WalkLimit.beneath != 0, path.isSame(as: context.directory) { throw .improperLink }
    let above = up(path)
    if limits & WalkLimit.noCrossing != 0, above.mount !== path.mount { throw .improperLink }
    return above
  }

  /// `..`: out of mounts, but never out of the root.
  private func up(_ path: Path) -> Path {
    var current = path
    while true {
      if current.isSame(as: context.root) { return current }
      if current.dentry === current.mount.root {
        guard let parent = current.mount.parent, let point = current.mount.point else { return current }
        current = Path(mount: parent, dentry: point)
        continue
      }
      if let parent = current.dentry.parent { current.dentry = parent }
      return current
    }
  }

  /// One name down, from the cache or the file system, and into what is mounted there.
  private func step(_ current: Path, _ directory: Inode, _ path: [UInt8], _ range: Range<Int>) throws(Errno) -> Path {
    if limits & WalkLimit.cached != 0, current.dentry.child(path.span, range) == nil { throw .wouldBlock }
    var child = Path(mount: current.mount, dentry: try Self.lookup(current.dentry, directory, path, range))
    while let mount = Mounts.covering(child) { child = Path(mount: mount, dentry: mount.root) }
    if limits & WalkLimit.noCrossing != 0, child.mount !== current.mount { throw .improperLink }
    return child
  }

  /// The dentry of a name, made if need be; negative when the file system has no such name.
  public static func lookup(_ parent: Dentry, _ directory: Inode, _ path: [UInt8], _ range: Range<Int>) throws(Errno) -> Dentry {
    if let child = parent.child(path.span, range) { return child }
    return try directory.mutex.withLock { _ throws(Errno) in try lookupLocked(parent, directory, path, range) }
  }

  /// As `lookup`, for who holds the directory's mutex and is about to change what it finds. A dentry from before that may be
  /// gone from the cache by now, and another have its place.
  static func lookupLocked(_ parent: Dentry, _ directory: Inode, _ path: [UInt8], _ range: Range<Int>) throws(Errno) -> Dentry {
    if let child = parent.child(path.span, range) { return child }
    var name = Array(path[range])
    let fileSystem = directory.fileSystem
    var inode: Inode?
    do throws(Errno) {
      let found = try fileSystem.find(name, in: directory)
      if !fileSystem.namesAreExact, found.name != name {
        // Each file has one dentry, under the name that its directory has.
        name = found.name
        if let child = parent.child(name.span, 0..<name.count) { return child }
      }
      inode = found.inode
    } catch {
      if error != .noSuchFileOrDirectory { throw error }
    }
    let child = Dentry(name: name, parent: parent, inode: inode)
    // A name that is none may become one by another spelling.
    if fileSystem.cachesNames, inode != nil || fileSystem.namesAreExact { parent.insert(child) }
    return child
  }
}

/// A link that is more than text: /proc/self/fd/3, /proc/self/exe.
open class LinkTarget {
  public init() {}
  open func resolve() throws(Errno) -> Path { throw .noSuchFileOrDirectory }
  /// What readlink says, where that is no path (`pipe:[7]`).
  open func text() throws(Errno) -> [UInt8]? { nil }
}

extension Path {
  /// The absolute path as seen from `root`; nil when it is not below it (unreachable).
  public func text(root: Path) -> [UInt8]? {
    var parts: [[UInt8]] = []
    var current = self
    while !current.isSame(as: root) {
      if current.dentry === current.mount.root {
        guard let parent = current.mount.parent, let point = current.mount.point else {
          if current.mount === root.mount { break }
          return nil
        }
        current = Path(mount: parent, dentry: point)
        continue
      }
      parts.append(current.dentry.name)
      guard let parent = current.dentry.parent else { return nil }
      current.dentry = parent
    }
    if parts.isEmpty { return [47] }
    var result: [UInt8] = []
    for part in parts.reversed() {
      result.append(47)
      result += part
    }
    return result
  }
}
