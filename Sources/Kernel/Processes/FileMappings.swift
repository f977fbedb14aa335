import Machine
import Memory
import Sync
import Threads
import VFS

/// Where files are mapped: what the VFS wants done in page tables.
///
/// It goes through all processes, which only inodes with such mappings make it do. A space is found there before its first
/// instruction runs, and until then it has no writable page of a file.
public final class FileMappings: PageMapper {
  @export(interface) public static func start() { PageMappers.shared.set(FileMappings()) }

  private func forEachSpace(_ body: (AddressSpace) -> Void) {
    for process in ProcessTable.shared.all() {
      if let space = process.space { body(space) }
    }
  }

  public override func writeProtect(_ inode: Inode) {
    forEachSpace { space in
      space.state.withLock { state in
        for area in state.areas.areas where area.shared && area.backing?.inode === inode { space.table.writeProtect(area.range) }
      }
    }
  }

  public override func unmapShared(_ inode: Inode, _ pages: Range<UInt32>) {
    forEachSpace { space in
      space.state.withLock { state in
        for area in state.areas.areas where area.shared && area.backing?.inode === inode {
          let mapped = area.pageOffset..<UInt32(clamping: UInt64(area.pageOffset) + UInt64(area.range.count >> 12))
          let part = pages.clamped(to: mapped)
          if part.isEmpty { continue }
          let start = area.start + (part.lowerBound - mapped.lowerBound) << 12
          space.table.unmap(start..<(start + UInt32(part.count) << 12))
        }
      }
    }
  }

  public override func unmap(_ inode: Inode, from first: UInt32) {
    forEachSpace { space in
      space.state.withLock { state in
        for area in state.areas.areas where area.backing?.inode === inode {
          let end = area.pageOffset &+ UInt32(area.range.count >> 12)
          if end <= first { continue }
          let start = first > area.pageOffset ? area.start + (first - area.pageOffset) << 12 : area.start
          space.table.unmap(start..<area.end)
        }
      }
    }
  }
}
