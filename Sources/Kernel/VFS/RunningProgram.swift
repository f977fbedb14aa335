import Synchronization
import SystemABI

/// A program in the memory of a process, and in those of its children as long as they have executed no other: its file cannot be
/// written to meanwhile. SPEC: open(2) and execve(2), ETXTBSY.
public final class RunningProgram {
  private let inode: Inode

  private init(_ inode: Inode) { self.inode = inode }

  /// Throws `textFileBusy` while somebody has the file open for writing.
  public static func start(_ inode: Inode) throws(Errno) -> RunningProgram {
    try inode.beginUse(-1)
    return RunningProgram(inode)
  }

  deinit { inode.endUse(-1) }
}

extension Inode {
  /// One more who writes (1) or executes (-1), as long as there is nobody of the other kind. Throws `textFileBusy`.
  func beginUse(_ step: Int32) throws(Errno) {
    var seen = writers.load(ordering: .relaxed)
    while true {
      if step > 0 ? seen < 0 : seen > 0 { throw .textFileBusy }
      let (isDone, now) = writers.compareExchange(expected: seen, desired: seen + step, ordering: .acquiringAndReleasing)
      if isDone { return }
      seen = now
    }
  }

  func endUse(_ step: Int32) { writers.wrappingSubtract(step, ordering: .acquiringAndReleasing) }

  /// Throws `textFileBusy` while somebody has it open for writing.
  public func checkNotWritten() throws(Errno) { if writers.load(ordering: .acquiring) > 0 { throw .textFileBusy } }

  /// Changes the size for who has not opened it for that. Throws `textFileBusy` while it is executed.
  public func truncateUnopened(to size: UInt64) throws(Errno) {
    let content = content
    try content.beginUse(1)
    defer { content.endUse(1) }
    try truncate(to: size)
  }
}
