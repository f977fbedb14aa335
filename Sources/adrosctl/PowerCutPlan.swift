import Foundation

/// Steps for the guest program `powercut`, and what must be there after some of them.
struct PowerCutPlan {
  private(set) var steps: [String] = []
  let blockSize: Int
  static let folders = ["a", "b", "c"]
  private static let stepCount = 500

  /// A file, whatever its names.
  private final class File {
    var content: [UInt8] = []
    /// The step that changed it last, and the last that brought it to the disk.
    var changed = 0
    var synchronised = -1
    /// The step that changed its content, not only its names.
    var written = 0
  }
  private var random: SeededNumbers
  /// Each step is on stable storage when it is done.
  private let isSynchronous: Bool

  /// - Parameter links: Whether the file system lets a file have several names.
  init(seed: UInt64, links: Bool, isSynchronous: Bool) {
    self.isSynchronous = isSynchronous
    random = SeededNumbers(state: seed &* 7919 &+ 5)
    blockSize = [1024, 4096][Int(seed % 2)]
    var files: [String: File] = [:]
    var names = 0
    func step(_ text: String) { steps.append(text) }
    for _ in 0..<Self.stepCount {
      let known = files.keys.sorted()
      let name = known.randomElement(using: &random)
      switch Int.random(in: 0..<20, using: &random) {
      case 0..<5:
        names += 1
        let new = Self.folders.randomElement(using: &random)! + "/f\(names)"
        files[new] = File()
        step("write \(new) 0 \(length()) \(names)")
      case 5..<8:
        guard let name else { continue }
        step("write \(name) \(Int.random(in: 0..<60_000, using: &random)) \(length()) \(names)")
      case 8, 9:
        guard let name else { continue }
        step("truncate \(name) \(Int.random(in: 0..<80_000, using: &random))")
      case 10, 11:
        guard let name else { continue }
        // Over another at times.
        let new =
          Bool.random(using: &random) ? known.randomElement(using: &random)! : Self.folders.randomElement(using: &random)! + "/r\(names)"
        if new == name || files[new] === files[name] { continue }
        names += 1
        step("rename \(name) \(new)")
        files[new] = files[name]
        files[name] = nil
      case 12:
        guard let name, links else { continue }
        names += 1
        let new = Self.folders.randomElement(using: &random)! + "/l\(names)"
        step("link \(name) \(new)")
        files[new] = files[name]
      case 13, 14:
        guard let name else { continue }
        step("unlink \(name)")
        files[name] = nil
      case 15..<19:
        guard let name, !isSynchronous else { continue }
        step("fsync \(name)")
      default: if !isSynchronous { step("sync") }
      }
    }
    step("sync")
  }

  private mutating func length() -> Int {
    Int.random(in: 0..<10, using: &random) == 0 ? Int.random(in: 0..<400_000, using: &random) : Int.random(in: 0..<20_000, using: &random)
  }

  /// As the guest programs have it.
  static func content(_ range: Range<Int>, _ seed: Int) -> [UInt8] {
    range.map {
      UInt8(truncatingIfNeeded: Int32(truncatingIfNeeded: $0) &* 31 ^ Int32(truncatingIfNeeded: ($0 >> 9) &* seed) ^ Int32(seed))
    }
  }

  private func isMark(_ step: String) -> Bool { isSynchronous || step.hasPrefix("fsync") || step == "sync" }
  var lastMark: Int { steps.count - 1 }

  enum Expectation {
    /// With this content.
    case there([UInt8])
    case gone
    /// Taken away by a step that may not have reached the disk: if it is there, with its old content.
    case goneOr([UInt8])
  }

  /// What must be found after a cut when the mark of step `mark` was written, by name. What later steps, up to the next mark, have
  /// written to may be old or new, and is not among it.
  func durable(after mark: Int) -> [String: Expectation] {
    // The step of the next mark has changed something, too, where each has one.
    let next = steps.indices.first { $0 > mark && isMark(steps[$0]) } ?? steps.count
    let end = min(next + (isSynchronous ? 1 : 0), steps.count)
    var files: [String: File] = [:]
    /// The step that gave a name its meaning, or took it; and up to which step names in its folder are on the disk.
    var named: [String: Int] = [:]
    var gone: [String: (file: File, named: Int)] = [:]
    var folders: [String: Int] = [:]
    for (number, step) in steps[..<end].enumerated() {
      let words = step.split(separator: " ").map(String.init)
      let name = words.count > 1 ? words[1] : ""
      switch words[0] {
      case "write":
        let file = files[name] ?? File()
        if files[name] == nil {
          files[name] = file
          named[name] = number
          gone[name] = nil
        }
        let (offset, count, seed) = (Int(words[2])!, Int(words[3])!, Int(words[4])!)
        if file.content.count < offset + count { file.content += [UInt8](repeating: 0, count: offset + count - file.content.count) }
        file.content.replaceSubrange(offset..<(offset + count), with: Self.content(offset..<(offset + count), seed))
        (file.changed, file.written) = (number, number)
      case "truncate":
        let (file, size) = (files[name]!, Int(words[2])!)
        file.content = Array(file.content.prefix(size)) + [UInt8](repeating: 0, count: max(0, size - file.content.count))
        (file.changed, file.written) = (number, number)
      case "rename", "link":
        files[words[2]]?.changed = number
        let file = files[name]
        files[words[2]] = files[name]
        files[name]!.changed = number
        named[words[2]] = number
        gone[words[2]] = nil
        if words[0] == "rename" {
          files[name] = nil
          gone[name] = file.map { ($0, named[name]!) }
          named[name] = number
        }
      case "unlink":
        files[name]!.changed = number
        gone[name] = files[name].map { ($0, named[name]!) }
        files[name] = nil
        named[name] = number
      case "fsync" where number <= mark:
        files[name]!.synchronised = number
        folders[Self.folder(name)] = number
      case "sync" where number <= mark:
        for file in files.values { file.synchronised = number }
        for folder in Self.folders { folders[folder] = number }
      default: break
      }
      if isSynchronous, number <= mark {
        for file in Array(files.values) + gone.values.map(\.file) { file.synchronised = number }
        for folder in Self.folders { folders[folder] = number }
      }
    }
    func isDurable(_ synchronised: Int, _ change: Int) -> Bool { isSynchronous ? synchronised >= change : synchronised > change }
    var result: [String: Expectation] = [:]
    for (name, file) in files where isDurable(file.synchronised, file.changed) && isDurable(folders[Self.folder(name)] ?? -1, named[name]!)
    {
      result[name] = .there(file.content)
    }
    for (name, old) in gone {
      let folder = folders[Self.folder(name)] ?? -1
      if isDurable(folder, named[name]!) {
        result[name] = .gone
      } else if isDurable(folder, old.named), isDurable(old.file.synchronised, old.file.written) {
        // The name was this file's on the disk, too; else it may be an earlier one's there.
        result[name] = .goneOr(old.file.content)
      }
    }
    return result
  }

  private static func folder(_ name: String) -> String { String(name.split(separator: "/")[0]) }
}
