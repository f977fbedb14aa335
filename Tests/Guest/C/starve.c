// Who computes runs, too, however many others sleep now and then.
#include "test.h"
#include <sched.h>
#include <sys/resource.h>

#define HERD 8

static double now(clockid_t clock) {
  struct timespec time;
  OK(clock_gettime(clock, &time));
  return time.tv_sec + time.tv_nsec / 1e9;
}

// Computes for so much of its own time; how long that took.
static double compute(double amount) {
  double start = now(CLOCK_MONOTONIC);
  while (now(CLOCK_PROCESS_CPUTIME_ID) < amount) {}
  return now(CLOCK_MONOTONIC) - start;
}

// So many processes on one processor hand bytes round a pipe: all want to run, and each sleeps before it has computed for long.
static void start_herd(pid_t *herd) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  OK(sched_setaffinity(0, sizeof one, &one));
  int ends[2];
  OK(pipe(ends));
  for (int index = 0; index < HERD; index++) {
    herd[index] = OK(fork());
    if (herd[index]) continue;
    char byte;
    while (read(ends[0], &byte, 1) == 1 && write(ends[1], &byte, 1) == 1) {}
    _exit(1);
  }
  OK(write(ends[1], "adros", 5));
}

static void end_herd(pid_t *herd) {
  for (int index = 0; index < HERD; index++) OK(kill(herd[index], SIGKILL));
  for (int index = 0; index < HERD; index++) OK(waitpid(herd[index], 0, 0));
}

CASE(one_that_computes) {
  pid_t herd[HERD];
  start_herd(herd);
  double took = compute(0.3);
  end_herd(herd);
  CHECK(took < 20);
}

CASE(one_that_is_nice) {
  pid_t herd[HERD];
  start_herd(herd);
  OK(setpriority(PRIO_PROCESS, 0, 19));
  double took = compute(0.01);
  end_herd(herd);
  CHECK(took < 20);
}

CASE(one_that_only_runs_when_nobody_else_does) {
  pid_t herd[HERD];
  start_herd(herd);
  struct sched_param none = {0};
  OK(sched_setscheduler(0, SCHED_IDLE, &none));
  double took = compute(0.01);
  end_herd(herd);
  CHECK(took < 25);
}
