import CMachine

/// The registers a thread entered the kernel with from user mode; changing them changes where and how it returns.
@safe public struct UserFrame {
  @usableFromInline let pointer: UnsafeMutablePointer<trap_frame>
  /// Makes a handle on an entry frame; the caller vouches for the pointer.
  public init(_ pointer: UnsafeMutablePointer<trap_frame>) { unsafe self.pointer = pointer }

  // SAFETY: the frame lies at the top of the current thread's kernel stack and lives as long as the
  // thread is in the kernel; handles are never kept beyond that.
  @inlinable public var registers: trap_frame {
    get { unsafe pointer.pointee }
    nonmutating set { unsafe pointer.pointee = newValue }
  }
  @inlinable public var eax: UInt32 {
    get { unsafe pointer.pointee.eax }
    nonmutating set { unsafe pointer.pointee.eax = newValue }
  }
  @inlinable public var eip: UInt32 {
    get { unsafe pointer.pointee.eip }
    nonmutating set { unsafe pointer.pointee.eip = newValue }
  }
  @inlinable public var esp: UInt32 {
    get { unsafe pointer.pointee.esp }
    nonmutating set { unsafe pointer.pointee.esp = newValue }
  }
  @inlinable public var ebx: UInt32 { unsafe pointer.pointee.ebx }
  @inlinable public var ecx: UInt32 { unsafe pointer.pointee.ecx }
  @inlinable public var edx: UInt32 { unsafe pointer.pointee.edx }
  @inlinable public var esi: UInt32 { unsafe pointer.pointee.esi }
  @inlinable public var edi: UInt32 { unsafe pointer.pointee.edi }
  @inlinable public var ebp: UInt32 {
    get { unsafe pointer.pointee.ebp }
    nonmutating set { unsafe pointer.pointee.ebp = newValue }
  }
  /// The system-call number as it was at entry, for restarting; `UInt32.max` when the trap was no call.
  @inlinable public var originalEAX: UInt32 {
    get { unsafe pointer.pointee.error }
    nonmutating set { unsafe pointer.pointee.error = newValue }
  }
  /// The vector of a frame that IRET did not take; Linux's X86_TRAP_IRET.
  public static let failedReturn: UInt32 = 32
  @inlinable public var vector: UInt32 { unsafe pointer.pointee.vector }
  @inlinable public var errorCode: UInt32 { unsafe pointer.pointee.error }
}
