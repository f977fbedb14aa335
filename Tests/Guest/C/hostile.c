// Damaged volumes: whatever is in an image, it is mounted or not, and each call on it gives something or an error. Nothing stops,
// and nothing panics. The images are in /tests/hostile; a volume and what happens to it follow from the seed that is printed when
// something goes wrong.
#include "test.h"
#include <dirent.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

static unsigned state;
static unsigned pick(unsigned below) {
  state = state * 1664525 + 1013904223;
  return (unsigned)(((unsigned long long)state * below) >> 32);
}

static unsigned char *image;
static int size;

static unsigned get32(int at) { return image[at] | image[at + 1] << 8 | image[at + 2] << 16 | (unsigned)image[at + 3] << 24; }
static void put32(int at, unsigned value) {
  for (int i = 0; i < 4; i++) image[at + i] = value >> (i * 8);
}

// The checksum of diskfs: XXH32 of a block, with seed 0.
static unsigned rotate(unsigned value, int by) { return value << by | value >> (32 - by); }
static unsigned checksum(int block) {
  const unsigned p1 = 0x9E3779B1, p2 = 0x85EBCA77, p3 = 0xC2B2AE3D;
  unsigned lane[4] = {p1 + p2, p2, 0, -p1};
  for (int at = block * 4096; at < block * 4096 + 4096; at += 16)
    for (int i = 0; i < 4; i++) lane[i] = rotate(lane[i] + get32(at + i * 4) * p2, 13) * p1;
  unsigned sum = rotate(lane[0], 1) + rotate(lane[1], 7) + rotate(lane[2], 12) + rotate(lane[3], 18) + 4096;
  sum = (sum ^ sum >> 15) * p2;
  sum = (sum ^ sum >> 13) * p3;
  return sum ^ sum >> 16;
}

// Gives the blocks of a diskfs the checksums that go with what is in them now: what is wrong is found later.
static void make_plausible(void) {
  for (int place = 1; place <= 2; place++) {
    int at = place * 4096, blocks = size / 4096;
    if (memcmp(image + at, "AdrOSdf", 7)) continue;
    unsigned root = get32(at + 20);
    if (root >= (unsigned)blocks) continue;
    int node = root * 4096, count = get32(node + 16) >> 16;
    if (image[node + 16] > 0)
      for (int i = 0; i < count && i < 100; i++) {
        unsigned child = get32(node + 32 + 24 * i + 16);
        if (child < (unsigned)blocks) put32(node + 32 + 24 * i + 20, checksum(child));
      }
    put32(at + 24, checksum(root));
    put32(at + 8, 0);
    put32(at + 8, checksum(place));
  }
}

// Somewhere in a block that is not empty, for there is little to spoil in one that is; at times where the volume describes itself.
static int place(const char *type) {
  if (!pick(8)) return strcmp(type, "ext2") ? pick(96) : 1024 + pick(128);
  for (int tries = 0;; tries++) {
    int block = pick(size / 1024) * 1024, used = 0;
    for (int i = 0; i < 1024; i += 4) used += get32(block + i) != 0;
    if (used || tries > 200) return block + pick(1024);
  }
}

static void spoil(const char *type) {
  for (int count = 1 + pick(pick(3) ? 4 : 40); count > 0; count--) {
    int at = place(type);
    switch (pick(4)) {
    case 0: image[at] ^= 1 << pick(8); break;
    case 1: image[at] = pick(256); break;
    case 2: put32(at & ~3, pick(2) ? 0xFFFFFFFF : pick(size)); break;
    default: memset(image + at, pick(2) ? 0 : pick(256), 1 + pick(at + 64 < size ? 64 : size - at)); break;
    }
  }
  if (!strcmp(type, "diskfs") && pick(4)) make_plausible();
}

static int seen;

// Looks at everything, and at times changes it.
static void explore(const char *path, int depth) {
  static char block[1 << 16];
  DIR *directory = opendir(path);
  if (!directory) return;
  struct dirent *entry;
  while ((entry = readdir(directory)) && seen++ < 600) {
    char name[600];
    if (snprintf(name, sizeof name, "%s/%s", path, entry->d_name) >= (int)sizeof name) continue;
    if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
    struct stat s;
    if (lstat(name, &s)) continue;
    listxattr(name, block, 1000);
    getxattr(name, "user.mark", block, 1000);
    if (S_ISLNK(s.st_mode)) readlink(name, block, 4096);
    if (S_ISREG(s.st_mode)) {
      int fd = open(name, O_RDWR);
      if (fd >= 0) {
        read(fd, block, sizeof block);
        pread(fd, block, 4096, s.st_size - 4096);
        lseek(fd, 0, SEEK_HOLE);
        if (!pick(3)) pwrite(fd, block, 5000, pick(20000));
        if (!pick(4)) ftruncate(fd, pick(30000));
        if (!pick(5)) fsync(fd);
        close(fd);
      }
    }
    if (S_ISDIR(s.st_mode) && depth < 6) explore(name, depth + 1);
    if (!pick(5)) unlink(name);
    if (!pick(6)) rmdir(name);
    if (!pick(6)) rename(name, "m/moved");
    if (!pick(6)) link(name, "m/linked");
    if (!pick(6)) setxattr(name, "user.mark", "1", 1, 0);
    if (!pick(8)) chmod(name, pick(01000));
  }
  closedir(directory);
}

static void change(void) {
  char name[300];
  for (int i = 0; i < 12; i++) {
    snprintf(name, sizeof name, "m/new %d%*s", i, (int)pick(100), "x");
    if (pick(3)) {
      int fd = open(name, O_RDWR | O_CREAT, 0644);
      if (fd >= 0) {
        static char block[30000];
        write(fd, block, pick(sizeof block));
        if (!pick(3)) fsync(fd);
        close(fd);
      }
    } else {
      mkdir(name, 0755);
    }
  }
  symlink("somewhere", "m/symbolic");
  struct statfs s;
  statfs("m", &s);
}

static char device[32];

// Makes a device of a file.
static int attach(int control, int fd) {
  snprintf(device, sizeof device, "/dev/loop%ld", OK(ioctl(control, LOOP_CTL_GET_FREE)));
  int loop = OK(open(device, O_RDWR));
  OK(ioctl(loop, LOOP_SET_FD, fd));
  return loop;
}

static void detach(int loop) {
  while (ioctl(loop, LOOP_CLR_FD) && errno == EBUSY) pause_ms(1);
  OK(close(loop));
}

// Mounts the image, as far as it can be, and uses it. Whether it could.
static int use(const char *type, int control, int length, unsigned flags, unsigned seed) {
  int fd = OK(open("image", O_RDWR | O_CREAT | O_TRUNC, 0644)), mounted = 0;
  EQUAL(write(fd, image, length), length);
  int loop = attach(control, fd);
  if (!mount(device, "m", type, flags | MS_NODEV | MS_NOSUID, "")) {
    mounted = 1;
    seen = 0;
    explore("m", 0);
    change();
    seen = 0;
    explore("m", 0);
    // What it says is whatever comes of writing to such a disk.
    if (umount("m") && errno == EBUSY) FAIL("seed %d: the mount is in use", seed);
  }
  detach(loop);
  OK(close(fd));
  return mounted;
}

static int started(const char *file) {
  int base = OK(open(file, O_RDONLY));
  size = lseek(base, 0, SEEK_END);
  image = malloc(size);
  OK(mkdir("m", 0755));
  return base;
}

static void ended(int base, int control) {
  OK(unlink("image"));
  OK(rmdir("m"));
  OK(close(control));
  OK(close(base));
}

static int first_seed(const char *type) {
  int seed = getenv("SEED") ? atoi(getenv("SEED")) : (int)time(NULL) % 100000 * 100;
  // Seen when one of them hangs.
  printf("# %s, seed %d\n", type, seed);
  return seed;
}

static void volumes(const char *type, const char *file) {
  int base = started(file), control = OK(open("/dev/loop-control", O_RDWR));
  int rounds = torture() ? 2000 : 100, seed = first_seed(type), mounted = 0;
  for (int round = 0; round < rounds; round++) {
    state = seed + round;
    EQUAL(pread(base, image, size, 0), size);
    spoil(type);
    // And at times the end is missing.
    int length = pick(10) ? size : 1024 + pick(size - 1024) / 512 * 512;
    mounted += use(type, control, length, pick(4) ? 0 : MS_RDONLY, seed + round);
  }
  printf("# %s, seed %d: %d of %d could be mounted\n", type, seed, mounted, rounds);
  // Else it is not the volumes that have been tried.
  CHECK(mounted > rounds / 10);
  ended(base, control);
}

// Numbers at their ends, at each place where a volume describes itself: all of them in the long form, else some.
static void ends(const char *type, const char *file, int start, int length) {
  static const unsigned values[] = {0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
  int base = started(file), control = OK(open("/dev/loop-control", O_RDWR));
  int seed = first_seed(type), step = torture() ? 1 : 10, mounted = 0;
  for (int round = seed % step; round < length / 2 * 10; round += step) {
    state = seed + round;
    EQUAL(pread(base, image, size, 0), size);
    int at = start + round / 10 * 2;
    unsigned value = values[round % 5];
    if (round % 10 < 5) put32(at, value);
    else image[at] = value >> 16, image[at + 1] = value >> 24;
    if (!strcmp(type, "diskfs")) make_plausible();
    mounted += use(type, control, size, 0, seed + round);
  }
  CHECK(mounted > length / step);
  ended(base, control);
}

// The record of a name: `before` bytes before it.
static unsigned char *record(const char *name, int before) {
  unsigned char *found = memmem(image, size, name, strlen(name));
  CHECK(found && !memmem(found + 1, image + size - found - 1, name, strlen(name)));
  return found - before;
}

// Directories that are in themselves, or in two places: the second name leads nowhere, and no lock is waited for by who has it.
static void circles(const char *type, const char *file) {
  int base = started(file), control = OK(open("/dev/loop-control", O_RDWR));
  EQUAL(pread(base, image, size, 0), size);
  int fd = OK(open("image", O_RDWR | O_CREAT, 0644));
  EQUAL(write(fd, image, size), size);
  int loop = attach(control, fd);
  OK(mount(device, "m", type, 0, ""));
  OK(mkdir("m/UPPERDIR", 0755));
  OK(mkdir("m/UPPERDIR/LOWERDIR", 0755));
  OK(mkdir("m/ASIDEDIR", 0755));
  OK(umount("m"));
  detach(loop);
  EQUAL(pread(fd, image, size, 0), size);
  if (!strcmp(type, "ext2")) {
    memcpy(record("LOWERDIR", 8), record("UPPERDIR", 8), 4);
    memcpy(record("ASIDEDIR", 8), record("UPPERDIR", 8), 4);
  } else {
    memcpy(record("LOWERDIR   ", 0) + 26, record("UPPERDIR   ", 0) + 26, 2);
    memcpy(record("ASIDEDIR   ", 0) + 26, record("UPPERDIR   ", 0) + 26, 2);
  }
  EQUAL(pwrite(fd, image, size, 0), size);
  for (int first = 0; first < 2; first++) {
    loop = attach(control, fd);
    OK(mount(device, "m", type, 0, ""));
    // On FAT it is the place of its record that makes a file.
    const char *end = strcmp(type, "ext2") ? "/LOWERDIR" : "";
    char name[40], other[40], inside[60], deeper[80];
    snprintf(name, sizeof name, "m/%s%s", first ? "ASIDEDIR" : "UPPERDIR", end);
    snprintf(other, sizeof other, "m/%s%s", first ? "UPPERDIR" : "ASIDEDIR", end);
    snprintf(inside, sizeof inside, "%s/LOWERDIR", name);
    snprintf(deeper, sizeof deeper, "%s/file", inside);
    struct stat s;
    int held = OK(open(name, O_RDONLY | O_DIRECTORY));
    FAILS(stat(other, &s), ELOOP);
    FAILS(stat(inside, &s), ELOOP);
    FAILS(rmdir(inside), ELOOP);
    FAILS(rename(inside, "m/moved"), ELOOP);
    FAILS(rename(name, inside), ELOOP);
    FAILS(rename(other, "m/moved"), ELOOP);
    FAILS(open(deeper, O_CREAT | O_RDWR, 0644), ELOOP);
    FAILS(rmdir(name), ENOTEMPTY);
    OK(close(held));
    // Nobody has the first name any more: the other one can be looked up.
    int caches = OK(open("/proc/sys/vm/drop_caches", O_WRONLY));
    EQUAL(write(caches, "3", 1), 1);
    OK(close(caches));
    OK(stat(other, &s));
    FAILS(stat(name, &s), ELOOP);
    OK(umount("m"));
    detach(loop);
  }
  OK(close(fd));
  ended(base, control);
}

CASE(ext2) { volumes("ext2", "/tests/hostile/ext2"); }
CASE(fat) { volumes("vfat", "/tests/hostile/fat"); }
CASE(diskfs) { volumes("diskfs", "/tests/hostile/diskfs"); }
CASE(ends_of_ext2) { ends("ext2", "/tests/hostile/ext2", 1024, 140); }
CASE(ends_of_ext2_groups) { ends("ext2", "/tests/hostile/ext2", 2048, 32); }
CASE(ends_of_fat) { ends("vfat", "/tests/hostile/fat", 0, 64); }
CASE(ends_of_diskfs) { ends("diskfs", "/tests/hostile/diskfs", 4096, 64); }
CASE(circles_on_ext2) { circles("ext2", "/tests/hostile/ext2"); }
CASE(circles_on_fat) { circles("vfat", "/tests/hostile/fat"); }
