import Primitives
import Sync
import Synchronization
import SystemABI
import Threads

/// A name in a directory, cached. Without an inode it says that there is no such name.
public final class Dentry {
  /// Under the lock: this dentry's own links, and the names in it.
  struct Links: ~Copyable {
    var parent: Dentry?
    var buckets: [Dentry?] = []
    var childCount = 0
  }
  /// Name and hash change only by rename, while it is in no directory; the name also under this dentry's lock, for those who come
  /// from below.
  private var ownName: [UInt8]
  public var name: [UInt8] { links.withLock { _ in ownName } }
  private var hash: NameHash
  private var nextInBucket: Dentry?
  let links: SpinLock<Links, DentryRank>
  /// Given to a name that there was not yet; it stays, so nobody needs a lock to read it.
  private let content: SetOnce<Inode>
  /// The name is gone from its directory. A directory can still be used by who is in it; it has no names then, and gets none.
  private let isRemoved = Atomic<Bool>(false)
  /// This is no more a use of the inode.
  private let isSpent = Atomic<Bool>(false)
  /// This is the name of its directory. Who makes it that has a reference; who drops it from the cache has the only one.
  private var isTheName = false
  /// Whether some mount covers this directory.
  let isMountPoint = Atomic<Bool>(false)

  /// - Parameter isGone: It is in no directory: nobody finds it.
  public init(name: [UInt8], parent: Dentry?, inode: Inode?, isGone: Bool = false) {
    ownName = name
    hash = NameHash.of(name.span)
    links = SpinLock(Links(parent: parent))
    content = SetOnce(inode)
    inode?.addUser()
    if isGone { isRemoved.store(true, ordering: .relaxed) }
  }

  /// Ancestors that only this dentry kept alive go one by one: a path of a thousand directories must not recurse.
  deinit {
    giveUpName()
    inode?.removeUser()
    var ancestor = takeParent()
    while ancestor != nil, isKnownUniquelyReferenced(&ancestor) {
      let above = ancestor?.takeParent()
      ancestor = above
    }
  }

  private func takeParent() -> Dentry? {
    links.withLock { links in
      let parent = links.parent
      links.parent = nil
      return parent
    }
  }

  public var inode: Inode? { isSpent.load(ordering: .acquiring) ? nil : content.value }
  /// Whether the name is gone from its directory, or never was in it.
  public var isGone: Bool { isRemoved.load(ordering: .acquiring) }
  /// The inode. Throws `noSuchFileOrDirectory`.
  func existing() throws(Errno) -> Inode {
    guard let inode else { throw .noSuchFileOrDirectory }
    return inode
  }
  /// The inode as its user: another thread that takes the last name away does not delete the file before `removeUser`.
  func useInode() -> Inode? {
    links.withLock { _ in
      let inode = inode
      inode?.addUser()
      return inode
    }
  }
  public var parent: Dentry? { links.withLock { $0.parent } }

  /// The cached child of a name (negative ones too), or nil when the file system must be asked.
  func child(_ name: borrowing Span<UInt8>) -> Dentry? { child(name, 0..<name.count, NameHash.of(name)) }

  /// - Parameter hash: The `NameHash` of the bytes in the range, which are the name.
  func child(_ bytes: borrowing Span<UInt8>, _ range: Range<Int>, _ hash: NameHash) -> Dentry? {
    links.withLock { links in
      guard !links.buckets.isEmpty else { return nil }
      var node = links.buckets[hash.bucket(of: links.buckets.count)]
      while let child = node {
        if child.hash == hash, child.ownName.isEqual(to: bytes, range) { return child }
        node = child.nextInBucket
      }
      return nil
    }
  }

  /// Adds a child; the directory inode's mutex is held, so nobody else adds the same name.
  func insert(_ child: Dentry) {
    links.withLock { links in
      if links.buckets.isEmpty { links.buckets = Array(repeating: nil, count: 4) }
      if links.childCount >= links.buckets.count * 2 { Self.grow(&links) }
      let bucket = child.hash.bucket(of: links.buckets.count)
      child.nextInBucket = links.buckets[bucket]
      links.buckets[bucket] = child
      links.childCount += 1
    }
    DentryCache.count.wrappingAdd(1, ordering: .relaxed)
  }

  private static func grow(_ links: inout Links) {
    var bigger: [Dentry?] = Array(repeating: nil, count: links.buckets.count * 4)
    for head in links.buckets {
      var node = head
      while let child = node {
        node = child.nextInBucket
        let bucket = child.hash.bucket(of: bigger.count)
        child.nextInBucket = bigger[bucket]
        bigger[bucket] = child
      }
    }
    links.buckets = bigger
  }

  func remove(_ child: Dentry) {
    let removed: Dentry? = links.withLock { links in
      guard !links.buckets.isEmpty else { return nil }
      let bucket = child.hash.bucket(of: links.buckets.count)
      var previous: Dentry?
      var node = links.buckets[bucket]
      while let current = node {
        if current === child {
          if let previous { previous.nextInBucket = current.nextInBucket } else { links.buckets[bucket] = current.nextInBucket }
          current.nextInBucket = nil
          links.childCount -= 1
          return current
        }
        previous = current
        node = current.nextInBucket
      }
      return nil
    }
    if removed != nil { DentryCache.count.wrappingSubtract(1, ordering: .relaxed) }
  }

  /// The name stands for a file now.
  func give(_ inode: Inode) {
    inode.addUser()
    content.set(inode)
    takeName()
  }

  /// Makes this the one name of its directory, if it stands for one; whether it is. Who calls has a reference, so nobody drops it.
  @discardableResult func takeName() -> Bool {
    guard let inode, inode.isDirectory else { return true }
    isTheName = !inode.hasName.exchange(true, ordering: .acquiringAndReleasing)
    return isTheName
  }

  private func giveUpName() {
    if isTheName { content.value?.hasName.store(false, ordering: .releasing) }
    isTheName = false
  }

  /// The name, which is in no directory any more, stands for nothing. Who removes a directory holds its mutex.
  func setRemoved() {
    isRemoved.store(true, ordering: .releasing)
    if inode?.isDirectory == true { return }
    let old = links.withLock { _ in
      let old = inode
      isSpent.store(true, ordering: .releasing)
      return old
    }
    old?.removeUser()
  }

  /// Moves this dentry under another parent and name: both directories' mutexes are held.
  func move(to parent: Dentry, name: [UInt8]) {
    let old = self.parent
    old?.remove(self)
    links.withLock {
      $0.parent = parent
      ownName = name
    }
    hash = NameHash.of(name.span)
    parent.insert(self)
  }

  /// The cached children, each with a reference.
  private func children() -> [Dentry] {
    links.withLock { links in
      var list: [Dentry] = []
      for head in links.buckets {
        var node = head
        while let child = node {
          list.append(child)
          node = child.nextInBucket
        }
      }
      return list
    }
  }

  /// Drops the cached names of this directory that nobody refers to: whoever got a dentry, a child included, holds a reference,
  /// and new references are only given under the lock.
  private func dropUnusedChildren() {
    // They go outside the lock, one by one.
    var victims: Dentry? = links.withLock { links in
      var victims: Dentry?
      for bucket in links.buckets.indices {
        var kept: Dentry?
        while var child = links.buckets[bucket] {
          links.buckets[bucket] = child.nextInBucket
          child.nextInBucket = nil
          if isKnownUniquelyReferenced(&child), !child.isMountPoint.load(ordering: .relaxed),
            child.pins.load(ordering: .acquiring) == 0
          {
            child.nextInBucket = victims
            // Who looks it up from now on makes another.
            child.giveUpName()
            victims = child
            links.childCount -= 1
            DentryCache.count.wrappingSubtract(1, ordering: .relaxed)
          } else {
            child.nextInBucket = kept
            kept = child
          }
        }
        links.buckets[bucket] = kept
      }
      return victims
    }
    while let victim = victims {
      victims = victim.nextInBucket
      victim.nextInBucket = nil
    }
  }

  /// Whether it is `other`, or in the directory that that is.
  func isBelow(_ other: Dentry) -> Bool {
    var dentry: Dentry? = self
    while let here = dentry {
      if here === other { return true }
      dentry = here.parent
    }
    return false
  }

  /// Forgets all names in a directory that was removed: they are negative, and each keeps this dentry alive.
  func forgetChildren() {
    for child in children() { remove(child) }
  }

  /// Drops every cached name at and below this directory that nothing uses: leaves first, without recursion.
  func dropUnusedBelow() {
    var directories = [self]
    var next = 0
    while next < directories.count {
      for child in directories[next].children() where child.hasChildren { directories.append(child) }
      next += 1
    }
    while let directory = directories.popLast() { directory.dropUnusedChildren() }
  }

  private var hasChildren: Bool { links.withLock { $0.childCount > 0 } }

  /// Open files, working directories and roots that need this dentry to stay.
  public let pins = Atomic<Int32>(0)
}

public enum DentryCache {
  public static let count = Atomic<Int>(0)
}
