import Foundation
import ImageKit

/// Debian's unmodified i386 programs, run as a user would run them.
enum ProgramTests {
  static let names = ["programs: Debian's busybox and bash"]

  static func run(_ results: Results, timeout: Double) async throws {
    let folder: URL
    do { folder = try await Debian.unpack(["busybox-static", "bash-static"]) } catch let error as ToolError {
      results.skip("programs: Debian's busybox and bash", "no registry answers: \(error.what)")
      return
    }
    var tree = RootTree()
    try tree.addTree(folder)
    tree.add(RootEntry(path: "/data", kind: .data(pseudoRandom(1 << 24)), mode: 0o644))
    let image = try Paths.scratch("debian.ext2")
    try Ext2Image(time: 1_700_000_000, label: "debian", size: nil).write(tree, to: image.path)
    let sum = try await Shell.capture(
      ["sh", "-c", "debugfs -R 'cat /data' \"$0\" 2>/dev/null | md5sum | cut -c1-32", image.path], what: "md5sum"
    )
    .trimmingCharacters(in: .whitespacesAndNewlines)
    let busybox = ["/bin/busybox", "sh", "-c"]
    let bash = ["/bin/bash-static", "-c"]
    let cases: [(name: String, shell: [String], command: String, wanted: String)] = [
      ("md5sum of 16 MB", busybox, "md5sum /data | cut -c1-32", sum),
      ("a pipeline", busybox, "seq 1 2000 | sort -rn | head -1", "2000"),
      (
        "tar through a pipe", busybox,
        "cd /tmp; tar c -f - /usr/bin/busybox 2>/dev/null | tar x -f - && cmp usr/bin/busybox /bin/busybox && echo same", "same"
      ),
      ("find and wc", busybox, "find /bin/ -name 'busy*' | wc -l", "1"),
      ("awk and sed", busybox, "echo '1 2 3' | awk '{print $1+$3}' | sed 's/4/four/'", "four"),
      ("ps lists the shell and itself", busybox, "ps > /tmp/p; grep -c busybox /tmp/p", "2"),
      ("bash arithmetic and arrays", bash, "a=(1 2 3); for ((i=0;i<3;i++)); do ((s+=a[i])); done; echo $s ${#a[@]}", "6 3"),
      ("bash pipelines and substitution", bash, "x=$(seq 5 2>/dev/null || busybox seq 5 | busybox tail -1); echo \"<$x>\"", "<5>"),
      ("bash jobs", bash, "busybox sleep 0.1 & wait $!; echo $?; (exit 3) & wait $!; echo $?", "0\n3"),
      ("bash signals", bash, "trap 'echo caught' USR1; kill -USR1 $$; echo after", "caught\nafter"),
    ]
    for (name, shell, command, wanted) in cases {
      await results.check("programs: \(name)") {
        let initramfs = try RootImage.makeInitramfs(command: shell + [command])
        defer { try? FileManager.default.removeItem(at: initramfs) }
        let log = try Paths.scratch("programs.log")
        let console = try Paths.scratch("programs.console")
        var machine = VirtualMachine(loader: .kernel(Paths.kernel, initramfs: initramfs), log: log)
        machine.disks = [.init(file: image.path, interface: "virtio", snapshot: true)]
        machine.interactive = false
        machine.commandLine = ["quiet", "root=/dev/vda"]
        let outcome = try await Shell.run(machine.arguments, log: console, timeout: timeout)
        let text = String(decoding: try Data(contentsOf: console), as: UTF8.self).replacingOccurrences(of: "\r", with: "")
          .trimmingCharacters(in: .whitespacesAndNewlines)
        let ending = Ending.judge(outcome, log: log)
        if text != wanted || ending != .powerOff(status: 0) {
          throw ToolError("wanted \(wanted)", why: "got \(text) (\(ending))", hint: "")
        }
      }
    }
  }

  private static func pseudoRandom(_ count: Int) -> [UInt8] {
    var state: UInt64 = 1
    return (0..<count).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return UInt8(truncatingIfNeeded: state >> 33)
    }
  }
}
