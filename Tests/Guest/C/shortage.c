// When there is not enough: memory, threads, room in a file system in memory; and what mappings of files keep.
#include "test.h"
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <pthread.h>
#include <setjmp.h>

static char page[4096];

static long field(const char *name) {
  char line[200];
  FILE *file = fopen("/proc/meminfo", "r");
  CHECK(file);
  long value = -1;
  while (fgets(line, sizeof line, file))
    if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':') value = atol(line + strlen(name) + 1);
  fclose(file);
  CHECK(value >= 0);
  return value;
}

static void put(const char *path, const char *text) {
  int file = OK(open(path, O_WRONLY));
  EQUAL(write(file, text, strlen(text)), strlen(text));
  close(file);
}

CASE(tmpfs_limits) {
  OK(mkdir("small", 0755));
  FAILS(mount("none", "small", "tmpfs", 0, "size=no"), EINVAL);
  FAILS(mount("none", "small", "tmpfs", 0, "colour=red"), EINVAL);
  OK(mount("none", "small", "tmpfs", 0, "size=1m,nr_inodes=4,mode=700"));
  struct stat about;
  OK(stat("small", &about));
  EQUAL(about.st_mode & 07777, 0700);
  struct statfs room;
  OK(statfs("small", &room));
  EQUAL(room.f_blocks, 256);
  int file = OK(open("small/a", O_CREAT | O_RDWR, 0600)), pages = 0;
  while (write(file, page, sizeof page) == sizeof page) pages++;
  EQUAL(errno, ENOSPC);
  CHECK(pages >= 250 && pages <= 256);  // Linux counts some for itself
  OK(statfs("small", &room));
  CHECK(room.f_bfree <= 256 - pages);
  FAILS(pwrite(file, page, 1, 4 << 20), ENOSPC);
  // Half of it goes and may be filled again.
  OK(ftruncate(file, pages / 2 * 4096));
  int other = OK(open("small/b", O_CREAT | O_RDWR, 0600)), more = 0;
  while (write(other, page, sizeof page) == sizeof page) more++;
  CHECK(more >= pages - pages / 2 - 1 && more <= pages - pages / 2);
  close(other);
  OK(unlink("small/b"));
  OK(unlink("small/a"));
  // An unlinked file holds its room as long as it is open.
  other = OK(open("small/b", O_CREAT | O_RDWR, 0600));
  EQUAL(write(other, page, sizeof page), sizeof page);
  close(file);
  close(other);
  OK(statfs("small", &room));
  CHECK(room.f_bfree >= 250);
  int files = 0;
  for (char name[] = "small/0"; files < 10; name[6]++, files++) {
    int one = open(name, O_CREAT | O_RDWR, 0600);
    if (one < 0) break;
    close(one);
  }
  EQUAL(errno, ENOSPC);
  EQUAL(files, 2);  // the root directory and b are the others
  OK(umount("small"));
}

static sigjmp_buf back;
static void jump(int signal) { siglongjmp(back, signal); }

CASE(truncated_mapping) {
  int file = OK(open("m", O_CREAT | O_RDWR, 0600));
  for (int i = 0; i < 4; i++) EQUAL(write(file, page, sizeof page), sizeof page);
  char *shared = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  char *private = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
  CHECK(shared != MAP_FAILED && private != MAP_FAILED);
  memset(shared, 's', 4 * 4096);
  memset(private, 'p', 4 * 4096);
  OK(ftruncate(file, 4096 + 100));
  signal(SIGBUS, jump);
  EQUAL(shared[4096 + 99], 's');
  EQUAL(shared[4096 + 100], 0);
  EQUAL(private[4096 + 100], 'p');
  for (int i = 0; i < 2; i++) {
    volatile char *gone = (i ? private : shared) + 2 * 4096;
    if (sigsetjmp(back, 1)) continue;
    int value = *gone;
    FAIL("mapping %d has %d behind the end", i, value);
  }
  OK(ftruncate(file, 4 * 4096));
  EQUAL(shared[2 * 4096], 0);
}

// What is written through a mapping after the flusher came by reaches the file too, without an msync.
CASE(late_writes_through_a_mapping) {
  int file = OK(open("late", O_CREAT | O_RDWR, 0600));
  for (int i = 0; i < 8; i++) EQUAL(write(file, page, sizeof page), sizeof page);
  char *shared = mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  CHECK(shared != MAP_FAILED);
  memset(shared, 'a', 8 * 4096);
  OK(fsync(file));
  pid_t child = CHILD({
    memset(shared + 4 * 4096, 'c', 4096);
    exit(0);
  });
  EQUAL(reap(child), 0);
  memset(shared, 'b', 4 * 4096);
  OK(munmap(shared, 8 * 4096));
  sync();
  put("/proc/sys/vm/drop_caches", "3");
  char got[4096];
  const char *expected = "bbbbcaaa";
  for (int i = 0; i < 8; i++) {
    EQUAL(pread(file, got, sizeof got, i * 4096), sizeof got);
    EQUAL(got[0], expected[i]);
    EQUAL(got[4095], expected[i]);
  }
}

CASE(no_way_round_the_open_mode) {
  int file = OK(open("ro", O_CREAT | O_RDWR, 0600));
  EQUAL(write(file, page, sizeof page), sizeof page);
  int reader = OK(open("ro", O_RDONLY));
  char *shared = mmap(NULL, 4096, PROT_READ, MAP_SHARED, reader, 0);
  CHECK(shared != MAP_FAILED);
  FAILS(mprotect(shared, 4096, PROT_READ | PROT_WRITE), EACCES);
  char *private = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, reader, 0);
  CHECK(private != MAP_FAILED);
  OK(mprotect(private, 4096, PROT_READ | PROT_WRITE));
  *private = 1;
}

// Children touch more than `total` MiB, each as much as fits into an address space, by themselves or with reads of `path`.
// The first to end was killed.
static void starve(long total, const char *path) {
  int count = total / 2000 + 1;
  pid_t gluttons[count];
  for (int n = 0; n < count; n++)
    gluttons[n] = CHILD({
      put("/proc/self/oom_score_adj", "500");
      int file = path ? OK(open(path, O_RDONLY)) : -1;
      for (long i = 0; i < (total + 64) / count + 1; i++) {
        char *more = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (more == MAP_FAILED) exit(3);
        if (path) EQUAL(read(file, more, 1 << 20), 1 << 20);
        else memset(more, 1, 1 << 20);
      }
      pause();
    });
  int status;
  pid_t first = OK(waitpid(-1, &status, 0));
  CHECK(WIFSIGNALED(status));
  EQUAL(WTERMSIG(status), SIGKILL);
  for (int n = 0; n < count; n++)
    if (gluttons[n] != first) {
      kill(gluttons[n], SIGKILL);
      EQUAL(reap(gluttons[n]), 128 + SIGKILL);
    }
}

LIMITED_CASE(too_much_memory, 120) {
  long total = field("MemTotal") >> 10;
  // A bystander with something to lose.
  int ask[2], answer[2];
  OK(pipe(ask));
  OK(pipe(answer));
  pid_t bystander = CHILD({
    char *mine = malloc(4 << 20);
    for (int i = 0; i < 4 << 20; i++) mine[i] = i >> 12;
    char c = 'r';
    EQUAL(write(answer[1], &c, 1), 1);
    EQUAL(read(ask[0], &c, 1), 1);
    for (int i = 0; i < 4 << 20; i++) EQUAL(mine[i], (char)(i >> 12));
    exit(0);
  });
  char c;
  EQUAL(read(answer[0], &c, 1), 1);
  starve(total, NULL);
  EQUAL(write(ask[1], &c, 1), 1);
  EQUAL(reap(bystander), 0);
}

// The kernel meets the shortage in a read: the reader dies or its victim does, but nobody gets an error.
LIMITED_CASE(too_much_memory_in_a_call, 120) { starve(field("MemTotal") >> 10, "/dev/zero"); }

CASE(oom_score) {
  char text[20] = "";
  put("/proc/self/oom_score_adj", "-1000");
  int file = OK(open("/proc/self/oom_score", O_RDONLY));
  CHECK(read(file, text, sizeof text - 1) > 0);
  EQUAL(atoi(text), 0);
  put("/proc/self/oom_score_adj", "1000\n");
  file = OK(open("/proc/self/oom_score", O_RDONLY));
  CHECK(read(file, text, sizeof text - 1) > 0);
  CHECK(atoi(text) >= 600);
  file = OK(open("/proc/self/oom_score_adj", O_WRONLY));
  FAILS(write(file, "1001", 4), EINVAL);
  FAILS(write(file, "ten", 3), EINVAL);
  OK(setresuid(1000, 1000, 1000));
  FAILS(open("/proc/1/oom_score_adj", O_WRONLY), EACCES);
  FAILS(open("/proc/1/fd/0", O_RDONLY), EACCES);
}

CASE(processes_of_a_user) {
  struct rlimit limit = {20, 20};
  OK(setrlimit(RLIMIT_NPROC, &limit));
  pid_t child = CHILD({
    OK(setpgid(0, 0));
    OK(setresuid(54321, 54321, 54321));
    int made = 0;
    for (; made < 40; made++) {
      pid_t pid = fork();
      if (pid == 0) {
        pause();
        exit(0);
      }
      if (pid < 0) break;
    }
    EQUAL(errno, EAGAIN);
    EQUAL(made, 19);
    signal(SIGTERM, SIG_IGN);
    OK(kill(0, SIGTERM));
    // The dead count until somebody has waited for them.
    siginfo_t about;
    OK(waitid(P_ALL, 0, &about, WEXITED | WNOWAIT));
    int status;
    for (int i = 0; i < made; i++) OK(waitpid(-1, &status, 0));
    pid_t pid = OK(fork());
    if (!pid) exit(0);
    OK(waitpid(pid, &status, 0));
    exit(0);
  });
  EQUAL(reap(child), 0);
  // The superuser is not counted out.
  pid_t pids[30];
  for (int i = 0; i < 30; i++) pids[i] = CHILD({ exit(0); });
  for (int i = 0; i < 30; i++) EQUAL(reap(pids[i]), 0);
}

static pthread_barrier_t together;
static void *wait_for_all(void *unused) {
  pthread_barrier_wait(&together);
  return unused;
}

// So many, where there is memory for them.
static int many(int count) { return field("MemTotal") >= 700 << 10 ? count : count / 4; }

LIMITED_CASE(many_threads, 120) {
  int count = many(5000);
  static pthread_t threads[5000];
  pthread_attr_t small;
  pthread_attr_init(&small);
  CHECK(!pthread_attr_setstacksize(&small, 65536));
  pthread_barrier_init(&together, NULL, count + 1);
  for (int i = 0; i < count; i++) EQUAL(pthread_create(&threads[i], &small, wait_for_all, NULL), 0);
  pthread_barrier_wait(&together);
  for (int i = 0; i < count; i++) EQUAL(pthread_join(threads[i], NULL), 0);
}

// All are there at once: each says so, and ends when told.
LIMITED_CASE(many_processes, 120) {
  int count = many(2000), here[2], go[2];
  static pid_t pids[2000];
  OK(pipe(here));
  OK(pipe(go));
  for (int i = 0; i < count; i++)
    pids[i] = CHILD({
      close(go[1]);
      char c = 'h';
      EQUAL(write(here[1], &c, 1), 1);
      EQUAL(read(go[0], &c, 1), 0);
      exit(i & 127);
    });
  char c;
  for (int i = 0; i < count; i++) EQUAL(read(here[0], &c, 1), 1);
  close(go[1]);
  for (int i = 0; i < count; i++) EQUAL(reap(pids[i]), i & 127);
}

// Everybody forks as long as it is allowed to; when they are gone all is as before.
LIMITED_CASE(fork_bomb, 90) {
  OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
  pid_t bomb = CHILD({
    OK(setpgid(0, 0));
    signal(SIGCHLD, SIG_IGN);
    for (double end = seconds() + (torture() ? 20 : 2); seconds() < end;)
      if (fork() < 0) pause_ms(1);
    exit(0);
  });
  EQUAL(reap(bomb), 0);
  // Once is enough, also for those that are being made.
  if (kill(-bomb, SIGKILL)) EQUAL(errno, ESRCH);
  while (wait(NULL) > 0) {}
  EQUAL(errno, ECHILD);
  FAILS(kill(-bomb, SIGKILL), ESRCH);
  pid_t pids[100];
  for (int i = 0; i < 100; i++) pids[i] = CHILD({ exit(i); });
  for (int i = 0; i < 100; i++) EQUAL(reap(pids[i]), i);
}

// With every other page free there is no row of pages for a large block: the kernel finds another way.
LIMITED_CASE(memory_in_pieces, 120) {
  struct sysinfo about;
  OK(sysinfo(&about));
  size_t size = (size_t)((double)about.freeram * about.mem_unit * 0.93) & ~0xFFFu;
  char *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(pages != MAP_FAILED);
  for (size_t i = 0; i < size; i += 4096) pages[i] = 1;
  for (size_t i = 0; i < size; i += 8192) OK(madvise(pages + i, 4096, MADV_DONTNEED));
  int pair[2], room = 1 << 20;
  OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
  OK(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room));
  static char data[200000], back[200000];
  for (int round = 0; round < 200; round++) {
    memset(data, round, sizeof data);
    int length = 4096 + round * 900;
    EQUAL(OK(send(pair[0], data, length, MSG_DONTWAIT)), length);
    EQUAL(OK(recv(pair[1], back, sizeof back, MSG_DONTWAIT)), length);
    CHECK(!memcmp(data, back, length));
  }
  struct rlimit limit;
  OK(getrlimit(RLIMIT_NOFILE, &limit));
  limit.rlim_cur = limit.rlim_max;
  OK(setrlimit(RLIMIT_NOFILE, &limit));
  static struct pollfd polled[65536];
  unsigned count = limit.rlim_max < 65536 ? limit.rlim_max : 65536;
  for (unsigned i = 0; i < count; i++) polled[i].fd = -1;
  EQUAL(OK(poll(polled, count, 0)), 0);
}
