// Overlays: directory trees laid over each other. On Linux the layers are in memory as well; there overlay is a module.
#include "test.h"
#include <dirent.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>

static void put(const char *name, const char *text) {
  int fd = OK(open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644));
  EQUAL(write(fd, text, strlen(text)), strlen(text));
  OK(close(fd));
}
static void expect(const char *name, const char *text) {
  char found[100] = "";
  int fd = OK(open(name, O_RDONLY));
  OK(read(fd, found, sizeof found - 1));
  OK(close(fd));
  if (strcmp(found, text)) FAIL("%s has %s, not %s", name, found, text);
}
static struct stat status(const char *name) {
  struct stat s;
  if (lstat(name, &s)) FAIL("%s", name);
  return s;
}
static int is_whiteout(const char *name) {
  struct stat s = status(name);
  return S_ISCHR(s.st_mode) && s.st_rdev == 0;
}
// The names in a directory, sorted, each with a blank behind it.
static char *names(const char *directory) {
  static char text[4096];
  struct dirent **list;
  int count = OK(scandir(directory, &list, NULL, alphasort));
  *text = 0;
  for (int i = 0; i < count; i++) {
    if (strcmp(list[i]->d_name, ".") && strcmp(list[i]->d_name, "..")) strcat(strcat(text, list[i]->d_name), " ");
    free(list[i]);
  }
  free(list);
  return text;
}
static void lists(const char *directory, const char *wanted) {
  char *found = names(directory);
  if (strcmp(found, wanted)) FAIL("%s lists %s, not %s", directory, found, wanted);
}
static void lay(const char *options) {
  if (mount("overlay", "m", "overlay", 0, options)) FAIL("%s", options);
}
#define PLAIN "lowerdir=l,upperdir=u,workdir=w"
// Empty layers, in memory.
static void layers(void) {
  load_module("overlay");
  OK(mkdir("memory", 0755));
  OK(mount("none", "memory", "tmpfs", 0, "size=64m"));
  OK(chdir("memory"));
  for (const char *name = "lkuwm"; *name; name++) {
    char text[2] = {*name};
    OK(mkdir(text, 0755));
  }
}

static void end(void) {
  OK(chdir(".."));
  OK(umount("memory"));
  OK(rmdir("memory"));
}

CASE(one_over_the_other) {
  layers();
  put("l/below", "below"), put("l/both", "below");
  OK(mkdir("l/d", 0755)), put("l/d/x", "below"), put("l/d/y", "below");
  put("u/above", "above"), put("u/both", "above");
  OK(mkdir("u/d", 0700)), put("u/d/y", "above"), put("u/d/z", "above");
  lay(PLAIN);
  lists("m", "above below both d ");
  lists("m/d", "x y z ");
  expect("m/below", "below"), expect("m/both", "above"), expect("m/d/x", "below"), expect("m/d/y", "above");
  EQUAL(status("m/d").st_mode & 07777, 0700);
  FAILS(open("m/none", O_RDONLY), ENOENT);
  FAILS(open("m/below/none", O_RDONLY), ENOTDIR);
  put("m/new", "new");
  expect("u/new", "new");
  FAILS(access("l/new", F_OK), ENOENT);
  OK(mkdir("m/e", 0751));
  EQUAL(status("u/e").st_mode & 07777, 0751);
  char text[4096] = "";
  int fd = OK(open("/proc/mounts", O_RDONLY));
  OK(read(fd, text, sizeof text - 1));
  OK(close(fd));
  CHECK(strstr(text, " overlay rw"));
  CHECK(strstr(text, "lowerdir=l,upperdir=u,workdir=w"));
  EQUAL(OK(umount("m")), 0);
  lists("m", "");
  end();
}

CASE(a_write_makes_a_copy) {
  layers();
  put("l/f", "below"), OK(chown("l/f", 7, 8)), OK(chmod("l/f", 04751));
  struct timespec times[2] = {{100, 5}, {200, 6}};
  OK(utimensat(AT_FDCWD, "l/f", times, 0));
  OK(mkdir("l/d", 0750)), OK(mkdir("l/d/e", 0711)), put("l/d/e/g", "below");
  lay(PLAIN);
  struct stat before = status("m/f"), in = status("m/d/e/g"), above = status("m/d/e");
  int old = OK(open("m/f", O_RDONLY));
  // To read is no reason.
  expect("m/f", "below");
  FAILS(access("u/f", F_OK), ENOENT);
  int fd = OK(open("m/f", O_RDWR));
  struct stat copy = status("u/f"), now;
  EQUAL(copy.st_uid, 7); EQUAL(copy.st_gid, 8); EQUAL(copy.st_mode & 07777, 04751);
  EQUAL(copy.st_mtim.tv_sec, 200); EQUAL(copy.st_mtim.tv_nsec, 6); EQUAL(copy.st_size, 5);
  EQUAL(pwrite(fd, "B", 1, 0), 1);
  expect("m/f", "Below"), expect("u/f", "Below"), expect("l/f", "below");
  // It is the same file for who has it open.
  char text[6] = "";
  EQUAL(pread(old, text, 5, 0), 5);
  CHECK(!strcmp(text, "Below"));
  OK(fstat(old, &now));
  EQUAL(now.st_ino, before.st_ino); EQUAL(now.st_dev, before.st_dev);
  now = status("m/f");
  EQUAL(now.st_ino, before.st_ino); EQUAL(now.st_dev, before.st_dev); EQUAL(now.st_size, 5);
  // Directories on the way keep what they are.
  put("m/d/e/g", "changed");
  expect("u/d/e/g", "changed"), expect("l/d/e/g", "below");
  EQUAL(status("u/d").st_mode & 07777, 0750); EQUAL(status("u/d/e").st_mode & 07777, 0711);
  EQUAL(status("m/d/e/g").st_ino, in.st_ino); EQUAL(status("m/d/e").st_ino, above.st_ino);
  EQUAL(status("m/d/e").st_mtim.tv_nsec, above.st_mtim.tv_nsec);
  OK(close(fd)), OK(close(old)), OK(umount("m"));
  end();
}

CASE(every_change_makes_a_copy) {
  layers();
  char name[20], value[4];
  for (int i = 0; i < 12; i++) {
    snprintf(name, sizeof name, "l/%d", i);
    put(name, "below");
    OK(setxattr(name, "trusted.k", "abc", 3, 0));
  }
  OK(symlink("0", "l/link")), OK(mkfifo("l/fifo", 0600)), OK(mknod("l/null", S_IFCHR | 0600, makedev(1, 3)));
  OK(mkdir("l/d", 0700)), OK(setxattr("l/d", "trusted.k", "abc", 3, 0));
  lay(PLAIN);
  OK(chmod("m/0", 0600));
  OK(chown("m/1", 3, 4));
  OK(utimensat(AT_FDCWD, "m/2", (struct timespec[]){{1, 0}, {2, 0}}, 0));
  OK(truncate("m/3", 2));
  OK(setxattr("m/4", "trusted.n", "new", 3, 0));
  OK(removexattr("m/5", "trusted.k"));
  OK(link("m/6", "m/six"));
  OK(rename("m/7", "m/seven"));
  OK(close(OK(open("m/8", O_WRONLY | O_TRUNC))));
  OK(close(OK(open("m/9", O_WRONLY | O_APPEND))));
  int fd = OK(open("m/10", O_RDONLY));
  OK(fchmod(fd, 0601));
  OK(close(fd));
  OK(lchown("m/link", 5, 6));
  OK(chmod("m/fifo", 0620)), OK(chmod("m/null", 0640)), OK(chmod("m/d", 0705));
  EQUAL(status("u/0").st_mode & 07777, 0600); EQUAL(status("u/1").st_uid, 3); EQUAL(status("u/2").st_mtime, 2);
  expect("u/3", "be"), expect("u/4", "below"), expect("u/5", "below"), expect("u/six", "below");
  expect("u/seven", "below"), expect("u/8", ""), expect("u/9", "below"); EQUAL(status("u/10").st_mode & 07777, 0601);
  CHECK(is_whiteout("u/7"));
  EQUAL(getxattr("m/4", "trusted.k", value, 4), 3); EQUAL(getxattr("m/4", "trusted.n", value, 4), 3);
  FAILS(getxattr("m/5", "trusted.k", value, 4), ENODATA);
  EQUAL(getxattr("m/d", "trusted.k", value, 4), 3);
  EQUAL(status("m/6").st_ino, status("m/six").st_ino); EQUAL(status("m/6").st_nlink, 2);
  EQUAL(status("m/link").st_uid, 5); EQUAL(readlink("m/link", name, sizeof name), 1);
  CHECK(S_ISFIFO(status("u/fifo").st_mode)); EQUAL(status("u/null").st_rdev, makedev(1, 3));
  FAILS(access("u/11", F_OK), ENOENT);
  for (int i = 0; i < 12; i++) {
    snprintf(name, sizeof name, "l/%d", i);
    expect(name, "below");
    EQUAL(status(name).st_mode & 07777, 0644);
  }
  OK(umount("m"));
  end();
}

CASE(who_may_not_write_changes_nothing) {
  layers();
  put("l/f", "below"), OK(mkdir("l/d", 0755)), put("l/d/g", "below");
  lay(PLAIN);
  pid_t child = CHILD(
    OK(setuid(1000)); FAILS(open("m/f", O_RDONLY | O_TRUNC), EACCES); FAILS(open("m/f", O_RDWR), EACCES);
    FAILS(truncate("m/f", 0), EACCES); FAILS(chmod("m/f", 0600), EPERM); FAILS(chown("m/f", 1000, 1000), EPERM);
    FAILS(setxattr("m/f", "user.a", "b", 1, 0), EACCES); FAILS(utimensat(AT_FDCWD, "m/f", NULL, 0), EACCES);
    FAILS(unlink("m/d/g"), EACCES); FAILS(rename("m/d/g", "m/d/h"), EACCES); FAILS(open("m/d/n", O_CREAT | O_RDWR, 0600), EACCES);
    FAILS(mkdir("m/d/n", 0700), EACCES));
  EQUAL(reap(child), 0);
  lists("u", "");
  expect("m/f", "below");
  OK(umount("m"));
  end();
}

CASE(what_is_removed_is_hidden) {
  layers();
  put("l/f", "below"), put("l/g", "below"), OK(mkdir("l/d", 0755)), put("l/d/x", "below"), OK(mkdir("l/d/y", 0755));
  lay(PLAIN);
  OK(unlink("m/f"));
  FAILS(access("m/f", F_OK), ENOENT);
  CHECK(is_whiteout("u/f"));
  lists("m", "d g ");
  FAILS(unlink("m/f"), ENOENT);
  put("m/f", "new");
  expect("u/f", "new"), expect("m/f", "new");
  OK(unlink("m/f"));
  CHECK(is_whiteout("u/f"));
  // A directory in a file's place.
  OK(mkdir("m/f", 0755));
  char value[4] = "";
  EQUAL(getxattr("u/f", "trusted.overlay.opaque", value, 4), 1);
  EQUAL(*value, 'y');
  OK(rmdir("m/f"));
  CHECK(is_whiteout("u/f"));
  FAILS(rmdir("m/d"), ENOTEMPTY);
  OK(unlink("m/d/x"));
  FAILS(rmdir("m/d"), ENOTEMPTY);
  OK(rmdir("m/d/y"));
  lists("m/d", "");
  OK(rmdir("m/d"));
  CHECK(is_whiteout("u/d"));
  lists("m", "g ");
  // What was in it does not come back.
  OK(mkdir("m/d", 0755));
  lists("m/d", "");
  put("m/d/x", "new");
  expect("u/d/x", "new");
  OK(umount("m"));
  lay(PLAIN);
  lists("m", "d g ");
  lists("m/d", "x ");
  lists("w/work", "");
  OK(umount("m"));
  lists("l/d", "x y ");
  end();
}

CASE(moving) {
  layers();
  put("l/a", "a"), put("l/b", "b"), put("l/c", "c"), put("l/e", "e"), OK(mkdir("l/d", 0755)), put("l/d/x", "below");
  OK(mkdir("l/old", 0755)), put("l/old/y", "below");
  lay(PLAIN);
  unsigned long number = status("m/a").st_ino;
  OK(rename("m/a", "m/new"));
  EQUAL(status("m/new").st_ino, number);
  CHECK(is_whiteout("u/a"));
  OK(rename("m/b", "m/c"));
  expect("m/c", "b"), expect("l/c", "c");
  OK(rename("m/c", "m/a"));
  expect("m/a", "b");
  lists("m", "a d e new old ");
  // Directories that have something below stay where they are.
  FAILS(rename("m/d", "m/other"), EXDEV);
  OK(mkdir("m/n", 0755)), put("m/n/z", "z");
  OK(rename("m/n", "m/b"));
  lists("m/b", "z ");
  // Nor do they meet what is below where they come to.
  OK(unlink("m/old/y")), OK(rename("m/b", "m/old"));
  lists("m/old", "z ");
  OK(unlink("m/d/x")), OK(rmdir("m/d")), OK(mkdir("m/n", 0755)), OK(rename("m/n", "m/d"));
  lists("m/d", "");
  lists("m", "a d e new old ");
  OK(syscall(SYS_renameat2, AT_FDCWD, "m/e", AT_FDCWD, "m/old", 2));
  expect("m/old", "e"), lists("m/e", "z ");
  FAILS(syscall(SYS_renameat2, AT_FDCWD, "m/a", AT_FDCWD, "m/new", 1), EEXIST);
  OK(umount("m"));
  lay(PLAIN);
  lists("m", "a d e new old ");
  expect("m/old", "e"), lists("m/e", "z "), lists("m/d", ""), expect("m/a", "b");
  EQUAL(status("m/new").st_ino, number);
  OK(umount("m"));
  end();
}

CASE(several_layers) {
  layers();
  put("l/a", "l"), put("l/b", "l"), put("l/c", "l"), OK(mkdir("l/d", 0755)), put("l/d/1", "l"), put("l/d/2", "l");
  OK(mkdir("l/o", 0755)), put("l/o/1", "l"), OK(mkdir("l/f", 0755)), put("l/f/x", "l");
  put("k/b", "k"), OK(mknod("k/c", S_IFCHR, 0)), OK(mkdir("k/d", 0755)), put("k/d/2", "k"), put("k/d/3", "k");
  OK(mkdir("k/o", 0755)), put("k/o/2", "k"), OK(setxattr("k/o", "trusted.overlay.opaque", "y", 1, 0));
  put("k/f", "k");
  // Nobody writes without an upper one.
  lay("lowerdir=k:l");
  lists("m", "a b d f o ");
  lists("m/d", "1 2 3 ");
  lists("m/o", "2 ");
  expect("m/a", "l"), expect("m/b", "k"), expect("m/d/2", "k"), expect("m/f", "k");
  FAILS(open("m/a", O_WRONLY), EROFS);
  FAILS(open("m/a", O_RDONLY | O_TRUNC), EROFS);
  FAILS(open("m/n", O_WRONLY | O_CREAT, 0600), EROFS);
  FAILS(unlink("m/a"), EROFS);
  FAILS(mkdir("m/n", 0700), EROFS);
  FAILS(rename("m/a", "m/n"), EROFS);
  FAILS(chmod("m/a", 0600), EROFS);
  OK(umount("m"));
  OK(mkdir("u/d", 0755)), put("u/d/4", "u");
  lay("lowerdir=k:l,upperdir=u,workdir=w");
  lists("m/d", "1 2 3 4 ");
  OK(unlink("m/d/2")), OK(unlink("m/d/1"));
  lists("m/d", "3 4 ");
  put("m/d/1", "new");
  lists("m/d", "1 3 4 ");
  OK(unlink("m/b"));
  put("m/c", "new");
  lists("m", "a c d f o ");
  expect("m/c", "new");
  EQUAL(status("m/d").st_nlink, 1);
  OK(umount("m"));
  // And layers with odd names.
  OK(rename("k", "k:,\\")), OK(mkdir("v", 0755)), OK(mkdir("x", 0755));
  lay("lowerdir=k\\:\\,\\\\:l,upperdir=v,workdir=x");
  expect("m/b", "k");
  OK(umount("m"));
  end();
}

CASE(files_without_names) {
  layers();
  put("l/f", "below");
  lay(PLAIN);
  // One that has lost its name gets a copy that has none.
  int fd = OK(open("m/f", O_RDONLY));
  OK(unlink("m/f"));
  OK(fchmod(fd, 0600));
  struct stat s;
  OK(fstat(fd, &s));
  EQUAL(s.st_mode & 07777, 0600); EQUAL(s.st_nlink, 0);
  char text[8] = "";
  EQUAL(read(fd, text, 8), 5);
  char name[40];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  int again = OK(open(name, O_RDWR));
  EQUAL(pwrite(again, "B", 1, 0), 1);
  EQUAL(pread(fd, text, 5, 0), 5);
  EQUAL(*text, 'B');
  FAILS(access("m/f", F_OK), ENOENT);
  OK(close(again)), OK(close(fd));
  // Nor has this one a name, but it gets one.
  fd = OK(open("m", O_TMPFILE | O_RDWR, 0640));
  EQUAL(write(fd, "tmp", 3), 3);
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  OK(linkat(AT_FDCWD, name, AT_FDCWD, "m/f", AT_SYMLINK_FOLLOW));
  expect("m/f", "tmp");
  OK(close(fd));
  OK(umount("m"));
  end();
}

CASE(open_files) {
  layers();
  put("l/g", "below"), put("l/h", "below");
  lay(PLAIN);
  // Locks are the file's, whoever has it open.
  int reader = OK(open("m/g", O_RDONLY)), writer = OK(open("m/g", O_RDWR));
  OK(flock(writer, LOCK_EX));
  FAILS(flock(reader, LOCK_SH | LOCK_NB), EWOULDBLOCK);
  OK(close(reader)), OK(close(writer));
  // Shared memory.
  int fd = OK(open("m/h", O_RDWR));
  char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(shared != MAP_FAILED);
  EQUAL(*shared, 'b');
  *shared = 'B';
  expect("m/h", "Below"), expect("u/h", "Below"), expect("l/h", "below");
  OK(munmap(shared, 4096)), OK(close(fd));
  OK(umount("m"));
  end();
}

CASE(special_files) {
  layers();
  OK(mkfifo("l/p", 0600)), OK(mknod("l/zero", S_IFCHR | 0600, makedev(1, 5))), OK(symlink("target", "l/s"));
  put("l/target", "below");
  lay(PLAIN);
  char text[20] = "";
  pid_t child = CHILD(int fd = OK(open("m/p", O_WRONLY)); EQUAL(write(fd, "pipe", 4), 4));
  int fd = OK(open("m/p", O_RDONLY));
  EQUAL(read(fd, text, 20), 4);
  OK(close(fd));
  EQUAL(reap(child), 0);
  fd = OK(open("m/zero", O_RDWR));
  EQUAL(read(fd, text, 3), 3);
  EQUAL(*text, 0);
  OK(close(fd));
  expect("m/s", "below");
  // No reason for copies.
  lists("u", "");
  struct sockaddr_un address = {AF_UNIX, "m/socket"};
  int server = OK(socket(AF_UNIX, SOCK_STREAM, 0)), client = OK(socket(AF_UNIX, SOCK_STREAM, 0));
  OK(bind(server, (void *)&address, sizeof address)), OK(listen(server, 1));
  OK(connect(client, (void *)&address, sizeof address));
  OK(close(server)), OK(close(client));
  // A program from below, and one that came up.
  for (int round = 0; round < 2; round++) {
    if (!round) {
      static char block[1 << 16];
      int from = OK(open("/proc/self/exe", O_RDONLY)), to = OK(open("l/program", O_WRONLY | O_CREAT, 0755));
      for (ssize_t count; (count = OK(read(from, block, sizeof block)));) EQUAL(write(to, block, count), count);
      OK(close(from)), OK(close(to));
      OK(umount("m"));
      lay(PLAIN);
    } else {
      OK(chmod("m/program", 0700));
    }
    child = CHILD(int null = OK(open("/dev/null", O_WRONLY)); OK(dup2(null, 1)); execl("m/program", "program", "--list", NULL); _exit(9));
    EQUAL(reap(child), 0);
  }
  OK(umount("m"));
  end();
}

CASE(large_directories) {
  layers();
  char name[300];
  for (int i = 0; i < 1500; i++) {
    snprintf(name, sizeof name, "%c/file-%d", i & 1 ? 'l' : 'u', i);
    put(name, "");
    snprintf(name, sizeof name, "l/both-%d", i);
    if (i < 300) put(name, "");
    *name = 'u';
    if (i < 300) put(name, "");
  }
  lay(PLAIN);
  // Every name once, with the number that stat has, while others go.
  DIR *directory = opendir("m");
  CHECK(directory);
  int count = 0;
  static char seen[1500];
  for (struct dirent *entry; (entry = readdir(directory));) {
    if (*entry->d_name == '.') continue;
    snprintf(name, sizeof name, "m/%s", entry->d_name);
    EQUAL(status(name).st_ino, entry->d_ino);
    int number = atoi(strchr(entry->d_name, '-') + 1);
    if (*entry->d_name == 'f') {
      CHECK(!seen[number]);
      seen[number] = 1;
    }
    OK(unlink(name));
    count++;
  }
  OK(closedir(directory));
  EQUAL(count, 1800);
  lists("m", "");
  OK(umount("m"));
  end();
}

CASE(attributes_of_its_own) {
  layers();
  put("l/f", "below"), OK(setxattr("l/f", "trusted.a", "1", 1, 0));
  lay(PLAIN);
  OK(chmod("m/f", 0600));
  OK(unlink("m/f")), OK(mkdir("m/f", 0755));
  char text[200] = "";
  EQUAL(listxattr("m/f", text, sizeof text), 0);
  EQUAL(getxattr("u/f", "trusted.overlay.opaque", text, sizeof text), 1);
  FAILS(getxattr("m/f", "trusted.overlay.opaque", text, sizeof text), EOPNOTSUPP);
  FAILS(setxattr("m/f", "trusted.overlay.opaque", "n", 1, 0), EOPNOTSUPP);
  FAILS(removexattr("m/f", "trusted.overlay.opaque"), EOPNOTSUPP);
  OK(umount("m"));
  end();
}

CASE(bad_mounts) {
  layers();
  OK(mkdir("u/in", 0755)), put("l/file", ""), OK(mkdir("other", 0755));
  OK(mount("none", "other", "tmpfs", 0, ""));
  OK(mkdir("other/w", 0755));
  const struct {
    const char *options;
    int error;
  } bad[] = {
    {"", EINVAL}, {"lowerdir=l", EINVAL}, {"lowerdir=l,upperdir=u", EINVAL}, {"lowerdir=l,workdir=w", EINVAL},
    {"upperdir=u,workdir=w", EINVAL}, {"lowerdir=none,upperdir=u,workdir=w", ENOENT}, {"lowerdir=l,upperdir=u,workdir=u/in", EINVAL},
    {"lowerdir=l,upperdir=u/in,workdir=u", EINVAL}, {"lowerdir=l,upperdir=u,workdir=u", EINVAL},
    {"lowerdir=l,upperdir=u,workdir=other/w", EINVAL}, {"lowerdir=l,upperdir=u,workdir=w,what=ever", EINVAL},
    {"lowerdir=l,upperdir=u,workdir=w,index=perhaps", EINVAL}, {"lowerdir=l,upperdir=/proc,workdir=/proc", EINVAL},
  };
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    errno = 0;
    if (mount("overlay", "m", "overlay", 0, bad[i].options) != -1 || errno != bad[i].error) FAIL("%s", bad[i].options);
  }
  lists("m", "");
  OK(umount("other"));
  // And then a good one; its layers cannot go under it, nor can it while it is used.
  OK(rmdir("u/in"));
  lay(PLAIN ",index=off,redirect_dir=off,metacopy=off");
  int fd = OK(open("m/file", O_RDONLY));
  FAILS(umount("m"), EBUSY);
  OK(close(fd));
  OK(umount("m"));
  end();
}

// MARK: The same operations in an overlay and in a plain directory

static uint32_t state;
static unsigned random_below(unsigned limit) {
  state ^= state << 13, state ^= state >> 17, state ^= state << 5;
  return state % limit;
}
static const char *random_path(void) {
  static char text[4][64];
  static int next;
  char *path = text[next++ & 3];
  int depth = 1 + random_below(3), length = 0;
  for (int i = 0; i < depth; i++) length += sprintf(path + length, "%s%c", i ? "/" : "", 'a' + random_below(4));
  return path;
}
static const char *in_tree(const char *root, const char *path) {
  static char text[4][80];
  static int next;
  char *full = text[next++ & 3];
  sprintf(full, "%s/%s", root, path);
  return full;
}
static int act(const char *root, int what, const char *a, const char *b, unsigned value) {
  const char *path = in_tree(root, a), *other = in_tree(root, b);
  char text[20];
  int fd, result = 0;
  switch (what) {
  case 0:
  case 1:
    if ((fd = open(path, O_RDWR | O_CREAT | (value & 1 ? O_TRUNC : 0) | (value & 2 ? O_EXCL : 0), 0600 + value % 64)) < 0) return -1;
    sprintf(text, "%u", value);
    EQUAL(pwrite(fd, text, strlen(text), value % 20), strlen(text));
    return close(fd);
  case 2: return unlink(path);
  case 3: return mkdir(path, 0700 + value % 64);
  case 4: return rmdir(path);
  case 5: return rename(path, other);
  case 6: return link(path, other);
  case 7: return symlink(b, path);
  case 8: return chmod(path, 0600 + value % 64);
  case 9: return truncate(path, value % 40);
  case 10:
    if ((fd = open(path, O_RDONLY)) < 0) return -1;
    result = fchown(fd, value % 5, value % 7);
    return close(fd) ?: result;
  case 11: return syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, other, 1 + value % 2);
  }
  return 0;
}
// What two trees have must be the same.
static int compared;
static void compare(const char *one, const char *other) {
  struct stat a = status(one), b = status(other);
  if (a.st_mode != b.st_mode) FAIL("%s is %o, %s %o", one, a.st_mode, other, b.st_mode);
  EQUAL(a.st_uid, b.st_uid); EQUAL(a.st_gid, b.st_gid);
  char x[4096] = "", y[4096] = "";
  compared++;
  if (S_ISREG(a.st_mode)) {
    if (a.st_size != b.st_size) FAIL("%s: %ld and %ld bytes", one, (long)a.st_size, (long)b.st_size);
    int f = OK(open(one, O_RDONLY)), g = OK(open(other, O_RDONLY));
    EQUAL(read(f, x, sizeof x), read(g, y, sizeof y));
    if (memcmp(x, y, sizeof x)) FAIL("%s: %s and %s", one, x, y);
    OK(close(f)), OK(close(g));
  } else if (S_ISLNK(a.st_mode)) {
    EQUAL(readlink(one, x, sizeof x), readlink(other, y, sizeof y));
    CHECK(!strcmp(x, y));
  } else {
    strcpy(x, names(one)), strcpy(y, names(other));
    if (strcmp(x, y)) FAIL("%s has %s, %s has %s", one, x, other, y);
    char *rest = x;
    for (char *name; (name = strsep(&rest, " ")) && *name;) {
      char next[2][128];
      snprintf(next[0], 128, "%s/%s", one, name), snprintf(next[1], 128, "%s/%s", other, name);
      compare(next[0], next[1]);
    }
  }
}
static void like_a_plain_one(uint32_t seed, int operations) {
  state = seed * 2654435761u + 1;
  OK(mkdir("plain", 0755)), OK(mkdir("copy", 0755));
  const char *trees[] = {"l", "plain", "copy"};
  for (int i = 0; i < 40; i++) {
    int what = random_below(3) == 0 ? 0 : random_below(3) == 0 ? 7 : 3;
    const char *a = random_path(), *b = random_path();
    unsigned value = random_below(1000);
    for (int tree = 0; tree < 3; tree++) act(trees[tree], what, a, b, value);
  }
  lay(PLAIN);
  compare("m", "plain");
  for (int i = 0; i < operations; i++) {
    int what = random_below(12);
    const char *a = random_path(), *b = random_path();
    unsigned value = random_below(1000);
    errno = 0;
    int result = act("m", what, a, b, value), error = result ? errno : 0;
    if (result && error == EXDEV) continue;
    errno = 0;
    int wanted = act("plain", what, a, b, value);
    if (result != wanted || error != (wanted ? errno : 0))
      FAIL("seed %u, operation %d: %d of %s and %s, %u: %d, errno %d; plain %d", seed, i, what, a, b, value, result, error, wanted);
    if (i % 64 == 0) compare("m", "plain");
    if (i % 256 == 255) {
      OK(umount("m"));
      lay(PLAIN);
      compare("m", "plain");
    }
  }
  compare("m", "plain");
  OK(umount("m"));
  compare("l", "copy");
  CHECK(compared > 20);
}

CASE(random_operations) {
  for (int seed = 1; seed <= (torture() ? 100 : 6); seed++) {
    layers();
    like_a_plain_one(seed, torture() ? 4000 : 700);
    end();
  }
}

CASE(on_the_disk) {
  load_module("overlay");
  on_disk();
  for (const char *name = "lkuwm"; *name; name++) {
    char text[2] = {*name};
    OK(mkdir(text, 0755));
  }
  like_a_plain_one(77, 500);
  off_disk();
}

CASE(at_once) {
  layers();
  char name[40];
  for (int i = 0; i < 64; i++) {
    snprintf(name, sizeof name, "l/%d", i);
    put(name, "0123456789");
  }
  lay(PLAIN);
  // Who opens a file to write finds one copy, whoever makes it.
  pid_t children[4];
  for (int child = 0; child < 4; child++)
    children[child] = CHILD(for (int i = 0; i < 64; i++) {
      char path[40];
      snprintf(path, sizeof path, "m/%d", i);
      int fd = OK(open(path, O_RDWR));
      EQUAL(pwrite(fd, "x", 1, child), 1);
      OK(close(fd));
      snprintf(path, sizeof path, "m/%d-%d", child, i);
      put(path, "new");
      if (i & 1) OK(unlink(path));
    });
  for (int child = 0; child < 4; child++) EQUAL(reap(children[child]), 0);
  for (int i = 0; i < 64; i++) {
    snprintf(name, sizeof name, "m/%d", i);
    expect(name, "xxxx456789");
  }
  OK(umount("m"));
  end();
}
