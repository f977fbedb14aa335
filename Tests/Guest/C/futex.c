// Futexes as glibc's locks use them, and what a dying owner leaves behind.
#include "test.h"
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>

static long futex(volatile int *word, int operation, int value, const struct timespec *timeout, volatile int *second, int third) {
  return syscall(SYS_futex, word, operation, value, timeout, second, third);
}

static pthread_mutex_t *shared_mutex(int robust) {
  pthread_mutex_t *mutex = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(mutex != MAP_FAILED);
  pthread_mutexattr_t kind;
  pthread_mutexattr_init(&kind);
  pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
  if (robust) pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
  CHECK(!pthread_mutex_init(mutex, &kind));
  return mutex;
}

static void *lock_and_end(void *mutex) {
  CHECK(!pthread_mutex_lock(mutex));
  return NULL;
}

CASE(owner_thread_ends) {
  pthread_mutex_t *mutex = shared_mutex(1);
  pthread_t thread;
  CHECK(!pthread_create(&thread, NULL, lock_and_end, mutex));
  pthread_join(thread, NULL);
  EQUAL(pthread_mutex_lock(mutex), EOWNERDEAD);
  EQUAL(pthread_mutex_consistent(mutex), 0);
  EQUAL(pthread_mutex_unlock(mutex), 0);
  EQUAL(pthread_mutex_lock(mutex), 0);
  EQUAL(pthread_mutex_unlock(mutex), 0);
}

// The waiter sleeps in the lock when the owner is killed.
CASE(owner_process_is_killed) {
  for (int round = 0; round < 50; round++) {
    pthread_mutex_t *mutex = shared_mutex(1);
    int ready[2];
    OK(pipe(ready));
    pid_t owner = CHILD({
      CHECK(!pthread_mutex_lock(mutex));
      OK(write(ready[1], "x", 1));
      for (;;) pause();
    });
    char byte;
    EQUAL(read(ready[0], &byte, 1), 1);
    pid_t waiter = CHILD({
      EQUAL(pthread_mutex_lock(mutex), EOWNERDEAD);
      // Who does not mend it ends it.
      EQUAL(pthread_mutex_unlock(mutex), 0);
    });
    if (round & 1) usleep(2000);
    OK(kill(owner, SIGKILL));
    EQUAL(reap(owner), 128 + SIGKILL);
    EQUAL(reap(waiter), 0);
    EQUAL(pthread_mutex_lock(mutex), ENOTRECOVERABLE);
    munmap(mutex, 4096);
    close(ready[0]);
    close(ready[1]);
  }
}

CASE(owner_executes) {
  pthread_mutex_t *mutex = shared_mutex(1);
  pid_t owner = CHILD({
    CHECK(!pthread_mutex_lock(mutex));
    char *arguments[] = {"/proc/self/exe", "none", NULL};
    execv(arguments[0], arguments);
    _exit(9);
  });
  int status;
  EQUAL(waitpid(owner, &status, 0), owner);
  EQUAL(pthread_mutex_lock(mutex), EOWNERDEAD);
}

// A list that leads nowhere, in a circle or off the word's grid harms nobody.
CASE(hostile_lists) {
  static struct { void *next; long offset; void *pending; } head;
  static void *circle[2] = {&circle[1], &circle[0]};
  void *firsts[] = {NULL, (void *)1, (void *)0xfffffff0, (void *)0xc0000000, circle, &head, (char *)&head + 1};
  for (int i = 0; i < 7; i++)
    for (int j = 0; j < 7; j++) {
      pid_t child = CHILD({
        head.next = firsts[i];
        head.offset = (long)firsts[j];
        head.pending = firsts[(i + j) % 7];
        OK(syscall(SYS_set_robust_list, &head, 12));
      });
      EQUAL(reap(child), 0);
    }
  FAILS(syscall(SYS_set_robust_list, &head, 11), EINVAL);
  pid_t child = CHILD({ OK(syscall(SYS_set_robust_list, (void *)0xfffffffc, 12)); });
  EQUAL(reap(child), 0);
}

// Waiters that are moved to another word time out, or are woken there: none is lost.
static volatile int words[2];
static volatile int woken, timed_out;
static void *mover(void *unused) {
  struct timespec limit = {0, 1000000};
  for (int i = 0; i < 300; i++) {
    long result = futex(&words[0], FUTEX_WAIT_PRIVATE, 0, &limit, NULL, 0);
    if (!result) __sync_fetch_and_add(&woken, 1);
    else if (errno == ETIMEDOUT) __sync_fetch_and_add(&timed_out, 1);
    else FAIL("wait");
  }
  return NULL;
}

CASE(moved_waiters) {
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) CHECK(!pthread_create(&threads[i], NULL, mover, NULL));
  long sum = 0;
  while (woken + timed_out < 1200) {
    OK(futex(&words[0], FUTEX_CMP_REQUEUE_PRIVATE, 0, (void *)2, &words[1], 0));
    sum += OK(futex(&words[1], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
    if (woken + timed_out > 1190) usleep(1000);
  }
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  printf("%ld woken, %d timed out\n", sum, timed_out);
  EQUAL(sum, woken);
  EQUAL(futex(&words[1], FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0), 0);
}
