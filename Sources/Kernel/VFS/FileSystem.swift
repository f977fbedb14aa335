import Machine
import Primitives
import Synchronization
import SystemABI

/// `statfs` numbers, in blocks of `blockSize` bytes.
public struct FileSystemStatistics {
  public var magic: UInt32
  public var blockSize: UInt32 = 4096
  public var blocks: UInt64 = 0
  public var freeBlocks: UInt64 = 0
  public var availableBlocks: UInt64 = 0
  public var files: UInt64 = 0
  public var freeFiles: UInt64 = 0
  public var nameLength: UInt32 = 255
  public init(magic: UInt32) { self.magic = magic }
}

/// One directory entry as a file system lists it.
public struct DirectoryEntry {
  public var name: [UInt8]
  public var inode: UInt64
  /// File type bits of a mode, or 0 when the file system does not know.
  public var type: UInt32
  /// Where listing goes on behind this entry.
  public var next: UInt64
  public init(name: [UInt8], inode: UInt64, type: UInt32, next: UInt64) {
    self.name = name
    self.inode = inode
    self.type = type
    self.next = next
  }
}

/// How many of something (pages, files) a file system in memory holds and may hold.
public final class MemoryBudget {
  public let limit: Int
  private let taken = Atomic<Int>(0)
  public init(limit: Int) { self.limit = limit }

  public var used: Int { max(0, taken.load(ordering: .relaxed)) }
  public func take(_ count: Int) throws(Errno) {
    if taken.wrappingAdd(count, ordering: .relaxed).newValue > limit {
      give(count)
      throw .noSpace
    }
  }
  public func give(_ count: Int) { taken.wrappingSubtract(count, ordering: .relaxed) }
}

/// A number of pages.
public final class PageCounter {
  private let number = Atomic<Int>(0)
  public init() {}
  public var count: Int { number.load(ordering: .relaxed) }
  public func add(_ pages: Int) { number.wrappingAdd(pages, ordering: .relaxed) }
}

/// A mounted file system. It answers; names, permissions, caching and locks are the VFS's: every call that
/// changes a directory comes with that directory's mutex held. All calls may sleep.
public protocol FileSystem: AnyObject {
  var typeName: String { get }
  var deviceNumber: UInt32 { get }
  var root: Inode { get }
  var isReadOnly: Bool { get }
  /// Whether names stay valid until a call here changes them (not so in procfs).
  var cachesNames: Bool { get }
  /// Whether a name stands for itself only: not so where capital and small letters are the same.
  var namesAreExact: Bool { get }
  /// What a directory keeps of a name that somebody gives.
  func keptName(_ name: [UInt8]) -> [UInt8]
  /// As `lookup`, with the name that the directory has for it.
  func find(_ name: [UInt8], in directory: Inode) throws(Errno) -> (inode: Inode, name: [UInt8])
  /// Whether the page cache is all the storage there is: dirty pages stay and are never written.
  var livesInMemory: Bool { get }
  /// What a file system that lives in memory counts its pages with.
  var memory: MemoryBudget? { get }
  /// Whether this is a block device's content, which file systems read and write with their own locks held.
  var isBlockDevice: Bool { get }
  /// Whether every call waits for what it has changed to be on stable storage, however it is mounted.
  var isSynchronous: Bool { get }
  /// The inode a name stands for. Throws `noSuchFileOrDirectory`.
  func lookup(_ name: [UInt8], in directory: Inode) throws(Errno) -> Inode
  /// Makes a file of any type but a link; `attributes.mode` says which.
  func create(_ name: [UInt8], in directory: Inode, _ attributes: Attributes) throws(Errno) -> Inode
  func symlink(_ name: [UInt8], in directory: Inode, target: [UInt8], _ attributes: Attributes) throws(Errno) -> Inode
  func readLink(_ inode: Inode) throws(Errno) -> [UInt8]
  func link(_ inode: Inode, _ name: [UInt8], in directory: Inode) throws(Errno)
  /// Removes a name and counts the inode's links down; directories are empty.
  func unlink(_ name: [UInt8], _ inode: Inode, in directory: Inode) throws(Errno)
  func isEmpty(_ directory: Inode) throws(Errno) -> Bool
  /// Moves a name; `replaced` is what the new name stood for and is unlinked.
  func rename(
    _ inode: Inode, from name: [UInt8], in directory: Inode, to newName: [UInt8], in newDirectory: Inode,
    replacing replaced: Inode?) throws(Errno)
  /// Lets two names change places.
  func exchange(
    _ inode: Inode, _ name: [UInt8], in directory: Inode, with other: Inode, _ otherName: [UInt8], in otherDirectory: Inode
  ) throws(Errno)
  /// Makes a regular file that has no name yet, near `directory`.
  func createUnnamed(in directory: Inode, _ attributes: Attributes) throws(Errno) -> Inode
  /// Lists from `position` on until `visit` answers false. Positions are stable while others change the directory.
  func list(_ directory: Inode, from position: UInt64, _ visit: (DirectoryEntry) -> Bool) throws(Errno)
  /// Where its files' pages are; nil when it makes them itself.
  var device: (any BlockDevice)? { get }
  /// Calls `visit` with each piece of a page of a file on the device: its first sector, or nil for a hole, and its bytes in the
  /// page. Only of what the file has, `forWriting`.
  func locate(_ inode: Inode, _ index: UInt32, forWriting: Bool, _ visit: (UInt64?, Range<Int>) -> Void) throws(Errno)
  /// As `locate` for reading. Answers the checksum that the page must have, nil where none is kept.
  func locateChecked(_ inode: Inode, _ index: UInt32, _ visit: (UInt64?, Range<Int>) -> Void) throws(Errno) -> UInt32?
  /// Whether a page that was read has its checksum. Takes no lock.
  func isIntact(_ frame: Frame, _ checksum: UInt32) -> Bool
  /// Writes pages of a file to the device. Those that could not be written are dirty again, and it throws.
  func write(_ pages: [(index: UInt32, frame: Frame)], of inode: Inode) throws(Errno)
  /// What a file system that writes pages to new places counts those with that have none yet: from when a page becomes dirty until
  /// `write` takes it away.
  var unwritten: PageCounter? { get }
  /// Fills a page of a file that is on no device.
  func readPage(_ inode: Inode, _ index: UInt32, into frame: Frame) throws(Errno)
  /// Makes sure that a byte range of a page can be written later: `noSpace` comes here, not at write-back.
  func reserve(_ inode: Inode, _ index: UInt32, _ range: Range<Int>) throws(Errno)
  /// As `reserve`, for who holds the lock of an address space that maps the page: nothing is written back there.
  func reserveMapped(_ inode: Inode, _ index: UInt32, _ range: Range<Int>) throws(Errno)
  /// Whether files can have holes.
  var hasHoles: Bool { get }
  /// Gives back what pages of a file take; nothing of them is wanted any more.
  func punch(_ inode: Inode, _ pages: Range<UInt32>) throws(Errno)
  /// Somebody who could write to a file has closed it.
  func wasWritten(_ inode: Inode)
  /// Changes a file's size; the VFS has dropped pages beyond it.
  func resize(_ inode: Inode, to size: UInt64) throws(Errno)
  /// Changes what somebody wants into what it can keep, or throws `notPermitted`. Attributes are locked: it must not sleep.
  func adapt(_ attributes: inout Attributes, of inode: Inode) throws(Errno)
  func attributesChanged(_ inode: Inode) throws(Errno)
  /// Writes attributes that `Inode.delayAttributes` has left for later, and times.
  func writeAttributes(_ inode: Inode) throws(Errno)
  /// Extended attributes; these come with the inode's mutex held. Throws `noData`, `notSupportedOnSocket`.
  func extendedAttribute(_ name: AttributeName, of inode: Inode) throws(Errno) -> [UInt8]
  func extendedAttributeNames(of inode: Inode) throws(Errno) -> [AttributeName]
  /// Sets an attribute or removes it. Throws `fileExists` and `noData` as `change` says, `noSpace`.
  func setExtendedAttribute(_ name: AttributeName, of inode: Inode, to value: [UInt8]?, _ change: AttributeChange) throws(Errno)
  /// How many file systems lie one over the other: 0 for one that has its files itself.
  var layerDepth: UInt8 { get }
  /// Makes a file of a lower layer one that may change; with `keepsContent` as false, an empty one. `dentry` is how it was found.
  func bringUp(_ inode: Inode, at dentry: Dentry, keepsContent: Bool) throws(Errno)
  /// What `stat` says of a file whose layer says `attributes`.
  func shownAttributes(of inode: Inode, _ attributes: Attributes) -> Attributes
  /// What /proc/mounts says of it besides the mount's own options, each with a comma before.
  var shownOptions: [UInt8] { get }
  /// Deletes a file that has neither links nor users.
  func evict(_ inode: Inode)
  /// Writes metadata out; with `wait` it is on the device when this returns.
  func sync() throws(Errno)
  /// Only this inode's metadata.
  func sync(_ inode: Inode) throws(Errno)
  func statistics() -> FileSystemStatistics
  /// Forgets caches that nothing uses.
  func dropUnused()
  /// The last act before unmounting or power-off: it leaves the device clean.
  func unmount() throws(Errno)
  /// Nobody uses it any more: it lets go of what keeps it in memory, and of its device.
  func end()
}

extension FileSystem {
  public var isReadOnly: Bool { false }
  public var cachesNames: Bool { true }
  public var namesAreExact: Bool { true }
  public func keptName(_ name: [UInt8]) -> [UInt8] { name }
  public func find(_ name: [UInt8], in directory: Inode) throws(Errno) -> (inode: Inode, name: [UInt8]) {
    (try lookup(name, in: directory), name)
  }
  public var livesInMemory: Bool { memory != nil }
  public var memory: MemoryBudget? { nil }
  public var isBlockDevice: Bool { false }
  public var isSynchronous: Bool { false }
  public func create(_ name: [UInt8], in directory: Inode, _ attributes: Attributes) throws(Errno) -> Inode {
    throw .notPermitted
  }
  public func symlink(_ name: [UInt8], in directory: Inode, target: [UInt8], _ attributes: Attributes) throws(Errno)
    -> Inode
  { throw .notPermitted }
  public func readLink(_ inode: Inode) throws(Errno) -> [UInt8] { throw .invalidArgument }
  public func link(_ inode: Inode, _ name: [UInt8], in directory: Inode) throws(Errno) { throw .notPermitted }
  public func unlink(_ name: [UInt8], _ inode: Inode, in directory: Inode) throws(Errno) { throw .notPermitted }
  public func isEmpty(_ directory: Inode) throws(Errno) -> Bool { false }
  public func rename(
    _ inode: Inode, from name: [UInt8], in directory: Inode, to newName: [UInt8], in newDirectory: Inode,
    replacing replaced: Inode?
  ) throws(Errno) { throw .notPermitted }
  public func exchange(
    _ inode: Inode, _ name: [UInt8], in directory: Inode, with other: Inode, _ otherName: [UInt8], in otherDirectory: Inode
  ) throws(Errno) { throw .invalidArgument }
  public func createUnnamed(in directory: Inode, _ attributes: Attributes) throws(Errno) -> Inode { throw .notSupportedOnSocket }
  public var device: (any BlockDevice)? { nil }
  public func locate(_ inode: Inode, _ index: UInt32, forWriting: Bool, _ visit: (UInt64?, Range<Int>) -> Void) throws(Errno) {
    throw .invalidArgument
  }
  public func locateChecked(_ inode: Inode, _ index: UInt32, _ visit: (UInt64?, Range<Int>) -> Void) throws(Errno) -> UInt32? {
    try locate(inode, index, forWriting: false, visit)
    return nil
  }
  public func isIntact(_ frame: Frame, _ checksum: UInt32) -> Bool { true }
  public func write(_ pages: [(index: UInt32, frame: Frame)], of inode: Inode) throws(Errno) { try inode.writeInPlace(pages) }
  public var unwritten: PageCounter? { nil }
  public func readPage(_ inode: Inode, _ index: UInt32, into frame: Frame) throws(Errno) { throw .invalidArgument }
  public func reserve(_ inode: Inode, _ index: UInt32, _ range: Range<Int>) throws(Errno) { throw .notPermitted }
  public func reserveMapped(_ inode: Inode, _ index: UInt32, _ range: Range<Int>) throws(Errno) { try reserve(inode, index, range) }
  public var hasHoles: Bool { false }
  public func punch(_ inode: Inode, _ pages: Range<UInt32>) throws(Errno) {}
  public func wasWritten(_ inode: Inode) {}
  public func resize(_ inode: Inode, to size: UInt64) throws(Errno) { throw .notPermitted }
  public func adapt(_ attributes: inout Attributes, of inode: Inode) throws(Errno) {}
  public func attributesChanged(_ inode: Inode) throws(Errno) {}
  public func writeAttributes(_ inode: Inode) throws(Errno) { try attributesChanged(inode) }
  public func extendedAttribute(_ name: AttributeName, of inode: Inode) throws(Errno) -> [UInt8] { throw .notSupportedOnSocket }
  public func extendedAttributeNames(of inode: Inode) throws(Errno) -> [AttributeName] { [] }
  public func setExtendedAttribute(_ name: AttributeName, of inode: Inode, to value: [UInt8]?, _ change: AttributeChange) throws(Errno) {
    throw .notSupportedOnSocket
  }
  public var layerDepth: UInt8 { 0 }
  public func bringUp(_ inode: Inode, at dentry: Dentry, keepsContent: Bool) throws(Errno) {}
  public func shownAttributes(of inode: Inode, _ attributes: Attributes) -> Attributes { attributes }
  public var shownOptions: [UInt8] { [] }
  public func evict(_ inode: Inode) {}
  public func sync() throws(Errno) {}
  public func sync(_ inode: Inode) throws(Errno) { try sync() }
  public func dropUnused() {}
  public func unmount() throws(Errno) { try sync() }
  public func end() {}
}
