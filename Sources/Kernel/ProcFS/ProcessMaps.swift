import Machine
import Memory
import Primitives
import Processes
import Sync
import SystemABI
import Threads
import VFS

/// /proc/PID/maps, smaps and smaps_rollup: areas of memory, and what of them is there. SPEC: proc_pid_maps(5), proc_pid_smaps(5).
enum ProcessMaps {
  /// Bytes of an area that have a page, by who else has it and whether it was written to.
  struct Residency {
    var present: UInt64 = 0
    /// Each page by how many share it.
    var proportional: UInt64 = 0
    var shared: UInt64 = 0
    var sharedDirty: UInt64 = 0
    var privateDirty: UInt64 = 0
    var anonymous: UInt64 = 0

    static func += (sum: inout Residency, more: Residency) {
      sum.present += more.present
      sum.proportional += more.proportional
      sum.shared += more.shared
      sum.sharedDirty += more.sharedDirty
      sum.privateDirty += more.privateDirty
      sum.anonymous += more.anonymous
    }
  }

  private static func residency(_ area: Area<MappedFile>, in table: PageTable) -> Residency {
    var sum = Residency()
    for page in stride(from: area.start, to: area.end, by: pageSize) {
      let entry = table.entry(page)
      if entry & PageBits.present == 0 || entry & PageBits.device != 0 { continue }
      let frame = PageTable.frame(of: entry)
      let isCached = area.backing != nil && (area.shared || !area.hasBeenWritable || entry & PageBits.writable == 0)
      // The page cache has a reference, too.
      let users = max(1, UInt64(Frames.referenceCount(frame)) - (isCached ? 1 : 0))
      let isDirty = entry & PageBits.dirty != 0 || !isCached
      sum.present += 4096
      sum.proportional += 4096 / users
      if users > 1 {
        sum.shared += 4096
        if isDirty { sum.sharedDirty += 4096 }
      } else if isDirty {
        sum.privateDirty += 4096
      }
      if !isCached { sum.anonymous += 4096 }
    }
    return sum
  }

  static func residency(of space: AddressSpace) -> Residency {
    space.state.withLock { state in
      var sum = Residency()
      for area in state.areas.areas { sum += residency(area, in: space.table) }
      return sum
    }
  }

  static func maps(_ subject: Subject) throws(Errno) -> [UInt8] {
    var text = Text()
    guard let space = subject.process.space else { return [] }
    let (areas, heap) = space.state.withLock { ($0.areas.areas, $0.brkStart..<max($0.brkStart, $0.brk)) }
    for area in areas { addLine(area, heap: heap, to: &text) }
    return text.bytes
  }

  static func smaps(_ subject: Subject) throws(Errno) -> [UInt8] {
    var text = Text()
    guard let space = subject.process.space else { return [] }
    let (all, heap) = space.state.withLock { state in
      (state.areas.areas.map { ($0, residency($0, in: space.table)) }, state.brkStart..<max(state.brkStart, state.brk))
    }
    for (area, residency) in all {
      addLine(area, heap: heap, to: &text)
      text.addSize("Size", kilobytes: UInt64(area.end - area.start) / 1024)
      text.addSize("KernelPageSize", kilobytes: 4)
      text.addSize("MMUPageSize", kilobytes: 4)
      add(residency, to: &text)
    }
    return text.bytes
  }

  static func rollup(_ subject: Subject) throws(Errno) -> [UInt8] {
    var text = Text()
    guard let space = subject.process.space else { return [] }
    let areas = space.state.withLock { $0.areas.areas }
    guard let first = areas.first, let last = areas.last else { return [] }
    text.add(hex: UInt64(first.start), width: 8)
    text.add("-")
    text.add(hex: UInt64(last.end), width: 8)
    text.add(" ---p 00000000 00:00 0                          [rollup]\n")
    add(residency(of: space), to: &text)
    return text.bytes
  }

  private static func add(_ residency: Residency, to text: inout Text) {
    let ownPages = residency.present - residency.shared
    for (name, size) in [
      ("Rss" as StaticString, residency.present), ("Pss", residency.proportional),
      ("Shared_Clean", residency.shared - residency.sharedDirty),
      ("Shared_Dirty", residency.sharedDirty), ("Private_Clean", ownPages - residency.privateDirty),
      ("Private_Dirty", residency.privateDirty), ("Anonymous", residency.anonymous), ("Swap", 0),
    ] {
      text.addSize(name, kilobytes: size / 1024)
    }
  }

  /// `08048000-08050000 r-xp 00001000 08:01 1234    /bin/cat`, with the name in column 74.
  private static func addLine(_ area: Area<MappedFile>, heap: Range<UInt32>, to text: inout Text) {
    let start = text.bytes.count
    text.add(hex: UInt64(area.start), width: 8)
    text.add("-")
    text.add(hex: UInt64(area.end), width: 8)
    text.add(" ")
    text.bytes += [area.readable ? 114 : 45, area.writable ? 119 : 45, area.executable ? 120 : 45, area.shared ? 115 : 112]
    text.add(" ")
    text.add(hex: area.backing == nil ? 0 : UInt64(area.pageOffset) << 12, width: 8)
    let device = DeviceNumber(rawValue: area.backing?.inode.fileSystem.deviceNumber ?? 0)
    text.add(" ")
    text.add(hex: UInt64(device.major), width: 2)
    text.add(":")
    text.add(hex: UInt64(device.minor), width: 2)
    text.add(" ")
    text.add(area.backing?.inode.number ?? 0)
    if let name = name(area, heap: heap) {
      text.add(" ")
      while text.bytes.count - start < 49 { text.bytes.append(32) }
      text.add(name)
    }
    text.add("\n")
  }

  private static func name(_ area: Area<MappedFile>, heap: Range<UInt32>) -> [UInt8]? {
    switch area.kind {
    case .stack: return Array("[stack]".utf8)
    case .vdso: return Array("[vdso]".utf8)
    case .time: return Array("[vvar]".utf8)
    case .ordinary: break
    }
    if let backing = area.backing { return backing.path.map { $0.shownText(of: backing.inode) } }
    return area.start < heap.upperBound && area.end > heap.lowerBound ? Array("[heap]".utf8) : nil
  }
}

extension Path {
  /// What the caller sees of an open or mapped file's place.
  func shownText(of inode: Inode?) -> [UInt8] {
    if let text = namelessText { return text }
    let text = text(root: Task.currentTask.process.pathContext.root) ?? Array("(unreachable)".utf8)
    return inode === dentry.inode && !dentry.isGone ? text : text + Array(" (deleted)".utf8)
  }
}
