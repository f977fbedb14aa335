import Sync
import SystemABI
import Threads
import VFS

/// What a file of an overlay is in its layers.
final class OverlayNode: FileLayers {
  struct State {
    /// Where a directory is in the upper layer.
    var upper: Path?
    /// The number of the directory that it is in, for `..`.
    var parent: UInt64
    /// What several layers together have in a directory, until something changes there.
    var entries: [OverlayEntry]?
  }
  /// Where a directory is in the lower layers, topmost first; nothing of what an opaque one hides.
  let lowers: [Path]
  private let state: SpinLock<State, LeafRank>

  init(_ real: Inode, upper: Path?, isUpper: Bool, lowers: [Path], parent: UInt64) {
    self.lowers = lowers
    state = SpinLock(State(upper: upper, parent: parent))
    super.init(real, isUpper: isUpper)
  }

  var upper: Path? { state.withLock { $0.upper } }
  var parent: UInt64 {
    get { state.withLock { $0.parent } }
    set { state.withLock { $0.parent = newValue } }
  }
  var entries: [OverlayEntry]? {
    get { state.withLock { $0.entries } }
    set {
      let old = state.withLock { state in
        let old = state.entries
        state.entries = newValue
        return old
      }
      _ = old  // goes outside the lock
    }
  }

  /// The directory's places in all layers, topmost first.
  var places: [(path: Path, isUpper: Bool)] {
    let below = lowers.map { (path: $0, isUpper: false) }
    return if let upper { [(upper, true)] + below } else { below }
  }

  /// It is in the upper layer now, a directory at `path`.
  func rise(to copy: Inode, at path: Path?) {
    state.withLock { $0.upper = path }
    rise(to: copy)
  }
}

/// A name in a directory of several layers.
struct OverlayEntry {
  let name: [UInt8]
  /// Where listing finds it: from the name's hash, so that it stays where it is while others come and go.
  var position: UInt32
  let number: UInt64
  let type: UInt32
}
