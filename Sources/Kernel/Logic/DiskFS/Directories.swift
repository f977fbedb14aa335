/// Names in directories.
extension DiskVolume {
  /// The item of a name, or where it could be: the first free place among those of its hash.
  private func find(_ name: [UInt8], in directory: UInt64) throws(DiskFSError) -> (place: UInt64?, entry: DiskEntry?) {
    let start = DiskEntry.position(name)
    var place = start
    while place < start + 256 {
      guard let item = try tree.next(from: DiskKey(directory, .entry, place)), item.key.isLike(DiskKey(directory, .entry, 0)),
        item.key.offset < start + 256
      else { break }
      guard let entry = DiskEntry(item.value) else { throw .corrupt }
      if entry.name == name { return (item.key.offset, entry) }
      place = item.key.offset + 1
    }
    // The first gap, for who wants to add it.
    place = start
    while place < start + 256, try tree.value(DiskKey(directory, .entry, place)) != nil { place += 1 }
    return (place < start + 256 ? place : nil, nil)
  }

  public func lookup(_ name: [UInt8], in directory: UInt64) throws(DiskFSError) -> DiskEntry? { try find(name, in: directory).entry }

  /// Gives a name to an object, in the place of what had it. Throws `noSpace` when 256 other names have its hash.
  public func enter(_ name: [UInt8], _ object: UInt64, type: UInt32, in directory: UInt64) throws(DiskFSError) {
    guard let place = try find(name, in: directory).place else { throw .noSpace }
    try set(DiskKey(directory, .entry, place), to: DiskEntry(name: name, object: object, type: type).encoded)
  }

  /// Takes a name away; whether it was there.
  @discardableResult public func leave(_ name: [UInt8], in directory: UInt64) throws(DiskFSError) -> Bool {
    let found = try find(name, in: directory)
    guard found.entry != nil, let place = found.place else { return false }
    try remove(DiskKey(directory, .entry, place))
    return true
  }

  /// The first name at or behind a position, and its position.
  public func entry(from position: UInt64, in directory: UInt64) throws(DiskFSError) -> (position: UInt64, entry: DiskEntry)? {
    guard let item = try tree.next(from: DiskKey(directory, .entry, position)), item.key.isLike(DiskKey(directory, .entry, 0)) else {
      return nil
    }
    guard let entry = DiskEntry(item.value) else { throw .corrupt }
    return (item.key.offset, entry)
  }

  public func isEmpty(_ directory: UInt64) throws(DiskFSError) -> Bool { try entry(from: 0, in: directory) == nil }

  // MARK: Extended attributes

  /// Attributes with their namespace's number as their names' first byte. A value and its name have at most
  /// `DiskFormat.largestItem` - 1 bytes together.
  private func findAttribute(_ name: [UInt8], of object: UInt64) throws(DiskFSError) -> (place: UInt64?, value: [UInt8]?) {
    let start = UInt64(XXH32.hash(name.span)) << 8
    var place = start
    while let bytes = try tree.value(DiskKey(object, .attribute, place)) {
      guard let length = bytes.first, bytes.count > Int(length) else { throw .corrupt }
      if bytes[1..<(1 + Int(length))].elementsEqual(name) { return (place, Array(bytes[(1 + Int(length))...])) }
      place += 1
      if place == start + 256 { return (nil, nil) }
    }
    return (place, nil)
  }

  public func attribute(_ name: [UInt8], of object: UInt64) throws(DiskFSError) -> [UInt8]? { try findAttribute(name, of: object).value }

  /// Sets an attribute. Throws `noSpace` for one that is too large.
  public func setAttribute(_ name: [UInt8], of object: UInt64, to value: [UInt8]) throws(DiskFSError) {
    let found = try findAttribute(name, of: object)
    guard let place = found.place, name.count < 256, 1 + name.count + value.count <= DiskFormat.largestItem else { throw .noSpace }
    try set(DiskKey(object, .attribute, place), to: [UInt8(truncatingIfNeeded: name.count)] + name + value)
  }

  /// Removes an attribute; those of the same hash close the gap.
  public func removeAttribute(_ name: [UInt8], of object: UInt64) throws(DiskFSError) {
    let found = try findAttribute(name, of: object)
    guard found.value != nil, let place = found.place else { return }
    var last = place
    while last & 0xFF < 0xFF, try tree.value(DiskKey(object, .attribute, last + 1)) != nil { last += 1 }
    if last != place, let moved = try tree.value(DiskKey(object, .attribute, last)) {
      try set(DiskKey(object, .attribute, place), to: moved)
    }
    try remove(DiskKey(object, .attribute, last))
  }

  public func attributeNames(of object: UInt64) throws(DiskFSError) -> [[UInt8]] {
    var names: [[UInt8]] = []
    var place: UInt64 = 0
    while let item = try tree.next(from: DiskKey(object, .attribute, place)), item.key.isLike(DiskKey(object, .attribute, 0)) {
      guard let length = item.value.first, item.value.count > Int(length) else { throw .corrupt }
      names.append(Array(item.value[1..<(1 + Int(length))]))
      place = item.key.offset + 1
    }
    return names
  }
}
