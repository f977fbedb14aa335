import CMachine
import Sync

/// The kernel log: a ring of bytes that `dmesg` reads, echoed to the early console.
public enum KernelLog {
  public static var capacity: Int { 32768 }
  private static let lock = RawSpinLock()
  nonisolated(unsafe) private static var written: UInt32 = 0
  nonisolated(unsafe) private static var lineStart = true
  /// Where a driver that knows the screen gets a copy of each byte; set once at boot.
  public static let screen = BootCell<LogScreen>()

  fileprivate static func put(_ byte: UInt8) {
    // SAFETY: called with `lock` held; the ring is 32 KiB of static storage and the index is masked.
    unsafe withUnsafeMutablePointer(to: &log_ring) { ring in
      unsafe UnsafeMutableRawPointer(ring).storeBytes(of: byte, toByteOffset: Int(written & 0x7FFF), as: UInt8.self)
    }
    unsafe written &+= 1
    EarlyConsole.put(byte)
    if screen.isSet { screen.value.put(byte) }
  }

  private static func putDecimal(_ value: UInt32, width: Int) {
    var digits: InlineArray<10, UInt8> = .init(repeating: 48)
    var rest = value
    var count = 0
    repeat {
      digits[count] = UInt8(48 + rest % 10)
      rest /= 10
      count += 1
    } while rest > 0
    for position in stride(from: max(count, width) - 1, through: 0, by: -1) {
      put(position < count ? digits[position] : 48)
    }
  }

  /// Appends text; each new line gets the time since boot, as Linux prints it.
  static func append(_ bytes: Span<UInt8>) {
    // SAFETY: interrupts are restored; the lock makes lines of several CPUs whole.
    let flags = unsafe interrupts_save()
    lock.acquire()
    for index in bytes.indices {
      if unsafe lineStart {
        unsafe lineStart = false
        let microseconds = Clock.monotonic / 1000
        put(91)
        putDecimal(UInt32(truncatingIfNeeded: microseconds / 1_000_000), width: 5)
        put(46)
        putDecimal(UInt32(microseconds % 1_000_000), width: 6)
        put(93)
        put(32)
      }
      put(bytes[index])
      if bytes[index] == 10 { unsafe lineStart = true }
    }
    lock.release()
    unsafe interrupts_restore(flags)
  }

  /// The bytes still in the ring, oldest first.
  public static func contents() -> [UInt8] {
    let count = unsafe Int(min(written, UInt32(capacity)))
    var result: [UInt8] = []
    result.reserveCapacity(count)
    let flags = unsafe interrupts_save()
    lock.acquire()
    let first = unsafe written &- UInt32(count)
    for index in 0..<UInt32(count) {
      // SAFETY: masked index into static storage.
      result.append(
        unsafe withUnsafePointer(to: &log_ring) { ring in
          unsafe UnsafeRawPointer(ring).load(fromByteOffset: Int((first &+ index) & 0x7FFF), as: UInt8.self)
        })
    }
    lock.release()
    unsafe interrupts_restore(flags)
    return result
  }

  /// Breaks the lock and stops timestamps: only for a panic.
  static func seize() { lock.release() }
}

/// A screen that shows the log.
open class LogScreen {
  public init() {}
  open func put(_ byte: UInt8) {}
  /// Brings all of it to the display.
  open func showNow() {}
}

/// Writes one line to the kernel log.
public func log(_ text: String) {
  var text = text
  text += "\n"
  text.utf8Span.span.withLog()
}

extension Span where Element == UInt8 {
  fileprivate func withLog() { KernelLog.append(self) }
}

/// `value` in hexadecimal with `0x`, padded to `width` digits.
public func hex(_ value: UInt64, width: Int = 8) -> String {
  var digits: [UInt8] = []
  var rest = value
  repeat {
    let digit = UInt8(rest & 15)
    digits.append(digit < 10 ? 48 + digit : 87 + digit)
    rest >>= 4
  } while rest > 0
  var result = "0x"
  for _ in 0..<max(0, width - digits.count) { result += "0" }
  for digit in digits.reversed() { result.unicodeScalars.append(Unicode.Scalar(digit)) }
  return result
}

public func hex(_ value: UInt32, width: Int = 8) -> String { hex(UInt64(value), width: width) }
