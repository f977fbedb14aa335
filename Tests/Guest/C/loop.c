// Files as disks. The images are copies of the FAT volumes of the second disk.
#include "test.h"
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>

static char disk[16], device[32];

// A file with the disk's partition of a number, and a loop device that is free.
static int image(const char *name, int number) {
  static char block[1 << 16];
  char part[32];
  snprintf(disk, sizeof disk, "/dev/%s", access("/dev/vdb", F_OK) ? "hdb" : "vdb");
  snprintf(part, sizeof part, "%s%d", disk, number);
  int from = OK(open(part, O_RDONLY)), to = OK(open(name, O_RDWR | O_CREAT | O_TRUNC, 0644));
  for (ssize_t count; (count = OK(read(from, block, sizeof block)));) EQUAL(write(to, block, count), count);
  OK(close(from));
  int control = OK(open("/dev/loop-control", O_RDWR));
  snprintf(device, sizeof device, "/dev/loop%ld", OK(ioctl(control, LOOP_CTL_GET_FREE)));
  OK(close(control));
  return to;
}
static long long size_of(int fd) {
  unsigned long long size;
  OK(ioctl(fd, 0x80041272, &size)); // BLKGETSIZE64
  return size;
}
static void expect(const char *name, const char *text) {
  char found[100] = "";
  int fd = OK(open(name, O_RDONLY));
  OK(read(fd, found, sizeof found - 1));
  OK(close(fd));
  if (strcmp(found, text)) FAIL("%s has %s, not %s", name, found, text);
}
static void put(const char *name, const char *text) {
  int fd = OK(open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644));
  EQUAL(write(fd, text, strlen(text)), strlen(text));
  OK(fsync(fd));
  OK(close(fd));
}

CASE(a_file_system_in_a_file) {
  for (int number = 1; number <= 2; number++) {
    // A larger one in memory.
    if (number == 1) on_disk();
    int file = image("image", number), loop = OK(open(device, O_RDWR));
    struct stat s;
    OK(fstat(file, &s));
    EQUAL(size_of(loop), 0);
    OK(ioctl(loop, LOOP_SET_FD, file));
    EQUAL(size_of(loop), s.st_size);
    OK(mkdir("m", 0755));
    OK(mount(device, "m", "vfat", 0, ""));
    expect("m/given/Short.txt", "short\n");
    put("m/from the loop", "text");
    static char block[1 << 20];
    int fd = OK(open("m/large", O_RDWR | O_CREAT, 0644));
    memset(block, number, sizeof block);
    EQUAL(write(fd, block, sizeof block), (int)sizeof block);
    OK(fsync(fd));
    OK(close(fd));
    FAILS(ioctl(loop, LOOP_CLR_FD), EBUSY);
    OK(umount("m"));
    OK(ioctl(loop, LOOP_CLR_FD));
    EQUAL(size_of(loop), 0);
    // It is in the file.
    OK(ioctl(loop, LOOP_SET_FD, file));
    OK(mount(device, "m", "vfat", MS_RDONLY, ""));
    expect("m/FROM the loop", "text");
    fd = OK(open("m/large", O_RDONLY));
    static char found[1 << 20];
    EQUAL(read(fd, found, sizeof found), (int)sizeof found);
    CHECK(!memcmp(found, block, sizeof block));
    OK(close(fd));
    OK(umount("m"));
    OK(ioctl(loop, LOOP_CLR_FD));
    OK(close(loop));
    OK(close(file));
    OK(rmdir("m"));
    if (number == 1) {
      off_disk();
      OK(chdir("/tmp/case"));
    }
  }
}

CASE(a_part_of_a_disk) {
  int file = image("image", 1), whole = OK(open(disk, O_RDONLY)), loop = OK(open(device, O_RDWR));
  OK(close(file));
  OK(unlink("image"));
  struct loop_config config = {.fd = whole, .info = {.lo_offset = 1 << 20, .lo_sizelimit = 4 << 20, .lo_flags = LO_FLAGS_READ_ONLY}};
  strcpy((char *)config.info.lo_file_name, disk);
  OK(ioctl(loop, LOOP_CONFIGURE, &config));
  EQUAL(size_of(loop), 4 << 20);
  struct loop_info64 info;
  OK(ioctl(loop, LOOP_GET_STATUS64, &info));
  EQUAL(info.lo_offset, 1 << 20);
  EQUAL(info.lo_flags, LO_FLAGS_READ_ONLY);
  CHECK(!strcmp((char *)info.lo_file_name, disk));
  OK(mkdir("m", 0755));
  OK(mount(device, "m", "vfat", MS_RDONLY, ""));
  expect("m/given/Short.txt", "short\n");
  OK(umount("m"));
  OK(rmdir("m"));
  // Its second volume.
  info.lo_offset = 5 << 20;
  info.lo_sizelimit = 0;
  OK(ioctl(loop, LOOP_SET_STATUS64, &info));
  EQUAL(size_of(loop), size_of(whole) - (5 << 20));
  char sector[512];
  EQUAL(pread(loop, sector, sizeof sector, 0), (int)sizeof sector);
  CHECK(!memcmp(sector + 54, "FAT16   ", 8));
  OK(ioctl(loop, LOOP_CLR_FD));
  EQUAL(read(loop, sector, sizeof sector), 0);
  OK(close(whole));
  OK(close(loop));
}

CASE(ends_with_its_use) {
  int file = image("image", 1), loop = OK(open(device, O_RDWR));
  struct loop_config config = {.fd = file, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
  struct loop_info64 info;
  OK(mkdir("m", 0755));
  OK(ioctl(loop, LOOP_CONFIGURE, &config));
  OK(mount(device, "m", "vfat", 0, ""));
  OK(close(loop));
  OK(close(file));
  put("m/file", "content");
  OK(unlink("image"));
  loop = OK(open(device, O_RDWR));
  OK(ioctl(loop, LOOP_GET_STATUS64, &info));
  OK(close(loop));
  expect("m/file", "content");
  OK(umount("m"));
  loop = OK(open(device, O_RDWR));
  FAILS(ioctl(loop, LOOP_GET_STATUS64, &info), ENXIO);
  OK(close(loop));
  OK(rmdir("m"));
}

CASE(answers) {
  int file = image("image", 1), loop = OK(open(device, O_RDWR)), control = OK(open("/dev/loop-control", O_RDWR));
  struct loop_info64 info = {};
  FAILS(ioctl(loop, LOOP_SET_FD, -1), EBADF);
  FAILS(ioctl(loop, LOOP_SET_FD, loop), EBADF);
  int directory = OK(open("/tmp", O_RDONLY));
  FAILS(ioctl(loop, LOOP_SET_FD, directory), EINVAL);
  OK(close(directory));
  FAILS(ioctl(loop, LOOP_CLR_FD), ENXIO);
  FAILS(ioctl(loop, LOOP_GET_STATUS64, &info), ENXIO);
  FAILS(ioctl(loop, LOOP_SET_STATUS64, &info), ENXIO);
  FAILS(ioctl(loop, LOOP_SET_STATUS64, NULL), EFAULT);
  FAILS(ioctl(loop, LOOP_CONFIGURE, NULL), EFAULT);
  FAILS(ioctl(control, LOOP_CTL_ADD, 0), EEXIST);
  FAILS(mount(device, "/tmp/case", "vfat", 0, ""), EINVAL);
  OK(ioctl(loop, LOOP_SET_FD, file));
  FAILS(ioctl(loop, LOOP_SET_FD, file), EBUSY);
  // Of another one, but not of itself.
  char name[32];
  snprintf(name, sizeof name, "/dev/loop%ld", OK(ioctl(control, LOOP_CTL_GET_FREE)));
  int second = OK(open(name, O_RDWR));
  OK(ioctl(second, LOOP_SET_FD, loop));
  EQUAL(size_of(second), size_of(loop));
  OK(ioctl(loop, LOOP_CLR_FD));
  FAILS(ioctl(loop, LOOP_SET_FD, second), EBADF);
  OK(ioctl(second, LOOP_CLR_FD));
  OK(close(second));
  OK(ioctl(loop, LOOP_SET_FD, file));
  info.lo_flags = LO_FLAGS_PARTSCAN; // not there: nobody is told that it is
  FAILS(ioctl(loop, LOOP_SET_STATUS64, &info), EINVAL);
  info.lo_flags = 0;
  info.lo_encrypt_type = 1;
  FAILS(ioctl(loop, LOOP_SET_STATUS64, &info), EINVAL);
  // The file may become shorter than the device: an error, for what is not there.
  OK(ftruncate(file, 1 << 20));
  char block[4096];
  EQUAL(pread(loop, block, sizeof block, 2 << 20), (int)sizeof block);
  OK(ioctl(loop, LOOP_SET_CAPACITY));
  EQUAL(size_of(loop), 1 << 20);
  EQUAL(pread(loop, block, sizeof block, 2 << 20), 0);
  // Offsets that nothing has.
  memset(&info, 0, sizeof info);
  info.lo_offset = ~0ull;
  OK(ioctl(loop, LOOP_SET_STATUS64, &info));
  EQUAL(size_of(loop), 0);
  OK(ioctl(loop, LOOP_CLR_FD));
  OK(close(control));
  OK(close(loop));
  OK(close(file));
}

// What is written to a hole through a mapping, and nothing else of the file, is there after the next mount.
CASE(a_mapping_fills_a_hole) {
  char part[32];
  snprintf(part, sizeof part, "/dev/%s4", access("/dev/vdb", F_OK) ? "hdb" : "vdb");
  OK(mkdir("m", 0755));
  OK(mount(part, "m", "ext2", 0, ""));
  int fd = OK(open("m/hole", O_RDWR | O_CREAT | O_EXCL, 0644));
  OK(ftruncate(fd, 1 << 20));
  OK(fsync(fd));
  char *map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), found;
  CHECK(map != MAP_FAILED);
  map[70000] = 'x';
  OK(munmap(map, 1 << 20));
  OK(close(fd));
  OK(umount("m"));
  OK(mount(part, "m", "ext2", 0, ""));
  fd = OK(open("m/hole", O_RDONLY));
  EQUAL(pread(fd, &found, 1, 70000), 1);
  EQUAL(found, 'x');
  OK(close(fd));
  OK(unlink("m/hole"));
  OK(umount("m"));
}

static int visited;
static int visit(const char *path, const struct stat *status, int type, struct FTW *place) {
  static char block[65536];
  (void)status;
  if (type == FTW_F) {
    int fd = open(path, O_RDWR);
    if (fd < 0) fd = open(path, O_RDONLY);
    if (fd >= 0) {
      (void)!read(fd, block, sizeof block);
      (void)!pwrite(fd, "changed", 7, 3);
      (void)!ftruncate(fd, visited % 3 * 1000);
      close(fd);
    }
    if (visited % 4 == 0) unlink(path);
  }
  if (type == FTW_D && visited % 5 == 0) {
    char name[4200];
    snprintf(name, sizeof name, "%s/a name of its own", path);
    int fd = open(name, O_RDWR | O_CREAT, 0644);
    if (fd >= 0) {
      (void)!write(fd, block, 10000);
      close(fd);
    }
    rename(name, "m/moved");
    snprintf(name, sizeof name, "%s/directory", path);
    mkdir(name, 0755);
  }
  return ++visited > 200 || place->level > 12;
}
// Volumes with any bytes in their boot sectors, tables and directories: some errors, and nothing else.
LIMITED_CASE(any_bytes_for_fat, 120) {
  static char clean[256 << 10];
  OK(mkdir("m", 0755));
  int mounted = 0;
  for (int number = 1; number <= 2; number++) {
    int file = image("image", number), loop = OK(open(device, O_RDWR));
    EQUAL(pread(file, clean, sizeof clean, 0), (int)sizeof clean);
    unsigned random = number;
    for (int round = 0; round < (torture() ? 1000 : 40); round++) {
      OK(pwrite(file, clean, sizeof clean, 0));
      int flips = 1 + round % 60;
      // The first bytes decide what all the others are.
      unsigned range = round % 3 == 0 ? 90 : sizeof clean;
      for (int i = 0; i < flips; i++) {
        random = random * 1103515245 + 12345;
        char byte = random >> 24;
        EQUAL(pwrite(file, &byte, 1, (random >> 4) % range), 1);
      }
      OK(ioctl(loop, LOOP_SET_FD, file));
      if (!mount(device, "m", "vfat", 0, "")) {
        mounted++;
        visited = round;
        nftw("m", visit, 8, FTW_PHYS);
        sync();
        OK(umount2("m", 0));
      }
      OK(ioctl(loop, LOOP_CLR_FD));
    }
    OK(close(loop));
    OK(close(file));
  }
  CHECK(mounted > 20);
  OK(unlink("image"));
  OK(rmdir("m"));
}

// A disk in memory: zeros where nobody has written, a file system like any other, and its memory back in the end.
CASE(a_disk_in_memory) {
  enum { SIZE = 16 << 20 };
  static char block[1 << 16], zeros[1 << 16];
  int disk = OK(open("/dev/ram1", O_RDWR)), value;
  EQUAL(size_of(disk), SIZE);
  OK(ioctl(disk, 0x1268, &value)); // BLKSSZGET
  EQUAL(value, 512);
  OK(ioctl(disk, 0x125E, &value)); // BLKROGET
  EQUAL(value, 0);
  for (int at = 0; at < SIZE; at += sizeof block) {
    EQUAL(pread(disk, block, sizeof block, at), (int)sizeof block);
    CHECK(!memcmp(block, zeros, sizeof block));
  }
  EQUAL(pread(disk, block, sizeof block, SIZE), 0);
  FAILS(pwrite(disk, block, 1, SIZE), ENOSPC);
  snprintf(device, sizeof device, "/dev/%s1", access("/dev/vdb", F_OK) ? "hdb" : "vdb");
  int from = OK(open(device, O_RDONLY));
  CHECK(size_of(from) <= SIZE);
  for (int at = 0, count; (count = OK(read(from, block, sizeof block))); at += count) EQUAL(pwrite(disk, block, count, at), count);
  OK(close(from));
  OK(close(disk));
  OK(mkdir("m", 0755));
  for (int round = 0; round < 2; round++) {
    OK(mount("/dev/ram1", "m", "vfat", 0, ""));
    FAILS(mount("/dev/ram1", "m", "ext2", 0, ""), EBUSY);
    expect("m/given/Short.txt", "short\n");
    if (round) expect("m/new", "text");
    put("m/new", "text");
    OK(umount("m"));
  }
  disk = OK(open("/dev/ram1", O_RDWR));
  int other = OK(open("/dev/ram1", O_RDWR));
  EQUAL(pread(disk, block, 2048, 0), 2048);
  EQUAL(block[510] & 0xFF, 0x55);
  // Somebody else has it, too: only what is cached goes.
  OK(ioctl(disk, 0x1261)); // BLKFLSBUF
  EQUAL(pread(disk, block, 2048, 0), 2048);
  EQUAL(block[510] & 0xFF, 0x55);
  OK(close(other));
  OK(ioctl(disk, 0x1261));
  EQUAL(pread(disk, block, sizeof block, 0), (int)sizeof block);
  CHECK(!memcmp(block, zeros, sizeof block));
  OK(close(disk));
  FAILS(mount("/dev/ram1", "m", "vfat", 0, ""), EINVAL);
  OK(rmdir("m"));
}

// A disk read and written past the cache, and what its file systems' own cache would have of it.
CASE(a_disk_past_the_cache) {
  static char block[1 << 17] __attribute__((aligned(4096))), found[1 << 17] __attribute__((aligned(4096)));
  int direct = OK(open("/dev/ram2", O_RDWR | O_DIRECT)), cached = OK(open("/dev/ram2", O_RDWR));
  for (unsigned i = 0; i < sizeof block; i++) block[i] = i * 13 + (i >> 10);
  EQUAL(pwrite(direct, block, sizeof block, 4096 + 512), (int)sizeof block);
  EQUAL(pread(cached, found, sizeof found, 4096 + 512), (int)sizeof found);
  CHECK(!memcmp(block, found, sizeof block));
  EQUAL(pwrite(cached, "changed", 7, 10000), 7);
  memcpy(block + 10000 - 4096 - 512, "changed", 7);
  EQUAL(pread(direct, found, sizeof found, 4096 + 512), (int)sizeof found);
  CHECK(!memcmp(block, found, sizeof block));
  FAILS(pread(direct, found, 100, 0), EINVAL);
  FAILS(pwrite(direct, found, 512, 100), EINVAL);
  // From memory that nobody has touched.
  char *fresh = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(fresh != MAP_FAILED);
  EQUAL(pwrite(direct, fresh, 4096, 1 << 20), 4096);
  EQUAL(pwrite(cached, fresh + 4096, 4096, 1 << 20), 4096);
  long long size = size_of(direct);
  EQUAL(pwrite(direct, block, 4096, size - 1024), 1024);
  FAILS(pwrite(direct, block, 4096, size), ENOSPC);
  EQUAL(pread(direct, found, 4096, size - 1024), 1024);
  CHECK(!memcmp(block, found, 1024));
  EQUAL(pread(direct, found, 4096, size), 0);
  OK(close(cached));
  OK(ioctl(direct, 0x1261)); // BLKFLSBUF
  OK(close(direct));
}

static void copy(const char *from, const char *to) {
  static char block[1 << 16];
  int source = OK(open(from, O_RDONLY)), target = OK(open(to, O_RDWR | O_CREAT, 0644));
  for (ssize_t count; (count = OK(read(source, block, sizeof block)));) EQUAL(write(target, block, count), count);
  OK(close(source));
  OK(close(target));
}
static uint32_t first_orphan(const char *image) {
  uint32_t number;
  int fd = OK(open(image, O_RDONLY));
  EQUAL(pread(fd, &number, 4, 1024 + 232), 4);
  OK(close(fd));
  return number;
}
static void attach(const char *image) {
  int file = OK(open(image, O_RDWR)), loop = OK(open(device, O_RDWR));
  OK(ioctl(loop, LOOP_SET_FD, file));
  OK(close(file));
  OK(close(loop));
}
static void detach(void) {
  int loop = OK(open(device, O_RDWR));
  OK(ioctl(loop, LOOP_CLR_FD));
  OK(close(loop));
}

// Files of ext2 that have no names and are in use when the power goes: the next mount deletes them.
CASE(deleted_while_in_use) {
  static char block[1 << 16];
  char part[32];
  struct statvfs before, after;
  OK(close(image("image", 4)));
  snprintf(part, sizeof part, "%s4", disk);
  OK(mkdir("m", 0755));
  attach("image");
  OK(mount(device, "m", "ext2", 0, ""));
  if (unlink("m/kept")) CHECK(errno == ENOENT);
  sync();
  OK(statvfs("m", &before));
  // Those at both ends of the chain and in its middle get or lose their names, in several ways.
  int files[6];
  for (int i = 0; i < 6; i++) {
    char name[16];
    snprintf(name, sizeof name, "m/f%d", i);
    files[i] = i == 2 ? OK(open("m", O_TMPFILE | O_RDWR, 0600)) : OK(open(name, O_RDWR | O_CREAT | O_EXCL, 0644));
    for (int part = 0; part < 8; part++) EQUAL(write(files[i], block, sizeof block), (int)sizeof block);
    if (i == 4) {
      put("m/other", "text");
      OK(rename("m/other", name));
    } else if (i != 2) {
      OK(unlink(name));
    }
  }
  int named = OK(open("m", O_TMPFILE | O_RDWR, 0600));
  EQUAL(write(named, "kept", 4), 4);
  char link[32];
  snprintf(link, sizeof link, "/proc/self/fd/%d", named);
  OK(linkat(AT_FDCWD, link, AT_FDCWD, "m/kept", AT_SYMLINK_FOLLOW));
  OK(close(files[5]));
  OK(close(files[0]));
  OK(close(files[3]));
  // What they took is free on the disk once it is sure that they are gone there.
  sync();
  sync();
  copy("image", "cut");
  CHECK(first_orphan("cut") >= 11);
  // Nobody who had not looked would notice.
  for (int i = 1; i < 5; i++) if (i != 3) EQUAL(pread(files[i], block, sizeof block, 7 << 16), (int)sizeof block);
  OK(close(files[1]));
  OK(close(files[2]));
  OK(close(files[4]));
  OK(close(named));
  expect("m/kept", "kept");
  OK(unlink("m/kept"));
  OK(unlink("m/f4"));
  sync();
  EQUAL(first_orphan("image"), 0);
  OK(statvfs("m", &after));
  EQUAL(before.f_bfree, after.f_bfree);
  EQUAL(before.f_ffree, after.f_ffree);
  OK(umount("m"));
  detach();
  // Who only reads leaves it as it is.
  attach("cut");
  OK(mount(device, "m", "ext2", MS_RDONLY, ""));
  OK(umount("m"));
  CHECK(first_orphan("cut") >= 11);
  OK(mount(device, "m", "ext2", 0, ""));
  expect("m/kept", "kept");
  expect("m/f4", "text");
  OK(unlink("m/f4"));
  sync();
  OK(statvfs("m", &after));
  EQUAL(before.f_bfree - 1, after.f_bfree);
  EQUAL(before.f_ffree - 1, after.f_ffree);
  OK(umount("m"));
  EQUAL(first_orphan("cut"), 0);
  detach();
  // For the host to look at it.
  copy("cut", part);
  // A chain in a circle, and one that leads nowhere.
  uint32_t wrong[] = {2, 11, 0xFFFFFFFF, 1u << 20};
  for (int i = 0; i < 4; i++) {
    int fd = OK(open("cut", O_RDWR));
    EQUAL(pwrite(fd, &wrong[i], 4, 1024 + 232), 4);
    OK(close(fd));
    attach("cut");
    OK(mount(device, "m", "ext2", 0, ""));
    OK(umount("m"));
    EQUAL(first_orphan("cut"), 0);
    detach();
  }
  OK(rmdir("m"));
}
