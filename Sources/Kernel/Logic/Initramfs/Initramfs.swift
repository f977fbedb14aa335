import Decompression
import Primitives

/// Why the rest of an initramfs is left out.
public enum InitramfsError: Error, Equatable, Sendable {
  case archive(CpioError)
  case packed(DecompressionError)
}

/// An initramfs: archives one behind the other, each plain or packed, with zeros between them.
public enum Initramfs {
  /// Gives `sink` all members, as far as they are whole.
  public static func read<Sink: CpioSink>(_ bytes: borrowing Span<UInt8>, into sink: inout Sink) throws(InitramfsError) {
    var offset = 0
    while offset < bytes.count {
      if bytes[offset] == 0 {
        offset += 1
      } else if let packed = Packed(bytes, at: offset) {
        offset = try unpack(packed, bytes, offset, into: &sink)
      } else {
        offset = try plain(bytes, offset, into: &sink)
      }
    }
  }

  private static func plain<Sink: CpioSink>(
    _ bytes: borrowing Span<UInt8>, _ offset: Int, into sink: inout Sink
  ) throws(InitramfsError) -> Int {
    var stream = CpioStream()
    do throws(CpioError) {
      let end = try stream.feed(bytes, offset..<bytes.count, into: &sink)
      try stream.finish()
      return end
    } catch { throw .archive(error) }
  }

  private static func unpack<Sink: CpioSink>(
    _ packed: Packed, _ bytes: borrowing Span<UInt8>, _ offset: Int, into sink: inout Sink
  ) throws(InitramfsError) -> Int {
    var stream = CpioStream()
    var failure: CpioError?
    let end: Int
    do throws(DecompressionError) {
      end = try packed.unpack(bytes, from: offset) { piece, range in
        var at = range.lowerBound
        while failure == nil, at < range.upperBound {
          do throws(CpioError) { at = try stream.feed(piece, at..<range.upperBound, into: &sink) } catch { failure = error }
        }
      }
    } catch { throw .packed(error) }
    do throws(CpioError) {
      if let failure { throw failure }
      try stream.finish()
    } catch { throw .archive(error) }
    return end
  }
}
