import Foundation
import ImageKit

/// Debian's unmodified i386 programs, run as a user would run them.
enum ProgramTests {
  static let names = [
    "programs: Debian's busybox and bash", "programs: Debian's programs with shared libraries", "programs: Debian's system tools",
  ]

  /// A command line for a shell, and what it must print.
  private typealias Case = (name: String, shell: [String], command: String, wanted: String)

  static func run(_ results: Results, timeout: Double) async throws {
    try await runStatic(results, timeout)
    try await runDynamic(results, timeout)
    try await runTools(results, timeout)
  }

  /// The packages with all they need, or nil where there is no registry.
  static func unpack(_ packages: [String], _ results: Results, _ name: String) async throws -> URL? {
    do { return try await Debian.unpack(packages) } catch let error as ToolError {
      results.skip(name, "no registry answers: \(error.what)")
      return nil
    }
  }

  private static func runStatic(_ results: Results, _ timeout: Double) async throws {
    guard let folder = try await unpack(["busybox-static", "bash-static"], results, names[0]) else { return }
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
    let cases: [Case] = [
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
    try await check(cases, image, results, timeout)
  }

  /// Compilers, debuggers and interpreters: dynamic executables that use much of the kernel.
  private static func runDynamic(_ results: Results, _ timeout: Double) async throws {
    let packages = [
      "bash", "coreutils", "findutils", "grep", "sed", "gawk", "tar", "xz-utils", "python3", "ncurses-base", "perl", "sqlite3", "lua5.4",
      "make", "gcc",
      "tcc",
      "libc6-dev", "git", "strace", "gdb", "dash", "gzip", "mawk",
    ]
    guard let folder = try await unpack(packages, results, names[1]) else { return }
    var tree = RootTree()
    try tree.addTree(folder)
    let program = """
      #include <stdio.h>
      int twice(int x) { return 2 * x; }
      int main(void) { printf("%d\\n", twice(21)); return 0; }

      """
    tree.add(RootEntry(path: "/root/h.c", kind: .data(Array(program.utf8)), mode: 0o644))
    let image = try Paths.scratch("debian-dynamic.ext2")
    try Ext2Image(time: 1_700_000_000, label: "debian", size: 1 << 30).write(tree, to: image.path)
    let bash = ["/bin/bash", "-c"]
    let python = ["/usr/bin/python3", "-c"]
    let cases: [Case] = [
      ("gcc compiles, gdb looks on", bash, "cd /root; gcc -g h.c -o h && ./h && \(gdb)", "42\n$1 = 21\n#1  main () at h.c:3"),
      ("tcc compiles and runs", bash, "cd /root; tcc h.c -o t && ./t; tcc -run h.c", "42\n42"),
      ("strace follows a child", bash, "strace -f -o /t sh -c '/bin/true; exit 0'; grep -c '+++ exited with 0 +++' /t", "2"),
      ("strace counts", bash, "strace -f -c -o /t ls / > /tmp/l; grep -cw -e getdents64 -e openat /t", "2"),
      (
        "git keeps two commits", bash,
        "export HOME=/tmp; cd /tmp; git config --global user.email a@b; git config --global user.name n; git init -q r; cd r;"
          + " echo a > f; git add f; git commit -qm one; echo b >> f; git commit -qam two; git gc -q; git fsck --no-progress 2>/dev/null && git log --oneline | wc -l",
        "2"
      ),
      ("make runs two jobs", bash, "cd /tmp; printf 'all: a b\\n\\t@cat a b\\na b:\\n\\t@echo $@ > $@\\n' > Makefile; make -sj2", "a\nb"),
      (
        "python asyncio, ctypes", python, "import asyncio,ctypes;print(asyncio.run(asyncio.sleep(.01,5)),ctypes.CDLL(None).getpid()>0)",
        "5 True"
      ),
      (
        "python processes", python,
        "import multiprocessing as m,subprocess as s;q=m.Queue();p=m.Process(target=q.put,args=(9,));p.start();"
          + "print(q.get(),p.join(),s.check_output('echo sub',shell=True))",
        "9 None b'sub\\n'"
      ),
      (
        "python threads", python,
        "import threading as t,queue;q=queue.Queue();w=[t.Thread(target=lambda:[q.put(i) for i in range(500)]) for _ in range(8)];"
          + "[x.start() for x in w];[x.join() for x in w];print(q.qsize())",
        "4000"
      ),
      (
        "python pty and curses", python,
        "import pty,os;os.environ['TERM']='linux';p,f=pty.fork();c='import curses;w=curses.initscr();w.addstr(2,4,\"seen\");'\n"
          + "if p==0: os.execvp('python3',['python3','-c',c+'w.refresh();k=w.getch();curses.endwin();print(\"key\",k)'])\n"
          + "o=b''\nwhile b'seen' not in o: o+=os.read(f,99)\nos.write(f,b'x')\ntry:\n while True: o+=os.read(f,99)\n"
          + "except OSError as e: print(e.errno,b'\\x1b[3;5Hseen' in o,b'key 120' in o,os.waitpid(p,0)[1])",
        "5 True True 0"
      ),
      ("gzip and mawk", bash, "seq 1000 | gzip | gunzip | mawk '{s+=$1} END {print s}'", "500500"),
      (
        "perl counts", ["/usr/bin/perl", "-e"], "my %h; $h{$_ % 7}++ for 1..10000; print join(',', map {$h{$_}} sort keys %h)",
        "1428,1429,1429,1429,1429,1428,1428"
      ),
      ("lua sums", ["/usr/bin/lua5.4", "-e"], "local s=0 for i=1,100000 do s=s+i end print(s)", "5000050000"),
      (
        "sqlite keeps its word", bash,
        "sqlite3 /root/t.db 'create table t(a,b); with recursive c(x) as (select 1 union all select x+1 from c where x<2000) "
          + "insert into t select x,x*x from c; select sum(b) from t; pragma integrity_check'",
        "2668667000\nok"
      ),
      (
        "tar and xz", bash,
        "cd /tmp; seq 100000 > s; tar c s | xz | tar xJ -O | md5sum; gawk '{s+=$1} END {print s}' s",
        "dea9193b768319cbb4ff1a137ac03113  -\n5000050000"
      ),
    ]
    try await check(cases, image, results, timeout)
  }

  /// What looks at the system, works it hard, or wants a terminal.
  private static func runTools(_ results: Results, _ timeout: Double) async throws {
    let packages = [
      "bash", "dash", "coreutils", "libc-bin", "procps", "util-linux", "bsdutils", "bsdextrautils", "mount", "vim-tiny", "tmux", "rt-tests",
      "dbench", "ncurses-base",
      "gawk", "grep", "sed",
    ]
    guard let folder = try await unpack(packages, results, names[2]) else { return }
    var tree = RootTree()
    try tree.addTree(folder)
    let image = try Paths.scratch("debian-tools.ext2")
    try Ext2Image(time: 1_700_000_000, label: "debian", size: 1 << 29).write(tree, to: image.path)
    let bash = ["/bin/bash", "-c"]
    let cases: [Case] = [
      (
        "ps shows the shell's family", bash,
        "sleep 9 & ps -o pid=,ppid=,stat=,comm= -p $$,$! | sed 's/  */ /g; s/^ //'; ps -o vsz=,rss= -p $$ | gawk '$1 > $2 && $2 > 500 {print \"sizes\"}'",
        "2 1 S+ bash\n3 2 S+ sleep\nsizes"
      ),
      ("top lists itself", bash, "top -b -n 1 | gawk '/Tasks/ {print $2} $NF == \"top\" {print $NF, ($6 > 0)}'", "4\ntop 1"),
      (
        "free and vmstat agree", bash,
        "free -k | gawk '/Mem/ {print ($2 > $4 && $2 < 530000)}'; vmstat -s | grep -c memory; vmstat | gawk 'NR == 3 {print NF}'",
        "1\n6\n17"
      ),
      ("pmap adds up", bash, "pmap -x $$ | tail -1 | gawk '{print $1, ($3 > $4 && $4 > 0)}'; pgrep -x init", "total 1\n1"),
      (
        "util-linux looks around", bash,
        "findmnt -n -o FSTYPE /; lscpu | grep -c 'CPU(s):'; getopt -o a: -- -a x y; taskset -p $$ | sed 's/.*: //'; mountpoint -q /proc && echo proc",
        "ext2\n1\n -a 'x' -- 'y'\n1\nproc"
      ),
      ("hackbench", bash, "hackbench -g 2 -l 100 -p | grep -c Time; hackbench -T -g 2 -l 100 | grep -c Time", "1\n1"),
      ("dbench", bash, "cd /tmp; dbench -t 2 -c /usr/share/dbench/client.txt 3 | grep -c 'Throughput.*3 procs'", "1"),
      (
        "vim edits", bash,
        "cd /tmp; printf 'one\\ntwo\\n' > f; script -qc \"vim.tiny -u NONE -c 2 -c 'normal A more' -c wq f\" /dev/null > o; cat f",
        "one\ntwo more"
      ),
      (
        "bash stops a job and goes on with it", bash,
        "export LC_ALL=C.UTF-8 TERM=linux; cd /tmp; keys() { tmux send-keys \"$@\"; };"
          + " await() { for i in {1..200}; do grep -q \"$1\" $2 2>/dev/null && return; sleep 0.05; done; echo no $1; };"
          + " tmux -f /dev/null new-session -d 'bash --norc -i'; keys 'echo up > a' Enter; await up a;"
          + " keys 'echo on > b; sleep 100' Enter; await on b; until pgrep -x sleep > /dev/null; do :; done; keys C-z; keys 'jobs > j' Enter; await sleep j;"
          + " gawk '{print $2, $3}' j; keys 'bg; jobs > k; kill %1; wait; echo over > c' Enter; await over c; gawk '{print $2, $3}' k; tmux kill-server",
        "Stopped sleep\nRunning sleep"
      ),
      (
        "tmux keeps a shell", bash,
        "export LC_ALL=C.UTF-8 TERM=linux; tmux -f /dev/null new-session -d -x 60 -y 20 bash; tmux send-keys 'stty size; tty' Enter;"
          + " for i in {1..100}; do tmux capture-pane -p > /tmp/o; grep -q ^/dev /tmp/o && break; sleep 0.05; done;"
          + " grep -x -e '[0-9 ]*' -e /dev/.* /tmp/o | grep .; tmux kill-server;"
          + " for i in {1..100}; do [ \"$(ls /dev/pts)\" ] || break; sleep 0.05; done; ls /dev/pts",
        "20 60\n/dev/pts/0"
      ),
    ]
    try await check(cases, image, results, timeout)
  }

  private static let gdb =
    "gdb -nx -batch -ex 'b twice' -ex run -ex 'p x' -ex 'up' ./h 2>/dev/null | grep -e '^[$]1' -e '^#1' | sed 's/0x[0-9a-f]* in //'"

  /// Each case in a boot of its own.
  private static func check(_ cases: [Case], _ image: URL, _ results: Results, _ timeout: Double) async throws {
    for (name, shell, command, wanted) in cases {
      await results.check("programs: \(name)") {
        let initramfs = try RootImage.makeInitramfs(command: shell + [command])
        defer { try? FileManager.default.removeItem(at: initramfs) }
        let log = try Paths.scratch("programs.log")
        let console = try Paths.scratch("programs.console")
        var machine = VirtualMachine(loader: .kernel(Paths.kernel, initramfs: initramfs), log: log)
        machine.disks = [.init(file: image.path, interface: "virtio", snapshot: true)]
        machine.interactive = false
        machine.settings.memory = 512
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
