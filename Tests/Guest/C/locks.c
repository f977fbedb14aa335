// Advisory locks.
#include "test.h"
#include <sched.h>
#include <sys/file.h>

static int lock(int file, int command, int type, long start, long length) {
  struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
  return fcntl(file, command, &l);
}

CASE(record_locks) {
  int file = OK(open("f", O_CREAT | O_RDWR, 0644));
  OK(lock(file, F_SETLK, F_WRLCK, 10, 10));
  pid_t child = CHILD({
    int mine = OK(open("f", O_RDWR));
    FAILS(lock(mine, F_SETLK, F_RDLCK, 15, 1), EAGAIN);
    OK(lock(mine, F_SETLK, F_WRLCK, 20, 5));
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
    OK(fcntl(mine, F_GETLK, &l));
    EQUAL(l.l_type, F_WRLCK);
    EQUAL(l.l_start, 10);
    EQUAL(l.l_len, 10);
    EQUAL(l.l_pid, getppid());
  });
  EQUAL(reap(child), 0);
  OK(lock(file, F_SETLK, F_UNLCK, 12, 2));
  child = CHILD({
    int mine = OK(open("f", O_RDWR));
    OK(lock(mine, F_SETLK, F_WRLCK, 12, 2));
    FAILS(lock(mine, F_SETLK, F_WRLCK, 12, 3), EAGAIN);
  });
  EQUAL(reap(child), 0);
  // Closing any descriptor of the file gives the locks up.
  OK(close(OK(open("f", O_RDONLY))));
  child = CHILD(OK(lock(OK(open("f", O_RDWR)), F_SETLK, F_WRLCK, 0, 0)));
  EQUAL(reap(child), 0);
  int reader = OK(open("f", O_RDONLY));
  FAILS(lock(reader, F_SETLK, F_WRLCK, 0, 1), EBADF);
  FAILS(lock(file, F_SETLK, 7, 0, 1), EINVAL);
}

CASE(waiting_for_a_lock) {
  int file = OK(open("f", O_CREAT | O_RDWR, 0644)), ends[2];
  OK(pipe(ends));
  OK(lock(file, F_SETLK, F_WRLCK, 0, 0));
  pid_t child = CHILD({
    OK(lock(OK(open("f", O_RDWR)), F_SETLKW, F_WRLCK, 0, 0));
    write(ends[1], "x", 1);
  });
  pause_ms(30);
  EQUAL(waitpid(child, NULL, WNOHANG), 0);
  OK(lock(file, F_SETLK, F_UNLCK, 0, 0));
  EQUAL(reap(child), 0);
}

CASE(deadlock_is_found) {
  int file = OK(open("f", O_CREAT | O_RDWR, 0644));
  OK(lock(file, F_SETLK, F_WRLCK, 0, 1));
  pid_t child = CHILD({
    int mine = OK(open("f", O_RDWR));
    OK(lock(mine, F_SETLK, F_WRLCK, 1, 1));
    OK(lock(mine, F_SETLKW, F_WRLCK, 0, 1));
  });
  pause_ms(50);
  FAILS(lock(file, F_SETLKW, F_WRLCK, 1, 1), EDEADLK);
  OK(lock(file, F_SETLK, F_UNLCK, 0, 0));
  EQUAL(reap(child), 0);
}

// Who holds one lock at a time and waits for none meanwhile is in no circle, whatever others do as it waits.
CASE(no_deadlock_without_a_circle) {
  int file = OK(open("ranges", O_CREAT | O_RDWR, 0600));
  pid_t children[4];
  for (int i = 0; i < 4; i++)
    children[i] = CHILD(for (int k = 0; k < 1000; k++) {
      struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (k * 7 + i) % 3, .l_len = 2};
      OK(fcntl(file, F_SETLKW, &range));
      for (volatile int turns = k * 13 % 1000; turns; turns--) {}
      sched_yield();
      range.l_type = F_UNLCK;
      OK(fcntl(file, F_SETLK, &range));
    });
  for (int i = 0; i < 4; i++) EQUAL(reap(children[i]), 0);
}

CASE(open_file_locks) {
  int one = OK(open("f", O_CREAT | O_RDWR, 0644)), two = OK(open("f", O_RDWR));
  OK(lock(one, F_OFD_SETLK, F_WRLCK, 0, 10));
  FAILS(lock(two, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
  OK(lock(OK(dup(one)), F_OFD_SETLK, F_RDLCK, 0, 10));
  OK(lock(two, F_OFD_SETLK, F_RDLCK, 0, 10));
}

CASE(whole_file_locks) {
  int one = OK(open("f", O_CREAT | O_RDWR, 0644)), two = OK(open("f", O_RDWR));
  OK(flock(one, LOCK_SH));
  OK(flock(two, LOCK_SH));
  FAILS(flock(two, LOCK_EX | LOCK_NB), EAGAIN);
  OK(flock(one, LOCK_UN));
  OK(flock(two, LOCK_EX));
  pid_t child = CHILD(FAILS(flock(OK(open("f", O_RDWR)), LOCK_SH | LOCK_NB), EAGAIN));
  EQUAL(reap(child), 0);
  // A child that inherits the descriptor shares the lock.
  child = CHILD(OK(flock(two, LOCK_EX | LOCK_NB)));
  EQUAL(reap(child), 0);
  OK(close(two));
  OK(flock(one, LOCK_EX | LOCK_NB));
  FAILS(flock(one, 0), EINVAL);
  FAILS(flock(99, LOCK_SH), EBADF);
}
