// Calls that take paths, area by area, with the errors that POSIX and the manual pages list for them; each in memory and on the
// disk, as the superuser and as somebody else.
#include "test.h"
#include <grp.h>
#include <sys/sysmacros.h>

// As user and group 1000; the errno, or 0.
#define AS_USER(call)                                                                                 \
  ({                                                                                                  \
    OK(setegid(1000));                                                                                \
    OK(seteuid(1000));                                                                                \
    errno = 0;                                                                                        \
    int error_ = (call) == -1 ? errno : 0;                                                            \
    OK(seteuid(0));                                                                                   \
    OK(setegid(0));                                                                                   \
    error_;                                                                                           \
  })
static char *volatile nowhere;
static struct stat status;
static struct stat *at(const char *path) {
  OK(lstat(path, &status));
  return &status;
}
static void make(const char *path, int mode) {
  int fd = OK(open(path, O_CREAT | O_EXCL | O_WRONLY, 0600));
  EQUAL(write(fd, "0123456789", 10), 10);
  OK(fchmod(fd, mode));
  OK(close(fd));
}
static void directory(const char *path, int mode) {
  OK(mkdir(path, 0700));
  OK(chmod(path, mode));
}
static int opened(int fd) {
  if (fd >= 0) OK(close(fd));
  return fd < 0 ? -1 : 0;
}

// What every one of them says of the way to a name, and of a file as if it were a directory. The user may do everything in `free`, nothing in `closed`.
static void the_way(int (*call)(const char *), int slash) {
  static char name[300], path[5000];
  make("file", 0666);
  directory("free", 0777);
  directory("closed", 0700);
  OK(symlink("loop", "loop"));
  OK(symlink("nothing", "dangling"));
  FAILS(call("file/x"), ENOTDIR);
  FAILS(call("file/"), slash);
  FAILS(call("file/."), ENOTDIR);
  FAILS(call("missing/x"), ENOENT);
  FAILS(call("dangling/x"), ENOENT);
  FAILS(call("loop/x"), ELOOP);
  FAILS(call(""), ENOENT);
  FAILS(call(nowhere), EFAULT);
  FAILS(call((char *)-1), EFAULT);
  memset(name, 'n', 256);
  FAILS(call(name), ENAMETOOLONG);
  memcpy(name, "free/", 5);
  memset(name + 5, 'n', 256);
  FAILS(call(name), ENAMETOOLONG);
  for (int i = 0; i < 4096; i += 2) memcpy(path + i, "./", 2);
  FAILS(call(path), ENAMETOOLONG);
  EQUAL(AS_USER(call("closed/x")), EACCES);
  OK(chmod("closed", 0666));
  EQUAL(AS_USER(call("closed/x")), EACCES);
  OK(unlink("file"));
  OK(rmdir("free"));
  OK(rmdir("closed"));
  OK(unlink("loop"));
  OK(unlink("dangling"));
}
// A name that is 255 bytes long, which is the most.
static const char *longest(void) {
  static char name[256];
  memset(name, 'l', 255);
  return name;
}
// Runs a call on a name in a file system that is read-only; the errno, or 0. There are `file` and `sub`.
static char base[200];
static int read_only(int (*call)(const char *), const char *name) {
  char place[240], file[280], sub[280], path[300];
  snprintf(place, sizeof place, "%s/ro", base);
  snprintf(file, sizeof file, "%s/file", place);
  snprintf(sub, sizeof sub, "%s/sub", place);
  snprintf(path, sizeof path, "%s/%s", place, name);
  OK(mkdir(place, 0755));
  OK(mount("none", place, "tmpfs", 0, "size=1m"));
  make(file, 0666);
  directory(sub, 0777);
  OK(mount("none", place, "tmpfs", MS_REMOUNT | MS_RDONLY, "size=1m"));
  errno = 0;
  int error = call(path) == -1 ? errno : 0;
  OK(umount(place));
  OK(rmdir(place));
  return error;
}

static void each(void (*body)(void)) {
  CHECK(getcwd(base, sizeof base));
  int start = OK(open(".", O_RDONLY | O_DIRECTORY));
  umask(0);
  in_memory();
  OK(chmod(".", 0777));
  body();
  OK(fchdir(start));
  on_disk();
  OK(chmod(".", 0777));
  body();
  off_disk();
}

// 01: chmod
static int do_chmod(const char *path) { return chmod(path, 0600); }
static void chmod_body(void) {
  the_way(do_chmod, ENOTDIR);
  EQUAL(read_only(do_chmod, "file"), EROFS);
  make("a", 0644);
  for (int mode = 0; mode < 010000; mode += 0111) {
    OK(chmod("a", mode));
    EQUAL(at("a")->st_mode, S_IFREG | mode);
  }
  OK(symlink("a", "s"));
  OK(chmod("s", 0640));
  EQUAL(at("a")->st_mode & 07777, 0640);
  EQUAL(at("s")->st_mode & 07777, 0777);
  FAILS(chmod("missing", 0), ENOENT);
  // Only the owner may.
  EQUAL(AS_USER(chmod("a", 0666)), EPERM);
  OK(chown("a", 1000, 1000));
  EQUAL(AS_USER(chmod("a", 04755)), 0);
  EQUAL(at("a")->st_mode & 07777, 04755);
  // Set-group-id is not given to who is not of the group.
  OK(chown("a", 1000, 2000));
  EQUAL(AS_USER(chmod("a", 02755)), 0);
  EQUAL(at("a")->st_mode & 07777, 0755);
  // A writer who is not the superuser takes the bits away.
  OK(chown("a", 1000, 1000));
  OK(chmod("a", 06777));
  int fd = OK(open("a", O_WRONLY));
  EQUAL(AS_USER(write(fd, "x", 1)), 0);
  EQUAL(at("a")->st_mode & 07777, 0777);
  OK(close(fd));
  FAILS(fchmod(fd, 0), EBADF);
  OK(unlink("a"));
  OK(unlink("s"));
}
CASE(chmod) { each(chmod_body); }

// 02: chown
static int do_chown(const char *path) { return chown(path, 1, 2); }
static void chown_body(void) {
  the_way(do_chown, ENOTDIR);
  EQUAL(read_only(do_chown, "file"), EROFS);
  make("a", 0644);
  OK(chown("a", 100, 200));
  EQUAL(at("a")->st_uid, 100);
  EQUAL(at("a")->st_gid, 200);
  OK(chown("a", -1, 300));
  EQUAL(at("a")->st_uid, 100);
  OK(chown("a", 400, -1));
  EQUAL(at("a")->st_gid, 300);
  OK(symlink("a", "s"));
  OK(lchown("s", 7, 8));
  EQUAL(at("s")->st_uid, 7);
  EQUAL(at("a")->st_uid, 400);
  OK(chown("s", 9, 10));
  EQUAL(at("a")->st_uid, 9);
  FAILS(chown("missing", 0, 0), ENOENT);
  // Nobody gives files away, and only to a group that he is of.
  OK(chown("a", 1000, 1000));
  EQUAL(AS_USER(chown("a", 1001, -1)), EPERM);
  EQUAL(AS_USER(chown("a", -1, 1001)), EPERM);
  EQUAL(AS_USER(chown("a", 1000, 1000)), 0);
  EQUAL(AS_USER(chown("a", -1, -1)), 0);
  gid_t more = 1001;
  OK(setgroups(1, &more));
  EQUAL(AS_USER(chown("a", -1, 1001)), 0);
  EQUAL(at("a")->st_gid, 1001);
  OK(setgroups(0, NULL));
  OK(chown("a", 0, 0));
  EQUAL(AS_USER(chown("a", -1, 1000)), EPERM);
  // The bits go with the owner; set-group-id without execution is another thing, and stays. A directory keeps them.
  OK(chmod("a", 06755));
  OK(chown("a", 5, 5));
  EQUAL(at("a")->st_mode & 07777, 0755);
  OK(chmod("a", 02644));
  OK(chown("a", 6, 6));
  EQUAL(at("a")->st_mode & 07777, 02644);
  directory("d", 06777);
  OK(chown("d", 6, 6));
  EQUAL(at("d")->st_mode & 07777, 06777);
  OK(rmdir("d"));
  OK(unlink("a"));
  OK(unlink("s"));
}
CASE(chown) { each(chown_body); }

// 03: link
static int link_to(const char *path) { return link("original", path); }
static int link_from(const char *path) { return link(path, "copy"); }
static void link_body(void) {
  make("original", 0644);
  the_way(link_from, ENOTDIR);
  the_way(link_to, EEXIST);
  OK(link("original", longest()));
  OK(unlink(longest()));
  FAILS(link("missing", "copy"), ENOENT);
  directory("d", 0755);
  FAILS(link("d", "copy"), EPERM);
  FAILS(link("original", "d"), EEXIST);
  FAILS(link("original", "original"), EEXIST);
  FAILS(link("original", "new/"), ENOENT);
  // As its owner: others may be kept from making links at all.
  OK(chown("original", 1000, 1000));
  EQUAL(AS_USER(link("original", "d/x")), EACCES);
  OK(chown("original", 0, 0));
  EQUAL(read_only(link_to, "new"), EROFS);
  // All are one file.
  OK(link("original", "d/second"));
  EQUAL(at("original")->st_nlink, 2);
  ino_t number = at("original")->st_ino;
  EQUAL(at("d/second")->st_ino, number);
  OK(chmod("d/second", 0600));
  EQUAL(at("original")->st_mode & 07777, 0600);
  OK(unlink("original"));
  EQUAL(at("d/second")->st_nlink, 1);
  // A link is linked itself, unless it is to be followed.
  OK(symlink("d/second", "s"));
  OK(link("s", "s2"));
  CHECK(S_ISLNK(at("s2")->st_mode));
  EQUAL(at("s")->st_nlink, 2);
  OK(linkat(AT_FDCWD, "s", AT_FDCWD, "followed", AT_SYMLINK_FOLLOW));
  EQUAL(at("followed")->st_ino, number);
  FAILS(linkat(AT_FDCWD, "s", AT_FDCWD, "x", 1), EINVAL);
  OK(unlink("s"));
  OK(unlink("s2"));
  OK(unlink("followed"));
  OK(unlink("d/second"));
  OK(rmdir("d"));
}
CASE(link) { each(link_body); }

// 04: mkdir
static int do_mkdir(const char *path) { return mkdir(path, 0755); }
static void mkdir_body(void) {
  static char path[5000];
  make("file", 0644);
  OK(symlink("nothing", "dangling"));
  FAILS(mkdir("file", 0755), EEXIST);
  FAILS(mkdir("file/", 0755), EEXIST);
  FAILS(mkdir("file/x", 0755), ENOTDIR);
  FAILS(mkdir("missing/x", 0755), ENOENT);
  FAILS(mkdir("dangling", 0755), EEXIST);
  FAILS(mkdir("dangling/", 0755), EEXIST);
  FAILS(mkdir(".", 0755), EEXIST);
  FAILS(mkdir("..", 0755), EEXIST);
  FAILS(mkdir("/", 0755), EEXIST);
  FAILS(mkdir("", 0755), ENOENT);
  FAILS(do_mkdir(nowhere), EFAULT);
  for (int i = 0; i < 4096; i += 2) memcpy(path + i, "./", 2);
  FAILS(mkdir(path, 0755), ENAMETOOLONG);
  EQUAL(read_only(do_mkdir, "new"), EROFS);
  EQUAL(read_only(do_mkdir, "sub"), EEXIST);
  directory("d", 0755);
  EQUAL(AS_USER(mkdir("d/x", 0755)), EACCES);
  nlink_t links = at("d")->st_nlink;
  umask(022);
  OK(mkdir("d/sub///", 07777));
  umask(0);
  EQUAL(at("d/sub")->st_mode, S_IFDIR | 01755);
  EQUAL(at("d/sub")->st_nlink, 2);
  EQUAL(at("d")->st_nlink, links + 1);
  OK(rmdir("d/sub"));
  OK(mkdir(longest(), 0755));
  OK(rmdir(longest()));
  // A set-group-id directory gives its group and the bit on.
  OK(chown("d", 0, 77));
  OK(chmod("d", 02777));
  EQUAL(AS_USER(mkdir("d/mine", 0755)), 0);
  EQUAL(at("d/mine")->st_uid, 1000);
  EQUAL(at("d/mine")->st_gid, 77);
  EQUAL(at("d/mine")->st_mode & 07777, 02755);
  EQUAL(AS_USER(opened(creat("d/file", 0644))), 0);
  EQUAL(at("d/file")->st_gid, 77);
  EQUAL(at("d/file")->st_mode & 07777, 0644);
  OK(unlink("d/file"));
  OK(rmdir("d/mine"));
  OK(rmdir("d"));
  OK(unlink("file"));
  OK(unlink("dangling"));
}
CASE(mkdir) { each(mkdir_body); }

// 05: mkfifo, mknod
static int do_mkfifo(const char *path) { return mkfifo(path, 0644); }
static int do_mknod(const char *path) { return mknod(path, S_IFREG | 0644, 0); }
static void mknod_body(void) {
  static char path[5000];
  int (*calls[])(const char *) = {do_mkfifo, do_mknod};
  for (int i = 0; i < 2; i++) {
    make("file", 0644);
    directory("closed", 0700);
    OK(symlink("nothing", "dangling"));
    FAILS(calls[i]("file"), EEXIST);
    FAILS(calls[i]("dangling"), EEXIST);
    FAILS(calls[i]("closed"), EEXIST);
    FAILS(calls[i]("file/x"), ENOTDIR);
    FAILS(calls[i]("missing/x"), ENOENT);
    FAILS(calls[i]("new/"), ENOENT);
    FAILS(calls[i](""), ENOENT);
    FAILS(calls[i](nowhere), EFAULT);
    for (int k = 0; k < 4096; k += 2) memcpy(path + k, "./", 2);
    FAILS(calls[i](path), ENAMETOOLONG);
    EQUAL(AS_USER(calls[i]("closed/x")), EACCES);
    OK(chmod("closed", 0755));
    EQUAL(AS_USER(calls[i]("closed/x")), EACCES);
    EQUAL(read_only(calls[i], "new"), EROFS);
    OK(calls[i](longest()));
    OK(unlink(longest()));
    OK(unlink("file"));
    OK(unlink("dangling"));
    OK(rmdir("closed"));
  }
  umask(027);
  OK(mkfifo("f", 0666));
  umask(0);
  EQUAL(at("f")->st_mode, S_IFIFO | 0640);
  EQUAL(at("f")->st_size, 0);
  OK(unlink("f"));
  OK(mknod("c", S_IFCHR | 0600, makedev(1, 3)));
  EQUAL(at("c")->st_mode, S_IFCHR | 0600);
  EQUAL(at("c")->st_rdev, makedev(1, 3));
  OK(unlink("c"));
  OK(mknod("b", S_IFBLK | 0600, makedev(259, 300)));
  EQUAL(at("b")->st_rdev, makedev(259, 300));
  OK(unlink("b"));
  OK(mknod("s", S_IFSOCK | 0600, 0));
  EQUAL(at("s")->st_mode, S_IFSOCK | 0600);
  FAILS(open("s", O_RDONLY), ENXIO);
  OK(unlink("s"));
  FAILS(mknod("x", S_IFDIR | 0700, 0), EPERM);
  FAILS(mknod("x", S_IFLNK | 0700, 0), EINVAL);
  EQUAL(AS_USER(mknod("x", S_IFCHR | 0600, makedev(1, 3))), EPERM);
  EQUAL(AS_USER(mkfifo("x", 0600)), 0);
  EQUAL(at("x")->st_uid, 1000);
  OK(unlink("x"));
}
CASE(mknod) { each(mknod_body); }

// 06: open
static int open_read(const char *path) { return opened(open(path, O_RDONLY)); }
static int open_write(const char *path) { return opened(open(path, O_WRONLY)); }
static int open_make(const char *path) { return opened(open(path, O_WRONLY | O_CREAT, 0644)); }
static int open_new(const char *path) { return opened(open(path, O_WRONLY | O_CREAT | O_EXCL, 0644)); }
static int open_empty(const char *path) { return opened(open(path, O_RDONLY | O_TRUNC)); }
static void open_body(void) {
  the_way(open_read, ENOTDIR);
  the_way(open_write, ENOTDIR);
  EQUAL(read_only(open_read, "file"), 0);
  EQUAL(read_only(open_write, "file"), EROFS);
  EQUAL(read_only(open_make, "file"), EROFS);
  EQUAL(read_only(open_make, "new"), EROFS);
  EQUAL(read_only(open_new, "file"), EEXIST);
  EQUAL(read_only(open_empty, "file"), EROFS);
  make("a", 0644);
  directory("d", 0755);
  FAILS(open_read("missing"), ENOENT);
  FAILS(open_new("a"), EEXIST);
  FAILS(open_new("d"), EEXIST);
  FAILS(open_make("d"), EISDIR);
  FAILS(open_write("d"), EISDIR);
  FAILS(open_make("new/"), EISDIR);
  FAILS(open("a", O_RDONLY | O_DIRECTORY), ENOTDIR);
  OK(open_read("d/"));
  OK(symlink("a", "s"));
  OK(symlink("made", "dangling"));
  FAILS(open("s", O_RDONLY | O_NOFOLLOW), ELOOP);
  FAILS(open_new("s"), EEXIST);
  FAILS(open_new("dangling"), EEXIST);
  OK(open_make("dangling"));
  EQUAL(at("made")->st_size, 0);
  OK(unlink("made"));
  OK(unlink("dangling"));
  // Rights: owner, group, others, each alone.
  OK(chown("a", 1000, 1000));
  struct { int mode, uid, gid, read, write; } rights[] = {
    {0400, 1000, 1000, 0, EACCES}, {0200, 1000, 1000, EACCES, 0},  {0077, 1000, 1000, EACCES, EACCES},
    {0040, 0, 1000, 0, EACCES},    {0020, 0, 1000, EACCES, 0},     {0707, 0, 1000, EACCES, EACCES},
    {0004, 0, 0, 0, EACCES},       {0002, 0, 0, EACCES, 0},        {0770, 0, 0, EACCES, EACCES},
  };
  for (unsigned i = 0; i < sizeof rights / sizeof *rights; i++) {
    OK(chown("a", rights[i].uid, rights[i].gid));
    OK(chmod("a", rights[i].mode));
    EQUAL(AS_USER(open_read("a")), rights[i].read);
    EQUAL(AS_USER(open_write("a")), rights[i].write);
    // Who empties a file that he reads does both.
    EQUAL(AS_USER(open_empty("a")), EACCES);
  }
  EQUAL(at("a")->st_size, 10);
  OK(chmod("a", 0606));
  EQUAL(AS_USER(open_empty("a")), 0);
  EQUAL(at("a")->st_size, 0);
  OK(chmod("a", 0));
  OK(open_read("a"));
  OK(open_write("a"));
  // What is made has the rights asked for, not those of how it is open.
  EQUAL(AS_USER(opened(open("n", O_RDWR | O_CREAT, 0))), 0);
  EQUAL(AS_USER(open_read("n")), EACCES);
  EQUAL(at("n")->st_uid, 1000);
  OK(unlink("n"));
  EQUAL(AS_USER(open_make("d/x")), EACCES);
  OK(open_make(longest()));
  OK(unlink(longest()));
  OK(mkfifo("f", 0666));
  FAILS(open("f", O_WRONLY | O_NONBLOCK), ENXIO);
  OK(unlink("f"));
  OK(unlink("a"));
  OK(unlink("s"));
  OK(rmdir("d"));
}
CASE(open) { each(open_body); }

// 07: rename
static int rename_from(const char *path) { return rename(path, "moved"); }
static int rename_to(const char *path) { return rename("original", path); }
static void rename_body(void) {
  the_way(rename_from, ENOTDIR);
  make("original", 0644);
  the_way(rename_to, ENOTDIR);
  EQUAL(read_only(rename_to, "new"), EXDEV);
  FAILS(rename("missing", "x"), ENOENT);
  FAILS(rename("original", "x/"), ENOTDIR);
  directory("d", 0755);
  directory("d/e", 0755);
  directory("full", 0755);
  make("full/file", 0644);
  FAILS(rename("original", "d"), EISDIR);
  FAILS(rename("d", "original"), ENOTDIR);
  FAILS(rename("d", "full"), ENOTEMPTY);
  FAILS(rename("d", "d/x"), EINVAL);
  FAILS(rename("d", "d/e/x"), EINVAL);
  FAILS(rename("d/e", "d"), ENOTEMPTY);
  FAILS(rename(".", "x"), EBUSY);
  FAILS(rename("d/.", "x"), EBUSY);
  FAILS(rename("d", "full/.."), EBUSY);
  // One file under two names: nothing happens.
  OK(link("original", "second"));
  OK(rename("original", "second"));
  EQUAL(at("original")->st_nlink, 2);
  OK(rename("second", "second"));
  OK(unlink("second"));
  // Over another file, which goes; over an empty directory.
  make("victim", 0600);
  int fd = OK(open("victim", O_RDONLY));
  ino_t number = at("original")->st_ino;
  OK(rename("original", "victim"));
  EQUAL(at("victim")->st_ino, number);
  FAILS(lstat("original", &status), ENOENT);
  OK(fstat(fd, &status));
  EQUAL(status.st_nlink, 0);
  OK(close(fd));
  directory("target", 0755);
  number = at("d")->st_ino;
  OK(rename("d", "target"));
  EQUAL(at("target")->st_ino, number);
  EQUAL(at("target/e/..")->st_ino, number);
  // A directory that moves is counted where it is.
  nlink_t links = at("full")->st_nlink;
  OK(rename("target/e", "full/e"));
  EQUAL(at("full")->st_nlink, links + 1);
  EQUAL(at("target")->st_nlink, 2);
  EQUAL(at("full/e/..")->st_ino, at("full")->st_ino);
  // Links are moved themselves.
  OK(symlink("nothing", "s"));
  OK(rename("s", "s2"));
  CHECK(S_ISLNK(at("s2")->st_mode));
  // Rights: of both directories, and of the directory that moves, for it changes its parent.
  EQUAL(AS_USER(rename("full/file", "mine")), EACCES);
  EQUAL(AS_USER(rename("s2", "full/s2")), EACCES);
  OK(chmod("full", 0777));
  EQUAL(AS_USER(rename("full/e", "e")), EACCES);
  EQUAL(AS_USER(rename("full/e", "full/e2")), 0);
  // In a sticky directory only who owns the file or the directory.
  OK(chmod("full", 01777));
  EQUAL(AS_USER(rename("full/file", "mine")), EPERM);
  make("own", 0644);
  OK(chown("own", 1000, 1000));
  EQUAL(AS_USER(rename("own", "full/file")), EPERM);
  OK(chown("full/file", 1000, 1000));
  EQUAL(AS_USER(rename("own", "full/file")), 0);
  EQUAL(AS_USER(rename("full/file", "own")), 0);
  OK(rename("own", longest()));
  OK(unlink(longest()));
  OK(rmdir("full/e2"));
  OK(rmdir("full"));
  OK(rmdir("target"));
  OK(unlink("victim"));
  OK(unlink("s2"));
}
CASE(rename) { each(rename_body); }

// 08: rmdir
static void rmdir_body(void) {
  the_way(rmdir, ENOTDIR);
  EQUAL(read_only(rmdir, "sub"), EROFS);
  directory("d", 0755);
  directory("d/e", 0755);
  make("file", 0644);
  OK(symlink("d/e", "s"));
  FAILS(rmdir("missing"), ENOENT);
  FAILS(rmdir("file"), ENOTDIR);
  FAILS(rmdir("s"), ENOTDIR);
  FAILS(rmdir("s/"), ENOTDIR);
  FAILS(rmdir("d"), ENOTEMPTY);
  FAILS(rmdir("d/e/."), EINVAL);
  FAILS(rmdir("d/e/.."), ENOTEMPTY);
  FAILS(rmdir("/"), EBUSY);
  EQUAL(AS_USER(rmdir("d/e")), EACCES);
  OK(chmod("d", 01777));
  EQUAL(AS_USER(rmdir("d/e")), EPERM);
  char place[240];
  snprintf(place, sizeof place, "%s/mounted", base);
  OK(mkdir(place, 0755));
  OK(mount("none", place, "tmpfs", 0, ""));
  FAILS(rmdir(place), EBUSY);
  OK(umount(place));
  OK(rmdir(place));
  // Who is in it stays in nothing.
  int start = OK(open(".", O_RDONLY | O_DIRECTORY));
  OK(chdir("d/e"));
  int here = OK(open(".", O_RDONLY | O_DIRECTORY));
  OK(rmdir("../e"));
  FAILS(mkdir("x", 0755), ENOENT);
  FAILS(open("x", O_CREAT | O_WRONLY, 0644), ENOENT);
  FAILS(open("missing", O_RDONLY), ENOENT);
  OK(fstat(here, &status));
  EQUAL(status.st_nlink, 0);
  char text[100];
  FAILS(syscall(SYS_getcwd, text, sizeof text), ENOENT);
  OK(close(here));
  OK(fchdir(start));
  OK(close(start));
  EQUAL(at("d")->st_nlink, 2);
  FAILS(rmdir("s"), ENOTDIR);
  OK(rmdir("d"));
  OK(unlink("file"));
  OK(unlink("s"));
}
CASE(rmdir) { each(rmdir_body); }

// 09: symlink, readlink
static int do_symlink(const char *path) { return symlink("x", path); }
static void symlink_body(void) {
  static char path[5000];
  char text[300];
  make("file", 0644);
  directory("closed", 0755);
  OK(symlink("nothing", "dangling"));
  FAILS(symlink("x", "file"), EEXIST);
  FAILS(symlink("x", "dangling"), EEXIST);
  FAILS(symlink("x", "closed"), EEXIST);
  FAILS(symlink("x", "file/y"), ENOTDIR);
  FAILS(symlink("x", "missing/y"), ENOENT);
  FAILS(symlink("x", "new/"), ENOENT);
  FAILS(symlink("x", ""), ENOENT);
  FAILS(symlink("", "new"), ENOENT);
  FAILS(symlink(nowhere, "new"), EFAULT);
  FAILS(symlink("x", nowhere), EFAULT);
  EQUAL(AS_USER(symlink("x", "closed/y")), EACCES);
  EQUAL(read_only(do_symlink, "new"), EROFS);
  memset(path, 'p', 4096);
  FAILS(symlink(path, "new"), ENAMETOOLONG);
  FAILS(symlink("x", path), ENAMETOOLONG);
  OK(symlink("x", longest()));
  OK(unlink(longest()));
  // What it says comes back, with its length for the size.
  for (int length = 1; length < 4096; length = length * 3 / 2 + 1) {
    memset(path, 'q', length);
    path[length] = 0;
    static char found[5000];
    OK(symlink(path, "long"));
    EQUAL(at("long")->st_size, length);
    EQUAL(at("long")->st_mode, S_IFLNK | 0777);
    EQUAL(readlink("long", found, sizeof found), length);
    CHECK(!memcmp(found, path, length));
    EQUAL(readlink("long", found, 1), 1);
    OK(unlink("long"));
  }
  FAILS(readlink("file", text, sizeof text), EINVAL);
  FAILS(readlink("closed", text, sizeof text), EINVAL);
  FAILS(readlink("dangling", text, 0), EINVAL);
  FAILS(readlink("dangling", (char *)-1, 10), EFAULT);
  FAILS(readlink("missing", text, sizeof text), ENOENT);
  FAILS(readlink("dangling/", text, sizeof text), ENOENT);
  // Forty in a row are followed, and no more.
  make("link0", 0644);
  for (int i = 1; i <= 41; i++) {
    char from[20], to[20];
    snprintf(from, sizeof from, "link%d", i - 1);
    snprintf(to, sizeof to, "link%d", i);
    OK(symlink(from, to));
  }
  OK(stat("link40", &status));
  FAILS(stat("link41", &status), ELOOP);
  for (int i = 0; i <= 41; i++) {
    char name[20];
    snprintf(name, sizeof name, "link%d", i);
    OK(unlink(name));
  }
  OK(unlink("file"));
  OK(unlink("dangling"));
  OK(rmdir("closed"));
}
CASE(symlink) { each(symlink_body); }

// 10: truncate
static int do_truncate(const char *path) { return truncate(path, 3); }
static void truncate_body(void) {
  the_way(do_truncate, ENOTDIR);
  EQUAL(read_only(do_truncate, "file"), EROFS);
  make("a", 0644);
  directory("d", 0777);
  FAILS(truncate("missing", 0), ENOENT);
  FAILS(truncate("d", 0), EISDIR);
  FAILS(truncate("a", -1), EINVAL);
  OK(mkfifo("f", 0666));
  FAILS(truncate("f", 0), EINVAL);
  EQUAL(AS_USER(truncate("a", 0)), EACCES);
  OK(truncate("a", 20000));
  EQUAL(at("a")->st_size, 20000);
  char text[20] = "";
  int fd = OK(open("a", O_RDONLY));
  EQUAL(pread(fd, text, 12, 8), 12);
  CHECK(!memcmp(text, "89\0\0\0\0\0\0\0\0\0\0", 12));
  FAILS(ftruncate(fd, 0), EINVAL);
  OK(close(fd));
  FAILS(ftruncate(fd, 0), EBADF);
  // What was cut off does not come back.
  OK(truncate("a", 5));
  OK(truncate("a", 10));
  fd = OK(open("a", O_RDWR));
  EQUAL(read(fd, text, 10), 10);
  CHECK(!memcmp(text, "01234\0\0\0\0\0", 10));
  OK(ftruncate(fd, 0));
  EQUAL(at("a")->st_size, 0);
  FAILS(syscall(SYS_ftruncate64, fd, 0, 0x80000000), EINVAL);
  OK(close(fd));
  // The times change, and the bits that give rights go.
  OK(chown("a", 1000, 1000));
  OK(chmod("a", 06777));
  struct timespec old[2] = {{1000, 0}, {1000, 0}};
  OK(utimensat(AT_FDCWD, "a", old, 0));
  EQUAL(AS_USER(truncate("a", 7)), 0);
  CHECK(at("a")->st_mtime > 1000);
  EQUAL(at("a")->st_mode & 07777, 0777);
  OK(unlink("a"));
  OK(unlink("f"));
  OK(rmdir("d"));
}
CASE(truncate) { each(truncate_body); }

// 11: unlink
static void unlink_body(void) {
  the_way(unlink, ENOTDIR);
  EQUAL(read_only(unlink, "file"), EROFS);
  directory("d", 0755);
  make("d/file", 0644);
  OK(symlink("d", "s"));
  FAILS(unlink("missing"), ENOENT);
  FAILS(unlink("d"), EISDIR);
  FAILS(unlink("d/"), EISDIR);
  FAILS(unlink("d/."), EISDIR);
  FAILS(unlink("s/"), ENOTDIR);
  FAILS(unlinkat(AT_FDCWD, "d", 1), EINVAL);
  FAILS(unlinkat(AT_FDCWD, "d/file", AT_REMOVEDIR), ENOTDIR);
  EQUAL(AS_USER(unlink("d/file")), EACCES);
  OK(chmod("d", 01777));
  EQUAL(AS_USER(unlink("d/file")), EPERM);
  OK(chown("d/file", 1000, 1000));
  EQUAL(AS_USER(unlink("d/file")), 0);
  OK(chown("d", 1000, 1000));
  make("d/file", 0644);
  EQUAL(AS_USER(unlink("d/file")), 0);
  // An open file lives on.
  make("a", 0644);
  OK(link("a", "b"));
  int fd = OK(open("a", O_RDWR));
  OK(unlink("a"));
  OK(fstat(fd, &status));
  EQUAL(status.st_nlink, 1);
  OK(unlink("b"));
  OK(fstat(fd, &status));
  EQUAL(status.st_nlink, 0);
  char text[10];
  EQUAL(pread(fd, text, 10, 0), 10);
  CHECK(!memcmp(text, "0123456789", 10));
  OK(close(fd));
  OK(unlink("s"));
  OK(rmdir("d"));
}
CASE(unlink) { each(unlink_body); }

// 12: utimensat
static int do_utimes(const char *path) { return syscall(SYS_utimensat, AT_FDCWD, path, NULL, 0); }
static void utimes_body(void) {
  the_way(do_utimes, ENOTDIR);
  EQUAL(read_only(do_utimes, "file"), EROFS);
  make("a", 0644);
  OK(symlink("a", "s"));
  struct timespec times[2] = {{1000000, 4000}, {2000000, 8000}};
  OK(utimensat(AT_FDCWD, "a", times, 0));
  EQUAL(at("a")->st_atime, 1000000);
  EQUAL(at("a")->st_mtime, 2000000);
  CHECK(at("a")->st_ctime > 2000000);
  // One alone, both now, none.
  times[0].tv_nsec = UTIME_OMIT;
  times[1].tv_sec = 3000000;
  OK(utimensat(AT_FDCWD, "a", times, 0));
  EQUAL(at("a")->st_atime, 1000000);
  EQUAL(at("a")->st_mtime, 3000000);
  times[1].tv_nsec = UTIME_OMIT;
  OK(utimensat(AT_FDCWD, "a", times, 0));
  EQUAL(at("a")->st_mtime, 3000000);
  times[1].tv_nsec = UTIME_NOW;
  OK(utimensat(AT_FDCWD, "a", times, 0));
  CHECK(at("a")->st_mtime > 3000000);
  EQUAL(at("a")->st_atime, 1000000);
  // Of a link itself, or of what it leads to.
  struct timespec both[2] = {{5000000, 0}, {6000000, 0}};
  OK(utimensat(AT_FDCWD, "s", both, AT_SYMLINK_NOFOLLOW));
  EQUAL(at("s")->st_mtime, 6000000);
  CHECK(at("a")->st_mtime != 6000000);
  OK(utimensat(AT_FDCWD, "s", both, 0));
  EQUAL(at("a")->st_mtime, 6000000);
  FAILS(utimensat(AT_FDCWD, "missing", both, 0), ENOENT);
  // Of an open file; and of nothing, whatever it is called.
  int fd = OK(open("a", O_RDONLY));
  OK(futimens(fd, times));
  OK(utimensat(fd, "", both, AT_EMPTY_PATH));
  EQUAL(at("a")->st_mtime, 6000000);
  OK(close(fd));
  FAILS(futimens(fd, both), EBADF);
  struct timespec none[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
  OK(utimensat(AT_FDCWD, "missing", none, 0));
  FAILS(utimensat(AT_FDCWD, "a", both, 1), EINVAL);
  both[0].tv_nsec = 1000000000;
  FAILS(utimensat(AT_FDCWD, "a", both, 0), EINVAL);
  both[0].tv_nsec = -1;
  FAILS(utimensat(AT_FDCWD, "a", both, 0), EINVAL);
  FAILS(syscall(SYS_utimensat, AT_FDCWD, "a", -1, 0), EFAULT);
  // Who may write may say that it is now; only the owner may say anything else.
  struct timespec some[2] = {{1, 0}, {1, 0}}, now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}}, mixed[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
  EQUAL(AS_USER(utimensat(AT_FDCWD, "a", NULL, 0)), EACCES);
  EQUAL(AS_USER(utimensat(AT_FDCWD, "a", now, 0)), EACCES);
  EQUAL(AS_USER(utimensat(AT_FDCWD, "a", some, 0)), EPERM);
  EQUAL(AS_USER(utimensat(AT_FDCWD, "a", mixed, 0)), EPERM);
  OK(chmod("a", 0666));
  EQUAL(AS_USER(utimensat(AT_FDCWD, "a", NULL, 0)), 0);
  EQUAL(AS_USER(utimensat(AT_FDCWD, "a", now, 0)), 0);
  EQUAL(AS_USER(utimensat(AT_FDCWD, "a", some, 0)), EPERM);
  OK(chown("a", 1000, 1000));
  OK(chmod("a", 0));
  EQUAL(AS_USER(utimensat(AT_FDCWD, "a", some, 0)), 0);
  EQUAL(at("a")->st_atime, 1);
  OK(unlink("a"));
  OK(unlink("s"));
}
CASE(utimensat) { each(utimes_body); }

// A directory that somebody makes a file in is not removed, nor replaced, at the same time: the file would be lost.
static void removed_while_filled_body(void) {
  OK(mkdir("spare", 0755));
  OK(mkdir("d", 0755));
  pid_t removers[2];
  removers[0] = CHILD({
    for (;;)
      if (!rmdir("d")) mkdir("d", 0755);
  });
  removers[1] = CHILD({
    for (;;)
      if (!rename("spare", "d")) mkdir("spare", 0755);
  });
  int made = 0;
  for (int tries = 0; tries < 100000 && made < (torture() ? 20000 : 1000); tries++) {
    int fd = open("d/f", O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (fd < 0) continue;
    made++;
    if (unlink("d/f")) FAIL("lost after %d", made);
    OK(close(fd));
  }
  for (int i = 0; i < 2; i++) {
    OK(kill(removers[i], SIGKILL));
    reap(removers[i]);
  }
  printf("# %d files\n", made);
  CHECK(made > 100);
  rmdir("spare");
  rmdir("d");
}
LIMITED_CASE(removed_while_filled, 120) {
  on_disk();
  removed_while_filled_body();
  off_disk();
}
LIMITED_CASE(removed_while_filled_in_memory, 120) {
  in_memory();
  removed_while_filled_body();
}

// Who is in a directory that has been removed sees that it is empty, and gets out of it.
static void removed_here_body(void) {
  struct stat before, after;
  char text[200];
  OK(mkdir("up", 0755));
  OK(mkdir("up/here", 0755));
  OK(stat("up/here", &before));
  OK(chdir("up/here"));
  OK(rmdir("../here"));
  FAILS(stat("../here", &after), ENOENT);
  OK(stat(".", &after));
  EQUAL(after.st_ino, before.st_ino);
  EQUAL(after.st_nlink, 0);
  CHECK(!getcwd(text, sizeof text) && errno == ENOENT);
  FAILS(open("file", O_CREAT | O_WRONLY, 0644), ENOENT);
  FAILS(mkdir("directory", 0755), ENOENT);
  FAILS(rename("../../up", "moved"), ENOENT);
  FAILS(mount("none", ".", "tmpfs", 0, ""), ENOENT);
  FAILS(stat("nothing", &after), ENOENT);
  int fd = OK(open(".", O_RDONLY | O_DIRECTORY));
  FAILS(syscall(SYS_getdents64, fd, text, sizeof text), ENOENT);
  OK(fchdir(fd));
  OK(close(fd));
  long length = OK(readlink("/proc/self/cwd", text, sizeof text - 1));
  text[length] = 0;
  CHECK(strstr(text, "/up/here (deleted)"));
  // Another one of its name is not it.
  OK(mkdir("../here", 0755));
  OK(stat("../here", &after));
  CHECK(after.st_ino != before.st_ino);
  FAILS(stat("../here/file", &after), ENOENT);
  CHECK(!getcwd(text, sizeof text) && errno == ENOENT);
  OK(chdir(".."));
  CHECK(strstr(getcwd(text, sizeof text), "/up"));
  OK(rmdir("here"));
  OK(chdir(".."));
  OK(rmdir("up"));
}
CASE(removed_here) {
  on_disk();
  removed_here_body();
  off_disk();
}
CASE(removed_here_in_memory) {
  OK(mkdir("m", 0755));
  OK(mount("none", "m", "tmpfs", 0, ""));
  OK(chdir("m"));
  removed_here_body();
  OK(chdir(".."));
  OK(umount("m"));
}
