// Futexes with priority inheritance: as glibc's PTHREAD_PRIO_INHERIT mutexes use them, and by hand.
#include "test.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>

static long futex(volatile unsigned *word, int operation, unsigned value, const void *timeout, volatile void *second, unsigned third) {
  return syscall(SYS_futex, word, operation, value, timeout, second, third);
}
static pid_t number(void) { return (pid_t)syscall(SYS_gettid); }

static pthread_mutex_t *shared_mutex(int robust) {
  pthread_mutex_t *mutex = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(mutex != MAP_FAILED);
  pthread_mutexattr_t kind;
  pthread_mutexattr_init(&kind);
  pthread_mutexattr_setprotocol(&kind, PTHREAD_PRIO_INHERIT);
  pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
  if (robust) pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
  CHECK(!pthread_mutex_init(mutex, &kind));
  return mutex;
}

static pthread_mutex_t *counted;
static volatile int count;
static void *counter(void *unused) {
  for (int i = 0; i < 2000; i++) {
    CHECK(!pthread_mutex_lock(counted));
    int now = count;
    if (i % 50 == 0) sched_yield();
    count = now + 1;
    CHECK(!pthread_mutex_unlock(counted));
  }
  return unused;
}

CASE(excludes_threads) {
  counted = shared_mutex(0);
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) CHECK(!pthread_create(&threads[i], NULL, counter, NULL));
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  EQUAL(count, 8000);
  EQUAL(counted->__data.__lock, 0);
}

CASE(excludes_processes) {
  counted = shared_mutex(0);
  volatile int *total = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (int child = 0; child < 3; child++) {
    if (OK(fork()) == 0) {
      for (int i = 0; i < 500; i++) {
        CHECK(!pthread_mutex_lock(counted));
        int now = *total;
        if (i % 20 == 0) sched_yield();
        *total = now + 1;
        CHECK(!pthread_mutex_unlock(counted));
      }
      _exit(0);
    }
  }
  for (int child = 0; child < 3; child++) {
    int status;
    OK(wait(&status));
    EQUAL(status, 0);
  }
  EQUAL(*total, 1500);
}

static void *lock_and_wait(void *mutex) {
  CHECK(!pthread_mutex_lock(mutex));
  pause();
  return NULL;
}

CASE(waits_until_a_time) {
  pthread_mutex_t *mutex = shared_mutex(0);
  pid_t child = OK(fork());
  if (!child) lock_and_wait(mutex);
  while (!*(volatile int *)&mutex->__data.__lock) sched_yield();
  EQUAL(pthread_mutex_trylock(mutex), EBUSY);
  struct timespec until, now;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += 50000000;
  if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
  EQUAL(pthread_mutex_timedlock(mutex, &until), ETIMEDOUT);
  clock_gettime(CLOCK_REALTIME, &now);
  CHECK(now.tv_sec > until.tv_sec || (now.tv_sec == until.tv_sec && now.tv_nsec >= until.tv_nsec));
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  // Nobody is left who could unlock it.
  FAILS(futex((volatile unsigned *)&mutex->__data.__lock, FUTEX_LOCK_PI, 0, NULL, NULL, 0), ESRCH);
}

CASE(robust_owner_ends) {
  pthread_mutex_t *mutex = shared_mutex(1);
  pid_t child = OK(fork());
  if (!child) lock_and_wait(mutex);
  while (!*(volatile int *)&mutex->__data.__lock) sched_yield();
  pid_t waiters[2];
  for (int i = 0; i < 2; i++) {
    if ((waiters[i] = OK(fork())) == 0) {
      int result = pthread_mutex_lock(mutex);
      if (result == EOWNERDEAD) pthread_mutex_consistent(mutex);
      if (pthread_mutex_unlock(mutex)) _exit(3);
      _exit(result == EOWNERDEAD ? 1 : result == 0 ? 0 : 2);
    }
  }
  // Both sleep in the lock when its owner is killed; the first learns that it died.
  for (int i = 0; i < 2; i++) wait_until_asleep(waiters[i]);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  int dead = 0;
  for (int i = 0; i < 2; i++) {
    int status;
    OK(waitpid(waiters[i], &status, 0));
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) < 2);
    dead += WEXITSTATUS(status);
  }
  EQUAL(dead, 1);
  EQUAL(pthread_mutex_lock(mutex), 0);
}

static volatile unsigned first, second;
static void *crossed(void *unused) {
  OK(futex(&second, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
  OK(futex(&first, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
  OK(futex(&first, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
  OK(futex(&second, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
  return unused;
}

CASE(refuses_deadlock) {
  OK(futex(&first, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
  EQUAL(first, number());
  FAILS(futex(&first, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EDEADLK);
  pthread_t thread;
  CHECK(!pthread_create(&thread, NULL, crossed, NULL));
  while (!(first & FUTEX_WAITERS)) sched_yield();
  // It waits for us: we may not wait for it.
  FAILS(futex(&second, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EDEADLK);
  OK(futex(&first, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
  pthread_join(thread, NULL);
  EQUAL(first & FUTEX_TID_MASK, 0);
  EQUAL(second & FUTEX_TID_MASK, 0);
}

CASE(bad_words) {
  volatile unsigned word = 0;
  FAILS(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0), EPERM);
  word = 0x3ffffffe;  // no thread has this number
  FAILS(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0), ESRCH);
  FAILS(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0), EPERM);
  FAILS(futex((unsigned *)((char *)&word + 1), FUTEX_LOCK_PI, 0, NULL, NULL, 0), EINVAL);
  FAILS(futex((unsigned *)0xc0000000, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EFAULT);
  FAILS(futex((unsigned *)4096, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0), EFAULT);
  word = 0;
  OK(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
  EQUAL(word, number());
  OK(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
  EQUAL(word, 0);
}

// A condition and its lock, as C libraries used them: waiters of the one are moved to the other.
static volatile unsigned condition, lock;
static volatile int passed;
static void *condition_waiter(void *unused) {
  OK(futex(&condition, FUTEX_WAIT_REQUEUE_PI, 0, NULL, &lock, 0));
  EQUAL(lock & FUTEX_TID_MASK, number());
  passed++;
  OK(futex(&lock, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
  return unused;
}

CASE(moves_from_a_condition) {
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) CHECK(!pthread_create(&threads[i], NULL, condition_waiter, NULL));
  // An ordinary wake may not touch them. They are there when all can be moved.
  OK(futex(&lock, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
  int moved = 0;
  while (moved < 3) moved += OK(futex(&condition, FUTEX_CMP_REQUEUE_PI, 1, (void *)100, &lock, 0));
  EQUAL(passed, 0);
  FAILS(futex(&condition, FUTEX_CMP_REQUEUE_PI, 1, (void *)100, &lock, 1), EAGAIN);
  FAILS(futex(&condition, FUTEX_CMP_REQUEUE_PI, 2, (void *)100, &lock, 0), EINVAL);
  OK(futex(&lock, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  EQUAL(passed, 3);
  struct timespec past = {1, 0};
  FAILS(futex(&condition, FUTEX_WAIT_REQUEUE_PI, 0, &past, &lock, 0), ETIMEDOUT);
  FAILS(futex(&condition, FUTEX_WAIT_REQUEUE_PI, 1, NULL, &lock, 0), EAGAIN);
}

// What shares time inherits nothing from what shares time: an owner that computes while a fresh thread waits for its lock would
// keep that thread's level, and the others on its CPU would never run.
static volatile unsigned turns;
static volatile int stop_turning;
static void *turning(void *unused) {
  while (!stop_turning) turns++;
  return unused;
}
static void *fresh_waiter(void *unused) {
  pause_ms(30);
  OK(futex(&lock, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
  OK(futex(&lock, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
  return unused;
}

CASE(sharers_inherit_nothing) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  OK(sched_setaffinity(0, sizeof one, &one));
  pthread_t turner, waiter;
  OK(futex(&lock, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
  CHECK(!pthread_create(&turner, NULL, turning, NULL));
  CHECK(!pthread_create(&waiter, NULL, fresh_waiter, NULL));
  while (!(lock & FUTEX_WAITERS)) {}
  unsigned before = turns;
  for (double end = seconds() + 5; turns - before < 100000;)
    if (seconds() > end) FAIL("the other thread made %u turns in 5 seconds", turns - before);
  stop_turning = 1;
  OK(futex(&lock, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
  pthread_join(waiter, NULL);
  pthread_join(turner, NULL);
}

// Three real-time threads on one CPU: the middle one spins and would keep the low one, which holds the lock that the high one
// wants, from running for ever.
static pthread_mutex_t *inverted;
static volatile int low_has_it, high_had_it, middle_spins;
static void schedule(int priority) {
  struct sched_param parameter = {priority};
  CHECK(!pthread_setschedparam(pthread_self(), SCHED_FIFO, &parameter));
}
static void *low(void *unused) {
  schedule(10);
  CHECK(!pthread_mutex_lock(inverted));
  low_has_it = 1;
  while (!middle_spins) usleep(1000);
  for (volatile int i = 0; i < 1000000; i++) {}
  CHECK(!pthread_mutex_unlock(inverted));
  return unused;
}
static void *middle(void *unused) {
  schedule(20);
  middle_spins = 1;
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do {
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec - start.tv_sec > 8) FAIL("the lock's owner did not run");
  } while (!high_had_it);
  return unused;
}
static void *high(void *unused) {
  schedule(30);
  CHECK(!pthread_mutex_lock(inverted));
  high_had_it = 1;
  CHECK(!pthread_mutex_unlock(inverted));
  return unused;
}

CASE(owner_inherits) {
  struct sched_param mine = {40};
  OK(sched_setscheduler(0, SCHED_FIFO, &mine));
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  OK(sched_setaffinity(0, sizeof one, &one));
  inverted = shared_mutex(0);
  pthread_t threads[3];
  CHECK(!pthread_create(&threads[0], NULL, low, NULL));
  while (!low_has_it) usleep(1000);
  CHECK(!pthread_create(&threads[1], NULL, high, NULL));
  usleep(20000);
  CHECK(!pthread_create(&threads[2], NULL, middle, NULL));
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
}
