import CMachine

/// How the processor caches memory. SPEC: Intel SDM 3A §13.12, page attribute table.
public enum MemoryTypes {
  // SAFETY: set while the first processor starts, before others do.
  nonisolated(unsafe) private static var hasTable = false

  /// The bits of a page whose writes may be collected; uncached where the processor cannot do that.
  static var combiningBits: UInt64 { unsafe hasTable ? PageBits.writeCombining : PageBits.cacheDisable }

  /// Makes entry 1 of the table, which nobody uses as write-through, one that collects writes. On every processor.
  static func start() {
    guard unsafe cpuid(1, 0).edx & 1 << 16 != 0 else { return }
    // SAFETY: no page has been mapped with that entry: no line of it can be in a cache.
    unsafe msr_write(0x277, msr_read(0x277) & ~0xFF00 | 0x0100)
    unsafe hasTable = true
  }
}
