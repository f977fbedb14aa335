// Extended attributes: who asks a file system that has none hears so, not that the call is missing.
#include "test.h"
#include <sys/xattr.h>

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
}
