import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads

/// What a file of a layered file system really is: an inode of one of its layers, which has content and attributes. The layered
/// inode has the names, the locks, the watches, and a copy of who owns it and who may do what.
open class FileLayers {
  private let lock: SpinLock<Inode, LeafRank>
  private let upper: Atomic<Bool>

  /// `isUpper`: the file may be changed.
  public init(_ real: Inode, isUpper: Bool) {
    lock = SpinLock(real)
    upper = Atomic(isUpper)
    // Whoever removes it from its layer meanwhile does not delete it.
    real.addUser()
  }

  deinit { real.removeUser() }

  public final var real: Inode { lock.withLock { $0 } }
  public final var isUpper: Bool { upper.load(ordering: .acquiring) }

  /// From now on it is a copy, which may be changed.
  public final func rise(to copy: Inode) {
    copy.addUser()
    let old = lock.withLock { real in
      let old = real
      real = copy
      return old
    }
    upper.store(true, ordering: .releasing)
    old.removeUser()
  }
}

extension Inode {
  /// Who has the content: another inode in a layered file system.
  @inline(__always) public var content: Inode { if let layers { layers.real } else { self } }

  /// Before this file changes, which somebody found at `path`: a layered file system makes it one of its own.
  @inline(__always) public func bringUp(at path: Path?, keepsContent: Bool = true) throws(Errno) {
    if let layers, !layers.isUpper { try bringUp(path, keepsContent) }
  }

  @inline(never) private func bringUp(_ path: Path?, _ keepsContent: Bool) throws(Errno) {
    guard let path else { throw .readOnlyFileSystem }
    try fileSystem.bringUp(self, at: path.dentry, keepsContent: keepsContent)
  }

  /// Changes the attributes of what is below.
  func update(_ layers: FileLayers, _ change: (inout Attributes) -> Void) throws(Errno) {
    guard layers.isUpper else { throw .readOnlyFileSystem }
    try layers.real.update(change)
    takeAttributes()
  }

  /// The rights and the links of what is below become this inode's.
  public func takeAttributes() {
    guard let real = layers?.real else { return }
    var new = real.attributes.withLock { $0 }
    while true {
      attributes.withLock { $0 = new }
      attributesTaken(new.mode)
      // Whoever changed them meanwhile may have been here before.
      let now = real.attributes.withLock { $0 }
      if now.mode == new.mode, now.owner == new.owner, now.group == new.group, now.links == new.links { return }
      new = now
    }
  }

  /// Fills this new file with another's content. Holes stay holes.
  public func copyContent(of source: Inode) throws(Errno) {
    let end = source.size
    try truncate(to: end)
    try copyPages(of: source, end)
    touch(modification: true)
    try fileSystem.attributesChanged(self)
  }

  private func copyPages(of source: Inode, _ end: UInt64) throws(Errno) {
    var position: UInt64 = 0
    while position < end {
      do throws(Errno) { position = try source.next(.data, from: position, end: end) & ~0xFFF } catch {
        if error == .noSuchAddressOrDevice { return }
        throw error
      }
      guard let index = UInt32(exactly: position >> 12) else { throw .fileTooLarge }
      try copyPage(index, of: source, count: Int(min(end - position, 4096)))
      position += 4096
      if WriteBack.isDue { WriteBack.relieve(self, written: 4096) }
    }
  }

  private func copyPage(_ index: UInt32, of source: Inode, count: Int) throws(Errno) {
    let from = try source.page(index, wanted: 32)
    defer { Frames.release(from) }
    try mutex.withLock { _ throws(Errno) in
      let to = try page(index)
      defer { Frames.release(to) }
      try fileSystem.reserve(self, index, 0..<count)
      to.copy(from: from)
      to.zero(from: count, to: pageSize)
      markDirty(index)
    }
  }
}
