// Extended attributes.
#include "test.h"
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

// Who asks a file system that has none hears so, not that the call is missing.
CASE(answers) {
  char value[64];
  OK(close(open("file", O_CREAT | O_WRONLY, 0644)));
  CHECK(getxattr("file", "user.none", value, sizeof value) == -1 && (errno == EOPNOTSUPP || errno == ENODATA));
  CHECK(lgetxattr(".", "system.posix_acl_access", value, sizeof value) == -1 && (errno == EOPNOTSUPP || errno == ENODATA));
  CHECK(fgetxattr(open("file", O_RDONLY), "user.none", value, sizeof value) == -1 && (errno == EOPNOTSUPP || errno == ENODATA));
  CHECK(listxattr("file", value, sizeof value) >= 0);
  FAILS(getxattr("missing", "user.none", value, sizeof value), ENOENT);
  FAILS(listxattr("missing", value, sizeof value), ENOENT);
  FAILS(fgetxattr(99, "user.none", value, sizeof value), EBADF);
  FAILS(getxattr("/proc/version", "user.none", value, sizeof value), EOPNOTSUPP);
  FAILS(setxattr("/proc/version", "user.none", value, 1, 0), EOPNOTSUPP);
}

// Whether the names of a file are those of a list, in whatever order, and no others.
static int lists(const char *path, const char *space, int count, const char **rest) {
  char names[4096];
  int length = OK(listxattr(path, names, sizeof names));
  EQUAL(listxattr(path, NULL, 0), length);
  int found = 0, total = 0;
  for (char *name = names; name < names + length; name += strlen(name) + 1) {
    if (strncmp(name, space, strlen(space))) continue;
    total++;
    for (int i = 0; i < count; i++) found += !strcmp(name + strlen(space), rest[i]);
  }
  return found == count && total == count;
}

static void attributes(const char *space) {
  char name[300], other[300], value[70000];
  sprintf(name, "%sname", space);
  sprintf(other, "%sanother", space);
  int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  OK(setxattr("file", name, "value", 5, 0));
  EQUAL(getxattr("file", name, NULL, 0), 5);
  memset(value, 0, sizeof value);
  EQUAL(getxattr("file", name, value, sizeof value), 5);
  CHECK(!strcmp(value, "value"));
  FAILS(getxattr("file", name, value, 4), ERANGE);
  FAILS(getxattr("file", other, value, 4), ENODATA);
  FAILS(fremovexattr(fd, other), ENODATA);
  FAILS(fsetxattr(fd, name, "x", 1, XATTR_CREATE), EEXIST);
  FAILS(fsetxattr(fd, other, "x", 1, XATTR_REPLACE), ENODATA);
  FAILS(fsetxattr(fd, other, "x", 1, 4), EINVAL);
  OK(fsetxattr(fd, other, "", 0, XATTR_CREATE));
  EQUAL(fgetxattr(fd, other, value, sizeof value), 0);
  CHECK(lists("file", space, 2, (const char *[]){"name", "another"}));
  FAILS(listxattr("file", value, 3), ERANGE);
  OK(fsetxattr(fd, name, "longer than before", 18, XATTR_REPLACE));
  EQUAL(fgetxattr(fd, name, value, sizeof value), 18);
  CHECK(!memcmp(value, "longer than before", 18));
  for (int i = 0; i < 20; i++) {
    sprintf(other, "%snumber%d", space, i);
    memset(value, i, 64);
    OK(setxattr("file", other, value, i * 3, 0));
  }
  for (int i = 0; i < 20; i += 2) {
    sprintf(other, "%snumber%d", space, i);
    OK(removexattr("file", other));
  }
  for (int i = 0; i < 20; i++) {
    sprintf(other, "%snumber%d", space, i);
    int got = getxattr("file", other, value, sizeof value);
    EQUAL(got, i & 1 ? i * 3 : -1);
    for (int at = 0; at < got; at++) EQUAL(value[at], i);
  }
  // They are the file's, not the name's.
  OK(link("file", "link"));
  OK(symlink("file", "symbolic"));
  EQUAL(getxattr("link", name, NULL, 0), 18);
  EQUAL(getxattr("symbolic", name, NULL, 0), 18);
  CHECK(lgetxattr("symbolic", name, NULL, 0) == -1 && errno == ENODATA);
  OK(rename("file", "moved"));
  EQUAL(getxattr("moved", name, NULL, 0), 18);
  // Nor do they come from another with the same number.
  OK(unlink("moved"));
  OK(unlink("link"));
  EQUAL(fgetxattr(fd, name, NULL, 0), 18);
  OK(close(fd));
  for (int i = 0; i < 8; i++) {
    sprintf(other, "new%d", i);
    OK(close(OK(open(other, O_CREAT | O_RDWR, 0644))));
    CHECK(lists(other, space, 0, NULL));
    OK(unlink(other));
  }
  OK(mkdir("directory", 0755));
  OK(setxattr("directory", name, "d", 1, 0));
  EQUAL(getxattr("directory", name, NULL, 0), 1);
  OK(rmdir("directory"));
  // What names and values may be.
  OK(close(OK(open("file", O_CREAT | O_RDWR, 0644))));
  FAILS(setxattr("file", "", "", 0, 0), ERANGE);
  FAILS(setxattr("file", space, "", 0, 0), EINVAL);
  FAILS(setxattr("file", "nothing.x", "", 0, 0), EOPNOTSUPP);
  FAILS(setxattr("file", "plain", "", 0, 0), EOPNOTSUPP);
  FAILS(setxattr("file", name, value, 65537, 0), E2BIG);
  memset(other, 'n', sizeof other);
  memcpy(other, space, strlen(space));
  other[256] = 0;
  FAILS(setxattr("file", other, "", 0, 0), ERANGE);
  other[255] = 0;
  OK(setxattr("file", other, "", 0, 0));
  EQUAL(getxattr("file", other, NULL, 0), 0);
  EQUAL(removexattr("file", other), 0);
  FAILS(syscall(SYS_setxattr, "file", name, 8, 5, 0), EFAULT);
  FAILS(syscall(SYS_setxattr, "file", 8, "value", 5, 0), EFAULT);
  OK(setxattr("file", name, "value", 5, 0));
  FAILS(syscall(SYS_getxattr, "file", name, 8, 5), EFAULT);
  OK(unlink("file"));
  OK(unlink("symbolic"));
}

CASE(of_the_administrator) {
  on_disk();
  attributes("trusted.");
  off_disk();
}
CASE(of_the_administrator_in_memory) {
  in_memory();
  attributes("trusted.");
}
CASE(of_users) {
  on_disk();
  attributes("user.");
  off_disk();
}
// Linux has none there before 6.6.
CASE(of_users_in_memory) {
  in_memory();
  attributes("user.");
}

CASE(rights) {
  OK(close(OK(open("file", O_CREAT | O_RDWR, 0644))));
  OK(setxattr("file", "trusted.secret", "x", 1, 0));
  OK(mkdir("sticky", 01777));
  pid_t child = CHILD({
    char names[256];
    OK(setuid(1000));
    FAILS(getxattr("file", "trusted.secret", NULL, 0), ENODATA);
    FAILS(setxattr("file", "trusted.secret", "y", 1, 0), EPERM);
    FAILS(removexattr("file", "trusted.secret"), EPERM);
    FAILS(setxattr("file", "security.mine", "y", 1, 0), EPERM);
    int length = OK(listxattr("file", names, sizeof names));
    CHECK(!memmem(names, length, "trusted", 7));
    FAILS(setxattr("file", "user.mine", "y", 1, 0), EACCES);
    FAILS(setxattr("sticky", "user.mine", "y", 1, 0), EPERM);
  });
  EQUAL(reap(child), 0);
  OK(mkfifo("fifo", 0666));
  FAILS(setxattr("fifo", "user.mine", "y", 1, 0), EPERM);
  FAILS(getxattr("fifo", "user.mine", NULL, 0), ENODATA);
  int place = OK(open("file", O_PATH));
  FAILS(fsetxattr(place, "user.mine", "y", 1, 0), EBADF);
  FAILS(fgetxattr(place, "user.mine", NULL, 0), EBADF);
  FAILS(flistxattr(place, NULL, 0), EBADF);
}

// A block full of them is all that a file has on ext2; what it took is free again.
CASE(room) {
  struct statfs before, after;
  on_disk();
  sync();
  OK(statfs(".", &before));
  static char value[4096];
  int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  int count = 0;
  char name[32];
  do sprintf(name, "user.%d", count);
  while (count < 1000 && !setxattr("file", name, value, 200, 0) && ++count);
  int blocks = before.f_type == 0xEF53;
  if (blocks) {
    EQUAL(errno, ENOSPC);
    CHECK(count > 3 && count < 20);
  } else {
    EQUAL(count, 1000);
  }
  for (int i = 0; i < count; i++) {
    sprintf(name, "user.%d", i);
    EQUAL(getxattr("file", name, value, sizeof value), 200);
  }
  FAILS(setxattr("file", "user.0", value, 4096, 0), ENOSPC);
  EQUAL(getxattr("file", "user.0", value, sizeof value), 200);
  for (int i = 0; i < count; i++) {
    sprintf(name, "user.%d", i);
    OK(removexattr("file", name));
  }
  EQUAL(listxattr("file", NULL, 0), 0);
  struct stat status;
  OK(fstat(fd, &status));
  EQUAL(status.st_blocks, 0);
  OK(setxattr("file", "user.0", value, 100, 0));
  OK(close(fd));
  OK(unlink("file"));
  sync();
  OK(statfs(".", &after));
  // Where they are in a tree that may be another one afterwards.
  CHECK(blocks ? after.f_bfree == before.f_bfree : after.f_bfree + 4 >= before.f_bfree);
  off_disk();
}

// Several change the same file's at once.
CASE(at_once) {
  on_disk();
  OK(close(OK(open("file", O_CREAT | O_RDWR, 0644))));
  for (int process = 0; process < 4; process++)
    CHILD({
      char name[32];
      char value[64];
      sprintf(name, "user.of%d", process);
      for (int i = 0; i < (torture() ? 20000 : 500); i++) {
        int length = (i * 7 + process) % 60;
        memset(value, 'a' + process, sizeof value);
        OK(setxattr("file", name, value, length, 0));
        EQUAL(getxattr("file", name, value, sizeof value), length);
        for (int at = 0; at < length; at++) EQUAL(value[at], 'a' + process);
        if (i % 5 == 0) OK(removexattr("file", name));
      }
    });
  int status;
  while (wait(&status) > 0) EQUAL(status, 0);
  off_disk();
}

// Those that the host gave a file, in its inode and beside it, and one more.
CASE(with_the_host) {
  char value[300] = "";
  EQUAL(getxattr("/tests/lib.sh", "user.inside", value, sizeof value), 12);
  CHECK(!strcmp(value, "in-the-inode"));
  EQUAL(getxattr("/tests/lib.sh", "user.beside", value, sizeof value), 200);
  for (int i = 0; i < 200; i++) EQUAL(value[i], 'b');
  OK(setxattr("/tests/lib.sh", "user.kept", "for the host", 12, 0));
  CHECK(lists("/tests/lib.sh", "user.", 3, (const char *[]){"inside", "beside", "kept"}));
  EQUAL(getxattr("/tests/lib.sh", "user.inside", value, sizeof value), 12);
}
