import Machine
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// A process as a descriptor: readable once it has ended, and never another one's. SPEC: pidfd_open(2).
public final class ProcessFile: OpenFile {
  public var identity: FileIdentity { .descriptor("[pidfd]") }
  public let process: Process
  public init(_ process: Process) { self.process = process }

  public func poll(_ table: PollTable?) -> PollEvents {
    table?.add(process.endEvent)
    return ProcessTable.shared.withTree { process.tree.exit != .running } ? [.readable, .normalRead] : []
  }
}
