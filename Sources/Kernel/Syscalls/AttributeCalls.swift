import Machine
import Processes
import SystemABI
import VFS

/// Extended attributes. SPEC: setxattr(2), getxattr(2), listxattr(2), removexattr(2).
extension Call {
  private static var largestValue: UInt32 { 65536 }

  /// The file of a descriptor, which must be more than a place.
  func attributesInode(_ number: UInt32) throws(Errno) -> (inode: Inode, path: Path?) {
    let description = try description(number)
    if description.flags & OpenFlags.path != 0 { throw .badFileDescriptor }
    return (description.inode ?? NamelessFiles.inode(of: description.file), description.path)
  }

  /// Throws `outOfRange` for a name of no bytes or more than 255.
  private func attributeName(_ address: UInt32) throws(Errno) -> AttributeName {
    let text: [UInt8]
    do throws(Errno) { text = try UserMemory.string(address, limit: 256) } catch { throw error == .badAddress ? error : .outOfRange }
    if text.isEmpty { throw .outOfRange }
    return try AttributeName(text)
  }

  private func change(_ file: (inode: Inode, path: Path?), _ name: AttributeName, _ value: [UInt8]?, _ how: AttributeChange) throws(Errno) {
    if let path = file.path, path.mount.isReadOnly { throw .readOnlyFileSystem }
    try file.inode.setExtendedAttribute(name, to: value, how, at: file.path, process.who)
    FileWatches.tell(file.inode, file.path?.dentry, .attributes)
    try file.path?.mount.settle(file.inode)
  }

  /// XATTR_CREATE is 1, XATTR_REPLACE 2.
  func setExtendedAttribute(_ file: (inode: Inode, path: Path?)) throws(Errno) -> UInt32 {
    guard e < 3 else { throw .invalidArgument }
    let name = try attributeName(b)
    if d > Self.largestValue { throw .argListTooLong }
    var buffer = IOBuffer(c, Int(d))
    let value = try buffer.takeBytes(limit: Int(d))
    try change(file, name, value, e == 0 ? .any : e == 1 ? .creates : .replaces)
    return 0
  }

  func removeExtendedAttribute(_ file: (inode: Inode, path: Path?)) throws(Errno) -> UInt32 {
    try change(file, try attributeName(b), nil, .any)
    return 0
  }

  /// The value's size; without room for it only that, with too little `outOfRange`.
  func extendedAttribute(of inode: Inode) throws(Errno) -> UInt32 {
    let value = try inode.extendedAttribute(try attributeName(b), process.who)
    return try answer(value, c, d)
  }

  /// The names, each with a zero behind it.
  func extendedAttributeNames(of inode: Inode) throws(Errno) -> UInt32 {
    var text: [UInt8] = []
    for name in try inode.extendedAttributeNames(process.who) { text += name.text + [0] }
    return try answer(text, b, c)
  }

  private func answer(_ bytes: [UInt8], _ address: UInt32, _ room: UInt32) throws(Errno) -> UInt32 {
    if room > 0 {
      guard bytes.count <= Int(min(room, 0x7FFF_FFFF)) else { throw .outOfRange }
      try UserMemory.write(bytes.span, to: address)
    }
    return UInt32(bytes.count)
  }
}
