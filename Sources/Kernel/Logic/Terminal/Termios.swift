/// Terminal settings, as `struct termios` of Linux/i386 holds them. SPEC: Linux uapi asm-generic/termbits.h.
public struct Termios: Sendable {
  public var input: UInt32
  public var output: UInt32
  public var control: UInt32
  public var local: UInt32
  public var discipline: UInt8 = 0
  /// The 19 control characters of `c_cc`.
  public var characters: [19 of UInt8]
  /// `c_ispeed` and `c_ospeed`, in bits a second.
  public var inputSpeed: UInt32 = 38400
  public var outputSpeed: UInt32 = 38400

  // c_iflag
  public static let ignoreBreak: UInt32 = 1, breakInterrupts: UInt32 = 2, ignoreParity: UInt32 = 4, markParity: UInt32 = 0o10
  public static let checkParity: UInt32 = 0o20, strip: UInt32 = 0o40, nlToCR: UInt32 = 0o100, ignoreCR: UInt32 = 0o200
  public static let crToNL: UInt32 = 0o400, toLowerCase: UInt32 = 0o1000, startStop: UInt32 = 0o2000
  public static let anyStarts: UInt32 = 0o4000, stopsSender: UInt32 = 0o10000, fullBell: UInt32 = 0o20000, utf8: UInt32 = 0o40000
  // c_oflag
  public static let postProcess: UInt32 = 1, toUpperCase: UInt32 = 2, nlToCRNL: UInt32 = 4, crToNLOutput: UInt32 = 8
  public static let noCRAtStart: UInt32 = 0o20, nlReturns: UInt32 = 0o40, tabs: UInt32 = 0o14000
  // c_cflag
  public static let speeds: UInt32 = 0o10017, otherSpeed: UInt32 = 0o10000, size: UInt32 = 0o60, size8: UInt32 = 0o60
  public static let twoStopBits: UInt32 = 0o100, receives: UInt32 = 0o200, parity: UInt32 = 0o400, oddParity: UInt32 = 0o1000
  public static let hangUpOnClose: UInt32 = 0o2000, local: UInt32 = 0o4000, stickParity: UInt32 = 0x4000_0000
  public static let requestToSend: UInt32 = 0x8000_0000
  // c_lflag
  public static let signals: UInt32 = 1, canonical: UInt32 = 2, echo: UInt32 = 8, echoErase: UInt32 = 0o20
  public static let echoKill: UInt32 = 0o40, echoNL: UInt32 = 0o100, noFlush: UInt32 = 0o200, toStop: UInt32 = 0o400
  public static let echoControl: UInt32 = 0o1000, echoPrint: UInt32 = 0o2000, echoKillErase: UInt32 = 0o4000
  public static let extended: UInt32 = 0o100000, external: UInt32 = 0o200000
  // c_cc
  public static let interrupt = 0, quit = 1, erase = 2, kill = 3, endOfFile = 4, time = 5, minimum = 6, start = 8
  public static let stop = 9, suspend = 10, endOfLine = 11, reprint = 12, wordErase = 14, literalNext = 15, endOfLine2 = 16

  /// What `stty sane` gives.
  public init() {
    input = Self.crToNL | Self.startStop | Self.utf8
    output = Self.postProcess | Self.nlToCRNL
    control = 15 | Self.size8 | Self.receives | Self.hangUpOnClose
    local =
      Self.signals | Self.canonical | Self.echo | Self.echoErase | Self.echoKill | Self.echoControl
      | Self.echoKillErase | Self.extended
    characters = [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0]
  }

  /// No setting and no character.
  public static var none: Termios {
    var none = Termios()
    (none.input, none.output, none.control, none.local) = (0, 0, 0, 0)
    none.characters = .init(repeating: 0)
    return none
  }

  /// Takes from `old` what `locked` has a bit for, or a character. SPEC: tty_ioctl(4), TIOCSLCKTRMIOS.
  public mutating func keep(_ locked: Termios, of old: Termios) {
    input = input & ~locked.input | old.input & locked.input
    output = output & ~locked.output | old.output & locked.output
    control = control & ~locked.control | old.control & locked.control
    local = local & ~locked.local | old.local & locked.local
    for index in characters.indices where locked.characters[index] != 0 { characters[index] = old.characters[index] }
  }

  /// Whether ^S stops output and ^Q lets it go on.
  public var stopsAsUsual: Bool { has(input: Self.startStop) && characters[Self.start] == 17 && characters[Self.stop] == 19 }
  /// Whether input is edited, line by line.
  public var isCanonical: Bool { has(local: Self.canonical) && !has(local: Self.external) }

  public func has(local flag: UInt32) -> Bool { local & flag != 0 }
  public func has(input flag: UInt32) -> Bool { input & flag != 0 }
  public func has(output flag: UInt32) -> Bool { output & flag != 0 }
  public func has(control flag: UInt32) -> Bool { control & flag != 0 }

  // MARK: Speeds

  /// What the codes 0 to 15 and 0o10001 on stand for. SPEC: termbits.h, B0 to B4000000.
  private static let slow: [16 of UInt32] = [0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400]
  private static let fast: [15 of UInt32] = [
    57600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000, 2_000_000, 2_500_000,
    3_000_000, 3_500_000, 4_000_000,
  ]
  private static func speed(_ code: UInt32) -> UInt32? {
    if code & otherSpeed == 0 { return slow[Int(code & 15)] }
    return code & 15 == 0 ? nil : fast[Int(code & 15) - 1]
  }

  /// Finds the speeds that `control` names by code. Where it says that they are named otherwise (BOTHER), `other` has them.
  public mutating func takeSpeeds(other: (input: UInt32, output: UInt32)?) {
    outputSpeed = Self.speed(control & Self.speeds) ?? other?.output ?? outputSpeed
    let inputCode = control >> 16 & Self.speeds
    inputSpeed = inputCode == 0 ? outputSpeed : Self.speed(inputCode) ?? other?.input ?? inputSpeed
  }
}
