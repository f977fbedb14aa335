import Machine
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// Directory trees laid over each other: what is in an upper one hides what has the same name below, and only the topmost, if there
/// is an upper layer, ever changes.
///
/// What is on the layers is what Linux puts there: a character device 0:0 hides a name (a whiteout), `trusted.overlay.opaque` all
/// of a directory below, `trusted.overlay.impure` says that a directory has files that came from below. Those remember in
/// `trusted.overlay.adros` the number that they had there.
///
/// Directories that have something below cannot be renamed (`improperLink`, as on Linux without `redirect_dir`): mv copies them.
///
/// SPEC: Linux Documentation/filesystems/overlayfs.rst.
public final class OverlayFS: FileSystem {
  /// The layers, each a mount of its own that nobody sees. The upper one's root is its directory, and `work` is on it.
  let upper: Mount?
  let work: Path?
  let lowers: [Mount]
  /// Different file systems among the layers, for numbers that are different.
  private let storages: [any FileSystem]
  let names: OverlayNames
  public let shownOptions: [UInt8]
  public let deviceNumber = DeviceNumber.nextAnonymous()
  public let layerDepth: UInt8
  let table = InodeTable()
  private var rootInode: Inode?
  private let lastName = Atomic<UInt32>(0)
  private let lastNumber = Atomic<UInt32>(0)
  /// Held while a file that has no name any more comes up.
  let nameless = Mutex<Void, OverlayNamelessRank>(())
  private let type: OverlayType?

  public var typeName: String { "overlay" }
  public var root: Inode { rootInode! }
  public var isReadOnly: Bool { upper == nil }

  fileprivate init(_ layers: OverlayLayers, _ names: OverlayNames, options: [UInt8], _ type: OverlayType?) {
    upper = layers.upper
    work = layers.work
    lowers = layers.lowers
    self.names = names
    self.type = type
    shownOptions = options
    var storages: [any FileSystem] = []
    for mount in (layers.upper.map { [$0] } ?? []) + layers.lowers where !storages.contains(where: { $0 === mount.fileSystem }) {
      storages.append(mount.fileSystem)
    }
    self.storages = storages
    layerDepth = storages.reduce(0) { max($0, $1.layerDepth) } + 1
  }

  /// How deep overlays may lie over overlays, as on Linux.
  static var deepest: UInt8 { 2 }

  fileprivate func start() throws(Errno) {
    try cleanWork()
    let below = lowers.map { Path(mount: $0, dentry: $0.root) }
    let above = upper.map { Path(mount: $0, dentry: $0.root) }
    guard let real = (above ?? below[0]).dentry.inode else { throw .noSuchFileOrDirectory }
    var visible: [Path] = []
    var isHidden = if above != nil { try isOpaque(real) } else { false }
    for path in below where !isHidden {
      guard let inode = path.dentry.inode else { throw .noSuchFileOrDirectory }
      visible.append(path)
      isHidden = try isOpaque(inode)
    }
    let root = try inode(real, upper: above, isUpper: above != nil, lowers: visible, parent: nil)
    root.addUser()
    rootInode = root
  }

  public func end() {
    rootInode = nil
    table.removeAll()
    type?.release(self)
    work?.unpin()
    for mount in (upper.map { [$0] } ?? []) + lowers { Path(mount: mount, dentry: mount.root).unpin() }
  }

  // MARK: Inodes

  /// The number of a layer's file: different for files of different layers, and the file's own where there is one storage.
  func number(_ own: UInt64, on storage: any FileSystem) -> UInt64 {
    let index = storages.firstIndex { $0 === storage } ?? 0
    return own &* UInt64(storages.count) &+ UInt64(index)
  }

  func node(_ inode: Inode) throws(Errno) -> OverlayNode {
    guard let node = inode.layers as? OverlayNode else { throw .ioError }
    return node
  }

  /// The overlay's inode for a file of a layer. `parent` is nil for the root.
  func inode(_ real: Inode, upper: Path?, isUpper: Bool, lowers: [Path], parent: UInt64?) throws(Errno) -> Inode {
    var number = number(real.number, on: real.fileSystem)
    if isUpper, let origin = try origin(of: real) { number = origin }
    let attributes = real.attributes.withLock { $0 }
    // Names of one lower file become different files when they change.
    let isShared = !isUpper && !real.isDirectory && attributes.links > 1
    if !isShared, let known = table.find(number), known.layers?.real === real { return known }
    let node = OverlayNode(real, upper: upper, isUpper: isUpper, lowers: lowers, parent: parent ?? number)
    let made = Inode(self, number: number, attributes: attributes, layers: node)
    if isShared { return made }
    let kept = table.insert(made)
    if kept === made || kept.layers?.real === real { return kept }
    // Somebody has its number: the layers are not those that they were when the number was kept.
    let spare = UInt64(lastNumber.wrappingAdd(1, ordering: .relaxed).newValue) | 1 << 62
    return Inode(self, number: spare, attributes: attributes, layers: node)
  }

  public func evict(_ inode: Inode) { table.remove(inode) }

  public func dropUnused() { table.dropUnused() }

  public func shownAttributes(of inode: Inode, _ attributes: Attributes) -> Attributes {
    var shown = attributes
    // Nobody counts the directories of several layers.
    if inode.isDirectory, let node = inode.layers as? OverlayNode, !node.lowers.isEmpty { shown.links = 1 }
    return shown
  }

  public func readLink(_ inode: Inode) throws(Errno) -> [UInt8] {
    let real = inode.content
    return try real.fileSystem.readLink(real)
  }

  public func statistics() -> FileSystemStatistics {
    var result = (upper ?? lowers[0]).fileSystem.statistics()
    result.magic = 0x794C_7630
    return result
  }

  public func sync() throws(Errno) {
    guard let upper else { return }
    try WriteBack.run(upper.fileSystem)
    try upper.fileSystem.sync()
  }

  public func sync(_ inode: Inode) throws(Errno) {
    let real = inode.content
    try real.fileSystem.sync(real)
  }

  // MARK: The work directory

  /// A new name there.
  func workPlace() throws(Errno) -> ParentAndName {
    guard let work else { throw .readOnlyFileSystem }
    var name: [UInt8] = [35]
    var rest = lastName.wrappingAdd(1, ordering: .relaxed).newValue
    repeat {
      name.append(48 + UInt8(rest % 10))
      rest /= 10
    } while rest > 0
    return ParentAndName(parent: work, name: name, wantsDirectory: false)
  }

  /// What a crash left there goes.
  private func cleanWork() throws(Errno) { if let work { try clear(work) } }
}

struct OverlayNamelessRank: LockRank { static let level: UInt8 = 18 }

/// The attributes in which an overlay keeps what it knows of a file.
struct OverlayNames {
  let space: AttributeName.Space
  private static var prefix: [UInt8] { Array("overlay.".utf8) }
  private func name(_ text: [UInt8]) -> AttributeName { AttributeName(space, Self.prefix + text) }

  var opaque: AttributeName { name(Array("opaque".utf8)) }
  var impure: AttributeName { name(Array("impure".utf8)) }
  /// Ours: eight bytes, the lowest first.
  var origin: AttributeName { name(Array("adros".utf8)) }
  static var yes: [UInt8] { [UInt8(ascii: "y")] }

  /// Whether an attribute is the overlay's own, which nobody sees through it.
  func hides(_ name: AttributeName) -> Bool { name.space == space && name.rest.starts(with: Self.prefix) }
}

/// The layers of an overlay that is being mounted: mounts that are its own.
private struct OverlayLayers {
  var upper: Mount?
  var work: Path?
  var lowers: [Mount] = []

  func letGo() {
    work?.unpin()
    for mount in (upper.map { [$0] } ?? []) + lowers { Path(mount: mount, dentry: mount.root).unpin() }
  }
}

public final class OverlayType: FileSystemType {
  /// Upper and work directories in use.
  private let busy = SpinLock<[Dentry], LeafRank>([])

  init() {}
  public var name: String { "overlay" }
  public var needsDevice: Bool { false }

  public func make(
    source: [UInt8], device: Inode?, readOnly: Bool, options text: [UInt8], context: PathContext?
  ) throws(Errno) -> any FileSystem {
    guard let context else { throw .invalidArgument }
    let options = try OverlayOptions(text)
    var lowers: [Path] = []
    for lower in options.lowers { lowers.append(try Self.directory(lower, context)) }
    var writable: (upper: Path, work: Path)?
    if let upper = options.upper, let work = options.work {
      writable = (try Self.directory(upper, context), try Self.directory(work, context))
    }
    return try make(lowers, writable, OverlayNames(space: options.usesUserAttributes ? .user : .trusted), shown: [44] + text)
  }

  private static func directory(_ path: [UInt8], _ context: PathContext) throws(Errno) -> Path {
    var walk = PathWalk(context)
    let path = try walk.resolve(path)
    guard try path.inode().isDirectory else { throw .notDirectory }
    return path
  }

  /// Lays an upper directory, if there is one, over lower ones.
  func make(_ lowers: [Path], _ writable: (upper: Path, work: Path)?, _ names: OverlayNames, shown: [UInt8]) throws(Errno) -> OverlayFS {
    for path in lowers + (writable.map { [$0.upper] } ?? []) {
      let storage = path.mount.fileSystem
      // A name must be one file for good.
      guard storage.namesAreExact, storage.cachesNames, storage.layerDepth < OverlayFS.deepest else { throw .invalidArgument }
    }
    if let writable {
      guard writable.upper.mount.fileSystem.layerDepth == 0, writable.work.mount === writable.upper.mount,
        !Self.isInside(writable.work.dentry, writable.upper.dentry), !Self.isInside(writable.upper.dentry, writable.work.dentry)
      else { throw .invalidArgument }
      if writable.upper.mount.isReadOnly { throw .readOnlyFileSystem }
      try claim([writable.upper.dentry, writable.work.dentry])
    }
    var layers = OverlayLayers()
    do throws(Errno) {
      for path in lowers { layers.lowers.append(Mounts.addDetached(path)) }
      if let writable {
        let mount = Mounts.addDetached(writable.upper)
        layers.upper = mount
        let work = try Self.makeWork(Path(mount: mount, dentry: writable.work.dentry), names)
        work.pin()
        layers.work = work
      }
      let overlay = OverlayFS(layers, names, options: shown, self)
      try overlay.start()
      return overlay
    } catch {
      layers.letGo()
      if let writable { release([writable.upper.dentry, writable.work.dentry]) }
      throw error
    }
  }

  private static func isInside(_ inner: Dentry, _ outer: Dentry) -> Bool {
    var node: Dentry? = inner
    while let dentry = node {
      if dentry === outer { return true }
      node = dentry.parent
    }
    return false
  }

  /// The directory `work` in the one that was given. What cannot keep the overlay's attributes is refused here.
  private static func makeWork(_ directory: Path, _ names: OverlayNames) throws(Errno) -> Path {
    let place = ParentAndName(parent: directory, name: Array("work".utf8), wantsDirectory: false)
    let path: Path
    do throws(Errno) {
      path = try Names.create(place, Credentials()) { parent throws(Errno) in
        try parent.fileSystem.create(place.name, in: parent, Attributes(mode: Mode.directory))
      }
    } catch {
      guard error == .fileExists, let parent = directory.dentry.inode else { throw error }
      path = Path(mount: directory.mount, dentry: try PathWalk.lookup(directory.dentry, parent, place.name))
    }
    guard try path.inode().isDirectory else { throw .notDirectory }
    let inode = try path.inode()
    do throws(Errno) {
      try inode.mutex.withLock { _ throws(Errno) in
        try inode.fileSystem.setExtendedAttribute(names.opaque, of: inode, to: OverlayNames.yes, .any)
      }
    } catch { throw error == .notSupportedOnSocket ? .invalidArgument : error }
    return path
  }

  private func claim(_ directories: [Dentry]) throws(Errno) {
    let isFree = busy.withLock { busy in
      if busy.contains(where: { used in directories.contains { $0 === used } }) { return false }
      busy += directories
      return true
    }
    if !isFree { throw .resourceBusy }
  }

  private func release(_ directories: [Dentry]) {
    let old = busy.withLock { busy in
      let old = busy
      busy = busy.filter { used in !directories.contains { $0 === used } }
      return old
    }
    _ = old  // goes outside the lock
  }

  func release(_ overlay: OverlayFS) {
    guard let upper = overlay.upper, let above = overlay.work?.dentry.parent else { return }
    release([upper.root, above])
  }
}
