// Files: names that change places, files without names, holes.
#include "shrink.h"
#include <dirent.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/uio.h>

#ifndef RENAME_EXCHANGE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

static int rename2(const char *from, const char *to, unsigned flags) {
  return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

static ino_t number(const char *path) {
  struct stat status;
  OK(lstat(path, &status));
  return status.st_ino;
}
static int links(const char *path) {
  struct stat status;
  OK(lstat(path, &status));
  return status.st_nlink;
}
static void make(const char *path, const char *content) {
  int fd = OK(open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644));
  EQUAL(write(fd, content, strlen(content)), (int)strlen(content));
  OK(close(fd));
}
static int has(const char *path, const char *content) {
  char text[64] = "";
  int fd = OK(open(path, O_RDONLY));
  OK(read(fd, text, sizeof text - 1));
  OK(close(fd));
  return !strcmp(text, content);
}

static void exchange(void) {
  OK(mkdir("d", 0755));
  OK(mkdir("d/sub", 0755));
  OK(mkdir("e", 0755));
  make("a", "a");
  make("d/b", "b");
  ino_t a = number("a"), b = number("d/b"), sub = number("d/sub");
  OK(rename2("a", "d/b", RENAME_EXCHANGE));
  EQUAL(number("a"), b);
  EQUAL(number("d/b"), a);
  CHECK(has("a", "b") && has("d/b", "a"));
  // A directory for a file: the counts go along, and `..`.
  EQUAL(links("d"), 3);
  EQUAL(links("e"), 2);
  make("e/f", "f");
  OK(rename2("d/sub", "e/f", RENAME_EXCHANGE));
  EQUAL(links("d"), 2);
  EQUAL(links("e"), 3);
  EQUAL(number("e/f"), sub);
  EQUAL(number("e/f/.."), number("e"));
  CHECK(has("d/sub", "f"));
  // Two directories.
  OK(mkdir("d/g", 0755));
  make("d/g/x", "x");
  OK(rename2("d/g", "e/f", RENAME_EXCHANGE));
  EQUAL(number("d/g"), sub);
  EQUAL(number("d/g/.."), number("d"));
  CHECK(has("e/f/x", "x"));
  EQUAL(number("e/f/.."), number("e"));
  // In one directory, with itself, and through links.
  make("d/h", "h");
  OK(rename2("d/h", "d/b", RENAME_EXCHANGE));
  CHECK(has("d/h", "a") && has("d/b", "h"));
  OK(rename2("d/h", "d/h", RENAME_EXCHANGE));
  OK(symlink("d/h", "link"));
  OK(rename2("link", "a", RENAME_EXCHANGE));
  CHECK(has("link", "b") && has("a", "a"));
  FAILS(rename2("a", "none", RENAME_EXCHANGE), ENOENT);
  FAILS(rename2("none", "a", RENAME_EXCHANGE), ENOENT);
  FAILS(rename2("d", "d/g", RENAME_EXCHANGE), EINVAL);
  FAILS(rename2("d/g", "d", RENAME_EXCHANGE), EINVAL);
  FAILS(rename2("a", "link", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
  FAILS(rename2("a", "link", 8), EINVAL);
  FAILS(rename2("link/", "d", RENAME_EXCHANGE), ENOTDIR);
  FAILS(rename2("d", "link/", RENAME_EXCHANGE), ENOTDIR);
  FAILS(rename2("a", "link", RENAME_NOREPLACE), EEXIST);
  OK(rename2("a", "new", RENAME_NOREPLACE));
  OK(chmod("d", 01777));
  OK(chmod("e", 01777));
  make("d/mine", "mine");
  OK(chown("d/mine", 1000, 1000));
  pid_t child = CHILD({
    OK(setuid(1000));
    FAILS(rename2("d/mine", "d/h", RENAME_EXCHANGE), EPERM);
    FAILS(rename2("d/h", "d/mine", RENAME_EXCHANGE), EPERM);
  });
  EQUAL(reap(child), 0);
}

CASE(names_change_places) {
  on_disk();
  exchange();
  off_disk();
}
CASE(names_change_places_in_memory) {
  in_memory();
  exchange();
}

static int entries(const char *path) {
  int count = 0;
  DIR *directory = opendir(path);
  CHECK(directory);
  while (readdir(directory)) count++;
  closedir(directory);
  return count - 2;
}

#ifndef O_TMPFILE
#define O_TMPFILE 020200000
#endif

static void unnamed(void) {
  OK(mkdir("t", 0777));
  struct statfs before, after;
  OK(statfs("t", &before));
  umask(022);
  int fd = OK(open("t", O_TMPFILE | O_RDWR, 0666));
  struct stat status;
  OK(fstat(fd, &status));
  EQUAL(status.st_nlink, 0);
  EQUAL(status.st_mode, S_IFREG | 0644);
  EQUAL(write(fd, "text", 4), 4);
  EQUAL(entries("t"), 0);
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  OK(linkat(AT_FDCWD, path, AT_FDCWD, "t/named", AT_SYMLINK_FOLLOW));
  CHECK(has("t/named", "text"));
  EQUAL(links("t/named"), 1);
  EQUAL(number("t/named"), status.st_ino);
  OK(link("t/named", "t/again"));
  OK(unlink("t/named"));
  OK(unlink("t/again"));
  // Once it had a name, it gets none after the last.
  CHECK(linkat(AT_FDCWD, path, AT_FDCWD, "t/named", AT_SYMLINK_FOLLOW) < 0);
  OK(close(fd));
  fd = OK(open("t", O_TMPFILE | O_RDWR | O_EXCL, 0600));
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  FAILS(linkat(AT_FDCWD, path, AT_FDCWD, "t/named", AT_SYMLINK_FOLLOW), ENOENT);
  static char block[65536];
  EQUAL(write(fd, block, sizeof block), (int)sizeof block);
  OK(close(fd));
  EQUAL(entries("t"), 0);
  FAILS(open("t", O_TMPFILE | O_RDONLY, 0600), EINVAL);
  FAILS(open("t", O_TMPFILE | O_RDWR | O_CREAT, 0600), EINVAL);
  FAILS(open("t", (O_TMPFILE & ~O_DIRECTORY) | O_RDWR, 0600), EINVAL);
  FAILS(open("none", O_TMPFILE | O_RDWR, 0600), ENOENT);
  make("file", "");
  FAILS(open("file", O_TMPFILE | O_RDWR, 0600), ENOTDIR);
  OK(unlink("file"));
  OK(chmod("t", 0755));
  pid_t child = CHILD({
    OK(setuid(1000));
    FAILS(open("t", O_TMPFILE | O_RDWR, 0600), EACCES);
  });
  EQUAL(reap(child), 0);
  sync();
  OK(statfs("t", &after));
  EQUAL(after.f_ffree, before.f_ffree);
  EQUAL(after.f_bfree, before.f_bfree);
}

CASE(files_without_a_name) {
  on_disk();
  unnamed();
  off_disk();
}
CASE(files_without_a_name_in_memory) {
  in_memory();
  unnamed();
}

static void holes(void) {
  static char block[8192];
  memset(block, 'x', sizeof block);
  int fd = OK(open("sparse", O_CREAT | O_RDWR, 0644));
  FAILS(lseek(fd, 0, SEEK_DATA), ENXIO);
  FAILS(lseek(fd, 0, SEEK_HOLE), ENXIO);
  EQUAL(pwrite(fd, block, 8192, 40960), 8192);
  EQUAL(pwrite(fd, block, 4096, 81920), 4096);
  OK(ftruncate(fd, 122880));
  // Before and after it is on a disk.
  for (int round = 0; round < 2; round++) {
    EQUAL(lseek(fd, 0, SEEK_DATA), 40960);
    EQUAL(lseek(fd, 100, SEEK_HOLE), 100);
    EQUAL(lseek(fd, 40960, SEEK_DATA), 40960);
    EQUAL(lseek(fd, 41000, SEEK_DATA), 41000);
    EQUAL(lseek(fd, 41000, SEEK_HOLE), 49152);
    EQUAL(lseek(fd, 49152, SEEK_DATA), 81920);
    EQUAL(lseek(fd, 81920, SEEK_HOLE), 86016);
    FAILS(lseek(fd, 86016, SEEK_DATA), ENXIO);
    EQUAL(lseek(fd, 86016, SEEK_HOLE), 86016);
    FAILS(lseek(fd, 122880, SEEK_HOLE), ENXIO);
    FAILS(lseek(fd, -1, SEEK_DATA), ENXIO);
    struct stat status;
    OK(fstat(fd, &status));
    CHECK(status.st_blocks >= 24 && status.st_blocks <= 48);
    OK(fsync(fd));
  }
  OK(ftruncate(fd, 43000));
  EQUAL(lseek(fd, 40960, SEEK_HOLE), 43000);
  OK(close(fd));
  OK(unlink("sparse"));
}

CASE(holes_in_memory) {
  in_memory();
  holes();
}

CASE(holes_on_disk) {
  on_disk();
  holes();
  off_disk();
}

CASE(pages_that_go_while_they_are_read) {
  on_disk();
  shrink(1, 60);
  off_disk();
}

static void copy_shell(const char *name) {
  static char block[1 << 16];
  int from = OK(open("/bin/sh", O_RDONLY)), to = OK(open(name, O_WRONLY | O_CREAT | O_EXCL, 0755));
  for (ssize_t count; (count = OK(read(from, block, sizeof block))) > 0;) EQUAL(write(to, block, count), count);
  OK(close(from));
  OK(close(to));
}

// A shell that ends with its input; it has begun when this returns.
static pid_t start_program(const char *name, int input[2]) {
  int begun[2];
  char byte;
  OK(pipe2(input, O_CLOEXEC));
  OK(pipe2(begun, O_CLOEXEC));
  pid_t pid = CHILD({
    dup2(input[0], 0);
    execl(name, "sh", "-c", "read x; exit 7", NULL);
  });
  OK(close(begun[1]));
  EQUAL(read(begun[0], &byte, 1), 0);
  OK(close(begun[0]));
  OK(close(input[0]));
  return pid;
}

static int try_program(const char *name) {
  pid_t pid = CHILD({
    execl(name, "sh", "-c", "exit 7", NULL);
    _exit(errno + 100);
  });
  int status;
  EQUAL(waitpid(pid, &status, 0), pid);
  CHECK(WIFEXITED(status));
  return WEXITSTATUS(status);
}

// What is executed is not written to, and what is open for writing is not executed.
CASE(programs_in_use) {
  int input[2], status;
  copy_shell("program");
  EQUAL(try_program("./program"), 7);
  int fd = OK(open("program", O_RDWR)), other = OK(dup(fd));
  EQUAL(try_program("./program"), ETXTBSY + 100);
  OK(close(fd));
  EQUAL(try_program("./program"), ETXTBSY + 100);
  OK(close(other));
  EQUAL(try_program("./program"), 7);
  fd = OK(open("program", O_RDONLY));
  pid_t pid = start_program("./program", input);
  OK(link("program", "again"));
  FAILS(open("program", O_WRONLY), ETXTBSY);
  FAILS(open("again", O_RDWR), ETXTBSY);
  FAILS(open("program", O_RDONLY | O_TRUNC), ETXTBSY);
  FAILS(open("program", O_WRONLY | O_CREAT, 0644), ETXTBSY);
  FAILS(truncate("program", 0), ETXTBSY);
  EQUAL(try_program("./again"), 7);
  OK(chmod("program", 0700));
  OK(fchmod(fd, 0755));
  OK(unlink("again"));
  OK(rename("program", "moved"));
  FAILS(open("moved", O_WRONLY), ETXTBSY);
  OK(close(input[1]));
  EQUAL(waitpid(pid, &status, 0), pid);
  EQUAL(status, 7 << 8);
  OK(close(fd));
  OK(close(OK(open("moved", O_RDWR | O_TRUNC))));
  // A script is not executed while it is written, but then it is its interpreter that runs.
  fd = OK(open("script", O_WRONLY | O_CREAT, 0755));
  EQUAL(write(fd, "#!/bin/sh\nread x; exit 7\n", 25), 25);
  EQUAL(try_program("./script"), ETXTBSY + 100);
  OK(close(fd));
  pid = start_program("./script", input);
  OK(close(OK(open("script", O_WRONLY))));
  OK(close(input[1]));
  EQUAL(waitpid(pid, &status, 0), pid);
  EQUAL(status, 7 << 8);
  OK(unlink("script"));
  OK(unlink("moved"));
}

// A forked child executes it, too; of a file in memory only its descriptor is known, and it may be open.
CASE(programs_of_children) {
  int input[2], status;
  copy_shell("program");
  OK(pipe2(input, O_CLOEXEC));
  pid_t pid = CHILD({
    dup2(input[0], 0);
    execl("./program", "sh", "-c", "exec 3<&0; (read x <&3) & exit 7", NULL);
  });
  EQUAL(waitpid(pid, &status, 0), pid);
  EQUAL(status, 7 << 8);
  OK(close(input[0]));
  FAILS(open("program", O_WRONLY), ETXTBSY);
  OK(close(input[1]));
  int fd;
  for (int tries = 0; (fd = open("program", O_WRONLY)) < 0 && tries < 1000; tries++) {
    EQUAL(errno, ETXTBSY);
    pause_ms(1);
  }
  OK(fd);
  OK(close(fd));
  int from = OK(open("program", O_RDONLY)), memory = OK(syscall(SYS_memfd_create, "program", 0));
  static char block[1 << 16];
  for (ssize_t count; (count = OK(read(from, block, sizeof block))) > 0;) EQUAL(write(memory, block, count), count);
  char name[40];
  snprintf(name, sizeof name, "/proc/self/fd/%d", memory);
  EQUAL(try_program(name), 7);
  OK(close(from));
  OK(close(memory));
  OK(unlink("program"));
}

static int deep(const char *top, int depth) {
  char path[8192];
  strcpy(path, top);
  for (int i = 0; i < depth; i++) {
    strcat(path, "/d");
    if (mkdir(path, 0755)) return i;
  }
  return depth;
}

// What was in a file system in memory goes with it: the runner would see it otherwise.
CASE(memory_comes_back) {
  static char block[1 << 20];
  OK(mkdir("m", 0755));
  for (int i = 0; i < 20; i++) {
    OK(mount("none", "m", "tmpfs", 0, ""));
    OK(mkdir("m/sub", 0755));
    OK(symlink("nowhere", "m/sub/link"));
    int depth = i ? 20 : 400;
    EQUAL(deep("m/sub", depth), depth);
    int fd = OK(open("m/sub/file", O_CREAT | O_RDWR, 0644));
    EQUAL(write(fd, block, sizeof block), (int)sizeof block);
    FAILS(umount("m"), EBUSY);
    OK(close(fd));
    OK(umount("m"));
  }
}

// A detached file system works for those who have it, until the last of them.
CASE(detached) {
  static char block[1 << 20];
  char byte;
  OK(mkdir("m", 0755));
  for (int i = 0; i < 20; i++) {
    OK(mount("none", "m", "tmpfs", 0, ""));
    OK(mkdir("m/sub", 0755));
    int directory = OK(open("m/sub", O_RDONLY | O_DIRECTORY));
    int fd = OK(openat(directory, "file", O_CREAT | O_RDWR, 0644));
    EQUAL(write(fd, block, sizeof block), (int)sizeof block);
    OK(umount2("m", MNT_DETACH));
    FAILS(open("m/sub/file", O_RDONLY), ENOENT);
    EQUAL(pread(fd, &byte, 1, 1000), 1);
    OK(close(fd));
    fd = OK(openat(directory, "file", O_RDONLY));
    EQUAL(read(fd, &byte, 1), 1);
    OK(close(fd));
    OK(close(directory));
  }
}

static void punch(int fd, long long offset, long long length) {
  OK(fallocate64(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length));
}
// Any part of a file becomes a hole: its blocks are free, what is around it stays, and mappings see it.
static void punched(void) {
  enum { size = 700000 };
  static unsigned char model[size], found[size];
  int fd = OK(open("file", O_RDWR | O_CREAT | O_TRUNC, 0644));
  for (int i = 0; i < size; i++) model[i] = i * 7 + (i >> 9) + 1;
  EQUAL(write(fd, model, size), size);
  OK(fsync(fd));
  struct stat before, after;
  OK(fstat(fd, &before));
  unsigned char *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  unsigned char *private = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  CHECK(shared != MAP_FAILED && private != MAP_FAILED);
  private[100000] = 0x77; // a copy of its own
  CHECK(shared[100000] == model[100000]);
  const struct {
    int at, count;
  } parts[] = {{98304, 8192}, {1000, 3000}, {5000, 10}, {200000, 100}, {299999, 200002}, {0, 1}, {size - 5000, 100000}};
  for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
    int at = parts[i].at, count = at + parts[i].count > size ? size - at : parts[i].count;
    punch(fd, at, parts[i].count);
    memset(model + at, 0, count);
    EQUAL(pread(fd, found, size, 0), size);
    CHECK(!memcmp(found, model, size));
    CHECK(!memcmp(shared, model, size));
  }
  EQUAL(private[100000], 0x77);
  EQUAL(lseek(fd, 0, SEEK_END), size);
  OK(munmap(shared, size));
  OK(munmap(private, size));
  punch(fd, 299999, 200002); // a mapping of memory's file has filled it again
  OK(fsync(fd));
  OK(fstat(fd, &after));
  CHECK(before.st_blocks - after.st_blocks >= 196608 / 512);
  EQUAL(lseek(fd, 310000, SEEK_DATA) / 4096, 500001 / 4096);
  // It can be written to again.
  memset(model + 400000, 0x11, 10000);
  EQUAL(pwrite(fd, model + 400000, 10000, 400000), 10000);
  EQUAL(pread(fd, found, size, 0), size);
  CHECK(!memcmp(found, model, size));
  // All of it, and nothing.
  punch(fd, 0, 1LL << 40);
  EQUAL(lseek(fd, 0, SEEK_END), size);
  FAILS(lseek(fd, 0, SEEK_DATA), ENXIO);
  punch(fd, size, 1000);
  FAILS(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096), EOPNOTSUPP);
  FAILS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 0), EINVAL);
  OK(close(fd));
  fd = OK(open("file", O_RDONLY));
  FAILS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), EBADF);
  OK(close(fd));
  OK(unlink("file"));
}
CASE(holes_made) {
  on_disk();
  punched();
  off_disk();
}
CASE(holes_made_in_memory) { punched(); }

// A mapping is a use of the file system, as an open file is.
CASE(mapped_file_system) {
  OK(mkdir("m", 0755));
  for (int i = 0; i < 20; i++) {
    OK(mount("none", "m", "tmpfs", 0, ""));
    int fd = OK(open("m/file", O_CREAT | O_RDWR, 0644));
    OK(ftruncate(fd, 8192));
    char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    OK(close(fd));
    FAILS(umount("m"), EBUSY);
    map[0] = 1;
    if (i % 2) {
      OK(umount2("m", MNT_DETACH));
      map[5000] = map[0];
      EQUAL(map[5000], 1);
      OK(munmap(map, 8192));
    } else {
      OK(munmap(map, 8192));
      OK(umount("m"));
    }
  }
}

// A directory at two places; neither keeps the other from going.
CASE(bound) {
  OK(mkdir("m", 0755));
  OK(mkdir("other", 0755));
  OK(mount("none", "m", "tmpfs", 0, ""));
  OK(mkdir("m/sub", 0755));
  make("m/sub/file", "text");
  OK(mount("m/sub", "other", NULL, MS_BIND, NULL));
  CHECK(has("other/file", "text"));
  OK(umount("m"));
  CHECK(has("other/file", "text"));
  make("other/new", "new");
  CHECK(has("other/new", "new"));
  OK(umount("other"));
  FAILS(open("other/file", O_RDONLY), ENOENT);
}

// Paths of every length around those that the kernel copies in another way, at every alignment, up to the last byte that can be read.
CASE(paths_of_every_length) {
  char *page = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(page != MAP_FAILED);
  OK(mprotect(page + 8192, 4096, PROT_NONE));
  char *end = page + 8192;
  struct stat status;
  OK(mkdir("d", 0755));
  for (int length = 1; length < 300; length++)
    for (int gap = 0; gap < 4; gap++) {
      char *path = end - gap - length - 1;
      memset(path, '/', length);
      memset(path + length, 0, gap + 1);
      path[0] = length % 2 ? '.' : 'd';
      OK(stat(path, &status));
      CHECK(S_ISDIR(status.st_mode));
      path[length - 1] = 'x';
      FAILS(stat(path, &status), ENOENT);
    }
  // Without an end.
  for (int length = 1; length < 300; length++) {
    memset(end - length, '/', length);
    FAILS(stat(end - length, &status), EFAULT);
  }
  char *path = end - 4200;
  memset(path, '/', 4200);
  for (int gap = 0; gap < 4; gap++) {
    path[gap + 4095] = 0;
    OK(stat(path + gap, &status));
    path[gap + 4095] = '/';
    FAILS(stat(path + gap, &status), ENAMETOOLONG);
  }
  OK(munmap(page, 3 * 4096));
}

static int resident(char *map, int pages) {
  unsigned char flags[64];
  OK(mincore(map, pages * 4096, flags));
  int count = 0;
  for (int i = 0; i < pages; i++) count += flags[i] & 1;
  return count;
}

// posix_fadvise: what will not be needed leaves the cache, written before; what will be comes.
CASE(advice) {
  on_disk();
  int fd = OK(open("file", O_RDWR | O_CREAT | O_TRUNC, 0644));
  static char content[64 * 4096], found[sizeof content];
  for (unsigned i = 0; i < sizeof content; i++) content[i] = i * 31 + (i >> 12);
  // The last page is half there.
  int size = sizeof content - 2048;
  EQUAL(write(fd, content, size), size);
  OK(fsync(fd));
  char *map = mmap(NULL, sizeof content, PROT_READ, MAP_SHARED, fd, 0);
  CHECK(map != MAP_FAILED);
  EQUAL(resident(map, 64), 64);
  // Parts of pages stay, and with Linux all that it has together with them.
  EQUAL(posix_fadvise(fd, 4096 * 8 + 1, 4096 * 8, POSIX_FADV_DONTNEED), 0);
  CHECK(resident(map, 9) == 9 && resident(map + 4096 * 16, 48) == 48);
  EQUAL(posix_fadvise(fd, 0, size, POSIX_FADV_DONTNEED), 0);
  EQUAL(resident(map, 64), 0);
  // Others change nothing.
  EQUAL(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL), 0);
  EQUAL(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);
  EQUAL(posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL), 0);
  EQUAL(posix_fadvise(fd, 0, 0, POSIX_FADV_NOREUSE), 0);
  EQUAL(resident(map, 64), 0);
  EQUAL(posix_fadvise(fd, 4096 * 4, 4096 * 8, POSIX_FADV_WILLNEED), 0);
  for (int tries = 0; resident(map + 4096 * 4, 8) < 8 && tries < 1000; tries++) usleep(1000);
  EQUAL(resident(map + 4096 * 4, 8), 8);
  OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
  OK(readahead(fd, 0, sizeof content));
  for (int tries = 0; resident(map, 8) < 8 && tries < 1000; tries++) usleep(1000);
  EQUAL(resident(map, 8), 8);
  OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
  OK(madvise(map, sizeof content, MADV_WILLNEED));
  for (int tries = 0; resident(map, 8) < 8 && tries < 1000; tries++) usleep(1000);
  EQUAL(resident(map, 8), 8);
  // What somebody looks at stays.
  CHECK(map[4096 * 2] == content[4096 * 2]);
  OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
  CHECK(resident(map + 4096 * 2, 1) == 1);
  // What was changed is not lost.
  memset(content + 5000, 0x5A, 9000);
  EQUAL(pwrite(fd, content + 5000, 9000, 5000), 9000);
  OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
  EQUAL(pread(fd, found, sizeof found, 0), size);
  CHECK(!memcmp(content, found, size));
  EQUAL(posix_fadvise(fd, 0, 0, 6), EINVAL);
  EQUAL(posix_fadvise(fd, 0, 0, -1), EINVAL);
  EQUAL(posix_fadvise64(fd, 0, -1LL, POSIX_FADV_NORMAL), EINVAL);
  EQUAL(posix_fadvise(-1, 0, 0, POSIX_FADV_NORMAL), EBADF);
  int ends[2];
  OK(pipe(ends));
  EQUAL(posix_fadvise(ends[0], 0, 0, POSIX_FADV_NORMAL), ESPIPE);
  FAILS(readahead(ends[0], 0, 4096), EINVAL);
  int path = OK(open("file", O_PATH));
  EQUAL(posix_fadvise(path, 0, 0, POSIX_FADV_NORMAL), EBADF);
  FAILS(readahead(path, 0, 4096), EBADF);
  int writer = OK(open("file", O_WRONLY));
  FAILS(readahead(writer, 0, 4096), EBADF);
  OK(munmap(map, sizeof content));
}

// O_DIRECT: whole sectors go to the disk and come from there, the cache stays as it is, and everybody sees the same.
CASE(past_the_cache) {
  on_disk();
  enum { SIZE = 96 * 4096 };
  char *content = aligned_alloc(4096, SIZE), *found = aligned_alloc(4096, SIZE + 4096);
  for (int i = 0; i < SIZE; i++) content[i] = i * 31 + (i >> 12);
  int fd = OK(open("file", O_RDWR | O_CREAT | O_DIRECT, 0644));
  CHECK(OK(fcntl(fd, F_GETFL)) & O_DIRECT);
  EQUAL(write(fd, content, SIZE), SIZE);
  char *map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
  CHECK(map != MAP_FAILED);
  EQUAL(resident(map, 64), 0);
  EQUAL(pread(fd, found, SIZE + 4096, 0), SIZE);
  CHECK(!memcmp(content, found, SIZE));
  EQUAL(resident(map, 64), 0);
  // Neither the place nor the length may be in the middle of a sector.
  FAILS(pread(fd, found, 512, 1), EINVAL);
  FAILS(pread(fd, found, 511, 512), EINVAL);
  FAILS(pwrite(fd, content, 512, 256), EINVAL);
  FAILS(pwrite(fd, content, 100, 512), EINVAL);
  FAILS(pread(fd, (void *)0xFFFFF000, 512, 0), EFAULT);
  EQUAL(pread(fd, found, 512, SIZE), 0);
  EQUAL(pread(fd, found, 0, 0), 0);
  // A sector behind the others' backs, though they have the page.
  int cached = OK(open("file", O_RDWR));
  EQUAL(pread(cached, found, 8192, 4096), 8192);
  memset(content + 4096 + 512, 0x5A, 1024);
  EQUAL(pwrite(fd, content + 4096 + 512, 1024, 4096 + 512), 1024);
  EQUAL(pread(cached, found, 8192, 4096), 8192);
  CHECK(!memcmp(content + 4096, found, 8192));
  EQUAL(map[4096 + 512], 0x5A);
  // And theirs, which is not written yet.
  memset(content + 3 * 4096 + 7, 0x33, 5000);
  EQUAL(pwrite(cached, content + 3 * 4096 + 7, 5000, 3 * 4096 + 7), 5000);
  EQUAL(pread(fd, found, SIZE, 0), SIZE);
  CHECK(!memcmp(content, found, SIZE));
  // The end, and what is behind it.
  OK(ftruncate(fd, SIZE - 3000));
  EQUAL(pread(fd, found, SIZE, 0), SIZE - 3000);
  EQUAL(pread(fd, found, 4096, SIZE - 4096), 1096);
  CHECK(!memcmp(content + SIZE - 4096, found, 1096));
  OK(ftruncate(fd, 4096));
  int end = OK(open("file", O_WRONLY | O_APPEND | O_DIRECT | O_DSYNC));
  EQUAL(write(end, content + 4096, 8192), 8192);
  OK(ftruncate(fd, 3 * 4096 - 100));
  FAILS(write(end, content, 512), EINVAL);
  OK(ftruncate(fd, 20 * 4096));
  EQUAL(pread(fd, found, SIZE, 0), 20 * 4096);
  CHECK(!memcmp(content, found, 3 * 4096 - 100) && !found[3 * 4096 - 100] && !found[20 * 4096 - 1]);
  struct iovec parts[2] = {{content, 1024}, {content + 8192, 512}};
  EQUAL(pwritev(fd, parts, 2, 8 * 4096), 1536);
  EQUAL(pread(cached, found, 2048, 8 * 4096), 2048);
  CHECK(!memcmp(found, content, 1024) && !memcmp(found + 1024, content + 8192, 512) && !found[1536]);
  // It can be had later, and given up.
  OK(fcntl(fd, F_SETFL, 0));
  EQUAL(pread(fd, found, 100, 3), 100);
  OK(fcntl(fd, F_SETFL, O_DIRECT));
  FAILS(pread(fd, found, 100, 3), EINVAL);
  OK(close(OK(open(".", O_TMPFILE | O_RDWR | O_DIRECT, 0600))));
  OK(munmap(map, SIZE));
}

// Not everything has a cache to go past.
CASE(nothing_past_the_cache) {
  FAILS(open("/proc/self/maps", O_RDONLY | O_DIRECT), EINVAL);
  FAILS(open("/dev/null", O_RDWR | O_DIRECT), EINVAL);
  FAILS(fcntl(OK(open("/dev/null", O_RDWR)), F_SETFL, O_DIRECT), EINVAL);
  FAILS(fcntl(OK(open("/proc/self/maps", O_RDONLY)), F_SETFL, O_DIRECT), EINVAL);
  FAILS(fcntl(OK(socket(AF_UNIX, SOCK_STREAM, 0)), F_SETFL, O_DIRECT), EINVAL);
  OK(mkfifo("fifo", 0600));
  FAILS(open("fifo", O_RDWR | O_DIRECT), EINVAL);
  OK(fcntl(OK(open("fifo", O_RDWR)), F_SETFL, O_DIRECT));
}

// Files that grow at the same time do not lie in each other, and a file goes on where it ends.
CASE(growing_together) {
  on_disk();
  enum { FILES = 4, PARTS = 64 };
  static char block[16384];
  int files[FILES];
  char name[16];
  for (int i = 0; i < FILES; i++) {
    snprintf(name, sizeof name, "f%d", i);
    files[i] = OK(open(name, O_RDWR | O_CREAT | O_EXCL, 0644));
  }
  for (int part = 0; part < PARTS; part++)
    for (int i = 0; i < FILES; i++) EQUAL(write(files[i], block, sizeof block), (int)sizeof block);
  struct {
    struct fiemap map;
    struct fiemap_extent extents[300];
  } answer;
  for (int i = 0; i < FILES; i++) {
    OK(close(files[i]));
    snprintf(name, sizeof name, "f%d", i);
    files[i] = OK(open(name, O_RDWR | O_APPEND));
    EQUAL(write(files[i], block, 100), 100);
    memset(&answer, 0, sizeof answer);
    answer.map.fm_length = ~0ULL;
    answer.map.fm_flags = FIEMAP_FLAG_SYNC;
    answer.map.fm_extent_count = 300;
    OK(ioctl(files[i], FS_IOC_FIEMAP, &answer));
    unsigned count = answer.map.fm_mapped_extents;
    CHECK(count >= 1 && count <= 12);
    unsigned long long end = 0;
    for (unsigned at = 0; at < count; at++) {
      struct fiemap_extent *extent = &answer.extents[at];
      EQUAL(extent->fe_logical, end);
      CHECK(extent->fe_physical && !(extent->fe_flags & FIEMAP_EXTENT_UNKNOWN));
      EQUAL(!!(extent->fe_flags & FIEMAP_EXTENT_LAST), at == count - 1);
      end += extent->fe_length;
    }
    CHECK(end > PARTS * sizeof block && end <= PARTS * sizeof block + 4096);
    // Some of it, and only how much there is.
    answer.map.fm_start = 100000;
    answer.map.fm_length = 1;
    OK(ioctl(files[i], FS_IOC_FIEMAP, &answer));
    EQUAL(answer.map.fm_mapped_extents, 1);
    CHECK(answer.extents[0].fe_logical <= 100000 && answer.extents[0].fe_logical + answer.extents[0].fe_length > 100000);
    answer.map.fm_start = answer.map.fm_extent_count = 0;
    answer.map.fm_length = ~0ULL;
    OK(ioctl(files[i], FS_IOC_FIEMAP, &answer));
    EQUAL(answer.map.fm_mapped_extents, count);
  }
  // A hole is nothing, also at the end.
  OK(ftruncate(files[0], 0));
  OK(ftruncate(files[0], 10 << 20));
  answer.map.fm_extent_count = 300;
  OK(ioctl(files[0], FS_IOC_FIEMAP, &answer));
  EQUAL(answer.map.fm_mapped_extents, 0);
  EQUAL(pwrite(OK(open("f0", O_WRONLY)), "x", 1, 5 << 20), 1);
  OK(fsync(files[0]));
  OK(ioctl(files[0], FS_IOC_FIEMAP, &answer));
  EQUAL(answer.map.fm_mapped_extents, 1);
  EQUAL(answer.extents[0].fe_logical, 5 << 20);
  CHECK(answer.extents[0].fe_flags & FIEMAP_EXTENT_LAST);
  answer.map.fm_flags = 0x80000000;
  FAILS(ioctl(files[0], FS_IOC_FIEMAP, &answer), EBADR);
  answer.map.fm_flags = 0;
  answer.map.fm_length = 0;
  FAILS(ioctl(files[0], FS_IOC_FIEMAP, &answer), EINVAL);
  answer.map.fm_length = 1;
  answer.map.fm_extent_count = 0x7FFFFFFF;
  FAILS(ioctl(files[0], FS_IOC_FIEMAP, &answer), EINVAL);
  FAILS(ioctl(files[0], FS_IOC_FIEMAP, (void *)0xFFFFFF00), EFAULT);
}

// A write through a mapping changes the times, and takes room.
CASE(mapped_writes_count) {
  on_disk();
  struct stat before, after;
  int fd = OK(open("f", O_RDWR | O_CREAT, 0644));
  OK(ftruncate(fd, 1 << 20));
  OK(fsync(fd));
  OK(fstat(fd, &before));
  pause_ms(20);
  char *map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(map != MAP_FAILED);
  EQUAL(map[70000], 0);
  OK(fstat(fd, &after));
  EQUAL(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
  map[70000] = 1;
  OK(msync(map, 1 << 20, MS_SYNC));
  OK(fstat(fd, &after));
  CHECK(after.st_mtim.tv_sec > before.st_mtim.tv_sec || after.st_mtim.tv_nsec > before.st_mtim.tv_nsec);
  CHECK(after.st_ctim.tv_sec > before.st_ctim.tv_sec || after.st_ctim.tv_nsec > before.st_ctim.tv_nsec);
  CHECK(after.st_blocks > 0 && after.st_blocks < 1000);
  off_disk();
}

// A hole takes no room because somebody reads it.
CASE(holes_read_in_memory) {
  in_memory();
  struct stat s;
  static char block[1 << 16];
  int fd = OK(open("f", O_RDWR | O_CREAT, 0644));
  OK(ftruncate(fd, 8 << 20));
  EQUAL(pwrite(fd, "x", 1, 5000000), 1);
  for (int at = 0; at < 8 << 20; at += sizeof block) {
    EQUAL(pread(fd, block, at % 3 ? sizeof block : 3000, at), at % 3 ? (int)sizeof block : 3000);
    for (int i = 0; i < 3000; i++)
      if (block[i] != (at + i == 5000000 ? 'x' : 0)) FAIL("at %d", at + i);
  }
  OK(fstat(fd, &s));
  EQUAL(s.st_blocks, 8);
  EQUAL(lseek(fd, 0, SEEK_DATA), 4997120);
  EQUAL(lseek(fd, 0, SEEK_HOLE), 0);
  // And what is written behind the reader is seen.
  EQUAL(pwrite(fd, "y", 1, 0), 1);
  EQUAL(pread(fd, block, 2, 0), 2);
  CHECK(block[0] == 'y' && block[1] == 0);
  memset(block, 1, sizeof block);
  EQUAL(pread(fd, block, sizeof block, 65536), (int)sizeof block);
  for (int i = 0; i < (int)sizeof block; i++) EQUAL(block[i], 0);
}
