// Calls of a few lines each, as Linux answers them.
#include "test.h"
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/utsname.h>

CASE(positions_and_flags) {
  int file = OK(open("file", O_RDWR | O_CREAT | O_TRUNC, 0600));
  struct iovec out[2] = {{"hello ", 6}, {"world", 5}};
  EQUAL(pwritev2(file, out, 2, 100, 0), 11);
  EQUAL(lseek(file, 0, SEEK_CUR), 0);
  EQUAL(pwritev2(file, out, 2, -1, RWF_SYNC), 11);
  EQUAL(lseek(file, 0, SEEK_CUR), 11);
  char a[4], b[10];
  struct iovec in[2] = {{a, 4}, {b, 10}};
  EQUAL(preadv2(file, in, 2, 102, 0), 9);
  CHECK(!memcmp(a, "llo ", 4) && !memcmp(b, "world", 5));
  OK(lseek(file, 6, SEEK_SET));
  EQUAL(preadv2(file, in, 1, -1, RWF_HIPRI), 4);
  CHECK(!memcmp(a, "worl", 4));
  EQUAL(lseek(file, 0, SEEK_CUR), 10);
  FAILS(preadv2(file, in, 1, 0, 0x4000000), EOPNOTSUPP);
  FAILS(preadv2(file, in, 1, -2, 0), EINVAL);
  FAILS(preadv2(99, in, 1, 0, 0), EBADF);
}

CASE(room_for_files) {
  int file = OK(open("file", O_RDWR | O_CREAT | O_TRUNC, 0600));
  EQUAL(write(file, "head", 4), 4);
  EQUAL(fallocate(file, 0, 2, 100000), 0);
  struct stat s;
  OK(fstat(file, &s));
  EQUAL(s.st_size, 100002);
  CHECK(s.st_blocks * 512 >= 100002);
  char a[200];
  EQUAL(pread(file, a, 200, 0), 200);
  CHECK(!memcmp(a, "head", 4));
  for (int i = 4; i < 200; i++) EQUAL(a[i], 0);
  EQUAL(fallocate(file, 0, 0, 10), 0); // no shorter
  OK(fstat(file, &s));
  EQUAL(s.st_size, 100002);
  FAILS(fallocate(file, 0, 0, 0), EINVAL);
  FAILS(fallocate(file, 0, -1, 10), EINVAL);
  FAILS(fallocate(file, 0x4000, 0, 10), EOPNOTSUPP);
  int reader = OK(open("file", O_RDONLY)), ends[2];
  FAILS(fallocate(reader, 0, 0, 10), EBADF);
  OK(pipe(ends));
  FAILS(fallocate(ends[1], 0, 0, 10), ESPIPE);
  unlink("file");
}

// More than there is: an error, and what was taken comes back with the file.
CASE(no_room) {
  struct statvfs before, after;
  OK(chdir("/var")); // on the disk
  OK(statvfs(".", &before));
  unsigned long long much = (unsigned long long)before.f_blocks * before.f_frsize * 2;
  if (much > 1ULL << 31) return; // a test machine's own disk
  int file = OK(open("file", O_RDWR | O_CREAT | O_TRUNC, 0600));
  FAILS(fallocate(file, 0, 0, much), ENOSPC);
  struct stat part;
  OK(fstat(file, &part));
  CHECK(part.st_blocks <= 8 + part.st_size / 500); // none beyond the end
  OK(close(file));
  OK(unlink("file"));
  // Write-back may hold the file a little longer than its last name.
  for (int i = 0; i < 500; i++) {
    OK(statvfs(".", &after));
    // The directory may have become a little larger for the name.
    if (after.f_bfree + 4 >= before.f_bfree) return;
    usleep(10000);
  }
  FAIL("%lu blocks free, not %lu", (long)after.f_bfree, (long)before.f_bfree);
}

CASE(times_of_files) {
  int file = OK(open("file", O_RDWR | O_CREAT | O_TRUNC, 0600)), here = OK(open(".", O_RDONLY));
  struct timeval times[2] = {{1000, 5}, {2000, 7}};
  struct stat s;
  OK(syscall(SYS_futimesat, here, "file", times));
  OK(fstat(file, &s));
  EQUAL(s.st_atim.tv_sec, 1000);
  EQUAL(s.st_mtim.tv_nsec, 7000);
  times[1].tv_sec = 3000;
  OK(syscall(SYS_futimesat, file, NULL, times));
  OK(fstat(file, &s));
  EQUAL(s.st_mtim.tv_sec, 3000);
  times[0].tv_usec = 1000000;
  FAILS(syscall(SYS_futimesat, file, NULL, times), EINVAL);
  FAILS(syscall(SYS_futimesat, here, "none", NULL), ENOENT);
  FAILS(syscall(SYS_futimesat, 99, "file", NULL), EBADF);
}

CASE(memory_that_stays) {
  char *early = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  unsigned char there[4];
  FAILS(mlockall(0), EINVAL);
  FAILS(mlockall(64), EINVAL);
  OK(mlockall(MCL_CURRENT | MCL_FUTURE));
  OK(mincore(early, 16384, there));
  for (int i = 0; i < 4; i++) EQUAL(there[i] & 1, 1);
  char *late = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  OK(mincore(late, 16384, there));
  for (int i = 0; i < 4; i++) EQUAL(there[i] & 1, 1);
  OK(munlockall());
}

CASE(clock_state) {
  struct timex state = {0};
  int result = adjtimex(&state);
  CHECK(result >= 0 && result <= TIME_ERROR);
  CHECK(state.tick >= 9000 && state.tick <= 11000);
  CHECK(labs(state.time.tv_sec - time(NULL)) <= 1);
  struct timex again = {0};
  EQUAL(syscall(SYS_clock_adjtime, CLOCK_REALTIME, &again), result);
  FAILS(syscall(SYS_clock_adjtime, CLOCK_MONOTONIC, &again), EOPNOTSUPP);
  FAILS(syscall(SYS_adjtimex, 8), EFAULT);
  pid_t child = CHILD({
    OK(setuid(1000));
    struct timex change = {.modes = ADJ_TICK, .tick = 10000};
    FAILS(adjtimex(&change), EPERM);
    FAILS(setdomainname("x", 1), EPERM);
    FAILS(sethostname("x", 1), EPERM);
  });
  EQUAL(reap(child), 0);
}

CASE(devices_without_a_position) {
  const char *names[] = {"/dev/null", "/dev/zero", "/dev/full"};
  for (int i = 0; i < 3; i++) {
    int file = OK(open(names[i], O_RDWR));
    EQUAL(lseek64(file, 1ll << 40, SEEK_SET), 0);
    EQUAL(lseek64(file, -5, SEEK_CUR), 0);
    EQUAL(lseek64(file, 7, SEEK_END), 0);
    close(file);
  }
}

CASE(parts_of_files_are_synchronised) {
  int file = OK(open("/root-file", O_CREAT | O_TRUNC | O_RDWR, 0600));
  EQUAL(write(file, "some text", 9), 9);
  OK(sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
  OK(sync_file_range(file, 1ll << 40, 5, SYNC_FILE_RANGE_WRITE));
  FAILS(sync_file_range(file, -1, 5, SYNC_FILE_RANGE_WRITE), EINVAL);
  FAILS(sync_file_range(file, 0, 5, 8), EINVAL);
  FAILS(sync_file_range(-1, 0, 5, 0), EBADF);
  int fds[2];
  OK(pipe(fds));
  FAILS(sync_file_range(fds[1], 0, 5, 0), ESPIPE);
  OK(unlink("/root-file"));
}

// Processes make, rename and remove the same names while the cache of names is emptied under them. One removed a file that was
// gone already, through a name that the cache had forgotten.
static void churn(const char *folder, int number) {
  char names[3][64], link_name[64];
  for (int i = 0; i < 3; i++) snprintf(names[i], sizeof names[i], "%s/name%d", folder, i);
  snprintf(link_name, sizeof link_name, "%s/link%d", folder, number);
  for (int i = 0; i < (torture() ? 6000 : 600); i++) {
    int file = open(names[i % 3], O_CREAT | O_RDWR, 0600);
    if (file >= 0) close(file);
    if (!link(names[i % 3], link_name)) OK(unlink(link_name));
    rename(names[i % 3], names[(i + 1) % 3]);
    unlink(names[(i + number) % 3]);
    if (i % 10 == 0) {
      int drop = open("/proc/sys/vm/drop_caches", O_WRONLY);
      if (drop >= 0) {
        if (write(drop, "2", 1) != 1) FAIL("drop");
        close(drop);
      }
    }
  }
}
LIMITED_CASE(names_change_under_a_dropped_cache, 60) {
  const char *folders[] = {"/tmp/churn", "/churn"};
  for (int i = 0; i < 2; i++) {
    OK(mkdir(folders[i], 0700));
    pid_t children[4];
    for (int n = 0; n < 4; n++) children[n] = CHILD(churn(folders[i], n));
    for (int n = 0; n < 4; n++) EQUAL(reap(children[n]), 0);
    for (int n = 0; n < 3; n++) {
      char name[64];
      snprintf(name, sizeof name, "%s/name%d", folders[i], n);
      unlink(name);
    }
    OK(rmdir(folders[i]));
  }
}
