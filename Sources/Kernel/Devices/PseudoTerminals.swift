import Machine
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// All pseudoterminals: /dev/ptmx makes one, and `devpts` shows their slaves. SPEC: pts(4).
final class PseudoTerminals: FileSystem, Device, DeviceFamily {
  static var major: UInt32 { 136 }
  static var limit: Int { 256 }
  private static let cell = BootCell<PseudoTerminals>()
  static var shared: PseudoTerminals { cell.value }

  struct State {
    var terminals: [PseudoTerminal?] = Array(repeating: nil, count: limit)
    /// What mount's options say of new nodes: their group (else the opener's) and mode.
    var group: UInt32?
    var mode: UInt32 = 0o600
  }
  private let state = SpinLock<State, LeafRank>(State())

  /// Makes /dev/ptmx and the file system known.
  static func start() {
    let all = PseudoTerminals()
    cell.set(all)
    DeviceRegistry.register("ptmx", major: 5, minor: 2, mode: 0o666, all)
    DeviceRegistry.register(major: major, all)
    FileSystemTypes.register(
      SimpleType("devpts") { options throws(Errno) in
        try all.configure(options)
        return all
      })
  }

  /// `gid=5,mode=620`. There is one instance, whatever is mounted where.
  private func configure(_ options: [UInt8]) throws(Errno) {
    for option in options.split(separator: 44) {
      let words = option.split(separator: 61, maxSplits: 1)
      let value = words.count > 1 ? String(decoding: words[1], as: UTF8.self) : ""
      if words[0].elementsEqual("gid".utf8), let group = UInt32(value) {
        state.withLock { $0.group = group }
      } else if words[0].elementsEqual("mode".utf8), let mode = UInt32(value, radix: 8), mode <= 0o777 {
        state.withLock { $0.mode = mode }
      } else {
        throw .invalidArgument
      }
    }
  }

  // MARK: As devices

  func open(_ inode: Inode, flags: UInt32) throws(Errno) -> any OpenFile {
    let who = Task.currentTask.process.who
    let (group, mode) = state.withLock { ($0.group, $0.mode) }
    while let index = state.withLock({ $0.terminals.firstIndex { $0 == nil } }) {
      var attributes = Attributes(mode: Mode.character | mode, owner: who.fsuid, group: group ?? who.fsgid)
      attributes.device = DeviceNumber(major: Self.major, minor: UInt32(index))
      let terminal = PseudoTerminal(index: index, node: Inode(self, number: UInt64(index) + 3, attributes: attributes))
      let isMine = state.withLock { state in
        if state.terminals[index] != nil { return false }
        state.terminals[index] = terminal
        return true
      }
      if isMine { return PseudoTerminal.Master(terminal) }
    }
    throw .noSpace
  }

  func remove(_ terminal: PseudoTerminal) { state.withLock { $0.terminals[terminal.index] = nil } }

  private func find(_ index: Int) -> PseudoTerminal? {
    index < Self.limit ? state.withLock { $0.terminals[index] } : nil
  }

  func device(minor: UInt32) -> (any Device)? { find(Int(minor)) }

  // MARK: As a file system

  var typeName: String { "devpts" }
  var deviceNumber: UInt32 { 10 }
  var cachesNames: Bool { false }
  private(set) lazy var root: Inode = makeRoot()
  private func makeRoot() -> Inode {
    let root = Inode(self, number: 1, attributes: Attributes(mode: Mode.directory | 0o755))
    root.addUser()
    return root
  }

  func lookup(_ name: [UInt8], in directory: Inode) throws(Errno) -> Inode {
    guard let index = Int(String(decoding: name, as: UTF8.self)), index >= 0, String(index).utf8.elementsEqual(name),
      let terminal = find(index)
    else { throw .noSuchFileOrDirectory }
    return terminal.node
  }

  func readLink(_ inode: Inode) throws(Errno) -> [UInt8] { throw .invalidArgument }

  func list(_ directory: Inode, from position: UInt64, _ visit: (DirectoryEntry) -> Bool) throws(Errno) {
    let dots = [(".", Mode.directory, UInt64(1)), ("..", Mode.directory, 1)]
    let nodes = (0..<Self.limit).filter { find($0) != nil }.map { (String($0), Mode.character, UInt64($0) + 3) }
    // A terminal's position is its own, whichever others come and go.
    for (name, type, inode) in dots + nodes {
      let place = type == Mode.directory ? UInt64(name.utf8.count - 1) : inode
      if place < position { continue }
      if !visit(DirectoryEntry(name: Array(name.utf8), inode: inode, type: type, next: place + 1)) { return }
    }
  }

  func statistics() -> FileSystemStatistics { FileSystemStatistics(magic: 0x1CD1) }

  /// Where a slave is, for who got it without a path.
  func path(of terminal: PseudoTerminal) -> Path {
    let name = Array(("/dev/pts/" + String(terminal.index)).utf8)
    if let found = Mounts.all().first(where: { $0.fileSystem === self }) {
      return Path(mount: found, dentry: Dentry(name: Array(String(terminal.index).utf8), parent: found.root, inode: terminal.node))
    }
    return NamelessFiles.path(called: name, terminal.node)
  }
}
