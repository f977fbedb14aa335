import InputEvents
import Machine
import Sync
import Synchronization
import SystemABI
import Terminal
import Threads
import VFS

/// Of what is known about keys; the keyboard's own state comes behind.
struct KeysRank: LockRank { static let level: UInt8 = 93 }
struct ScreenRank: LockRank { static let level: UInt8 = 94 }

/// The screen of a virtual terminal, shown or not. It exists from its first use on.
final class VirtualScreen: LogScreen, TerminalOutput {
  private(set) var size: (rows: Int, columns: Int)
  private let screen = InterruptSpinLock<Screen?, ScreenRank>(nil)
  private let isShown = Atomic<Bool>(false)
  private static var history: Int { 200 }

  init(rows: Int, columns: Int) { size = (rows, columns) }

  func write(_ bytes: borrowing Span<UInt8>) {
    screen.withLock { $0?.write(bytes) }
    if isShown.load(ordering: .acquiring) { VirtualTerminals.refresh() }
  }

  /// Makes the screen, if there is none: before somebody writes to it with locks held, or a key is pressed.
  func prepare() {
    if screen.withLock({ $0 != nil }) { return }
    let new = make()
    screen.withLock { if $0 == nil { $0 = new } }
  }

  /// Gives it the size that its display has now.
  func resize(rows: Int, columns: Int) {
    size = (rows, columns)
    screen.withLock { $0?.resize(rows: rows, columns: columns) }
  }

  private func make() -> Screen { Screen(rows: size.rows, columns: size.columns, history: Self.history) }

  /// Forgets the screen.
  func dispose() {
    var old: Screen?
    screen.withLock { swap(&$0, &old) }
  }

  /// Runs `body` on the screen. It is there, but for who has just forgotten a terminal that somebody else begins to use.
  func with<Result>(_ body: (inout Screen) -> Result) -> Result {
    screen.withLock { screen in
      if screen == nil { screen = make() }
      return body(&screen!)
    }
  }

  func setShown(_ value: Bool) {
    if value {
      prepare()
      with { $0.touchAll() }
    }
    isShown.store(value, ordering: .releasing)
  }

  // MARK: The kernel's log

  /// A byte of the log, whose lines end in a line feed alone. Left out while the screen is in use: the log may be a panic's.
  override func put(_ byte: UInt8) {
    screen.withLockIfFree { screen in
      let bytes: [2 of UInt8] = [13, byte]
      screen?.write(bytes.span.extracting(byte == 10 ? 0..<2 : 1..<2))
    }
    if byte == 10, isShown.load(ordering: .acquiring) { VirtualTerminals.refresh() }
  }

  /// Brings what has changed to the display.
  func show() { VirtualTerminals.display.value.show(with { ScreenPicture(&$0) }) }

  /// As `show`, whatever it was that happened: where the screen is in use, by who does not go on, it stays as it is.
  override func showNow() {
    var picture: ScreenPicture?
    screen.withLockIfFree { screen in
      guard screen != nil else { return }
      picture = ScreenPicture(&screen!)
    }
    if let picture { VirtualTerminals.display.value.show(picture) }
  }
}

/// /dev/tty1 and so on: a keyboard and a screen that several share, one at a time.
final class VirtualTerminal: TerminalDevice {
  let index: Int
  let screen: VirtualScreen
  let keys = InterruptSpinLock<KeyState, KeysRank>(KeyState())
  struct Settings {
    var keyboard = KeyboardMode.unicode
    /// A program draws on the display itself.
    var isGraphic = false
    /// What the keyboard's lights show instead of its locks.
    var lights: UInt8?
  }
  let settings = InterruptSpinLock<Settings, KeysRank>(Settings())

  init(index: Int, rows: Int, columns: Int) {
    self.index = index
    screen = VirtualScreen(rows: rows, columns: columns)
    super.init(DeviceNumber(major: 4, minor: UInt32(index + 1)), outputs: [screen])
    state.withLock { ($0.rows, $0.columns) = (UInt16(rows), UInt16(columns)) }
  }

  /// The answers to what a program has asked its terminal.
  override func outputWritten() {
    let replies = screen.with { $0.takeReplies() }
    for byte in replies { receive(byte) }
  }

  override func opened(isFirst: Bool) { screen.prepare() }

  /// A screen is as large as its display.
  override func accepts(rows: UInt16, columns: UInt16) -> Bool { screen.size == (Int(rows), Int(columns)) }

  override func controlDevice(_ command: UInt32, _ argument: UInt32) throws(Errno) -> Int32? {
    try control(display: command, argument)
  }

  /// Brings its screen to the display, unless a program draws there itself.
  func show() { if !settings.withLock({ $0.isGraphic }) { screen.show() } }

  var lights: UInt8 { settings.withLock { $0.lights } ?? keys.withLock { $0.lights } }
  var isInUse: Bool { state.withLock { $0.openings > 0 } || VirtualTerminals.active === self }

  /// Output waits, or goes on: scroll lock.
  func setStopped(_ value: Bool) {
    changeFlow { value ? $0.stop() : $0.start() }
  }

  /// Whether a key's scan codes go to the program, or to nobody.
  func takesRaw(_ event: KeyEvent) -> Bool {
    switch settings.withLock({ $0.keyboard }) {
    case .raw: for byte in ScanCodes.bytes(event) { receive(byte) }
    case .off: break
    default: return false
    }
    return true
  }

  /// Whether a key's code goes to the program.
  func takesCode(_ event: KeyEvent) -> Bool {
    guard settings.withLock({ $0.keyboard }) == .codes else { return false }
    receive(event.isPressed ? event.code : event.code | 0x80)
    return true
  }

  /// A key's bytes, as the modes want them.
  func type(_ bytes: [UInt8]) {
    if bytes.isEmpty { return }
    screen.with { $0.scrollBack(-$0.offset) }
    for byte in bytes { receive(byte) }
  }

  func scrollBack(pages: Int) {
    screen.with { $0.scrollBack(pages * $0.rows / 2) }
    VirtualTerminals.refresh()
  }
}
