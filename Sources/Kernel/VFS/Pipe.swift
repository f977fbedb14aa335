import Machine
import Primitives
import Sync
import Synchronization
import SystemABI
import Threads

/// A pipe or FIFO: a ring of pages. SPEC: POSIX.1-2024 pipe(), write(); pipe(7).
public final class Pipe {
  struct State: ~Copyable {
    var frames: [Frame?]
    /// Bytes ever written and read; their difference is what is in the pipe.
    var head: UInt32 = 0
    var tail: UInt32 = 0
    /// Bytes taken whose room is kept, in case they have to go back (splice).
    var kept: UInt32 = 0
    var readers = 0
    var writers = 0
    /// Parts that a read does not go beyond, oldest first, from the tail on: what was written with O_DIRECT. As many as pages.
    var packets: [(start: UInt32, end: UInt32)] = []
    init(pages: Int) { frames = Array(repeating: nil, count: pages) }
  }
  /// Writes of up to this many bytes are not interleaved. No packet is longer.
  static var atomicSize: Int { 4096 }
  let state: Mutex<State, InodeRank>
  let number = NamelessFiles.makeNumber()
  let readable = WaitQueue()
  let writable = WaitQueue()
  private let level = Atomic<UInt32>(0)
  private let free: Atomic<Int>
  private let size: Atomic<UInt32>
  /// How often each end was opened: one that came and went in the meantime has been met, too.
  private let readerOpens = Atomic<UInt32>(0)
  private let writerOpens = Atomic<UInt32>(0)
  private let ends = Atomic<UInt32>(0)  // writers in the low, readers in the high half: for conditions without the lock

  public init(pages: Int = 16) {
    state = Mutex(State(pages: pages))
    size = Atomic(UInt32(pages * pageSize))
    free = Atomic(pages * pageSize)
  }

  /// The two ends of a new pipe.
  public static func make(flags: UInt32) -> (reader: FileDescription, writer: FileDescription) {
    let pipe = Pipe()
    pipe.state.withLock { state in
      (state.readers, state.writers) = (1, 1)
      pipe.publish(state)
    }
    let kept = flags & OpenFlags.nonBlocking
    return (
      FileDescription(PipeEnd(pipe, reads: true, writes: false), flags: kept),
      FileDescription(PipeEnd(pipe, reads: false, writes: true), flags: kept | flags & OpenFlags.direct | OpenFlags.writeOnly)
    )
  }

  /// Opens one end or both. With `needsReader`, only if somebody has the pipe open for reading, or throws
  /// `noSuchAddressOrDevice`.
  ///
  /// The answer is nil when the other end is open at this moment, or else how often it was opened before: whoever wakes up for
  /// our end may be gone again before we run next.
  func open(reading: Bool, writing: Bool, needsReader: Bool = false) throws(Errno) -> UInt32? {
    let before: UInt32? = try state.withLock { state throws(Errno) in
      if needsReader, state.readers == 0 { throw .noSuchAddressOrDevice }
      let isMet = reading ? state.writers > 0 || writing : state.readers > 0
      if reading {
        state.readers += 1
        readerOpens.wrappingAdd(1, ordering: .releasing)
      }
      if writing {
        state.writers += 1
        writerOpens.wrappingAdd(1, ordering: .releasing)
      }
      publish(state)
      return isMet ? nil : opens(ofWriters: reading)
    }
    readable.wake()
    writable.wake()
    return before
  }

  func close(reading: Bool, writing: Bool) {
    state.withLock { state in
      if reading { state.readers -= 1 }
      if writing { state.writers -= 1 }
      Self.emptyIfUnused(&state)
      publish(state)
    }
    readable.wake()
    writable.wake()
  }

  /// What nobody has open keeps nothing, also where a FIFO has a name. A splice that still has some of it ends first.
  private static func emptyIfUnused(_ state: inout State) {
    guard state.readers == 0, state.writers == 0, state.kept == 0 else { return }
    for index in state.frames.indices {
      if let frame = state.frames[index] { Frames.release(frame) }
      state.frames[index] = nil
    }
    (state.head, state.tail) = (0, 0)
    state.packets = []
  }

  private func publish(_ state: borrowing State) {
    level.store(state.head &- state.tail, ordering: .releasing)
    free.store(Self.room(state), ordering: .releasing)
    ends.store(UInt32(state.writers) | UInt32(state.readers) << 16, ordering: .releasing)
  }
  private var hasWriters: Bool { ends.load(ordering: .acquiring) & 0xFFFF != 0 }
  private func opens(ofWriters: Bool) -> UInt32 {
    ofWriters ? writerOpens.load(ordering: .acquiring) : readerOpens.load(ordering: .acquiring)
  }
  private var hasReaders: Bool { ends.load(ordering: .acquiring) >> 16 != 0 }
  /// Bytes waiting to be read.
  public var available: Int { Int(level.load(ordering: .acquiring)) }
  /// In bytes: 64 KiB unless changed.
  public var capacity: Int { Int(size.load(ordering: .acquiring)) }
  private var room: Int { free.load(ordering: .acquiring) }
  /// Bytes that can be written.
  private static func room(_ state: borrowing State) -> Int {
    if state.packets.count >= state.frames.count { return 0 }
    return state.frames.count * pageSize - Int(state.head &- state.tail &+ state.kept)
  }

  /// With `keeping`, the room of what was taken stays reserved until `settle`.
  public func read(_ buffer: inout IOBuffer, nonBlocking: Bool, keeping: Bool = false) throws(Errno) -> Int {
    if buffer.count == 0 { return 0 }
    while true {
      // The end is seen together with the emptiness: a writer may come and go right behind the lock.
      let (count, wasFull, ended) = try state.withLock { state throws(Errno) in
        let capacity = state.frames.count * pageSize
        let full = Int(state.head &- state.tail) > capacity - Self.atomicSize
        let count = try state.packets.isEmpty ? take(&state, &buffer) : takePacket(&state, &buffer, keeping: keeping)
        if keeping { state.kept += UInt32(count) }
        if count > 0 { publish(state) }
        return (count, full, state.writers == 0)
      }
      if count > 0 {
        if !keeping, wasFull || !writable.isEmpty { writable.wake() }
        return count
      }
      if ended { return 0 }
      if nonBlocking { throw .wouldBlock }
      do throws(Errno) {
        let _: Bool = try readable.wait(reason: "pipe read") { available > 0 || !hasWriters ? true : nil }
      } catch { throw error == .interrupted ? .restart : error }
    }
  }

  /// What comes before a packet, and that: what the buffer has no room for is lost. `keeping`, nothing is, and there are no bounds.
  private func takePacket(_ state: inout State, _ buffer: inout IOBuffer, keeping: Bool) throws(Errno) -> Int {
    if keeping {
      let total = try take(&state, &buffer)
      let tail = state.tail
      state.packets.removeAll { Int32(bitPattern: $0.end &- tail) <= 0 }
      return total
    }
    let packet = state.packets[0]
    let before = Int32(bitPattern: packet.start &- state.tail)
    var total = 0
    if before > 0 {
      total = try take(&state, &buffer, limit: Int(before))
      if total < Int(before) || buffer.count == 0 { return total }
    }
    do throws(Errno) { total += try take(&state, &buffer, limit: Int(packet.end &- state.tail)) } catch {
      if total > 0 { return total }
      throw error
    }
    state.tail = packet.end
    state.packets.removeFirst()
    return total
  }

  private func take(_ state: inout State, _ buffer: inout IOBuffer, limit: Int = .max) throws(Errno) -> Int {
    let size = UInt32(state.frames.count * pageSize)
    var total = 0
    while buffer.count > 0, state.head != state.tail, total < limit {
      let position = state.tail % size
      let start = Int(position & 0xFFF)
      let count = min(pageSize - start, buffer.count, Int(state.head &- state.tail), limit - total)
      guard let frame = state.frames[Int(position >> 12)] else { break }
      let copied = buffer.put(frame, offset: start, count: count)
      state.tail &+= UInt32(copied)
      total += copied
      if copied < count {
        if total == 0 { throw .badAddress }
        break
      }
    }
    return total
  }

  /// `inPackets`: each read gets what one write has written, as long as that is not more than `atomicSize`.
  public func write(_ buffer: inout IOBuffer, nonBlocking: Bool, inPackets: Bool = false) throws(Errno) -> Int {
    let wanted = buffer.count
    var total = 0
    while true {
      let needed = inPackets ? min(buffer.count, Self.atomicSize) : wanted <= Self.atomicSize ? wanted : 1
      var fault: Errno?
      let (count, orphan) = state.withLock { state in
        if state.readers == 0 { return (0, true) }
        let room = Self.room(state)
        if room < needed { return (0, false) }
        var count = 0
        do throws(Errno) { count = try put(&state, &buffer, inPackets ? needed : room) } catch { fault = error }
        if inPackets, count > 0 { state.packets.append((state.head &- UInt32(count), state.head)) }
        if count > 0 { publish(state) }
        return (count, false)
      }
      if orphan {
        if total > 0 { return total }
        throw .brokenPipe
      }
      total += count
      if count > 0 { readable.wake() }
      if let fault {
        if total > 0 { return total }
        throw fault
      }
      if buffer.count == 0 { return total }
      if inPackets, count > 0 { continue }
      if nonBlocking {
        if total > 0 { return total }
        throw .wouldBlock
      }
      let need = inPackets ? min(buffer.count, Self.atomicSize) : needed
      do throws(Errno) {
        let _: Bool = try writable.wait(reason: "pipe write") {
          !hasReaders || room >= need ? true : nil
        }
      } catch {
        if total > 0 { return total }
        throw error == .interrupted ? .restart : error
      }
    }
  }

  private func put(_ state: inout State, _ buffer: inout IOBuffer, _ room: Int) throws(Errno) -> Int {
    let size = UInt32(state.frames.count * pageSize)
    var left = min(room, buffer.count)
    var total = 0
    while left > 0 {
      let position = state.head % size
      let start = Int(position & 0xFFF)
      let count = min(pageSize - start, left)
      let slot = Int(position >> 12)
      if state.frames[slot] == nil {
        do throws(Errno) { state.frames[slot] = try PageCache.allocate() } catch {
          if total > 0 { return total }
          throw error
        }
      }
      let copied = buffer.take(into: state.frames[slot]!, offset: start, count: count)
      state.head &+= UInt32(copied)
      total += copied
      left -= copied
      if copied < count {
        if total == 0 { throw .badAddress }
        break
      }
    }
    return total
  }

  /// Changes the capacity, to a power of two of pages; how much it is now. Throws `resourceBusy` when what is in the pipe
  /// would not fit. SPEC: fcntl(2) F_SETPIPE_SZ.
  public func resize(to bytes: Int) throws(Errno) -> Int {
    var pages = 1
    while pages * pageSize < bytes { pages *= 2 }
    try state.withLock { state throws(Errno) in
      let old = state.frames
      let used = state.head &- state.tail
      let start = state.tail & 0xFFF
      let first = Int(state.tail >> 12)
      if pages == old.count { return }
      let needed = (Int(start) + Int(used) + pageSize - 1) / pageSize
      if max(needed, state.packets.count) > pages || state.kept > 0 { throw .resourceBusy }
      // A full ring's newest bytes may lie before the oldest in the same page: they get one of their own.
      let wrapped = needed > old.count ? try PageCache.allocate() : nil
      if let wrapped, let shared = old[first % old.count] { wrapped.copy(from: shared) }
      // The pages keep their order and the position inside the first one; those without data stay as far as they fit.
      state.frames = Array(repeating: nil, count: pages)
      for index in old.indices {
        let frame = old[(first + index) % old.count]
        if index < pages { state.frames[index] = frame } else if let frame { Frames.release(frame) }
      }
      if let wrapped { state.frames[old.count] = wrapped }
      let moved = start &- state.tail
      state.packets = state.packets.map { ($0.start &+ moved, $0.end &+ moved) }
      state.tail = start
      state.head = start + used
      size.store(UInt32(pages * pageSize), ordering: .releasing)
      publish(state)
    }
    writable.wake()
    return pages * pageSize
  }

  // MARK: Splicing

  /// Ends a `read(keeping:)` of `count` bytes: what nobody wanted goes back to the front.
  public func settle(_ count: Int, unread: IOBuffer) {
    let back = unread.count
    state.withLock { state in
      state.kept -= UInt32(count)
      state.tail &-= UInt32(back)
      var rest = unread
      var position = state.tail % UInt32(state.frames.count * pageSize)
      while rest.count > 0 {
        let part = min(rest.count, pageSize - Int(position & 0xFFF))
        guard let frame = state.frames[Int(position >> 12)] else { break }
        _ = rest.take(into: frame, offset: Int(position & 0xFFF), count: part)
        position = (position + UInt32(part)) % UInt32(state.frames.count * pageSize)
      }
      Self.emptyIfUnused(&state)
      publish(state)
    }
    if back > 0 { readable.wake() }
    writable.wake()
  }

  /// Fills `buffer` with what waits `offset` bytes behind the front, which stays there; how much.
  public func peek(_ buffer: inout IOBuffer, offset: Int) throws(Errno) -> Int {
    try state.withLock { state throws(Errno) in
      let front = state.tail
      guard offset <= Int(state.head &- front) else { return 0 }
      state.tail = front &+ UInt32(offset)
      defer { state.tail = front }
      return try take(&state, &buffer)
    }
  }

  /// Waits for something to read; false at the end. Throws `wouldBlock`, `restart`.
  public func waitForData(nonBlocking: Bool) throws(Errno) -> Bool {
    let ended = !hasWriters
    if available > 0 { return true }
    if ended { return false }
    if nonBlocking { throw .wouldBlock }
    do throws(Errno) {
      let _: Bool = try readable.wait(reason: "splice") { available > 0 || !hasWriters ? true : nil }
    } catch { throw error == .interrupted ? .restart : error }
    return available > 0
  }

  /// Waits for room to write; how much there is. Throws `brokenPipe`, `wouldBlock`, `restart`.
  public func waitForRoom(nonBlocking: Bool) throws(Errno) -> Int {
    while true {
      if !hasReaders { throw .brokenPipe }
      let free = room
      if free > 0 { return free }
      if nonBlocking { throw .wouldBlock }
      do throws(Errno) {
        let _: Bool = try writable.wait(reason: "splice") { !hasReaders || room > 0 ? true : nil }
      } catch { throw error == .interrupted ? .restart : error }
    }
  }

  @inline(__always) func poll(_ table: PollTable?, reads: Bool, writes: Bool) -> PollEvents {
    var events: PollEvents = []
    if reads {
      table?.add(readable)
      let ended = !hasWriters  // before the level: what the last writer left is seen with its end
      if available > 0 { events.formUnion([.readable, .normalRead]) }
      if ended { events.insert(.hangUp) }
    }
    if writes {
      table?.add(writable)
      if room >= Self.atomicSize { events.formUnion([.writable, .normalWrite]) }
      if !hasReaders { events.insert(.error) }
    }
    return events
  }

  /// Opens a named pipe: waits for the other end unless told not to. SPEC: POSIX.1-2024 open() O_NONBLOCK.
  static func openFIFO(_ inode: Inode, flags: UInt32) throws(Errno) -> any OpenFile {
    let pipe = inode.mutex.withLock { _ in
      if let pipe = inode.payload as? Pipe { return pipe }
      let pipe = Pipe()
      inode.payload = pipe
      return pipe
    }
    let access = flags & OpenFlags.accessMask
    let reads = access != OpenFlags.writeOnly
    let writes = access != 0
    // Who opens a pipe by its descriptor in /proc waits for nobody.
    let isPipe = inode.fileSystem is NamelessFiles
    let isNonBlocking = flags & OpenFlags.nonBlocking != 0
    let before = try pipe.open(reading: reads, writing: writes, needsReader: !isPipe && !reads && isNonBlocking)
    let end = PipeEnd(pipe, reads: reads, writes: writes)
    if let before, !isPipe, !isNonBlocking {
      do throws(Errno) {
        let queue = reads ? pipe.readable : pipe.writable
        let _: Bool = try queue.wait(reason: "fifo open") { pipe.opens(ofWriters: reads) != before ? true : nil }
      } catch {
        pipe.close(reading: reads, writing: writes)
        throw error == .interrupted ? .restart : error
      }
    }
    return end
  }
}

/// One end of a pipe (a FIFO opened for both is both).
public final class PipeEnd: OpenFile {
  public let pipe: Pipe
  public let reads: Bool
  public let writes: Bool
  init(_ pipe: Pipe, reads: Bool, writes: Bool) {
    self.pipe = pipe
    self.reads = reads
    self.writes = writes
  }
  public func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    try pipe.read(&buffer, nonBlocking: description.isNonBlocking)
  }
  public func write(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> (Int, UInt64) {
    (try pipe.write(&buffer, nonBlocking: description.isNonBlocking, inPackets: description.flags & OpenFlags.direct != 0), 0)
  }
  public func poll(_ table: PollTable?) -> PollEvents { pipe.poll(table, reads: reads, writes: writes) }
  public var identity: FileIdentity { FileIdentity(mode: Mode.fifo | 0o600, number: pipe.number, name: "pipe", object: pipe) }
  public func control(_ command: UInt32, _ argument: UInt32, _ description: FileDescription) throws(Errno) -> Int32 {
    guard command == 0x541B else { throw .inappropriateIOCTLForDevice }  // FIONREAD
    try UserMemory.write32(UInt32(pipe.available), to: argument)
    return 0
  }
  public func close(_ description: FileDescription) { pipe.close(reading: reads, writing: writes) }
}
