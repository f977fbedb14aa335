/// The stack that handlers with SA_ONSTACK run on. SPEC: sigaltstack(2).
public struct AlternateStack: Equatable, Sendable {
  public enum Failure: Error { case badFlags, tooSmall }
  /// `ss_flags`: what sigaltstack answers, and what it takes.
  public enum Flags {
    public static let onStack: UInt32 = 1
    public static let disabled: UInt32 = 2
    /// SS_AUTODISARM: while a handler runs on the stack, it is none: the handler may leave it, and another may come.
    public static let disarmed: UInt32 = 0x8000_0000
  }
  public static let minimumSize: UInt32 = 2048

  public let base: UInt32
  public let size: UInt32
  /// As they were given.
  public let flags: UInt32

  /// None.
  public init() { (base, size, flags) = (0, 0, Flags.disabled) }

  public init(base: UInt32, size: UInt32, flags: UInt32) throws(Failure) {
    switch flags & ~Flags.disarmed {
    case Flags.disabled: (self.base, self.size) = (0, 0)
    case 0, Flags.onStack:
      guard size >= Self.minimumSize else { throw .tooSmall }
      (self.base, self.size) = (base, size)
    default: throw .badFlags
    }
    self.flags = flags
  }

  /// A stack may lie anywhere, also where it wraps: it is only written to when a signal comes.
  public var top: UInt32 { base &+ size }

  /// Whether a stack pointer is in it: the top is, as the first push goes below it; the bottom has no room left.
  public func contains(_ pointer: UInt32) -> Bool { pointer > base && pointer &- base <= size }

  /// Whether a program with this stack pointer is on it, which forbids a change.
  public func isInUse(at pointer: UInt32) -> Bool { flags & Flags.disarmed == 0 && contains(pointer) }

  /// `ss_flags` for a program with this stack pointer.
  public func state(at pointer: UInt32) -> UInt32 {
    flags & Flags.disarmed | (size == 0 ? Flags.disabled : isInUse(at: pointer) ? Flags.onStack : 0)
  }

  /// Where the frame of a handler with SA_ONSTACK ends, above the stack pointer's contents.
  public func start(from pointer: UInt32) -> UInt32 { size == 0 || isInUse(at: pointer) ? pointer : top }
}
