// System calls at the same time on every CPU.
#include "test.h"
#include <sched.h>
#include <sys/auxv.h>

static long state(const char *name) {
  FILE *file = fopen("/proc/kernel_state", "r");
  if (!file) return -1;
  char line[128];
  long value = -1;
  while (fgets(line, sizeof line, file))
    if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':') value = atol(line + strlen(name) + 1);
  fclose(file);
  return value;
}

// Every CPU is inside a system call at one moment. Linux has no such counter: there the case only runs the load.
CASE(all_cpus_inside_calls) {
  long cpus = state("cpus");
  if (cpus < 2) return;
  pid_t workers[16];
  for (int i = 0; i < cpus; i++)
    workers[i] = CHILD({
      static char block[65536];
      int zero = open("/dev/zero", O_RDONLY);
      for (;;) read(zero, block, sizeof block);
    });
  long most = 0;
  for (double end = seconds() + 20; most < cpus && seconds() < end;) {
    long now = state("cpus_inside_calls");
    if (now > most) most = now;
  }
  for (int i = 0; i < cpus; i++) {
    kill(workers[i], SIGKILL);
    waitpid(workers[i], NULL, 0);
  }
  EQUAL(most, cpus);
}

static void *bad[] = {(void *)0, (void *)1, (void *)0xC0000000, (void *)0xFFFFF000, (void *)-1};

// A bad pointer in any argument is an error, not the end.
CASE(bad_pointers) {
  char name[] = "f";
  int file = OK(open(name, O_CREAT | O_RDWR, 0644));
  EQUAL(OK(write(file, "hello", 5)), 5);
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    void *p = bad[i];
    OK(lseek(file, 0, SEEK_SET));
    FAILS(syscall(SYS_read, file, p, 5), EFAULT);
    FAILS(syscall(SYS_write, file, p, 5), EFAULT);
    FAILS(syscall(SYS_open, p, 0), EFAULT);
    FAILS(syscall(SYS_pipe, p), EFAULT);
    FAILS(syscall(SYS_fstat64, file, p), EFAULT);
    FAILS(syscall(SYS_uname, p), EFAULT);
    FAILS(syscall(SYS_getcwd, p, 4096), EFAULT);
    FAILS(syscall(SYS_clock_gettime, 0, p), EFAULT);
    if (p) FAILS(syscall(SYS_rt_sigprocmask, SIG_BLOCK, p, NULL, 8), EFAULT);
    FAILS(syscall(SYS_execve, p, NULL, NULL), EFAULT);
    if (p) FAILS(syscall(SYS_execve, "/proc/self/exe", p, NULL), EFAULT);
    FAILS(syscall(SYS_getdents64, OK(open("/", O_RDONLY)), p, 4096), EFAULT);
  }
}

// The second page of a buffer is the bad one.
CASE(bad_second_page) {
  char *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  OK(munmap(two + 4096, 4096));
  char *edge = two + 4096 - 3;
  strcpy(edge, "ab");
  int file = OK(open("g", O_CREAT | O_RDWR, 0644));
  EQUAL(OK(write(file, "0123456789", 10)), 10);
  OK(lseek(file, 0, SEEK_SET));
  FAILS(syscall(SYS_uname, edge), EFAULT);
  FAILS(syscall(SYS_fstat64, file, edge), EFAULT);
  FAILS(syscall(SYS_pipe, edge), EFAULT);
  memcpy(edge, "abc", 3);
  FAILS(syscall(SYS_open, edge, O_RDONLY), EFAULT);
  int zero = OK(open("/dev/zero", O_RDONLY));
  long got = syscall(SYS_read, zero, edge, 10);
  CHECK(got == 3 || (got == -1 && errno == EFAULT));
}

CASE(unknown_numbers) {
  FAILS(syscall(100000), ENOSYS);
  FAILS(syscall(-1), ENOSYS);
  FAILS(syscall(17), ENOSYS);
}
