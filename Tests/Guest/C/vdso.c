// The shared object that the kernel maps into every process: its symbols, its clocks, the way into the kernel.
#include "test.h"
#include <ucontext.h>
#include <elf.h>
#include <sys/auxv.h>
#include <sys/time.h>

// The address of a symbol, found as a program would: dynamic section, hash chain, version.
static void *symbol(const char *name, const char *version) {
  char *base = (char *)getauxval(AT_SYSINFO_EHDR);
  CHECK(base && !memcmp(base, ELFMAG, SELFMAG));
  Elf32_Ehdr *header = (Elf32_Ehdr *)base;
  EQUAL(header->e_type, ET_DYN);
  EQUAL(header->e_machine, EM_386);
  Elf32_Phdr *segments = (Elf32_Phdr *)(base + header->e_phoff);
  Elf32_Dyn *dynamic = NULL;
  for (int i = 0; i < header->e_phnum; i++)
    if (segments[i].p_type == PT_DYNAMIC) dynamic = (Elf32_Dyn *)(base + segments[i].p_vaddr);
  CHECK(dynamic);
  uint32_t *hash = NULL;
  char *strings = NULL;
  Elf32_Sym *symbols = NULL;
  Elf32_Versym *versions = NULL;
  Elf32_Verdef *definitions = NULL;
  for (; dynamic->d_tag; dynamic++) {
    char *at = base + dynamic->d_un.d_ptr;
    if (dynamic->d_tag == DT_HASH) hash = (uint32_t *)at;
    if (dynamic->d_tag == DT_STRTAB) strings = at;
    if (dynamic->d_tag == DT_SYMTAB) symbols = (Elf32_Sym *)at;
    if (dynamic->d_tag == DT_VERSYM) versions = (Elf32_Versym *)at;
    if (dynamic->d_tag == DT_VERDEF) definitions = (Elf32_Verdef *)at;
  }
  CHECK(strings && symbols && versions && definitions);
  uint32_t code = 0, count = 0;
  for (const char *c = name; *c; c++) {
    code = (code << 4) + *c;
    code = (code ^ (code >> 24 & 0xf0)) & 0x0fffffff;
  }
  if (hash)
    for (uint32_t i = hash[2 + code % hash[0]]; i; i = hash[2 + hash[0] + i]) {
      CHECK(++count < 100);
      if (strcmp(strings + symbols[i].st_name, name)) continue;
      for (Elf32_Verdef *d = definitions;; d = (Elf32_Verdef *)((char *)d + d->vd_next)) {
        if (d->vd_ndx == versions[i]) {
          Elf32_Verdaux *a = (Elf32_Verdaux *)((char *)d + d->vd_aux);
          CHECK(!strcmp(strings + a->vda_name, version));
          return base + symbols[i].st_value;
        }
        CHECK(d->vd_next);
      }
    }
  FAIL("no %s", name);
}

CASE(symbols) {
  CHECK(symbol("__kernel_vsyscall", "LINUX_2.5") == (void *)getauxval(AT_SYSINFO));
  // Unwinders and debuggers know these by their bytes.
  CHECK(!memcmp(symbol("__kernel_sigreturn", "LINUX_2.5"), "\x58\xb8\x77\0\0\0\xcd\x80", 8));
  CHECK(!memcmp(symbol("__kernel_rt_sigreturn", "LINUX_2.5"), "\xb8\xad\0\0\0\xcd\x80", 7));
  char line[300];
  int found = 0;
  FILE *maps = fopen("/proc/self/maps", "r");
  CHECK(maps);
  while (fgets(line, sizeof line, maps)) found |= (strstr(line, "[vdso]") ? 1 : 0) | (strstr(line, "[vvar]") ? 2 : 0);
  EQUAL(found, 3);
}

static long long of(struct timespec t) { return t.tv_sec * 1000000000LL + t.tv_nsec; }

CASE(clocks) {
  int (*fast)(clockid_t, struct timespec *) = symbol("__vdso_clock_gettime", "LINUX_2.6");
  int (*fast64)(clockid_t, int64_t *) = symbol("__vdso_clock_gettime64", "LINUX_2.6");
  clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME};
  for (int i = 0; i < 4; i++)
    for (int round = 0; round < 2000; round++) {
      struct timespec before, between, after;
      int64_t wide[2];
      EQUAL(syscall(SYS_clock_gettime, clocks[i], &before), 0);
      EQUAL(fast(clocks[i], &between), 0);
      EQUAL(fast64(clocks[i], wide), 0);
      EQUAL(syscall(SYS_clock_gettime, clocks[i], &after), 0);
      CHECK(between.tv_nsec >= 0 && between.tv_nsec < 1000000000 && wide[1] >= 0 && wide[1] < 1000000000);
      CHECK(of(before) <= of(between));
      CHECK(of(between) <= wide[0] * 1000000000LL + wide[1]);
      CHECK(wide[0] * 1000000000LL + wide[1] <= of(after));
    }
  // The others go to the kernel, errors too.
  struct timespec t;
  EQUAL(fast(CLOCK_PROCESS_CPUTIME_ID, &t), 0);
  EQUAL(fast(CLOCK_REALTIME_COARSE, &t), 0);
  EQUAL(fast(CLOCK_MONOTONIC_COARSE, &t), 0);
  EQUAL(fast(77, &t), -EINVAL);
  EQUAL(fast(-1, &t), -EINVAL);
  int (*resolution)(clockid_t, struct timespec *) = symbol("__vdso_clock_getres", "LINUX_2.6");
  EQUAL(resolution(CLOCK_MONOTONIC, &t), 0);
  EQUAL(of(t), 1);
}

CASE(time_of_day) {
  int (*day)(struct timeval *, struct timezone *) = symbol("__vdso_gettimeofday", "LINUX_2.6");
  time_t (*seconds)(time_t *) = symbol("__vdso_time", "LINUX_2.6");
  struct timeval before, between, after;
  OK(syscall(SYS_gettimeofday, &before, NULL));
  EQUAL(day(&between, NULL), 0);
  OK(syscall(SYS_gettimeofday, &after, NULL));
  long long b = before.tv_sec * 1000000LL + before.tv_usec, m = between.tv_sec * 1000000LL + between.tv_usec;
  CHECK(b <= m && m <= after.tv_sec * 1000000LL + after.tv_usec);
  struct timezone zone = {5, 5};
  EQUAL(day(&between, &zone), 0);
  EQUAL(zone.tz_minuteswest, 0);
  time_t a, now = seconds(&a);
  EQUAL(now, a);
  CHECK(now >= before.tv_sec && now <= before.tv_sec + 2);
  CHECK(seconds(NULL) >= now);
}

// A handler without a restorer returns through the shared object.
static volatile int caught;
static void handler(int number) { caught = number; }
struct kernel_action { void (*handler)(int); unsigned long flags; void (*restorer)(void); uint64_t mask; };

CASE(return_from_handlers) {
  struct kernel_action action = {.handler = handler};
  OK(syscall(SYS_rt_sigaction, SIGUSR1, &action, NULL, 8));
  raise(SIGUSR1);
  EQUAL(caught, SIGUSR1);
  action.flags = SA_SIGINFO;
  OK(syscall(SYS_rt_sigaction, SIGUSR2, &action, NULL, 8));
  raise(SIGUSR2);
  EQUAL(caught, SIGUSR2);
}

// A call works whatever the data segments hold, and one without a stack to come back to is a fault of the program.
CASE(segments_and_stack) {
  long entry = getauxval(AT_SYSINFO), id;
  asm volatile("push %%ds; push %%es; xor %%eax, %%eax; mov %%eax, %%ds; mov %%eax, %%es; mov $20, %%eax; call *%1;"
               "pop %%es; pop %%ds" : "=a"(id) : "S"(entry) : "memory");
  EQUAL(id, getpid());
  for (int place = 0; place < 3; place++) {
    long stacks[] = {0, 0xfffffffc, (long)mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + 2048};
    pid_t child = CHILD({ asm volatile("mov %0, %%ebp; mov $20, %%eax; sysenter" ::"r"(stacks[place]) : "memory"); });
    int status = reap(child); // SIGILL where the machine has no such instruction
    CHECK(status == 128 + SIGSEGV || status == 128 + SIGILL);
  }
}

// What a process writes there is its own; the kernel's pages stay.
CASE(no_harm) {
  char *base = (char *)getauxval(AT_SYSINFO_EHDR);
  pid_t child = CHILD({
    if (mprotect(base, 4096, PROT_READ | PROT_WRITE | PROT_EXEC)) _exit(0); // sealed, as newer kernels do
    base[1] = 'X';
    CHECK(base[1] == 'X');
  });
  int status;
  EQUAL(waitpid(child, &status, 0), child);
  EQUAL(status, 0);
  CHECK(!memcmp(base, ELFMAG, SELFMAG));
}

// AdrOS only: a count of hundredths of a second at a fixed place.
CASE(tick_count) {
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[300];
  int found = 0;
  while (fgets(line, sizeof line, maps)) found |= !strncmp(line, "007fe000-", 9);
  if (!found) {
    struct stat unused;
    CHECK(stat("/proc/kernel_state", &unused)); // there is no such page on Linux
    return;
  }
  volatile uint32_t *ticks = (uint32_t *)0x7fe000;
  uint32_t first = *ticks;
  struct timespec pause = {0, 300000000}, boot;
  nanosleep(&pause, NULL);
  uint32_t second = *ticks;
  OK(clock_gettime(CLOCK_BOOTTIME, &boot));
  CHECK(second >= first + 29);
  CHECK(second <= of(boot) / 10000000 && second + 5 >= of(boot) / 10000000);
  for (uint32_t start = *ticks; *ticks < start + 3;) {} // it goes on while we compute
}

static volatile int steps, stop_after;
static void step(int signal, siginfo_t *about, void *context) {
  steps++;
  EQUAL(about->si_code, 2);  // TRAP_TRACE
  if (steps >= stop_after) ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100;
}

// A program with the trap flag set traps after each of its instructions, and the kernel does not mind, whichever way in.
CASE(single_step_through_calls) {
  struct sigaction action = {.sa_sigaction = step, .sa_flags = SA_SIGINFO};
  OK(sigaction(SIGTRAP, &action, NULL));
  for (int fast = 0; fast < 2; fast++)
    for (int round = 0; round < 300; round++) {
      steps = 0;
      stop_after = 24;
      void *way = (void *)getauxval(AT_SYSINFO);
      int got = 20;
      if (fast)
        asm volatile("pushf; orl $0x100, (%%esp); popf; call *%1; pushf; andl $~0x100, (%%esp); popf" : "+a"(got) : "r"(way) : "memory", "ecx", "edx", "cc");
      else
        asm volatile("pushf; orl $0x100, (%%esp); popf; int $0x80; pushf; andl $~0x100, (%%esp); popf" : "+a"(got)::"memory", "cc");
      EQUAL(got, getpid());
      CHECK(steps >= 3 && steps <= 24);
    }
}
