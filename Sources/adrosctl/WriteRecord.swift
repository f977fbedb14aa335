import Foundation
import ImageKit

/// What QEMU's blklogwrites filter wrote down: the writes and flushes of a disk, in the order of their completion.
///
/// SPEC: Linux Documentation/admin-guide/device-mapper/log-writes.rst.
struct WriteRecord {
  struct Entry {
    /// In sectors of the file system's partition; nil for writes elsewhere.
    var sector: Int?
    var data: Range<Int>
    var isFlush: Bool
    /// The step whose mark this writes.
    var mark: Int?
  }
  private(set) var entries: [Entry] = []
  let bytes: [UInt8]
  /// The file system before the first entry.
  let base: [UInt8]

  private static let magic: UInt64 = 0x6A_7366_7773_6872
  private enum Flags {
    static let flush = 1
    static let discard = 4
  }

  /// - Parameters:
  ///   - partition: The file system's first sector, and `marks` that of the partition behind it.
  init(_ log: Data, base: Data, partition: Int, marks: Int) throws {
    bytes = [UInt8](log)
    self.base = [UInt8](base)
    func word(_ at: Int) -> Int { (0..<8).reduce(0) { $0 | Int(bytes[at + $1]) << ($1 * 8) } }
    guard bytes.count >= 512, UInt64(word(0)) == Self.magic else {
      throw ToolError("the record of writes has no beginning", why: "\(log.count) bytes", hint: "")
    }
    let size = 512
    var at = size
    while at + size <= bytes.count {
      let (sector, count, flags) = (word(at), word(at + 8), word(at + 16))
      if count == 0, flags == 0 { break }
      let hasData = flags & Flags.discard == 0
      let data = (at + size)..<(at + size + (hasData ? count * size : 0))
      guard data.upperBound <= bytes.count else { break }
      var entry = Entry(sector: nil, data: data, isFlush: flags & Flags.flush != 0, mark: nil)
      if count > 0, sector >= partition, sector < marks { entry.sector = sector - partition }
      if count > 0, sector >= marks {
        let text = String(decoding: bytes[data].prefix { $0 != 0 }, as: UTF8.self)
        if text.hasPrefix("mark ") { entry.mark = Int(text.dropFirst(5)) }
      }
      entries.append(entry)
      at = data.upperBound
    }
  }
}

/// A disk with a cache while a record is played back.
struct CutDisk {
  private let record: WriteRecord
  private var random: SeededNumbers
  /// What is safe, and the entries since.
  private var safe: [UInt8]
  private var later: [Int] = []
  private var next = 0
  private(set) var lastMark: Int?

  init(_ record: WriteRecord, _ random: SeededNumbers) {
    self.record = record
    self.random = random
    safe = record.base
  }

  mutating func advance(to place: Int) {
    while next < place {
      let entry = record.entries[next]
      if entry.isFlush {
        for index in later { Self.apply(record, index, to: &safe) { true } }
        later = []
      }
      if entry.sector != nil { later.append(next) }
      if let mark = entry.mark { lastMark = mark }
      next += 1
    }
  }

  private static func apply(_ record: WriteRecord, _ index: Int, to image: inout [UInt8], _ isKept: () -> Bool) {
    let entry = record.entries[index]
    guard let sector = entry.sector else { return }
    for offset in stride(from: 0, to: entry.data.count, by: 4096) where isKept() {
      let count = min(4096, entry.data.count - offset)
      let from = entry.data.lowerBound + offset
      image.replaceSubrange((sector * 512 + offset)..<(sector * 512 + offset + count), with: record.bytes[from..<(from + count)])
    }
  }

  /// One of the images that a cut here may leave: of what is not safe, any pages.
  mutating func image() -> [UInt8] {
    var image = safe
    // At times all or none of it.
    let share = [0, 1, 2, 3, 4].randomElement(using: &random)!
    var random = self.random
    for index in later { Self.apply(record, index, to: &image) { Int.random(in: 0..<4, using: &random) < share } }
    self.random = random
    return image
  }
}
