import FAT
import Machine
import Primitives
import Sync
import SystemABI
import Threads
import VFS

/// Names: records through the directory's own pages.
extension FATFS {
  private static var slotsPerPage: UInt32 { UInt32(pageSize / FATRecord.size) }

  /// Runs `body` on each record from `slot` on while it answers true.
  private func forEachSlot(_ directory: Inode, from slot: UInt32 = 0, _ body: (borrowing Span<UInt8>, Int, UInt32) -> Bool) throws(Errno) {
    let end = UInt32(clamping: directory.size / UInt64(FATRecord.size))
    var slot = slot
    while slot < end {
      let frame = try directory.page(slot / Self.slotsPerPage)
      defer { Frames.release(frame) }
      let pageEnd = min(end, (slot / Self.slotsPerPage + 1) * Self.slotsPerPage)
      let goesOn = frame.withBytes { bytes in
        while slot < pageEnd {
          if !body(bytes, Int(slot % Self.slotsPerPage) * FATRecord.size, slot) { return false }
          slot += 1
        }
        return true
      }
      if !goesOn { return }
    }
  }

  func changeSlot(_ slot: UInt32, of directory: Inode, _ body: (inout MutableSpan<UInt8>, Int) -> Void) throws(Errno) {
    let index = slot / Self.slotsPerPage
    let frame = try directory.page(index)
    defer { Frames.release(frame) }
    frame.withMutableBytes { body(&$0, Int(slot % Self.slotsPerPage) * FATRecord.size) }
    directory.markDirty(index)
  }

  /// All but `.` and `..`.
  func forEachEntry(_ directory: Inode, from slot: UInt32 = 0, _ body: (FATDirectoryScanner.Entry) -> Bool) throws(Errno) {
    var scanner = FATDirectoryScanner(from: slot)
    try forEachSlot(directory, from: slot) { bytes, offset, _ in
      switch scanner.next(bytes, at: offset) {
      case .entry(let entry): entry.record.name == .dot || entry.record.name == .dotDot || body(entry)
      case .end: false
      case .none, .free: true
      }
    }
  }

  /// Where a record is on the device, in records.
  func position(of slot: UInt32, in directory: Inode) throws(Errno) -> UInt64 {
    var result: UInt64 = 0
    let offset = Int(slot % Self.slotsPerPage) * FATRecord.size
    try locate(directory, slot / Self.slotsPerPage, forWriting: false) { sector, range in
      if let sector, range.contains(offset) { result = sector * 16 + UInt64((offset - range.lowerBound) / FATRecord.size) }
    }
    if result == 0 { throw fault("a directory has no sector for a record") }
    return result
  }

  private func entry(_ name: [UInt8], in directory: Inode) throws(Errno) -> FATDirectoryScanner.Entry {
    guard let wanted = FATName(name) else { throw .noSuchFileOrDirectory }
    var found: FATDirectoryScanner.Entry?
    try forEachEntry(directory) { entry in
      if entry.matches(wanted) { found = entry }
      return found == nil
    }
    guard let found else { throw .noSuchFileOrDirectory }
    return found
  }

  public func lookup(_ name: [UInt8], in directory: Inode) throws(Errno) -> Inode {
    try inode(try entry(name, in: directory), in: directory)
  }

  public func find(_ name: [UInt8], in directory: Inode) throws(Errno) -> (inode: Inode, name: [UInt8]) {
    let entry = try entry(name, in: directory)
    return (try inode(entry, in: directory), FATText.utf8(entry.name))
  }

  public func keptName(_ name: [UInt8]) -> [UInt8] {
    guard let last = name.lastIndex(where: { $0 != UInt8(ascii: ".") }) else { return name }
    return Array(name[...last])
  }

  public func isEmpty(_ directory: Inode) throws(Errno) -> Bool {
    var isEmpty = true
    try forEachEntry(directory) { _ in
      isEmpty = false
      return false
    }
    return isEmpty
  }

  /// Positions are 0 for `.`, 1 for `..`, and then those of records and two.
  public func list(_ directory: Inode, from position: UInt64, _ visit: (DirectoryEntry) -> Bool) throws(Errno) {
    if position == 0 {
      guard visit(DirectoryEntry(name: [46], inode: directory.number, type: Mode.directory, next: 1)) else { return }
    }
    if position <= 1 {
      let parent = records.withLock { _ in node(directory).home?.directory.number } ?? directory.number
      guard visit(DirectoryEntry(name: [46, 46], inode: parent, type: Mode.directory, next: 2)) else { return }
    }
    let wanted = UInt32(clamping: position > 2 ? position - 2 : 0)
    // A name may have been put over the place since: it is found from its beginning.
    var entries: [FATDirectoryScanner.Entry] = []
    var next = wanted > 20 ? wanted - 20 : 0
    while true {
      entries.removeAll(keepingCapacity: true)
      try forEachEntry(directory, from: next) { entry in
        next = entry.slots.upperBound
        if entry.slots.lowerBound >= wanted { entries.append(entry) }
        return entries.count < 32
      }
      if entries.isEmpty { return }
      for entry in entries {
        let place = try self.position(of: entry.slots.upperBound - 1, in: directory)
        let item = DirectoryEntry(
          name: FATText.utf8(entry.name), inode: inode(at: place)?.number ?? Self.number(of: place),
          type: entry.record.isDirectory ? Mode.directory : Mode.regular, next: UInt64(entry.slots.upperBound) + 2)
        if !visit(item) { return }
      }
      if entries.count < 32 { return }
    }
  }

  // MARK: Changes

  /// Where a new name goes.
  private struct Room {
    let slots: Range<UInt32>
    let short: FATShortName
    let isLong: Bool
    /// Behind it lies what was never in use: the next record must say that it is the end.
    let endsDirectory: Bool
  }

  private func room(for name: FATName, in directory: Inode) throws(Errno) -> Room {
    let exact = name.exactShortName
    let needed = name.slots(isLong: exact == nil)
    var round: UInt32 = 0
    while true {
      let aliases = exact.map { [$0] } ?? name.aliases(round: round)
      let (start, end, isTaken) = try survey(directory, needed, aliases)
      guard let alias = aliases.indices.first(where: { isTaken & 1 << UInt32($0) == 0 }) else {
        round += 1
        if round > 64 || exact != nil { throw .noSpace }
        continue
      }
      try extend(directory, toHold: start + needed)
      return Room(slots: start..<(start + needed), short: aliases[alias], isLong: exact == nil, endsDirectory: start + needed > end)
    }
  }

  /// The first place for so many records, where the directory's end is, and a bit for each alias that is some file's.
  private func survey(_ directory: Inode, _ needed: UInt32, _ aliases: [FATShortName]) throws(Errno) -> (
    start: UInt32, end: UInt32, isTaken: UInt32
  ) {
    var scanner = FATDirectoryScanner()
    var start: UInt32?
    var free: Range<UInt32> = 0..<0
    var end = UInt32(clamping: directory.size / UInt64(FATRecord.size))
    var isTaken: UInt32 = 0
    try forEachSlot(directory) { bytes, offset, slot in
      switch scanner.next(bytes, at: offset) {
      case .free:
        free = free.upperBound == slot && !free.isEmpty ? free.lowerBound..<(slot + 1) : slot..<(slot + 1)
        if start == nil, UInt32(free.count) == needed { start = free.lowerBound }
      case .entry(let entry):
        for (index, alias) in aliases.enumerated() where alias == entry.record.name { isTaken |= 1 << UInt32(index) }
      case .none: break
      case .end:
        end = slot
        return false
      }
      return true
    }
    if start == nil { start = free.upperBound == end && !free.isEmpty ? free.lowerBound : end }
    return (start ?? end, end, isTaken)
  }

  /// Gives a directory room for so many records. What is new is empty on the disk before the directory leads to it.
  private func extend(_ directory: Inode, toHold slots: UInt32) throws(Errno) {
    let bytes = UInt64(slots) * UInt64(FATRecord.size)
    if bytes <= directory.size { return }
    if directory.number == Self.rootNumber, geometry.kind != .fat32 || bytes > UInt64(Self.largestDirectory) { throw .noSpace }
    let count = clusters(in: bytes)
    try append(to: directory, count)
    directory.attributes.withLock {
      $0.size = UInt64(count) * UInt64(geometry.clusterBytes)
      $0.blocks = $0.size / 512
    }
  }

  /// Lengthens a directory's chain to `count` clusters of zeros.
  private func append(to directory: Inode, _ count: UInt32) throws(Errno) {
    let node = node(directory)
    // Pages behind the end are zeros; they stay in memory until the clusters are there.
    let pages = UInt32(directory.size >> 12)..<UInt32((UInt64(count) * UInt64(geometry.clusterBytes) + 4095) >> 12)
    var frames: [Frame] = []
    defer { for frame in frames { Frames.release(frame) } }
    for index in pages { frames.append(try directory.page(index)) }
    let links: [FATLink]
    do throws(Errno) { links = try takeUnlinked(node, upTo: count) } catch {
      guard error == .noSpace, retiredCount > 0 else { throw error }
      try commit()
      links = try takeUnlinked(node, upTo: count)
    }
    for index in pages { directory.markDirty(index) }
    do throws(Errno) {
      try directory.writeBack()
      try BlockRequest.flush(disk.disk)
      try link(links)
    } catch {
      if let first = links.first, let index = node.clusters.withLock({ $0.chain.index(of: first.cluster) }) {
        retire(try takeClusters(of: directory, from: index))
      }
      throw error
    }
  }

  private func stamp(_ record: inout FATRecord, _ time: Int64) {
    record.creation = FATTime(nanoseconds: time)
    record.access = record.creation
    record.modification = record.creation
  }

  public func create(_ name: [UInt8], in directory: Inode, _ attributes: Attributes) throws(Errno) -> Inode {
    let type = attributes.mode & Mode.typeMask
    guard type == Mode.regular || type == Mode.directory else { throw .notPermitted }
    guard let wanted = FATName(name) else { throw .invalidArgument }
    let isDirectory = type == Mode.directory
    let isReadOnly = !isDirectory && attributes.mode & 0o222 == 0
    let room = try room(for: wanted, in: directory)
    var record = FATRecord(name: room.short, attributes: isDirectory ? FATRecord.directory : FATRecord.archive)
    if isReadOnly { record.attributes |= FATRecord.readOnly }
    stamp(&record, attributes.modificationTime)
    let position = try position(of: room.slots.upperBound - 1, in: directory)
    let node = FATNode(record, home: nil, first: 0)
    node.clusters.withLock { $0.isWhole = true }
    var kept = attributes
    kept.mode = options.mode(type, isReadOnly: isReadOnly)
    kept.owner = options.owner
    kept.group = options.group
    let inode = Inode(self, number: number(for: position), attributes: kept, payload: node)
    let home = FATNode.Home(directory: directory, slots: room.slots, position: position)
    do throws(Errno) {
      if isDirectory { try fillDirectory(inode, node, parent: directory) }
      try records.withLock { _ throws(Errno) in try write(wanted, room, inode, to: home) }
    } catch {
      if let clusters = try? takeClusters(of: inode, from: 0) { retire(clusters) }
      throw error
    }
    if isDirectory { directory.attributes.withLock { $0.links += 1 } }
    return keep(inode, position)
  }

  /// Writes a name's records; the inode is at home there. `records` is held.
  private func write(_ name: FATName, _ room: Room, _ inode: Inode, to home: FATNode.Home) throws(Errno) {
    let node = node(inode)
    node.record.name = room.short
    node.record.smallLetters = 0
    let directory = home.directory
    if room.endsDirectory, UInt64(room.slots.upperBound) * UInt64(FATRecord.size) < directory.size {
      try changeSlot(room.slots.upperBound, of: directory) { bytes, offset in bytes[offset] = 0 }
    }
    if room.isLong {
      let checksum = room.short.checksum
      for part in 0..<UInt32(room.slots.count - 1) {
        try changeSlot(room.slots.upperBound - 2 - part, of: directory) { bytes, offset in
          name.encodePart(part, checksum: checksum, into: &bytes, at: offset)
        }
      }
    }
    let record = node.record
    try changeSlot(room.slots.upperBound - 1, of: directory) { record.encode(into: &$0, at: $1) }
    move(inode, to: home)
  }

  /// The first cluster of a new directory: `.` and `..`. It is on the disk when this returns.
  private func fillDirectory(_ inode: Inode, _ node: FATNode, parent: Inode) throws(Errno) {
    try append(to: inode, 1)
    inode.attributes.withLock {
      $0.size = UInt64(geometry.clusterBytes)
      $0.blocks = $0.size / 512
      $0.links = 2
    }
    let first = node.clusters.withLock { $0.first }
    node.record.cluster = first
    var own = node.record
    own.name = .dot
    var above = node.record
    above.name = .dotDot
    above.cluster = cluster(ofParent: parent)
    try changeSlot(0, of: inode) { own.encode(into: &$0, at: $1) }
    try changeSlot(1, of: inode) { above.encode(into: &$0, at: $1) }
    try inode.writeBack()
    try BlockRequest.flush(disk.disk)
  }

  /// What `..` says: 0 for the root.
  private func cluster(ofParent directory: Inode) -> UInt32 {
    directory.number == Self.rootNumber ? 0 : node(directory).clusters.withLock { $0.first }
  }

  /// Takes an inode's records away. `records` is held.
  private func erase(_ home: FATNode.Home) throws(Errno) {
    for slot in home.slots { try changeSlot(slot, of: home.directory) { bytes, offset in bytes[offset] = FATRecord.deleted } }
  }

  public func unlink(_ name: [UInt8], _ inode: Inode, in directory: Inode) throws(Errno) {
    try records.withLock { _ throws(Errno) in
      guard let home = node(inode).home else { throw .noSuchFileOrDirectory }
      try erase(home)
      move(inode, to: nil)
    }
    inode.attributes.withLock { $0.links = 0 }
    if inode.isDirectory { directory.attributes.withLock { $0.links -= 1 } }
  }

  public func rename(
    _ inode: Inode, from name: [UInt8], in directory: Inode, to newName: [UInt8], in newDirectory: Inode, replacing replaced: Inode?
  ) throws(Errno) {
    guard let wanted = FATName(newName) else { throw .invalidArgument }
    let node = node(inode)
    guard let old = records.withLock({ _ in node.home }) else { throw .noSuchFileOrDirectory }
    let new: FATNode.Home
    if let replaced {
      // Its record is the file's from now on, so the name leads somewhere at any time.
      guard let home = records.withLock({ _ in self.node(replaced).home }) else { throw .noSuchFileOrDirectory }
      new = home
      try records.withLock { _ throws(Errno) in
        var record = node.record
        record.name = self.node(replaced).record.name
        record.smallLetters = self.node(replaced).record.smallLetters
        try changeSlot(home.slots.upperBound - 1, of: home.directory) { record.encode(into: &$0, at: $1) }
        move(replaced, to: nil)
        move(inode, to: home)
        node.record = record
      }
      replaced.attributes.withLock { $0.links = 0 }
    } else {
      let room = try room(for: wanted, in: newDirectory)
      new = FATNode.Home(
        directory: newDirectory, slots: room.slots, position: try position(of: room.slots.upperBound - 1, in: newDirectory))
      try records.withLock { _ throws(Errno) in try write(wanted, room, inode, to: new) }
    }
    // One sector is written as a whole; else the new name is there before the old one goes.
    if new.position / 16 != old.position / 16 || new.slots.count > 1 || old.slots.count > 1 {
      try metadata.writeBack()
      try newDirectory.writeBack()
      try BlockRequest.flush(disk.disk)
    }
    try records.withLock { _ throws(Errno) in try erase(old) }
    // Who makes sure of the new name is sure that the old one is gone: of two records of one chain, a check would empty one.
    try directory.writeBack()
    guard inode.isDirectory else { return }
    if directory !== newDirectory {
      let parent = cluster(ofParent: newDirectory)
      try changeSlot(1, of: inode) { bytes, offset in
        var record = FATRecord(bytes.span, at: offset)
        record.cluster = parent
        record.encode(into: &bytes, at: offset)
      }
      newDirectory.attributes.withLock { $0.links += 1 }
      directory.attributes.withLock { $0.links -= 1 }
    }
    if replaced != nil { newDirectory.attributes.withLock { $0.links -= 1 } }
  }
}
