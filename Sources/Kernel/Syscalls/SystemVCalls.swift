import Machine
import Memory
import Primitives
import Processes
import Sync
import SystemABI
import SystemVIPC
import Threads
import VFS

/// System V shared memory, semaphores and message queues, each as its own calls and through ipc(2).
extension Call {
  /// IPC_64 marks the modern layouts in a command; the direct calls have no others.
  private func command(_ value: UInt32) -> UInt32 { value & ~0x100 }

  private func put(_ permissions: IPCPermissions, _ sequence: Int32, _ words: inout [32 of UInt32]) {
    words[0] = permissions.key
    words[1] = permissions.owner
    words[2] = permissions.group
    words[3] = permissions.creator
    words[4] = permissions.creatorGroup
    words[5] = permissions.mode
    words[6] = UInt32(bitPattern: sequence >> 15)
  }

  private func seconds(_ time: Int64) -> UInt32 { UInt32(truncatingIfNeeded: time / 1_000_000_000) }

  /// IPC_SET's new owner, group and mode, from the head of an `ipc64_perm`.
  private func update(_ permissions: inout IPCPermissions, _ new: (owner: UInt32, group: UInt32, mode: UInt32)) {
    permissions.owner = new.owner
    permissions.group = new.group
    permissions.mode = new.mode & 0o777
  }

  private func newPermissions(_ address: UInt32) throws(Errno) -> (owner: UInt32, group: UInt32, mode: UInt32) {
    (try UserMemory.read32(address &+ 4), try UserMemory.read32(address &+ 8), try UserMemory.read32(address &+ 20))
  }

  // MARK: Shared memory

  func shmget(_ key: UInt32, _ size: UInt32, _ flags: UInt32) throws(Errno) -> UInt32 {
    SharedSegments.sweep()
    let who = process.who
    let id = process.id
    let pages = size.pageUp ?? 0
    let inode = try SharedMemory.inode(size: UInt64(pages))
    let segment = try SharedSegments.all.get(key: key, flags: flags) { found throws(Errno) in
      try found.state.withLock { $0.permissions }.check(flags >> 6 & 6, who)
      if size > found.size { throw .invalidArgument }
    } _: {
      SharedSegment(id: $0, size: size, inode: inode, permissions: IPCPermissions(key: key, mode: flags, who), creator: id)
    }
    if segment.inode === inode, size == 0 || pages == 0 {
      SharedSegments.all.remove(segment)
      throw .invalidArgument
    }
    return UInt32(bitPattern: segment.id)
  }

  private func segment(_ id: UInt32) throws(Errno) -> SharedSegment {
    guard let segment = SharedSegments.all.find(int(id)) else { throw .invalidArgument }
    return segment
  }

  /// SHM_RDONLY is 010000, SHM_RND 020000, SHM_REMAP 040000, SHM_EXEC 0100000.
  func shmat(_ id: UInt32, _ address: UInt32, _ flags: UInt32) throws(Errno) -> UInt32 {
    let segment = try segment(id)
    let writable = flags & 0o10000 == 0
    try segment.state.withLock { $0.permissions }.check(writable ? 6 : 4, process.who)
    guard let space = process.space, let size = segment.size.pageUp else { throw .noMemory }
    var start = flags & 0o20000 != 0 ? address & ~0xFFF : address
    guard start & 0xFFF == 0 else { throw .invalidArgument }
    var area = Area(
      start: 0, end: size, readable: true, writable: writable, executable: flags & 0o100000 != 0, shared: true,
      backing: MappedFile(segment.inode, path: nil, reachesFile: writable))
    if start == 0 {
      start = try space.mapSomewhere(area, size: size)
    } else {
      guard UInt64(start) + UInt64(size) <= 0xBFFF_0000 else { throw .invalidArgument }
      (area.start, area.end) = (start, start + size)
      if flags & 0o40000 != 0 { space.map(area) } else if !space.mapIfFree(area) { throw .invalidArgument }
    }
    let id = process.id
    segment.state.withLock {
      $0.attachTime = Clock.realtime
      $0.lastProcess = id
    }
    return start
  }

  func shmdt(_ address: UInt32) throws(Errno) -> UInt32 {
    guard let space = process.space, let area = space.state.withLock({ $0.areas.find(address) }), area.start == address,
      let inode = area.backing?.inode, let segment = SharedSegments.all.all().first(where: { $0.inode === inode })
    else { throw .invalidArgument }
    // A piece of a large segment may have been moved to where all of it would not fit.
    let end = UInt64(address) + UInt64(segment.size.pageUp ?? 4096)
    space.unmap(address..<UInt32(min(UInt64(area.end), end)))
    let id = process.id
    segment.state.withLock {
      $0.detachTime = Clock.realtime
      $0.lastProcess = id
    }
    SharedSegments.sweep()
    return 0
  }

  func shmctl(_ id: UInt32, _ operation: UInt32, _ buffer: UInt32) throws(Errno) -> UInt32 {
    switch command(operation) {
    case IPCFlags.remove:
      let segment = try segment(id)
      try segment.state.withLock { $0.permissions }.checkOwner(process.who)
      segment.state.withLock { $0.isDoomed = true }
      SharedSegments.sweep()
      return 0
    case IPCFlags.set:
      let segment = try segment(id)
      let new = try newPermissions(buffer)
      try segment.state.withLock { $0.permissions }.checkOwner(process.who)
      segment.state.withLock {
        update(&$0.permissions, new)
        $0.changeTime = Clock.realtime
      }
      return 0
    case IPCFlags.status: return try store(try segment(id), to: buffer, answer: 0)
    case 13, 15:  // SHM_STAT, SHM_STAT_ANY: by slot
      guard let segment = SharedSegments.all.at(slot: Int(int(id))) else { throw .invalidArgument }
      return try store(segment, to: buffer, answer: UInt32(bitPattern: segment.id))
    case IPCFlags.information:  // struct shminfo64
      var words: [32 of UInt32] = .init(repeating: 0)
      (words[0], words[1], words[2], words[3], words[4]) = (.max & ~0xFFF, 1, 4096, 4096, .max >> 12)
      try UserMemory.write(words: words, count: 9, to: buffer)
      return UInt32(result: SharedSegments.all.highest)
    case 14:  // SHM_INFO
      var words: [32 of UInt32] = .init(repeating: 0)
      let all = SharedSegments.all.all()
      words[0] = UInt32(all.count)
      words[1] = all.reduce(0) { $0 + ($1.size + 4095) >> 12 }
      words[2] = words[1]
      try UserMemory.write(words: words, count: 6, to: buffer)
      return UInt32(result: SharedSegments.all.highest)
    case 11, 12:  // SHM_LOCK, SHM_UNLOCK: nothing is ever paged out
      try segment(id).state.withLock { $0.permissions }.checkOwner(process.who)
      return 0
    default: throw .invalidArgument
    }
  }

  /// `struct shmid64_ds`, 84 bytes.
  private func store(_ segment: SharedSegment, to buffer: UInt32, answer: UInt32) throws(Errno) -> UInt32 {
    let state = segment.state.withLock { $0 }
    try state.permissions.check(4, process.who)
    var words: [32 of UInt32] = .init(repeating: 0)
    put(state.permissions, segment.id, &words)
    if state.isDoomed { words[5] |= 0o1000 }
    words[9] = segment.size
    words[10] = seconds(state.attachTime)
    words[12] = seconds(state.detachTime)
    words[14] = seconds(state.changeTime)
    words[16] = UInt32(bitPattern: segment.creator)
    words[17] = UInt32(bitPattern: state.lastProcess)
    words[18] = UInt32(result: segment.attachments)
    try UserMemory.write(words: words, count: 21, to: buffer)
    return answer
  }

  // MARK: Semaphores

  func semget(_ key: UInt32, _ count: UInt32, _ flags: UInt32) throws(Errno) -> UInt32 {
    guard int(count) >= 0, count <= 32000 else { throw .invalidArgument }
    let who = process.who
    let set = try SemaphoreSets.all.get(key: key, flags: flags) { found throws(Errno) in
      let (permissions, existing) = found.state.withLock { ($0.permissions, $0.semaphores.count) }
      try permissions.check(flags >> 6 & 6, who)
      if Int(count) > existing { throw .invalidArgument }
    } _: {
      SemaphoreSet(id: $0, count: Int(count), permissions: IPCPermissions(key: key, mode: flags, who))
    }
    if set.state.withLock({ $0.semaphores.isEmpty }) {
      SemaphoreSets.all.remove(set)
      throw .invalidArgument
    }
    return UInt32(bitPattern: set.id)
  }

  private func set(_ id: UInt32) throws(Errno) -> SemaphoreSet {
    guard let set = SemaphoreSets.all.find(int(id)) else { throw .invalidArgument }
    return set
  }

  /// `timeout` points at a timespec, or is 0.
  func semtimedop(_ id: UInt32, _ address: UInt32, _ count: UInt32, timeout: UInt32, wide: Bool) throws(Errno) -> UInt32 {
    if count == 0 { throw .invalidArgument }
    if count > 500 { throw .argListTooLong }
    let set = try set(id)
    let deadline = try timespec(timeout, wide: wide).map { Deadline.after($0) }
    var operations: [SemaphoreOperation] = []
    for index in 0..<count {
      let first = try UserMemory.read32(address &+ index * 6)
      var rest = IOBuffer(address &+ index * 6 &+ 4, 2)
      let flags = try rest.takeBytes(limit: 2)
      operations.append(
        SemaphoreOperation(
          number: UInt16(truncatingIfNeeded: first), change: Int16(truncatingIfNeeded: Int32(bitPattern: first) >> 16),
          flags: UInt16(flags[0]) | UInt16(flags[1]) << 8))
    }
    try set.state.withLock { $0.permissions }.check(operations.contains { $0.change != 0 } ? 2 : 4, process.who)
    try set.operate(operations, process, deadline: deadline)
    return 0
  }

  func semctl(_ id: UInt32, _ number: UInt32, _ operation: UInt32, _ argument: UInt32) throws(Errno) -> UInt32 {
    let operation = command(operation)
    switch operation {
    case IPCFlags.information, 19:  // IPC_INFO, SEM_INFO: struct seminfo
      var words: [32 of UInt32] = .init(repeating: 0)
      let all = SemaphoreSets.all.all()
      (words[1], words[2], words[4], words[5], words[8], words[9]) = (32000, 1_024_000_000, 32000, 500, 32767, 32767)
      if operation == 19 {
        words[6] = UInt32(all.count)
        words[9] = all.reduce(0) { $0 + UInt32($1.state.withLock { $0.semaphores.count }) }
      }
      try UserMemory.write(words: words, count: 10, to: argument)
      return UInt32(result: SemaphoreSets.all.highest)
    case 18, 20:  // SEM_STAT, SEM_STAT_ANY
      guard let set = SemaphoreSets.all.at(slot: Int(int(id))) else { throw .invalidArgument }
      return try store(set, to: argument, answer: UInt32(bitPattern: set.id))
    case IPCFlags.status: return try store(try set(id), to: argument, answer: 0)
    case IPCFlags.remove:
      let set = try set(id)
      try set.state.withLock { $0.permissions }.checkOwner(process.who)
      SemaphoreSets.all.remove(set)
      set.removed()
      return 0
    case IPCFlags.set:
      let set = try set(id)
      let new = try newPermissions(argument)
      try set.state.withLock { $0.permissions }.checkOwner(process.who)
      set.state.withLock {
        update(&$0.permissions, new)
        $0.changeTime = Clock.realtime
      }
      return 0
    default: return try semaphoreValues(try set(id), number, operation, argument)
    }
  }

  /// GETPID 11, GETVAL 12, GETALL 13, GETNCNT 14, GETZCNT 15, SETVAL 16, SETALL 17.
  private func semaphoreValues(_ set: SemaphoreSet, _ number: UInt32, _ operation: UInt32, _ argument: UInt32) throws(Errno) -> UInt32 {
    let (permissions, semaphores) = set.state.withLock { ($0.permissions, $0.semaphores) }
    guard (11...17).contains(operation) else { throw .invalidArgument }
    try permissions.check(operation >= 16 ? 2 : 4, process.who)
    switch operation {
    case 13:
      var bytes = [UInt8](repeating: 0, count: semaphores.count * 2)
      var out = bytes.mutableSpan
      for index in semaphores.indices { out.put16(UInt16(truncatingIfNeeded: semaphores[index].value), at: index * 2) }
      try UserMemory.write(bytes.span, to: argument)
      return 0
    case 17:
      var buffer = IOBuffer(argument, semaphores.count * 2)
      let bytes = try buffer.takeBytes(limit: semaphores.count * 2)
      let span = bytes.span
      try set.set(nil, semaphores.indices.map { Int32(span.u16($0 * 2) ?? 0) }, process.id)
      return 0
    default: break
    }
    guard int(number) >= 0, Int(number) < semaphores.count else { throw .invalidArgument }
    let semaphore = semaphores[Int(number)]
    switch operation {
    case 11: return UInt32(bitPattern: semaphore.lastProcess)
    case 12: return UInt32(bitPattern: semaphore.value)
    case 14, 15: return UInt32(result: set.state.withLock { $0.waiting(for: Int(number), zero: operation == 15) })
    default:
      try set.set(Int(number), [int(argument)], process.id)
      return 0
    }
  }

  /// `struct semid64_ds`, 64 bytes.
  private func store(_ set: SemaphoreSet, to buffer: UInt32, answer: UInt32) throws(Errno) -> UInt32 {
    let (permissions, operated, changed, count) = set.state.withLock {
      ($0.permissions, $0.operationTime, $0.changeTime, $0.semaphores.count)
    }
    try permissions.check(4, process.who)
    var words: [32 of UInt32] = .init(repeating: 0)
    put(permissions, set.id, &words)
    words[9] = seconds(operated)
    words[11] = seconds(changed)
    words[13] = UInt32(count)
    try UserMemory.write(words: words, count: 16, to: buffer)
    return answer
  }

  // MARK: Message queues

  func msgget(_ key: UInt32, _ flags: UInt32) throws(Errno) -> UInt32 {
    let who = process.who
    let queue = try MessageQueues.all.get(key: key, flags: flags) { found throws(Errno) in
      try found.state.withLock { $0.permissions }.check(flags >> 6 & 6, who)
    } _: {
      MessageQueue(id: $0, permissions: IPCPermissions(key: key, mode: flags, who))
    }
    return UInt32(bitPattern: queue.id)
  }

  private func queue(_ id: UInt32) throws(Errno) -> MessageQueue {
    guard let queue = MessageQueues.all.find(int(id)) else { throw .invalidArgument }
    return queue
  }

  func msgsnd(_ id: UInt32, _ address: UInt32, _ count: UInt32, _ flags: UInt32) throws(Errno) -> UInt32 {
    guard count <= MessageQueue.maximumSize else { throw .invalidArgument }
    let type = int(try UserMemory.read32(address))
    guard type >= 1 else { throw .invalidArgument }
    let queue = try queue(id)
    try queue.state.withLock { $0.permissions }.check(2, process.who)
    var buffer = IOBuffer(address &+ 4, Int(count))
    let bytes = try buffer.takeBytes(limit: Int(count))
    try queue.send(.init(type: type, bytes: bytes), noWait: flags & IPCFlags.noWait != 0, sender: process.id)
    return 0
  }

  /// MSG_NOERROR is 010000, MSG_EXCEPT 020000.
  func msgrcv(_ id: UInt32, _ address: UInt32, _ count: UInt32, _ type: UInt32, _ flags: UInt32) throws(Errno) -> UInt32 {
    guard int(count) >= 0 else { throw .invalidArgument }
    let queue = try queue(id)
    try queue.state.withLock { $0.permissions }.check(4, process.who)
    let message = try queue.receive(
      type: int(type), limit: Int(count), noWait: flags & IPCFlags.noWait != 0, truncate: flags & 0o10000 != 0,
      except: flags & 0o20000 != 0, receiver: process.id)
    try UserMemory.write32(UInt32(bitPattern: message.type), to: address)
    try UserMemory.write(message.bytes.span, to: address &+ 4)
    return UInt32(result: message.bytes.count)
  }

  func msgctl(_ id: UInt32, _ operation: UInt32, _ buffer: UInt32) throws(Errno) -> UInt32 {
    switch command(operation) {
    case IPCFlags.remove:
      let queue = try queue(id)
      try queue.state.withLock { $0.permissions }.checkOwner(process.who)
      MessageQueues.all.remove(queue)
      queue.removed()
      return 0
    case IPCFlags.set:
      let queue = try queue(id)
      let new = try newPermissions(buffer)
      let limit = try UserMemory.read32(buffer &+ 68)
      try queue.state.withLock { $0.permissions }.checkOwner(process.who)
      if limit > UInt32(MessageQueue.defaultLimit), !process.who.has(.resource) { throw .notPermitted }
      queue.state.withLock {
        update(&$0.permissions, new)
        $0.byteLimit = Int(min(limit, 0x7FFF_FFFF))
        $0.changeTime = Clock.realtime
      }
      queue.changed.wake()
      return 0
    case IPCFlags.status: return try store(try queue(id), to: buffer, answer: 0)
    case 11, 13:  // MSG_STAT, MSG_STAT_ANY
      guard let queue = MessageQueues.all.at(slot: Int(int(id))) else { throw .invalidArgument }
      return try store(queue, to: buffer, answer: UInt32(bitPattern: queue.id))
    case IPCFlags.information, 12:  // IPC_INFO, MSG_INFO: struct msginfo
      var words: [32 of UInt32] = .init(repeating: 0)
      let all = MessageQueues.all.all()
      (words[2], words[3], words[4]) = (UInt32(MessageQueue.maximumSize), UInt32(MessageQueue.defaultLimit), 32000)
      if command(operation) == 12 {
        words[0] = UInt32(all.count)
        words[1] = all.reduce(0) { $0 + UInt32($1.state.withLock { $0.messages.count }) }
        words[6] = all.reduce(0) { $0 + UInt32($1.state.withLock { $0.byteCount }) }
      }
      try UserMemory.write(words: words, count: 8, to: buffer)
      return UInt32(result: MessageQueues.all.highest)
    default: throw .invalidArgument
    }
  }

  /// `struct msqid64_ds`, 88 bytes.
  private func store(_ queue: MessageQueue, to buffer: UInt32, answer: UInt32) throws(Errno) -> UInt32 {
    let permissions = queue.state.withLock { $0.permissions }
    try permissions.check(4, process.who)
    var words: [32 of UInt32] = .init(repeating: 0)
    put(permissions, queue.id, &words)
    queue.state.withLock { state in
      words[9] = seconds(state.sendTime)
      words[11] = seconds(state.receiveTime)
      words[13] = seconds(state.changeTime)
      words[15] = UInt32(state.byteCount)
      words[16] = UInt32(state.messages.count)
      words[17] = UInt32(state.byteLimit)
      words[18] = UInt32(bitPattern: state.lastSender)
      words[19] = UInt32(bitPattern: state.lastReceiver)
    }
    try UserMemory.write(words: words, count: 22, to: buffer)
    return answer
  }

  /// The one call that all of these once were. SPEC: ipc(2).
  func ipc() throws(Errno) -> UInt32 {
    let version = a >> 16
    switch a & 0xFFFF {
    case 1: return try semtimedop(b, e, c, timeout: 0, wide: false)
    case 2: return try semget(b, c, d)
    case 3: return try semctl(b, c, d, try UserMemory.read32(e))
    case 4: return try semtimedop(b, e, c, timeout: f, wide: false)
    case 11: return try msgsnd(b, e, c, d)
    case 12:
      if version == 0 { return try msgrcv(b, try UserMemory.read32(e), c, try UserMemory.read32(e &+ 4), d) }
      return try msgrcv(b, e, c, f, d)
    case 13: return try msgget(b, c)
    case 14: return try msgctl(b, c, e)
    case 21:
      try UserMemory.write32(try shmat(b, e, c), to: d)
      return 0
    case 22: return try shmdt(e)
    case 23: return try shmget(b, c, d)
    case 24: return try shmctl(b, c, e)
    default: throw .noFunction
    }
  }
}
