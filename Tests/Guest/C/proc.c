// /proc in Linux's formats: what ps, top, lsof, debuggers and the C library read of it.
#include "test.h"
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

static char text[65536];

// A file as a string.
static char *slurp(const char *path) {
  int file = OK(open(path, O_RDONLY));
  int size = 0, count;
  while ((count = OK(read(file, text + size, sizeof text - 1 - size))) > 0) size += count;
  OK(close(file));
  text[size] = 0;
  return text;
}

// What follows `name:\t` in a status file, as procps finds it; NULL without.
static char *field(char *status, const char *name) {
  for (char *line = status; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
    char *colon = strchr(line, ':');
    CHECK(colon && colon[1] == '\t');
    if ((size_t)(colon - line) == strlen(name) && !strncmp(line, name, colon - line)) return colon + 2;
  }
  return NULL;
}

static char *link_of(int descriptor) {
  static char path[64], target[256];
  sprintf(path, "/proc/self/fd/%d", descriptor);
  int length = OK(readlink(path, target, sizeof target - 1));
  target[length] = 0;
  return target;
}

CASE(descriptors_without_names) {
  int first[2], second[2], sockets[2];
  OK(pipe(first));
  OK(pipe(second));
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
  struct stat a, b, c;
  OK(fstat(first[0], &a));
  OK(fstat(first[1], &b));
  OK(fstat(second[0], &c));
  CHECK(S_ISFIFO(a.st_mode) && S_ISFIFO(b.st_mode));
  EQUAL(a.st_ino, b.st_ino);
  CHECK(a.st_ino != c.st_ino);
  char wanted[64];
  sprintf(wanted, "pipe:[%lu]", (unsigned long)a.st_ino);
  CHECK(!strcmp(link_of(first[1]), wanted));
  OK(fstat(sockets[0], &a));
  OK(fstat(sockets[1], &b));
  CHECK(S_ISSOCK(a.st_mode) && S_ISSOCK(b.st_mode));
  CHECK(a.st_ino != b.st_ino);
  sprintf(wanted, "socket:[%lu]", (unsigned long)a.st_ino);
  CHECK(!strcmp(link_of(sockets[0]), wanted));
  int counter = OK(eventfd(0, 0));
  CHECK(!strcmp(link_of(counter), "anon_inode:[eventfd]"));
  int memory = OK(syscall(SYS_memfd_create, "mine", 0));
  CHECK(!strcmp(link_of(memory), "/memfd:mine (deleted)"));
  // The link leads to the file.
  char path[64];
  sprintf(path, "/proc/self/fd/%d", first[1]);
  OK(stat(path, &b));
  OK(fstat(first[1], &a));
  CHECK(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
  sprintf(path, "/proc/self/fd/%d", sockets[0]);
  FAILS(open(path, O_RDONLY), ENXIO);
}

CASE(descriptors_opened_again) {
  int ends[2];
  char path[64], byte = 'x';
  OK(pipe(ends));
  sprintf(path, "/proc/self/fd/%d", ends[0]);
  // Both ways, whatever the descriptor is for.
  int writer = OK(open(path, O_WRONLY));
  EQUAL(write(writer, &byte, 1), 1);
  OK(close(ends[1]));
  OK(close(writer));
  // Nobody waits for a writer, as at a FIFO.
  int reader = OK(open(path, O_RDONLY));
  EQUAL(read(reader, &byte, 1), 1);
  EQUAL(byte, 'x');
  EQUAL(read(reader, &byte, 1), 0);
  // A file that has lost its name.
  int file = OK(open("lost", O_CREAT | O_RDWR, 0600));
  EQUAL(write(file, "kept", 4), 4);
  OK(unlink("lost"));
  char *target = link_of(file);
  CHECK(strstr(target, "/lost (deleted)"));
  sprintf(path, "/proc/self/fd/%d", file);
  int again = OK(open(path, O_RDONLY));
  char got[5] = "";
  EQUAL(read(again, got, 4), 4);
  CHECK(!strcmp(got, "kept"));
  // Each open has its own place; fdinfo shows it.
  sprintf(path, "/proc/self/fdinfo/%d", again);
  char *about = slurp(path);
  CHECK(field(about, "pos") && atoi(field(about, "pos")) == 4);
  CHECK(field(about, "flags") && (strtol(field(about, "flags"), NULL, 8) & O_ACCMODE) == O_RDONLY);
  CHECK(field(about, "ino") && field(about, "mnt_id"));
  FAILS(readlink("/proc/self/fd/99", got, 4), ENOENT);
}

CASE(status) {
  char *about = slurp("/proc/self/status");
  const char *names[] = {"Name", "Umask", "State", "Tgid", "Pid", "PPid", "TracerPid", "Uid", "Gid", "FDSize", "Groups", "VmSize", "VmHWM",
                         "VmRSS", "VmData", "VmStk", "VmExe", "VmLib", "Threads", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "CapInh",
                         "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Cpus_allowed", "Cpus_allowed_list",
                         "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"};
  for (int i = 0; i < sizeof names / sizeof *names; i++)
    if (!field(about, names[i])) FAIL("no %s", names[i]);
  EQUAL(atoi(field(about, "Pid")), getpid());
  EQUAL(atoi(field(about, "PPid")), getppid());
  CHECK(*field(about, "State") == 'R');
  CHECK(atoi(field(about, "VmSize")) >= atoi(field(about, "VmRSS")) && atoi(field(about, "VmRSS")) > 0);
  mode_t mask = umask(0);
  umask(mask);
  EQUAL(strtol(field(about, "Umask"), NULL, 8), mask);
}

CASE(stat_fields) {
  char *line = slurp("/proc/self/stat");
  EQUAL(atoi(line), getpid());
  char *rest = strrchr(line, ')') + 2;
  CHECK(*rest == 'R');
  unsigned long long fields[60] = {0};
  int count = 3;
  for (char *word = strtok(rest + 1, " \n"); word; word = strtok(NULL, " \n")) fields[++count] = strtoull(word, NULL, 10);
  EQUAL(count, 52);
  EQUAL(fields[4], getppid());
  EQUAL(fields[5], getpgrp());
  EQUAL(fields[6], getsid(0));
  EQUAL(fields[18], 20);
  EQUAL(fields[20], 1);
  unsigned here = (unsigned)(uintptr_t)slurp, stack = (unsigned)(uintptr_t)&line;
  CHECK(fields[26] <= here && here < fields[27]);
  CHECK(fields[28] > stack && fields[28] - stack < 65536);
  EQUAL(fields[38], SIGCHLD);
  CHECK(fields[45] < fields[46] || fields[45] == 0);
  CHECK(fields[48] < fields[49] && fields[49] <= fields[50] && fields[50] <= fields[51]);
  CHECK(fields[28] < fields[48]);
}

static pthread_barrier_t meeting;
static pid_t other_id;
static void *named(void *unused) {
  other_id = syscall(SYS_gettid);
  pthread_barrier_wait(&meeting);
  pthread_barrier_wait(&meeting);
  char name[16];
  OK(prctl(PR_GET_NAME, name));
  CHECK(!strcmp(name, "worker"));
  return unused;
}

CASE(threads_have_names) {
  pthread_t thread;
  char path[64], own[16];
  OK(prctl(PR_SET_NAME, "boss"));
  pthread_barrier_init(&meeting, NULL, 2);
  CHECK(!pthread_create(&thread, NULL, named, NULL));
  pthread_barrier_wait(&meeting);
  sprintf(path, "/proc/self/task/%d/comm", other_id);
  CHECK(!strcmp(slurp(path), "boss\n"));  // as who made it
  EQUAL(pthread_setname_np(thread, "worker"), 0);
  CHECK(!strcmp(slurp(path), "worker\n"));
  CHECK(!strcmp(slurp("/proc/self/comm"), "boss\n"));
  sprintf(path, "/proc/%d/status", other_id);
  char *about = slurp(path);
  EQUAL(atoi(field(about, "Pid")), other_id);
  EQUAL(atoi(field(about, "Tgid")), getpid());
  EQUAL(atoi(field(about, "Threads")), 2);
  OK(readlink("/proc/thread-self", path, sizeof path));
  pthread_barrier_wait(&meeting);
  CHECK(!pthread_join(thread, NULL));
  OK(prctl(PR_GET_NAME, own));
  CHECK(!strcmp(own, "boss"));
}

CASE(maps) {
  char *heap = sbrk(8192);
  *heap = 1;
  char *map = slurp("/proc/self/maps");
  CHECK(strstr(map, "[heap]\n") && strstr(map, "[stack]\n") && strstr(map, "[vdso]\n"));
  char program[256];
  int length = OK(readlink("/proc/self/exe", program, sizeof program - 1));
  program[length] = 0;
  CHECK(strstr(map, program));
  // A file name begins in the same column on every line.
  for (char *line = map; *line; line = strchr(line, '\n') + 1) {
    char *end = strchr(line, '\n'), *slash = memchr(line, '/', end - line);
    if (slash) CHECK(slash - line == 49 || slash - line == 73);  // a kernel of 32 bits, or of 64
  }
  unsigned size = 64 * 4096, resident = 0;
  char *mine = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(mine != MAP_FAILED);
  for (int i = 0; i < 32; i++) mine[i * 4096] = 1;
  char *all = slurp("/proc/self/smaps");
  for (char *line = all; (line = strstr(line, "\nRss:")); line++) resident += atoi(line + 5);
  CHECK(resident >= 128);
  char *sum = slurp("/proc/self/smaps_rollup");
  CHECK(strstr(sum, "[rollup]\nRss:"));
  // What ran in between came with its neighbours.
  CHECK(abs(atoi(strstr(sum, "Rss:") + 4) - (int)resident) < 256);
}

CASE(strangers_see_little) {
  char path[64];
  int ready[2];
  OK(pipe(ready));
  pid_t target = CHILD({
    OK(write(ready[1], "r", 1));
    pause();
  });
  char byte;
  EQUAL(read(ready[0], &byte, 1), 1);
  pid_t child = CHILD({
    OK(setresgid(1000, 1000, 1000));
    OK(setresuid(1000, 1000, 1000));
    const char *files[] = {"maps", "smaps", "environ", "auxv", "mem"};
    for (int i = 0; i < 5; i++) {
      sprintf(path, "/proc/%d/%s", target, files[i]);
      FAILS(open(path, O_RDONLY), EACCES);
    }
    sprintf(path, "/proc/%d/fd", target);
    FAILS(open(path, O_RDONLY | O_DIRECTORY), EACCES);
    sprintf(path, "/proc/%d/exe", target);
    FAILS(readlink(path, text, sizeof text), EACCES);
    sprintf(path, "/proc/%d/stat", target);
    char *rest = strrchr(slurp(path), ')') + 2;
    for (int i = 3; i < 28; i++) rest = strchr(rest, ' ') + 1;
    EQUAL(atoi(rest), 0);  // where the stack begins
    sprintf(path, "/proc/%d/comm", target);
    FAILS(open(path, O_WRONLY), EACCES);
  });
  EQUAL(reap(child), 0);
  OK(kill(target, SIGKILL));
  reap(target);
}

CASE(says_whether_it_is_secure) {
  if (getauxval(AT_EUID) != getauxval(AT_UID)) {
    EQUAL(getauxval(AT_SECURE), 1);
    EQUAL(getauxval(AT_UID), 1000);
    EQUAL(getauxval(AT_EUID), 0);
    return;
  }
  EQUAL(getauxval(AT_SECURE), 0);
  char self[256];
  int length = OK(readlink("/proc/self/exe", self, sizeof self - 1));
  self[length] = 0;
  int from = OK(open(self, O_RDONLY)), to = OK(open("program", O_CREAT | O_WRONLY, 0755)), count;
  while ((count = OK(read(from, text, sizeof text))) > 0) EQUAL(write(to, text, count), count);
  OK(fchmod(to, 04755));
  OK(close(to));
  OK(chmod(".", 0755));
  pid_t child = CHILD({
    OK(setresuid(1000, 1000, 1000));
    execl("./program", "proc", "says_whether_it_is_secure", NULL);
    exit(99);
  });
  EQUAL(reap(child), 0);
}

CASE(mounts) {
  char *info = slurp("/proc/self/mountinfo");
  int root = 0;
  for (char *line = info; *line; line = strchr(line, '\n') + 1) {
    int id, parent;
    unsigned first, second;
    char top[256], point[256], options[256];
    EQUAL(sscanf(line, "%d %d %u:%u %255s %255s %255s", &id, &parent, &first, &second, top, point, options), 7);
    CHECK((id != parent || !strcmp(point, "/")) && top[0] == '/' && point[0] == '/' && (options[0] == 'r'));
    struct stat about;
    if (!strcmp(point, "/")) {
      root++;
      OK(stat("/", &about));
      CHECK(major(about.st_dev) == first && minor(about.st_dev) == second);
    }
    char *rest = strchr(line, '\n');
    char *dash = strstr(line, " - ");
    CHECK(dash && dash < rest);
  }
  CHECK(root >= 1);
}

CASE(settings) {
  EQUAL(atoi(slurp("/proc/sys/kernel/ngroups_max")), 65536);
  CHECK(atoi(slurp("/proc/sys/kernel/pid_max")) >= 32768);
  EQUAL(atoi(slurp("/proc/sys/kernel/cap_last_cap")), 40);
  char one[64];
  strncpy(one, slurp("/proc/sys/kernel/random/uuid"), 40);
  EQUAL(strlen(one), 37);
  CHECK(strcmp(one, slurp("/proc/sys/kernel/random/uuid")));
  strncpy(one, slurp("/proc/sys/kernel/random/boot_id"), 40);
  CHECK(!strcmp(one, slurp("/proc/sys/kernel/random/boot_id")));
  FAILS(open("/proc/sys/kernel/nothing", O_RDONLY), ENOENT);
  FAILS(open("/proc/sys/kern", O_RDONLY), ENOENT);
  struct stat about;
  OK(stat("/proc/sys/kernel/random", &about));
  CHECK(S_ISDIR(about.st_mode));
  pid_t child = CHILD({
    OK(setresuid(1000, 1000, 1000));
    FAILS(open("/proc/sys/kernel/hostname", O_WRONLY), EACCES);
  });
  EQUAL(reap(child), 0);
}

// As subprocess of Python does it: what has been listed goes, and nothing is skipped.
CASE(descriptors_closed_while_listed) {
  int list = OK(open("/proc/self/fd", O_RDONLY | O_DIRECTORY)), left = 60;
  char mine[1024] = "", part[200];
  for (int i = 0; i < left; i++) mine[OK(open("/dev/null", O_RDONLY))] = 1;
  for (long count; (count = OK(syscall(SYS_getdents64, list, part, sizeof part)));)
    for (long at = 0; at < count; at += *(unsigned short *)(part + at + 16)) {
      int number = atoi(part + at + 19);
      if (!mine[number]) continue;
      OK(close(number));
      left--;
    }
  EQUAL(left, 0);
}
