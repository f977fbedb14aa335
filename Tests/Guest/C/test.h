// What C cases share. Each CASE is a process of its own; it passes by returning. They run on Linux as well (the oracle):
// `./adrosctl test linux` runs them there.
#ifndef ADROS_TEST_H
#define ADROS_TEST_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct test_case {
  const char *name;
  void (*run)(void);
  int limit; // seconds of guest time
  struct test_case *next;
};
static struct test_case *test_cases, **test_last = &test_cases;

#define LIMITED_CASE(id, seconds)                                                                     \
  static void case_##id(void);                                                                        \
  __attribute__((constructor)) static void add_##id(void) {                                           \
    static struct test_case it = {#id, case_##id, seconds, 0};                                        \
    *test_last = &it;                                                                                 \
    test_last = &it.next;                                                                             \
  }                                                                                                   \
  static void case_##id(void)
#define CASE(id) LIMITED_CASE(id, 30)

#define FAIL(...)                                                                                     \
  do {                                                                                                \
    printf("%s:%d: ", __FILE__, __LINE__);                                                            \
    printf(__VA_ARGS__);                                                                              \
    printf(" (errno %d %s)\n", errno, strerror(errno));                                               \
    fflush(stdout);                                                                                   \
    _exit(1);                                                                                         \
  } while (0)
#define CHECK(condition)                                                                              \
  do {                                                                                                \
    if (!(condition)) FAIL("not true: %s", #condition);                                               \
  } while (0)
#define EQUAL(a, b)                                                                                   \
  do {                                                                                                \
    long long x_ = (long long)(a), y_ = (long long)(b);                                               \
    if (x_ != y_) FAIL("%s is %lld, not %s = %lld", #a, x_, #b, y_);                                  \
  } while (0)
// A call that must succeed, and one that must fail with an errno.
#define OK(call)                                                                                      \
  ({                                                                                                  \
    long ok_ = (long)(call);                                                                          \
    if (ok_ == -1) FAIL("%s failed", #call);                                                          \
    ok_;                                                                                              \
  })
#define FAILS(call, code)                                                                             \
  do {                                                                                                \
    errno = 0;                                                                                        \
    long got_ = (long)(call);                                                                         \
    if (got_ != -1) FAIL("%s gave %ld, wanted %s", #call, got_, #code);                               \
    if (errno != (code)) FAIL("%s: wanted %s", #call, #code);                                         \
  } while (0)

// Whether the long form was asked for.
__attribute__((unused)) static int torture(void) { return getenv("TORTURE") != NULL; }
__attribute__((unused)) static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}
__attribute__((unused)) static void pause_ms(long ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&t, &t) && errno == EINTR) {}
}
// Waits for a child: its exit status, or 128 + signal.
__attribute__((unused)) static int reap(pid_t child) {
  int status;
  OK(waitpid(child, &status, 0));
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
// Waits until a process sleeps.
__attribute__((unused)) static void wait_until_asleep(pid_t process) {
  char name[32], text[256] = "";
  snprintf(name, sizeof name, "/proc/%d/stat", process);
  for (char *state = NULL; !state || state[2] != 'S'; state = strrchr(text, ')')) {
    FILE *file = fopen(name, "r");
    CHECK(file && fgets(text, sizeof text, file));
    fclose(file);
  }
}
// Works in a directory on the disk, which /tmp is not, and leaves it again, without what is in it.
__attribute__((unused)) static void on_disk(void) {
  if (mkdir("/var", 0755)) CHECK(errno == EEXIST);
  OK(mkdir("/var/case", 0755));
  OK(chdir("/var/case"));
}
__attribute__((unused)) static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place) {
  (void)status, (void)type, (void)place;
  return remove(path);
}
__attribute__((unused)) static void off_disk(void) {
  OK(chdir("/"));
  OK(nftw("/var/case", remove_one, 16, FTW_DEPTH | FTW_PHYS));
}
// Works in a file system in memory of its own, which goes with this process.
__attribute__((unused)) static void in_memory(void) {
  OK(mkdir("memory", 0755));
  OK(mount("none", "memory", "tmpfs", 0, "size=64m"));
  int fd = OK(open("memory", O_RDONLY | O_DIRECTORY));
  OK(umount2("memory", MNT_DETACH));
  OK(rmdir("memory"));
  OK(fchdir(fd));
  OK(close(fd));
}
// What Debian's Linux has as a module, whose tests ask for it.
__attribute__((unused)) static void load_module(const char *name) {
  char path[64];
  snprintf(path, sizeof path, "/lib/%s.ko", name);
  int module = open(path, O_RDONLY);
  if (module < 0) return;
  if (syscall(SYS_finit_module, module, "", 0)) CHECK(errno == EEXIST);
  OK(close(module));
}
// Runs statements in a child and answers its status.
#define CHILD(...)                                                                                    \
  ({                                                                                                  \
    fflush(stdout);                                                                                   \
    pid_t child_ = OK(fork());                                                                        \
    if (!child_) {                                                                                    \
      __VA_ARGS__;                                                                                    \
      _exit(0);                                                                                       \
    }                                                                                                 \
    child_;                                                                                           \
  })

int main(int argc, char **argv) {
  if (argc == 2 && !strcmp(argv[1], "--list")) {
    for (struct test_case *c = test_cases; c; c = c->next) printf("%s %d\n", c->name, c->limit);
    return 0;
  }
  for (struct test_case *c = test_cases; c; c = c->next)
    if (argc == 2 && !strcmp(argv[1], c->name)) {
      c->run();
      return 0;
    }
  fprintf(stderr, "%s --list | CASE\n", argv[0]);
  return 2;
}
#endif
