// What a program can do to the processor's state, and to the kernel through it: flags, selectors, random machine code.
#include "test.h"
#include <setjmp.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <ucontext.h>

enum { AC = 0x40000, NT = 0x4000, DF = 0x400, TF = 0x100, ID = 0x200000 };

static unsigned call_with_flags(unsigned set, int fast, unsigned *after) {
  unsigned result, flags;
  if (fast)
    asm volatile("pushfl; movl (%%esp), %%edx; orl %3, (%%esp); popfl; movl $20, %%eax; call *%%gs:0x10; pushfl; popl %1;"
                 "pushl %%edx; popfl"
                 : "=&a"(result), "=&r"(flags) : "0"(0), "r"(set) : "edx", "memory", "cc");
  else
    asm volatile("pushfl; movl (%%esp), %%edx; orl %3, (%%esp); popfl; movl $20, %%eax; int $0x80; pushfl; popl %1;"
                 "pushl %%edx; popfl"
                 : "=&a"(result), "=&r"(flags) : "0"(0), "r"(set) : "edx", "memory", "cc");
  *after = flags;
  return result;
}

// SYSENTER leaves NT set, with which the kernel's IRET would switch tasks, and AC, with which it would be open to user memory.
CASE(flags_over_calls) {
  unsigned sets[] = {NT, AC, DF, ID, NT | AC, NT | DF, NT | AC | DF | ID};
  for (unsigned i = 0; i < sizeof sets / sizeof *sets; i++)
    for (int fast = 0; fast < 2; fast++) {
      unsigned after = 0;
      EQUAL(call_with_flags(sets[i], fast, &after), getpid());
      EQUAL(after & sets[i], sets[i]);
    }
}

static int which;
static unsigned value;
static void change(int number, siginfo_t *information, void *context) {
  ((ucontext_t *)context)->uc_mcontext.gregs[which] = value;
}

// A signal's frame names the registers to return with. What does not load is null afterwards, or the program's end.
CASE(selectors_of_a_frame) {
  unsigned values[] = {0, 3, 4, 0x10, 0x23, 0x2b, 0x33, 0x60, 0x63, 0x68, 0x6b, 0x73, 0x7b, 0x80, 0x83, 0x90, 0xff, 0x1234, 0xfffb, 0xffff};
  int registers[] = {REG_GS, REG_FS, REG_ES, REG_DS, REG_CS, REG_SS, REG_EIP, REG_EFL, REG_ESP};
  int ended = 0, lived = 0;
  for (unsigned r = 0; r < sizeof registers / sizeof *registers; r++)
    for (unsigned v = 0; v < sizeof values / sizeof *values; v++) {
      pid_t child = CHILD({
        which = registers[r];
        value = which == REG_EIP ? 0xc0000000 + values[v] : values[v];
        struct sigaction a = {.sa_sigaction = change, .sa_flags = SA_SIGINFO};
        sigaction(SIGUSR1, &a, NULL);
        syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1);
        asm volatile("mov $1, %eax; xor %ebx, %ebx; int $0x80");
      });
      int status = 0;
      OK(waitpid(child, &status, 0));
      if (WIFEXITED(status)) lived++;
      else if (WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGILL || WTERMSIG(status) == SIGBUS || WTERMSIG(status) == SIGTRAP) ended++;
      else FAIL("register %d with %#x: status %#x", which, values[v], status);
    }
  CHECK(lived > 20);
  CHECK(ended > 20);
}

// A processor leaves the flag for virtual-8086 mode alone when a program returns with it; QEMU's emulator enters the mode, where
// AC lets it read the stack.
CASE(virtual_mode_is_not_for_programs) {
  for (int open = 0; open < 2; open++) {
    pid_t child = CHILD({
      if (open) asm volatile("pushfl; orl $0x40000, (%%esp); popfl" ::: "memory", "cc");
      asm volatile("pushl %ss; pushl %esp; pushfl; orl $0x20000, (%esp); pushl %cs; pushl $1f; iret;"
                   "1: mov $1, %eax; xor %ebx, %ebx; int $0x80");
    });
    int status;
    OK(waitpid(child, &status, 0));
    CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
  }
}

static unsigned long long state;
static unsigned next(void) {
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return state >> 33;
}

static sigjmp_buf again;
static unsigned short thread_selector;
static void back(int number) {
  asm volatile("mov %0, %%gs; cld" ::"m"(thread_selector));
  siglongjmp(again, 1);
}

// Instructions that end in the kernel or change segments and flags, between random bytes.
static void write_code(unsigned char *code, unsigned size) {
  static const unsigned char pieces[][3] = {
      {2, 0x0f, 0x34}, {2, 0xcd, 0x80}, {1, 0xcf}, {1, 0xcb}, {1, 0x9d}, {2, 0x6a, 0x73}, {2, 0x6a, 0x7b}, {1, 0xcc}, {1, 0xf1}, {1, 0xce},
      {2, 0x0f, 0x05}, {2, 0x0f, 0x01}, {2, 0x0f, 0x00}, {2, 0x8e, 0xd8}, {2, 0x8e, 0xe0}, {2, 0x8e, 0xe8}, {2, 0x8e, 0xd0}, {1, 0x1f}, {1, 0x07},
      {1, 0x17}, {2, 0x0f, 0xa1}, {2, 0x0f, 0xa9}, {1, 0xc4}, {1, 0xc5}, {1, 0x9a}, {1, 0xea}, {2, 0x0f, 0xae}, {2, 0x0f, 0xc7}, {1, 0xf4}, {1, 0x9c},
      {2, 0x66, 0xcf}, {2, 0x0f, 0x22}, {2, 0x0f, 0x30}, {2, 0xdb, 0xe3}, {2, 0xdd, 0x30}, {2, 0xdd, 0x20}, {1, 0x9b}, {2, 0x0f, 0x77}, {1, 0xc8}, {1, 0x62}};
  for (unsigned i = 0; i < size;) {
    if (next() % 3) {
      code[i++] = next();
      continue;
    }
    const unsigned char *piece = pieces[next() % (sizeof pieces / sizeof *pieces)];
    for (unsigned k = 1; k <= piece[0] && i < size; k++) code[i++] = piece[k];
  }
}

static void run_code(unsigned seed) {
  state = seed * 2654435761ull + 1;
  struct rlimit few = {64, 64}, small = {1, 1}, none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  setrlimit(RLIMIT_CPU, &small);
  if (setgid(65534) || setuid(65534)) _exit(0);
  setrlimit(RLIMIT_NPROC, &few);
  asm("mov %%gs, %0" : "=m"(thread_selector));
  unsigned char *code = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  unsigned char *stack = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  stack_t other = {.ss_sp = malloc(65536), .ss_size = 65536};
  sigaltstack(&other, NULL);
  struct sigaction a = {.sa_handler = back, .sa_flags = SA_ONSTACK | SA_NODEFER};
  int ends[] = {SIGSEGV, SIGILL, SIGBUS, SIGFPE, SIGTRAP, SIGALRM, SIGSYS};
  for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++) sigaction(ends[i], &a, NULL);
  for (volatile int round = 0; round < 64; round++) {
    if (sigsetjmp(again, 1)) continue;
    write_code(code, 4096);
    // PINSRW with VEX.256 and no prefix ends QEMU 7.2, whatever runs in it: C5 FC C4 and its like.
    for (unsigned i = 1; i < 4096; i++)
      if (code[i] == 0xC4 && (code[i - 1] & 7) == 4) code[i] = 0x90;
    for (unsigned i = 0; i < 4096; i += 4) *(unsigned *)(stack + 8192 + i) = next() % 4 ? next() % 0x100 : (unsigned)code + next() % 4096;
    struct itimerval soon = {{0, 0}, {0, 10000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    unsigned flags = next() & (NT | AC | DF | ID | (next() % 4 ? 0 : TF));
    asm volatile("mov %0, %%esp; push %1; popfl; mov $20, %%eax; jmp *%2"
                 ::"r"(stack + 8192), "r"(flags | 2), "r"(code + next() % 2048) : "memory", "eax");
  }
  _exit(0);
}

LIMITED_CASE(random_code, 900) {
  unsigned programs = torture() ? 4000 : 60, seed = getenv("SEED") ? atoi(getenv("SEED")) : 1;
  int ended = 0, killed = 0;
  for (unsigned i = 0; i < programs; i++) {
    pid_t child = CHILD(run_code(seed * 100003 + i));
    int status;
    for (int wait = 0; waitpid(child, &status, WNOHANG | __WALL) == 0; wait++) {
      pause_ms(2);
      if (wait == 1000) kill(child, SIGKILL), killed++;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) ended++;
  }
  printf("%u programs of 64 pieces, %d ran to their end, %d killed\n", programs, ended, killed);
  CHECK(ended > 0);
}

// A selector whose descriptor is taken away becomes null; it loaded once, and must load again at every switch to the thread.
CASE(descriptors_taken_away) {
  for (int way = 0; way < 3; way++) {
    struct {
      int entry;
      unsigned base, limit, flags;
    } area = {-1, 0, 0xFFFFF, 0x51};  // 32 bits, limit in pages, usable
    int old, now, result;
    OK(syscall(SYS_set_thread_area, &area));
    int selector = area.entry << 3 | 3;
    area.flags = way == 0 ? 0x28 : way == 1 ? 0x71 : 0x55;  // empty; not present; code
    if (way == 0) area.base = area.limit = 0;
    struct timespec little = {0, 2000000};
    asm volatile("movl %%gs, %0" : "=r"(old));
    long ebx = (long)&area;
    struct timespec *sleep = &little;
    asm volatile("movw %4, %%gs\n\t"
                 "movl $243, %%eax\n\t"
                 "int $0x80\n\t"
                 "movl %%eax, %1\n\t"
                 "movl %5, %%ebx\n\t"
                 "xorl %%ecx, %%ecx\n\t"
                 "movl $162, %%eax\n\t"
                 "int $0x80\n\t"
                 "movl %%gs, %%eax\n\t"
                 "movl %%eax, %0\n\t"
                 "movw %3, %%gs"
                 : "=m"(now), "=m"(result), "+b"(ebx)
                 : "m"(old), "m"(selector), "m"(sleep)
                 : "eax", "ecx", "edx", "memory");
    EQUAL(result, way == 0 ? 0 : -EINVAL);
    EQUAL(now, way == 0 ? 0 : selector);
    area.base = area.limit = 0;
    area.flags = 0x28;
    OK(syscall(SYS_set_thread_area, &area));
  }
}
