import Machine
import Sync
import Synchronization
import SystemABI
import Terminal
import Threads
import VFS

struct FontRank: LockRank { static let level: UInt8 = 8 }

/// The virtual terminals: which one is seen, and what brings it to the display.
public enum VirtualTerminals {
  static var count: Int { 6 }
  static let all = BootCell<[VirtualTerminal]>()
  static let display = BootCell<ConsoleDisplay>()
  private static let activeIndex = Atomic<Int>(0)
  private static let wantedIndex = Atomic<Int>(0)
  private static let lastIndex = Atomic<Int>(0)
  /// Woken when another one is seen.
  static let switched = BootCell<WaitQueue>()
  private static let changed = BootCell<WaitQueue>()
  /// Held while the font is changed: all terminals have the display's size then.
  private static let fonts = BootCell<Mutex<Void, FontRank>>()
  private static let isStale = Atomic<Bool>(false)
  private static let hasThread = Atomic<Bool>(false)

  /// Makes the terminals of a display known as /dev/tty1 and on; /dev/tty0 is the one that is seen.
  static func start(_ newDisplay: ConsoleDisplay) {
    display.set(newDisplay)
    switched.set(WaitQueue())
    changed.set(WaitQueue())
    fonts.set(Mutex(()))
    let terminals = (0..<count).map { VirtualTerminal(index: $0, rows: newDisplay.rows, columns: newDisplay.columns) }
    all.set(terminals)
    DeviceRegistry.register("tty0", major: 4, minor: 0, mode: 0o620, ActiveTerminal())
    for terminal in terminals {
      DeviceRegistry.register("tty\(terminal.index + 1)", major: 4, minor: UInt32(terminal.index + 1), mode: 0o620, terminal)
    }
    terminals[0].screen.setShown(true)
    refresh()
  }

  /// The kernel's log is on the terminal that is seen.
  static var log: LogScreen { ActiveScreen() }

  static var active: VirtualTerminal { all.value[activeIndex.load(ordering: .acquiring)] }

  /// The one that is that many behind the one that will be seen: keys come faster than terminals are switched.
  static func activateNext(_ step: Int) { activate((wantedIndex.load(ordering: .acquiring) + step + count) % count) }

  static func activateLast() { activate(lastIndex.load(ordering: .acquiring)) }

  /// Asks for another terminal to be seen, which is so a little later. Interrupt-safe.
  static func activate(_ index: Int) {
    guard index >= 0, index < count else { return }
    wantedIndex.store(index, ordering: .releasing)
    refresh()
  }

  private static func switchIfWanted() {
    let index = wantedIndex.load(ordering: .acquiring)
    let old = activeIndex.load(ordering: .acquiring)
    if old == index { return }
    // It may be new, and memory for it must be found: no key waits for that.
    all.value[index].screen.setShown(true)
    activeIndex.store(index, ordering: .releasing)
    lastIndex.store(old, ordering: .releasing)
    all.value[old].screen.setShown(false)
    switched.value.wake()
    showLights()
  }

  /// The keyboard's lights are those of the terminal that is seen.
  static func showLights() { if Keyboard.shared.isSet { Keyboard.shared.value.show(active.lights) } }

  /// Draws with another font; the terminals get the size that it leaves them. False where that cannot be.
  static func set(_ font: Font) -> Bool {
    let isDone = fonts.value.withLock { _ in
      let display = display.value
      guard display.set(font) else { return false }
      for terminal in all.value {
        terminal.screen.resize(rows: display.rows, columns: display.columns)
        terminal.resize(rows: UInt16(display.rows), columns: UInt16(display.columns), pixels: 0)
      }
      return true
    }
    refresh()
    return isDone
  }

  // MARK: The way to the display

  /// The terminal that is seen has changed. Interrupt-safe.
  static func refresh() {
    guard hasThread.load(ordering: .acquiring), !Panic.isUnderWay else { return active.screen.showNow() }
    if !isStale.exchange(true, ordering: .acquiringAndReleasing) { changed.value.wake() }
  }

  /// From now on a thread shows what has changed: at once what comes alone, and what comes fast at most a hundred times a second.
  @export(interface) public static func startRefreshing() throws(Errno) {
    guard display.isSet else { return }
    let thread = Thread(try ThreadMemory.allocate(user: false)) {
      while true {
        let _: Bool? = try? changed.value.wait(interruptible: false, reason: "display") {
          isStale.exchange(false, ordering: .acquiringAndReleasing) ? true : nil
        }
        switchIfWanted()
        active.show()
        try? Sleep.until(.after(10_000_000), interruptible: false)
      }
    }
    hasThread.store(true, ordering: .releasing)
    Scheduler.begin(thread)
  }
}

private final class ActiveScreen: LogScreen {
  override func put(_ byte: UInt8) { VirtualTerminals.active.screen.put(byte) }
  override func showNow() { VirtualTerminals.active.screen.showNow() }
}

/// /dev/tty0: the terminal that is seen when it is opened.
final class ActiveTerminal: TerminalName {
  var terminal: TerminalDevice { VirtualTerminals.active }
  func open(_ inode: Inode, flags: UInt32) throws(Errno) -> any OpenFile { try terminal.open(inode, flags: flags) }
}
