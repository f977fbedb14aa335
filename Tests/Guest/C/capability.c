// Capabilities: what is left of the superuser's privileges when some are given up. SPEC: capabilities(7).
#include "test.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/resource.h>

struct sets {
  uint64_t effective, permitted, inheritable;
};
static struct sets get(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  OK(syscall(SYS_capget, &header, data));
  return (struct sets){data[0].effective | (uint64_t)data[1].effective << 32, data[0].permitted | (uint64_t)data[1].permitted << 32,
                       data[0].inheritable | (uint64_t)data[1].inheritable << 32};
}
static int set(struct sets s) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{(uint32_t)s.effective, (uint32_t)s.permitted, (uint32_t)s.inheritable},
                                           {(uint32_t)(s.effective >> 32), (uint32_t)(s.permitted >> 32), (uint32_t)(s.inheritable >> 32)}};
  return (int)syscall(SYS_capset, &header, data);
}
static void drop(int capability) {
  struct sets s = get();
  s.effective &= ~(1ull << capability);
  s.permitted &= ~(1ull << capability);
  OK(set(s));
}
static void drop_effective(int capability) {
  struct sets s = get();
  s.effective &= ~(1ull << capability);
  OK(set(s));
}

CASE(one_at_a_time) {
  int file = OK(open("/tmp/cap", O_CREAT | O_RDWR, 0600));
  OK(fchown(file, 1000, 1000));
  drop_effective(CAP_CHOWN);
  FAILS(fchown(file, 1001, 1001), EPERM);
  OK(fchmod(file, 0640));
  drop_effective(CAP_FOWNER);
  FAILS(fchmod(file, 0600), EPERM);
  FAILS(utimensat(AT_FDCWD, "/tmp/cap", (struct timespec[]){{1, 0}, {1, 0}}, 0), EPERM);
  close(OK(open("/tmp/cap", O_RDWR)));
  drop_effective(CAP_DAC_OVERRIDE);
  FAILS(open("/tmp/cap", O_RDWR), EACCES);
  close(OK(open("/tmp/cap", O_RDONLY)));
  drop_effective(CAP_DAC_READ_SEARCH);
  FAILS(open("/tmp/cap", O_RDONLY), EACCES);
  // access asks for the real user, who has the permitted ones.
  OK(access("/tmp/cap", R_OK | W_OK));
  // Raised again: it was still permitted.
  struct sets s = get();
  s.effective = s.permitted;
  OK(set(s));
  close(OK(open("/tmp/cap", O_RDWR)));
  drop(CAP_DAC_OVERRIDE);
  s = get();
  s.effective |= 1 << CAP_DAC_OVERRIDE;
  FAILS(set(s), EPERM);
  s = get();
  s.permitted |= 1 << CAP_DAC_OVERRIDE;
  FAILS(set(s), EPERM);
  OK(unlink("/tmp/cap"));
}

CASE(calls_ask_for_theirs) {
  drop(CAP_SETGID);
  FAILS(setgroups(0, NULL), EPERM);
  FAILS(setresgid(5, 5, 5), EPERM);
  drop(CAP_SYS_CHROOT);
  FAILS(chroot("/"), EPERM);
  drop(CAP_MKNOD);
  FAILS(mknod("/tmp/node", S_IFCHR | 0600, 0x103), EPERM);
  OK(mknod("/tmp/fifo", S_IFIFO | 0600, 0));
  OK(unlink("/tmp/fifo"));
  drop(CAP_SYS_ADMIN);
  FAILS(sethostname("x", 1), EPERM);
  drop(CAP_SYS_TIME);
  struct timespec now;
  OK(clock_gettime(CLOCK_REALTIME, &now));
  FAILS(clock_settime(CLOCK_REALTIME, &now), EPERM);
  drop(CAP_SYS_RESOURCE);
  struct rlimit limit;
  OK(getrlimit(RLIMIT_NOFILE, &limit));
  limit.rlim_max--;
  limit.rlim_cur = limit.rlim_cur > limit.rlim_max ? limit.rlim_max : limit.rlim_cur;
  OK(setrlimit(RLIMIT_NOFILE, &limit));
  limit.rlim_max++;
  FAILS(setrlimit(RLIMIT_NOFILE, &limit), EPERM);
  pid_t child = CHILD(OK(setresuid(1000, 1000, 1000)); pause());
  while (1) {
    drop_effective(CAP_KILL);
    if (kill(child, 0) == -1 && errno == EPERM) break;
    sched_yield();
  }
  struct sets s = get();
  s.effective |= 1 << CAP_KILL;
  OK(set(s));
  OK(kill(child, SIGKILL));
  EQUAL(reap(child), 128 + SIGKILL);
  drop(CAP_SETUID);
  FAILS(setuid(7), EPERM);
  OK(setuid(0));
}

CASE(follow_the_user) {
  struct sets all = get();
  CHECK(all.permitted);
  EQUAL(all.permitted, all.effective);
  OK(seteuid(1000));
  EQUAL(get().effective, 0);
  EQUAL(get().permitted, all.permitted);
  OK(seteuid(0));
  EQUAL(get().effective, all.permitted);
  // setfsuid takes those about files along.
  setfsuid(1000);
  CHECK(!(get().effective >> CAP_DAC_OVERRIDE & 1));
  CHECK(get().effective >> CAP_KILL & 1);
  EQUAL(setfsuid(-1), 1000);
  setfsuid(0);
  EQUAL(get().effective, all.permitted);
  OK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
  OK(setresuid(1000, 1000, 1000));
  EQUAL(get().permitted, all.permitted);
  EQUAL(get().effective, 0);
  struct sets some = {1 << CAP_SETUID, 1 << CAP_SETUID, 0};
  OK(set(some));
  OK(setuid(1234));
  EQUAL(getuid(), 1234);
  EQUAL(get().permitted, some.permitted);
}

CASE(all_go_with_the_user) {
  OK(setresuid(1000, 1000, 1000));
  EQUAL(get().permitted, 0);
  EQUAL(get().effective, 0);
  FAILS(setuid(0), EPERM);
}

static uint64_t status(const char *name) {
  char line[256];
  FILE *file = fopen("/proc/self/status", "r");
  CHECK(file);
  while (fgets(line, sizeof line, file))
    if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':') {
      fclose(file);
      return strtoull(line + strlen(name) + 1, NULL, 16);
    }
  FAIL("no %s in /proc/self/status", name);
}

// A program that is executed: asks itself through an argument.
static void executed(int as_user) {
  int fds[2];
  OK(pipe(fds));
  pid_t child = CHILD(if (as_user) OK(setresuid(1000, 1000, 1000)); dup2(fds[1], 1); close(fds[0]);
                      OK(execl("/proc/self/exe", "x", "show_status", NULL)));
  close(fds[1]);
  char text[256] = "";
  for (ssize_t n, at = 0; (n = read(fds[0], text + at, sizeof text - 1 - at)) > 0; at += n) {}
  close(fds[0]);
  EQUAL(reap(child), 0);
  fputs(text, stdout);
  setenv("SHOWN", text, 1);
}
static uint64_t shown(const char *name) {
  const char *at = strstr(getenv("SHOWN"), name);
  CHECK(at);
  return strtoull(at + strlen(name) + 1, NULL, 16);
}
CASE(show_status) {
  printf("CapPrm %llx CapEff %llx CapAmb %llx CapBnd %llx\n", status("CapPrm"), status("CapEff"), status("CapAmb"), status("CapBnd"));
}

CASE(programs_get_what_is_bounded) {
  uint64_t before = get().permitted;
  executed(1);
  EQUAL(shown("CapPrm"), 0);
  EQUAL(shown("CapEff"), 0);
  EQUAL(prctl(PR_CAPBSET_READ, CAP_SYS_TIME, 0, 0, 0), before >> CAP_SYS_TIME & 1);
  OK(prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0));
  EQUAL(prctl(PR_CAPBSET_READ, CAP_SYS_TIME, 0, 0, 0), 0);
  FAILS(prctl(PR_CAPBSET_READ, 64, 0, 0, 0), EINVAL);
  EQUAL(get().permitted, before);  // what one has one keeps
  executed(0);
  EQUAL(shown("CapPrm"), before & ~(1ull << CAP_SYS_TIME));
  drop(CAP_SYS_TIME);
  struct sets s = get();
  s.inheritable |= 1ull << CAP_SYS_TIME;
  FAILS(set(s), EPERM);
  // Ambient ones pass an execve of an ordinary user.
  s = get();
  s.inheritable = 1 << CAP_KILL;
  OK(set(s));
  FAILS(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0), EPERM);
  OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
  EQUAL(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_KILL, 0, 0), 1);
  OK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
  OK(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0));
  executed(1);
  EQUAL(shown("CapEff"), 1 << CAP_KILL);
  EQUAL(shown("CapAmb"), 1 << CAP_KILL);
  // With SECBIT_NOROOT user 0 is an ordinary one.
  OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
  OK(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED, 0, 0, 0));
  FAILS(prctl(PR_SET_SECUREBITS, 0, 0, 0, 0), EPERM);
  executed(0);
  EQUAL(shown("CapEff"), 0);
}

CASE(bad_input) {
  struct __user_cap_header_struct header = {0x12345678, 0};
  struct __user_cap_data_struct data[2];
  FAILS(syscall(SYS_capget, &header, data), EINVAL);
  EQUAL(header.version, _LINUX_CAPABILITY_VERSION_3);
  OK(syscall(SYS_capget, &header, NULL));
  header.pid = -1;
  FAILS(syscall(SYS_capget, &header, data), EINVAL);
  header.pid = 999999;
  FAILS(syscall(SYS_capget, &header, data), ESRCH);
  header.pid = 1;
  FAILS(syscall(SYS_capset, &header, data), EPERM);
  FAILS(syscall(SYS_capget, NULL, data), EFAULT);
  header.pid = 0;
  FAILS(syscall(SYS_capset, &header, (void *)4096), EFAULT);
  FAILS(prctl(PR_CAP_AMBIENT, 9, 0, 0, 0), EINVAL);
  FAILS(prctl(PR_SET_KEEPCAPS, 2, 0, 0, 0), EINVAL);
}
