import DiskFS
import ImageKit
import Testing

/// A device in memory that knows what it has been told since the last flush.
private final class Device: DiskStore {
  var blocks: [[UInt8]]
  var pending: [(block: UInt32, bytes: [UInt8])] = []
  /// Where in `pending` a block's last bytes are.
  private var newest: [UInt32: Int] = [:]
  init(_ count: UInt32) { blocks = Array(repeating: [UInt8](repeating: 0, count: DiskFormat.blockSize), count: Int(count)) }

  func read(_ block: UInt32) throws(DiskFSError) -> [UInt8] {
    guard Int(block) < blocks.count else { throw .io }
    return newest[block].map { pending[$0].bytes } ?? blocks[Int(block)]
  }
  func write(_ block: UInt32, _ bytes: [UInt8]) {
    newest[block] = pending.count
    pending.append((block, bytes))
  }
  func flush() {
    for (block, bytes) in pending { blocks[Int(block)] = bytes }
    pending = []
    newest = [:]
  }

  /// What it has after a power cut: some of what was not flushed, sector by sector.
  func cut(_ random: inout Random) -> Device {
    let other = Device(0)
    other.blocks = blocks
    for (block, bytes) in pending {
      switch random.below(3) {
      case 0: other.blocks[Int(block)] = bytes
      case 1:
        for sector in 0..<8 where random.below(2) == 0 {
          other.blocks[Int(block)].replaceSubrange(sector * 512..<(sector + 1) * 512, with: bytes[sector * 512..<(sector + 1) * 512])
        }
      default: break
      }
    }
    return other
  }
}

/// As a mount does; how many files there were.
private func deleteOrphans(_ volume: DiskVolume) throws -> Int {
  var count = 0
  while let object = try volume.firstOrphan() {
    try volume.deleteOrphan(object)
    count += 1
  }
  return count
}

private struct Random {
  var state: UInt64
  init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }
  mutating func next() -> UInt64 {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return state
  }
  mutating func below(_ limit: Int) -> Int { Int(next() >> 33) % limit }
}

/// What a volume ought to have: written from what the calls promise, apart from how they do it.
private struct Model: Equatable {
  struct File: Equatable {
    var isDirectory = false
    var links: UInt32 = 1
    var parent: UInt64 = 0
    var entries: [[UInt8]: UInt64] = [:]
    var pages: [UInt32: UInt8] = [:]
    var attributes: [[UInt8]: [UInt8]] = [:]
    var target: [UInt8] = []
  }
  var files: [UInt64: File] = [DiskFormat.root: File(isDirectory: true, links: 2, parent: DiskFormat.root)]
  var orphans: Set<UInt64> = []
}

private func sum(_ bytes: [UInt8]) -> UInt32 { XXH32.hash(bytes.span) }

private func content(_ tag: UInt8) -> [UInt8] { Array(repeating: tag, count: DiskFormat.blockSize) }

/// A volume with its model, and what the model was at each commit.
private struct Pair {
  let device: Device
  var volume: DiskVolume
  var model = Model()
  var committed: [UInt64: Model] = [:]
  var random: Random
  var durable: UInt64 = 0

  init(blocks: UInt32, seed: UInt64) throws {
    device = Device(blocks)
    random = Random(seed)
    volume = try DiskVolume.format(
      device, blocks: blocks, uuid: Array(1...16), label: Array("test".utf8), root: DiskInode(mode: DiskInode.directory | 0o755))
    try commit { _ in }
  }

  /// `pause` is told before each step of the way to the device, and may look at what a cut there would leave.
  mutating func commit(_ pause: (inout Pair) throws -> Void) throws {
    guard let commit = try volume.prepareCommit(time: 7) else { return }
    committed[volume.superblock.generation] = model
    for (block, bytes) in commit.nodes { device.write(block, bytes) }
    try pause(&self)
    device.flush()
    device.write(commit.superblock.block, commit.superblock.bytes)
    try pause(&self)
    device.flush()
    volume.finishCommit()
    durable = volume.superblock.generation
    committed = committed.filter { $0.key >= durable }
    try pause(&self)
  }

  mutating func name() -> [UInt8] {
    // Some long ones, so that leaves are full of few.
    let number = random.below(40)
    return Array("n\(number)".utf8) + Array(repeating: 120, count: number % 7 == 0 ? 200 : 0)
  }
  mutating func directory() -> UInt64 {
    let all = model.files.filter { $0.value.isDirectory && !model.orphans.contains($0.key) }.keys.sorted()
    return all[random.below(all.count)]
  }
  mutating func file() -> UInt64? {
    let all = model.files.filter { !$0.value.isDirectory && $0.value.target.isEmpty }.keys.sorted()
    return all.isEmpty ? nil : all[random.below(all.count)]
  }
  func isInside(_ inner: UInt64, _ outer: UInt64) -> Bool {
    var here = inner
    while here != outer {
      if here == DiskFormat.root { return false }
      here = model.files[here]!.parent
    }
    return true
  }

  mutating func unlinked(_ object: UInt64, from directory: UInt64) {
    if model.files[object]!.isDirectory {
      model.files[object]!.links = 0
      model.files[directory]!.links -= 1
    } else {
      model.files[object]!.links -= 1
    }
    if model.files[object]!.links == 0 { model.orphans.insert(object) }
  }

  mutating func step() throws {
    if volume.available < 8 || volume.needsCommit { try commit { _ in } }
    let hasRoom = volume.available > 8
    let (directory, name) = (directory(), name())
    let known = model.files[directory]!.entries[name]
    #expect(try volume.lookup(name, in: directory)?.object == known)
    switch random.below(14) {
    case 0...2 where known == nil && hasRoom:
      let kind = random.below(8)
      var inode = DiskInode(mode: (kind == 0 ? DiskInode.link : kind < 3 ? DiskInode.directory : DiskInode.regular) | 0o644)
      var file = Model.File(isDirectory: kind == 1 || kind == 2, links: kind == 1 || kind == 2 ? 2 : 1)
      if kind == 0 {
        file.target = Array(repeating: 97, count: 1 + random.below(4000))
        inode.size = UInt64(file.target.count)
      }
      if file.isDirectory {
        file.parent = directory
        model.files[directory]!.links += 1
      }
      let object = try volume.create(name, in: directory, inode)
      if kind == 0 { try volume.setTarget(object, file.target) }
      #expect(model.files.updateValue(file, forKey: object) == nil)
      model.files[directory]!.entries[name] = object
    case 3, 4:
      guard let known, model.files[known]!.entries.isEmpty else { break }
      try volume.unlink(name, in: directory)
      model.files[directory]!.entries[name] = nil
      unlinked(known, from: directory)
    case 5:
      guard let orphan = model.orphans.sorted().first else { break }
      try volume.deleteOrphan(orphan)
      model.orphans.remove(orphan)
      model.files[orphan] = nil
    case 6 where hasRoom:
      guard known == nil, let object = file() else { break }
      try volume.link(object, name, in: directory)
      model.files[directory]!.entries[name] = object
      model.files[object]!.links += 1
      model.orphans.remove(object)
    case 7 where hasRoom:
      let (to, newName) = (self.directory(), self.name())
      guard let known, !(model.files[known]!.isDirectory && isInside(to, known)) else { break }
      let replaced = model.files[to]!.entries[newName]
      if let replaced {
        guard replaced != known, model.files[replaced]!.isDirectory == model.files[known]!.isDirectory,
          model.files[replaced]!.entries.isEmpty
        else { break }
      }
      try volume.rename(name, in: directory, to: newName, in: to)
      model.files[directory]!.entries[name] = nil
      if let replaced { unlinked(replaced, from: to) }
      model.files[to]!.entries[newName] = known
      if model.files[known]!.isDirectory {
        model.files[known]!.parent = to
        model.files[directory]!.links -= 1
        model.files[to]!.links += 1
      }
    case 8...10 where hasRoom:
      guard let object = file() else { break }
      let start = UInt32(random.below(3) == 0 ? random.below(100_000) : random.below(150))
      let run = try volume.allocate(UInt32(1 + random.below(min(90, Int(volume.available) / 2 + 1))))
      let tags = run.map { _ in UInt8(truncatingIfNeeded: random.next()) }
      for (block, tag) in zip(run, tags) { device.write(block, content(tag)) }
      // Somebody else's commit comes between, or it comes to nothing.
      if random.below(5) == 0 { try commit { _ in } }
      if random.below(8) == 0 {
        volume.giveBack(run)
        break
      }
      let sums = tags.map { sum(content($0)) }
      for (index, tag) in tags.enumerated() { model.files[object]!.pages[start + UInt32(index)] = tag }
      let more = try volume.place(start, run, checksums: sums, of: object)
      var inode = try volume.inode(object)
      inode.blocks = UInt64(Int(inode.blocks) + more)
      try volume.setInode(object, inode)
      #expect(inode.blocks == UInt64(model.files[object]!.pages.count))
    case 11:
      guard let object = file() else { break }
      let start = UInt64(random.below(120))
      let range = start..<(random.below(2) == 0 ? 1 << 32 : start + UInt64(random.below(50)))
      let removed = try volume.removePages(object, range)
      var inode = try volume.inode(object)
      inode.blocks -= UInt64(removed)
      try volume.setInode(object, inode)
      model.files[object]!.pages = model.files[object]!.pages.filter { !range.contains(UInt64($0.key)) }
      #expect(inode.blocks == UInt64(model.files[object]!.pages.count))
    case 12 where hasRoom:
      guard let object = file() else { break }
      let name = Array("a\(random.below(6))".utf8)
      if random.below(3) == 0 {
        try volume.removeAttribute(name, of: object)
        model.files[object]!.attributes[name] = nil
      } else {
        let value = Array(repeating: UInt8(random.below(256)), count: random.below(1700))
        try volume.setAttribute(name, of: object, to: value)
        model.files[object]!.attributes[name] = value
      }
    case 13:
      let to = self.directory()
      let otherName = self.name()
      guard let known, let other = model.files[to]!.entries[otherName], other != known,
        !(model.files[known]!.isDirectory && isInside(to, known)), !(model.files[other]!.isDirectory && isInside(directory, other))
      else { break }
      try volume.exchange(name, in: directory, with: otherName, in: to)
      model.files[directory]!.entries[name] = other
      model.files[to]!.entries[otherName] = known
      for (object, from, to) in [(known, directory, to), (other, to, directory)] where model.files[object]!.isDirectory {
        model.files[object]!.parent = to
        model.files[from]!.links -= 1
        model.files[to]!.links += 1
      }
    default: break
    }
  }
}

/// A volume has what its model has, and all of it is in order.
private func compare(_ volume: DiskVolume, _ device: Device, _ model: Model) throws {
  for (object, file) in model.files {
    let inode = try volume.inode(object)
    #expect(inode.links == file.links)
    #expect(inode.isDirectory == file.isDirectory)
    var found: [[UInt8]: UInt64] = [:]
    var position: UInt64 = 0
    while let (at, entry) = try volume.entry(from: position, in: object) {
      #expect(found.updateValue(entry.object, forKey: entry.name) == nil)
      position = at + 1
    }
    #expect(found == file.entries)
    #expect(try volume.target(object) == file.target)
    for (index, tag) in file.pages {
      let pointer = try #require(try volume.page(index, of: object))
      let bytes = try device.read(pointer.block)
      #expect(sum(bytes) == pointer.checksum)
      #expect(bytes == content(tag))
    }
    var names: Set<[UInt8]> = []
    for name in try volume.attributeNames(of: object) {
      names.insert(name)
      #expect(try volume.attribute(name, of: object) == file.attributes[name])
    }
    #expect(names == Set(file.attributes.keys))
    if file.isDirectory { #expect(inode.parent == file.parent) }
  }
  let check = DiskCheck(volume, store: device)
  #expect(check.problems == [])
  #expect(check.files + check.directories == model.files.count)
}

@Test func checksumOfDiskFS() {
  #expect(sum([]) == 0x02CC_5D05)
  #expect(sum(Array("a".utf8)) == 0x550D_7456)
  #expect(sum(Array("abc".utf8)) == 0x32D1_53FF)
  #expect(sum(Array("Nobody inspects the spammish repetition".utf8)) == 0xE229_3B2F)
}

@Test(arguments: 1...rounds(3, long: 6)) func volumesAreLikeTheirModels(seed: Int) throws {
  var pair = try Pair(blocks: [300, 1000, 20000][seed % 3], seed: UInt64(seed))
  let steps = rounds(800, long: 100_000)
  for step in 0..<steps {
    try pair.step()
    if pair.random.below(60) == 0 { try pair.commit { _ in } }
    if pair.random.below(300) == 0 { pair.volume.dropClean() }
    if step % (steps / 4) == steps / 4 - 1 {
      try pair.commit { _ in }
      try compare(pair.volume, pair.device, pair.model)
      pair.volume = try DiskVolume.open(pair.device, limit: UInt32(pair.device.blocks.count))
      try compare(pair.volume, pair.device, pair.model)
    }
  }
  // All of it goes, and what it took is there again.
  let count = try deleteOrphans(pair.volume)
  #expect(count == pair.model.orphans.count)
  for orphan in pair.model.orphans { pair.model.files[orphan] = nil }
  pair.model.orphans = []
  while true {
    let victims = pair.model.files.filter { $0.value.isDirectory && !$0.value.entries.isEmpty }
    guard let (directory, file) = victims.first(where: { $0.value.entries.values.allSatisfy { pair.model.files[$0]!.entries.isEmpty } })
    else {
      break
    }
    for (name, object) in file.entries {
      try pair.volume.unlink(name, in: directory)
      pair.model.files[directory]!.entries[name] = nil
      pair.unlinked(object, from: directory)
      if pair.volume.needsCommit { try pair.commit { _ in } }
    }
  }
  _ = try deleteOrphans(pair.volume)
  try pair.commit { _ in }
  let check = DiskCheck(pair.volume, store: pair.device)
  #expect(check.problems == [])
  #expect(check.files == 0 && check.directories == 1 && check.contentBlocks == 0)
  #expect(check.nodes <= 1 + pair.device.blocks.count / 4096 / 4)
}

@Test(arguments: 1...rounds(2, long: 10)) func everyCutLeavesACommit(seed: Int) throws {
  var pair = try Pair(blocks: UInt32(rounds(200, long: [300, 3000][seed % 2])), seed: UInt64(100 + seed))
  var cuts = 0
  for _ in 0..<rounds(8, long: 60) {
    for _ in 0..<40 { try pair.step() }
    try pair.commit { pair in
      for _ in 0..<2 {
        let device = pair.device.cut(&pair.random)
        let volume = try DiskVolume.open(device, limit: UInt32(device.blocks.count))
        let generation = volume.superblock.generation
        #expect(generation >= pair.durable)
        try compare(volume, device, try #require(pair.committed[generation]))
        cuts += 1
      }
    }
  }
  #expect(cuts > rounds(20, long: 150))
}

@Test func aFullVolume() throws {
  var pair = try Pair(blocks: 200, seed: 9)
  var files: [[UInt8]] = []
  // Until there is no room for content, and then for names.
  let object = try pair.volume.create([97], in: DiskFormat.root, DiskInode(mode: DiskInode.regular))
  var index: UInt32 = 0
  while true {
    if pair.volume.needsCommit || pair.volume.available == 0 { try pair.commit { _ in } }
    guard pair.volume.available > 0 else { break }
    let run = try pair.volume.allocate(4)
    for block in run { pair.device.write(block, content(1)) }
    let more = try pair.volume.place(index, run, checksums: run.map { _ in sum(content(1)) }, of: object)
    var inode = try pair.volume.inode(object)
    inode.blocks += UInt64(more)
    try pair.volume.setInode(object, inode)
    index += UInt32(run.count)
  }
  #expect(throws: DiskFSError.noSpace) { try pair.volume.allocate(1) }
  #expect(index > 150)
  // Even then everything can be deleted.
  while files.count < 30 {
    files.append(Array("f\(files.count)".utf8))
    _ = try pair.volume.create(files[files.count - 1], in: DiskFormat.root, DiskInode(mode: DiskInode.regular))
    if pair.volume.needsCommit { try pair.commit { _ in } }
  }
  try pair.volume.unlink([97], in: DiskFormat.root)
  try pair.volume.deleteOrphan(object)
  for file in files { try pair.volume.unlink(file, in: DiskFormat.root) }
  _ = try deleteOrphans(pair.volume)
  try pair.commit { _ in }
  try pair.commit { _ in }
  #expect(pair.volume.available >= 180)
  #expect(DiskCheck(pair.volume, store: pair.device).problems == [])
}

/// Whatever happens to a block, it is noticed, and nothing stops.
@Test func damageIsNoticed() throws {
  var pair = try Pair(blocks: 400, seed: 5)
  for _ in 0..<600 { try pair.step() }
  try pair.commit { _ in }
  try pair.commit { _ in }
  var random = Random(77)
  var (noticed, opened) = (0, 0)
  for _ in 0..<rounds(30, long: 1000) {
    let device = Device(0)
    device.blocks = pair.device.blocks
    let block = random.below(8) == 0 ? Int(pair.volume.superblock.root.block) : random.below(400)
    for _ in 0...random.below(3) { device.blocks[block][random.below(4096)] ^= UInt8(1 + random.below(255)) }
    guard let volume = try? DiskVolume.open(device, limit: 400) else {
      noticed += 1
      continue
    }
    opened += 1
    let check = DiskCheck(volume, store: device)
    let isUsed = pair.volume.isUsed(UInt32(block)) && block >= 3
    #expect(check.problems.isEmpty == !isUsed)
  }
  #expect(noticed > 0 && opened > 0)
}

/// Structures that are wrong under checksums that are right: errors, never a trap.
@Test(arguments: 1...rounds(2, long: 20)) func hostileVolumes(seed: Int) throws {
  var pair = try Pair(blocks: 300, seed: UInt64(40 + seed))
  for _ in 0..<500 { try pair.step() }
  try pair.commit { _ in }
  var random = Random(UInt64(seed))
  var errors = 0
  for _ in 0..<rounds(40, long: 1000) {
    let device = Device(0)
    device.blocks = pair.device.blocks
    // The damage, and then the right checksums all the way up.
    Forger(device).forge(&random)
    do {
      let volume = try DiskVolume.open(device, limit: 300)
      _ = DiskCheck(volume, store: device)
      var other = pair
      other.volume = volume
      for _ in 0..<30 { try other.hostileStep() }
      _ = try volume.prepareCommit(time: 1)
    } catch { errors += 1 }
  }
  #expect(errors > 0)
}

extension Pair {
  /// Any operation, with whatever the volume has.
  fileprivate mutating func hostileStep() throws {
    let object = UInt64(1 + random.below(60))
    let (directory, name) = (UInt64(1 + random.below(20)), self.name())
    switch random.below(10) {
    case 0: _ = try volume.create(name, in: directory, DiskInode(mode: DiskInode.regular))
    case 1: try volume.unlink(name, in: directory)
    case 2: try volume.rename(name, in: directory, to: self.name(), in: object)
    case 3: _ = try volume.removePages(object, 0..<(1 << 32))
    case 4: try volume.delete(object)
    case 5:
      let run = try volume.allocate(3)
      _ = try volume.place(UInt32(random.below(100)), run, checksums: run.map { _ in 0 }, of: object)
    case 6: try volume.setAttribute(name, of: object, to: [1, 2, 3])
    case 7: _ = try volume.attributeNames(of: object)
    case 8: _ = try volume.target(object)
    default:
      var position: UInt64 = 0
      while let (at, _) = try volume.entry(from: position, in: directory) { position = at + 1 }
    }
  }
}

/// Changes a byte of a node and mends the checksums of everything above it.
private final class Forger {
  let device: Device
  init(_ device: Device) { self.device = device }

  private func u32(_ block: Int, _ at: Int) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(device.blocks[block][at + $1]) << UInt32($1 * 8) } }
  private func put(_ value: UInt32, _ block: Int, _ at: Int) {
    for index in 0..<4 { device.blocks[block][at + index] = UInt8(truncatingIfNeeded: value >> UInt32(index * 8)) }
  }

  func forge(_ random: inout Random) {
    let newest = [1, 2].max { u32($0, 32) < u32($1, 32) }!
    var path = [(block: Int, at: Int)]()
    var block = Int(u32(newest, 20))
    var level = device.blocks[newest][28]
    while level > 0 {
      let index = random.below(Int(u32(block, 16) >> 16))
      path.append((block, 32 + index * 24 + 20))
      block = Int(u32(block, 32 + index * 24 + 16))
      level -= 1
      if random.below(3) == 0 { break }
    }
    for _ in 0...random.below(4) {
      let at = random.below(3) == 0 ? random.below(4096) : 16 + random.below(600)
      device.blocks[block][at] = random.below(2) == 0 ? UInt8(random.below(256)) : device.blocks[block][at] ^ 1 << UInt8(random.below(8))
    }
    var checksum = sum(device.blocks[block])
    while let (above, at) = path.popLast() {
      put(checksum, above, at)
      checksum = sum(device.blocks[above])
    }
    put(checksum, newest, 24)
    put(0, newest, 8)
    put(sum(device.blocks[newest]), newest, 8)
  }
}
