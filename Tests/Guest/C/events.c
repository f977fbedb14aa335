// epoll, eventfd, timerfd, signalfd, poll, select.
#include "test.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static int add(int set, int file, unsigned events, unsigned data) {
  struct epoll_event e = {.events = events, .data.u32 = data};
  return epoll_ctl(set, EPOLL_CTL_ADD, file, &e);
}

CASE(epoll_level_edge_oneshot) {
  int ends[2], set = OK(epoll_create1(EPOLL_CLOEXEC));
  struct epoll_event e[4];
  OK(pipe(ends));
  OK(add(set, ends[0], EPOLLIN, 7));
  EQUAL(OK(epoll_wait(set, e, 4, 0)), 0);
  OK(write(ends[1], "ab", 2));
  for (int i = 0; i < 3; i++) {
    EQUAL(OK(epoll_wait(set, e, 4, 0)), 1);
    EQUAL(e[0].data.u32, 7);
    EQUAL(e[0].events, EPOLLIN);
  }
  struct epoll_event edge = {.events = EPOLLIN | EPOLLET, .data.u32 = 8};
  OK(epoll_ctl(set, EPOLL_CTL_MOD, ends[0], &edge));
  EQUAL(OK(epoll_wait(set, e, 4, 0)), 1);
  EQUAL(OK(epoll_wait(set, e, 4, 0)), 0);
  OK(write(ends[1], "c", 1));
  EQUAL(OK(epoll_wait(set, e, 4, 0)), 1);
  EQUAL(OK(epoll_wait(set, e, 4, 0)), 0);
  struct epoll_event once = {.events = EPOLLIN | EPOLLONESHOT, .data.u32 = 9};
  OK(epoll_ctl(set, EPOLL_CTL_MOD, ends[0], &once));
  EQUAL(OK(epoll_wait(set, e, 4, 0)), 1);
  EQUAL(e[0].data.u32, 9);
  OK(write(ends[1], "d", 1));
  EQUAL(OK(epoll_wait(set, e, 4, 10)), 0);
  OK(epoll_ctl(set, EPOLL_CTL_MOD, ends[0], &once));
  EQUAL(OK(epoll_wait(set, e, 4, 0)), 1);
  OK(epoll_ctl(set, EPOLL_CTL_DEL, ends[0], NULL));
  EQUAL(OK(epoll_wait(set, e, 4, 0)), 0);
  FAILS(epoll_ctl(set, EPOLL_CTL_DEL, ends[0], NULL), ENOENT);
}

CASE(epoll_errors) {
  int set = OK(epoll_create1(0)), file = OK(open("f", O_CREAT | O_RDWR, 0644)), ends[2];
  OK(pipe(ends));
  struct epoll_event e;
  FAILS(add(set, file, EPOLLIN, 0), EPERM);
  FAILS(add(set, set, EPOLLIN, 0), EINVAL);
  FAILS(add(set, 99, EPOLLIN, 0), EBADF);
  FAILS(add(ends[0], ends[1], EPOLLIN, 0), EINVAL);
  OK(add(set, ends[0], EPOLLIN, 0));
  FAILS(add(set, ends[0], EPOLLIN, 0), EEXIST);
  FAILS(epoll_wait(set, &e, 0, 0), EINVAL);
  FAILS(epoll_wait(ends[0], &e, 1, 0), EINVAL);
  FAILS(epoll_create(0), EINVAL);
}

// A closed descriptor leaves the set by itself; a duplicate keeps it in.
CASE(epoll_close) {
  int set = OK(epoll_create1(0)), ends[2];
  struct epoll_event e;
  OK(pipe(ends));
  OK(add(set, ends[0], EPOLLIN, 1));
  int copy = OK(dup(ends[0]));
  OK(write(ends[1], "x", 1));
  OK(close(ends[0]));
  EQUAL(OK(epoll_wait(set, &e, 1, 0)), 1);
  OK(close(copy));
  EQUAL(OK(epoll_wait(set, &e, 1, 0)), 0);
}

CASE(epoll_nested_and_wake_up) {
  int inner = OK(epoll_create1(0)), outer = OK(epoll_create1(0)), event = OK(eventfd(0, 0));
  struct epoll_event e;
  OK(add(inner, event, EPOLLIN, 1));
  OK(add(outer, inner, EPOLLIN, 2));
  FAILS(add(inner, outer, EPOLLIN, 3), ELOOP);
  EQUAL(OK(epoll_wait(outer, &e, 1, 0)), 0);
  pid_t child = CHILD({
    pause_ms(30);
    uint64_t one = 1;
    write(event, &one, 8);
  });
  EQUAL(OK(epoll_wait(outer, &e, 1, 5000)), 1);
  EQUAL(e.data.u32, 2);
  EQUAL(OK(epoll_wait(inner, &e, 1, 0)), 1);
  EQUAL(reap(child), 0);
}

CASE(event_counters) {
  int counter = OK(eventfd(3, EFD_NONBLOCK)), semaphore = OK(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
  uint64_t value;
  EQUAL(OK(read(counter, &value, 8)), 8);
  EQUAL(value, 3);
  FAILS(read(counter, &value, 8), EAGAIN);
  for (int i = 0; i < 2; i++) {
    OK(read(semaphore, &value, 8));
    EQUAL(value, 1);
  }
  FAILS(read(semaphore, &value, 8), EAGAIN);
  value = UINT64_MAX;
  FAILS(write(counter, &value, 8), EINVAL);
  value = UINT64_MAX - 1;
  OK(write(counter, &value, 8));
  value = 1;
  FAILS(write(counter, &value, 8), EAGAIN);
  FAILS(read(counter, &value, 4), EINVAL);
  FAILS(eventfd(0, 0x1234), EINVAL);
}

CASE(timer_files) {
  int timer = OK(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
  uint64_t count;
  FAILS(read(timer, &count, 8), EAGAIN);
  struct itimerspec it = {{0, 10000000}, {0, 20000000}}, now;
  OK(timerfd_settime(timer, 0, &it, NULL));
  OK(timerfd_gettime(timer, &now));
  CHECK(now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 20000000);
  EQUAL(now.it_interval.tv_nsec, 10000000);
  struct pollfd p = {timer, POLLIN, 0};
  EQUAL(OK(poll(&p, 1, 5000)), 1);
  pause_ms(50);
  EQUAL(OK(read(timer, &count, 8)), 8);
  CHECK(count >= 4);
  struct itimerspec off = {{0, 0}, {0, 0}};
  OK(timerfd_settime(timer, 0, &off, NULL));
  pause_ms(30);
  FAILS(read(timer, &count, 8), EAGAIN);
  struct timespec t;
  OK(clock_gettime(CLOCK_REALTIME, &t));
  int wall = OK(timerfd_create(CLOCK_REALTIME, 0));
  struct itimerspec absolute = {{0, 0}, {t.tv_sec - 1, 0}};
  OK(timerfd_settime(wall, TFD_TIMER_ABSTIME, &absolute, NULL));
  EQUAL(OK(read(wall, &count, 8)), 8);
  EQUAL(count, 1);
  FAILS(timerfd_create(99, 0), EINVAL);
}

CASE(signal_files) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGRTMIN);
  OK(sigprocmask(SIG_BLOCK, &set, NULL));
  int file = OK(signalfd(-1, &set, SFD_NONBLOCK));
  struct signalfd_siginfo info[2];
  FAILS(read(file, info, sizeof info), EAGAIN);
  OK(kill(getpid(), SIGUSR1));
  struct pollfd p = {file, POLLIN, 0};
  EQUAL(OK(poll(&p, 1, 1000)), 1);
  EQUAL(OK(read(file, info, sizeof info)), sizeof *info);
  EQUAL(info[0].ssi_signo, SIGUSR1);
  EQUAL(info[0].ssi_pid, getpid());
  FAILS(read(file, info, 10), EINVAL);
  pid_t child = CHILD({
    pause_ms(30);
    kill(getppid(), SIGUSR1);
  });
  EQUAL(OK(poll(&p, 1, 5000)), 1);
  EQUAL(OK(read(file, info, sizeof *info)), sizeof *info);
  EQUAL(info[0].ssi_pid, child);
  EQUAL(reap(child), 0);
}

CASE(poll_and_select) {
  int ends[2];
  OK(pipe(ends));
  struct pollfd p[3] = {{ends[0], POLLIN, 0}, {ends[1], POLLOUT, 0}, {-1, POLLIN, 7}};
  EQUAL(OK(poll(p, 3, 0)), 1);
  EQUAL(p[0].revents, 0);
  EQUAL(p[1].revents, POLLOUT);
  EQUAL(p[2].revents, 0);
  p[2].fd = 99;
  EQUAL(OK(poll(p, 3, 0)), 2);
  EQUAL(p[2].revents, POLLNVAL);
  OK(write(ends[1], "x", 1));
  OK(close(ends[1]));
  EQUAL(OK(poll(p, 1, -1)), 1);
  EQUAL(p[0].revents, POLLIN | POLLHUP);
  fd_set r;
  FD_ZERO(&r);
  FD_SET(ends[0], &r);
  struct timeval t = {5, 0};
  EQUAL(OK(select(ends[0] + 1, &r, NULL, NULL, &t)), 1);
  CHECK(FD_ISSET(ends[0], &r));
  FD_ZERO(&r);
  FD_SET(30, &r);
  FAILS(select(31, &r, NULL, NULL, &t), EBADF);
  struct timeval wait = {0, 20000};
  double start = seconds();
  EQUAL(OK(select(0, NULL, NULL, NULL, &wait)), 0);
  CHECK(seconds() - start >= 0.02);
}

// Threads that add, change, remove and close the same file of a set, while it becomes ready.
static int contended, contended_ends[2];
static volatile int contended_stop, passing = -1;
static void *change_set(void *argument) {
  unsigned kind = (unsigned)(uintptr_t)argument;
  for (unsigned k = kind; !contended_stop; k++) {
    struct epoll_event e = {k & 1 ? EPOLLIN : EPOLLIN | EPOLLET, {.u32 = k}};
    // One closes what another adds.
    if (kind == 3) {
      passing = eventfd(1, 0);
      close(passing);
    } else if (kind == 2) {
      epoll_ctl(contended, EPOLL_CTL_ADD, passing, &e);
    }
    if (epoll_ctl(contended, k % 3 == 0 ? EPOLL_CTL_ADD : k % 3 == 1 ? EPOLL_CTL_MOD : EPOLL_CTL_DEL, contended_ends[0], &e))
      CHECK(errno == EEXIST || errno == ENOENT || errno == EBADF);
  }
  return NULL;
}

CASE(set_changed_by_many) {
  pthread_t threads[4];
  contended = OK(epoll_create1(0));
  OK(pipe2(contended_ends, O_NONBLOCK));
  for (uintptr_t i = 0; i < 4; i++) CHECK(!pthread_create(&threads[i], NULL, change_set, (void *)i));
  char block[64] = {0};
  struct epoll_event e[4];
  for (double end = seconds() + (torture() ? 20 : 0.7); seconds() < end;) {
    write(contended_ends[1], block, 1);
    epoll_wait(contended, e, 4, 0);
    read(contended_ends[0], block, sizeof block);
  }
  contended_stop = 1;
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  // It works as if nothing had been.
  epoll_ctl(contended, EPOLL_CTL_DEL, contended_ends[0], e);
  while (read(contended_ends[0], block, sizeof block) > 0) {}
  e[0] = (struct epoll_event){EPOLLIN, {.u32 = 77}};
  OK(epoll_ctl(contended, EPOLL_CTL_ADD, contended_ends[0], e));
  EQUAL(epoll_wait(contended, e, 4, 10), 0);
  OK(write(contended_ends[1], block, 1));
  EQUAL(epoll_wait(contended, e, 4, 1000), 1);
  EQUAL(e[0].data.u32, 77);
}

// A wait looks at what was ready when it began: files that come and go meanwhile do not hold it up.
static int storm_set;
static volatile int storm_over;
static void *storm(void *unused) {
  while (!storm_over) {
    struct epoll_event e = {EPOLLIN, {.u32 = 1}};
    int file = eventfd(1, 0);
    epoll_ctl(storm_set, EPOLL_CTL_ADD, file, &e);
    close(file);
  }
  return NULL;
}

CASE(wait_amid_a_storm) {
  pthread_t threads[3];
  struct epoll_event e[4];
  storm_set = OK(epoll_create1(0));
  for (int i = 0; i < 3; i++) CHECK(!pthread_create(&threads[i], NULL, storm, NULL));
  double end = seconds() + 1;
  while (seconds() < end) OK(epoll_wait(storm_set, e, 4, 0));
  CHECK(seconds() < end + 5);
  storm_over = 1;
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
}
