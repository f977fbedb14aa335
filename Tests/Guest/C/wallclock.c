// What waits for a time on the wall clock while that is set. SPEC: POSIX.1-2024 clock_settime(), Linux timerfd_create(2).
// Each case puts the clock back by what it has changed it.
#include "test.h"
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/timerfd.h>

#define HOUR 3600

static void advance(long seconds) {
  struct timespec now;
  OK(clock_gettime(CLOCK_REALTIME, &now));
  now.tv_sec += seconds;
  OK(clock_settime(CLOCK_REALTIME, &now));
}

static struct timespec after(long milliseconds) {
  struct timespec time;
  OK(clock_gettime(CLOCK_REALTIME, &time));
  long long nanoseconds = time.tv_nsec + milliseconds % 1000 * 1000000LL;
  time.tv_sec += milliseconds / 1000 + nanoseconds / 1000000000;
  time.tv_nsec = nanoseconds % 1000000000;
  return time;
}

static double monotonic(void) {
  struct timespec now;
  OK(clock_gettime(CLOCK_MONOTONIC, &now));
  return now.tv_sec + now.tv_nsec / 1e9;
}

// A thread that does something that ends in an hour.
struct waiter {
  int (*wait)(void);
  pthread_t thread;
  volatile pid_t id;
  int result;
};

static void *start(void *argument) {
  struct waiter *waiter = argument;
  waiter->id = syscall(SYS_gettid);
  waiter->result = waiter->wait();
  return 0;
}

// Returns when the thread sleeps.
static void begin(struct waiter *waiter, int (*wait)(void)) {
  waiter->id = 0;
  waiter->wait = wait;
  EQUAL(pthread_create(&waiter->thread, 0, start, waiter), 0);
  while (!waiter->id) sched_yield();
  char name[64];
  snprintf(name, sizeof name, "/proc/self/task/%d/stat", waiter->id);
  for (;;) {
    char text[256] = "", *end;
    int file = OK(open(name, O_RDONLY));
    OK(read(file, text, sizeof text - 1));
    close(file);
    end = strrchr(text, ')');
    if (end && end[2] == 'S') return;
    sched_yield();
  }
}

static int result(struct waiter *waiter) {
  EQUAL(pthread_join(waiter->thread, 0), 0);
  return waiter->result;
}

static int sleeps(void) {
  struct timespec due = after(HOUR * 1000 - 500);
  return clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &due, 0);
}

static sem_t semaphore;
static int waits_for_a_semaphore(void) {
  struct timespec due = after(HOUR * 1000 - 500);
  return sem_timedwait(&semaphore, &due) ? errno : 0;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int waits_for_a_mutex(void) {
  struct timespec due = after(HOUR * 1000 - 500);
  return pthread_mutex_timedlock(&mutex, &due);
}

static mqd_t queue;
static int waits_for_a_message(void) {
  struct timespec due = after(HOUR * 1000 - 500);
  char message[16];
  return mq_timedreceive(queue, message, sizeof message, 0, &due) == -1 ? errno : 0;
}

CASE(threads_that_wait_wake) {
  struct mq_attr attributes = {.mq_maxmsg = 1, .mq_msgsize = 16};
  queue = mq_open("/wallclock", O_RDWR | O_CREAT, 0600, &attributes);
  CHECK(queue != (mqd_t)-1);
  OK(mq_unlink("/wallclock"));
  OK(sem_init(&semaphore, 0, 0));
  EQUAL(pthread_mutex_lock(&mutex), 0);
  int (*all[])(void) = {sleeps, waits_for_a_semaphore, waits_for_a_mutex, waits_for_a_message};
  int expected[] = {0, ETIMEDOUT, ETIMEDOUT, ETIMEDOUT};
  struct waiter waiters[4];
  for (int index = 0; index < 4; index++) begin(&waiters[index], all[index]);
  advance(HOUR);
  for (int index = 0; index < 4; index++) EQUAL(result(&waiters[index]), expected[index]);
  advance(-HOUR);
}

static int sleeps_a_little(void) {
  struct timespec due = after(200);
  return clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &due, 0);
}
static int sleeps_for_a_little(void) {
  struct timespec length = {0, 200000000};
  return clock_nanosleep(CLOCK_REALTIME, 0, &length, 0);
}

CASE(a_clock_that_goes_back) {
  struct waiter absolute, relative;
  double from = monotonic();
  begin(&absolute, sleeps_a_little);
  advance(-1);
  EQUAL(result(&absolute), 0);
  CHECK(monotonic() - from >= 1.2);
  advance(1);
  // How long something takes has nothing to do with it.
  from = monotonic();
  begin(&relative, sleeps_for_a_little);
  advance(-HOUR);
  EQUAL(result(&relative), 0);
  CHECK(monotonic() - from >= 0.2 && monotonic() - from < 60);
  advance(HOUR);
}

CASE(timers) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGUSR2);
  OK(sigprocmask(SIG_BLOCK, &set, 0));
  timer_t absolute, relative;
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
  OK(timer_create(CLOCK_REALTIME, &event, &absolute));
  event.sigev_signo = SIGUSR2;
  OK(timer_create(CLOCK_REALTIME, &event, &relative));
  struct itimerspec setting = {.it_value = after(HOUR * 1000 - 500)};
  OK(timer_settime(absolute, TIMER_ABSTIME, &setting, 0));
  struct itimerspec length = {.it_value = {HOUR, 0}};
  OK(timer_settime(relative, 0, &length, 0));
  int file = OK(timerfd_create(CLOCK_REALTIME, 0));
  OK(timerfd_settime(file, TFD_TIMER_ABSTIME, &setting, 0));
  advance(HOUR);
  int signal;
  EQUAL(sigwait(&set, &signal), 0);
  EQUAL(signal, SIGUSR1);
  uint64_t times;
  EQUAL(read(file, &times, 8), 8);
  EQUAL(times, 1);
  OK(timer_gettime(relative, &setting));
  CHECK(setting.it_value.tv_sec > HOUR - 60);
  OK(timer_gettime(absolute, &setting));
  EQUAL(setting.it_value.tv_sec, 0);
  advance(-HOUR);
}

static int descriptor;
static int reads(void) {
  uint64_t times;
  return read(descriptor, &times, 8) == -1 ? errno : 0;
}

CASE(a_timer_that_ends_with_a_setting) {
  descriptor = OK(timerfd_create(CLOCK_REALTIME, 0));
  struct itimerspec setting = {.it_value = after(10 * HOUR * 1000)};
  OK(timerfd_settime(descriptor, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &setting, 0));
  struct waiter waiter;
  begin(&waiter, reads);
  advance(HOUR);
  EQUAL(result(&waiter), ECANCELED);
  // Once for each.
  struct pollfd entry = {.fd = descriptor, .events = POLLIN};
  EQUAL(poll(&entry, 1, 0), 0);
  advance(-HOUR);
  EQUAL(poll(&entry, 1, 0), 1);
  EQUAL(reads(), ECANCELED);
  EQUAL(poll(&entry, 1, 0), 0);
  // It is armed still.
  OK(timerfd_gettime(descriptor, &setting));
  CHECK(setting.it_value.tv_sec > 9 * HOUR);
  // Others do not notice.
  setting.it_value = after(10 * HOUR * 1000);
  OK(timerfd_settime(descriptor, TFD_TIMER_ABSTIME, &setting, 0));
  advance(1);
  advance(-1);
  EQUAL(poll(&entry, 1, 0), 0);
}
