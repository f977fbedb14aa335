import Machine
import Memory
import Primitives
import Sync
import SystemABI
import Threads
import VFS

/// A space read and written from outside: debuggers, process_vm_readv, /proc/PID/mem.
extension AddressSpace {
  /// Bytes from `address` on, at most to the end of its page. `forced` reads what only may be executed, too.
  /// Throws `badAddress` where there is nothing.
  public func peek(_ address: UInt32, _ count: Int, forced: Bool) throws(Errno) -> [UInt8] {
    let offset = Int(address & 0xFFF)
    let length = min(count, pageSize - offset)
    return try state.withLock { state throws(Errno) in
      guard !state.isCondemned, let area = state.areas.find(address),
        area.readable || forced && (area.executable || area.writable)
      else { throw .badAddress }
      let frame = try presentFrame(area, address.pageDown, write: false)
      var bytes: [UInt8] = []
      bytes.reserveCapacity(length)
      frame.append(offset..<(offset + length), to: &bytes)
      return bytes
    }
  }

  /// Writes bytes, at most to the end of `address`'s page; the number written. `forced` writes to private pages whatever
  /// their rights: the process gets a copy of its own, as for a breakpoint in its text.
  public func poke(_ address: UInt32, _ bytes: ArraySlice<UInt8>, forced: Bool) throws(Errno) -> Int {
    let offset = Int(address & 0xFFF)
    let length = min(bytes.count, pageSize - offset)
    return try state.withLock { state throws(Errno) in
      guard !state.isCondemned, let area = state.areas.find(address),
        area.writable || forced && !area.shared && (area.readable || area.executable)
      else { throw .badAddress }
      let frame: Frame
      if area.writable {
        frame = try presentFrame(area, address.pageDown, write: true)
      } else {
        frame = try privateFrame(&state, area, address.pageDown)
      }
      frame.put(bytes.span.extracting(first: length), at: offset)
      return length
    }
  }

  private func presentFrame(_ area: Area<MappedFile>, _ page: UInt32, write: Bool) throws(Errno) -> Frame {
    // A device's memory is only for who has mapped it.
    if area.backing?.device != nil { throw .badAddress }
    do throws(Errno) { try populate(area, page, write: write) } catch {
      throw error == .noMemory ? error : .badAddress
    }
    return PageTable.frame(of: table.entry(page))
  }

  /// The process's own copy of a page that it may not write.
  private func privateFrame(_ state: inout State, _ area: Area<MappedFile>, _ page: UInt32) throws(Errno) -> Frame {
    let frame = try presentFrame(area, page, write: false)
    if Frames.referenceCount(frame) == 1 { return frame }
    let copy = try PageCache.allocate()
    copy.copy(from: frame)
    do throws(Errno) { try table.map(page, copy, writable: false, executable: area.executable, copyOnWrite: true) } catch {
      Frames.release(copy)
      throw error
    }
    // fork must not take the page from the file.
    for var piece in state.areas.remove(area.range) {
      piece.hasBeenWritable = true
      state.areas.insert(piece)
    }
    return copy
  }
}
