import Machine
import Sync
import SystemABI
import Threads
import VFS

/// /dev/kbd: the keyboard's bytes as they come, scan codes of set 1, for games. A read waits for the first one, unless it must not.
final class ScanCodeDevice: Device {
  private let readers = InterruptSpinLock<[OpenScanCodes], InputRank>([])
  fileprivate let changed = WaitQueue()

  func open(_ inode: Inode, flags: UInt32) throws(Errno) -> any OpenFile {
    let reader = OpenScanCodes(self)
    readers.withLock { $0.append(reader) }
    return reader
  }

  fileprivate func remove(_ reader: OpenScanCodes) { readers.withLock { $0.removeAll { $0 === reader } } }

  /// Interrupt-safe.
  func put(_ byte: UInt8) {
    readers.withLock { for reader in $0 { reader.put(byte) } }
    changed.wake()
  }
}

private final class OpenScanCodes: OpenFile {
  private struct Ring: ~Copyable {
    var bytes: InlineArray<256, UInt8> = .init(repeating: 0)
    var first = 0, count = 0
  }
  private let device: ScanCodeDevice
  private let ring = InterruptSpinLock<Ring, InputReaderRank>(Ring())

  init(_ device: ScanCodeDevice) { self.device = device }

  func close(_ description: FileDescription) { device.remove(self) }

  /// The oldest bytes go when nobody reads them.
  func put(_ byte: UInt8) {
    ring.withLock { ring in
      ring.bytes[(ring.first + ring.count) % 256] = byte
      if ring.count < 256 { ring.count += 1 } else { ring.first = (ring.first + 1) % 256 }
    }
  }

  func read(_ buffer: inout IOBuffer, at offset: UInt64, _ description: FileDescription) throws(Errno) -> Int {
    let wanted = buffer.count
    if wanted == 0 { return 0 }
    let bytes: [UInt8] = try device.changed.wait(orFail: description.isNonBlocking, reason: "keyboard read") {
      ring.withLock { ring in
        let count = min(wanted, ring.count)
        if count == 0 { return nil }
        let bytes = (0..<count).map { ring.bytes[(ring.first + $0) % 256] }
        ring.first = (ring.first + count) % 256
        ring.count -= count
        return bytes
      }
    }
    return try buffer.put(bytes.span)
  }

  func poll(_ table: PollTable?) -> PollEvents {
    table?.add(device.changed)
    return ring.withLock { $0.count > 0 } ? [.readable, .normalRead] : []
  }
}
