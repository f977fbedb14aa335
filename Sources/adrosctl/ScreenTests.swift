import Foundation
import ImageKit

/// What a person at the keyboard sees: keys go in through QEMU, and the text screen is looked at.
enum ScreenTests {
  private static let cases: [(name: String, body: @Sendable (Person) async throws -> Void)] = [
    ("a shell's jobs", jobs), ("older lines and other terminals", history), ("vim", vim), ("less", less), ("tmux", tmux),
    ("dialog", dialog), ("whiptail", whiptail), ("top", top), ("script and stty", script), ("colours", colours),
    ("keyboard and mouse", devices), ("key maps", keyMaps),
  ]
  /// The same size twice: VGA's text mode, and a frame buffer that shows 25 rows of 80.
  private static let displays: [(name: String, words: [String])] = [("screen", []), ("frame buffer", ["video=640x400"])]
  static var names: [String] { displays.flatMap { display in cases.map { "\(display.name): \($0.name)" } } }

  /// Boots `command` on the first virtual terminal and lets `body` use the machine.
  static func withMachine(
    _ root: String, _ command: [String], words: [String] = [], _ folder: URL, _ body: (Monitor) async throws -> Void
  ) async throws {
    let initramfs = try RootImage.makeInitramfs(command: command)
    defer { try? FileManager.default.removeItem(at: initramfs) }
    var machine = VirtualMachine(loader: .kernel(Paths.kernel, initramfs: initramfs), log: try Paths.scratch("screen.log"))
    machine.disks = [.init(file: root, interface: "virtio", snapshot: true)]
    machine.commandLine = ["quiet", "root=/dev/vda", "console=ttyS0", "console=tty0"] + words
    try await with(machine, folder, body)
  }

  /// Starts a machine and lets `body` use it.
  static func with(_ prepared: VirtualMachine, _ folder: URL, _ body: (Monitor) async throws -> Void) async throws {
    var machine = prepared
    machine.interactive = false
    let socket = folder.appendingPathComponent("control")
    try? FileManager.default.removeItem(at: socket)
    machine.monitor = socket
    let arguments = machine.arguments
    let emulator = Task { try await Shell.run(arguments, log: try Paths.scratch("screen.console"), timeout: 240) }
    defer { emulator.cancel() }
    let deadline = Date().addingTimeInterval(20)
    while !FileManager.default.fileExists(atPath: socket.path), Date() < deadline { try await Task.sleep(for: .milliseconds(50)) }
    let monitor = try Monitor(socket)
    defer { monitor.quit() }
    try await body(monitor)
  }

  static func run(_ results: Results) async throws {
    let wanted = names.filter { results.selects($0) }
    if wanted.isEmpty { return }
    let packages = [
      "bash", "coreutils", "vim-tiny", "less", "tmux", "dialog", "procps", "ncurses-base", "ncurses-bin", "libc-bin", "bsdutils", "grep",
      "whiptail",
    ]
    guard let tree = try await ProgramTests.unpack(packages, results, "screen: Debian's programs") else { return }
    var root = RootTree()
    try root.addTree(tree)
    root.add(RootEntry(path: "/usr/bin/loadkeys", kind: .file(Paths.program("loadkeys")), mode: 0o755))
    try root.addTree(Paths.inTop("rootfs/usr/share/keymaps"), at: "/usr/share/keymaps")
    let image = try Paths.scratch("screen.ext2")
    try Ext2Image(time: 1_700_000_000, label: "screen", size: 1 << 29).write(root, to: image.path)
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("screen-\(ProcessInfo.processInfo.processIdentifier)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    for display in displays {
      let chosen = cases.filter { results.selects("\(display.name): \($0.name)") }
      if chosen.isEmpty { continue }
      try await withMachine(image.path, ["/bin/bash", "--norc"], words: display.words, folder) { monitor in
        let person = Person(monitor)
        try await person.sees("bash-5.2#")
        try person.type("export TERM=linux LC_ALL=C.UTF-8 SHELL=/bin/bash PS1='> ' HOME=/tmp; cd /tmp; seq 200 > n; clear\n")
        try await person.sees("> ", not: "export")
        for (name, body) in chosen {
          await results.check("\(display.name): \(name)") {
            try person.type("clear\n")
            try await person.sees("> ", not: "clear")
            try await body(person)
          }
        }
      }
    }
  }

  // MARK: What is tried

  private static func jobs(_ person: Person) async throws {
    try await person.command("sleep 100", "sleep 100")
    try person.press("ctrl-z")
    try await person.sees("[1]+  Stopped                 sleep 100")
    try await person.command("bg", "[1]+ sleep 100 &")
    // Who reads in the background is stopped.
    try await person.command("cat & jobs; sleep 0.3", "> ")
    try await person.command("", "Stopped                 cat")
    try await person.command("kill %2; fg %1", "sleep 100\n")
    try person.press("ctrl-c")
    try await person.command("clear; jobs; echo no more", "no more\n> ")
    try person.type("cat\nwords to erase")
    try await person.sees("> cat\nwords to erase")
    try person.press("ctrl-w", "ctrl-w", "backspace", "ctrl-v", "ctrl-a")
    try await person.sees("words^A", not: "words to")
    try person.press("ret")
    try await person.sees("words^A\nwords")
    try person.press("ctrl-d")
    try await person.sees("words^A\nwords\n> ")
  }

  private static func history(_ person: Person) async throws {
    try await person.command("clear; seq 100", "100\n> ")
    try person.press("shift-pgup")
    try await person.sees("70\n71", not: "100\n")
    try person.press("shift-pgdn")
    try await person.sees("100\n> ")
    try person.press("shift-pgup", "x")
    try await person.sees("100\n> x")
    try person.press("backspace", "alt-f2")
    try await person.sees("\n", not: "100")
    try person.press("alt-f1")
    try await person.sees("100\n> ")
    try await person.command("clear; echo seen by tty4 > /dev/tty4", "> ")
    try person.press("ctrl-alt-f4")
    try await person.sees("seen by tty4\n")
    // Faster than terminals are switched.
    try person.press("alt-left", "alt-left", "alt-left")
    try await person.sees("> ", not: "tty4\n\n")
  }

  private static func vim(_ person: Person) async throws {
    try await person.command("vim.tiny -u NONE -N n", "1\n2\n3")
    try person.type(":set nu\n")
    try await person.sees("      1 1\n      2 2")
    try person.type("5dd")
    try await person.sees("      1 6\n      2 7")
    try person.type("Oa new line")
    try person.press("esc")
    try await person.sees("      1 a new line\n      2 6")
    // What moves a line at a time scrolls a part of the screen.
    try person.type("23G")
    try person.press("down", "down", "down")
    try await person.sees("     26 30\n", not: "      1 a")
    try person.type("gg:split\n")
    try await person.sees("n [+]")
    try person.type(":wqa\n")
    try await person.command("clear; head -n 2 n; wc -l n", "a new line\n6\n196 n\n> ")
  }

  private static func less(_ person: Person) async throws {
    try await person.command("seq 200 > n; less n", "1\n2\n3")
    try person.press("spc")
    try await person.sees("25\n26\n27", not: "\n24\n")
    try person.type("/150\n")
    try await person.sees("150\n151\n152")
    try person.press("up", "up")
    try await person.sees("148\n149\n150")
    try person.press("shift-g")
    try await person.sees("199\n200\n(END)")
    try person.press("q")
    try await person.sees("> ")
  }

  private static func tmux(_ person: Person) async throws {
    try await person.command("tmux -f /dev/null new 'bash --norc'", "[0] 0:bash*")
    try person.press("ctrl-b")
    try person.type("%")
    // The line between them is in the screen's middle, from top to bottom.
    let screen = try await person.sees("[0] 0:bash*") { screen in
      (0..<24).allSatisfy { screen[$0, 40].character == "│" }
    }
    let status = screen[24, 0]
    guard status.front == 0, status.back == 0x00AA00 else {
      throw ToolError("the status line is not black on green", why: "it is \(status)", hint: "")
    }
    try person.type("tput cols; tput lines\n")
    try await person.sees("39") { screen in (0..<24).contains { screen.text($0).hasSuffix("39") } }
    try person.press("ctrl-b", "x", "y")
    try await person.sees("[0] 0:bash*") { screen in screen[0, 40].character != "│" }
    try person.type("exit\n")
    try await person.sees("[exited]\n> ")
  }

  private static func dialog(_ person: Person) async throws {
    try await person.command("dialog --menu 'Choose one' 12 40 4 a Apple b Banana c Cherry 2> chosen", "Banana")
    // It throws away what is typed before it is ready. The chosen line is white on blue.
    for text in ["Banana", "Cherry"] {
      try await person.sees(text) { screen in
        if let cell = screen.cell(of: text), cell.front == 0xFFFFFF, cell.back == 0x0000AA { return true }
        try? person.press("down")
        return false
      }
    }
    try person.press("ret")
    try await person.command("clear; cat chosen; echo", "c\n> ")
  }

  private static func whiptail(_ person: Person) async throws {
    try await person.command("whiptail --yesno 'Is it so?' 8 40; echo it is $?", "<No>")
    try person.press("tab", "ret")
    try await person.sees("it is 1\n> ")
  }

  /// What a terminal says of itself, and one within it whose words are kept.
  private static func script(_ person: Person) async throws {
    try await person.command("stty -a | head -1; stty -a | grep -o icanon", "speed 38400 baud; rows 25; columns 80; line = 0;\nicanon\n> ")
    try await person.command("script -q kept", "root@adros:~# ")
    try await person.command("tty; stty size; exit", "/dev/pts/0\n25 80\nexit\n> ")
    try await person.command("clear; grep -a /dev/pts kept; tty", "/dev/pts/0\n/dev/console\n> ")
  }

  private static func top(_ person: Person) async throws {
    try await person.command("top", "PID USER")
    try person.press("q")
    try await person.sees("> ")
  }

  /// The devices behind the terminals: scan codes as they come, and events.
  private static func devices(_ person: Person) async throws {
    try person.type("clear; stty -echo; { echo ready; od -An -v -tx1 -w1; } < /dev/kbd\n")
    try await person.sees("ready\n")
    try person.press("a", "up")
    // As they go down and come up.
    try await person.sees(" 1e\n 9e\n e0\n 48\n e0\n c8")
    try person.press("ctrl-c")
    try await person.sees("> ")
    // Time, type, code and value: 8 half words an event.
    try person.type("clear; stty echo; { echo ready; od -An -v -tx2 -w16 -N144 | cut -c21-; } < /dev/input/event1\n")
    try await person.sees("ready\n", not: "c8")
    try person.move(x: 5, y: -3)
    try person.click("left")
    try person.move(wheel: 1)
    let left = " 0001 0110 0001 0000\n 0000 0000 0000 0000\n 0001 0110 0000 0000\n 0000 0000 0000 0000\n"
    try await person.sees(
      " 0002 0000 0005 0000\n 0002 0001 fffd ffff\n 0000 0000 0000 0000\n" + left + " 0002 0008 0001 0000\n 0000 0000 0000 0000\n> ")
  }

  private static func keyMaps(_ person: Person) async throws {
    try await person.command("loadkeys nothing; loadkeys", "nothing.map: No such file or directory\nloadkeys: usage: ")
    try await person.command("clear; loadkeys de; echo $?", "0\n> ")
    try person.press("y", "minus", "shift-semicolon", "alt_r-q", "equal", "e")
    try await person.sees("0\n> zßÖ@é")
    // Control with what is Z now, and the way back: a Y is where a US keyboard has its Z.
    try person.press("ctrl-u")
    try person.type("loadkezs us\n")
    try person.type("clear\n")
    try await person.sees("> ", not: "zßÖ")
    try await person.command("echo yes", "echo yes\nyes\n> ")
  }

  private static func colours(_ person: Person) async throws {
    try await person.command(#"clear; printf '\e[31;1mR\e[44mB\e[0;7mI\e[m\e(0q\e(B\xc3\xa9\n'"#, "> ")
    let screen = try await person.sees("RBI")
    let wanted: [TextScreen.Cell] = [
      .init(character: "R", front: 0xFF5555, back: 0), .init(character: "B", front: 0xFF5555, back: 0x0000AA),
      .init(character: "I", front: 0, back: 0xAAAAAA), .init(character: "─", front: 0xAAAAAA, back: 0),
      .init(character: "é", front: 0xAAAAAA, back: 0),
    ]
    for (column, cell) in wanted.enumerated() where screen[0, column] != cell {
      throw ToolError("the colours are wrong", why: "\(screen[0, column])", hint: "not \(cell)")
    }
  }
}

/// Who sits at the machine.
struct Person {
  private let monitor: Monitor
  init(_ monitor: Monitor) { self.monitor = monitor }

  func type(_ text: String) throws { try monitor.type(text) }
  func move(x: Int = 0, y: Int = 0, wheel: Int = 0) throws { try monitor.moveMouse(x: x, y: y, wheel: wheel) }
  func click(_ button: String) throws { try monitor.click(button) }
  func press(_ keys: String...) throws { for key in keys { try monitor.press(KeyNames.chord(key)) } }

  /// Types a line and waits for what is to be seen then.
  func command(_ line: String, _ wanted: String) async throws {
    try type(line + "\n")
    try await sees(wanted)
  }

  /// Waits until the screen has some text, with line ends as they are on it, and not some other, and is as `isRight` wants it.
  @discardableResult func sees(
    _ wanted: String, not unwanted: String? = nil, _ isRight: (TextScreen) -> Bool = { _ in true }
  ) async throws -> TextScreen {
    let deadline = Date().addingTimeInterval(20)
    while true {
      let screen = try monitor.textScreen()
      if screen.has(wanted), unwanted.map({ !screen.has($0) }) ?? true, isRight(screen) { return screen }
      guard Date() < deadline else {
        let why = unwanted.map { ", or still has \($0.debugDescription)" } ?? ""
        throw ToolError("the screen does not show \(wanted.debugDescription)\(why)", why: "it has:\n\(screen)", hint: "")
      }
      try await Task.sleep(for: .milliseconds(50))
    }
  }
}
