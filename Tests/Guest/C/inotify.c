// inotify: what happens to files, told to who watches.
#include "test.h"
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>

// What a descriptor has to say now, one "NUMBER MASK NAME" an event.
static const char *told(int fd) {
  static char text[8192];
  char buffer[8192] __attribute__((aligned(8)));
  text[0] = 0;
  int got = read(fd, buffer, sizeof buffer);
  if (got < 0) return errno == EAGAIN ? "nothing" : "error";
  for (int at = 0; at < got;) {
    struct inotify_event *event = (void *)(buffer + at);
    sprintf(text + strlen(text), "%s%d %x%s%s", at ? ", " : "", event->wd, event->mask, event->len ? " " : "",
            event->len ? event->name : "");
    at += sizeof *event + event->len;
  }
  return text;
}

#define TOLD(fd, expected)                                                     \
  do {                                                                         \
    const char *is_told = told(fd);                                            \
    if (strcmp(is_told, expected)) FAIL("told \"%s\", not \"%s\"", is_told, expected); \
  } while (0)

static void make(const char *path, const char *content) {
  int fd = OK(open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644));
  EQUAL(write(fd, content, strlen(content)), (int)strlen(content));
  OK(close(fd));
}

// A directory's watcher is told its names.
CASE(names_in_a_directory) {
  OK(mkdir("d", 0755));
  int fd = OK(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  int watch = OK(inotify_add_watch(fd, "d", IN_ALL_EVENTS));
  EQUAL(watch, 1);
  TOLD(fd, "nothing");
  make("d/a", "text");
  TOLD(fd, "1 100 a, 1 20 a, 1 2 a, 1 8 a");
  OK(mkdir("d/sub", 0755));
  TOLD(fd, "1 40000100 sub");
  OK(symlink("a", "d/link"));
  TOLD(fd, "1 100 link");
  OK(link("d/a", "d/b"));
  TOLD(fd, "1 100 b");
  OK(chmod("d/a", 0600));
  TOLD(fd, "1 4 a");
  OK(truncate("d/b", 2));
  TOLD(fd, "1 2 b");
  char byte;
  int file = OK(open("d/a", O_RDONLY));
  EQUAL(read(file, &byte, 1), 1);
  EQUAL(pread(file, &byte, 1, 0), 1);
  EQUAL(pread(file, &byte, 1, 100), 0);
  OK(close(file));
  TOLD(fd, "1 20 a, 1 1 a, 1 10 a");
  OK(rename("d/a", "d/c"));
  TOLD(fd, "1 40 a, 1 80 c");
  OK(rename("d/c", "away"));
  TOLD(fd, "1 40 c");
  OK(rename("away", "d/a"));
  TOLD(fd, "1 80 a");
  OK(unlink("d/b"));
  OK(rmdir("d/sub"));
  TOLD(fd, "1 200 b, 1 40000200 sub");
  struct timespec times[2] = {{1, 0}, {UTIME_NOW, UTIME_OMIT}};
  OK(utimensat(AT_FDCWD, "d/a", times, 0));
  TOLD(fd, "1 1 a");
  OK(unlink("d/a"));
  OK(unlink("d/link"));
  TOLD(fd, "1 200 a, 1 200 link");
  OK(rmdir("d"));
  TOLD(fd, "1 400, 1 8000");
  FAILS(inotify_rm_watch(fd, watch), EINVAL);
}

// A file's own watcher sees all of its names and its end.
CASE(a_file_itself) {
  make("a", "text");
  int fd = OK(inotify_init1(IN_NONBLOCK));
  EQUAL(inotify_add_watch(fd, "a", IN_ALL_EVENTS), 1);
  OK(link("a", "b"));
  TOLD(fd, "1 4");
  EQUAL(inotify_add_watch(fd, "b", IN_ALL_EVENTS), 1);
  OK(rename("a", "c"));
  TOLD(fd, "1 800");
  OK(unlink("c"));
  TOLD(fd, "1 4");
  int file = OK(open("b", O_RDWR));
  TOLD(fd, "1 20");
  OK(unlink("b"));
  TOLD(fd, "1 4");
  EQUAL(write(file, "x", 1), 1);
  TOLD(fd, "1 2");
  OK(close(file));
  TOLD(fd, "1 8, 1 400, 1 8000");
  FAILS(inotify_rm_watch(fd, 1), EINVAL);
}

// A move has two events with one number; what is replaced goes.
CASE(cookies) {
  OK(mkdir("from", 0755));
  OK(mkdir("to", 0755));
  make("from/a", "a");
  make("to/b", "b");
  int fd = OK(inotify_init1(IN_NONBLOCK));
  EQUAL(inotify_add_watch(fd, "from", IN_MOVE), 1);
  EQUAL(inotify_add_watch(fd, "to", IN_MOVE | IN_DELETE), 2);
  EQUAL(inotify_add_watch(fd, "to/b", IN_DELETE_SELF), 3);
  OK(rename("from/a", "to/b"));
  char buffer[1024] __attribute__((aligned(8)));
  EQUAL(read(fd, buffer, sizeof buffer), 32 + 32 + 16 + 16);
  struct inotify_event *first = (void *)buffer, *second = (void *)(buffer + 32), *third = (void *)(buffer + 64);
  EQUAL(first->mask, IN_MOVED_FROM);
  EQUAL(second->mask, IN_MOVED_TO);
  EQUAL(second->wd, 2);
  CHECK(first->cookie && first->cookie == second->cookie);
  EQUAL(first->len, 16);
  EQUAL(third->wd, 3);
  EQUAL(third->mask, IN_DELETE_SELF);
  EQUAL(third->cookie, 0);
}

CASE(masks) {
  OK(mkdir("d", 0755));
  make("d/a", "text");
  int fd = OK(inotify_init1(IN_NONBLOCK));
  EQUAL(inotify_add_watch(fd, "d", IN_OPEN), 1);
  EQUAL(inotify_add_watch(fd, "d", IN_ATTRIB | IN_MASK_ADD), 1);
  FAILS(inotify_add_watch(fd, "d", IN_ATTRIB | IN_MASK_CREATE), EEXIST);
  FAILS(inotify_add_watch(fd, "d", IN_ATTRIB | IN_MASK_CREATE | IN_MASK_ADD), EINVAL);
  OK(chmod("d/a", 0600));
  int file = OK(open("d/a", O_RDONLY));
  TOLD(fd, "1 4 a, 1 20 a");
  EQUAL(inotify_add_watch(fd, "d", IN_CLOSE_NOWRITE), 1);
  OK(chmod("d/a", 0644));
  OK(close(file));
  TOLD(fd, "1 10 a");
  EQUAL(inotify_add_watch(fd, "d", IN_CREATE | IN_ONESHOT), 1);
  make("d/b", "");
  make("d/c", "");
  TOLD(fd, "1 100 b, 1 8000");
  EQUAL(inotify_add_watch(fd, "d", IN_MODIFY | IN_EXCL_UNLINK), 2);
  file = OK(open("d/a", O_WRONLY));
  EQUAL(write(file, "x", 1), 1);
  TOLD(fd, "2 2 a");
  OK(unlink("d/a"));
  EQUAL(write(file, "x", 1), 1);
  TOLD(fd, "nothing");
  EQUAL(inotify_add_watch(fd, "d", IN_MODIFY), 2);
  EQUAL(write(file, "x", 1), 1);
  TOLD(fd, "2 2 a");
  OK(inotify_rm_watch(fd, 2));
  TOLD(fd, "2 8000");
  // The same again is said once, until it has been read.
  EQUAL(inotify_add_watch(fd, "d/b", IN_MODIFY), 3);
  int other = OK(open("d/b", O_WRONLY));
  for (int i = 0; i < 5; i++) EQUAL(write(other, "x", 1), 1);
  TOLD(fd, "3 2");
  EQUAL(write(other, "x", 1), 1);
  TOLD(fd, "3 2");
}

CASE(reading) {
  OK(mkdir("d", 0755));
  int fd = OK(inotify_init());
  EQUAL(inotify_add_watch(fd, "d", IN_CREATE), 1);
  struct pollfd one = {fd, POLLIN | POLLOUT};
  EQUAL(poll(&one, 1, 0), 0);
  make("d/a-name-of-sixteen", "");
  EQUAL(poll(&one, 1, 0), 1);
  EQUAL(one.revents, POLLIN);
  int waiting;
  OK(ioctl(fd, FIONREAD, &waiting));
  EQUAL(waiting, 48);
  char buffer[64];
  FAILS(read(fd, buffer, 47), EINVAL);
  EQUAL(read(fd, buffer, 64), 48);
  make("d/b", "");
  make("d/c", "");
  EQUAL(read(fd, buffer, 63), 32);
  EQUAL(read(fd, buffer, 64), 32);
  make("d/e", "");
  FAILS(syscall(SYS_read, fd, 8, 64), EFAULT);
  FAILS(write(fd, buffer, 1), EBADF);
  pid_t child = CHILD({
    pause_ms(50);
    make("d/late", "");
  });
  OK(fcntl(fd, F_SETFL, O_NONBLOCK));
  while (read(fd, buffer, 64) > 0) {}
  OK(fcntl(fd, F_SETFL, 0));
  EQUAL(read(fd, buffer, 64), 32);
  CHECK(!strcmp(buffer + 16, "late"));
  EQUAL(reap(child), 0);
}

CASE(errors) {
  OK(mkdir("d", 0755));
  make("a", "");
  OK(symlink("a", "link"));
  FAILS(inotify_init1(1), EINVAL);
  int fd = OK(inotify_init1(IN_NONBLOCK));
  FAILS(inotify_add_watch(fd, "d", 0), EINVAL);
  FAILS(inotify_add_watch(fd, "none", IN_OPEN), ENOENT);
  FAILS(inotify_add_watch(fd, "a", IN_OPEN | IN_ONLYDIR), ENOTDIR);
  FAILS(syscall(SYS_inotify_add_watch, fd, 8, IN_OPEN), EFAULT);
  FAILS(inotify_add_watch(0, "d", IN_OPEN), EINVAL);
  FAILS(inotify_add_watch(99, "d", IN_OPEN), EBADF);
  FAILS(inotify_rm_watch(0, 1), EINVAL);
  FAILS(inotify_rm_watch(99, 1), EBADF);
  FAILS(inotify_rm_watch(fd, 1), EINVAL);
  EQUAL(inotify_add_watch(fd, "link", IN_ATTRIB), 1);
  EQUAL(inotify_add_watch(fd, "link", IN_ATTRIB | IN_DONT_FOLLOW), 2);
  OK(chmod("link", 0600));
  TOLD(fd, "1 4");
  OK(chmod("a", 0));
  pid_t child = CHILD({
    OK(setuid(1000));
    FAILS(inotify_add_watch(fd, "a", IN_OPEN), EACCES);
  });
  EQUAL(reap(child), 0);
}

// More than the queue holds is lost, which is said.
CASE(overflow) {
  make("a", "");
  make("b", "");
  int fd = OK(inotify_init1(IN_NONBLOCK));
  EQUAL(inotify_add_watch(fd, "a", IN_MODIFY), 1);
  EQUAL(inotify_add_watch(fd, "b", IN_MODIFY), 2);
  int files[2] = {OK(open("a", O_WRONLY)), OK(open("b", O_WRONLY))};
  for (int i = 0; i < 20000; i++) EQUAL(pwrite(files[i & 1], "x", 1, 0), 1);
  static struct inotify_event events[20000];
  int got = OK(read(fd, events, sizeof events));
  EQUAL(got / sizeof events[0], 16385);
  EQUAL(events[16384].wd, -1);
  EQUAL(events[16384].mask, IN_Q_OVERFLOW);
  TOLD(fd, "nothing");
  EQUAL(pwrite(files[0], "x", 1, 0), 1);
  TOLD(fd, "1 2");
}

CASE(limits) {
  struct rlimit most = {1024, 1024};
  OK(setrlimit(RLIMIT_NOFILE, &most));
  pid_t child = CHILD({
    OK(setuid(1234));
    int count = 0;
    while (inotify_init() >= 0) count++;
    EQUAL(errno, EMFILE);
    EQUAL(count, 128);
  });
  EQUAL(reap(child), 0);
  child = CHILD({
    OK(setuid(1234));
    OK(inotify_init());
  });
  EQUAL(reap(child), 0);
}

// Watches keep no file system from going, and go with it.
CASE(unmounting) {
  OK(mkdir("m", 0755));
  OK(mount("none", "m", "tmpfs", 0, ""));
  make("m/a", "x");
  int fd = OK(inotify_init1(IN_NONBLOCK));
  EQUAL(inotify_add_watch(fd, "m/a", IN_OPEN), 1);
  EQUAL(inotify_add_watch(fd, "m", IN_CREATE), 2);
  OK(umount("m"));
  const char *is_told = told(fd);
  if (!strstr(is_told, "1 2000, 1 8000")) FAIL("%s", is_told);
  if (!strstr(is_told, "2 40002000, 2 8000")) FAIL("%s", is_told);
}

// Files come, change and go in four processes while two watch and stop watching.
CASE(storm) {
  OK(mkdir("d", 0755));
  int rounds = torture() ? 20000 : 400;
  for (int process = 0; process < 4; process++)
    CHILD({
      char name[16];
      char other[16];
      for (int i = 0; i < rounds; i++) {
        sprintf(name, "d/%d", (i * 7 + process) % 5);
        sprintf(other, "d/%d", (i * 3 + process) % 7);
        int file = open(name, O_CREAT | O_RDWR, 0644);
        if (file >= 0) {
          write(file, "x", 1);
          close(file);
        }
        if (i & 1) rename(name, other);
        else unlink(other);
      }
    });
  for (int process = 0; process < 2; process++)
    CHILD({
      char buffer[4096];
      for (int i = 0; i < rounds / 4; i++) {
        int fd = OK(inotify_init1(IN_NONBLOCK));
        OK(inotify_add_watch(fd, "d", IN_ALL_EVENTS | IN_EXCL_UNLINK));
        for (int file = 0; file < 7; file++) {
          char name[16];
          sprintf(name, "d/%d", file);
          int watch = inotify_add_watch(fd, name, IN_ALL_EVENTS | (file & 1 ? IN_ONESHOT : 0));
          if (watch >= 0 && file % 3 == 0) inotify_rm_watch(fd, watch);
        }
        while (read(fd, buffer, sizeof buffer) > 0 && i % 2) {}
        OK(close(fd));
      }
    });
  int status;
  while (wait(&status) > 0) EQUAL(status, 0);
}
