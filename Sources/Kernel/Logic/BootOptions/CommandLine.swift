/// The kernel command line: words, `key=value` pairs, quotes, and what is for init.
///
/// SPEC: Linux Documentation/admin-guide/kernel-parameters.rst. Words the kernel does not know go to init: plain ones as
/// arguments, assignments as environment; everything after `--` goes to init as arguments.
public struct CommandLine: Sendable {
  public private(set) var text: [UInt8]
  public private(set) var initArguments: [[UInt8]] = []
  public private(set) var initEnvironment: [[UInt8]] = []
  public var root: [UInt8]?
  public var rootType: [UInt8]?
  public var initPath: [UInt8]?
  public var ramdiskInit: [UInt8]?
  public var readOnly = false
  public var rootWait = false
  public var quiet = false
  public var noAPIC = false
  public var maximumProcessors = 16
  /// `ramdisk_size=`: of each of /dev/ram0 and on.
  public var ramDiskKilobytes: UInt32 = 16384
  /// `ring3`: user mode is what this kernel always runs; accepted so that old command lines work.
  public var ring3 = true
  /// Consoles by name, in order; the last is /dev/console.
  public var consoles: [[UInt8]] = []
  public var kernelConsole = false
  /// `video=1024x768`: the size of the frame buffer in which the console is drawn, in pixels.
  public var video: (width: UInt32, height: UInt32)?

  /// Parses a line as the boot loader passes it. `hasProgramName` drops Multiboot's first word.
  public init(_ line: [UInt8], hasProgramName: Bool) {
    text = line
    var words = Self.split(line)
    if hasProgramName, !words.isEmpty {
      words.removeFirst()
      if let space = line.firstIndex(of: 32) { text = Array(line[(space + 1)...]) } else { text = [] }
    }
    var rest = false
    for word in words {
      if rest {
        initArguments.append(word)
      } else if word == [45, 45] {
        rest = true
      } else {
        take(word)
      }
    }
  }

  /// Words between blanks; double quotes keep blanks and are dropped.
  static func split(_ line: [UInt8]) -> [[UInt8]] {
    var words: [[UInt8]] = []
    var word: [UInt8] = []
    var inWord = false
    var quoted = false
    for byte in line {
      if byte == 34 {
        quoted.toggle()
        inWord = true
      } else if !quoted, byte == 32 || byte == 9 || byte == 10 {
        if inWord { words.append(word) }
        word = []
        inWord = false
      } else {
        word.append(byte)
        inWord = true
      }
    }
    if inWord { words.append(word) }
    return words
  }

  /// `1024x768`, and what may come behind as in Linux: `-32`, `@60`.
  private static func size(_ text: [UInt8]) -> (width: UInt32, height: UInt32)? {
    let numbers = text.prefix { $0 >= 48 && $0 <= 57 || $0 == 120 }.split(separator: 120)
    guard numbers.count == 2, let width = number(Array(numbers[0])), let height = number(Array(numbers[1])), width <= 8192,
      height <= 8192
    else { return nil }
    return (UInt32(width), UInt32(height))
  }

  private mutating func take(_ word: [UInt8]) {
    let equals = word.firstIndex(of: 61)
    let key = Array(word[..<(equals ?? word.count)])
    let value = equals.map { Array(word[($0 + 1)...]) }
    func matches(_ name: StaticString) -> Bool { name.description.utf8.elementsEqual(key) }
    if let value {
      if matches("root") {
        root = value
      } else if matches("rootfstype") {
        rootType = value
      } else if matches("init") {
        initPath = value
      } else if matches("rdinit") {
        ramdiskInit = value
      } else if matches("console") {
        consoles.append(Array(value.prefix { $0 != 44 }))
      } else if matches("video") {
        video = Self.size(value)
      } else if matches("maxcpus") {
        maximumProcessors = Self.number(value) ?? maximumProcessors
      } else if matches("ramdisk_size") {
        ramDiskKilobytes = Self.number(value).map { UInt32($0) } ?? ramDiskKilobytes
      } else if !key.contains(46) {
        initEnvironment.append(word)
      }
      return
    }
    if matches("ro") {
      readOnly = true
    } else if matches("rw") {
      readOnly = false
    } else if matches("rootwait") {
      rootWait = true
    } else if matches("quiet") {
      quiet = true
    } else if matches("noapic") || matches("nolapic") {
      noAPIC = true
    } else if matches("nosmp") {
      maximumProcessors = 1
    } else if matches("ring3") {
      ring3 = true
    } else if matches("kconsole") {
      kernelConsole = true
    } else if !key.contains(46) {
      initArguments.append(word)
    }
  }

  static func number(_ text: [UInt8]) -> Int? {
    guard !text.isEmpty, text.count < 9 else { return nil }
    var value = 0
    for byte in text {
      guard (48...57).contains(byte) else { return nil }
      value = value * 10 + Int(byte - 48)
    }
    return value
  }
}
