import Primitives
import Sync
import SystemABI
import Threads
import VFS

/// What is found under a name, and what is in a directory.
extension OverlayFS {
  static func place(_ parent: Path, _ name: [UInt8]) -> ParentAndName {
    ParentAndName(parent: parent, name: name, wantsDirectory: false)
  }

  /// What a layer's directory has under a name, whiteouts too; the inode with a use of it, the caller's to end.
  func child(_ name: [UInt8], of directory: Path) throws(Errno) -> (path: Path, real: Inode)? {
    guard let parent = directory.dentry.inode, parent.isDirectory else { return nil }
    let dentry = try PathWalk.lookup(directory.dentry, parent, name)
    let path = Path(mount: directory.mount, dentry: dentry)
    do throws(Errno) { return (path, try path.useInode()) } catch { return nil }
  }

  static func isWhiteout(_ real: Inode) -> Bool { real.type == Mode.character && real.attributes.withLock { $0.device.rawValue } == 0 }

  /// Whether nothing of the layers below is seen in a directory.
  func isOpaque(_ real: Inode) throws(Errno) -> Bool { try attribute(names.opaque, of: real) == OverlayNames.yes }

  /// The number that a file of the upper layer had before it came up.
  func origin(of real: Inode) throws(Errno) -> UInt64? {
    guard let bytes = try attribute(names.origin, of: real), bytes.count == 8 else { return nil }
    return bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  func attribute(_ name: AttributeName, of real: Inode) throws(Errno) -> [UInt8]? {
    do throws(Errno) {
      return try real.mutex.withLock { _ throws(Errno) in try real.fileSystem.extendedAttribute(name, of: real) }
    } catch {
      if error == .noData || error == .notSupportedOnSocket { return nil }
      throw error
    }
  }

  func setAttribute(_ name: AttributeName, of real: Inode, to value: [UInt8]) throws(Errno) {
    try real.mutex.withLock { _ throws(Errno) in try real.fileSystem.setExtendedAttribute(name, of: real, to: value, .any) }
  }

  public func lookup(_ name: [UInt8], in directory: Inode) throws(Errno) -> Inode {
    var found: (real: Inode, path: Path, isUpper: Bool)?
    defer { found?.real.removeUser() }
    var below: [Path] = []
    for (place, isUpper) in try node(directory).places {
      guard let (path, real) = try child(name, of: place) else { continue }
      var isKept = false
      defer { if !isKept { real.removeUser() } }
      // Under a directory there may be more of it; under anything else there is nothing.
      if Self.isWhiteout(real) || found != nil && !real.isDirectory { break }
      if !isUpper { below.append(path) }
      let isLast = real.isDirectory ? try isOpaque(real) : true
      if found == nil {
        found = (real, path, isUpper)
        isKept = true
      }
      if isLast { break }
    }
    guard let (real, path, isUpper) = found else { throw .noSuchFileOrDirectory }
    let isDirectory = real.isDirectory
    return try inode(
      real, upper: isUpper && isDirectory ? path : nil, isUpper: isUpper, lowers: isDirectory ? below : [], parent: directory.number)
  }

  /// Whether a name would be seen if the upper layer had nothing under it.
  func isBelow(_ name: [UInt8], in directory: OverlayNode) throws(Errno) -> Bool {
    for place in directory.lowers {
      guard let (_, real) = try child(name, of: place) else { continue }
      defer { real.removeUser() }
      return !Self.isWhiteout(real)
    }
    return false
  }

  public func isEmpty(_ directory: Inode) throws(Errno) -> Bool {
    var isEmpty = true
    try list(directory, from: 0) { entry in
      if entry.name == [46] || entry.name == [46, 46] { return true }
      isEmpty = false
      return false
    }
    return isEmpty
  }

  // MARK: Listing

  public func list(_ directory: Inode, from position: UInt64, _ visit: (DirectoryEntry) -> Bool) throws(Errno) {
    let node = try node(directory)
    let places = node.places
    if places.count == 1 {
      try listOne(places[0].path, isUpper: places[0].isUpper, from: position) { entry in
        var entry = entry
        if entry.name == [46] { entry.inode = directory.number }
        if entry.name == [46, 46] { entry.inode = node.parent }
        return visit(entry)
      }
      return
    }
    if position < 1, !visit(DirectoryEntry(name: [46], inode: directory.number, type: Mode.directory, next: 1)) { return }
    if position < 2, !visit(DirectoryEntry(name: [46, 46], inode: node.parent, type: Mode.directory, next: 2)) { return }
    // Who begins anew sees what is there now.
    let entries = if position >= 2, let known = node.entries { known } else { try merge(places) }
    node.entries = entries
    var (low, high) = (0, entries.count)
    while low < high {
      let middle = (low + high) / 2
      if UInt64(entries[middle].position) < position { low = middle + 1 } else { high = middle }
    }
    for entry in entries[low...] {
      let next = UInt64(entry.position) + 1
      guard visit(DirectoryEntry(name: entry.name, inode: entry.number, type: entry.type, next: next)) else { return }
    }
  }

  /// Lists what one layer has, without whiteouts, with the overlay's numbers.
  private func listOne(_ place: Path, isUpper: Bool, from start: UInt64, _ visit: (DirectoryEntry) -> Bool) throws(Errno) {
    try listAll(place, isUpper: isUpper, from: start) { entry, isWhiteout in isWhiteout || visit(entry) }
  }

  /// Lists what one layer has; `visit` is told of whiteouts, and answers whether it wants more.
  private func listAll(
    _ place: Path, isUpper: Bool, from start: UInt64, _ visit: (_ entry: DirectoryEntry, _ isWhiteout: Bool) -> Bool
  ) throws(Errno) {
    guard let real = place.dentry.inode else { return }
    let isImpure = isUpper ? try attribute(names.impure, of: real) == OverlayNames.yes : false
    var position = start
    while true {
      // Nothing else can be asked of the layer while its directory is locked.
      var batch: [DirectoryEntry] = []
      try real.mutex.withLock { _ throws(Errno) in
        try real.fileSystem.list(real, from: position) { entry in
          batch.append(entry)
          return batch.count < 128
        }
      }
      guard let last = batch.last else { return }
      position = last.next
      for entry in batch {
        let (entry, isWhiteout) = try resolve(entry, place, storage: real.fileSystem, isImpure: isImpure)
        if !visit(entry, isWhiteout) { return }
      }
    }
  }

  /// What the overlay says of a layer's entry, and whether it is a whiteout.
  private func resolve(
    _ entry: DirectoryEntry, _ place: Path, storage: any FileSystem, isImpure: Bool
  ) throws(Errno) -> (DirectoryEntry, isWhiteout: Bool) {
    var result = entry
    result.inode = number(entry.inode, on: storage)
    if entry.name == [46] || entry.name == [46, 46] { return (result, false) }
    guard isImpure || entry.type == Mode.character || entry.type == 0, let (_, real) = try child(entry.name, of: place) else {
      return (result, false)
    }
    defer { real.removeUser() }
    if isImpure, let origin = try origin(of: real) { result.inode = origin }
    return (result, Self.isWhiteout(real))
  }

  /// The names in several layers' directories together, by their positions.
  private func merge(_ places: [(path: Path, isUpper: Bool)]) throws(Errno) -> [OverlayEntry] {
    // The layer is part of the order: a name of a layer above comes before the same one below.
    var all: [(hash: UInt32, layer: Int, isWhiteout: Bool, entry: DirectoryEntry)] = []
    for (layer, place) in places.enumerated() {
      try listAll(place.path, isUpper: place.isUpper, from: 0) { entry, isWhiteout in
        if entry.name != [46], entry.name != [46, 46] {
          all.append((NameHash.of(entry.name.span).value & 0x7FFF_FFFF, layer, isWhiteout, entry))
        }
        return true
      }
    }
    all.sort {
      if $0.hash != $1.hash { return $0.hash < $1.hash }
      if $0.entry.name != $1.entry.name { return $0.entry.name.lexicographicallyPrecedes($1.entry.name) }
      return $0.layer < $1.layer
    }
    var result: [OverlayEntry] = []
    var before: [UInt8]?
    for (hash, _, isWhiteout, entry) in all where entry.name != before {
      before = entry.name
      if isWhiteout { continue }
      let position = max(max(hash, 2), (result.last?.position ?? 1) + 1)
      result.append(OverlayEntry(name: entry.name, position: position, number: entry.inode, type: entry.type))
    }
    return result
  }

  // MARK: Extended attributes

  public func extendedAttribute(_ name: AttributeName, of inode: Inode) throws(Errno) -> [UInt8] {
    if names.hides(name) { throw .notSupportedOnSocket }
    let real = inode.content
    return try real.mutex.withLock { _ throws(Errno) in try real.fileSystem.extendedAttribute(name, of: real) }
  }

  public func extendedAttributeNames(of inode: Inode) throws(Errno) -> [AttributeName] {
    let real = inode.content
    return try real.mutex.withLock { _ throws(Errno) in try real.fileSystem.extendedAttributeNames(of: real) }.filter { !names.hides($0) }
  }

  public func setExtendedAttribute(_ name: AttributeName, of inode: Inode, to value: [UInt8]?, _ change: AttributeChange) throws(Errno) {
    if names.hides(name) { throw .notSupportedOnSocket }
    let real = inode.content
    try real.mutex.withLock { _ throws(Errno) in try real.fileSystem.setExtendedAttribute(name, of: real, to: value, change) }
  }
}
