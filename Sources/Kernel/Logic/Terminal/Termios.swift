/// Terminal settings, as `struct termios` of Linux/i386 holds them. SPEC: Linux uapi asm-generic/termbits.h.
public struct Termios: Sendable {
  public var input: UInt32
  public var output: UInt32
  public var control: UInt32
  public var local: UInt32
  public var discipline: UInt8 = 0
  /// The 19 control characters of `c_cc`.
  public var characters: [19 of UInt8]

  // c_iflag
  public static let ignoreCR: UInt32 = 0o200, crToNL: UInt32 = 0o400, nlToCR: UInt32 = 0o100
  public static let strip: UInt32 = 0o40, startStop: UInt32 = 0o2000, utf8: UInt32 = 0o40000
  // c_oflag
  public static let postProcess: UInt32 = 1, nlToCRNL: UInt32 = 4, crToNLOutput: UInt32 = 8, noCRAtStart: UInt32 = 0o20
  // c_lflag
  public static let signals: UInt32 = 1, canonical: UInt32 = 2, echo: UInt32 = 8, echoErase: UInt32 = 0o20
  public static let echoKill: UInt32 = 0o40, echoNL: UInt32 = 0o100, noFlush: UInt32 = 0o200, toStop: UInt32 = 0o400
  public static let echoControl: UInt32 = 0o1000, echoKillErase: UInt32 = 0o4000, extended: UInt32 = 0o100000
  // c_cc
  public static let interrupt = 0, quit = 1, erase = 2, kill = 3, endOfFile = 4, time = 5, minimum = 6, start = 8
  public static let stop = 9, suspend = 10, endOfLine = 11, reprint = 12, wordErase = 14, literalNext = 15, endOfLine2 = 16

  /// What `stty sane` gives.
  public init() {
    input = Self.crToNL | Self.startStop | Self.utf8
    output = Self.postProcess | Self.nlToCRNL
    control = 0o2277  // B38400 is written by the driver; CS8, CREAD, HUPCL
    local =
      Self.signals | Self.canonical | Self.echo | Self.echoErase | Self.echoKill | Self.echoControl
      | Self.echoKillErase | Self.extended
    characters = [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0]
  }

  /// Whether ^S stops output and ^Q lets it go on.
  public var stopsAsUsual: Bool { has(input: Self.startStop) && characters[Self.start] == 17 && characters[Self.stop] == 19 }

  public func has(local flag: UInt32) -> Bool { local & flag != 0 }
  public func has(input flag: UInt32) -> Bool { input & flag != 0 }
  public func has(output flag: UInt32) -> Bool { output & flag != 0 }
}
