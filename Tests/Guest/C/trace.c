// ptrace and its relatives: what strace and gdb do.
#include "test.h"
#include <pthread.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

static long trace(long request, pid_t pid, long address, long data) {
  return ptrace(request, pid, (void *)address, (void *)data);
}

static int await(pid_t pid) {
  int status;
  EQUAL(OK(waitpid(pid, &status, __WALL)), pid);
  return status;
}
#define STOPPED(status, signal) (0x7F | (signal) << 8) == (status)
#define EVENT(status, event) EQUAL(status, 0x057F | (event) << 16)

static int global = 5;
__attribute__((noinline)) static int target(int x) { return x + global; }

// A child that is traced and stopped before its first act.
#define TRACED(...)                   \
  CHILD({                             \
    OK(trace(PTRACE_TRACEME, 0, 0, 0)); \
    raise(SIGSTOP);                   \
    __VA_ARGS__;                      \
  })

CASE(memory_and_registers) {
  pid_t child = TRACED({
    int got = target(1);
    _exit(got);
  });
  CHECK(STOPPED(await(child), SIGSTOP));
  errno = 0;
  EQUAL(trace(PTRACE_PEEKDATA, child, (long)&global, 0), 5);
  EQUAL(errno, 0);
  OK(trace(PTRACE_POKEDATA, child, (long)&global, 40));
  EQUAL(global, 5);
  FAILS(trace(PTRACE_PEEKDATA, child, 16, 0), EIO);
  FAILS(trace(PTRACE_POKEDATA, child, 0xC0100000, 0), EIO);
  struct user_regs_struct regs, again;
  OK(trace(PTRACE_GETREGS, child, 0, (long)&regs));
  EQUAL(trace(PTRACE_PEEKUSER, child, offsetof(struct user_regs_struct, eip), 0), regs.eip);
  struct iovec vector = {&again, sizeof again};
  OK(trace(PTRACE_GETREGSET, child, 1, (long)&vector));
  CHECK(!memcmp(&regs, &again, sizeof regs) && vector.iov_len == sizeof regs);
  // Selectors of the kernel are not to be had.
  again.xcs = 0x60;
  FAILS(trace(PTRACE_SETREGS, child, 0, (long)&again), EIO);
  FAILS(trace(PTRACE_GETREGS, child, 0, 4), EFAULT);
  // A breakpoint in the text: the child's own, and only there.
  unsigned long text = trace(PTRACE_PEEKTEXT, child, (long)target, 0);
  CHECK(text == *(unsigned long *)target);
  OK(trace(PTRACE_POKETEXT, child, (long)target, (text & ~0xFF) | 0xCC));
  CHECK(text == *(unsigned long *)target);
  OK(trace(PTRACE_CONT, child, 0, 0));
  CHECK(STOPPED(await(child), SIGTRAP));
  siginfo_t about;
  OK(trace(PTRACE_GETSIGINFO, child, 0, (long)&about));
  EQUAL(about.si_signo, SIGTRAP);
  EQUAL(about.si_code, 128);  // SI_KERNEL
  OK(trace(PTRACE_GETREGS, child, 0, (long)&regs));
  EQUAL(regs.eip, (long)target + 1);
  OK(trace(PTRACE_POKETEXT, child, (long)target, text));
  regs.eip--;
  OK(trace(PTRACE_SETREGS, child, 0, (long)&regs));
  OK(trace(PTRACE_SINGLESTEP, child, 0, 0));
  CHECK(STOPPED(await(child), SIGTRAP));
  unsigned long before = regs.eip;
  OK(trace(PTRACE_GETREGS, child, 0, (long)&regs));
  CHECK(regs.eip != before);
  OK(trace(PTRACE_CONT, child, 0, 0));
  EQUAL(await(child), 41 << 8);
  FAILS(trace(PTRACE_CONT, child, 0, 0), ESRCH);
}

CASE(floating_point_registers) {
  pid_t child = TRACED({
    double x = 1.5;
    asm volatile("movsd %0, %%xmm3" ::"m"(x));
    asm volatile("mov $20, %%eax; int $0x80" ::: "eax");
    asm volatile("movsd %%xmm3, %0" : "=m"(x));
    _exit(x == 2.25 ? 7 : 1);
  });
  CHECK(STOPPED(await(child), SIGSTOP));
  struct user_fpxregs_struct fpu;
  // Before getpid.
  for (;;) {
    OK(trace(PTRACE_SYSCALL, child, 0, 0));
    CHECK(STOPPED(await(child), SIGTRAP));
    if (trace(PTRACE_PEEKUSER, child, offsetof(struct user_regs_struct, orig_eax), 0) == 20) break;
  }
  OK(trace(PTRACE_GETFPXREGS, child, 0, (long)&fpu));
  double *xmm = (double *)fpu.xmm_space;
  CHECK(xmm[6] == 1.5);
  xmm[6] = 2.25;
  OK(trace(PTRACE_SETFPXREGS, child, 0, (long)&fpu));
  OK(trace(PTRACE_DETACH, child, 0, 0));
  EQUAL(await(child), 7 << 8);
}

CASE(calls) {
  pid_t child = TRACED({
    long got = syscall(SYS_getppid);
    _exit(got == 1234 && syscall(SYS_getuid) == 77 ? 3 : 1);
  });
  CHECK(STOPPED(await(child), SIGSTOP));
  OK(trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD));
  FAILS(trace(PTRACE_SETOPTIONS, child, 0, 0x80000), EINVAL);
  int entries = 0, exits = 0;
  struct user_regs_struct regs;
  for (int inside = 0;; inside = !inside) {
    OK(trace(PTRACE_SYSCALL, child, 0, 0));
    int status = await(child);
    if (WIFEXITED(status)) {
      EQUAL(WEXITSTATUS(status), 3);
      break;
    }
    EQUAL(status, 0x7F | (SIGTRAP | 0x80) << 8);
    OK(trace(PTRACE_GETREGS, child, 0, (long)&regs));
    if (!inside) {
      entries++;
      EQUAL(regs.eax, -ENOSYS);
      if (regs.orig_eax == SYS_getuid || regs.orig_eax == SYS_getuid32) {
        // Another call in its place, and an answer of our own.
        regs.orig_eax = SYS_getpid;
        OK(trace(PTRACE_SETREGS, child, 0, (long)&regs));
      }
    } else {
      exits++;
      if (regs.orig_eax == SYS_getppid) regs.eax = 1234;
      if (regs.orig_eax == SYS_getpid) {
        EQUAL(regs.eax, child);
        regs.eax = 77;
      }
      OK(trace(PTRACE_SETREGS, child, 0, (long)&regs));
    }
  }
  CHECK(entries >= 3 && exits == entries - 1);
}

static volatile int caught;
static void note(int signal) { caught = signal; }

CASE(signals) {
  pid_t child = TRACED({
    signal(SIGUSR2, note);
    signal(SIGWINCH, SIG_IGN);
    raise(SIGUSR1);  // suppressed
    raise(SIGUSR1);  // becomes SIGUSR2
    raise(SIGWINCH);  // ignored, but shown
    int got = caught;
    raise(SIGTERM);
    _exit(got);
  });
  CHECK(STOPPED(await(child), SIGSTOP));
  OK(trace(PTRACE_CONT, child, 0, 0));
  CHECK(STOPPED(await(child), SIGUSR1));
  EQUAL(waitpid(child, NULL, WNOHANG), 0);
  siginfo_t about;
  OK(trace(PTRACE_GETSIGINFO, child, 0, (long)&about));
  EQUAL(about.si_pid, child);
  OK(trace(PTRACE_CONT, child, 0, 0));
  CHECK(STOPPED(await(child), SIGUSR1));
  OK(trace(PTRACE_CONT, child, 0, SIGUSR2));
  CHECK(STOPPED(await(child), SIGWINCH));
  FAILS(trace(PTRACE_CONT, child, 0, 65), EIO);
  OK(trace(PTRACE_CONT, child, 0, SIGWINCH));
  CHECK(STOPPED(await(child), SIGTERM));
  OK(trace(PTRACE_DETACH, child, 0, 0));
  EQUAL(await(child), SIGUSR2 << 8);
}

static void *sleeper(void *unused) {
  usleep(1000);
  return unused;
}

CASE(follows_forks_threads_and_programs) {
  pid_t child = TRACED({
    pid_t grandchild = fork();
    if (!grandchild) {
      execl("/bin/sh", "sh", "-c", "exit 9", NULL);
      _exit(1);
    }
    int status;
    waitpid(grandchild, &status, 0);
    pthread_t thread;
    pthread_create(&thread, NULL, sleeper, NULL);
    pthread_join(thread, NULL);
    _exit(WEXITSTATUS(status));
  });
  CHECK(STOPPED(await(child), SIGSTOP));
  OK(trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT));
  OK(trace(PTRACE_CONT, child, 0, 0));
  int forks = 0, clones = 0, programs = 0, exits = 0, ends = 0;
  for (int status; ends < 3;) {
    pid_t pid = OK(waitpid(-1, &status, __WALL));
    if (WIFEXITED(status)) {
      ends++;
      if (pid == child) EQUAL(WEXITSTATUS(status), 9);
      continue;
    }
    CHECK(WIFSTOPPED(status));
    int signal = WSTOPSIG(status);
    unsigned long message = 0;
    if (status >> 16) OK(trace(PTRACE_GETEVENTMSG, pid, 0, (long)&message));
    switch (status >> 16) {
    case PTRACE_EVENT_FORK: forks++; break;
    case PTRACE_EVENT_CLONE: clones++; break;
    case PTRACE_EVENT_EXEC:
      programs++;
      EQUAL(message, pid);
      break;
    case PTRACE_EVENT_EXIT:
      exits++;
      if (pid == child) EQUAL(message, 9 << 8);
      break;
    case 0:
      if (signal == SIGSTOP) signal = 0;  // a new one's first
      OK(trace(PTRACE_CONT, pid, 0, signal));
      continue;
    default: FAIL("event %d", status >> 16);
    }
    OK(trace(PTRACE_CONT, pid, 0, 0));
  }
  EQUAL(forks, 1);
  EQUAL(clones, 1);
  EQUAL(programs, 1);
  EQUAL(exits, 3);
  FAILS(waitpid(-1, NULL, __WALL), ECHILD);
}

static void *ends_later(void *unused) {
  usleep(20000);
  syscall(SYS_exit, 4);
  return unused;
}

// Of the end of the first thread its tracer hears after those of all others.
CASE(a_leader_that_ends_first) {
  pid_t child = TRACED({
    pthread_t thread;
    pthread_create(&thread, NULL, ends_later, NULL);
    syscall(SYS_exit, 3);
  });
  CHECK(STOPPED(await(child), SIGSTOP));
  OK(trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACECLONE));
  OK(trace(PTRACE_CONT, child, 0, 0));
  int ends = 0;
  for (int status; ends < 2;) {
    pid_t pid = OK(waitpid(-1, &status, __WALL));
    if (WIFEXITED(status)) {
      EQUAL(status, 4 << 8);
      EQUAL(pid == child, ends);
      if (!ends) FAILS(trace(PTRACE_CONT, child, 0, 0), ESRCH);
      ends++;
      continue;
    }
    OK(trace(PTRACE_CONT, pid, 0, WSTOPSIG(status) == SIGSTOP || status >> 16 ? 0 : WSTOPSIG(status)));
  }
  FAILS(waitpid(-1, NULL, __WALL), ECHILD);
}

static void *executes(void *unused) {
  usleep(20000);
  execl("/bin/sh", "sh", "-c", "exit 9", NULL);
  return unused;
}

// The new program has the number of the process; of its first thread's end nobody hears.
CASE(a_thread_that_executes) {
  pid_t child = TRACED({
    pthread_t thread;
    pthread_create(&thread, NULL, executes, NULL);
    for (;;) pause();
  });
  CHECK(STOPPED(await(child), SIGSTOP));
  OK(trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC));
  OK(trace(PTRACE_CONT, child, 0, 0));
  unsigned long thread = 0, former = 0;
  for (int status;;) {
    pid_t pid = OK(waitpid(-1, &status, __WALL));
    if (WIFEXITED(status)) {
      EQUAL(pid, child);
      EQUAL(status, 9 << 8);
      break;
    }
    if (status >> 16 == PTRACE_EVENT_CLONE) OK(trace(PTRACE_GETEVENTMSG, pid, 0, (long)&thread));
    if (status >> 16 == PTRACE_EVENT_EXEC) {
      EQUAL(pid, child);
      OK(trace(PTRACE_GETEVENTMSG, pid, 0, (long)&former));
    }
    OK(trace(PTRACE_CONT, pid, 0, WSTOPSIG(status) == SIGSTOP || status >> 16 ? 0 : WSTOPSIG(status)));
  }
  CHECK(thread && thread != (unsigned long)child);
  EQUAL(former, thread);
  FAILS(waitpid(-1, NULL, __WALL), ECHILD);
}

CASE(seize_interrupt_and_listen) {
  pid_t child = CHILD({
    for (;;) pause();
  });
  FAILS(trace(PTRACE_CONT, child, 0, 0), ESRCH);
  OK(trace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACESYSGOOD));
  FAILS(trace(PTRACE_SEIZE, child, 0, 0), EPERM);
  FAILS(trace(PTRACE_GETREGS, child, 0, 0), ESRCH);  // it runs
  OK(trace(PTRACE_INTERRUPT, child, 0, 0));
  EVENT(await(child), PTRACE_EVENT_STOP);
  OK(trace(PTRACE_CONT, child, 0, 0));
  // A stop of the group: shown, and kept with LISTEN until SIGCONT.
  OK(kill(child, SIGSTOP));
  CHECK(STOPPED(await(child), SIGSTOP));
  OK(trace(PTRACE_CONT, child, 0, SIGSTOP));
  EQUAL(await(child), 0x7F | SIGSTOP << 8 | PTRACE_EVENT_STOP << 16);
  OK(trace(PTRACE_LISTEN, child, 0, 0));
  OK(kill(child, SIGCONT));
  int status = await(child);
  if (status >> 16) {  // Linux tells of the end of the stop, too
    OK(trace(PTRACE_CONT, child, 0, 0));
    status = await(child);
  }
  CHECK(STOPPED(status, SIGCONT));
  OK(trace(PTRACE_CONT, child, 0, 0));
  OK(kill(child, SIGKILL));
  EQUAL(await(child), SIGKILL);
}

CASE(attach_and_end_of_the_tracer) {
  pid_t child = CHILD({
    for (;;) pause();
  });
  for (int kills = 0; kills < 2; kills++) {
    pid_t tracer = CHILD({
      if (kills) {
        OK(trace(PTRACE_SEIZE, child, 0, PTRACE_O_EXITKILL));
        _exit(0);
      }
      OK(trace(PTRACE_ATTACH, child, 0, 0));
      CHECK(STOPPED(await(child), SIGSTOP));
      _exit(0);  // and leaves it stopped
    });
    EQUAL(reap(tracer), 0);
    if (!kills) EQUAL(kill(child, 0), 0);
  }
  EQUAL(await(child), SIGKILL);
}

CASE(a_killed_tracee_dies_in_any_stop) {
  for (int i = 0; i < 20; i++) {
    pid_t child = TRACED({
      for (;;) getppid();
    });
    CHECK(STOPPED(await(child), SIGSTOP));
    for (int n = 0; n < i; n++) {
      OK(trace(PTRACE_SYSCALL, child, 0, 0));
      CHECK(STOPPED(await(child), SIGTRAP));
    }
    OK(kill(child, SIGKILL));
    EQUAL(await(child), SIGKILL);
  }
}

CASE(who_may) {
  pid_t child = CHILD({
    for (;;) pause();
  });
  pid_t other = CHILD({
    OK(setresuid(1000, 1000, 1000));
    FAILS(trace(PTRACE_ATTACH, child, 0, 0), EPERM);
    FAILS(trace(PTRACE_ATTACH, 1, 0, 0), EPERM);
    FAILS(trace(PTRACE_ATTACH, getpid(), 0, 0), EPERM);
    FAILS(trace(PTRACE_ATTACH, 99999, 0, 0), ESRCH);
    struct iovec mine = {&global, 4}, theirs = {&global, 4};
    FAILS(process_vm_readv(child, &mine, 1, &theirs, 1, 0), EPERM);
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/mem", child);
    FAILS(open(path, O_RDONLY), EACCES);
  });
  EQUAL(reap(other), 0);
  OK(kill(child, SIGKILL));
  EQUAL(reap(child), 128 + SIGKILL);
}

CASE(other_memory) {
  static char pages[3 * 4096] __attribute__((aligned(4096)));
  memset(pages, 'p', sizeof pages);
  int ready[2];
  OK(pipe(ready));
  pid_t child = CHILD({
    memset(pages, 'c', sizeof pages);
    OK(mprotect(pages + 8192, 4096, PROT_NONE));
    EQUAL(write(ready[1], "r", 1), 1);
    for (;;) pause();
  });
  char got[8192];
  EQUAL(read(ready[0], got, 1), 1);
  struct iovec mine[2] = {{got, 100}, {got + 100, 8000}}, theirs = {pages + 50, 8000};
  EQUAL(process_vm_readv(child, mine, 2, &theirs, 1, 0), 8000);
  CHECK(got[0] == 'c' && got[7999] == 'c');
  theirs.iov_base = pages + 8000;  // into what may not be read
  EQUAL(process_vm_readv(child, mine, 2, &theirs, 1, 0), 192);
  theirs.iov_base = pages + 8192;
  FAILS(process_vm_readv(child, mine, 2, &theirs, 1, 0), EFAULT);
  FAILS(process_vm_readv(child, mine, 2, &theirs, 1, 1), EINVAL);
  strcpy(got, "hello");
  mine[0].iov_len = 6;
  theirs = (struct iovec){pages + 4090, 6};
  EQUAL(process_vm_writev(child, mine, 1, &theirs, 1, 0), 6);
  EQUAL(pages[4090], 'p');
  char path[40], back[6];
  snprintf(path, sizeof path, "/proc/%d/mem", child);
  int memory = OK(open(path, O_RDWR));
  EQUAL(pread(memory, back, 6, (long)pages + 4090), 6);
  CHECK(!strcmp(back, "hello"));
  EQUAL(pwrite(memory, "HE", 2, (long)pages + 4090), 2);
  EQUAL(process_vm_readv(child, &(struct iovec){back, 6}, 1, &theirs, 1, 0), 6);
  CHECK(!strcmp(back, "HEllo"));
  FAILS(pread(memory, back, 6, 16), EIO);
  OK(kill(child, SIGKILL));
  EQUAL(reap(child), 128 + SIGKILL);
}
