// fork, exec, wait.
#include "test.h"
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/time.h>

// 100 processes, each of which makes and reaps children one after the other.
LIMITED_CASE(fork_storm, 120) {
  int rounds = torture() ? 500 : 20;
  pid_t parents[100];
  for (int i = 0; i < 100; i++)
    parents[i] = CHILD({
      for (int n = 0; n < rounds; n++) {
        pid_t child = fork();
        if (child < 0) _exit(1);
        if (!child) _exit(n & 0x7f);
        int status;
        if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != (n & 0x7f)) _exit(2);
      }
    });
  for (int i = 0; i < 100; i++) EQUAL(reap(parents[i]), 0);
}

CASE(exit_status_and_signal) {
  EQUAL(reap(CHILD(_exit(42))), 42);
  EQUAL(reap(CHILD(raise(SIGTERM))), 128 + SIGTERM);
  EQUAL(reap(CHILD(raise(SIGKILL))), 128 + SIGKILL);
  FAILS(waitpid(-1, NULL, 0), ECHILD);
}

// Memory written after a fork is the writer's own.
CASE(copy_on_write) {
  static volatile int words[64 * 1024];
  for (int i = 0; i < 64 * 1024; i++) words[i] = i;
  pid_t child = CHILD({
    for (int i = 0; i < 64 * 1024; i++) words[i] = -i;
    for (int i = 0; i < 64 * 1024; i++)
      if (words[i] != -i) _exit(1);
  });
  EQUAL(reap(child), 0);
  for (int i = 0; i < 64 * 1024; i++) EQUAL(words[i], i);
}

// The parent's last child may end before the wait starts or while it sleeps.
CASE(wait_races) {
  for (int i = 0; i < 500; i++) {
    pid_t child = CHILD(if (i & 1) sched_yield());
    if (i & 2) sched_yield();
    EQUAL(reap(child), 0);
  }
}

CASE(wait_options) {
  pid_t child = CHILD(pause());
  int status;
  EQUAL(waitpid(child, &status, WNOHANG), 0);
  OK(kill(child, SIGSTOP));
  EQUAL(OK(waitpid(child, &status, WUNTRACED)), child);
  CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
  OK(kill(child, SIGCONT));
  EQUAL(OK(waitpid(child, &status, WCONTINUED)), child);
  CHECK(WIFCONTINUED(status));
  siginfo_t info;
  memset(&info, 0, sizeof info);
  OK(kill(child, SIGTERM));
  OK(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
  EQUAL(info.si_pid, child);
  EQUAL(info.si_code, CLD_KILLED);
  EQUAL(info.si_status, SIGTERM);
  EQUAL(reap(child), 128 + SIGTERM);
}

// An orphan goes to process 1 (or a subreaper), not to nobody.
CASE(orphans_get_a_parent) {
  int ends[2];
  OK(pipe(ends));
  pid_t child = CHILD({
    pid_t grandchild = fork();
    if (!grandchild) {
      for (int i = 0; i < 1000 && getppid() != 1; i++) pause_ms(5);
      int parent = getppid();
      write(ends[1], &parent, sizeof parent);
    }
  });
  EQUAL(reap(child), 0);
  int parent = 0;
  EQUAL(OK(read(ends[0], &parent, sizeof parent)), sizeof parent);
  CHECK(parent != getpid() && parent > 0);
}

CASE(exec_replaces_the_program) {
  int ends[2];
  OK(pipe(ends));
  pid_t child = CHILD({
    dup2(ends[1], 1);
    execl("/proc/self/exe", "process", "--list", NULL);
    _exit(1);
  });
  OK(close(ends[1]));
  char buffer[8192];
  int total = 0, got;
  while ((got = OK(read(ends[0], buffer + total, sizeof buffer - 1 - total))) > 0) total += got;
  buffer[total] = 0;
  EQUAL(reap(child), 0);
  CHECK(strstr(buffer, "exec_replaces_the_program 30\n"));
}

static void write_file(const char *name, const void *data, size_t size) {
  int file = OK(open(name, O_CREAT | O_WRONLY | O_TRUNC, 0755));
  EQUAL(OK(write(file, data, size)), size);
  OK(close(file));
}

// Every damaged ELF file is refused, or its process dies of a signal: never more than that.
CASE(malformed_elf) {
  static unsigned char program[1 << 20];
  int file = OK(open("/proc/self/exe", O_RDONLY));
  int size = OK(read(file, program, sizeof program));
  OK(close(file));
  CHECK(size > 4096);
  unsigned seed = 12345;
  char *arguments[] = {"x", "--list", NULL};
  for (int i = 0; i < 60; i++) {
    unsigned char saved[256];
    memcpy(saved, program, sizeof saved);
    int cut = size;
    if (i < 20) cut = i * 13;
    else
      for (int n = 0; n < 3; n++) {
        seed = seed * 1664525 + 1013904223;
        program[seed >> 8 & 0xff] ^= 1 << (seed >> 20 & 7);
      }
    write_file("broken", program, cut < size ? cut : 65536 < size ? 65536 : size);
    memcpy(program, saved, sizeof saved);
    pid_t child = CHILD({
      close(1);
      close(2);
      alarm(2);
      execv("broken", arguments);
      _exit(errno == ENOEXEC || errno == EINVAL || errno == ENOMEM || errno == EACCES || errno == ENOENT || errno == EFAULT || errno == E2BIG ||
                    errno == ELIBBAD || errno == EIO
                ? 0
                : errno);
    });
    int status = reap(child);
    if (i < 20) EQUAL(status, 0);
  }
  write_file("broken", "not a program", 13);
  FAILS(execv("broken", arguments), ENOEXEC);
  FAILS(execv("missing", arguments), ENOENT);
  FAILS(execv("/", arguments), EACCES);
  FAILS(execv("/dev/null", arguments), EACCES);
}

CASE(interpreter_lines) {
  write_file("loop", "#!./loop\n", 9);
  char *arguments[] = {"loop", NULL};
  FAILS(execv("./loop", arguments), ELOOP);
  write_file("gone", "#!/no/such/interpreter\n", 23);
  FAILS(execv("./gone", arguments), ENOENT);
}

static pid_t expected;
static void *spin(void *unused) {
  for (;;) getppid();
  return unused;
}
static void *wait_in_a_call(void *unused) {
  for (;;) pause();
  return unused;
}
static void *execute(void *unused) {
  char text[80];
  snprintf(text, sizeof text, "[ $$ = %d ] && [ -d /proc/$$/task/$$ ] && exit 7", expected);
  execl("/bin/sh", "sh", "-c", text, NULL);
  return unused;
}

// Whichever thread executes a program, the others end and the process keeps its number.
CASE(execve_with_threads) {
  for (int round = 0; round < 40; round++) {
    pid_t child = CHILD({
      expected = getpid();
      pthread_t thread;
      for (int i = 0; i < 3; i++) {
        CHECK(!pthread_create(&thread, NULL, spin, NULL));
        CHECK(!pthread_create(&thread, NULL, wait_in_a_call, NULL));
      }
      if (round & 1) {
        CHECK(!pthread_create(&thread, NULL, execute, NULL));
        for (;;) pause();
      }
      execute(NULL);
    });
    EQUAL(reap(child), 7);
  }
}

// A number beyond the signals is none: it once brought the kernel down when the child ended.
static void *ends(void *how) {
  usleep(20000);
  if (how) syscall(SYS_exit_group, 5);
  syscall(SYS_exit, 4);
  return NULL;
}
static void *returns(void *unused) { return unused; }

// The status is that of exit_group, else that of the last thread to begin to end.
CASE(status_with_threads) {
  for (int group = 0; group < 2; group++) {
    pid_t pid = CHILD({
      pthread_t thread;
      OK(-pthread_create(&thread, NULL, ends, group ? "" : NULL));
      syscall(SYS_exit, 3);
    });
    int status;
    EQUAL(waitpid(pid, &status, 0), pid);
    EQUAL(status, (group ? 5 : 4) << 8);
  }
  for (int i = 0; i < 200; i++) {
    pid_t pid = CHILD({
      pthread_t thread;
      OK(-pthread_create(&thread, NULL, returns, NULL));
      pthread_join(thread, NULL);
      _exit(9);
    });
    int status;
    EQUAL(waitpid(pid, &status, 0), pid);
    EQUAL(status, 9 << 8);
  }
}

CASE(exit_signals) {
  signal(SIGUSR1, SIG_IGN);
  for (int number = 0; number < 256; number += 5) {
    if (number == SIGSTOP || (number && number < 32 && number != SIGUSR1)) continue;
    if (number > 31 && number <= 64) signal(number, SIG_IGN);
    long child = OK(syscall(SYS_clone, number, 0, 0, 0, 0));
    if (!child) _exit(3);
    int status;
    OK(waitpid(child, &status, __WALL));
    EQUAL(status, 3 << 8);
  }
  FAILS(syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWPID | CLONE_SIGHAND, 0, 0, 0, 0), EINVAL);
  FAILS(syscall(SYS_clone, CLONE_THREAD, 0, 0, 0, 0), EINVAL);
}

static volatile int shared_word, shared_seen;
static char shared_stack[65536] __attribute__((aligned(16)));
static int change_shared(void *unused) {
  (void)unused;
  shared_word = 5;
  while (!shared_seen) sched_yield();
  return 9;
}
// Two processes in one memory, both running.
CASE(processes_share_memory) {
  pid_t child = OK(clone(change_shared, shared_stack + sizeof shared_stack, CLONE_VM | SIGCHLD, NULL));
  CHECK(child != getpid());
  while (shared_word != 5) sched_yield();
  shared_seen = 1;
  EQUAL(reap(child), 9);
  shared_word = shared_seen = 0;
  child = OK(clone(change_shared, shared_stack + sizeof shared_stack, CLONE_VM | SIGCHLD, NULL));
  while (shared_word != 5) sched_yield();
  OK(kill(child, SIGKILL));
  EQUAL(reap(child), 128 + SIGKILL);
  EQUAL(shared_word, 5);
}

// What is queued is limited, and comes out in order.
CASE(queued_signals) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN);
  sigprocmask(SIG_BLOCK, &set, NULL);
  struct rlimit limit;
  OK(getrlimit(RLIMIT_SIGPENDING, &limit));
  limit.rlim_cur = 300;
  OK(setrlimit(RLIMIT_SIGPENDING, &limit));
  int sent = 0;
  while (!sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = sent})) sent++;
  EQUAL(errno, EAGAIN);
  if (sent < 200 || sent > 300) FAIL("%d queued", sent);
  siginfo_t information;
  for (int i = 0; i < sent; i++) {
    EQUAL(sigwaitinfo(&set, &information), SIGRTMIN);
    EQUAL(information.si_value.sival_int, i);
  }
  EQUAL(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 1}), 0);
  // One's own signals may bear any code: a timer's is limited all the same.
  siginfo_t forged = {.si_signo = SIGRTMIN, .si_code = SI_TIMER};
  for (sent = 0; sent < 1000 && !syscall(SYS_rt_sigqueueinfo, getpid(), SIGRTMIN, &forged); sent++) {}
  CHECK(sent < 300);
}

// Interrupted close to its end, a sleep has nothing left: this once brought the kernel down.
static volatile int alarms;
static void on_alarm(int number) { alarms += number == SIGALRM; }
CASE(sleeps_that_just_end) {
  signal(SIGALRM, on_alarm);
  for (int i = 0; i < 400; i++) {
    struct itimerval timer = {{0, 0}, {0, 2000}};
    OK(setitimer(ITIMER_REAL, &timer, NULL));
    struct timespec time = {0, 2000000 - 100000 + i % 40 * 5000}, left = {5, 0};
    if (nanosleep(&time, &left)) CHECK(left.tv_sec == 0 && left.tv_nsec < 2000000);
  }
  CHECK(alarms > 0);
}

static volatile int too_large;
static void note_size(int number) { too_large++; }

CASE(file_size_limit) {
  struct sigaction note = {.sa_handler = note_size};
  struct rlimit limit = {10000, RLIM_INFINITY};
  int file = OK(open("limited", O_CREAT | O_RDWR, 0600)), ends[2];
  char block[8192] = {1};
  OK(sigaction(SIGXFSZ, &note, NULL));
  OK(setrlimit(RLIMIT_FSIZE, &limit));
  EQUAL(write(file, block, sizeof block), 8192);
  EQUAL(write(file, block, sizeof block), 10000 - 8192);
  EQUAL(too_large, 0);
  FAILS(write(file, block, 1), EFBIG);
  EQUAL(too_large, 1);
  EQUAL(write(file, block, 0), 0);
  FAILS(pwrite(file, block, 1, 10000), EFBIG);
  EQUAL(pwrite(file, block, 2, 9999), 1);
  FAILS(ftruncate(file, 10001), EFBIG);
  FAILS(truncate("limited", 20000), EFBIG);
  EQUAL(too_large, 4);
  OK(ftruncate(file, 10000));
  OK(ftruncate(file, 5));
  // Only files have a size.
  OK(pipe(ends));
  EQUAL(write(ends[1], block, sizeof block), 8192);
  EQUAL(too_large, 4);
  pid_t child = CHILD({
    signal(SIGXFSZ, SIG_DFL);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    pwrite(file, block, 1, 20000);
  });
  int status;
  OK(waitpid(child, &status, 0));
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ);
}

// Programs by their descriptors: also those without a name, and scripts.
CASE(execveat) {
  char *args[] = {"x", NULL}, *none[] = {NULL};
  char self[200] = "";
  OK(readlink("/proc/self/exe", self, sizeof self - 1));
  if (getenv("SAYS")) _exit(atoi(getenv("SAYS")));
  int fd = OK(open(self, O_RDONLY));
  FAILS(syscall(SYS_execveat, fd, "", args, none, 0), ENOENT);
  FAILS(syscall(SYS_execveat, fd, "", args, none, 0x1001), EINVAL);
  FAILS(syscall(SYS_execveat, 99, "", args, none, AT_EMPTY_PATH), EBADF);
  FAILS(syscall(SYS_execveat, fd, "x", args, none, AT_EMPTY_PATH), ENOTDIR);
  int here = OK(open(".", O_RDONLY | O_DIRECTORY));
  FAILS(syscall(SYS_execveat, here, "", args, none, AT_EMPTY_PATH), EACCES);
  OK(symlink(self, "link"));
  FAILS(syscall(SYS_execveat, here, "link", args, none, AT_SYMLINK_NOFOLLOW), ELOOP);
  char *again[] = {"x", "execveat", NULL}, *says[] = {"SAYS=7", NULL};
  EQUAL(reap(CHILD(syscall(SYS_execveat, fd, "", again, says, AT_EMPTY_PATH))), 7);
  EQUAL(reap(CHILD(syscall(SYS_execveat, here, "link", again, says, 0))), 7);
  EQUAL(reap(CHILD(syscall(SYS_execveat, OK(open(self, O_PATH | O_CLOEXEC)), "", again, says, AT_EMPTY_PATH))), 7);
  // From memory, and of a file that has lost its name.
  static char block[1 << 16];
  int memory = OK(memfd_create("program", 0)), lost = OK(open("lost", O_RDWR | O_CREAT, 0755));
  for (ssize_t count; (count = OK(read(fd, block, sizeof block)));) {
    EQUAL(write(memory, block, count), count);
    EQUAL(write(lost, block, count), count);
  }
  EQUAL(reap(CHILD(syscall(SYS_execveat, memory, "", again, says, AT_EMPTY_PATH))), 7);
  OK(close(lost));
  lost = OK(open("lost", O_RDONLY));
  OK(unlink("lost"));
  EQUAL(reap(CHILD(syscall(SYS_execveat, lost, "", again, says, AT_EMPTY_PATH))), 7);
  // A script is called by its descriptor, which must be there then.
  int script = OK(open("script", O_RDWR | O_CREAT, 0755));
  int length = snprintf(block, sizeof block, "#!%s execveat\n", self);
  EQUAL(write(script, block, length), length);
  OK(close(script));
  script = OK(open("script", O_RDONLY));
  OK(fcntl(script, F_SETFD, FD_CLOEXEC));
  FAILS(syscall(SYS_execveat, script, "", args, none, AT_EMPTY_PATH), ENOENT);
}
