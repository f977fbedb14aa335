import Machine
import Primitives
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// /proc/PID/mem: a process's memory as a file, for debuggers. SPEC: proc(5).
enum ProcessMemory {
  final class Node: FileNode {
    private let process: Process
    init(_ process: Process) { self.process = process }

    override func makeFile() throws(Errno) -> any OpenFile {
      guard process.mayBeInspected(by: Task.currentTask.process) else { throw .permissionDenied }
      // The memory it has now: what another program has later is not this file's.
      guard let space = process.space else { throw .noSuchProcess }
      return File(space)
    }
  }

  final class File: OpenFile {
    private let space: AddressSpace
    init(_ space: AddressSpace) { self.space = space }
    var isSeekable: Bool { true }

    private func address(_ offset: UInt64, _ done: Int) throws(Errno) -> UInt32 {
      guard let address = UInt32(exactly: offset + UInt64(done)) else { throw .ioError }
      return address
    }

    func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
      var total = 0
      while buffer.count > 0 {
        do throws(Errno) {
          let bytes = try space.peek(try address(offset, total), buffer.count, forced: true)
          total += try buffer.put(bytes, from: 0)
        } catch {
          if total > 0 { return total }
          throw error == .badAddress ? .ioError : error
        }
      }
      return total
    }

    func write(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> (Int, UInt64) {
      var total = 0
      while buffer.count > 0 {
        do throws(Errno) {
          let to = try address(offset, total)
          let bytes = try buffer.takeBytes(limit: pageSize - Int(to & 0xFFF))
          total += try space.poke(to, bytes[...], forced: true)
        } catch {
          if total > 0 { break }
          throw error == .badAddress ? .ioError : error
        }
      }
      return (total, offset + UInt64(total))
    }
  }
}
