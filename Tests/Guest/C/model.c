// Random calls on file systems, each compared with a model of them: what it answers, and what it leaves behind. What goes wrong is
// printed with the calls before it and the seed: `SEED=n`.
#include "model.h"
#include <dirent.h>
#include <sys/vfs.h>

// What not every file system has.
enum { LINKS = 1, MODES = 2, HOLES = 4, EXCHANGE = 8, NUMBERS = 16 };
enum { FILES = 6, LARGEST = 300000, HISTORY = 24, CALL = 1200 };

static int features, outside, true_root; // `outside` is the directory that it is mounted in
static const char *device, *type;
static size_t room; // bytes that may be in all files together
static uint64_t state;
static unsigned seed, turn;
static struct {
  int fd, flags;
  struct node *node;
} files[FILES];
static char history[HISTORY][CALL];

static unsigned below(unsigned limit) {
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return (state >> 33) % limit;
}

#define WRONG(...)                                                                                    \
  do {                                                                                                \
    int error_ = errno;                                                                               \
    for (int i_ = HISTORY - 1; i_ >= 0; i_--)                                                         \
      if (turn >= (unsigned)i_) printf("%u: %s\n", turn - i_, history[(turn - i_) % HISTORY]);        \
    printf("seed %u: ", seed);                                                                        \
    errno = error_;                                                                                   \
    FAIL(__VA_ARGS__);                                                                                \
  } while (0)
#define SAY(...) snprintf(history[turn % HISTORY], CALL, __VA_ARGS__)

// A call's result against an errno of the model.
static void agree(long result, int wanted) {
  int found = result == -1 ? errno : 0;
  if (found != wanted) WRONG("answers %s, not %s", strerror(found), strerror(wanted));
}

// MARK: Paths

static void random_name(char *name) {
  static const char long_name[] = "a longer name that takes more than one entry of a FAT directory";
  unsigned kind = below(20);
  if (kind < 14) sprintf(name, "%c", 'a' + below(5));
  else if (kind < 16) sprintf(name, "%.*s", 13 + (int)below(50), long_name);
  else sprintf(name, "entry %u", below(60));
}

static void random_path(char *path) {
  struct node *at = below(3) ? root : here;
  *path = 0;
  if (at == root) strcpy(path, "/");
  for (int depth = 1 + below(4); depth; depth--) {
    char name[LONGEST_NAME];
    unsigned kind = below(30);
    if (kind == 0) strcpy(name, "..");
    else if (kind == 1) strcpy(name, ".");
    else if (kind < 22 && at && at->count) strcpy(name, at->entries[below(at->count)].name);
    else random_name(name);
    struct entry *entry = at ? find(at, name) : NULL;
    at = entry && entry->node->type == 'd' ? entry->node : NULL;
    strcat(path, name);
    if (depth > 1) strcat(path, below(20) ? "/" : "//");
  }
  if (!below(25)) strcat(path, "/");
}

static void path_in_existing(char *path) {
  // A directory some steps down, and something new or old in it.
  struct node *at = root;
  for (int depth = below(4); depth; depth--) {
    if (!at->count) break;
    struct node *next = at->entries[below(at->count)].node;
    if (next->type != 'd') break;
    at = next;
  }
  path_of(at, path);
  if (path[1]) strcat(path, "/");
  if (at->count && below(2)) strcat(path, at->entries[below(at->count)].name);
  else random_name(path + strlen(path));
}

static void any_path(char *path) { (below(2) ? random_path : path_in_existing)(path); }

// MARK: What it leaves behind

static unsigned char block[LARGEST + 1];

static void compare_status(const struct stat *status, struct node *node, const char *what) {
  mode_t types[] = {['f'] = S_IFREG, ['d'] = S_IFDIR, ['l'] = S_IFLNK};
  if ((status->st_mode & S_IFMT) != types[(int)node->type]) WRONG("%s has mode %o", what, status->st_mode);
  if (features & MODES && (status->st_mode & 07777) != (unsigned)node->mode) WRONG("%s: mode %o, not %o", what, status->st_mode, node->mode);
  if (node->type == 'f' && status->st_size != (off_t)node->size) WRONG("%s: size %lld, not %zu", what, (long long)status->st_size, node->size);
  if ((features & LINKS || node->type == 'f') && (int)status->st_nlink != links_of(node))
    WRONG("%s: %d links, not %d", what, (int)status->st_nlink, links_of(node));
  if (node->number && node->number != status->st_ino) WRONG("%s: inode %llu, not %llu", what, (long long)status->st_ino, (long long)node->number);
  node->number = status->st_ino;
}

static void compare_content(int fd, struct node *node, const char *what) {
  long count = OK(pread(fd, block, sizeof block, 0));
  if (count != (long)node->size) WRONG("%s: %ld bytes, not %zu", what, count, node->size);
  for (long i = 0; i < count; i++)
    if (block[i] != node->data[i]) WRONG("%s: byte %ld is %d, not %d", what, i, block[i], node->data[i]);
}

static void compare_list(DIR *list, struct node *directory, const char *what) {
  int count = 0;
  char seen[directory->count + 1];
  memset(seen, 0, sizeof seen);
  errno = 0;
  for (struct dirent *e; (e = readdir(list));) {
    if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
    struct entry *entry = find(directory, e->d_name);
    if (!entry) WRONG("%s has %s", what, e->d_name);
    if (seen[entry - directory->entries]++) WRONG("%s lists %s twice", what, e->d_name);
    if (e->d_type != (entry->node->type == 'd' ? DT_DIR : entry->node->type == 'l' ? DT_LNK : DT_REG)) WRONG("%s: type %d", e->d_name, e->d_type);
    count++;
  }
  if (errno || count != directory->count) WRONG("%s lists %d names, not %d", what, count, directory->count);
}

// All of a directory, below a descriptor of the one above.
static void compare(int above, const char *name, struct node *node, const char *what) {
  struct stat status;
  if (fstatat(above, name, &status, AT_SYMLINK_NOFOLLOW)) WRONG("no %s", what);
  compare_status(&status, node, what);
  if (node->type == 'l') {
    long length = readlinkat(above, name, (char *)block, sizeof block);
    if (length != (long)strlen(node->target) || memcmp(block, node->target, length)) WRONG("%s leads elsewhere", what);
    return;
  }
  int fd = openat(above, name, O_RDONLY);
  if (fd < 0) WRONG("%s cannot be opened", what);
  if (node->type == 'f') {
    compare_content(fd, node, what);
    OK(close(fd));
    return;
  }
  DIR *list = fdopendir(fd);
  compare_list(list, node, what);
  for (int i = 0; i < node->count; i++) {
    char path[2 * LONGEST_PATH];
    snprintf(path, sizeof path, "%s/%s", what, node->entries[i].name);
    compare(fd, node->entries[i].name, node->entries[i].node, path);
  }
  OK(closedir(list));
}

static void compare_all(void) {
  compare(AT_FDCWD, "/", root, "");
  for (int i = 0; i < FILES; i++) {
    if (!files[i].node) continue;
    struct stat status;
    OK(fstat(files[i].fd, &status));
    compare_status(&status, files[i].node, "an open file");
    if (files[i].node->type == 'f' && (files[i].flags & O_ACCMODE) != O_WRONLY) compare_content(files[i].fd, files[i].node, "an open file");
  }
}

// MARK: Calls

static void close_file(int index) {
  if (!files[index].node) return;
  OK(close(files[index].fd));
  model_close(files[index].node);
  files[index].node = NULL;
}

static void call_open(void) {
  static const int more[] = {0, 0, O_CREAT, O_CREAT, O_CREAT, O_CREAT | O_EXCL, O_NOFOLLOW, O_DIRECTORY, O_CREAT | O_NOFOLLOW};
  char path[LONGEST_PATH];
  int flags = (int[]){O_RDONLY, O_WRONLY, O_RDWR, O_RDWR}[below(4)] | more[below(sizeof more / sizeof *more)], mode = below(01000), index = below(FILES);
  if ((flags & O_ACCMODE) != O_RDONLY && !below(4)) flags |= O_TRUNC;
  if (!below(6)) flags |= O_APPEND;
  any_path(path);
  SAY("open(\"%s\", 0%o, %#o) as %d", path, flags, mode, index);
  close_file(index);
  struct node *node = NULL;
  int fd = open(path, flags, mode), number = errno, wanted = model_open(path, flags, mode, &node);
  errno = number;
  agree(fd, wanted);
  if (wanted) return;
  files[index].fd = fd, files[index].flags = flags, files[index].node = node;
}

static void random_content(unsigned char *to, unsigned count) {
  unsigned first = below(256), step = below(4);
  for (unsigned i = 0; i < count; i++) to[i] = first + i * step + (i >> 8);
}

static unsigned random_offset(struct node *node) {
  unsigned size = node->size;
  switch (below(5)) {
  case 0: return size;
  case 1: return below(size + 1);
  case 2: return below(LARGEST >> 12) << 12;
  case 3: return below(9000);
  default: return below(LARGEST);
  }
}
static unsigned random_count(void) { return (unsigned[]){below(30), below(600), 4096, below(9000), below(40000)}[below(5)]; }

static int open_file(void) {
  for (int i = 0, index = below(FILES); i < FILES; i++, index = (index + 1) % FILES)
    if (files[index].node) return index;
  return -1;
}

static void call_write(int index) {
  struct node *node = files[index].node;
  unsigned count = random_count(), at = random_offset(node);
  if (at > LARGEST - count) at = LARGEST - count;
  if (content + LARGEST > room) return;
  // Linux writes at the end here, wherever it is told to.
  if (files[index].flags & O_APPEND && node->type == 'f') at = node->size;
  if (at + count > LARGEST) return;
  random_content(block, count);
  SAY("pwrite(%d, %u, %u)", index, count, at);
  long result = pwrite(files[index].fd, block, count, at);
  if ((files[index].flags & O_ACCMODE) == O_RDONLY) return agree(result, EBADF);
  if (result != (long)count) WRONG("wrote %ld", result);
  if (!count) return;
  if (at + count > node->size) set_size(node, at + count);
  memcpy(node->data + at, block, count);
}

static void call_read(int index) {
  struct node *node = files[index].node;
  unsigned count = random_count(), at = random_offset(node);
  SAY("pread(%d, %u, %u)", index, count, at);
  long result = pread(files[index].fd, block, count, at);
  if ((files[index].flags & O_ACCMODE) == O_WRONLY) return agree(result, EBADF);
  if (node->type == 'd') return agree(result, EISDIR);
  long wanted = at >= node->size ? 0 : node->size - at < count ? node->size - at : count;
  if (result != wanted) WRONG("read %ld, not %ld", result, wanted);
  for (long i = 0; i < wanted; i++)
    if (block[i] != node->data[at + i]) WRONG("byte %ld is %d, not %d", at + i, block[i], node->data[at + i]);
}

static void call_truncate(int index) {
  struct node *node = files[index].node;
  unsigned size = random_offset(node);
  if (content + LARGEST > room && size > node->size) return;
  SAY("ftruncate(%d, %u)", index, size);
  long result = ftruncate(files[index].fd, size);
  if ((files[index].flags & O_ACCMODE) == O_RDONLY) return agree(result, EINVAL);
  agree(result, 0);
  set_size(node, size);
}

static void call_allocate(int index) {
  struct node *node = files[index].node;
  unsigned count = random_count() + 1, at = random_offset(node), mode = (unsigned[]){0, 1, 3}[below(3)]; // nothing, keep the size, punch
  if (at > LARGEST - count) at = LARGEST - count;
  if (content + LARGEST > room || node->type == 'd') return;
  if (mode == 1 && at + count > node->size) mode = 0; // room behind the end is not kept everywhere
  SAY("fallocate(%d, %u, %u, %u)", index, mode, at, count);
  long result = fallocate(files[index].fd, mode, at, count);
  if ((files[index].flags & O_ACCMODE) == O_RDONLY) return agree(result, EBADF);
  agree(result, 0);
  if (!mode && at + count > node->size) set_size(node, at + count);
  if (mode == 3 && at < node->size) memset(node->data + at, 0, at + count < node->size ? count : node->size - at);
}

// Where a file has data and where holes: what is in a hole is zero.
static void call_seek(int index) {
  struct node *node = files[index].node;
  if (node->type == 'd') return;
  long at = random_offset(node), size = node->size;
  SAY("lseek(%d, %ld, SEEK_DATA)", index, at);
  long data = lseek(files[index].fd, at, SEEK_DATA);
  if (at >= size) return agree(data, ENXIO);
  if (data == -1) agree(data, ENXIO);
  else if (data < at || data >= size) WRONG("data at %ld, in %ld bytes", data, size);
  for (long i = at; i < (data == -1 ? size : data); i++)
    if (node->data[i]) WRONG("byte %ld is no hole", i);
  SAY("lseek(%d, %ld, SEEK_HOLE)", index, at);
  long hole = OK(lseek(files[index].fd, at, SEEK_HOLE));
  if (hole < at || hole > size) WRONG("a hole at %ld, in %ld bytes", hole, size);
}

static void call_map(int index) {
  struct node *node = files[index].node;
  if (node->type == 'd' || (files[index].flags & O_ACCMODE) != O_RDWR || !node->size) return;
  unsigned at = below(node->size), first = at & ~4095u, count = random_count();
  if (count > node->size - at) count = node->size - at;
  SAY("mmap(%d) and write %u at %u", index, count, at);
  unsigned char *map = mmap(NULL, at - first + count + 1, PROT_READ | PROT_WRITE, MAP_SHARED, files[index].fd, first);
  if (map == MAP_FAILED) WRONG("no mapping");
  for (unsigned i = first; i < at + count; i++)
    if (map[i - first] != node->data[i]) WRONG("byte %u is %d, not %d", i, map[i - first], node->data[i]);
  random_content(block, count);
  memcpy(map + at - first, block, count);
  memcpy(node->data + at, block, count);
  OK(munmap(map, at - first + count + 1));
}

static void call_on_open_file(void) {
  int index = open_file();
  if (index < 0) return call_open();
  switch (below(16)) {
  case 0: call_truncate(index); break;
  case 1: if (features & HOLES) call_allocate(index); break;
  case 2: if (features & HOLES) call_seek(index); break;
  case 3: call_map(index); break;
  case 4:
    SAY("fsync(%d)", index);
    OK(fsync(files[index].fd));
    break;
  case 5: {
    struct stat status;
    SAY("fstat(%d)", index);
    OK(fstat(files[index].fd, &status));
    compare_status(&status, files[index].node, "the file");
    break;
  }
  case 6 ... 8: call_read(index); break;
  case 9:
    SAY("close(%d)", index);
    close_file(index);
    break;
  default: call_write(index); break;
  }
}

static void call_on_name(void) {
  char path[LONGEST_PATH], other[LONGEST_PATH];
  struct node *node;
  struct stat status;
  int wanted, mode;
  long result;
  any_path(path);
  any_path(other);
  switch (below(16)) {
  case 0 ... 1:
    mode = below(01000);
    SAY("mkdir(\"%s\", %#o)", path, mode);
    result = mkdir(path, mode);
    return agree(result, model_mkdir(path, mode));
  case 2:
    SAY("rmdir(\"%s\")", path);
    result = rmdir(path);
    return agree(result, model_rmdir(path));
  case 3 ... 4:
    SAY("unlink(\"%s\")", path);
    result = unlink(path);
    return agree(result, model_unlink(path));
  case 5:
    if (!(features & LINKS)) return;
    if (!below(30)) *other = 0;
    SAY("symlink(\"%s\", \"%s\")", other, path);
    result = symlink(other, path);
    return agree(result, model_symlink(other, path));
  case 6:
    if (!(features & LINKS)) return;
    SAY("link(\"%s\", \"%s\")", path, other);
    result = link(path, other);
    return agree(result, model_link(path, other));
  case 7 ... 9: {
    int flags = (int[]){0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE}[below(features & EXCHANGE ? 5 : 4)];
    SAY("renameat2(\"%s\", \"%s\", %d)", path, other, flags);
    result = renameat2(AT_FDCWD, path, AT_FDCWD, other, flags);
    return agree(result, model_rename(path, other, flags));
  }
  case 10: {
    long size = below(20) ? (long)below(LARGEST) : -1;
    if (content + LARGEST > room && size > 0) size = 0;
    SAY("truncate(\"%s\", %ld)", path, size);
    result = truncate(path, size);
    return agree(result, model_truncate(path, size));
  }
  case 11: {
    int follows = below(2);
    SAY("%s(\"%s\")", follows ? "stat" : "lstat", path);
    result = (follows ? stat : lstat)(path, &status);
    agree(result, wanted = model_find(path, follows, &node));
    if (!wanted) compare_status(&status, node, path);
    return;
  }
  case 12:
    SAY("readlink(\"%s\")", path);
    result = readlink(path, (char *)block, sizeof block);
    wanted = model_find(path, 0, &node);
    agree(result, wanted ? wanted : node->type == 'l' ? 0 : EINVAL);
    if (result >= 0 && (result != (long)strlen(node->target) || memcmp(block, node->target, result))) WRONG("it leads elsewhere");
    return;
  case 13: {
    SAY("opendir(\"%s\")", path);
    DIR *list = opendir(path);
    wanted = model_find(path, 1, &node);
    agree(list ? 0 : -1, wanted ? wanted : node->type == 'd' ? 0 : ENOTDIR);
    if (!list) return;
    compare_list(list, node, path);
    OK(closedir(list));
    return;
  }
  case 14:
    if (!(features & MODES)) return;
    mode = below(010000) & ~06000; // a set bit can go again with a write
    SAY("chmod(\"%s\", %#o)", path, mode);
    result = chmod(path, mode);
    agree(result, wanted = model_find(path, 1, &node));
    if (!wanted) node->mode = mode;
    return;
  default:
    SAY("chdir(\"%s\")", path);
    result = chdir(path);
    wanted = model_find(path, 1, &node);
    if (!wanted && node->type != 'd') wanted = ENOTDIR;
    agree(result, wanted);
    if (!wanted) here = node;
    char found[2 * LONGEST_PATH], expected[2 * LONGEST_PATH];
    if (is_gone(here)) {
      if (getcwd(found, sizeof found)) WRONG("here is %s", found);
      if (errno != ENOENT) WRONG("getcwd of what is gone");
    } else {
      path_of(here, expected);
      if (!getcwd(found, sizeof found) || strcmp(found, expected)) WRONG("here is not %s", expected);
    }
  }
}

// MARK: All of it

static void enter(void) {
  OK(chdir("m/model"));
  OK(chroot("."));
  here = root;
}
static void leave(void) {
  OK(fchdir(true_root));
  OK(chroot("."));
  OK(fchdir(outside));
}

static void forget_numbers(struct node *node) {
  node->number = 0;
  for (int i = 0; i < node->count; i++) forget_numbers(node->entries[i].node);
}

// Everything is forgotten but what is on the disk.
static void again(void) {
  SAY("umount and mount");
  for (int i = 0; i < FILES; i++) close_file(i);
  leave();
  OK(umount("m"));
  OK(mount(device, "m", type, 0, ""));
  if (!(features & NUMBERS)) forget_numbers(root);
  enter();
}

static void remove_below(struct node *directory) {
  while (directory->count) {
    char path[2 * LONGEST_PATH];
    struct entry *entry = &directory->entries[directory->count - 1];
    if (entry->node->type == 'd') {
      remove_below(entry->node);
      path_of(entry->node, path);
      SAY("rmdir(\"%s\")", path);
      agree(rmdir(path), 0);
    } else {
      path_of(directory, path);
      if (path[1]) strcat(path, "/");
      strcat(path, entry->name);
      SAY("unlink(\"%s\")", path);
      agree(unlink(path), 0);
    }
    take(directory, entry->name);
  }
}

// A part of it goes: files must not only become more.
static void thin(void) {
  struct node *at = root;
  while (at->count && below(4)) {
    struct node *next = at->entries[below(at->count)].node;
    if (next->type != 'd') break;
    at = next;
  }
  remove_below(at);
}

// `device` is mounted on m, or what is there already is used as it is.
static void calls(const char *dev, const char *kind, int has, unsigned first_seed, int count) {
  device = dev, type = kind, features = has, seed = first_seed;
  if (getenv("SEED")) seed = atoi(getenv("SEED"));
  state = seed * 0x9E3779B97F4A7C15ull + 1;
  umask(0);
  outside = OK(open(".", O_RDONLY | O_DIRECTORY));
  true_root = OK(open("/", O_RDONLY | O_DIRECTORY));
  if (device) OK(mount(device, "m", type, 0, ""));
  OK(mkdir("m/model", 0755));
  root = new_node('d', 0755);
  root->parent = root;
  nodes = content = turn = 0;
  struct statfs s;
  OK(statfs("m", &s));
  room = (unsigned long long)s.f_bavail * s.f_bsize / 2 > 8 << 20 ? 8 << 20 : s.f_bavail * s.f_bsize / 2;
  enter();
  for (int i = 0; i < count; i++, turn++) {
    if (nodes > 300 || content + LARGEST > room) thin();
    switch (below(10)) {
    case 0 ... 1: call_open(); break;
    case 2 ... 5: call_on_open_file(); break;
    default: call_on_name(); break;
    }
    if (i % 700 == 699) {
      SAY("compare everything");
      compare_all();
    }
    if (device && !below(1500)) again();
  }
  compare_all();
  for (int i = 0; i < FILES; i++) close_file(i);
  OK(chdir("/"));
  here = root;
  remove_below(root);
  compare_all();
  leave();
  OK(close(outside));
  OK(close(true_root));
  OK(rmdir("m/model"));
  if (device) OK(umount("m"));
  printf("# %d calls, seed %u\n", count, seed);
}
static int how_many(void) { return torture() ? 100000 : 3000; }
enum { ALL = LINKS | MODES | HOLES | EXCHANGE | NUMBERS };

LIMITED_CASE(in_memory, 600) {
  OK(mkdir("m", 0755));
  OK(mount("none", "m", "tmpfs", 0, "size=64m"));
  calls(NULL, "", ALL, 1, how_many());
  OK(umount("m"));
}

LIMITED_CASE(on_disk, 600) {
  on_disk();
  OK(mkdir("m", 0755));
  calls(NULL, "", ALL, 2, how_many());
  off_disk();
}

// The second disk: FAT12, FAT16 and FAT32, and an ext2 whose blocks are smaller than pages.
static void on_partition(int number, const char *kind, int has) {
  char part[32];
  snprintf(part, sizeof part, "/dev/%s%d", access("/dev/vdb", F_OK) ? "hdb" : "vdb", number);
  OK(mkdir("m", 0755));
  calls(part, kind, has, 10 + number, how_many());
}
LIMITED_CASE(on_fat12, 600) { on_partition(1, "vfat", 0); }
LIMITED_CASE(on_fat16, 600) { on_partition(2, "vfat", 0); }
LIMITED_CASE(on_fat32, 600) { on_partition(3, "vfat", 0); }
LIMITED_CASE(on_small_blocks, 600) { on_partition(4, "ext2", ALL); }

// An overlay over nothing, and one over a tree, which comes up as it changes.
LIMITED_CASE(on_overlay, 600) {
  load_module("overlay");
  OK(mkdir("memory", 0755));
  OK(mount("none", "memory", "tmpfs", 0, "size=64m"));
  OK(chdir("memory"));
  for (const char **name = (const char *[]){"m", "lower", "upper", "work", NULL}; *name; name++) OK(mkdir(*name, 0755));
  OK(mount("overlay", "m", "overlay", 0, "lowerdir=lower,upperdir=upper,workdir=work"));
  calls(NULL, "", ALL, 3, how_many());
  OK(umount("m"));
  OK(chdir(".."));
  OK(umount("memory"));
}
