// Pipes.
#include "test.h"
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>

// A reader of an empty pipe blocks until there is something; a closed pipe ends it.
CASE(reader_blocks) {
  int ends[2];
  OK(pipe(ends));
  pid_t child = CHILD({
    close(ends[1]);
    char byte;
    if (read(ends[0], &byte, 1) != 1 || byte != 'x') _exit(1);
    if (read(ends[0], &byte, 1) != 0) _exit(2);
  });
  pause_ms(50);
  EQUAL(waitpid(child, NULL, WNOHANG), 0);
  EQUAL(OK(write(ends[1], "x", 1)), 1);
  pause_ms(20);
  EQUAL(waitpid(child, NULL, WNOHANG), 0);
  OK(close(ends[1]));
  EQUAL(reap(child), 0);
}

CASE(no_readers) {
  int ends[2];
  OK(pipe(ends));
  OK(close(ends[0]));
  EQUAL(reap(CHILD(write(ends[1], "x", 1))), 128 + SIGPIPE);
  signal(SIGPIPE, SIG_IGN);
  FAILS(write(ends[1], "x", 1), EPIPE);
}

// Every byte of a thousand transfers arrives, in order.
LIMITED_CASE(exact_transfers, 120) {
  int rounds = torture() ? 1000 : 100;
  static unsigned char block[30000];
  for (int round = 0; round < rounds; round++) {
    int ends[2];
    OK(pipe(ends));
    pid_t child = CHILD({
      close(ends[0]);
      for (unsigned i = 0; i < sizeof block; i++) block[i] = i * 7 + round;
      for (unsigned done = 0; done < sizeof block;) {
        int part = 1 + (done * 31 + round) % 5000;
        if (part > (int)(sizeof block - done)) part = sizeof block - done;
        int wrote = write(ends[1], block + done, part);
        if (wrote <= 0) _exit(1);
        done += wrote;
      }
    });
    OK(close(ends[1]));
    unsigned total = 0;
    int got;
    while ((got = OK(read(ends[0], block, 4096))) > 0)
      for (int i = 0; i < got; i++, total++) EQUAL(block[i], (unsigned char)(total * 7 + round));
    EQUAL(total, sizeof block);
    OK(close(ends[0]));
    EQUAL(reap(child), 0);
  }
}

// Writes of up to PIPE_BUF bytes are not interleaved.
CASE(atomic_writes) {
  int ends[2];
  OK(pipe(ends));
  pid_t writers[4];
  for (int w = 0; w < 4; w++)
    writers[w] = CHILD({
      char record[512];
      memset(record, 'a' + w, sizeof record);
      for (int i = 0; i < 200; i++)
        if (write(ends[1], record, sizeof record) != sizeof record) _exit(1);
    });
  OK(close(ends[1]));
  FILE *in = fdopen(ends[0], "r");
  char record[512];
  int count = 0;
  while (fread(record, sizeof record, 1, in) == 1) {
    for (unsigned i = 1; i < sizeof record; i++) EQUAL(record[i], record[0]);
    count++;
  }
  EQUAL(count, 800);
  for (int w = 0; w < 4; w++) EQUAL(reap(writers[w]), 0);
}

CASE(non_blocking) {
  int ends[2];
  OK(pipe2(ends, O_NONBLOCK | O_CLOEXEC));
  char block[4096];
  FAILS(read(ends[0], block, 1), EAGAIN);
  int total = 0, wrote;
  while ((wrote = write(ends[1], block, sizeof block)) > 0) total += wrote;
  EQUAL(errno, EAGAIN);
  EQUAL(total, 65536);
  EQUAL(OK(fcntl(ends[0], F_GETFD)), FD_CLOEXEC);
}

// The last writer's bytes come before its end, however its write and its close fall between what the reader does.
static int last_ends[2];
static volatile int last_round;
static int last_rounds(void) { return torture() ? 20000 : 4000; }
static void *last_writer(void *unused) {
  for (int i = 1; i <= last_rounds(); i++) {
    while (last_round != i) {}
    OK(write(last_ends[1], "x", 1));
    OK(close(last_ends[1]));
  }
  return NULL;
}

CASE(last_words) {
  pthread_t thread;
  CHECK(!pthread_create(&thread, NULL, last_writer, NULL));
  for (int i = 1; i <= last_rounds(); i++) {
    OK(pipe(last_ends));
    int reader = last_ends[0];
    last_round = i;
    char byte;
    struct pollfd poll_one = {reader, POLLIN};
    if (i & 1) {
      do EQUAL(poll(&poll_one, 1, -1), 1);
      while (!poll_one.revents);
      CHECK(poll_one.revents & POLLIN);
    }
    EQUAL(read(reader, &byte, 1), 1);
    EQUAL(read(reader, &byte, 1), 0);
    OK(close(reader));
  }
  pthread_join(thread, NULL);
}

// What is left in a FIFO goes with those who had it open.
CASE(fifo_keeps_nothing) {
  OK(mkfifo("fifo", 0600));
  char byte = 'x';
  int both = OK(open("fifo", O_RDWR));
  EQUAL(write(both, &byte, 1), 1);
  OK(close(both));
  int in = OK(open("fifo", O_RDONLY | O_NONBLOCK));
  EQUAL(read(in, &byte, 1), 0);
  int out = OK(open("fifo", O_WRONLY | O_NONBLOCK));
  FAILS(read(in, &byte, 1), EAGAIN);
  EQUAL(write(out, &byte, 1), 1);
  EQUAL(read(in, &byte, 1), 1);
}

// Who opens a FIFO meets who opened its other end, also one that has gone again before he runs.
CASE(fifo_ends_that_come_and_go) {
  OK(mkfifo("fifo", 0600));
  int done[2];
  OK(pipe(done));
  pid_t child = CHILD({
    for (int i = 0; i < 300; i++) {
      int in = OK(open("fifo", O_RDONLY));
      char byte;
      EQUAL(read(in, &byte, 1), 1);
      EQUAL(byte, (char)i);
      EQUAL(read(in, &byte, 1), 0);
      OK(close(in));
      EQUAL(write(done[1], &byte, 1), 1);
    }
  });
  for (int i = 0; i < 300; i++) {
    int out = OK(open("fifo", O_WRONLY));
    char byte = i;
    EQUAL(write(out, &byte, 1), 1);
    OK(close(out));
    EQUAL(read(done[0], &byte, 1), 1);
  }
  EQUAL(reap(child), 0);
}

// O_DIRECT: a read ends where a write has ended, and what it has no room for is lost.
CASE(packets) {
  int ends[2], ready;
  static char big[20000], found[20000];
  OK(pipe2(ends, O_DIRECT | O_NONBLOCK));
  EQUAL(OK(fcntl(ends[0], F_GETFL)) & O_DIRECT, 0);
  EQUAL(OK(fcntl(ends[1], F_GETFL)) & O_DIRECT, O_DIRECT);
  EQUAL(write(ends[1], "hello", 5), 5);
  EQUAL(write(ends[1], "", 0), 0);
  EQUAL(write(ends[1], "world!", 6), 6);
  OK(ioctl(ends[0], FIONREAD, &ready));
  EQUAL(ready, 11);
  EQUAL(read(ends[0], found, 3), 3);
  CHECK(!memcmp(found, "hel", 3));
  EQUAL(read(ends[0], found, 100), 6);
  CHECK(!memcmp(found, "world!", 6));
  FAILS(read(ends[0], found, 100), EAGAIN);
  // What is longer than a page is several.
  for (unsigned i = 0; i < sizeof big; i++) big[i] = i * 7 + (i >> 8);
  EQUAL(write(ends[1], big, 10000), 10000);
  EQUAL(read(ends[0], found, sizeof found), 4096);
  EQUAL(read(ends[0], found + 4096, 4096), 4096);
  EQUAL(read(ends[0], found + 8192, 4096), 10000 - 8192);
  CHECK(!memcmp(big, found, 10000));
  // As many as pages, however short.
  int count = 0;
  while (write(ends[1], "x", 1) == 1) count++;
  EQUAL(count, 16);
  struct pollfd writer = {.fd = ends[1], .events = POLLOUT};
  EQUAL(poll(&writer, 1, 0), 0);
  EQUAL(read(ends[0], found, 10), 1);
  EQUAL(poll(&writer, 1, 0), 1);
  // More room, which they find their place in; and no less than they need.
  EQUAL(OK(fcntl(ends[1], F_SETPIPE_SZ, 1 << 17)), 1 << 17);
  EQUAL(write(ends[1], "yy", 2), 2);
  FAILS(fcntl(ends[1], F_SETPIPE_SZ, 1 << 15), EBUSY);
  for (int i = 0; i < 15; i++) EQUAL(read(ends[0], found, 10), 1);
  EQUAL(read(ends[0], found, 10), 2);
  // A stream behind them.
  EQUAL(write(ends[1], "cd", 2), 2);
  OK(fcntl(ends[1], F_SETFL, O_NONBLOCK));
  EQUAL(write(ends[1], "ef", 2), 2);
  EQUAL(write(ends[1], "gh", 2), 2);
  EQUAL(read(ends[0], found, 10), 2);
  CHECK(!memcmp(found, "cd", 2));
  EQUAL(read(ends[0], found, 10), 4);
  CHECK(!memcmp(found, "efgh", 4));
  // A reader that comes late finds all of them.
  OK(fcntl(ends[0], F_SETFL, 0));
  OK(fcntl(ends[1], F_SETFL, O_DIRECT));
  pid_t child = CHILD({
    OK(close(ends[1]));
    for (int i = 1; i <= 200; i++) {
      EQUAL(read(ends[0], found, sizeof found), i);
      CHECK(!memcmp(found, big + i, i));
    }
    EQUAL(read(ends[0], found, 1), 0);
  });
  for (int i = 1; i <= 200; i++) EQUAL(write(ends[1], big + i, i), i);
  OK(close(ends[1]));
  EQUAL(reap(child), 0);
}
