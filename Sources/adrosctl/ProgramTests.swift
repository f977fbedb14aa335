import Foundation
import ImageKit

/// Debian's unmodified i386 programs, fetched by name and unpacked without root.
enum ProgramTests {
  static func run(_ results: Results, timeout: Double) async throws {
    let cache = Paths.output.appendingPathComponent("debian")
    guard let busybox = try await fetch("busybox-static", "bin/busybox", cache) else {
      results.skip("programs: busybox", "no Debian registry answers")
      return
    }
    var tree = RootTree()
    tree.add(RootEntry(path: "/bin/busybox", kind: .file(busybox), mode: 0o755))
    tree.add(RootEntry(path: "/bin/sh", kind: .link("busybox"), mode: 0o777))
    for folder in ["/dev", "/proc", "/tmp", "/etc", "/root"] { tree.add(RootEntry(path: folder, kind: .directory, mode: 0o755)) }
    tree.add(RootEntry(path: "/data", kind: .data(pseudoRandom(1 << 24)), mode: 0o644))
    let image = Paths.output.appendingPathComponent("debian.ext2")
    try Ext2Image(time: 1_700_000_000, label: "debian", size: nil).write(tree, to: image.path)
    let sum = try await Shell.capture(
      ["sh", "-c", "debugfs -R 'cat /data' \"$0\" 2>/dev/null | md5sum | cut -c1-32", image.path], what: "md5sum"
    )
    .trimmingCharacters(in: .whitespacesAndNewlines)
    let cases: [(String, String, String)] = [
      ("md5sum of 16 MB", "md5sum /data | cut -c1-32", sum),
      ("a pipeline", "seq 1 2000 | sort -rn | head -1", "2000"),
      ("tar through a pipe", "cd /tmp; tar c -f - /bin 2>/dev/null | tar x -f - && cmp bin/busybox /bin/busybox && echo same", "same"),
      ("find counts", "find /bin | wc -l", "3"),
      ("awk and sed", "echo '1 2 3' | awk '{print $1+$3}' | sed 's/4/four/'", "four"),
      (
        "vi writes a file", "printf ':s/a/b/\\n:wq\\n' > /tmp/keys; echo aaa > /tmp/f; vi /tmp/f < /tmp/keys > /dev/null 2>&1; cat /tmp/f",
        "baa"
      ),
      ("ps sees itself", "ps | grep -c '[p]s$\\|busybox\\|sh'", ""),
    ]
    for (name, command, wanted) in cases {
      let log = Paths.output.appendingPathComponent("programs.log")
      let console = Paths.output.appendingPathComponent("programs.console")
      var machine = VirtualMachine(kernel: Paths.kernel, log: log)
      machine.initramfs = try RootImage.makeInitramfs(command: ["/bin/busybox", "sh", "-c", command])
      machine.disks = [(image.path, "virtio")]
      machine.interactive = false
      machine.commandLine = ["quiet", "root=/dev/vda"]
      let outcome = try await Shell.run(machine.arguments, log: console, timeout: timeout)
      try? FileManager.default.removeItem(at: machine.initramfs!)
      let text = ((try? String(decoding: Data(contentsOf: console), as: UTF8.self)) ?? "").replacingOccurrences(of: "\r", with: "")
        .trimmingCharacters(in: .whitespacesAndNewlines)
      let ending = Ending.judge(outcome, log: log)
      var passed = wanted.isEmpty ? !text.isEmpty : text == wanted
      if case .powerOff(0) = ending {} else { passed = false }
      results.add("programs: busybox \(name)", passed: passed, "wanted \(wanted), got \(text) (\(ending))")
    }
  }

  /// A file out of a Debian i386 package, or nil where no registry answers.
  private static func fetch(_ package: String, _ file: String, _ cache: URL) async throws -> URL? {
    let url = cache.appendingPathComponent(package).appendingPathComponent(file)
    if FileManager.default.fileExists(atPath: url.path) { return url }
    try FileManager.default.createDirectory(at: cache, withIntermediateDirectories: true)
    // An apt that believes it runs on an empty i386 machine: its lists and state live in the cache.
    let script = """
      set -e; cd "$0"; mkdir -p lists/partial archives/partial; : > status
      apt="apt-get -qq -o APT::Architecture=i386 -o APT::Architectures::=i386 -o Dir::State::status=$0/status \
      -o Dir::State::lists=$0/lists -o Dir::Cache=$0 -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
      [ -n "$(ls lists/*Packages* 2>/dev/null)" ] || $apt update
      $apt download "$1"
      dpkg-deb -x "$1"_*.deb "$1"
      """
    let log = cache.appendingPathComponent("fetch.log")
    let outcome = try await Shell.run(["sh", "-c", script, cache.path, package], log: log, timeout: 180)
    return outcome.status == 0 && FileManager.default.fileExists(atPath: url.path) ? url : nil
  }

  private static func pseudoRandom(_ count: Int) -> [UInt8] {
    var state: UInt64 = 1
    return (0..<count).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return UInt8(truncatingIfNeeded: state >> 33)
    }
  }
}
