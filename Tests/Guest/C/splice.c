// Bytes that move from file to file without passing through the program.
#include "test.h"
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

static char block[300000];

// A file of `size` bytes with a pattern, open for reading and writing.
static int pattern_file(const char *name, int size) {
  for (int i = 0; i < size; i++) block[i] = i * 7 + i / 251;
  int file = OK(open(name, O_RDWR | O_CREAT | O_TRUNC, 0600));
  EQUAL(write(file, block, size), size);
  OK(lseek(file, 0, SEEK_SET));
  return file;
}

static void same(int file, int from, int size) {
  char *read_back = malloc(size);
  EQUAL(pread(file, read_back, size, from), size);
  CHECK(!memcmp(read_back, block, size));
  free(read_back);
}

CASE(sendfile_to_file) {
  int in = pattern_file("in", 200000), out = OK(open("out", O_RDWR | O_CREAT | O_TRUNC, 0600));
  EQUAL(sendfile(out, in, NULL, 100001), 100001);
  EQUAL(lseek(in, 0, SEEK_CUR), 100001);
  EQUAL(lseek(out, 0, SEEK_CUR), 100001);
  EQUAL(sendfile(out, in, NULL, 1 << 20), 99999);
  EQUAL(sendfile(out, in, NULL, 1 << 20), 0);
  same(out, 0, 200000);
  // With an offset of the caller's the file's own stays.
  off_t at = 5000;
  OK(lseek(out, 0, SEEK_SET));
  EQUAL(sendfile(out, in, &at, 3000), 3000);
  EQUAL(at, 8000);
  EQUAL(lseek(in, 0, SEEK_CUR), 200000);
  char a[3000];
  EQUAL(pread(out, a, 3000, 0), 3000);
  CHECK(!memcmp(a, block + 5000, 3000));
  int append = OK(open("out", O_WRONLY | O_APPEND)), only_write = OK(open("in", O_WRONLY));
  FAILS(sendfile(append, in, NULL, 1), EINVAL);
  FAILS(sendfile(out, only_write, NULL, 1), EBADF);
  FAILS(sendfile(only_write, in, (off_t *)8, 1), EFAULT);
  FAILS(sendfile(99, in, NULL, 1), EBADF);
  int ends[2];
  OK(pipe(ends));
  FAILS(sendfile(out, ends[0], NULL, 1), EINVAL);
}

CASE(sendfile_to_streams) {
  int in = pattern_file("in", 300000);
  for (int kind = 0; kind < 2; kind++) {
    int ends[2];
    if (kind) OK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends)); else OK(pipe(ends));
    pid_t child = CHILD({
      close(ends[1]);
      char *got = malloc(300000);
      int have = 0, n;
      while ((n = read(ends[0], got + have, 300000 - have)) > 0) have += n;
      EQUAL(have, 300000);
      for (int i = 0; i < 300000; i++)
        if (got[i] != block[i]) FAIL("kind %d, byte %d is %d, not %d", kind, i, got[i], block[i]);
    });
    close(ends[0]);
    OK(lseek(in, 0, SEEK_SET));
    for (int sent = 0; sent < 300000;) sent += OK(sendfile(ends[1], in, NULL, 300000 - sent));
    close(ends[1]);
    EQUAL(reap(child), 0);
  }
  // A full pipe that does not wait takes what it has room for.
  int ends[2];
  OK(pipe2(ends, O_NONBLOCK));
  OK(lseek(in, 0, SEEK_SET));
  EQUAL(sendfile(ends[1], in, NULL, 300000), 65536);
  EQUAL(lseek(in, 0, SEEK_CUR), 65536);
  FAILS(sendfile(ends[1], in, NULL, 1), EAGAIN);
  signal(SIGPIPE, SIG_IGN);
  close(ends[0]);
  FAILS(sendfile(ends[1], in, NULL, 1), EPIPE);
}

CASE(copy_range) {
  int in = pattern_file("in", 100000), out = OK(open("out", O_RDWR | O_CREAT | O_TRUNC, 0600));
  EQUAL(copy_file_range(in, NULL, out, NULL, 60000, 0), 60000);
  EQUAL(copy_file_range(in, NULL, out, NULL, 60000, 0), 40000);
  EQUAL(copy_file_range(in, NULL, out, NULL, 60000, 0), 0);
  same(out, 0, 100000);
  off64_t from = 100, to = 200000;
  EQUAL(copy_file_range(in, &from, out, &to, 1000, 0), 1000);
  EQUAL(from, 1100);
  EQUAL(to, 201000);
  char a[1000];
  EQUAL(pread(out, a, 1000, 200000), 1000);
  CHECK(!memcmp(a, block + 100, 1000));
  // Within a file, but not onto itself.
  from = 0, to = 50000;
  EQUAL(copy_file_range(in, &from, in, &to, 50000, 0), 50000);
  from = 0, to = 10;
  FAILS(copy_file_range(in, &from, in, &to, 50, 0), EINVAL);
  FAILS(copy_file_range(in, NULL, out, NULL, 1, 1), EINVAL);
  int directory = OK(open(".", O_RDONLY)), append = OK(open("out", O_WRONLY | O_APPEND)), ends[2];
  FAILS(copy_file_range(directory, NULL, out, NULL, 1, 0), EISDIR);
  FAILS(copy_file_range(in, NULL, append, NULL, 1, 0), EBADF);
  FAILS(copy_file_range(out, NULL, directory, NULL, 1, 0), EISDIR);
  OK(pipe(ends));
  FAILS(copy_file_range(ends[0], NULL, out, NULL, 1, 0), EINVAL);
}

CASE(splice_both_ways) {
  int in = pattern_file("in", 150000), out = OK(open("out", O_RDWR | O_CREAT | O_TRUNC, 0600)), ends[2];
  OK(pipe(ends));
  int done = 0;
  while (done < 150000) {
    int n = OK(splice(in, NULL, ends[1], NULL, 150000 - done, 0));
    CHECK(n > 0);
    for (int left = n; left > 0;) left -= OK(splice(ends[0], NULL, out, NULL, left, 0));
    done += n;
  }
  EQUAL(splice(in, NULL, ends[1], NULL, 10, 0), 0);
  same(out, 0, 150000);
  // Offsets of the caller's.
  off64_t at = 1000, there = 300000;
  EQUAL(splice(in, &at, ends[1], NULL, 5000, 0), 5000);
  EQUAL(at, 6000);
  EQUAL(splice(ends[0], NULL, out, &there, 6000, 0), 5000);
  EQUAL(there, 305000);
  char a[5000];
  EQUAL(pread(out, a, 5000, 300000), 5000);
  CHECK(!memcmp(a, block + 1000, 5000));
  EQUAL(lseek(in, 0, SEEK_CUR), 150000);
  FAILS(splice(ends[0], &at, out, NULL, 1, 0), ESPIPE);
  FAILS(splice(in, NULL, out, NULL, 1, 0), EINVAL);
  FAILS(splice(ends[0], NULL, ends[1], NULL, 1, 0), EINVAL);
  FAILS(splice(ends[0], NULL, out, NULL, 1, 64), EINVAL);
  FAILS(splice(ends[1], NULL, out, NULL, 1, 0), EBADF);
  FAILS(splice(ends[0], NULL, out, NULL, 1, SPLICE_F_NONBLOCK), EAGAIN);
  EQUAL(splice(ends[0], NULL, out, NULL, 0, 0), 0);
}

// What the target does not take is still there for the next reader.
CASE(splice_loses_nothing) {
  int ends[2], crowded[2];
  char a[5000], b[5000];
  OK(pipe(ends));
  OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, crowded));
  while (write(crowded[1], block, 1000) > 0) {}
  EQUAL(errno, EAGAIN);
  for (int i = 0; i < 5000; i++) a[i] = i * 13;
  for (int round = 0; round < 40; round++) {
    EQUAL(write(ends[1], a, 5000), 5000);
    FAILS(splice(ends[0], NULL, crowded[1], NULL, 5000, SPLICE_F_NONBLOCK), EAGAIN);
    EQUAL(read(ends[0], b, 5000), 5000);
    CHECK(!memcmp(a, b, 5000));
  }
  int target[2];
  OK(pipe2(target, O_NONBLOCK));
  EQUAL(fcntl(target[1], F_GETPIPE_SZ), 65536);
  memset(block, 'q', 65536);
  EQUAL(write(target[1], block, 65536 - 4096), 65536 - 4096);
  EQUAL(write(ends[1], a, 5000), 5000);
  EQUAL(splice(ends[0], NULL, target[1], NULL, 5000, 0), 4096);
  EQUAL(read(ends[0], b, 5000), 904);
  CHECK(!memcmp(a + 4096, b, 904));
}

CASE(tee_copies) {
  int from[2], to[2];
  OK(pipe(from));
  OK(pipe(to));
  for (int i = 0; i < 10000; i++) block[i] = i * 3;
  EQUAL(write(from[1], block, 10000), 10000);
  EQUAL(tee(from[0], to[1], 9000, 0), 9000);
  char a[10000];
  EQUAL(read(to[0], a, 10000), 9000);
  CHECK(!memcmp(a, block, 9000));
  EQUAL(read(from[0], a, 10000), 10000);
  CHECK(!memcmp(a, block, 10000));
  FAILS(tee(from[0], to[1], 10, SPLICE_F_NONBLOCK), EAGAIN);
  close(from[1]);
  EQUAL(tee(from[0], to[1], 10, 0), 0);
  FAILS(tee(to[0], to[1], 10, 0), EINVAL);
  int file = pattern_file("in", 10);
  FAILS(tee(file, to[1], 10, 0), EINVAL);
}

CASE(memory_into_pipes) {
  int ends[2];
  OK(pipe(ends));
  struct iovec parts[2] = {{"hello ", 6}, {"world", 5}};
  EQUAL(vmsplice(ends[1], parts, 2, 0), 11);
  char a[20], b[5];
  struct iovec back[2] = {{a, 4}, {b, 5}};
  EQUAL(vmsplice(ends[0], back, 2, 0), 9);
  CHECK(!memcmp(a, "hell", 4) && !memcmp(b, "o wor", 5));
  EQUAL(read(ends[0], a, 20), 2);
  FAILS(vmsplice(0, parts, 2, 0), EBADF);
}

// A pipe's size can change while there is something in it.
CASE(pipe_size) {
  int ends[2];
  OK(pipe2(ends, O_NONBLOCK));
  char a[4096];
  for (int i = 0; i < 262144; i++) block[i] = i * 11 + i / 4093;
  EQUAL(write(ends[1], block, 1000), 1000);
  EQUAL(read(ends[0], a, 1000), 1000);
  int wrote = 0, seen = 0;
  while (wrote < 61440) wrote += OK(write(ends[1], block + wrote, 4096));
  for (; seen < 45056; seen += 4096) {
    EQUAL(read(ends[0], a, 4096), 4096);
    CHECK(!memcmp(a, block + seen, 4096));
  }
  FAILS(fcntl(ends[1], F_SETPIPE_SZ, 8192), EBUSY);
  EQUAL(fcntl(ends[1], F_SETPIPE_SZ, 20000), 32768);
  EQUAL(fcntl(ends[0], F_GETPIPE_SZ), 32768);
  EQUAL(fcntl(ends[1], F_SETPIPE_SZ, 131072), 131072);
  for (int n; (n = write(ends[1], block + wrote, 4096)) > 0;) wrote += n;
  EQUAL(wrote - seen, 131072);
  EQUAL(fcntl(ends[1], F_SETPIPE_SZ, 1 << 18), 1 << 18);
  for (int n; seen < wrote; seen += n) {
    n = OK(read(ends[0], a, 4096));
    CHECK(!memcmp(a, block + seen, n));
  }
  EQUAL(fcntl(ends[1], F_SETPIPE_SZ, 0), 4096);
  FAILS(fcntl(ends[1], F_SETPIPE_SZ, -1), EINVAL);
  int file = pattern_file("in", 10);
  FAILS(fcntl(file, F_GETPIPE_SZ), EBADF);
}
