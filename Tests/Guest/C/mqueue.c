// POSIX message queues.
#include "test.h"
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>

static mqd_t make(const char *name, int flags, long messages, long size) {
  struct mq_attr limits = {.mq_maxmsg = messages, .mq_msgsize = size};
  mq_unlink(name);
  return (mqd_t)OK(mq_open(name, O_CREAT | O_EXCL | O_RDWR | flags, 0600, &limits));
}

CASE(priorities_and_order) {
  mqd_t queue = make("/order", 0, 10, 16);
  OK(mq_send(queue, "a", 1, 1));
  OK(mq_send(queue, "b", 1, 5));
  OK(mq_send(queue, "c", 1, 5));
  OK(mq_send(queue, "d", 1, 0));
  OK(mq_send(queue, "", 0, 32767));
  struct mq_attr now;
  OK(mq_getattr(queue, &now));
  EQUAL(now.mq_curmsgs, 5);
  EQUAL(now.mq_maxmsg, 10);
  EQUAL(now.mq_msgsize, 16);
  EQUAL(now.mq_flags, 0);
  char text[16];
  unsigned priority;
  EQUAL(mq_receive(queue, text, 16, &priority), 0);
  EQUAL(priority, 32767);
  const char expected[] = "bcad";
  const unsigned priorities[] = {5, 5, 1, 0};
  for (int i = 0; i < 4; i++) {
    EQUAL(mq_receive(queue, text, 16, &priority), 1);
    EQUAL(text[0], expected[i]);
    EQUAL(priority, priorities[i]);
  }
  // Many of one priority stay in order.
  for (int round = 0; round < 30; round++) {
    for (char i = 0; i < 10; i++) OK(mq_send(queue, &i, 1, 3));
    for (char i = 0; i < 10; i++) {
      EQUAL(mq_receive(queue, text, 16, NULL), 1);
      EQUAL(text[0], i);
    }
  }
  OK(mq_close(queue));
  OK(mq_unlink("/order"));
  FAILS(mq_unlink("/order"), ENOENT);
}

CASE(full_and_empty) {
  mqd_t queue = make("/full", O_NONBLOCK, 2, 4);
  char text[4];
  FAILS(mq_receive(queue, text, 4, NULL), EAGAIN);
  struct pollfd ready = {queue, POLLIN | POLLOUT, 0};
  EQUAL(poll(&ready, 1, 0), 1);
  EQUAL(ready.revents, POLLOUT);
  OK(mq_send(queue, "1", 1, 0));
  OK(mq_send(queue, "2", 1, 0));
  FAILS(mq_send(queue, "3", 1, 0), EAGAIN);
  EQUAL(poll(&ready, 1, 0), 1);
  EQUAL(ready.revents, POLLIN);
  struct mq_attr blocking = {0}, old;
  OK(mq_setattr(queue, &blocking, &old));
  EQUAL(old.mq_flags, O_NONBLOCK);
  EQUAL(old.mq_curmsgs, 2);
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  time.tv_nsec += 30000000;
  if (time.tv_nsec >= 1000000000) time.tv_sec++, time.tv_nsec -= 1000000000;
  FAILS(mq_timedsend(queue, "3", 1, 0, &time), ETIMEDOUT);
  EQUAL(mq_receive(queue, text, 4, NULL), 1);
  EQUAL(mq_receive(queue, text, 4, NULL), 1);
  FAILS(mq_timedreceive(queue, text, 4, NULL, &time), ETIMEDOUT);
  time.tv_nsec = -1;
  FAILS(mq_timedreceive(queue, text, 4, NULL, &time), EINVAL);
  OK(mq_unlink("/full"));
}

CASE(bad_input) {
  mqd_t queue = make("/bad", 0, 4, 8);
  char text[8];
  FAILS(mq_send(queue, "123456789", 9, 0), EMSGSIZE);
  FAILS(mq_send(queue, "1", 1, 32768), EINVAL);
  FAILS(mq_receive(queue, text, 7, NULL), EMSGSIZE);
  FAILS(mq_open("/none", O_RDWR), ENOENT);
  FAILS(mq_open("/bad", O_CREAT | O_EXCL | O_RDWR, 0600, NULL), EEXIST);
  struct mq_attr limits = {.mq_maxmsg = 0, .mq_msgsize = 8};
  FAILS(mq_open("/other", O_CREAT | O_RDWR, 0600, &limits), EINVAL);
  limits.mq_maxmsg = 1 << 30;
  FAILS(mq_open("/other", O_CREAT | O_RDWR, 0600, &limits), EINVAL);
  char name[300];
  memset(name, 'x', sizeof name);
  name[0] = '/';
  name[299] = 0;
  FAILS(mq_open(name, O_CREAT | O_RDWR, 0600, NULL), ENAMETOOLONG);
  FAILS(syscall(SYS_mq_open, "a/b", O_CREAT | O_RDWR, 0600, NULL), EACCES);
  FAILS(syscall(SYS_mq_open, "", O_CREAT | O_RDWR, 0600, NULL), ENOENT);
  FAILS(syscall(SYS_mq_open, 4096, O_CREAT | O_RDWR, 0600, NULL), EFAULT);
  FAILS(syscall(SYS_mq_timedsend, queue, 4096, 4, 0, NULL), EFAULT);
  OK(mq_send(queue, "1", 1, 0));
  int file = OK(open("/dev/null", O_RDWR));
  FAILS(mq_send(file, "1", 1, 0), EBADF);
  mqd_t reader = OK(mq_open("/bad", O_RDONLY));
  FAILS(mq_send(reader, "1", 1, 0), EBADF);
  mqd_t writer = OK(mq_open("/bad", O_WRONLY));
  FAILS(mq_receive(writer, text, 8, NULL), EBADF);
  OK(setegid(1000));
  OK(seteuid(1000));
  FAILS(mq_open("/bad", O_RDWR), EACCES);
  CHECK(mq_unlink("/bad") == -1);  // the directory is sticky
  limits = (struct mq_attr){.mq_maxmsg = 11, .mq_msgsize = 8};
  FAILS(mq_open("/other", O_CREAT | O_RDWR, 0600, &limits), EINVAL);
  OK(seteuid(0));
  OK(mq_unlink("/bad"));
  OK(mq_send(writer, "still", 5, 0));  // it lives while it is open
}

CASE(limits_of_a_user) {
  struct rlimit limit = {5000, 5000};
  OK(setrlimit(RLIMIT_MSGQUEUE, &limit));
  mqd_t queue = make("/limit", 0, 1, 4096);
  struct mq_attr limits = {.mq_maxmsg = 1, .mq_msgsize = 4096};
  FAILS(mq_open("/limit2", O_CREAT | O_RDWR, 0600, &limits), EMFILE);
  OK(mq_unlink("/limit"));
  OK(mq_close(queue));
  queue = make("/limit2", 0, 1, 4096);
  OK(mq_unlink("/limit2"));
}

static volatile int told;
static siginfo_t told_with;
static void on_message(int number, siginfo_t *information, void *context) {
  (void)number, (void)context;
  told_with = *information;
  told++;
}

CASE(notification) {
  struct sigaction action = {.sa_sigaction = on_message, .sa_flags = SA_SIGINFO | SA_RESTART};
  OK(sigaction(SIGUSR2, &action, NULL));
  mqd_t queue = make("/tell", O_NONBLOCK, 4, 8);
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 77};
  OK(mq_notify(queue, &event));
  FAILS(mq_notify(queue, &event), EBUSY);
  pid_t child = CHILD(OK(mq_send(queue, "x", 1, 0)));
  EQUAL(reap(child), 0);
  EQUAL(told, 1);
  EQUAL(told_with.si_code, SI_MESGQ);
  EQUAL(told_with.si_value.sival_int, 77);
  EQUAL(told_with.si_pid, child);
  // Once: and only when the queue was empty.
  OK(mq_notify(queue, &event));
  OK(mq_send(queue, "y", 1, 0));
  EQUAL(told, 1);
  char text[8];
  EQUAL(mq_receive(queue, text, 8, NULL), 1);
  EQUAL(mq_receive(queue, text, 8, NULL), 1);
  OK(mq_send(queue, "z", 1, 0));
  EQUAL(told, 2);
  OK(mq_notify(queue, NULL));
  event.sigev_signo = 70;
  FAILS(mq_notify(queue, &event), EINVAL);
  OK(mq_unlink("/tell"));
}

static mqd_t there, back;
static void *answer(void *unused) {
  char text[8];
  for (int i = 0; i < 500; i++) {
    ssize_t count = OK(mq_receive(there, text, 8, NULL));
    OK(mq_send(back, text, (size_t)count, 0));
  }
  return unused;
}

CASE(threads_wait_for_each_other) {
  there = make("/there", 0, 2, 8), back = make("/back", 0, 2, 8);
  pthread_t thread;
  CHECK(!pthread_create(&thread, NULL, answer, NULL));
  int sum = 0;
  for (int i = 0, sent = 0; i < 500; i++) {
    for (; sent < 500 && sent < i + 2; sent++) OK(mq_send(there, (char *)&sent, 4, 0));
    int number;
    char text[8];
    EQUAL(mq_receive(back, text, 8, NULL), 4);
    memcpy(&number, text, 4);
    EQUAL(number, i);
    sum += number;
  }
  EQUAL(sum, 499 * 250);
  pthread_join(thread, NULL);
  OK(mq_unlink("/there"));
  OK(mq_unlink("/back"));
}
