/// A POSIX error number as Linux/i386 numbers it.
///
/// Names follow swift-system's `Errno`. SPEC: Linux uapi asm-generic/errno-base.h, errno.h.
public struct Errno: Error, Equatable, Sendable {
  public let rawValue: Int32
  @inlinable public init(rawValue: Int32) { self.rawValue = rawValue }

  /// EPERM
  @inlinable public static var notPermitted: Errno { Errno(rawValue: 1) }
  /// ENOENT
  @inlinable public static var noSuchFileOrDirectory: Errno { Errno(rawValue: 2) }
  /// ESRCH
  @inlinable public static var noSuchProcess: Errno { Errno(rawValue: 3) }
  /// EINTR
  @inlinable public static var interrupted: Errno { Errno(rawValue: 4) }
  /// EIO
  @inlinable public static var ioError: Errno { Errno(rawValue: 5) }
  /// ENXIO
  @inlinable public static var noSuchAddressOrDevice: Errno { Errno(rawValue: 6) }
  /// E2BIG
  @inlinable public static var argListTooLong: Errno { Errno(rawValue: 7) }
  /// ENOEXEC
  @inlinable public static var execFormatError: Errno { Errno(rawValue: 8) }
  /// EBADF
  @inlinable public static var badFileDescriptor: Errno { Errno(rawValue: 9) }
  /// ECHILD
  @inlinable public static var noChildProcess: Errno { Errno(rawValue: 10) }
  /// EAGAIN
  @inlinable public static var wouldBlock: Errno { Errno(rawValue: 11) }
  /// ENOMEM
  @inlinable public static var noMemory: Errno { Errno(rawValue: 12) }
  /// EACCES
  @inlinable public static var permissionDenied: Errno { Errno(rawValue: 13) }
  /// EFAULT
  @inlinable public static var badAddress: Errno { Errno(rawValue: 14) }
  /// ENOTBLK
  @inlinable public static var notBlockDevice: Errno { Errno(rawValue: 15) }
  /// EBUSY
  @inlinable public static var resourceBusy: Errno { Errno(rawValue: 16) }
  /// EEXIST
  @inlinable public static var fileExists: Errno { Errno(rawValue: 17) }
  /// EXDEV
  @inlinable public static var improperLink: Errno { Errno(rawValue: 18) }
  /// ENODEV
  @inlinable public static var operationNotSupportedByDevice: Errno { Errno(rawValue: 19) }
  /// ENOTDIR
  @inlinable public static var notDirectory: Errno { Errno(rawValue: 20) }
  /// EISDIR
  @inlinable public static var isDirectory: Errno { Errno(rawValue: 21) }
  /// EINVAL
  @inlinable public static var invalidArgument: Errno { Errno(rawValue: 22) }
  /// ENFILE
  @inlinable public static var tooManyOpenFilesInSystem: Errno { Errno(rawValue: 23) }
  /// EMFILE
  @inlinable public static var tooManyOpenFiles: Errno { Errno(rawValue: 24) }
  /// ENOTTY
  @inlinable public static var inappropriateIOCTLForDevice: Errno { Errno(rawValue: 25) }
  /// ETXTBSY
  @inlinable public static var textFileBusy: Errno { Errno(rawValue: 26) }
  /// EFBIG
  @inlinable public static var fileTooLarge: Errno { Errno(rawValue: 27) }
  /// ENOSPC
  @inlinable public static var noSpace: Errno { Errno(rawValue: 28) }
  /// ESPIPE
  @inlinable public static var illegalSeek: Errno { Errno(rawValue: 29) }
  /// EROFS
  @inlinable public static var readOnlyFileSystem: Errno { Errno(rawValue: 30) }
  /// EMLINK
  @inlinable public static var tooManyLinks: Errno { Errno(rawValue: 31) }
  /// EPIPE
  @inlinable public static var brokenPipe: Errno { Errno(rawValue: 32) }
  /// ERANGE
  @inlinable public static var outOfRange: Errno { Errno(rawValue: 34) }
  /// EDEADLK
  @inlinable public static var deadlock: Errno { Errno(rawValue: 35) }
  /// ENAMETOOLONG
  @inlinable public static var fileNameTooLong: Errno { Errno(rawValue: 36) }
  /// ENOSYS
  @inlinable public static var noFunction: Errno { Errno(rawValue: 38) }
  /// ENOTEMPTY
  @inlinable public static var directoryNotEmpty: Errno { Errno(rawValue: 39) }
  /// ELOOP
  @inlinable public static var tooManySymbolicLinkLevels: Errno { Errno(rawValue: 40) }
  /// EBADR
  @inlinable public static var invalidRequestDescriptor: Errno { Errno(rawValue: 53) }
  /// ENODATA
  @inlinable public static var noData: Errno { Errno(rawValue: 61) }
  /// EOVERFLOW
  @inlinable public static var overflow: Errno { Errno(rawValue: 75) }
  /// ENOTSOCK
  @inlinable public static var notSocket: Errno { Errno(rawValue: 88) }
  /// EOPNOTSUPP
  @inlinable public static var notSupportedOnSocket: Errno { Errno(rawValue: 95) }
  /// EAFNOSUPPORT
  @inlinable public static var addressFamilyNotSupported: Errno { Errno(rawValue: 97) }
  /// EDESTADDRREQ
  @inlinable public static var destinationAddressRequired: Errno { Errno(rawValue: 89) }
  /// EMSGSIZE
  @inlinable public static var messageTooLong: Errno { Errno(rawValue: 90) }
  /// EPROTOTYPE
  @inlinable public static var protocolWrongTypeForSocket: Errno { Errno(rawValue: 91) }
  /// ENOPROTOOPT
  @inlinable public static var protocolNotAvailable: Errno { Errno(rawValue: 92) }
  /// EPROTONOSUPPORT
  @inlinable public static var protocolNotSupported: Errno { Errno(rawValue: 93) }
  /// ESOCKTNOSUPPORT
  @inlinable public static var socketTypeNotSupported: Errno { Errno(rawValue: 94) }
  /// EADDRINUSE
  @inlinable public static var addressInUse: Errno { Errno(rawValue: 98) }
  /// EADDRNOTAVAIL
  @inlinable public static var addressNotAvailable: Errno { Errno(rawValue: 99) }
  /// ECONNRESET
  @inlinable public static var connectionReset: Errno { Errno(rawValue: 104) }
  /// EISCONN
  @inlinable public static var socketIsConnected: Errno { Errno(rawValue: 106) }
  /// ENOTCONN
  @inlinable public static var socketNotConnected: Errno { Errno(rawValue: 107) }
  /// ECONNREFUSED
  @inlinable public static var connectionRefused: Errno { Errno(rawValue: 111) }
  /// EIDRM
  @inlinable public static var identifierRemoved: Errno { Errno(rawValue: 43) }
  /// ENOMSG
  @inlinable public static var noMessage: Errno { Errno(rawValue: 42) }
  /// EOWNERDEAD
  @inlinable public static var ownerDead: Errno { Errno(rawValue: 130) }
  /// ECANCELED
  @inlinable public static var canceled: Errno { Errno(rawValue: 125) }
  /// ETOOMANYREFS
  @inlinable public static var tooManyReferences: Errno { Errno(rawValue: 109) }
  /// ETIMEDOUT
  @inlinable public static var timedOut: Errno { Errno(rawValue: 110) }

  // Restart codes: inside the kernel only, never seen by a program. They say what becomes of a call
  // that a signal interrupted. SPEC: signal(7), "Interruption of system calls".
  /// Restarts if the handler has SA_RESTART, else EINTR.
  @inlinable public static var restart: Errno { Errno(rawValue: 512) }
  /// Restarts if there is no handler, else EINTR.
  /// The call is made again whatever the signal does: it has had no effect.
  @inlinable public static var restartAlways: Errno { Errno(rawValue: 513) }
  @inlinable public static var restartIfNoHandler: Errno { Errno(rawValue: 514) }
}
