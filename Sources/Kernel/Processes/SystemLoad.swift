import Scheduling
import Sync
import Threads
import VFS

/// The load averages of /proc/loadavg and sysinfo(2).
public enum SystemLoad {
  private static let cell = BootCell<SpinLock<LoadAverage, LeafRank>>()

  public static func start() { cell.set(SpinLock(LoadAverage())) }

  /// Counts the runnable threads; to be called every five seconds.
  public static func sample(runnable: Int) {
    cell.value.withLock { $0.sample(runnable: runnable) }
  }

  /// The average over 1, 5 or 15 minutes (index 0, 1 or 2), in 65536ths.
  public static func fixedPoint(_ index: Int) -> UInt32 { cell.value.withLock { $0.fixedPoint(index) } }

  /// The average, in hundredths.
  public static func hundredths(_ index: Int) -> UInt32 { cell.value.withLock { $0.hundredths(index) } }
}
