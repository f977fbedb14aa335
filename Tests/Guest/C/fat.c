// FAT with long names, on the second disk: partition 1 is FAT12, 2 FAT16, 3 FAT32. Each case is tried on all of them. The host
// looks at the disk afterwards.
#include "shrink.h"
#include <dirent.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

static int kind;
static char device[32];

static void mount_options(const char *options, int flags) { OK(mount(device, "f", "vfat", flags, options)); }
static void again(void) {
  OK(chdir("/tmp/case"));
  OK(umount("f"));
  mount_options("", 0);
  OK(chdir("f"));
}
static void each(void (*body)(void)) {
  const char *disk = access("/dev/vdb", F_OK) ? "hdb" : "vdb";
  OK(mkdir("f", 0755));
  for (kind = 1; kind <= 3; kind++) {
    snprintf(device, sizeof device, "/dev/%s%d", disk, kind);
    mount_options("", 0);
    OK(chdir("f"));
    body();
    OK(chdir("/tmp/case"));
    OK(umount("f"));
  }
}

static void make(const char *name, const char *text) {
  int fd = OK(open(name, O_WRONLY | O_CREAT | O_EXCL, 0644));
  EQUAL(write(fd, text, strlen(text)), strlen(text));
  OK(close(fd));
}
static void expect(const char *name, const char *text) {
  char found[4096];
  int fd = OK(open(name, O_RDONLY));
  ssize_t count = OK(read(fd, found, sizeof found - 1));
  found[count] = 0;
  OK(close(fd));
  if (strcmp(found, text)) FAIL("%s has %s, not %s", name, found, text);
}
static ino_t number(const char *name) {
  struct stat s;
  OK(stat(name, &s));
  return s.st_ino;
}
static int listed(const char *directory, const char *name) {
  DIR *dir = opendir(directory);
  CHECK(dir);
  int count = 0;
  for (struct dirent *e; (e = readdir(dir));) count += !strcmp(e->d_name, name);
  OK(closedir(dir));
  return count;
}
static void clean(void) {
  OK(chdir("/tmp/case"));
  DIR *dir = opendir("f");
  CHECK(dir);
  for (struct dirent *e; (e = readdir(dir));) {
    if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || !strcmp(e->d_name, "kept") || !strcmp(e->d_name, "given")) continue;
    char path[600];
    snprintf(path, sizeof path, "f/%s", e->d_name);
    OK(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS));
  }
  OK(closedir(dir));
  OK(chdir("f"));
}

static void names_body(void) {
  make("A Long Name.text", "1");
  expect("a long name.TEXT", "1");
  expect("A LONG NAME.text...", "1");
  FAILS(open("a LONG name.text", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
  FAILS(mkdir("A LONG NAME.TEXT", 0755), EEXIST);
  EQUAL(listed(".", "A Long Name.text"), 1);
  EQUAL(number("A Long Name.text"), number("a long name.text"));
  // Names that were asked for in vain exist as soon as one like them does.
  FAILS(open("later", O_RDONLY), ENOENT);
  make("LATER", "2");
  expect("later", "2");
  OK(unlink("Later"));
  FAILS(open("LATER", O_RDONLY), ENOENT);
  FAILS(open("later", O_RDONLY), ENOENT);
  // Only the spelling changes.
  OK(rename("A Long Name.text", "a long name.TEXT"));
  EQUAL(listed(".", "A Long Name.text"), 0);
  EQUAL(listed(".", "a long name.TEXT"), 1);
  make("dots.at.end.", "3");
  EQUAL(listed(".", "dots.at.end"), 1);
  expect("dots.at.end", "3");
  make("\xc3\xbcml\xc3\xa4ut \xe5\x90\x8d \xf0\x9f\x90\xa7", "4");
  expect("\xc3\x9cML\xc3\x84UT \xe5\x90\x8d \xf0\x9f\x90\xa7", "4");
  const char *bad[] = {"a*b", "a?b", "a<b", "a>b", "a|b", "a\"b", "a:b", "a\\b", "a\x01", "a\xff", "\xed\xa0\x80", "..."};
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    FAILS(open(bad[i], O_WRONLY | O_CREAT, 0644), EINVAL);
    FAILS(open(bad[i], O_RDONLY), ENOENT);
    FAILS(mkdir(bad[i], 0755), EINVAL);
    FAILS(rename("dots.at.end", bad[i]), EINVAL);
  }
  char longest[256];
  memset(longest, 'n', 255);
  longest[255] = 0;
  make(longest, "5");
  make("README.TXT", "6");
  make("lower.txt", "7");
  again();
  expect(longest, "5");
  expect("readme.txt", "6");
  expect("LOWER.TXT", "7");
  EQUAL(listed(".", "README.TXT"), 1);
  EQUAL(listed(".", "lower.txt"), 1);
  EQUAL(listed(".", "\xc3\xbcml\xc3\xa4ut \xe5\x90\x8d \xf0\x9f\x90\xa7"), 1);
  clean();
}
CASE(names) { each(names_body); }

static void refusals_body(void) {
  make("file", "x");
  OK(mkdir("dir", 0755));
  make("dir/inside", "y");
  FAILS(link("file", "other"), EPERM);
  FAILS(symlink("file", "other"), EPERM);
  FAILS(mkfifo("fifo", 0600), EPERM);
  FAILS(mknod("dev", S_IFCHR | 0600, makedev(1, 3)), EPERM);
  FAILS(chown("file", 1, 1), EPERM);
  OK(chown("file", 0, 0));
  FAILS(rmdir("dir"), ENOTEMPTY);
  FAILS(unlink("dir"), EISDIR);
  FAILS(rmdir("file"), ENOTDIR);
  FAILS(rename("dir", "dir/below"), EINVAL);
  FAILS(rename("file", "dir"), EISDIR);
  FAILS(rename("dir", "file"), ENOTDIR);
  FAILS(setxattr("file", "user.x", "y", 1, 0), EOPNOTSUPP);
  FAILS(truncate64("file", 1LL << 32), EFBIG);
  int fd = OK(open("file", O_RDWR));
  EQUAL(lseek64(fd, (1LL << 32) - 1, SEEK_SET), (1LL << 32) - 1);
  FAILS(write(fd, "x", 1), EFBIG);
  // It does not fit, and leaves nothing.
  struct statfs before, after;
  OK(statfs(".", &before));
  FAILS(pwrite64(fd, "x", 1, 1 << 30), ENOSPC);
  FAILS(ftruncate64(fd, 1 << 30), ENOSPC);
  sync();
  OK(statfs(".", &after));
  EQUAL(before.f_bfree, after.f_bfree);
  EQUAL(lseek(fd, 0, SEEK_END), 1);
  OK(close(fd));
  // What there is a bit for is kept, the rest is not.
  struct stat s;
  OK(chmod("file", 0600));
  OK(stat("file", &s));
  EQUAL(s.st_mode, S_IFREG | 0755);
  OK(chmod("file", 0444));
  OK(stat("file", &s));
  EQUAL(s.st_mode, S_IFREG | 0555);
  again();
  OK(stat("file", &s));
  EQUAL(s.st_mode, S_IFREG | 0555);
  OK(chmod("file", 0644));
  OK(stat("dir", &s));
  EQUAL(s.st_mode, S_IFDIR | 0755);
  EQUAL(s.st_nlink, 2);
  EQUAL(statfs(".", &after), 0);
  EQUAL(after.f_type, 0x4d44);
  clean();
}
CASE(refusals) { each(refusals_body); }

static void mounts_body(void) {
  struct stat s;
  make("file", "x");
  OK(chdir("/tmp/case"));
  OK(umount("f"));
  FAILS(mount(device, "f", "vfat", 0, "no_such_option"), EINVAL);
  FAILS(mount(device, "f", "vfat", 0, "uid=x"), EINVAL);
  FAILS(mount(device, "f", "ext2", 0, ""), EINVAL);
  mount_options("uid=7,gid=8,fmask=0117,dmask=0022,quiet", 0);
  OK(stat("f/file", &s));
  EQUAL(s.st_mode, S_IFREG | 0660);
  EQUAL(s.st_uid, 7);
  EQUAL(s.st_gid, 8);
  OK(chown("f/file", 9, 9));
  OK(stat("f/file", &s));
  EQUAL(s.st_uid, 7);
  // The same device again is the same file system.
  OK(mkdir("g", 0755));
  OK(mount(device, "g", "vfat", 0, ""));
  make("f/through the first", "1");
  expect("g/through THE first", "1");
  OK(unlink("g/through the first"));
  FAILS(open("f/through the first", O_RDONLY), ENOENT);
  FAILS(mount(device, "g", "vfat", MS_RDONLY, ""), EBUSY);
  FAILS(mount(device, "g", "ext2", 0, ""), EBUSY);
  OK(umount("g"));
  OK(umount("f"));
  OK(rmdir("g"));
  mount_options("", MS_RDONLY);
  expect("f/file", "x");
  FAILS(open("f/file", O_RDWR), EROFS);
  FAILS(unlink("f/file"), EROFS);
  OK(umount("f"));
  mount_options("", 0);
  OK(chdir("f"));
  clean();
}
CASE(mounts) { each(mounts_body); }

static unsigned char pattern(unsigned seed, unsigned at) { return at * 7 + (at >> 9) * seed + seed; }

static void content_body(void) {
  // Clusters with somebody's data, which must not show up.
  static char block[65536];
  memset(block, 0xEE, sizeof block);
  int fd = OK(open("old", O_RDWR | O_CREAT, 0644));
  for (int i = 0; i < 16; i++) EQUAL(write(fd, block, sizeof block), sizeof block);
  OK(close(fd));
  OK(unlink("old"));
  sync();
  sync();
  fd = OK(open("file", O_RDWR | O_CREAT | O_EXCL, 0644));
  unsigned char *model = calloc(1, 1 << 20), *found = malloc(1 << 20);
  unsigned size = 0, random = kind;
  for (int turn = 0; turn < 120; turn++) {
    random = random * 1103515245 + 12345;
    unsigned at = (random >> 8) % 500000, count = (random >> 5) % 30000;
    if (turn % 7 == 3) {
      OK(ftruncate(fd, at));
      if (at < size) memset(model + at, 0, size - at);
      size = at;
      continue;
    }
    for (unsigned i = 0; i < count; i++) model[at + i] = pattern(turn, at + i);
    EQUAL(pwrite(fd, model + at, count, at), count);
    if (count && at + count > size) size = at + count;
    if (turn % 40 == 20) {
      OK(close(fd));
      again();
      fd = OK(open("file", O_RDWR));
    }
    EQUAL(lseek(fd, 0, SEEK_END), size);
  }
  EQUAL(pread(fd, found, 1 << 20, 0), size);
  CHECK(!memcmp(found, model, size));
  OK(close(fd));
  again();
  fd = OK(open("file", O_RDWR));
  EQUAL(pread(fd, found, 1 << 20, 0), size);
  CHECK(!memcmp(found, model, size));
  // Through a mapping, whose last page is zeros behind the end.
  unsigned char *map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(map != MAP_FAILED);
  CHECK(!memcmp(map, model, size));
  for (unsigned i = size; i < ((size + 4095) & ~4095u); i++) EQUAL(map[i], 0);
  map[size - 1] = model[size - 1] = 0x5A;
  map[0] = model[0] = 0xA5;
  OK(msync(map, 1 << 20, MS_SYNC));
  OK(munmap(map, 1 << 20));
  OK(close(fd));
  again();
  fd = OK(open("file", O_RDWR));
  EQUAL(pread(fd, found, 1 << 20, 0), size);
  CHECK(!memcmp(found, model, size));
  struct stat s;
  OK(fstat(fd, &s));
  CHECK((unsigned long long)s.st_blocks * 512 >= size);
  OK(close(fd));
  free(model);
  free(found);
  clean();
}
CASE(content) { each(content_body); }

static void times_body(void) {
  make("file", "x");
  struct timespec set[2] = {{1000000000, 123456789}, {1600000001, 987654321}};
  OK(utimensat(AT_FDCWD, "file", set, 0));
  again();
  struct stat s;
  OK(stat("file", &s));
  // Two seconds, and the day.
  EQUAL(s.st_mtim.tv_sec, 1600000000);
  EQUAL(s.st_mtim.tv_nsec, 0);
  EQUAL(s.st_atim.tv_sec, 1000000000 / 86400 * 86400);
  set[1].tv_sec = 0; // before 1980
  OK(utimensat(AT_FDCWD, "file", set, 0));
  again();
  OK(stat("file", &s));
  EQUAL(s.st_mtim.tv_sec, 315532800);
  clean();
}
CASE(times) { each(times_body); }

// Names that begin alike get short names that differ; a directory grows; and what it lists while it changes is right.
static void many_body(void) {
  char name[64];
  int count = 160;
  OK(mkdir("dir", 0755));
  OK(chdir("dir"));
  for (int i = 0; i < count; i++) {
    snprintf(name, sizeof name, "many files that begin alike %d.text", i);
    make(name, name);
  }
  OK(mkdir("sub", 0755));
  DIR *dir = opendir(".");
  CHECK(dir);
  int seen[160] = {0}, removed = 0;
  for (struct dirent *e; (e = readdir(dir));) {
    int i;
    if (sscanf(e->d_name, "many files that begin alike %d.text", &i) != 1) continue;
    CHECK(i >= 0 && i < count && !seen[i]++);
    EQUAL(e->d_type, DT_REG);
    if (i % 3 == 0) {
      OK(unlink(e->d_name));
      removed++;
    } else {
      EQUAL(e->d_ino, number(e->d_name));
    }
  }
  OK(closedir(dir));
  EQUAL(removed, (count + 2) / 3);
  for (int i = 0; i < count; i++) CHECK(seen[i]);
  for (int i = 0; i < count; i += 3) {
    snprintf(name, sizeof name, "MANY files in the place of others %d", i);
    make(name, name);
  }
  again();
  OK(chdir("dir"));
  for (int i = 0; i < count; i++) {
    snprintf(name, sizeof name, i % 3 ? "many files that begin alike %d.text" : "MANY files in the place of others %d", i);
    expect(name, name);
  }
  struct stat s;
  OK(stat(".", &s));
  EQUAL(s.st_nlink, 3);
  OK(chdir(".."));
  clean();
}
CASE(many) { each(many_body); }

static void moving_body(void) {
  OK(mkdir("one", 0755));
  OK(mkdir("two", 0755));
  OK(mkdir("one/sub", 0755));
  make("one/file", "first");
  make("one/sub/deep", "deep");
  int fd = OK(open("one/file", O_RDWR));
  ino_t before = number("one/file");
  OK(rename("one/file", "two/a file with a longer name"));
  EQUAL(number("two/a file with a longer name"), before);
  FAILS(open("one/file", O_RDONLY), ENOENT);
  // Another file in its old place is another file.
  make("one/file", "second");
  CHECK(number("one/file") != before);
  EQUAL(pwrite(fd, "FIRST", 5, 0), 5);
  expect("two/a file with a longer name", "FIRST");
  expect("one/file", "second");
  // Over another one, which is still open.
  int old = OK(open("one/file", O_RDONLY));
  OK(rename("two/a file with a longer name", "one/FILE"));
  expect("one/file", "FIRST");
  EQUAL(listed("one", "file"), 1);
  char text[16] = "";
  EQUAL(read(old, text, sizeof text), 6);
  CHECK(!strcmp(text, "second"));
  OK(close(old));
  EQUAL(number("one/file"), before);
  EQUAL(pwrite(fd, "again", 5, 0), 5);
  expect("one/file", "again");
  OK(close(fd));
  // A directory and what it calls its parent.
  OK(rename("one/sub", "two/sub"));
  EQUAL(number("two/sub/.."), number("two"));
  struct stat s;
  OK(stat("one", &s));
  EQUAL(s.st_nlink, 2);
  OK(stat("two", &s));
  EQUAL(s.st_nlink, 3);
  again();
  expect("two/sub/deep", "deep");
  expect("one/file", "again");
  EQUAL(number("two/sub/.."), number("two"));
  OK(rename("two/sub", "at the top"));
  EQUAL(number("at the top/.."), number("."));
  // Deleted and open: it is there until it is closed.
  fd = OK(open("one/file", O_RDWR));
  OK(unlink("one/file"));
  make("one/file", "other");
  EQUAL(pread(fd, text, sizeof text, 0), 5);
  CHECK(!strncmp(text, "again", 5));
  OK(ftruncate(fd, 30000));
  OK(fstat(fd, &s));
  EQUAL(s.st_nlink, 0);
  OK(close(fd));
  expect("one/file", "other");
  clean();
}
CASE(moving) { each(moving_body); }

// Until nothing fits any more, twice: what was deleted is free again.
static void full_body(void) {
  static char block[32768];
  struct statfs before, after;
  sync();
  sync();
  OK(statfs(".", &before));
  if (before.f_bfree * before.f_bsize > 12 << 20) return;
  for (int turn = 0; turn < 2; turn++) {
    int fd = OK(open("big", O_WRONLY | O_CREAT | O_EXCL, 0644));
    ssize_t count;
    unsigned long long written = 0;
    while ((count = write(fd, block, sizeof block)) > 0) written += count;
    while ((count = write(fd, block, 512)) > 0) written += count;
    EQUAL(count, -1);
    EQUAL(errno, ENOSPC);
    CHECK(written + 65536 > (unsigned long long)before.f_bfree * before.f_bsize);
    FAILS(mkdir("no room", 0755), ENOSPC);
    make("empty", "");
    OK(close(fd));
    OK(unlink("big"));
    OK(unlink("empty"));
    // Its clusters are free without waiting for anything.
    make("at once", "text");
    expect("at once", "text");
    OK(unlink("at once"));
  }
  sync();
  OK(statfs(".", &after));
  EQUAL(before.f_bfree, after.f_bfree);
  clean();
}
CASE(full) { each(full_body); }

static void shrink_body(void) { shrink(0, 12); }
CASE(pages_that_go_while_they_are_read) { each(shrink_body); }

static void given_body(void) {
  // mcopy's, from the host.
  expect("given/Short.txt", "short\n");
  expect("given/A longer name, with spaces.text", "long\n");
  expect("GIVEN/SUB/deeper/file", "deep\n");
  struct stat s;
  OK(stat("given/pattern", &s));
  EQUAL(s.st_size, 300000);
  int fd = OK(open("given/pattern", O_RDONLY));
  unsigned char found[4096];
  for (unsigned at = 0; at < 300000; at += sizeof found) {
    ssize_t count = OK(read(fd, found, sizeof found));
    for (ssize_t i = 0; i < count; i++) EQUAL(found[i], pattern(1, at + i));
  }
  OK(close(fd));
  // And what the host looks for.
  OK(mkdir("kept", 0755));
  OK(mkdir("kept/Below Here", 0755));
  fd = OK(open("kept/Below Here/a pattern.bin", O_WRONLY | O_CREAT, 0644));
  for (unsigned at = 0; at < 200000; at += sizeof found) {
    for (unsigned i = 0; i < sizeof found; i++) found[i] = pattern(kind, at + i);
    unsigned count = 200000 - at < sizeof found ? 200000 - at : sizeof found;
    EQUAL(write(fd, found, count), count);
  }
  OK(close(fd));
}
CASE(with_the_host) { each(given_body); }
