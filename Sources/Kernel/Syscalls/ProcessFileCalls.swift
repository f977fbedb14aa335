import EventFiles
import Machine
import Processes
import Signals
import Sync
import SystemABI
import Threads
import VFS

/// Processes by descriptor. SPEC: pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2).
extension Call {
  func processFile(_ number: UInt32) throws(Errno) -> ProcessFile {
    guard let file = try description(number).file as? ProcessFile else { throw .badFileDescriptor }
    return file
  }

  /// A descriptor for a process, always closed by execve.
  func openProcess(_ target: Process, flags: UInt32 = 0) throws(Errno) -> UInt32 {
    try install(ProcessFile(target), flags: OpenFlags.readWrite | flags, closeOnExec: true)
  }

  func pidfdOpen() throws(Errno) -> UInt32 {
    guard b & ~OpenFlags.nonBlocking == 0, int(a) > 0 else { throw .invalidArgument }
    if let target = ProcessTable.shared.find(int(a)) { return try openProcess(target, flags: b) }
    let isThread = ProcessTable.shared.all().contains { process in
      process.signals.withLock { $0.threads.contains { $0.id == int(a) } }
    }
    throw isThread ? .invalidArgument : .noSuchProcess
  }

  /// With a siginfo as rt_sigqueueinfo, without one as kill.
  func pidfdSendSignal() throws(Errno) -> UInt32 {
    guard d == 0, b <= 64 else { throw .invalidArgument }
    let target = try processFile(a).process
    guard ProcessTable.shared.withTree({ target.tree.exit != .reaped }) else { throw .noSuchProcess }
    guard maySignal(target, b) else { throw .notPermitted }
    var information = SignalInformation(Signal(UInt8(max(b, 1))))
    information.sender = process.id
    information.senderUser = process.who.uid
    if c != 0 {
      guard try UserMemory.read32(c) == b else { throw .invalidArgument }
      information.code = int(try UserMemory.read32(c &+ 8))
      if target !== process, information.code >= 0 || information.code == -6 { throw .notPermitted }
      information.sender = int(try UserMemory.read32(c &+ 12))
      information.senderUser = try UserMemory.read32(c &+ 16)
      information.value = try UserMemory.read32(c &+ 20)
    }
    if b != 0 { target.send(information) }
    return 0
  }

  /// Another process's open file, as a descriptor of ours.
  func pidfdGetfd() throws(Errno) -> UInt32 {
    guard c == 0 else { throw .invalidArgument }
    let target = try processFile(a).process
    guard ProcessTable.shared.withTree({ target.tree.exit == .running }) else { throw .noSuchProcess }
    guard mayTrace(target) else { throw .notPermitted }
    let description = try target.descriptors.withLock { table throws(Errno) in try table.hold(int(b)) }
    defer { description.drop() }
    return UInt32(bitPattern: try process.install(description, closeOnExec: true))
  }
}
