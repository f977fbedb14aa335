// mremap(2): shrinks, grows in place, moves, and refuses what makes no sense.
#include "test.h"
#include <sys/resource.h>
#include <pthread.h>
#include <sched.h>

static char *map(size_t size) {
  char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(p != MAP_FAILED);
  return p;
}

CASE(mremap_moves) {
  char *p = map(8 * 4096);
  for (int i = 0; i < 8; i++) p[i * 4096] = i + 1;
  EQUAL((long)mremap(p, 8 * 4096, 4 * 4096, 0), (long)p);
  FAILS(msync(p + 4 * 4096, 4096, MS_SYNC), ENOMEM);
  EQUAL((long)mremap(p, 4 * 4096, 6 * 4096, 0), (long)p);
  EQUAL(p[3 * 4096], 4);
  EQUAL(p[4 * 4096], 0);
  // Something in the way: only a move helps.
  CHECK(mmap(p + 6 * 4096, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + 6 * 4096);
  CHECK(mremap(p, 6 * 4096, 7 * 4096, 0) == MAP_FAILED && errno == ENOMEM);
  char *q = mremap(p, 6 * 4096, 16 * 4096, MREMAP_MAYMOVE);
  CHECK(q != MAP_FAILED && q != p);
  for (int i = 0; i < 4; i++) EQUAL(q[i * 4096], i + 1);
  EQUAL(q[15 * 4096], 0);
  FAILS(msync(p, 4096, MS_SYNC), ENOMEM);

  char *place = map(32 * 4096);
  place[0] = 'x';
  place[20 * 4096] = 'y';
  CHECK(mremap(q, 16 * 4096, 3 * 4096, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place);
  for (int i = 0; i < 3; i++) EQUAL(place[i * 4096], i + 1);
  EQUAL(place[20 * 4096], 'y');
  FAILS(msync(q, 4096, MS_SYNC), ENOMEM);
}

CASE(mremap_refuses) {
  char *p = map(4 * 4096);
  struct { void *at; size_t old, new; int flags; void *to; int error; } bad[] = {
    {p + 1, 4096, 4096, 0, NULL, EINVAL},
    {p, 4096, 0, 0, NULL, EINVAL},
    {p, 4096, 4096, 64, NULL, EINVAL},
    {p, 4096, 4096, MREMAP_FIXED, p + 4096, EINVAL},
    {p, 4096, 4096, MREMAP_FIXED | MREMAP_MAYMOVE, p + 4097, EINVAL},
    {p, 2 * 4096, 4096, MREMAP_FIXED | MREMAP_MAYMOVE, p + 4096, EINVAL},
    {p, 4096, 4096, MREMAP_FIXED | MREMAP_MAYMOVE, (void *)0xFFFFF000, EINVAL},
    {p, 4096, 0xFFFFF000, MREMAP_MAYMOVE, NULL, -1},
    {(void *)0x1000, 4096, 8192, MREMAP_MAYMOVE, NULL, EFAULT},
    {(void *)0xFFFFE000, 0x3000, 0x4000, MREMAP_MAYMOVE, NULL, EFAULT},
    {(void *)0xFFFFE000, 0x3000, 0x1000, 0, NULL, -1},
  };
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    errno = 0;
    long result = syscall(SYS_mremap, bad[i].at, bad[i].old, bad[i].new, bad[i].flags, bad[i].to);
    if (result != -1 || (bad[i].error > 0 && errno != bad[i].error))
      printf("bad[%u]: result %lx errno %d\n", i, result, errno);
    EQUAL(result, -1);
    if (bad[i].error > 0) EQUAL(errno, bad[i].error);
  }
  p[0] = 1;
}

CASE(pages_in_another_order) {
  int file = OK(open("/tmp/order", O_CREAT | O_TRUNC | O_RDWR, 0600));
  for (int page = 0; page < 4; page++) {
    char text[4096];
    memset(text, 'a' + page, sizeof text);
    EQUAL(write(file, text, sizeof text), 4096);
  }
  char *map = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  CHECK(map != MAP_FAILED);
  OK(remap_file_pages(map, 4096, 0, 3, 0));
  OK(remap_file_pages(map + 3 * 4096, 4096, 0, 0, 0));
  EQUAL(map[0], 'd');
  EQUAL(map[4096], 'b');
  EQUAL(map[3 * 4096], 'a');
  map[0] = 'x';
  char now;
  EQUAL(pread(file, &now, 1, 3 * 4096), 1);
  EQUAL(now, 'x');
  FAILS(remap_file_pages(map, 4096, PROT_READ, 0, 0), EINVAL);
  FAILS(remap_file_pages(map, 0, 0, 0, 0), EINVAL);
  char *private = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0);
  FAILS(remap_file_pages(private, 4096, 0, 1, 0), EINVAL);
  OK(unlink("/tmp/order"));
}

// Threads that map at the same time each get a place of their own: two once got the same.
static void *mapper(void *mark) {
  for (int i = 0; i < (torture() ? 40000 : 4000); i++) {
    char *memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    if (memory[0] || memory[4096]) FAIL("somebody else's memory");
    memory[0] = memory[4096] = (char)(long)mark;
    if (i % 7 == 0) sched_yield();
    if (memory[0] != (char)(long)mark || memory[4096] != (char)(long)mark) FAIL("somebody wrote here");
    OK(munmap(memory, 8192));
  }
  return NULL;
}
LIMITED_CASE(threads_map_at_once, 60) {
  pthread_t threads[4];
  for (long i = 0; i < 4; i++) CHECK(!pthread_create(&threads[i], NULL, mapper, (void *)(i + 1)));
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
}

// A stack near address 0 has no room for its gap; it grows to the lowest page that may be mapped, and no further.
CASE(stack_at_the_bottom) {
  pid_t child = CHILD({
    if (setrlimit(RLIMIT_STACK, &(struct rlimit){1 << 20, 1 << 20})) exit(1);
    char *stack = mmap((void *)0x80000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0);
    CHECK(stack == (void *)0x80000);
    for (volatile char *page = stack; page >= (char *)0x10000; page -= 4096) *page = 1;
    *(volatile char *)0xF000 = 1;
    exit(2);
  });
  EQUAL(reap(child), 128 + SIGSEGV);
  FAILS(open((char *)0x20, O_RDONLY), EFAULT);
}
