import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads

/// From where and as whom paths are resolved. A value that the calls of a process share until one of them changes its own.
public final class PathContext {
  public let root: Path
  public let directory: Path
  public let credentials: Credentials
  public init(root: Path, directory: Path, credentials: Credentials) {
    self.root = root
    self.directory = directory
    self.credentials = credentials
  }

  public func with(root: Path? = nil, directory: Path? = nil, credentials: Credentials? = nil) -> PathContext {
    PathContext(root: root ?? self.root, directory: directory ?? self.directory, credentials: credentials ?? self.credentials)
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

  /// The path ended in `.` or `..`, or was the root: that exists, and nothing can be made, moved or removed by it.
  public var isNoName: Bool { name.isEmpty || name == [46] || name == [46, 46] }
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
public struct PathWalk: ~Copyable {
  static var maximumLinks: Int { 40 }
  private static var slash: UInt8 { 47 }
  private static var dot: UInt8 { 46 }
  private let context: PathContext
  /// Where paths begin that do not begin at the root; nil is the working directory.
  private let base: Path?
  private let limits: UInt32
  private var linksFollowed = 0
  /// What the link says that the walk has come to, and what comes behind it.
  private var rest: [UInt8] = []
  private var isAtLink = false

  /// - Parameter limits: Bits of `WalkLimit`.
  public init(_ context: PathContext, from base: Path? = nil, limits: UInt32 = 0) {
    self.context = context
    self.base = base
    self.limits = limits
  }

  private var directory: Path { base ?? context.directory }
  private var root: Path { limits & WalkLimit.inRoot == 0 ? context.root : directory }

  /// The place a path names. `follow` says whether a link as the last component is followed.
  public mutating func resolve(_ path: [UInt8], follow: Bool = true) throws(Errno) -> Path {
    guard !path.isEmpty else { throw .noSuchFileOrDirectory }
    return try walk(path, path.count, from: try start(of: path, from: nil), follow: follow)
  }

  /// Where a path, or what a link in a directory says, begins.
  @inline(__always) private func start(of path: [UInt8], from directory: Path?) throws(Errno) -> Path {
    if path[0] != Self.slash { return directory ?? self.directory }
    if limits & WalkLimit.beneath != 0 { throw .improperLink }
    return root
  }

  /// The directory part and the last name: for calls that make or remove names.
  /// - Throws: `fileExists`, `resourceBusy` or `invalidArgument` are the callers' business: `.` and `..` come back as names.
  public mutating func resolveParent(_ path: [UInt8]) throws(Errno) -> ParentAndName {
    guard !path.isEmpty else { throw .noSuchFileOrDirectory }
    return try resolveParent(path, from: nil)
  }

  private mutating func resolveParent(_ path: [UInt8], from base: Path?) throws(Errno) -> ParentAndName {
    var end = path.count
    while end > 0, path[end - 1] == Self.slash { end -= 1 }
    var start = end
    while start > 0, path[start - 1] != Self.slash { start -= 1 }
    var parent = try self.start(of: path, from: base)
    if start > 0 { parent = try walk(path, start, from: parent, follow: true) }
    let directory = try parent.inode()
    guard directory.isDirectory else { throw .notDirectory }
    if !directory.isOpenToSearch { try directory.check(1, context.credentials) }
    if end - start > 255 { throw .fileNameTooLong }
    return ParentAndName(parent: parent, name: Array(path[start..<end]), wantsDirectory: end < path.count)
  }

  /// What a path names, or nil and where it can be made: where its last name is a link that is followed, that is where the link leads.
  /// - Throws: `isDirectory` for a name with a slash behind it: what is made here is none.
  public mutating func resolveCreation(_ path: [UInt8], follow: Bool) throws(Errno) -> (found: Path?, place: ParentAndName) {
    guard !path.isEmpty else { throw .noSuchFileOrDirectory }
    var (text, base): ([UInt8], Path?) = (path, nil)
    while true {
      let linksBefore = linksFollowed
      let place = try resolveParent(text, from: base)
      let name = place.name
      if place.isNoName {
        linksFollowed = linksBefore
        return (try walk(text, text.count, from: try start(of: text, from: base), follow: follow), place)
      }
      if place.wantsDirectory { throw .isDirectory }
      var (mount, dentry) = (place.parent.mount, place.parent.dentry)
      dentry = try Self.lookup(dentry, try dentry.existing(), name, limits: limits)
      if dentry.isMountPoint.load(ordering: .acquiring) { try cross(&mount, &dentry) }
      guard let inode = dentry.inode else { return (nil, place) }
      guard follow, inode.isLink else { return (Path(mount: mount, dentry: dentry), place) }
      if let target = inode.payload as? LinkTarget { return (try jump(target, from: place.parent), place) }
      (text, base) = (try followed(inode, on: mount), place.parent)
    }
  }

  /// What a link on a mount says. Throws `tooManySymbolicLinkLevels`, `improperLink`.
  private mutating func followed(_ link: Inode, on mount: Mount) throws(Errno) -> [UInt8] {
    linksFollowed += 1
    if linksFollowed > Self.maximumLinks || limits & WalkLimit.noLinks != 0 { throw .tooManySymbolicLinkLevels }
    let target = try link.fileSystem.readLink(link)
    guard !target.isEmpty else { throw .noSuchFileOrDirectory }
    if limits & WalkLimit.noCrossing != 0, target[0] == Self.slash, root.mount !== mount { throw .improperLink }
    return target
  }

  /// - Parameter count: How much of the path is walked: all, or up to a name.
  private mutating func walk(_ path: [UInt8], _ count: Int, from start: Path, follow: Bool) throws(Errno) -> Path {
    var place = try walkToLink(path, count, from: start, follow: follow)
    while isAtLink {
      isAtLink = false
      place = try walkToLink(rest, rest.count, from: place, follow: follow)
    }
    return place
  }

  /// Walks to the end, or to the next link that is followed: what is left is in `rest` then.
  private mutating func walkToLink(_ path: [UInt8], _ count: Int, from start: Path, follow: Bool) throws(Errno) -> Path {
    var (mount, dentry) = (start.mount, start.dentry)
    var directory = try dentry.existing()
    let all = path.span
    let bytes = all.extracting(0..<count)
    var position = 0
    while true {
      while position < count, bytes[position] == Self.slash { position += 1 }
      if position == count {
        if bytes[count - 1] == Self.slash {
          guard directory.isDirectory else { throw .notDirectory }
        }
        return Path(mount: mount, dentry: dentry)
      }
      let nameStart = position
      let (hash, nameEnd) = NameHash.until(Self.slash, in: bytes, from: nameStart)
      position = nameEnd
      let length = position - nameStart
      guard directory.isDirectory else { throw .notDirectory }
      if !directory.isOpenToSearch { try directory.check(1, context.credentials) }
      if bytes[nameStart] == Self.dot, length <= 2 {
        if length == 1 { continue }
        if bytes[nameStart + 1] == Self.dot {
          try up(&mount, &dentry)
          directory = try dentry.existing()
          continue
        }
      }
      if length > 255 { throw .fileNameTooLong }
      let above = consume dentry
      if let child = above.child(bytes, nameStart..<position, hash) {
        dentry = child
      } else {
        dentry = try Self.lookUpUncached(above, directory, bytes, nameStart..<position, limits)
      }
      var outside: Mount?
      if dentry.isMountPoint.load(ordering: .acquiring) {
        outside = mount
        try cross(&mount, &dentry)
      }
      guard let inode = dentry.inode else { throw .noSuchFileOrDirectory }
      if inode.isLink, position < count || follow {
        let place = Path(mount: outside ?? mount, dentry: above)
        if let target = inode.payload as? LinkTarget {
          let found = try jump(target, from: place)
          if position == count { return found }
          (mount, dentry) = (found.mount, found.dentry)
          directory = try dentry.existing()
          continue
        }
        let target = try followed(inode, on: place.mount)
        rest = position < count ? target + [Self.slash] + path[position..<count] : target
        isAtLink = true
        return try self.start(of: target, from: place)
      }
      directory = inode
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

  /// `..`: out of mounts, but never out of the root.
  private func up(_ mount: inout Mount, _ dentry: inout Dentry) throws(Errno) {
    let before = mount
    if limits & WalkLimit.beneath != 0, Path(mount: mount, dentry: dentry).isSame(as: directory) { throw .improperLink }
    let root = root
    while !(dentry === root.dentry && mount === root.mount) {
      if dentry !== mount.root {
        if let parent = dentry.parent { dentry = parent }
        break
      }
      guard let parent = mount.parent, let point = mount.point else { break }
      (mount, dentry) = (parent, point)
    }
    if limits & WalkLimit.noCrossing != 0, mount !== before { throw .improperLink }
  }

  // What is not in the cache is looked up by functions that do not have the walk: it stays in registers while names are found.

  @inline(never) private static func lookUpUncached(
    _ parent: Dentry, _ directory: Inode, _ bytes: borrowing Span<UInt8>, _ range: Range<Int>, _ limits: UInt32
  ) throws(Errno) -> Dentry {
    var name: [UInt8] = []
    name.reserveCapacity(range.count)
    for index in range { name.append(bytes[index]) }
    return try lookUpUncached(parent, directory, name, limits)
  }

  private static func lookUpUncached(
    _ parent: Dentry, _ directory: Inode, _ name: [UInt8], _ limits: UInt32
  ) throws(Errno) -> Dentry {
    if limits & WalkLimit.cached != 0 { throw .wouldBlock }
    return try directory.mutex.withLock { _ throws(Errno) in try lookupLocked(parent, directory, name) }
  }

  /// Into what is mounted at a place.
  private func cross(_ mount: inout Mount, _ dentry: inout Dentry) throws(Errno) {
    while let next = Mounts.covering(mount, dentry) {
      if limits & WalkLimit.noCrossing != 0 { throw .improperLink }
      (mount, dentry) = (next, next.root)
    }
  }

  /// The dentry of a name, made if need be; negative when the file system has no such name.
  public static func lookup(_ parent: Dentry, _ directory: Inode, _ name: [UInt8], limits: UInt32 = 0) throws(Errno) -> Dentry {
    if let child = parent.child(name.span) { return child }
    return try lookUpUncached(parent, directory, name, limits)
  }

  /// As `lookup`, for who holds the directory's mutex and is about to change what it finds. A dentry from before that may be
  /// gone from the cache by now, and another have its place.
  static func lookupLocked(_ parent: Dentry, _ directory: Inode, _ name: [UInt8]) throws(Errno) -> Dentry {
    if let child = parent.child(name.span) { return child }
    // A name would keep it, and it that.
    if parent.isGone { throw .noSuchFileOrDirectory }
    var name = name
    let fileSystem = directory.fileSystem
    var inode: Inode?
    do throws(Errno) {
      let found = try fileSystem.find(name, in: directory)
      if !fileSystem.namesAreExact, found.name != name {
        // Each file has one dentry, under the name that its directory has.
        name = found.name
        if let child = parent.child(name.span) { return child }
      }
      inode = found.inode
    } catch {
      if error != .noSuchFileOrDirectory { throw error }
    }
    let child = Dentry(name: name, parent: parent, inode: inode)
    // On a damaged volume a directory may be in two, or in itself.
    if fileSystem.cachesNames, !child.takeName() { throw .tooManySymbolicLinkLevels }
    // A name that is none may become one by another spelling.
    if fileSystem.cachesNames, inode != nil || fileSystem.namesAreExact { parent.insert(child) }
    return child
  }
}

/// A link that is more than text: /proc/self/fd/3, /proc/self/exe.
open class LinkTarget {
  public init() {}
  open func resolve() throws(Errno) -> Path { throw .noSuchFileOrDirectory }
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
