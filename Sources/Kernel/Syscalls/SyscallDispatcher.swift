import Machine
import Processes
import Signals
import SystemABI
import Threads
import VFS

/// From a system call's number to the code that does it.
public enum SyscallDispatcher {
  /// Runs the call in `frame` and leaves its result there.
  public static func dispatch(_ frame: UserFrame) {
    let call = Call(frame: frame, task: Task.currentTask)
    if call.task.callsAreTraced { return dispatchTraced(call, frame) }
    perform(call, frame)
  }

  /// With a stop for the tracer before and after. What the tracer makes of the number and the arguments counts.
  @inline(never) private static func dispatchTraced(_ call: Call, _ frame: UserFrame) {
    frame.eax = UInt32(bitPattern: -Errno.noFunction.rawValue)
    guard call.task.stopAtCall(frame) else { return }
    if frame.originalEAX != .max {
      frame.eax = frame.originalEAX
      perform(call, frame)
    }
    if call.task.callsAreTraced { _ = call.task.stopAtCall(frame) }
  }

  @inline(__always) private static func perform(_ call: Call, _ frame: UserFrame) {
    do throws(Errno) {
      guard let number = SyscallNumber(rawValue: frame.eax) else { throw Errno.noFunction }
      let result = try perform(number, call)
      if !call.task.skipRestart { frame.eax = result }
      call.task.skipRestart = false
    } catch {
      var error = error
      if error == .noMemory, call.task.lacksMemory != .none {
        // Not a limit, but no frame to be had. A call fails like this only with nothing done: make room, and again.
        let lack = call.task.lacksMemory
        call.task.lacksMemory = .none
        if OutOfMemory.relieve(lack) { error = .restartAlways }
      }
      frame.eax = UInt32(bitPattern: -error.rawValue)
      // A restart is decided on the way out, where the signal that caused it is known.
      if error.rawValue >= Errno.restart.rawValue { call.task.needsAttention = true }
    }
  }

  /// One case a call: a number without one does not compile.
  private static func perform(_ number: SyscallNumber, _ call: Call) throws(Errno) -> UInt32 {
    switch number {
    case .exit: call.exit()
    case .exitGroup: call.exitGroup()
    case .fork: try call.fork()
    case .vfork: try call.vfork()
    case .clone: try call.clone(flags: call.a, stack: call.b, parentID: call.c, tls: call.d, childID: call.e)
    case .clone3: try call.clone3()
    case .execve: try call.execve(Call.cwd, call.a, call.b, call.c)
    case .execveat: try call.execve(call.a, call.b, call.c, call.d)
    case .waitpid: try call.wait4(call.int(call.a), call.b, call.c, 0)
    case .wait4: try call.wait4(call.int(call.a), call.b, call.c, call.d)
    case .waitid: try call.waitid()
    case .getpid: UInt32(bitPattern: call.process.id)
    case .gettid: UInt32(bitPattern: call.task.id)
    case .getppid: call.getppid()
    case .getpgrp: try call.getpgid(0)
    case .getpgid: try call.getpgid(call.a)
    case .setpgid: try call.setpgid()
    case .setsid: try call.setsid()
    case .getsid: try call.getsid()
    case .getuid, .getuid32: call.process.who.uid
    case .geteuid, .geteuid32: call.process.who.euid
    case .getgid, .getgid32: call.process.who.gid
    case .getegid, .getegid32: call.process.who.egid
    case .setuid, .setuid32: try call.setuid()
    case .setgid, .setgid32: try call.setgid()
    case .setreuid32: try call.setreuid(call.a, call.b)
    case .setregid32: try call.setregid(call.a, call.b)
    case .setresuid32: try call.setresuid(call.a, call.b, call.c)
    case .setresgid32: try call.setresgid(call.a, call.b, call.c)
    case .getresuid32: try call.store(call.process.who.uid, call.process.who.euid, call.process.who.suid)
    case .getresgid32: try call.store(call.process.who.gid, call.process.who.egid, call.process.who.sgid)
    case .getgroups32: try call.getgroups()
    case .setgroups32: try call.setgroups()
    case .getrlimit, .ugetrlimit: try call.getrlimit(wide: false)
    case .setrlimit: try call.setrlimit()
    case .prlimit64: try call.prlimit()
    case .prctl: try call.prctl()
    case .getpriority: try call.getpriority()
    case .setpriority: try call.setpriority()
    case .nice: try call.nice()
    case .schedGetaffinity: try call.schedGetaffinity()
    case .schedSetaffinity: try call.schedSetaffinity()
    case .schedGetscheduler: try call.schedGetscheduler()
    case .schedSetscheduler: try call.schedSet(call.a, policy: call.b, call.c)
    case .schedSetparam: try call.schedSet(call.a, policy: nil, call.b)
    case .schedGetparam: try call.schedGetparam()
    case .schedGetPriorityMax: try call.schedPriorityLimit(maximum: true)
    case .schedGetPriorityMin: try call.schedPriorityLimit(maximum: false)
    case .schedRrGetInterval: try call.schedRrGetInterval(wide: false)
    case .schedRrGetIntervalTime64: try call.schedRrGetInterval(wide: true)
    case .schedSetattr: try call.schedSetattr()
    case .schedGetattr: try call.schedGetattr()
    case .schedYield: call.yield()
    case .times: try call.times()
    case .getrusage: try call.getrusage()
    case .setThreadArea: try call.setThreadArea()
    case .setTidAddress: call.setTidAddress()
    case .setRobustList: try call.setRobustList()
    case .open: try call.open(Call.cwd, call.a, flags: call.b, mode: call.c)
    case .openat: try call.open(call.a, call.b, flags: call.c, mode: call.d)
    case .creat: try call.open(Call.cwd, call.a, flags: OpenFlags.create | OpenFlags.truncate | OpenFlags.writeOnly, mode: call.b)
    case .close: try call.close()
    case .closeRange: try call.closeRange()
    case .read: try call.read()
    case .write: try call.write()
    case .readv: try call.readVector()
    case .writev: try call.writeVector()
    case .pread64: try call.pread()
    case .pwrite64: try call.pwrite()
    case .preadv2: try call.preadVector2(write: false)
    case .pwritev2: try call.preadVector2(write: true)
    case .fallocate: try call.fallocate()
    case .futimesat: try call.futimesat()
    case .mlockall: try call.mlockall()
    case .munlockall: try call.munlockall()
    case .setdomainname: try call.setdomainname()
    case .adjtimex: try call.adjustTime(call.a, wide: false)
    case .clockAdjtime: try call.clockAdjust(wide: false)
    case .clockAdjtime64: try call.clockAdjust(wide: true)
    case .sendfile: try call.sendfile(wide: false)
    case .sendfile64: try call.sendfile(wide: true)
    case .copyFileRange: try call.copyFileRange()
    case .splice: try call.splice()
    case .tee: try call.tee()
    case .vmsplice: try call.vmsplice()
    case .syncFileRange: try call.syncFileRange()
    case .remapFilePages: try call.remapFilePages()
    case .preadv: try call.preadVector(write: false)
    case .pwritev: try call.preadVector(write: true)
    case .lseek: try call.lseek()
    case .llseek: try call.llseek()
    case .dup: try call.duplicate()
    case .dup2: try call.duplicate2(flags: 0, same: true)
    case .dup3: try call.duplicate2(flags: call.c, same: false)
    case .pipe: try call.pipe(flags: 0)
    case .pipe2: try call.pipe(flags: call.b)
    case .fcntl, .fcntl64: try call.fcntl()
    case .ioctl: try call.ioctl()
    case .getdents: try call.getdents(wide: false)
    case .getdents64: try call.getdents(wide: true)
    case .truncate: try call.truncate(UInt64(call.b))
    case .truncate64: try call.truncate(call.long(call.b, call.c))
    case .ftruncate: try call.ftruncate(UInt64(call.b))
    case .ftruncate64: try call.ftruncate(call.long(call.b, call.c))
    case .fsync, .fdatasync: try call.fsync()
    case .sync: try call.sync()
    case .syncfs: try call.syncfs()
    case .stat: try call.stat(true, wide: false)
    case .lstat: try call.stat(false, wide: false)
    case .fstat: try call.fstat(wide: false)
    case .stat64: try call.stat(true, wide: true)
    case .lstat64: try call.stat(false, wide: true)
    case .fstat64: try call.fstat(wide: true)
    case .fstatat64: try call.fstatat64()
    case .statx: try call.statx()
    case .statfs: try call.statfs(wide: false)
    case .fstatfs: try call.fstatfs(wide: false)
    case .statfs64: try call.statfs(wide: true)
    case .fstatfs64: try call.fstatfs(wide: true)
    case .access: try call.access(Call.cwd, call.a, call.b, flags: 0)
    case .faccessat: try call.access(call.a, call.b, call.c, flags: 0)
    case .faccessat2: try call.access(call.a, call.b, call.c, flags: call.d)
    case .mkdir: try call.mkdir(Call.cwd, call.a, mode: call.b)
    case .mkdirat: try call.mkdir(call.a, call.b, mode: call.c)
    case .rmdir: try call.unlink(Call.cwd, call.a, flags: 0x200)
    case .unlink: try call.unlink(Call.cwd, call.a, flags: 0)
    case .unlinkat: try call.unlink(call.a, call.b, flags: call.c)
    case .mknod: try call.mknod(Call.cwd, call.a, mode: call.b, device: call.c)
    case .mknodat: try call.mknod(call.a, call.b, mode: call.c, device: call.d)
    case .rename: try call.rename(Call.cwd, call.a, Call.cwd, call.b, flags: 0)
    case .renameat: try call.rename(call.a, call.b, call.c, call.d, flags: 0)
    case .renameat2: try call.rename(call.a, call.b, call.c, call.d, flags: call.e)
    case .link: try call.link(Call.cwd, call.a, Call.cwd, call.b, flags: 0)
    case .linkat: try call.link(call.a, call.b, call.c, call.d, flags: call.e)
    case .symlink: try call.symlink(call.a, Call.cwd, call.b)
    case .symlinkat: try call.symlink(call.a, call.b, call.c)
    case .readlink: try call.readlink(Call.cwd, call.a, call.b, call.c)
    case .readlinkat: try call.readlink(call.a, call.b, call.c, call.d)
    case .chdir: try call.chdir()
    case .fchdir: try call.fchdir()
    case .chroot: try call.chroot()
    case .getcwd: try call.getcwd()
    case .umask: call.setUmask()
    case .chmod: try call.chmod(at: Call.cwd, call.a, mode: call.b)
    case .fchmod: try call.fchmod()
    case .fchmodat: try call.chmod(at: call.a, call.b, mode: call.c)
    case .chown32: try call.chown(at: Call.cwd, call.a, owner: call.b, group: call.c, flags: 0)
    case .lchown32: try call.chown(at: Call.cwd, call.a, owner: call.b, group: call.c, flags: 0x100)
    case .fchown32: try call.fchown(owner: call.b, group: call.c)
    case .fchownat: try call.chown(at: call.a, call.b, owner: call.c, group: call.d, flags: call.e)
    case .utimensat: try call.utimens(call.a, call.b, call.c, flags: call.d, wide: false)
    case .utimensatTime64: try call.utimens(call.a, call.b, call.c, flags: call.d, wide: true)
    case .utime: try call.utime(microseconds: false)
    case .utimes: try call.utime(microseconds: true)
    case .mount: try call.mount()
    case .umount: try call.unmount(flags: 0)
    case .umount2: try call.unmount(flags: call.b)
    case .brk: try call.brk()
    case .mmap: try call.oldMmap()
    case .mmap2: try call.mmap(call.a, call.b, call.c, call.d, call.e, page: call.f)
    case .munmap: try call.munmap()
    case .mprotect: try call.mprotect()
    case .mremap: try call.mremap()
    case .msync: try call.msync()
    case .madvise: try call.madvise()
    case .mincore: try call.mincore()
    case .rtSigaction: try call.rtSigaction()
    case .sigaction: try call.oldSigaction()
    case .signal: try call.signalCall()
    case .rtSigprocmask: try call.rtSigprocmask(wide: true)
    case .sigprocmask: try call.rtSigprocmask(wide: false)
    case .rtSigpending: try call.rtSigpending()
    case .rtSigsuspend: try call.rtSigsuspend()
    case .sigsuspend: try call.sigsuspend(.init(bits: UInt64(call.c)))
    case .rtSigreturn: call.signalReturn(new: true)
    case .sigreturn: call.signalReturn(new: false)
    case .rtSigtimedwait: try call.sigtimedwait(wide: false)
    case .rtSigtimedwaitTime64: try call.sigtimedwait(wide: true)
    case .sigaltstack: try call.sigaltstack()
    case .pause: try call.pause()
    case .kill: try call.kill()
    case .tkill: try call.tkill(group: nil, call.a, call.b)
    case .tgkill: try call.tkill(group: call.a, call.b, call.c)
    case .alarm: call.alarm()
    case .getitimer: try call.getitimer()
    case .setitimer: try call.setitimer()
    case .clockGettime: try call.clockGetTime(wide: false)
    case .clockGettime64: try call.clockGetTime(wide: true)
    case .clockGetres: try call.clockGetResolution(wide: false)
    case .clockGetresTime64: try call.clockGetResolution(wide: true)
    case .clockSettime: try call.clockSetTime(wide: false)
    case .clockSettime64: try call.clockSetTime(wide: true)
    case .time: try call.time()
    case .gettimeofday: try call.gettimeofday()
    case .nanosleep: try call.sleep(clock: 1, absolute: false, call.a, call.b, wide: false)
    case .clockNanosleep: try call.sleep(clock: call.a, absolute: call.b & 1 != 0, call.c, call.d, wide: false)
    case .clockNanosleepTime64: try call.sleep(clock: call.a, absolute: call.b & 1 != 0, call.c, call.d, wide: true)
    case .futex: try call.futex(wide: false)
    case .futexTime64: try call.futex(wide: true)
    case .poll: try call.poll(timeout: call.milliseconds(call.c))
    case .ppoll: try call.ppoll(wide: false)
    case .ppollTime64: try call.ppoll(wide: true)
    case .newselect: try call.select()
    case .select: try call.oldSelect()
    case .epollCreate: if call.int(call.a) > 0 { try call.epollCreate(flags: 0) } else { throw .invalidArgument }
    case .epollCreate1: try call.epollCreate(flags: call.a)
    case .epollCtl: try call.epollControl()
    case .epollWait: try call.epollWait(timeout: call.milliseconds(call.d))
    case .epollPwait: try call.masked(call.e, call.f) { () throws(Errno) in try call.epollWait(timeout: call.milliseconds(call.d)) }
    case .epollPwait2: try call.epollPwait2()
    case .eventfd: try call.eventfd(flags: 0)
    case .eventfd2: try call.eventfd(flags: call.b)
    case .signalfd: try call.signalfd(flags: 0)
    case .signalfd4: try call.signalfd(flags: call.d)
    case .timerfdCreate: try call.timerfdCreate()
    case .timerfdSettime: try call.timerfdSettime(wide: false)
    case .timerfdSettime64: try call.timerfdSettime(wide: true)
    case .timerfdGettime: try call.timerfdGettime(wide: false)
    case .timerfdGettime64: try call.timerfdGettime(wide: true)
    case .pselect6: try call.pselect(wide: false)
    case .pselect6Time64: try call.pselect(wide: true)
    case .socketcall: try call.socketcall()
    case .socket: try call.socket(call.a, call.b, call.c)
    case .socketpair: try call.socketpair(call.a, call.b, call.c, call.d)
    case .bind: try call.bind(call.a, call.b, call.c)
    case .connect: try call.connect(call.a, call.b, call.c)
    case .listen: try call.listen(call.a, call.b)
    case .accept4: try call.accept(call.a, call.b, call.c, flags: call.d)
    case .getsockname: try call.getsockname(call.a, call.b, call.c, peer: false)
    case .getpeername: try call.getsockname(call.a, call.b, call.c, peer: true)
    case .shutdown: try call.shutdown(call.a, call.b)
    case .sendto: try call.sendto(call.a, call.b, call.c, flags: call.d, call.e, call.f)
    case .recvfrom: try call.recvfrom(call.a, call.b, call.c, flags: call.d, call.e, call.f)
    case .sendmsg: try call.sendmsg(call.a, call.b, flags: call.c)
    case .recvmsg: try call.recvmsg(call.a, call.b, flags: call.c)
    case .sendmmsg: try call.multiple { header throws(Errno) in try call.sendmsg(call.a, header, flags: call.d) }
    case .recvmmsg: try call.recvmmsg(wide: false)
    case .recvmmsgTime64: try call.recvmmsg(wide: true)
    case .getsockopt: try call.getsockopt(call.a, call.b, call.c, call.d, call.e)
    case .setsockopt: try call.setsockopt(call.a, call.b, call.c, call.d, call.e)
    case .setreuid: try call.setreuid(call.wideID(call.a), call.wideID(call.b))
    case .setregid: try call.setregid(call.wideID(call.a), call.wideID(call.b))
    case .setresuid: try call.setresuid(call.wideID(call.a), call.wideID(call.b), call.wideID(call.c))
    case .setfsuid: call.setfsuid(call.wideID(call.a))
    case .setfsuid32: call.setfsuid(call.a)
    case .setfsgid: call.setfsgid(call.wideID(call.a))
    case .setfsgid32: call.setfsgid(call.a)
    case .setresgid: try call.setresgid(call.wideID(call.a), call.wideID(call.b), call.wideID(call.c))
    case .getresuid: try call.storeShort(call.process.who.uid, call.process.who.euid, call.process.who.suid)
    case .getresgid: try call.storeShort(call.process.who.gid, call.process.who.egid, call.process.who.sgid)
    case .getgroups: try call.getgroups16()
    case .setgroups: try call.setgroups16()
    case .chown: try call.chown(at: Call.cwd, call.a, owner: call.wideID(call.b), group: call.wideID(call.c), flags: 0)
    case .lchown: try call.chown(at: Call.cwd, call.a, owner: call.wideID(call.b), group: call.wideID(call.c), flags: 0x100)
    case .fchown: try call.fchown(owner: call.wideID(call.b), group: call.wideID(call.c))
    case .capget: try call.capget()
    case .capset: try call.capset()
    case .rtSigqueueinfo: try call.sigqueue(group: call.a, thread: nil, signal: call.b, call.c)
    case .rtTgsigqueueinfo: try call.sigqueue(group: call.a, thread: call.b, signal: call.c, call.d)
    case .sigpending: try call.sigpending()
    case .mlock: try call.mlock(call.a, call.b)
    case .mlock2: if call.c & ~1 == 0 { try call.mlock(call.a, call.b) } else { throw .invalidArgument }
    case .munlock: try call.munlock()
    case .settimeofday: try call.settimeofday()
    case .stime: try call.stime()
    case .getRobustList: try call.getRobustList()
    case .membarrier: try call.membarrier()
    case .memfdCreate: try call.memfdCreate()
    case .readahead: try call.readahead()
    case .timerCreate: try call.timerCreate()
    case .timerSettime: try call.timerSettime(wide: false)
    case .timerSettime64: try call.timerSettime(wide: true)
    case .timerGettime: try call.timerGettime(wide: false)
    case .timerGettime64: try call.timerGettime(wide: true)
    case .timerGetoverrun: try call.timerGetoverrun()
    case .timerDelete: try call.timerDelete()
    case .flock: try call.flock()
    case .ipc: try call.ipc()
    case .shmget: try call.shmget(call.a, call.b, call.c)
    case .shmat: try call.shmat(call.a, call.b, call.c)
    case .shmdt: try call.shmdt(call.a)
    case .shmctl: try call.shmctl(call.a, call.b, call.c)
    case .semget: try call.semget(call.a, call.b, call.c)
    case .semctl: try call.semctl(call.a, call.b, call.c, call.d)
    case .semtimedopTime64: try call.semtimedop(call.a, call.b, call.c, timeout: call.d, wide: true)
    case .msgget: try call.msgget(call.a, call.b)
    case .msgsnd: try call.msgsnd(call.a, call.b, call.c, call.d)
    case .msgrcv: try call.msgrcv(call.a, call.b, call.c, call.d, call.e)
    case .msgctl: try call.msgctl(call.a, call.b, call.c)
    case .ptrace: try call.ptrace()
    case .pidfdOpen: try call.pidfdOpen()
    case .pidfdSendSignal: try call.pidfdSendSignal()
    case .pidfdGetfd: try call.pidfdGetfd()
    case .processVmReadv: try call.processVector(write: false)
    case .processVmWritev: try call.processVector(write: true)
    case .getThreadArea: try call.getThreadArea()
    case .uname: try call.uname()
    case .sysinfo: try call.sysinfo()
    case .syslog: try call.syslog()
    case .getrandom: try call.getrandom()
    case .reboot: try call.reboot()
    case .sethostname: try call.sethostname()
    case .getcpu: try call.getcpu()
    case .fadvise64, .fadvise6464: try call.fadvise()
    case .personality: try call.personality()
    case .setxattr, .getxattr, .removexattr: try call.extendedAttribute(of: call.resolve(at: Call.cwd, call.a).inode())
    case .lsetxattr, .lgetxattr, .lremovexattr:
      try call.extendedAttribute(of: call.resolve(at: Call.cwd, call.a, follow: false).inode())
    case .fsetxattr, .fgetxattr, .fremovexattr: try call.extendedAttribute(of: call.description(call.a).inode)
    case .listxattr: try call.extendedAttributes(of: call.resolve(at: Call.cwd, call.a).inode())
    case .llistxattr: try call.extendedAttributes(of: call.resolve(at: Call.cwd, call.a, follow: false).inode())
    case .flistxattr: try call.extendedAttributes(of: call.description(call.a).inode)
    // Obsolete, left out.
    case .break, .oldstat, .oldfstat, .stty, .gtty, .ftime, .prof, .lock, .mpx, .ulimit, .oldolduname, .ustat,
      .sgetmask, .ssetmask, .oldlstat, .uselib, .readdir, .profil, .olduname, .idle, .vm86old, .modifyLdt,
      .createModule, .getKernelSyms, .bdflush, .sysfs, .afsSyscall, .sysctl, .vm86, .queryModule, .nfsservctl,
      .getpmsg, .putpmsg, .vserver:
      throw .noFunction
    // Waiting for their subsystem.
    case .restartSyscall, .acct, .swapon, .ioperm, .iopl, .vhangup, .swapoff,
      .initModule, .deleteModule, .quotactl,
      .pivotRoot, .ioSetup, .ioDestroy, .ioGetevents, .ioSubmit, .ioCancel,
      .lookupDcookie, .mbind, .getMempolicy, .setMempolicy, .mqOpen, .mqUnlink, .mqTimedsend,
      .mqTimedreceive, .mqNotify, .mqGetsetattr, .kexecLoad, .addKey, .requestKey, .keyctl, .ioprioSet, .ioprioGet,
      .inotifyInit, .inotifyAddWatch, .inotifyRmWatch, .migratePages, .unshare,
      .movePages, .inotifyInit1, .perfEventOpen, .fanotifyInit, .fanotifyMark,
      .nameToHandleAt, .openByHandleAt, .setns, .kcmp, .finitModule,
      .seccomp, .bpf, .userfaultfd, .pkeyMprotect, .pkeyAlloc, .pkeyFree,
      .archPrctl, .ioPgetevents, .rseq, .ioPgeteventsTime64, .mqTimedsendTime64,
      .mqTimedreceiveTime64, .ioUringSetup, .ioUringEnter, .ioUringRegister, .openTree, .moveMount,
      .fsopen, .fsconfig, .fsmount, .fspick, .openat2, .processMadvise, .mountSetattr,
      .quotactlFd, .landlockCreateRuleset, .landlockAddRule, .landlockRestrictSelf, .memfdSecret, .processMrelease,
      .futexWaitv, .setMempolicyHomeNode:
      throw .noFunction
    }
  }
}
