// What is mounted where, and the ways through it.
#include "test.h"
#include <linux/openat2.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#ifndef SYS_openat2
#define SYS_openat2 437
#endif

static int open2(int directory, const char *path, unsigned long long flags, unsigned long long resolve) {
  struct open_how how = {.flags = flags, .mode = flags & O_CREAT ? 0600 : 0, .resolve = resolve};
  return syscall(SYS_openat2, directory, path, &how, sizeof how);
}
static void put(const char *name, const char *text) {
  int fd = OK(open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644));
  EQUAL(write(fd, text, strlen(text)), strlen(text));
  OK(close(fd));
}
static int is(const char *name, const char *text) {
  char found[100] = "";
  int fd = open(name, O_RDONLY);
  if (fd < 0) return 0;
  read(fd, found, sizeof found - 1);
  close(fd);
  return !strcmp(found, text);
}
static void tree(const char *name) {
  OK(mkdir(name, 0755));
  OK(mount("tmpfs", name, "tmpfs", 0, ""));
}

CASE(openat2_limits) {
  char here[400];
  CHECK(getcwd(here, sizeof here));
  OK(mkdir("a", 0755));
  OK(mkdir("a/b", 0755));
  put("a/b/file", "text");
  put("outside", "text");
  OK(symlink("b/file", "a/link"));
  OK(symlink("../outside", "a/out"));
  OK(symlink("/b/file", "a/rooted"));
  OK(symlink("b/..", "a/back"));
  tree("a/m");
  put("a/m/there", "text");
  int a = OK(open("a", O_RDONLY | O_DIRECTORY));
  // Beneath: nothing that leads out, also where it would lead back.
  OK(open2(a, "b/file", O_RDONLY, RESOLVE_BENEATH));
  OK(open2(a, "link", O_RDONLY, RESOLVE_BENEATH));
  OK(open2(a, "b/../b/file", O_RDONLY, RESOLVE_BENEATH));
  OK(open2(a, "back", O_RDONLY, RESOLVE_BENEATH));
  OK(open2(a, "m/../b/file", O_RDONLY, RESOLVE_BENEATH));
  FAILS(open2(a, "out", O_RDONLY, RESOLVE_BENEATH), EXDEV);
  FAILS(open2(a, "..", O_RDONLY, RESOLVE_BENEATH), EXDEV);
  FAILS(open2(a, "../a/b/file", O_RDONLY, RESOLVE_BENEATH), EXDEV);
  FAILS(open2(a, "rooted", O_RDONLY, RESOLVE_BENEATH), EXDEV);
  FAILS(open2(a, "/", O_RDONLY, RESOLVE_BENEATH), EXDEV);
  // In root: the directory is the root of it all.
  OK(open2(a, "rooted", O_RDONLY, RESOLVE_IN_ROOT));
  OK(open2(a, "/b/file", O_RDONLY, RESOLVE_IN_ROOT));
  OK(open2(a, "../../../b/file", O_RDONLY, RESOLVE_IN_ROOT));
  FAILS(open2(a, "out", O_RDONLY, RESOLVE_IN_ROOT), ENOENT);
  OK(open2(a, "new", O_RDWR | O_CREAT, RESOLVE_IN_ROOT));
  OK(open2(a, "/b/new", O_RDWR | O_CREAT, RESOLVE_IN_ROOT));
  OK(access("a/b/new", F_OK));
  FAILS(open2(a, "../new", O_RDWR | O_CREAT, RESOLVE_BENEATH), EXDEV);
  // Links.
  FAILS(open2(a, "link", O_RDONLY, RESOLVE_NO_SYMLINKS), ELOOP);
  FAILS(open2(a, "back/b/file", O_RDONLY, RESOLVE_NO_SYMLINKS), ELOOP);
  OK(open2(a, "link", O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS));
  OK(open2(a, "b/file", O_RDONLY, RESOLVE_NO_SYMLINKS));
  char magic[40];
  sprintf(magic, "/proc/self/fd/%d", a);
  OK(open2(AT_FDCWD, magic, O_RDONLY, 0));
  FAILS(open2(AT_FDCWD, magic, O_RDONLY, RESOLVE_NO_MAGICLINKS), ELOOP);
  FAILS(open2(AT_FDCWD, magic, O_RDONLY, RESOLVE_NO_SYMLINKS), ELOOP);
  int proc = OK(open("/proc/self/fd", O_RDONLY | O_DIRECTORY));
  sprintf(magic, "%d", a);
  FAILS(open2(proc, magic, O_RDONLY, RESOLVE_BENEATH), EXDEV);
  FAILS(open2(proc, magic, O_RDONLY, RESOLVE_IN_ROOT), EXDEV);
  FAILS(open2(proc, magic, O_RDONLY, RESOLVE_NO_XDEV), EXDEV);
  // Mounts.
  FAILS(open2(a, "m/there", O_RDONLY, RESOLVE_NO_XDEV), EXDEV);
  FAILS(open2(a, "m", O_RDONLY, RESOLVE_NO_XDEV), EXDEV);
  OK(open2(a, "b/file", O_RDONLY, RESOLVE_NO_XDEV));
  int m = OK(open("a/m", O_RDONLY | O_DIRECTORY));
  FAILS(open2(m, "..", O_RDONLY, RESOLVE_NO_XDEV), EXDEV);
  OK(open2(m, "there", O_RDONLY, RESOLVE_NO_XDEV));
  // What has been there just now is in memory.
  OK(open2(a, "b/file", O_RDONLY, RESOLVE_CACHED));
  FAILS(open2(a, "b/other", O_RDWR | O_CREAT, RESOLVE_CACHED), EAGAIN);
  FAILS(open2(a, "b/file", O_RDWR | O_TRUNC, RESOLVE_CACHED), EAGAIN);
  for (int fd = 3; fd < 60; fd++) close(fd);
  OK(umount("a/m"));
}

CASE(openat2_arguments) {
  put("file", "");
  struct {
    struct open_how how;
    char more[100];
  } long_one = {.how = {.flags = O_RDONLY}};
  int size = sizeof(struct open_how);
  OK(syscall(SYS_openat2, AT_FDCWD, "file", &long_one, size));
  OK(syscall(SYS_openat2, AT_FDCWD, "file", &long_one, sizeof long_one));
  long_one.more[99] = 1;
  FAILS(syscall(SYS_openat2, AT_FDCWD, "file", &long_one, sizeof long_one), E2BIG);
  FAILS(syscall(SYS_openat2, AT_FDCWD, "file", &long_one, size - 1), EINVAL);
  FAILS(syscall(SYS_openat2, AT_FDCWD, "file", &long_one, 5000), E2BIG);
  FAILS(syscall(SYS_openat2, AT_FDCWD, "file", NULL, size), EFAULT);
  struct open_how bad[] = {
      {.flags = 1ull << 40}, {.flags = 1 << 27},           {.flags = O_RDONLY, .mode = 0600},  {.flags = O_CREAT, .mode = 010000},
      {.resolve = 64},       {.resolve = 1ull << 40},      {.flags = O_PATH | O_RDWR},         {.flags = O_PATH | O_APPEND},
      {.resolve = RESOLVE_BENEATH | RESOLVE_IN_ROOT},
  };
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    if (syscall(SYS_openat2, AT_FDCWD, "file", &bad[i], size) != -1 || errno != EINVAL) FAIL("number %d was not refused", i);
  }
}

// A link that leads nowhere is where a file is made.
CASE(created_through_a_link) {
  OK(mkdir("d", 0755));
  OK(symlink("d/target", "link"));
  OK(symlink("link", "again"));
  OK(symlink("loop", "loop"));
  OK(symlink("nowhere/target", "lost"));
  OK(symlink("d/slash/", "slash"));
  OK(close(OK(open("again", O_CREAT | O_RDWR, 0600))));
  struct stat s;
  OK(lstat("d/target", &s));
  CHECK(S_ISREG(s.st_mode));
  FAILS(open("again", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
  FAILS(open("loop", O_CREAT | O_RDWR, 0600), ELOOP);
  FAILS(open("lost", O_CREAT | O_RDWR, 0600), ENOENT);
  FAILS(open("slash", O_CREAT | O_RDWR, 0600), EISDIR);
  FAILS(open("link", O_CREAT | O_NOFOLLOW | O_RDWR, 0600), ELOOP);
  FAILS(mkdir("lost", 0700), EEXIST);
}

// Processes in it have the new root, also those that did nothing.
CASE(pivot) {
  int child = fork(), ready[2];
  if (child == 0) {
    // Linux wants a namespace whose mounts are nobody else's.
    if (syscall(SYS_unshare, 0x20000) == 0) OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    tree("base");
    OK(chdir("base"));
    tree("new");
    OK(mkdir("new/old", 0755));
    OK(mkdir("new/other", 0755));
    put("new/here", "new");
    put("here", "old");
    OK(chroot("."));
    FAILS(syscall(SYS_pivot_root, "new/old", "new/old"), EINVAL);
    FAILS(syscall(SYS_pivot_root, "new", "."), EBUSY);
    FAILS(syscall(SYS_pivot_root, ".", "new/old"), EBUSY);
    FAILS(syscall(SYS_pivot_root, "missing", "new/old"), ENOENT);
    FAILS(syscall(SYS_pivot_root, "here", "new/old"), ENOTDIR);
    OK(pipe(ready));
    int other = fork();
    if (other == 0) {
      char c;
      OK(close(ready[1]));
      EQUAL(read(ready[0], &c, 1), 0);
      CHECK(is("/here", "new"));
      CHECK(is("here", "new"));
      exit(0);
    }
    OK(close(ready[0]));
    OK(syscall(SYS_pivot_root, "new", "new/old"));
    CHECK(is("/here", "new"));
    CHECK(is("here", "new"));
    CHECK(is("/old/here", "old"));
    OK(close(ready[1]));
    int status;
    EQUAL(waitpid(other, &status, 0), other);
    EQUAL(status, 0);
    OK(umount2("/old", MNT_DETACH));
    CHECK(!is("/old/here", "old"));
    // One on top of the other.
    tree("/third");
    put("/third/here", "third");
    OK(chdir("/third"));
    OK(syscall(SYS_pivot_root, ".", "."));
    OK(umount2(".", MNT_DETACH));
    OK(chdir("/"));
    CHECK(is("/here", "third"));
    exit(0);
  }
  int status;
  EQUAL(waitpid(child, &status, 0), child);
  EQUAL(status, 0);
  umount2("base", MNT_DETACH);
}

CASE(bind_with_all_below) {
  tree("from");
  OK(mkdir("from/in", 0755));
  tree("from/in/m");
  tree("from/in/m/n");
  tree("from/beside");
  put("from/in/m/n/deep", "deep");
  put("from/beside/there", "there");
  OK(mkdir("one", 0755));
  OK(mkdir("all", 0755));
  OK(mount("from", "one", NULL, MS_BIND, NULL));
  CHECK(!is("one/in/m/n/deep", "deep"));
  OK(mount("from/in", "all", NULL, MS_BIND | MS_REC, NULL));
  CHECK(is("all/m/n/deep", "deep"));
  FAILS(access("all/beside", F_OK), ENOENT);
  put("all/m/n/deep", "changed");
  CHECK(is("from/in/m/n/deep", "changed"));
  OK(umount("from/in/m/n"));
  CHECK(is("all/m/n/deep", "changed"));
  OK(umount2("all", MNT_DETACH));
  OK(umount("one"));
  OK(umount2("from", MNT_DETACH));
}

CASE(moved_mounts) {
  tree("top");
  OK(mount(NULL, "top", NULL, MS_PRIVATE, NULL));
  OK(mkdir("top/a", 0755));
  OK(mkdir("top/b", 0755));
  OK(mount("tmpfs", "top/a", "tmpfs", 0, ""));
  OK(mkdir("top/a/inside", 0755));
  put("top/a/file", "moves");
  FAILS(mount("top/a", "top/a/inside", NULL, MS_MOVE, NULL), ELOOP);
  FAILS(mount("top/b", "top/a", NULL, MS_MOVE, NULL), EINVAL);
  OK(mount("top/a", "top/b", NULL, MS_MOVE, NULL));
  CHECK(is("top/b/file", "moves"));
  FAILS(access("top/a/file", F_OK), ENOENT);
  OK(rmdir("top/a"));
  FAILS(rmdir("top/b"), EBUSY);
  OK(umount("top/b"));
  OK(rmdir("top/b"));
  OK(umount("top"));
}

CASE(unmounting) {
  tree("m");
  OK(symlink("m", "link"));
  FAILS(umount2("m", 0x40), EINVAL);
  FAILS(umount2("m", MNT_EXPIRE | MNT_DETACH), EINVAL);
  FAILS(umount2("link", UMOUNT_NOFOLLOW), EINVAL);
  // The second time, unless somebody was there in between.
  FAILS(umount2("m", MNT_EXPIRE), EAGAIN);
  OK(close(OK(open("m/file", O_CREAT | O_RDWR, 0600))));
  FAILS(umount2("m", MNT_EXPIRE), EAGAIN);
  OK(umount2("m", MNT_EXPIRE));
  FAILS(umount2("m", MNT_EXPIRE), EINVAL);
  OK(mount("tmpfs", "m", "tmpfs", 0, ""));
  OK(umount2("link", 0));
  FAILS(umount("m"), EINVAL);
}

// What such a mount says, and what it takes back.
CASE(synchronous_mounts) {
  OK(mkdir("m", 0755));
  OK(mount("tmpfs", "m", "tmpfs", MS_SYNCHRONOUS | MS_DIRSYNC | MS_NODEV, ""));
  put("m/file", "text");
  char line[400];
  int found = 0;
  FILE *mounts = fopen("/proc/mounts", "r");
  while (fgets(line, sizeof line, mounts))
    if (strstr(line, "/m tmpfs ")) found = strstr(line, ",sync") && strstr(line, ",dirsync") && strstr(line, ",nodev");
  fclose(mounts);
  CHECK(found);
  OK(mkdir("m/d", 0755));
  OK(rename("m/file", "m/d/file"));
  OK(unlink("m/d/file"));
  OK(umount("m"));
}
