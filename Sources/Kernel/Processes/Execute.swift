import CMachine
import Executables
import Machine
import Memory
import Primitives
import Signals
import Sync
import Synchronization
import SystemABI
import Threads
import VFS

/// execve: replaces a process's program. SPEC: execve(2), System V ABI i386 supplement §3.
public struct Execution {
  /// Bytes of arguments and environment together, as Linux bounds them under an 8 MiB stack.
  static var argumentLimit: Int { 2 << 20 }
  let process: Process
  let task: Task
  var arguments: [[UInt8]]
  var environment: [[UInt8]]
  private var path: Path
  private var name: [UInt8]
  /// Whether the name still leads to the file when the new program runs: the interpreter of a script needs that.
  public var nameStays = true

  public init(_ task: Task, path: Path, name: [UInt8], arguments: [[UInt8]], environment: [[UInt8]]) {
    self.task = task
    process = task.process
    self.path = path
    self.name = name
    self.arguments = arguments
    self.environment = environment
  }

  /// Zero for a program that is to lie where it always lies: personality(2) ADDR_NO_RANDOMIZE.
  private func displacement() -> UInt32 { process.personality.load(ordering: .relaxed) & 0x4_0000 != 0 ? 0 : Random.next() }

  private func check(_ path: Path) throws(Errno) -> Inode {
    let inode = try path.inode()
    if inode.isDirectory { throw .permissionDenied }
    guard inode.isRegular else { throw .permissionDenied }
    if path.mount.flags & MountFlags.noExecute != 0 { throw .permissionDenied }
    try inode.check(1, process.who)
    try inode.content.checkNotWritten()
    return inode.content
  }

  private struct Loaded {
    var entry: UInt32
    var bias: UInt32
    var end: UInt32
    var code: Range<UInt32> = 0..<0
    var data: Range<UInt32> = 0..<0
  }

  /// Builds the new image and, when nothing can fail any more, becomes it.
  public mutating func run(_ frame: UserFrame) throws(Errno) {
    var inode = try check(path)
    var head = try inode.bytes(at: 0, count: 4096)
    var scripts = 0
    while let line = ScriptLine(head.span) {
      scripts += 1
      if !nameStays { throw .noSuchFileOrDirectory }
      if scripts > 5 { throw .tooManySymbolicLinkLevels }
      arguments = [line.interpreter] + (line.argument.map { [$0] } ?? []) + [name] + arguments.dropFirst()
      var walk = PathWalk(process.pathContext)
      path = try walk.resolve(line.interpreter)
      name = line.interpreter
      inode = try check(path)
      head = try inode.bytes(at: 0, count: 4096)
    }
    let image = try Self.parse(head, inode)
    let space = try AddressSpace.make()
    space.program = try RunningProgram.start(inode)
    let loaded = try load(image, inode, path, into: space, interpreter: false)
    var entry = loaded.entry
    var interpreterBase: UInt32 = 0
    if let wanted = image.interpreter {
      let other = try loadInterpreter(wanted, inode, into: space)
      entry = other.entry
      interpreterBase = other.bias
    }
    let brkStart = loaded.end &+ (displacement() & 0x1FF) << 12
    space.state.withLock {
      $0.brkStart = brkStart
      $0.brk = brkStart
    }
    let stack = try buildStack(space, image, inode, loaded, interpreterBase)
    try commit(space, stack: stack, entry: entry, inode, frame)
  }

  private static func parse(_ head: [UInt8], _ inode: Inode) throws(Errno) -> ELFImage {
    do throws(ExecutableError) { return try ELFImage(head.span, fileSize: inode.size) } catch { throw .execFormatError }
  }

  private func loadInterpreter(_ wanted: (offset: UInt32, size: UInt32), _ inode: Inode, into space: AddressSpace) throws(Errno)
    -> Loaded
  {
    var name = try inode.bytes(at: UInt64(wanted.offset), count: Int(wanted.size))
    guard name.last == 0 else { throw .execFormatError }
    name.removeLast()
    var walk = PathWalk(process.pathContext)
    let path = try walk.resolve(name)
    let interpreter = try check(path)
    let image = try Self.parse(try interpreter.bytes(at: 0, count: 4096), interpreter)
    return try load(image, interpreter, path, into: space, interpreter: true)
  }

  /// Maps an image's segments; zero-fills the tail of the last file page.
  private func load(_ image: ELFImage, _ inode: Inode, _ path: Path, into space: AddressSpace, interpreter: Bool) throws(Errno)
    -> Loaded
  {
    let span = image.span
    var bias: UInt32 = 0
    if image.isDynamic {
      let size = span.upperBound - span.lowerBound
      let base = interpreter ? try space.findGap(size: size &+ 0x1000) : 0x5600_0000 &+ (displacement() & 0xFFF) << 12
      bias = base &- span.lowerBound
    } else if span.lowerBound < AddressSpace.lowest {
      throw .execFormatError
    }
    let file = MappedFile(inode, path: path)
    var loaded = Loaded(entry: image.entry &+ bias, bias: bias, end: 0)
    for segment in image.segments {
      let start = (segment.address &+ bias).pageDown
      let fileEnd = segment.address &+ bias &+ segment.fileSize
      let memoryEnd = (segment.address &+ bias &+ segment.memorySize &+ 0xFFF) & ~0xFFF
      let mappedEnd = (fileEnd &+ 0xFFF) & ~0xFFF
      guard memoryEnd > start || segment.memorySize == 0, memoryEnd <= 0xBFFF_0000 else { throw .execFormatError }
      if segment.fileSize > 0 {
        space.map(
          Area(
            start: start, end: mappedEnd, readable: segment.readable, writable: segment.writable,
            executable: segment.executable, backing: file, pageOffset: segment.fileOffset >> 12))
        if segment.memorySize > segment.fileSize, fileEnd & 0xFFF != 0, segment.writable {
          try zeroTail(space, fileEnd)
        }
      }
      let anonymousStart = segment.fileSize > 0 ? mappedEnd : start
      if memoryEnd > anonymousStart {
        space.map(
          Area(
            start: anonymousStart, end: memoryEnd, readable: segment.readable, writable: segment.writable,
            executable: segment.executable))
      }
      let inFile = (segment.address &+ bias)..<max(segment.address &+ bias, fileEnd)
      if segment.executable { loaded.code = inFile } else if segment.writable { loaded.data = inFile }
      loaded.end = memoryEnd
    }
    return loaded
  }

  private func zeroTail(_ space: AddressSpace, _ address: UInt32) throws(Errno) {
    let frame = try writableFrame(space, address)
    frame.zero(from: Int(address & 0xFFF), to: pageSize)
  }

  /// The new program's own copy of a page, before the program runs.
  private func writableFrame(_ space: AddressSpace, _ address: UInt32) throws(Errno) -> Frame {
    do throws(FaultFailure) { try space.resolveFault(address, write: true, execute: false) } catch {
      switch error {
      case .outOfMemory: throw .noMemory
      default: throw .execFormatError
      }
    }
    return PageTable.frame(of: space.table.entry(address.pageDown))
  }

  /// Strings, auxv, envp, argv, argc, from the top down. Answers the stack pointer.
  private func buildStack(
    _ space: AddressSpace, _ image: ELFImage, _ inode: Inode, _ loaded: Loaded, _ interpreterBase: UInt32
  ) throws(Errno) -> UInt32 {
    let top = VDSO.timeAddress &- 0x1000 &- (displacement() & 0x7FF) << 12
    let limit = process.limits.withLock { $0[3].soft }
    space.state.withLock {
      $0.stackLimit = UInt32(clamping: min(limit, 0x4000_0000))
      $0.mmapTop = 0xB7F0_0000 &- (displacement() & 0xFFF) << 12
    }
    space.map(
      Area(start: top - 0x21000, end: top, readable: true, writable: true, executable: image.executableStack, kind: .stack))
    var writer = StackWriter(space: space, position: top)
    writer.put(bytes: [0, 0, 0, 0])
    let execName = writer.put(string: name)
    let environmentEnd = writer.position
    var environmentPointers: [UInt32] = []
    for string in environment.reversed() { environmentPointers.append(writer.put(string: string)) }
    let argumentEnd = writer.position
    var argumentPointers: [UInt32] = []
    for string in arguments.reversed() { argumentPointers.append(writer.put(string: string)) }
    space.layout.environment = argumentEnd..<environmentEnd
    space.layout.arguments = writer.position..<argumentEnd
    let platform = writer.put(string: Array("i686".utf8))
    let random = writer.put(bytes: Random.bytes(16))
    let (who, isSecure) = newCredentials(inode)
    let auxiliary: [(UInt32, UInt32)] = [
      (32, VDSO.entry), (33, VDSO.address), (16, Processors.features), (6, 4096), (17, 100), (3, image.headersAddress &+ loaded.bias),
      (4, 32),
      (5, UInt32(image.headerCount)), (7, interpreterBase), (8, 0), (9, loaded.entry), (11, who.uid), (12, who.euid),
      (13, who.gid), (14, who.egid), (23, isSecure ? 1 : 0), (25, random), (31, execName), (15, platform), (51, 2048), (0, 0),
    ]
    let words = auxiliary.count * 2 + environmentPointers.count + 1 + argumentPointers.count + 1 + 1
    writer.align(words: words)
    space.layout.auxiliary = (writer.position &- UInt32(auxiliary.count * 8))..<writer.position
    for (type, value) in auxiliary.reversed() {
      writer.put(word: value)
      writer.put(word: type)
    }
    writer.put(word: 0)
    for pointer in environmentPointers { writer.put(word: pointer) }
    writer.put(word: 0)
    for pointer in argumentPointers { writer.put(word: pointer) }
    writer.put(word: UInt32(arguments.count))
    if let failure = writer.failure { throw failure }
    (space.layout.code, space.layout.data, space.layout.stack) = (loaded.code, loaded.data, writer.position)
    return writer.position
  }

  /// The point of no return.
  private func commit(_ space: AddressSpace, stack: UInt32, entry: UInt32, _ inode: Inode, _ frame: UserFrame) throws(Errno) {
    try VDSO.map(into: space)
    Futex.releaseRobustList(of: task)
    PriorityFutex.release(ownedBy: task, executing: true)
    let formerID = task.id
    killOtherThreads()
    let (who, _) = newCredentials(inode)
    process.changeCredentials { $0 = who }
    let old = process.replaceSpace(space)
    Scheduler.activate(pageTable: space.table.physicalAddress)
    _ = old
    let closed = process.descriptors.withLock { $0.takeAll(onlyCloseOnExec: true) }
    for description in closed { process.release(description) }
    process.signals.withLock { state in
      for index in 1..<65 where state.actions[index].handler != SignalAction.ignore { state.actions[index] = SignalAction() }
    }
    let shortName = Array((name.split(separator: 47).last ?? [])[...].prefix(15))
    let previous = process.executable.withLock { slot in
      let old = slot.path
      slot = (path, shortName)
      return old
    }
    task.name.withLock { $0 = shortName }
    path.pin()
    previous?.unpin()
    ProcessTable.shared.withTree { process.tree.hasExecuted = true }
    task.alternateStack = AlternateStack()
    task.clearChildID = 0
    task.parentDeathSignal = 0
    process.deleteTimers()
    task.resetMachineState()
    process.signalVforkParent()
    frame.registers = trap_frame(
      edi: 0, esi: 0, ebp: 0, esp_ignored: 0, ebx: 0, edx: 0, ecx: 0, eax: 0, ds: UInt32(USER_DS), es: UInt32(USER_DS),
      fs: 0, vector: 0x80, error: .max, eip: entry, cs: UInt32(USER_CS), eflags: 0x202, esp: stack, ss: UInt32(USER_DS))
    task.skipRestart = true
    task.tellTracerOfProgram(frame, formerID: formerID)
  }

  private func killOtherThreads() {
    defer {
      process.takeEndedLeader()?.endTracingUnheard()
      task.id = process.id
    }
    let others: [Task] = process.signals.withLock { state in
      let others = state.threads.filter { $0 !== task }
      for other in others {
        other.exitStatus = 0
        other.interruptRequested.store(true, ordering: .releasing)
      }
      return others
    }
    for other in others { other.interrupt() }
    if others.isEmpty { return }
    let _: Bool? = try? process.childEvent.wait(interruptible: false, deadline: nil, reason: "execve") {
      process.signals.withLock { $0.threads.count == 1 } ? true : nil
    }
  }

  /// What the program runs with, and whether that is more than who starts it has: its loader must not trust the environment.
  /// Asked again when nothing else can fail: a tracer may have come meanwhile.
  private func newCredentials(_ inode: Inode) -> (Credentials, isSecure: Bool) {
    let (mode, owner, group) = inode.attributes.withLock { ($0.mode, $0.owner, $0.group) }
    var who = process.who
    let allowed =
      path.mount.flags & MountFlags.noSetUser == 0 && !process.noNewPrivileges.load(ordering: .acquiring)
      && (who.has(.trace) || !task.isTraced.load(ordering: .acquiring))
    let (user, oldGroup) = (who.euid, who.egid)
    if allowed, mode & Mode.setUser != 0 { who.euid = owner }
    if allowed, mode & Mode.setGroup != 0, mode & 0o010 != 0 { who.egid = group }
    who.suid = who.euid
    who.sgid = who.egid
    who.programChanged(setID: who.euid != user || who.egid != oldGroup)
    return (who, who.euid != who.uid || who.egid != who.gid)
  }
}

/// Writes a new program's stack through the kernel's mapping of its pages.
private struct StackWriter {
  let space: AddressSpace
  var position: UInt32
  var failure: Errno?

  init(space: AddressSpace, position: UInt32) {
    self.space = space
    self.position = position
  }

  @discardableResult mutating func put(bytes: [UInt8]) -> UInt32 {
    position -= UInt32(bytes.count)
    var done = 0
    while done < bytes.count, failure == nil {
      let address = position &+ UInt32(done)
      guard let frame = page(address) else { break }
      let start = Int(address & 0xFFF)
      let count = min(pageSize - start, bytes.count - done)
      frame.put(bytes.span.extracting(done..<(done + count)), at: start)
      done += count
    }
    return position
  }

  private mutating func page(_ address: UInt32) -> Frame? {
    let entry = space.table.entry(address.pageDown)
    if entry & PageBits.writable != 0 { return PageTable.frame(of: entry) }
    do throws(FaultFailure) { try space.resolveFault(address, write: true, execute: false) } catch {
      switch error {
      case .outOfMemory: failure = .noMemory
      default: failure = .argListTooLong
      }
      return nil
    }
    return PageTable.frame(of: space.table.entry(address.pageDown))
  }

  mutating func put(string: [UInt8]) -> UInt32 { put(bytes: string + [0]) }

  mutating func put(word: UInt32) {
    position -= 4
    if failure == nil { page(position)?.store32(Int(position & 0xFFF), word) }
  }

  /// Places the words to come so that the last one, argc, is 16-byte aligned.
  mutating func align(words: Int) {
    position &= ~15
    let bytes = UInt32(words * 4)
    position -= (16 - bytes & 15) & 15
  }
}
