import FAT
import Machine
import Primitives
import Sync
import SystemABI
import Threads
import VFS

/// What is known of free clusters.
struct FATSpace {
  var free: UInt32 = 0
  /// Where to look for one.
  var next = FATGeometry.firstCluster
}

/// A cluster that follows another one in a chain.
struct FATLink {
  let last: UInt32?
  let cluster: UInt32
}

/// The allocation table, and the chains of files in it.
extension FATFS {
  /// Where a cluster's entry is in the first table that counts.
  private func position(of cluster: UInt32, table: UInt32) -> UInt64 {
    UInt64(geometry.tableStart + table * geometry.tableSectors) * 512 + geometry.entryOffset(cluster)
  }

  func entry(_ cluster: UInt32) throws(Errno) -> UInt32 {
    let at = position(of: cluster, table: geometry.tables.lowerBound)
    switch geometry.kind {
    case .fat16: return try readBytes(at) { bytes, offset in UInt32(bytes.u16(offset) ?? 0) }
    case .fat32: return try readBytes(at) { bytes, offset in (bytes.u32(offset) ?? 0) & 0x0FFF_FFFF }
    case .fat12:
      // It may lie on two pages.
      let low = try readBytes(at) { bytes, offset in UInt32(bytes[offset]) }
      let high = try readBytes(at + 1) { bytes, offset in UInt32(bytes[offset]) }
      let value = low | high << 8
      return cluster & 1 == 0 ? value & 0xFFF : value >> 4
    }
  }

  /// In every copy. `space` is held.
  func setEntry(_ cluster: UInt32, _ value: UInt32) throws(Errno) {
    for table in geometry.tables {
      let at = position(of: cluster, table: table)
      switch geometry.kind {
      case .fat16: try changeBytes(at) { bytes, offset in bytes.put16(UInt16(truncatingIfNeeded: value), at: offset) }
      case .fat32:
        try changeBytes(at) { bytes, offset in
          // Four bits are not the entry's.
          let kept = (bytes.span.u32(offset) ?? 0) & 0xF000_0000
          bytes.put32(kept | value & 0x0FFF_FFFF, at: offset)
        }
      case .fat12:
        let isOdd = cluster & 1 != 0
        try changeBytes(at) { bytes, offset in
          bytes[offset] = isOdd ? bytes[offset] & 0x0F | UInt8(truncatingIfNeeded: value << 4) : UInt8(truncatingIfNeeded: value)
        }
        try changeBytes(at + 1) { bytes, offset in
          bytes[offset] = isOdd ? UInt8(truncatingIfNeeded: value >> 4) : bytes[offset] & 0xF0 | UInt8(value >> 8 & 0x0F)
        }
      }
    }
  }

  // MARK: Free clusters

  /// From FAT32's own count where the volume was cleanly unmounted, else by counting.
  func readSpace() throws(Errno) -> FATSpace {
    var space = FATSpace()
    if let sector = geometry.informationSector,
      let hints = try readBytes(UInt64(sector) * 512, { bytes, offset in FATInformation.read(bytes, at: offset, geometry) })
    {
      space.next = hints.next
      if geometry.isClean, let free = hints.free {
        space.free = free
        return space
      }
    }
    var cluster = FATGeometry.firstCluster
    while let found = try firstFree(in: cluster..<geometry.endCluster) {
      space.free += 1
      cluster = found + 1
    }
    return space
  }

  private func firstFree(in range: Range<UInt32>) throws(Errno) -> UInt32? {
    var cluster = range.lowerBound
    while cluster < range.upperBound {
      if geometry.kind == .fat12 {
        if try entry(cluster) == 0 { return cluster }
        cluster += 1
        continue
      }
      // As many as the page has.
      let isWide = geometry.kind == .fat32
      let end = range.upperBound
      let found: UInt32? = try readBytes(position(of: cluster, table: geometry.tables.lowerBound)) { bytes, offset in
        var offset = offset
        while offset < pageSize, cluster < end {
          let value = isWide ? (bytes.u32(offset) ?? 1) & 0x0FFF_FFFF : UInt32(bytes.u16(offset) ?? 1)
          if value == 0 { return cluster }
          offset += isWide ? 4 : 2
          cluster += 1
        }
        return nil
      }
      if let found { return found }
    }
    return nil
  }

  /// Takes a cluster, near `goal` if possible; it ends a chain. `space` is held. Throws `noSpace`.
  private func take(_ space: inout FATSpace, near goal: UInt32) throws(Errno) -> UInt32 {
    let start = geometry.isCluster(goal) ? goal : FATGeometry.firstCluster
    guard space.free > 0 else { throw .noSpace }
    var found = try firstFree(in: start..<geometry.endCluster)
    if found == nil { found = try firstFree(in: FATGeometry.firstCluster..<start) }
    guard let cluster = found else {
      space.free = 0
      throw .noSpace
    }
    try setEntry(cluster, geometry.endMark)
    space.free -= 1
    space.next = cluster + 1
    return cluster
  }

  /// Clusters that will be free.
  var retiredCount: UInt32 { retired.withLock { $0.reduce(0) { $0 + UInt32($1.count) } } }

  /// Clusters that no record and no chain leads to any more in memory.
  func retire(_ clusters: [Range<UInt32>]) {
    if !clusters.isEmpty { retired.withLock { $0 += clusters } }
  }

  /// Writes everything out and returns when it is on stable storage; then clusters that were retired before are free. No lock is held.
  func commit() throws(Errno) {
    let old = retired.withLock { retired in
      let old = retired
      retired = []
      return old
    }
    do throws(Errno) {
      // The records of what was deleted go first.
      try WriteBack.run(self)
      try writeInformation()
      try metadata.writeBack()
      try BlockRequest.flush(disk.disk)
    } catch {
      retire(old)
      throw error
    }
    for range in old {
      for cluster in range {
        try space.withLock { space throws(Errno) in
          guard try entry(cluster) != 0 else { return }
          try setEntry(cluster, 0)
          space.free += 1
        }
      }
    }
  }

  private func writeInformation() throws(Errno) {
    guard let sector = geometry.informationSector else { return }
    let (free, next) = space.withLock { ($0.free, geometry.isCluster($0.next) ? $0.next : FATGeometry.firstCluster) }
    try changeBytes(UInt64(sector) * 512) { bytes, offset in
      if FATInformation.read(bytes.span, at: offset, geometry) != nil {
        FATInformation.write(free: free, next: next, &bytes, at: offset)
      }
    }
  }

  // MARK: Chains

  func clusters(in bytes: UInt64) -> UInt32 { UInt32((bytes + UInt64(geometry.clusterBytes) - 1) / UInt64(geometry.clusterBytes)) }

  /// Chains in more pieces than this are not followed: their runs would fill the kernel's memory.
  private static var mostRuns: Int { 1 << 18 }

  /// Follows a chain until `count` clusters are known, or all.
  func learn(_ clusters: inout FATNode.Clusters, upTo count: UInt32) throws(Errno) {
    while !clusters.isWhole, clusters.chain.count < count {
      let link: FATGeometry.Link
      if let last = clusters.chain.last {
        link = geometry.link(try entry(last))
      } else {
        link = clusters.first == 0 ? .end : .next(clusters.first)
      }
      switch link {
      case .next(let cluster):
        guard clusters.chain.count < geometry.clusterCount, clusters.chain.runCount < Self.mostRuns else {
          throw fault("a chain has no end")
        }
        clusters.chain.append(cluster)
      case .end: clusters.isWhole = true
      case .free, .bad:
        throw fault("a chain leads to cluster \(clusters.chain.last ?? 0), whose entry is none")
      }
    }
  }

  /// Gives a file or directory at least `count` clusters, or leaves it as it was. Throws `noSpace`.
  func grow(_ node: FATNode, to count: UInt32) throws(Errno) {
    try node.clusters.withLock { clusters throws(Errno) in
      try learn(&clusters, upTo: count)
      let before = clusters.chain.count
      do throws(Errno) {
        while clusters.chain.count < count {
          try space.withLock { space throws(Errno) in
            let last = clusters.chain.last
            let cluster = try take(&space, near: last.map { $0 + 1 } ?? space.next)
            if let last { try setEntry(last, cluster) } else { clusters.first = cluster }
            clusters.chain.append(cluster)
          }
        }
      } catch {
        retire(try cut(&clusters, to: before))
        throw error
      }
    }
  }

  /// As `grow`, but on the disk the chain ends where it did until the caller has linked what it got.
  func takeUnlinked(_ node: FATNode, upTo count: UInt32) throws(Errno) -> [FATLink] {
    try node.clusters.withLock { clusters throws(Errno) in
      try learn(&clusters, upTo: .max)
      let before = clusters.chain.count
      var links: [FATLink] = []
      do throws(Errno) {
        while clusters.chain.count < count {
          let last = clusters.chain.last
          let cluster = try space.withLock { space throws(Errno) in try take(&space, near: last.map { $0 + 1 } ?? space.next) }
          if last == nil { clusters.first = cluster }
          links.append(FATLink(last: last, cluster: cluster))
          clusters.chain.append(cluster)
        }
      } catch {
        retire(try cut(&clusters, to: before))
        throw error
      }
      return links
    }
  }

  func link(_ links: [FATLink]) throws(Errno) {
    try space.withLock { _ throws(Errno) in
      for link in links { if let last = link.last { try setEntry(last, link.cluster) } }
    }
  }

  /// Ends a chain behind `count` clusters; the others are the caller's to retire.
  private func cut(_ clusters: inout FATNode.Clusters, to count: UInt32) throws(Errno) -> [Range<UInt32>] {
    let removed = clusters.chain.cut(to: count)
    if removed.isEmpty { return [] }
    if let last = clusters.chain.last {
      try space.withLock { _ throws(Errno) in try setEntry(last, geometry.endMark) }
    } else {
      clusters.first = 0
    }
    return removed
  }

  func takeClusters(of inode: Inode, from count: UInt32) throws(Errno) -> [Range<UInt32>] {
    try node(inode).clusters.withLock { clusters throws(Errno) in
      try learn(&clusters, upTo: .max)
      return try cut(&clusters, to: count)
    }
  }

  // MARK: Files

  public func locate(_ inode: Inode, _ index: UInt32, forWriting: Bool, _ visit: (UInt64?, Range<Int>) -> Void) throws(Errno) {
    let node = node(inode)
    let start = UInt64(index) << 12
    if inode.number == Self.rootNumber, geometry.kind != .fat32 {
      let first = UInt64(geometry.rootSectors.lowerBound) + UInt64(index) * 8
      let count = first < geometry.rootSectors.upperBound ? Int(min(UInt64(geometry.rootSectors.upperBound) - first, 8)) * 512 : 0
      if count > 0 { visit(first, 0..<count) }
      if count < pageSize { visit(nil, count..<pageSize) }
      return
    }
    let clusterBytes = geometry.clusterBytes
    try node.clusters.withLock { clusters throws(Errno) in
      // What a chain has behind the end of its file is somebody's old data. A file becomes shorter before its chain does.
      let end = forWriting ? .max : inode.size
      var offset = 0
      while offset < pageSize {
        let position = start + UInt64(offset)
        let number = UInt32(clamping: position / UInt64(clusterBytes))
        let inside = UInt32(position % UInt64(clusterBytes))
        let count = min(pageSize - offset, Int(clusterBytes - inside))
        var sector: UInt64?
        if position < end {
          try learn(&clusters, upTo: number &+ 1)
          if let cluster = clusters.chain[number] { sector = geometry.firstSector(of: cluster) + UInt64(inside / 512) }
          if sector == nil, !forWriting {
            throw fault("a file is longer than its chain")
          }
        }
        if sector != nil || !forWriting { visit(sector, offset..<offset + count) }
        offset += count
      }
    }
  }

  public func reserve(_ inode: Inode, _ index: UInt32, _ range: Range<Int>) throws(Errno) {
    let start = UInt64(index) << 12 + UInt64(range.lowerBound)
    let end = start + UInt64(range.count)
    guard end <= UInt64(UInt32.max) else { throw .fileTooLarge }
    let size = inode.size
    if start > size { try fill(inode, size..<start) }
    try growOrCommit(node(inode), to: clusters(in: end))
  }

  private func growOrCommit(_ node: FATNode, to count: UInt32) throws(Errno) {
    do throws(Errno) { try grow(node, to: count) } catch {
      guard error == .noSpace, retiredCount > 0 else { throw error }
      try commit()
      try grow(node, to: count)
    }
  }

  /// There are no holes: what a file grows by is zeros.
  private func fill(_ inode: Inode, _ range: Range<UInt64>) throws(Errno) {
    let node = node(inode)
    var position = range.lowerBound
    do throws(Errno) {
      while position < range.upperBound {
        let index = UInt32(position >> 12)
        let next = min(UInt64(index + 1) << 12, range.upperBound)
        let frame = try inode.page(index)
        defer { Frames.release(frame) }
        try growOrCommit(node, to: clusters(in: next))
        inode.markDirty(index)
        position = next
        if index & 0xFF == 0xFF, WriteBack.isDue { WriteBack.relieve(inode, written: 1 << 20) }
      }
    } catch {
      inode.dropPages(from: UInt32((range.lowerBound + 4095) >> 12))
      if let rest = try? takeClusters(of: inode, from: clusters(in: range.lowerBound)) { retire(rest) }
      throw error
    }
  }

  public func resize(_ inode: Inode, to size: UInt64) throws(Errno) {
    guard size <= UInt64(UInt32.max) else { throw .fileTooLarge }
    let old = inode.size
    if size > old { return try fill(inode, old..<size) }
    let removed = try takeClusters(of: inode, from: clusters(in: size))
    try attributesChanged(inode)
    retire(removed)
  }
}
