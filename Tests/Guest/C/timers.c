// POSIX timers, scheduling, queued signals, credentials.
#include "test.h"
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>

static volatile int caught, value;
static void handler(int signal, siginfo_t *info, void *context) {
  caught++;
  value = info->si_value.sival_int;
}

CASE(timer_signals) {
  struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
  OK(sigaction(SIGRTMIN + 1, &a, NULL));
  struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1, .sigev_value.sival_int = 77};
  timer_t timer;
  OK(timer_create(CLOCK_MONOTONIC, &e, &timer));
  struct itimerspec t = {{0, 10000000}, {0, 10000000}}, now;
  OK(timer_settime(timer, 0, &t, NULL));
  for (double end = seconds() + 5; caught < 3 && seconds() < end;) pause_ms(5);
  CHECK(caught >= 3);
  EQUAL(value, 77);
  OK(timer_gettime(timer, &now));
  EQUAL(now.it_interval.tv_nsec, 10000000);
  CHECK(now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 10000000);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 1);
  OK(sigprocmask(SIG_BLOCK, &set, NULL));
  pause_ms(60);
  CHECK(timer_getoverrun(timer) >= 0);
  OK(sigprocmask(SIG_UNBLOCK, &set, NULL));
  OK(timer_delete(timer));
  FAILS(timer_delete(timer), EINVAL);
  FAILS(timer_create(99, &e, &timer), EINVAL);
}

CASE(queued_values) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN);
  OK(sigprocmask(SIG_BLOCK, &set, NULL));
  for (int i = 0; i < 5; i++) OK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i * 3}));
  for (int i = 0; i < 5; i++) {
    siginfo_t info;
    EQUAL(OK(sigwaitinfo(&set, &info)), SIGRTMIN);
    EQUAL(info.si_value.sival_int, i * 3);
    EQUAL(info.si_code, SI_QUEUE);
    EQUAL(info.si_pid, getpid());
  }
  struct timespec t = {0, 10000000};
  siginfo_t info;
  FAILS(sigtimedwait(&set, &info, &t), EAGAIN);
}

CASE(policies) {
  EQUAL(OK(sched_getscheduler(0)), SCHED_OTHER);
  EQUAL(OK(sched_get_priority_max(SCHED_FIFO)), 99);
  EQUAL(OK(sched_get_priority_min(SCHED_RR)), 1);
  EQUAL(OK(sched_get_priority_max(SCHED_OTHER)), 0);
  FAILS(sched_get_priority_max(77), EINVAL);
  struct sched_param p = {5}, none = {0};
  FAILS(sched_setscheduler(0, SCHED_OTHER, &p), EINVAL);
  FAILS(sched_setscheduler(0, SCHED_FIFO, &none), EINVAL);
  if (geteuid() == 0 && !sched_setscheduler(0, SCHED_RR, &p)) {
    struct sched_param got;
    EQUAL(OK(sched_getscheduler(0)), SCHED_RR);
    OK(sched_getparam(0, &got));
    EQUAL(got.sched_priority, 5);
    pid_t child = CHILD(EQUAL(sched_getscheduler(0), SCHED_RR));
    EQUAL(reap(child), 0);
  }
  OK(sched_setscheduler(0, SCHED_BATCH, &none));
  EQUAL(OK(sched_getscheduler(0)), SCHED_BATCH);
  OK(sched_setscheduler(0, SCHED_IDLE, &none));
  FAILS(sched_getscheduler(999999), ESRCH);
}

CASE(affinity) {
  cpu_set_t set, got;
  CPU_ZERO(&got);
  OK(sched_getaffinity(0, sizeof got, &got));
  int count = CPU_COUNT(&got);
  CHECK(count >= 1);
  for (int cpu = 0; cpu < 64; cpu++) {
    if (!CPU_ISSET(cpu, &got)) continue;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    OK(sched_setaffinity(0, sizeof set, &set));
    for (int i = 0; i < 50; i++) {
      EQUAL(sched_getcpu(), cpu);
      if (i % 10 == 0) pause_ms(1);
    }
  }
  CPU_ZERO(&set);
  FAILS(sched_setaffinity(0, sizeof set, &set), EINVAL);
  OK(sched_setaffinity(0, sizeof got, &got));
}

CASE(nice_values) {
  EQUAL(OK(setpriority(PRIO_PROCESS, 0, 5)), 0);
  EQUAL(getpriority(PRIO_PROCESS, 0), 5);
  errno = 0;
  EQUAL(nice(3), 8);
  pid_t child = CHILD(EQUAL(getpriority(PRIO_PROCESS, 0), 8));
  EQUAL(reap(child), 0);
  // As far as the limit allows, anybody goes back.
  OK(setrlimit(RLIMIT_NICE, &(struct rlimit){18, 18}));
  child = CHILD({
    OK(setresuid(1000, 1000, 1000));
    FAILS(setpriority(PRIO_PROCESS, 0, 1), EACCES);
    OK(setpriority(PRIO_PROCESS, 0, 2));
    FAILS(nice(-1), EPERM);
  });
  EQUAL(reap(child), 0);
  FAILS(setpriority(9, 0, 0), EINVAL);
  FAILS(getpriority(PRIO_PROCESS, 999999), ESRCH);
}

CASE(parent_death_and_privileges) {
  int ends[2];
  OK(pipe(ends));
  pid_t child = CHILD({
    pid_t grandchild = fork();
    if (!grandchild) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      write(ends[1], "r", 1);
      for (;;) pause();
    }
    char b;
    read(ends[0], &b, 1);
  });
  EQUAL(reap(child), 0);
  OK(close(ends[1]));
  char b;
  EQUAL(OK(read(ends[0], &b, 1)), 0);
  EQUAL(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
  OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  EQUAL(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
  FAILS(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
}

// One timer, set by several threads while it fires: two starts at once brought the kernel down.
static timer_t common_timer;
static void *setter(void *unused) {
  struct itimerspec soon = {{0, 30000}, {0, 30000}}, never = {{0, 0}, {0, 0}};
  for (int i = 0; i < (torture() ? 10000 : 1000); i++) OK(timer_settime(common_timer, 0, i % 5 == 0 ? &never : &soon, NULL));
  return unused;
}
CASE(set_by_threads) {
  signal(SIGRTMIN + 3, SIG_IGN);
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3};
  OK(timer_create(CLOCK_MONOTONIC, &event, &common_timer));
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) CHECK(!pthread_create(&threads[i], NULL, setter, NULL));
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  OK(timer_delete(common_timer));
}

static void count(int signal) { caught++; }

// An interval may be shorter than what its signal costs; the program may get nowhere, but its CPU does, and the program ends.
CASE(short_intervals) {
  for (int kind = 0; kind < 2; kind++) {
    pid_t child = CHILD({
      struct sigaction a = {.sa_handler = count};
      OK(sigaction(SIGALRM, &a, NULL));
      if (kind == 0) {
        struct itimerval soon = {{0, 1}, {0, 1}};
        OK(setitimer(ITIMER_REAL, &soon, NULL));
      } else {
        timer_t timer;
        struct itimerspec soon = {{0, 1}, {0, 1}};
        OK(timer_create(CLOCK_MONOTONIC, NULL, &timer));
        OK(timer_settime(timer, 0, &soon, NULL));
      }
      for (;;) {}
    });
    pause_ms(100);
    OK(kill(child, SIGKILL));
    int status;
    OK(waitpid(child, &status, 0));
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  }
}

// What a timer is set to is what it is set to, also when it expires on its way.
CASE(set_while_it_expires) {
  struct sigaction a = {.sa_handler = count};
  OK(sigaction(SIGALRM, &a, NULL));
  timer_t timer;
  OK(timer_create(CLOCK_MONOTONIC, NULL, &timer));
  for (int i = 0; i < (torture() ? 20000 : 1000); i++) {
    struct itimerspec near = {{0, 30000}, {0, 10000 + i % 40 * 1000}}, far = {{20, 0}, {20, 0}}, is;
    OK(timer_settime(timer, 0, &near, NULL));
    for (volatile int turns = i * 7 % 3000; turns; turns--) {}
    OK(timer_settime(timer, 0, &far, NULL));
    int before = caught;
    for (volatile int turns = 2000; turns; turns--) {}
    OK(timer_gettime(timer, &is));
    CHECK(is.it_value.tv_sec >= 19);
    EQUAL(is.it_interval.tv_sec, 20);
    EQUAL(caught, before);
  }
  struct itimerspec never = {{5, 0}, {0, 0}}, is;
  OK(timer_settime(timer, 0, &never, NULL));
  OK(timer_gettime(timer, &is));
  EQUAL(is.it_value.tv_sec + is.it_value.tv_nsec + is.it_interval.tv_sec, 0);
}

static clockid_t clock_of(pid_t process) {
  clockid_t clock;
  EQUAL(clock_getcpuclockid(process, &clock), 0);
  return clock;
}

static double used(clockid_t clock) {
  struct timespec t;
  OK(clock_gettime(clock, &t));
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static void burn(double amount) {
  double end = used(CLOCK_THREAD_CPUTIME_ID) + amount;
  while (used(CLOCK_THREAD_CPUTIME_ID) < end) {}
}

static void *burner(void *amount) {
  burn(*(double *)amount);
  return NULL;
}

CASE(clocks_of_processes) {
  CHECK(used(clock_of(0)) > 0);
  burn(0.02);
  double own = used(clock_of(getpid()));
  CHECK(own >= 0.02 && own <= used(CLOCK_PROCESS_CPUTIME_ID));
  int ends[2];
  char c;
  OK(pipe(ends));
  pid_t child = CHILD({
    close(ends[1]);
    burn(0.03);
    read(ends[0], &c, 1);
  });
  clockid_t clock = clock_of(child);
  while (used(clock) < 0.03) pause_ms(1);
  FAILS(clock_settime(clock, &(struct timespec){1, 0}), EPERM);
  struct timespec resolution;
  OK(clock_getres(clock, &resolution));
  EQUAL(resolution.tv_nsec, 1);
  close(ends[1]);
  reap(child);
  struct timespec t;
  FAILS(clock_gettime(clock, &t), EINVAL);
  EQUAL(clock_getcpuclockid(child, &clock), ESRCH);
  FAILS(clock_gettime((clockid_t)-5, &t), EINVAL);  // a file's, of a number that no file has
  FAILS(clock_gettime(17, &t), EINVAL);
  OK(clock_gettime(CLOCK_TAI, &t));
}

CASE(clocks_of_threads) {
  pthread_t thread;
  static double amount = 0.2;
  OK(pthread_create(&thread, NULL, burner, &amount));
  clockid_t clock, own;
  EQUAL(pthread_getcpuclockid(thread, &clock), 0);
  EQUAL(pthread_getcpuclockid(pthread_self(), &own), 0);
  while (used(clock) < 0.02) pause_ms(1);
  double before = used(own);
  pthread_join(thread, NULL);
  CHECK(used(own) - before < 0.1);
  struct timespec t;
  // The end of a thread is told a moment before it comes.
  while (!clock_gettime(clock, &t)) pause_ms(1);
  EQUAL(errno, EINVAL);
  // Another process's thread is not ours to look at; our parent's number is its thread's, too.
  pid_t child = CHILD(FAILS(clock_gettime((clockid_t)(~(unsigned)getppid() << 3 | 6), &t), EINVAL));
  EQUAL(reap(child), 0);
}

static timer_t on_clock(clockid_t clock, int signal) {
  timer_t timer;
  struct sigevent event = {.sigev_notify = signal ? SIGEV_SIGNAL : SIGEV_NONE, .sigev_signo = signal, .sigev_value.sival_int = 99};
  OK(timer_create(clock, &event, &timer));
  return timer;
}

CASE(timers_on_processor_time) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  OK(sigprocmask(SIG_BLOCK, &set, NULL));
  timer_t timer = on_clock(CLOCK_PROCESS_CPUTIME_ID, SIGUSR1);
  struct itimerspec half = {.it_value = {0, 50000000}}, left;
  double start = used(CLOCK_PROCESS_CPUTIME_ID);
  OK(timer_settime(timer, 0, &half, NULL));
  OK(timer_gettime(timer, &left));
  CHECK(left.it_value.tv_sec == 0 && left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 50000000);
  struct timespec none = {0, 0};
  siginfo_t info;
  pause_ms(100);
  FAILS(sigtimedwait(&set, &info, &none), EAGAIN);
  while (sigtimedwait(&set, &info, &none) < 0) {}
  CHECK(used(CLOCK_PROCESS_CPUTIME_ID) - start >= 0.05);
  CHECK(info.si_code == SI_TIMER && info.si_value.sival_int == 99);
  OK(timer_gettime(timer, &left));
  CHECK(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0);

  // An absolute time that has passed: at once.
  OK(timer_settime(timer, TIMER_ABSTIME, &(struct itimerspec){.it_value = {0, 1}}, NULL));
  EQUAL(OK(sigwaitinfo(&set, &info)), SIGUSR1);

  // With an interval, those that were missed are counted.
  OK(timer_settime(timer, 0, &(struct itimerspec){.it_value = {0, 1000000}, .it_interval = {0, 1000000}}, NULL));
  // A machine that stands still for a while may have shown only the first of them: then once more.
  int missed = 0;
  for (int turn = 0; turn < 10 && missed < 20; turn++) {
    burn(0.1);
    EQUAL(OK(sigwaitinfo(&set, &info)), SIGUSR1);
    missed = info.si_overrun > timer_getoverrun(timer) ? info.si_overrun : timer_getoverrun(timer);
  }
  CHECK(missed >= 20);
  OK(timer_gettime(timer, &left));
  EQUAL(left.it_interval.tv_nsec, 1000000);
  OK(timer_delete(timer));
  while (sigtimedwait(&set, &info, &none) > 0) {}
  burn(0.02);
  FAILS(sigtimedwait(&set, &info, &none), EAGAIN);

  // A thread's clock stands still while another works.
  pthread_t thread;
  static double amount = 0.05;
  timer = on_clock(CLOCK_THREAD_CPUTIME_ID, SIGUSR1);
  OK(timer_settime(timer, 0, &half, NULL));
  OK(pthread_create(&thread, NULL, burner, &amount));
  pthread_join(thread, NULL);
  FAILS(sigtimedwait(&set, &info, &none), EAGAIN);
  burn(0.06);
  EQUAL(OK(sigtimedwait(&set, &info, &(struct timespec){5, 0})), SIGUSR1);
  FAILS(timer_create(CLOCK_MONOTONIC_RAW, NULL, &timer), EOPNOTSUPP);
  FAILS(timer_create(CLOCK_MONOTONIC_COARSE, NULL, &timer), EOPNOTSUPP);
  FAILS(timer_create(17, NULL, &timer), EINVAL);
}

CASE(timers_on_another_process) {
  int ends[2];
  char c;
  OK(pipe(ends));
  pid_t child = CHILD({
    close(ends[1]);
    read(ends[0], &c, 1);  // not before there is a timer
    burn(0.05);
    read(ends[0], &c, 1);
  });
  timer_t timer = on_clock(clock_of(child), 0), mine = on_clock(CLOCK_PROCESS_CPUTIME_ID, SIGUSR1);
  OK(timer_settime(timer, 0, &(struct itimerspec){.it_value = {10, 0}}, NULL));
  struct itimerspec left;
  double start = used(clock_of(child));
  EQUAL(write(ends[1], "x", 1), 1);
  while (used(clock_of(child)) < start + 0.02) pause_ms(1);
  OK(timer_gettime(timer, &left));
  CHECK(left.it_value.tv_sec == 9);
  OK(timer_delete(mine));
  close(ends[1]);
  reap(child);
  FAILS(timer_settime(timer, 0, &(struct itimerspec){.it_value = {1, 0}}, NULL), ESRCH);
  OK(timer_delete(timer));
}

CASE(sleeping_by_processor_time) {
  pthread_t thread;
  static double amount = 0.2;
  struct timespec t = {0, 50000000};
  OK(pthread_create(&thread, NULL, burner, &amount));
  double start = used(CLOCK_PROCESS_CPUTIME_ID);
  EQUAL(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &t, NULL), 0);
  double now = used(CLOCK_PROCESS_CPUTIME_ID);
  CHECK(now - start >= 0.05 && now - start < 0.19);
  pthread_join(thread, NULL);
  EQUAL(syscall(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &t, NULL), -1);
  CHECK(errno == EINVAL || errno == EOPNOTSUPP);
  FAILS(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC_RAW, 0, &t, NULL), EOPNOTSUPP);
  FAILS(syscall(SYS_clock_nanosleep, CLOCK_REALTIME_COARSE, 0, &t, NULL), EOPNOTSUPP);
  FAILS(syscall(SYS_clock_nanosleep, 17, 0, &t, NULL), EINVAL);
  // Nobody works: only a signal ends it.
  struct sigaction nothing = {.sa_handler = (void (*)(int))abs};
  OK(sigaction(SIGALRM, &nothing, NULL));
  alarm(1);
  struct timespec left = {0, 0};
  EQUAL(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &(struct timespec){5, 0}, &left), EINTR);
  CHECK(left.tv_sec == 4);
}

static pthread_barrier_t meeting;
static pid_t other_thread;
static void *is_nice(void *unused) {
  other_thread = syscall(SYS_gettid);
  OK(setpriority(PRIO_PROCESS, 0, 7));
  pthread_barrier_wait(&meeting);
  pthread_barrier_wait(&meeting);
  EQUAL(getpriority(PRIO_PROCESS, 0), 9);
  return unused;
}

// A nice value is a thread's own.
CASE(nice_values_of_threads) {
  pthread_t thread;
  pthread_barrier_init(&meeting, NULL, 2);
  OK(pthread_create(&thread, NULL, is_nice, NULL));
  pthread_barrier_wait(&meeting);
  EQUAL(getpriority(PRIO_PROCESS, 0), 0);
  EQUAL(getpriority(PRIO_PROCESS, getpid()), 0);
  EQUAL(getpriority(PRIO_PROCESS, other_thread), 7);
  OK(setpgid(0, 0));
  EQUAL(getpriority(PRIO_PGRP, 0), 0);
  OK(setpriority(PRIO_PGRP, getpid(), 9));
  EQUAL(getpriority(PRIO_PROCESS, 0), 9);
  pthread_barrier_wait(&meeting);
  pthread_join(thread, NULL);
  FAILS(getpriority(PRIO_PROCESS, 1 << 22), ESRCH);
  FAILS(setpriority(5, 0, 1), EINVAL);
}

#define IO(class, level) ((class) << 13 | (level))
static long io_get(int which, int who) { return syscall(SYS_ioprio_get, which, who); }
static long io_set(int which, int who, int value) { return syscall(SYS_ioprio_set, which, who, value); }

CASE(priorities_of_input_and_output) {
  OK(setpgid(0, 0));
  EQUAL(OK(io_get(1, 0)) >> 13, 0);
  OK(io_set(1, 0, IO(2, 6)));
  EQUAL(OK(io_get(1, 0)), IO(2, 6));
  EQUAL(OK(io_get(1, getpid())), IO(2, 6));
  EQUAL(OK(io_get(2, 0)), IO(2, 6));
  EQUAL(reap(CHILD(EQUAL(io_get(1, 0), IO(2, 6)))), 0);
  OK(io_set(2, getpid(), IO(3, 0)));
  EQUAL(OK(io_get(1, 0)), IO(3, 0));
  OK(io_set(1, 0, IO(1, 2)));
  FAILS(io_set(1, 0, IO(2, 8)), EINVAL);
  FAILS(io_set(1, 0, IO(0, 1)), EINVAL);
  FAILS(io_set(1, 0, IO(7, 0)), EINVAL);
  FAILS(io_set(0, 0, IO(2, 0)), EINVAL);
  FAILS(io_set(4, 0, IO(2, 0)), EINVAL);
  FAILS(io_get(4, 0), EINVAL);
  FAILS(io_get(1, 1 << 22), ESRCH);
  FAILS(io_set(1, 1 << 22, IO(2, 0)), ESRCH);
  EQUAL(reap(CHILD({
    OK(setresuid(1000, 1000, 1000));
    FAILS(io_set(1, 0, IO(1, 2)), EPERM);
    FAILS(io_set(1, getppid(), IO(2, 2)), EPERM);
    OK(io_set(1, 0, IO(2, 1)));
    // The other thread's and the parent's are of another user; this one's counts.
    EQUAL(OK(io_get(3, 0)), IO(2, 1));
  })), 0);
}
