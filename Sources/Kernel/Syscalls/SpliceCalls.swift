import Machine
import Primitives
import Processes
import Signals
import SystemABI
import VFS

/// Moving bytes from file to file inside the kernel. SPEC: sendfile(2), splice(2), tee(2), vmsplice(2), copy_file_range(2).
extension Call {
  /// Where a file is read or written: at a place the caller keeps, or at the file's own offset, which then moves along.
  private struct Place {
    let description: FileDescription
    var position: UInt64 = 0
    var pipe: Pipe? { (description.file as? PipeEnd)?.pipe }

    func read(_ buffer: inout IOBuffer) throws(Errno) -> Int {
      try description.read(&buffer, at: position)
    }
    func write(_ buffer: inout IOBuffer) throws(Errno) -> Int {
      try description.write(&buffer, at: position).count
    }
  }

  /// `address` is that of the caller's 64-bit offset, or 0.
  private func place(_ description: FileDescription, _ address: UInt32) throws(Errno) -> Place {
    var place = Place(description: description)
    if address != 0 {
      guard description.file.isSeekable else { throw .illegalSeek }
      place.position = try UserMemory.read64(address)
      guard place.position < 1 << 63 else { throw .invalidArgument }
    } else if description.file.isSeekable {
      place.position = try description.seek { current throws(Errno) in current }
    }
    return place
  }

  private func finish(_ place: Place, _ address: UInt32) throws(Errno) {
    if address != 0 {
      try UserMemory.write64(place.position, to: address)
    } else if place.description.file.isSeekable {
      _ = try place.description.seek { _ throws(Errno) in place.position }
    }
  }

  /// Runs `body`, which counts what it moves. An error is the call's only when nothing was moved; a broken pipe also
  /// raises SIGPIPE.
  private func counted(_ body: (inout Int) throws(Errno) -> Void) throws(Errno) -> Int {
    var total = 0
    do throws(Errno) { try body(&total) } catch {
      if error == .brokenPipe { process.send(SignalInformation(.pipe), to: task) }
      if total == 0 { throw error }
    }
    return total
  }

  /// Copies through a page of the kernel's own until `length` bytes are through, the source ends, or an error comes after
  /// the first byte. Only what was written counts as read.
  private func copy(_ from: inout Place, _ to: inout Place, _ length: Int) throws(Errno) -> Int {
    let page = try PageCache.allocate()
    defer { Frames.release(page) }
    return try counted { total throws(Errno) in
      while total < length {
        var into = IOBuffer(page, 0..<min(pageSize, length - total))
        let count = try from.read(&into)
        if count == 0 { break }
        var done = 0
        while done < count {
          var rest = IOBuffer(page, done..<count)
          let written = try to.write(&rest)
          if written == 0 { return }
          done += written
          total += written
          from.position += UInt64(written)
          to.position += UInt64(written)
        }
      }
    }
  }

  private func readable(_ number: UInt32) throws(Errno) -> FileDescription {
    let description = try description(number)
    guard description.isReadable else { throw .badFileDescriptor }
    return description
  }
  private func writable(_ number: UInt32) throws(Errno) -> FileDescription {
    let description = try description(number)
    guard description.isWritable else { throw .badFileDescriptor }
    return description
  }

  /// The source is a file with pages. `wide`: the offset is 64 bits.
  func sendfile(wide: Bool) throws(Errno) -> UInt32 {
    let (target, source) = (try writable(a), try readable(b))
    guard source.file.isSeekable, source.inode?.isDirectory == false else { throw .invalidArgument }
    if target.flags & OpenFlags.append != 0 { throw .invalidArgument }
    let length = try size(d)
    var from = try place(source, wide ? c : 0)
    if !wide, c != 0 {
      from.position = UInt64(try UserMemory.read32(c))
      guard from.position < 1 << 31 else { throw .invalidArgument }
    }
    var to = try place(target, 0)
    let count = try copy(&from, &to, length)
    try finish(to, 0)
    if !wide, c != 0 {
      guard let offset = Int32(exactly: from.position) else { throw .overflow }
      try UserMemory.write32(UInt32(offset), to: c)
    } else {
      try finish(from, c)
    }
    return UInt32(result: count)
  }

  func copyFileRange() throws(Errno) -> UInt32 {
    if f != 0 { throw .invalidArgument }
    let (source, target) = (try description(a), try description(c))
    if source.inode?.isDirectory == true || target.inode?.isDirectory == true { throw .isDirectory }
    guard source.inode?.isRegular == true, target.inode?.isRegular == true else { throw .invalidArgument }
    guard source.isReadable, target.isWritable, target.flags & OpenFlags.append == 0 else { throw .badFileDescriptor }
    let length = try size(e)
    var (from, to) = (try place(source, b), try place(target, d))
    let distance = from.position > to.position ? from.position - to.position : to.position - from.position
    if source.inode === target.inode, distance < UInt64(length) { throw .invalidArgument }
    let count = try copy(&from, &to, length)
    try finish(from, b)
    try finish(to, d)
    return UInt32(result: count)
  }

  // MARK: Pipes

  private static var spliceNonBlocking: UInt32 { 2 }

  func splice() throws(Errno) -> UInt32 {
    if f & ~15 != 0 { throw .invalidArgument }
    let length = try size(e)
    if length == 0 { return 0 }
    let (source, target) = (try readable(a), try writable(c))
    var (from, to) = (try place(source, b), try place(target, d))
    let waitless = f & Self.spliceNonBlocking != 0
    let count: Int
    if let pipe = from.pipe {
      if pipe === to.pipe || to.pipe == nil && target.flags & OpenFlags.append != 0 { throw .invalidArgument }
      count = try drain(pipe, into: &to, length, waitless || source.isNonBlocking, waitless || target.isNonBlocking)
      try finish(to, d)
    } else {
      guard let pipe = to.pipe else { throw .invalidArgument }
      count = try fill(pipe, from: &from, length, waitless || target.isNonBlocking)
      try finish(from, b)
    }
    return UInt32(result: count)
  }

  /// From a pipe: waits for the first byte only. What the target does not take stays in the pipe.
  private func drain(_ pipe: Pipe, into to: inout Place, _ length: Int, _ readWaitless: Bool, _ writeWaitless: Bool) throws(Errno) -> Int {
    let page = try PageCache.allocate()
    defer { Frames.release(page) }
    return try counted { total throws(Errno) in
      while total < length {
        var into = IOBuffer(page, 0..<min(pageSize, length - total))
        let count = try pipe.read(&into, nonBlocking: readWaitless || total > 0, keeping: true)
        if count == 0 { break }
        var done = 0
        defer { pipe.settle(count, unread: IOBuffer(page, done..<count)) }
        while done < count {
          var rest = IOBuffer(page, done..<count)
          // A pipe takes what it has room for: a part at once is better than the whole later.
          let written: Int
          if let target = to.pipe {
            var part = rest.prefix(try target.waitForRoom(nonBlocking: writeWaitless || total > 0))
            written = try target.write(&part, nonBlocking: true)
          } else {
            written = try to.write(&rest)
          }
          if written == 0 { return }
          done += written
          total += written
          to.position += UInt64(written)
        }
      }
    }
  }

  /// To a pipe: waits for room only before the first byte. A stream is read once, for it may have no more.
  private func fill(_ pipe: Pipe, from: inout Place, _ length: Int, _ waitless: Bool) throws(Errno) -> Int {
    let page = try PageCache.allocate()
    defer { Frames.release(page) }
    return try counted { total throws(Errno) in
      repeat {
        let room = try pipe.waitForRoom(nonBlocking: waitless || total > 0)
        var into = IOBuffer(page, 0..<min(pageSize, room, length - total))
        let count = try from.read(&into)
        if count == 0 { break }
        var rest = IOBuffer(page, 0..<count)
        let written = try pipe.write(&rest, nonBlocking: false)
        total += written
        from.position += UInt64(written)
        if written < count { break }
      } while total < length && from.description.file.isSeekable
    }
  }

  func tee() throws(Errno) -> UInt32 {
    if d & ~15 != 0 { throw .invalidArgument }
    let length = try size(c)
    let (source, target) = (try readable(a), try writable(b))
    guard let from = (source.file as? PipeEnd)?.pipe, let to = (target.file as? PipeEnd)?.pipe, from !== to else {
      throw .invalidArgument
    }
    if length == 0 { return 0 }
    let waitless = d & Self.spliceNonBlocking != 0
    guard try from.waitForData(nonBlocking: waitless || source.isNonBlocking) else { return 0 }
    let page = try PageCache.allocate()
    defer { Frames.release(page) }
    let total = try counted { total throws(Errno) in
      while total < length {
        let room = try to.waitForRoom(nonBlocking: waitless || target.isNonBlocking || total > 0)
        var into = IOBuffer(page, 0..<min(pageSize, room, length - total))
        let count = try from.peek(&into, offset: total)
        if count == 0 { break }
        var rest = IOBuffer(page, 0..<count)
        total += try to.write(&rest, nonBlocking: true)
      }
    }
    return UInt32(result: total)
  }

  /// User memory into a pipe or out of it: a copy, as the kernel may make one.
  func vmsplice() throws(Errno) -> UInt32 {
    if d & ~15 != 0 { throw .invalidArgument }
    let description = try description(a)
    guard let end = description.file as? PipeEnd else { throw .badFileDescriptor }
    let waitless = d & Self.spliceNonBlocking != 0 || description.isNonBlocking
    return try transfer(try vectors(b, c)) { buffer throws(Errno) in
      if end.writes {
        return try counted { total throws(Errno) in total = try end.pipe.write(&buffer, nonBlocking: waitless) }
      }
      return try end.pipe.read(&buffer, nonBlocking: waitless)
    }
  }
}
