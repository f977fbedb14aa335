import Machine
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// Capabilities: what of the superuser's privileges a process has. SPEC: capabilities(7), capget(2), prctl(2).
extension Call {
  /// The header's version and the process that it names. An unknown version is answered with the one we know.
  private func capabilityTarget() throws(Errno) -> Process? {
    let version = try UserMemory.read32(a)
    guard version == 0x2008_0522 || version == 0x1998_0330 || version == 0x2007_1026 else {
      try UserMemory.write32(0x2008_0522, to: a)
      if b == 0 { return nil }
      throw .invalidArgument
    }
    let id = int(try UserMemory.read32(a &+ 4))
    if id < 0 { throw .invalidArgument }
    if id == 0 { return process }
    guard let found = ProcessTable.shared.find(id) else { throw .noSuchProcess }
    return found
  }

  /// Effective, permitted and inheritable, by halves.
  func capget() throws(Errno) -> UInt32 {
    guard let target = try capabilityTarget() else { return 0 }
    if b == 0 { return 0 }
    let who = target.who
    var words: [6 of UInt32] = .init(repeating: 0)
    (words[0], words[3]) = who.effective.bits.halves
    (words[1], words[4]) = who.capabilities.permitted.bits.halves
    (words[2], words[5]) = who.capabilities.inheritable.bits.halves
    try UserMemory.write(words: words, count: try UserMemory.read32(a) == 0x1998_0330 ? 3 : 6, to: b)
    return 0
  }

  /// A process may only change its own, and get no permission that it has not.
  func capset() throws(Errno) -> UInt32 {
    guard let target = try capabilityTarget(), target === process else { throw .notPermitted }
    let isOld = try UserMemory.read32(a) == 0x1998_0330
    var sets: [3 of CapabilitySet] = .init(repeating: .none)
    for index in 0..<3 {
      let low = try UserMemory.read32(b &+ UInt32(index) * 4)
      let high = isOld ? 0 : try UserMemory.read32(b &+ UInt32(index + 3) * 4)
      sets[index] = CapabilitySet(bits: UInt64(high) << 32 | UInt64(low)).intersection(.all)
    }
    let (effective, permitted, inheritable) = (sets[0], sets[1], sets[2])
    try process.changeCredentials { who throws(Errno) in
      let old = who.capabilities
      guard permitted.isSubset(of: old.permitted), effective.isSubset(of: permitted),
        inheritable.isSubset(of: old.inheritable.union(who.has(.setCapabilities) ? old.bounding : old.permitted))
      else { throw .notPermitted }
      who.capabilities = old.with(permitted: permitted, inheritable: inheritable)
      who.effective = effective
    }
    return 0
  }

  /// PR_GET_KEEPCAPS and PR_SET_KEEPCAPS (7, 8), PR_CAPBSET_READ and _DROP (23, 24), PR_GET_SECUREBITS and _SET (27, 28),
  /// PR_CAP_AMBIENT (47).
  func capabilityControl() throws(Errno) -> UInt32 {
    typealias Bits = CapabilityState.SecureBits
    return try process.changeCredentials { who throws(Errno) in
      let old = who.capabilities
      switch a {
      case 7: return old.has(Bits.keepCapabilities) ? 1 : 0
      case 8:
        guard b <= 1 else { throw .invalidArgument }
        if old.has(Bits.keepCapabilities << 1) { throw .notPermitted }
        who.capabilities = old.with(secureBits: old.secureBits & ~Bits.keepCapabilities | (b == 1 ? Bits.keepCapabilities : 0))
      case 23: return old.bounding.contains(try Self.capability(b)) ? 1 : 0
      case 24:
        let one = try Self.capability(b)
        guard who.has(.setCapabilities) else { throw .notPermitted }
        who.capabilities = old.with(bounding: old.bounding.subtracting(one))
      case 27: return old.secureBits
      case 28:
        // What is locked stays, locks too; new bits need the capability.
        let locked = (old.secureBits & Bits.locks) >> 1
        guard (old.secureBits ^ b) & locked == 0, old.secureBits & Bits.locks & ~b == 0, b & ~0xFF == 0,
          who.has(.setCapabilities)
        else { throw .notPermitted }
        who.capabilities = old.with(secureBits: b)
      default: return try Self.ambient(b, c, d | e, &who)
      }
      return 0
    }
  }

  private static func capability(_ number: UInt32) throws(Errno) -> CapabilitySet {
    guard number <= 40 else { throw .invalidArgument }
    return CapabilitySet(bits: 1 << UInt64(number))
  }

  private static func ambient(_ command: UInt32, _ number: UInt32, _ rest: UInt32, _ who: inout Credentials) throws(Errno) -> UInt32 {
    let old = who.capabilities
    if command == 4 {  // PR_CAP_AMBIENT_CLEAR_ALL
      guard number | rest == 0 else { throw .invalidArgument }
      who.capabilities = old.with(ambient: CapabilitySet.none)
      return 0
    }
    guard (1...3).contains(command), rest == 0 else { throw .invalidArgument }
    let one = try capability(number)
    switch command {
    case 1: return old.ambient.contains(one) ? 1 : 0
    case 2:
      guard one.isSubset(of: old.permitted), one.isSubset(of: old.inheritable), !old.has(CapabilityState.SecureBits.noAmbientRaise)
      else { throw .notPermitted }
      who.capabilities = old.with(ambient: old.ambient.union(one))
    default: who.capabilities = old.with(ambient: old.ambient.subtracting(one))
    }
    return 0
  }
}
