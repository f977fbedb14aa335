// Processor time: what a process and its children used, in user mode and in the kernel.
#include "test.h"
#include <sys/time.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/times.h>
#include <time.h>

static double clock_of(clockid_t id) {
  struct timespec t;
  OK(clock_gettime(id, &t));
  return t.tv_sec + t.tv_nsec / 1e9;
}

static double of(struct timeval t) { return t.tv_sec + t.tv_usec / 1e6; }

// Works in user mode, or in system calls, until `goal` seconds of processor time are used.
static void use_user(double goal) {
  for (double end = clock_of(CLOCK_THREAD_CPUTIME_ID) + goal; clock_of(CLOCK_THREAD_CPUTIME_ID) < end;)
    for (volatile int i = 0; i < 200000; i++) {}
}

static void use_system(double goal) {
  static char block[1 << 18];
  int zero = open("/dev/zero", O_RDONLY);
  for (double end = clock_of(CLOCK_THREAD_CPUTIME_ID) + goal; clock_of(CLOCK_THREAD_CPUTIME_ID) < end;)
    for (int i = 0; i < 4; i++) CHECK(read(zero, block, sizeof block) == sizeof block);
  close(zero);
}

CASE(user_and_system) {
  struct rusage a, b, c;
  OK(getrusage(RUSAGE_SELF, &a));
  use_user(0.3);
  OK(getrusage(RUSAGE_SELF, &b));
  double user = of(b.ru_utime) - of(a.ru_utime), system = of(b.ru_stime) - of(a.ru_stime);
  printf("user work: %.3f user, %.3f system\n", user, system);
  CHECK(user + system > 0.29 && user + system < 0.6 && user > 2 * system);
  use_system(0.3);
  OK(getrusage(RUSAGE_SELF, &c));
  user = of(c.ru_utime) - of(b.ru_utime), system = of(c.ru_stime) - of(b.ru_stime);
  printf("system work: %.3f user, %.3f system\n", user, system);
  CHECK(user + system > 0.29 && user + system < 0.6 && system > 2 * user);
  double total = of(c.ru_utime) + of(c.ru_stime), clock = clock_of(CLOCK_PROCESS_CPUTIME_ID);
  CHECK(clock >= total - 0.002 && clock < total + 0.1);
}

// Calls that only answer a number of the caller take system time too.
CASE(identity_calls) {
  struct rusage a, b;
  double end = clock_of(CLOCK_THREAD_CPUTIME_ID) + 0.5;
  OK(getrusage(RUSAGE_SELF, &a));
  while (clock_of(CLOCK_THREAD_CPUTIME_ID) < end)
    for (int i = 0; i < 20000; i++) getppid();
  OK(getrusage(RUSAGE_SELF, &b));
  double user = of(b.ru_utime) - of(a.ru_utime), system = of(b.ru_stime) - of(a.ru_stime);
  printf("getppid: %.3f user, %.3f system\n", user, system);
  // An emulator may spend most of the time on the way in, which is not the kernel's.
  CHECK(user > 0.02 && system > 0.02);
  CHECK(user + system > 0.48 && user + system < 1.5);
}

CASE(children) {
  struct tms before, between, after;
  times(&before);
  pid_t child = CHILD({ use_user(0.2); });
  siginfo_t information;
  OK(waitid(P_PID, child, &information, WEXITED | WNOWAIT));
  times(&between);
  EQUAL(between.tms_cutime, before.tms_cutime);
  struct rusage usage;
  EQUAL(wait4(child, NULL, 0, &usage), child);
  times(&after);
  printf("child: %.3f user\n", of(usage.ru_utime));
  CHECK(of(usage.ru_utime) > 0.15 && of(usage.ru_utime) < 0.5);
  long ticks = after.tms_cutime - before.tms_cutime;
  CHECK(ticks >= 15 && ticks < 50);
  // Who ignores its children's ends learns nothing of their time.
  signal(SIGCHLD, SIG_IGN);
  child = CHILD({ use_user(0.2); });
  FAILS(waitpid(child, NULL, 0), ECHILD);
  struct tms last;
  times(&last);
  EQUAL(last.tms_cutime, after.tms_cutime);
}

static void *busy(void *unused) {
  use_user(0.2);
  return NULL;
}

CASE(threads_count) {
  double before = clock_of(CLOCK_PROCESS_CPUTIME_ID), mine = clock_of(CLOCK_THREAD_CPUTIME_ID);
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) CHECK(!pthread_create(&threads[i], NULL, busy, NULL));
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  double used = clock_of(CLOCK_PROCESS_CPUTIME_ID) - before;
  printf("three threads: %.3f\n", used);
  CHECK(used >= 0.59 && used < 1);
  CHECK(clock_of(CLOCK_THREAD_CPUTIME_ID) - mine < 0.1);
}

static void cpu_line(double *user, double *system, double *idle) {
  FILE *file = fopen("/proc/stat", "r");
  CHECK(file);
  double nice;
  EQUAL(fscanf(file, "cpu %lf %lf %lf %lf", user, &nice, system, idle), 4);
  fclose(file);
}

// /proc/stat and /proc/uptime: idle time grows while everything sleeps, user time while we work.
CASE(system_times) {
  double user[3], system[3], idle[3];
  cpu_line(&user[0], &system[0], &idle[0]);
  struct timespec pause = {0, 500000000};
  nanosleep(&pause, NULL);
  cpu_line(&user[1], &system[1], &idle[1]);
  struct rusage mine[2];
  OK(getrusage(RUSAGE_SELF, &mine[0]));
  use_user(0.5);
  OK(getrusage(RUSAGE_SELF, &mine[1]));
  cpu_line(&user[2], &system[2], &idle[2]);
  double used = 100 * (of(mine[1].ru_utime) - of(mine[0].ru_utime));
  printf("asleep: %.0f user %.0f idle; at work: %.0f user of which %.1f ours\n", user[1] - user[0], idle[1] - idle[0],
         user[2] - user[1], used);
  CHECK(idle[1] - idle[0] >= 25);
  // An interrupt's work in our time is the system's; how much there is depends on the machine.
  CHECK(used >= 20);
  CHECK(user[2] - user[1] >= used - 2);
  double up, sum;
  FILE *file = fopen("/proc/uptime", "r");
  CHECK(file && fscanf(file, "%lf %lf", &up, &sum) == 2);
  CHECK(up > 0 && sum > 0);
  double load[3];
  int running, all;
  file = fopen("/proc/loadavg", "r");
  CHECK(file && fscanf(file, "%lf %lf %lf %d/%d", &load[0], &load[1], &load[2], &running, &all) == 5);
  CHECK(running >= 1 && all >= running);
}

CASE(use_beyond_time) {
  struct rusage before, after, children;
  OK(getrusage(RUSAGE_SELF, &before));
  CHECK(before.ru_maxrss > 0);
  char *memory = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  madvise(memory, 4 << 20, MADV_NOHUGEPAGE);
  for (int page = 0; page < 1024; page++) memory[page * 4096] = 1;
  for (int i = 0; i < 5; i++) pause_ms(1);
  OK(getrusage(RUSAGE_SELF, &after));
  long faults = after.ru_minflt - before.ru_minflt;
  if (faults < 1024 || faults > 1100) FAIL("%ld faults", faults);
  CHECK(after.ru_maxrss - before.ru_maxrss >= 4000);
  CHECK(after.ru_nvcsw - before.ru_nvcsw >= 5);
  OK(munmap(memory, 4 << 20));
  OK(getrusage(RUSAGE_SELF, &before));
  CHECK(before.ru_maxrss >= after.ru_maxrss);
  pid_t child = CHILD(memory = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                      madvise(memory, 8 << 20, MADV_NOHUGEPAGE); for (int page = 0; page < 2048; page++) memory[page * 4096] = 1);
  int status;
  OK(wait4(child, &status, 0, &after));
  CHECK(after.ru_minflt >= 2048);
  CHECK(after.ru_maxrss >= 8000);
  OK(getrusage(RUSAGE_CHILDREN, &children));
  CHECK(children.ru_minflt >= 2048);
  CHECK(children.ru_maxrss >= 8000);
  FAILS(getrusage(5, &after), EINVAL);
  FAILS(syscall(SYS_getrusage, RUSAGE_SELF, 4096), EFAULT);
}

static volatile int rung;
static void ring(int signal) { rung++; }

static double used(void) {
  struct timespec t;
  OK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t));
  return t.tv_sec + t.tv_nsec / 1e9;
}

// Timers that run while the process does.
CASE(timers_of_processor_time) {
  struct sigaction a = {.sa_handler = ring};
  OK(sigaction(SIGVTALRM, &a, NULL));
  OK(sigaction(SIGPROF, &a, NULL));
  struct itimerval every = {{0, 60000}, {0, 60000}}, never = {{0, 0}, {0, 0}}, is;
  for (int which = ITIMER_VIRTUAL; which <= ITIMER_PROF; which++) {
    rung = 0;
    OK(setitimer(which, &every, NULL));
    pause_ms(200);
    EQUAL(rung, 0);  // it has not run
    OK(getitimer(which, &is));
    CHECK(is.it_interval.tv_usec == 60000 && is.it_value.tv_usec > 0 && is.it_value.tv_usec <= 70000);
    for (double start = used(); used() - start < 0.35;)
      for (volatile int i = 0; i < 20000; i++) {}
    CHECK(rung >= 3 && rung <= 7);
    OK(setitimer(which, &never, &is));
    CHECK(is.it_interval.tv_usec == 60000 && is.it_value.tv_usec > 0);
    int before = rung;
    for (double start = used(); used() - start < 0.1;) {}
    EQUAL(rung, before);
    OK(getitimer(which, &is));
    EQUAL(is.it_value.tv_sec + is.it_value.tv_usec, 0);
  }
  FAILS(setitimer(3, &never, NULL), EINVAL);
  FAILS(getitimer(-1, &is), EINVAL);
}

CASE(limit_of_processor_time) {
  pid_t child = CHILD({
    struct sigaction a = {.sa_handler = ring};
    OK(sigaction(SIGXCPU, &a, NULL));
    struct rlimit limit = {1, 2};
    OK(setrlimit(RLIMIT_CPU, &limit));
    while (!rung) {}
    CHECK(used() >= 0.9 && used() < 1.6);
    for (;;) {}
  });
  EQUAL(reap(child), 128 + SIGKILL);
}
