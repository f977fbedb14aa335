import Machine
import Sync
import SystemABI
import Threads

/// The name of an extended attribute: its namespace, and what follows that. SPEC: xattr(7).
public struct AttributeName: Equatable {
  /// With the numbers that ext2 has for them.
  public enum Space: UInt8 {
    case user = 1
    case trusted = 4
    case security = 6

    var prefix: [UInt8] {
      switch self {
      case .user: Array("user.".utf8)
      case .trusted: Array("trusted.".utf8)
      case .security: Array("security.".utf8)
      }
    }
  }
  public let space: Space
  public let rest: [UInt8]

  public init(_ space: Space, _ rest: [UInt8]) {
    self.space = space
    self.rest = rest
  }

  /// Throws `notSupportedOnSocket` for a namespace without storage (`system.`) and for `security.capability`, which would have to
  /// have an effect.
  public init(_ text: [UInt8]) throws(Errno) {
    for space in [Space.user, .trusted, .security] {
      let prefix = space.prefix
      guard text.count >= prefix.count, text.prefix(prefix.count).elementsEqual(prefix) else { continue }
      let rest = Array(text[prefix.count...])
      if rest.isEmpty { throw .invalidArgument }
      if space == .security, rest == Array("capability".utf8) { throw .notSupportedOnSocket }
      self.init(space, rest)
      return
    }
    throw .notSupportedOnSocket
  }

  public var text: [UInt8] { space.prefix + rest }
}

/// Whether an attribute must be new, or must be there.
public enum AttributeChange { case any, creates, replaces }

/// A list of attributes, as file systems keep it.
public struct AttributeList {
  public private(set) var all: [(name: AttributeName, value: [UInt8])] = []
  public init() {}

  /// Bytes of names and values.
  public var size: Int { all.reduce(0) { $0 + $1.name.rest.count + $1.value.count + 32 } }

  public subscript(_ name: AttributeName) -> [UInt8]? { all.first { $0.name == name }?.value }

  /// Sets an attribute, or removes it. Throws `fileExists`, `noData`.
  public mutating func set(_ name: AttributeName, to value: [UInt8]?, _ change: AttributeChange) throws(Errno) {
    let index = all.firstIndex { $0.name == name }
    if index != nil, change == .creates { throw .fileExists }
    if index == nil, value == nil || change == .replaces { throw .noData }
    if let index { all.remove(at: index) }
    if let value { all.append((name, value)) }
  }
}

extension Inode {
  /// Throws `noData` when there is no such attribute, `permissionDenied`.
  public func extendedAttribute(_ name: AttributeName, _ who: Credentials) throws(Errno) -> [UInt8] {
    try checkAttribute(name, writes: false, who)
    return try mutex.withLock { _ throws(Errno) in try fileSystem.extendedAttribute(name, of: self) }
  }

  /// Those that `who` may know of.
  public func extendedAttributeNames(_ who: Credentials) throws(Errno) -> [AttributeName] {
    let names = try mutex.withLock { _ throws(Errno) in try fileSystem.extendedAttributeNames(of: self) }
    return who.has(.administrate) ? names : names.filter { $0.space != .trusted }
  }

  /// Sets an attribute, or removes it. Throws `fileExists` and `noData` as `change` says, `noSpace`.
  public func setExtendedAttribute(_ name: AttributeName, to value: [UInt8]?, _ change: AttributeChange, at path: Path?, _ who: Credentials)
    throws(Errno)
  {
    try checkAttribute(name, writes: true, who)
    try bringUp(at: path)
    try mutex.withLock { _ throws(Errno) in try fileSystem.setExtendedAttribute(name, of: self, to: value, change) }
    try update { _ in }
  }

  /// SPEC: Linux fs/xattr.c, xattr_permission; xattr(7).
  private func checkAttribute(_ name: AttributeName, writes: Bool, _ who: Credentials) throws(Errno) {
    switch name.space {
    case .security:
      if writes, !who.has(.administrate) { throw .notPermitted }
      return
    case .trusted:
      if !who.has(.administrate) { throw writes ? .notPermitted : .noData }
      return
    case .user:
      guard isRegular || isDirectory else { throw writes ? .notPermitted : .noData }
      let (mode, owner) = attributes.withLock { ($0.mode, $0.owner) }
      if writes, isDirectory, mode & Mode.sticky != 0, !who.owns(owner) { throw .notPermitted }
      try check(writes ? 2 : 4, who)
    }
  }
}
