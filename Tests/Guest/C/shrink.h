// A file that loses pages while another thread reads them from the disk: what it gets there later is zeros, and no reader meets
// an error.
#include "test.h"
#include <pthread.h>

enum { SHRINK_SIZE = 64 * 4096 };
static int shrink_file;
static volatile int shrink_ends;

static void *shrink_reader(void *unused) {
  char *found = malloc(SHRINK_SIZE);
  while (!shrink_ends) {
    ssize_t count = OK(pread(shrink_file, found, SHRINK_SIZE, 0));
    // Each page is one or the other.
    for (ssize_t at = 0; at < count; at += 4096) CHECK(found[at] == 'A' || !found[at]);
    sched_yield();
  }
  free(found);
  return unused;
}

static void shrink(int with_holes, int rounds) {
  char *block = malloc(SHRINK_SIZE), *found = malloc(SHRINK_SIZE);
  memset(block, 'A', SHRINK_SIZE);
  shrink_file = OK(open("shrinking", O_RDWR | O_CREAT, 0644));
  EQUAL(pwrite(shrink_file, block, SHRINK_SIZE, 0), SHRINK_SIZE);
  shrink_ends = 0;
  pthread_t readers[2];
  for (int i = 0; i < 2; i++) OK(-pthread_create(&readers[i], NULL, shrink_reader, NULL));
  for (int round = 0; round < rounds; round++) {
    OK(fdatasync(shrink_file));
    OK(-posix_fadvise(shrink_file, 0, 0, POSIX_FADV_DONTNEED));
    for (int i = round % 7; i > 0; i--) sched_yield();
    if (with_holes && round % 2) {
      OK(fallocate(shrink_file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, SHRINK_SIZE));
      EQUAL(lseek(shrink_file, 4096, SEEK_HOLE), 4096);
    } else {
      OK(ftruncate(shrink_file, 4096));
      OK(ftruncate(shrink_file, SHRINK_SIZE));
    }
    EQUAL(pread(shrink_file, found, SHRINK_SIZE, 0), SHRINK_SIZE);
    for (int at = 0; at < SHRINK_SIZE; at++)
      if (found[at] != (at < 4096 ? 'A' : 0)) FAIL("round %d: byte %d is %d", round, at, found[at]);
    EQUAL(pwrite(shrink_file, block, SHRINK_SIZE, 0), SHRINK_SIZE);
  }
  shrink_ends = 1;
  for (int i = 0; i < 2; i++) OK(-pthread_join(readers[i], NULL));
  OK(close(shrink_file));
  OK(unlink("shrinking"));
  free(block);
  free(found);
}
