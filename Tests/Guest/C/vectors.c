// Registers beyond the general ones: x87, SSE and, where the processor has them, AVX. They are each thread's own.
#include "test.h"
#include <cpuid.h>
#include <pthread.h>
#include <sys/mman.h>
#include <setjmp.h>
#include <ucontext.h>

static int has_avx(void) {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & (1 << 28)) && (c & (1 << 27));
}

typedef struct {
  unsigned words[8][8];
} __attribute__((aligned(32))) registers;

static void fill(registers *r, unsigned seed) {
  for (int i = 0; i < 8; i++)
    for (int k = 0; k < 8; k++) r->words[i][k] = seed * 2654435761u + i * 8 + k;
}

#define ALL(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7)
#define LOAD(n) "vmovdqa " #n "*32(%0), %%ymm" #n "\n\t"
#define STORE(n) "vmovdqa %%ymm" #n ", " #n "*32(%0)\n\t"
#define SSE_LOAD(n) "movdqa " #n "*32(%0), %%xmm" #n "\n\t"
#define SSE_STORE(n) "movdqa %%xmm" #n ", " #n "*32(%0)\n\t"

static void put(registers *r) {
  if (has_avx()) asm volatile(ALL(LOAD) ::"r"(r) : "memory");
  else asm volatile(ALL(SSE_LOAD) ::"r"(r) : "memory");
}
static void get(registers *r) {
  if (has_avx()) asm volatile(ALL(STORE) ::"r"(r) : "memory");
  else asm volatile(ALL(SSE_STORE) ::"r"(r) : "memory");
}

static void same(const registers *a, const registers *b, const char *where) {
  int width = has_avx() ? 8 : 4;
  for (int i = 0; i < 8; i++)
    for (int k = 0; k < width; k++)
      if (a->words[i][k] != b->words[i][k]) FAIL("%s: register %d word %d is %x, not %x", where, i, k, b->words[i][k], a->words[i][k]);
}

// Nothing between `put` and `get` may use the registers: the calls are made by hand.
static long call(int number, long a, long b) {
  long result;
  asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b) : "memory");
  return result;
}

static void *worker(void *argument) {
  registers mine, now;
  for (unsigned round = 0; round < 300; round++) {
    fill(&mine, (unsigned)(uintptr_t)argument * 1000 + round);
    put(&mine);
    if (round % 3) call(158, 0, 0);  // sched_yield
    else
      for (volatile int i = 0; i < 3000; i++) {}
    get(&now);
    same(&mine, &now, "thread");
  }
  return NULL;
}

CASE(threads_have_their_own) {
  pthread_t threads[6];
  for (long i = 0; i < 6; i++) CHECK(!pthread_create(&threads[i], NULL, worker, (void *)i));
  for (int i = 0; i < 6; i++) CHECK(!pthread_join(threads[i], NULL));
}

static registers other;
static volatile int caught;
static void clobber(int signal) {
  caught++;
  put(&other);
}
static void change(int signal, siginfo_t *information, void *context) {
  caught++;
  put(&other);
  ucontext_t *u = context;
  // The first word of xmm3, in the image that sigreturn loads.
  ((unsigned *)((char *)u->uc_mcontext.fpregs + 112 + 160 + 3 * 16))[0] = 0x12345678;
}

CASE(handlers_give_them_back) {
  registers mine, now;
  fill(&other, 99);
  signal(SIGUSR1, clobber);
  struct sigaction a = {.sa_sigaction = change, .sa_flags = SA_SIGINFO};
  OK(sigaction(SIGUSR2, &a, NULL));
  int self = getpid();
  fill(&mine, 7);
  put(&mine);
  call(37, self, SIGUSR1);
  get(&now);
  EQUAL(caught, 1);
  same(&mine, &now, "after a handler");
  put(&mine);
  call(37, self, SIGUSR2);
  get(&now);
  EQUAL(caught, 2);
  mine.words[3][0] = 0x12345678;
  same(&mine, &now, "after a handler that changed one");
}

CASE(children_inherit_programs_do_not) {
  registers mine, now, none;
  memset(&none, 0, sizeof none);
  fill(&mine, 5);
  put(&mine);
  long child = call(2, 0, 0);
  get(&now);
  same(&mine, &now, child ? "parent" : "child");
  if (!child) _exit(0);
  EQUAL(reap(child), 0);
}

// What sigreturn is given may be anything; it must not bring the kernel down.
static unsigned noise;
static void spoil(int signal, siginfo_t *information, void *context) {
  ucontext_t *u = context;
  unsigned *image = (unsigned *)((char *)u->uc_mcontext.fpregs + 112);
  for (int i = 0; i < 20; i++) {
    noise = noise * 1664525 + 1013904223;
    unsigned at = noise >> 8;
    image[i % 4 == 0 ? 128 + at % 16 : i % 4 == 1 ? 116 + at % 12 : at % 208] ^= noise;
  }
}

CASE(any_image_is_harmless) {
  struct sigaction a = {.sa_sigaction = spoil, .sa_flags = SA_SIGINFO};
  OK(sigaction(SIGUSR1, &a, NULL));
  int went_on = 0;
  for (int i = 0; i < (torture() ? 5000 : 300); i++) {
    pid_t child = CHILD({
      noise = i;
      for (int k = 0; k < 3; k++) OK(raise(SIGUSR1));
    });
    int status = reap(child);
    CHECK(status == 0 || status == 128 + SIGSEGV);  // it may be refused
    went_on += status == 0;
  }
  CHECK(went_on > 0);
  registers mine, now;
  fill(&mine, 3);
  put(&mine);
  get(&now);
  same(&mine, &now, "in the end");
}

static sigjmp_buf back;
static void refused(int signal) {
  pause_ms(1);  // another thread's registers are loaded, and then these again
  siglongjmp(back, 1);
}
static char *pages;
static int cut;
static void move(int signal, siginfo_t *information, void *context) {
  ucontext_t *u = context;
  char *moved = pages + 4096 - cut;
  memcpy(moved, u->uc_mcontext.fpregs, cut);
  // What there is of the header says what no processor has.
  if (cut > 112 + 512) memset(moved + 112 + 512, 0xA5, cut - 112 - 512);
  u->uc_mcontext.fpregs = (void *)moved;
}

// An image that ends in a page which is not there.
CASE(images_cut_off) {
  pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(pages != MAP_FAILED);
  OK(mprotect(pages + 4096, 4096, PROT_NONE));
  struct sigaction a = {.sa_sigaction = move, .sa_flags = SA_SIGINFO}, b = {.sa_handler = refused, .sa_flags = SA_NODEFER};
  OK(sigaction(SIGUSR1, &a, NULL));
  OK(sigaction(SIGSEGV, &b, NULL));
  volatile int failures = 0;
  for (volatile int size = 64; size < 112 + 830; size += 16) {
    if (sigsetjmp(back, 1)) {
      failures++;
      continue;
    }
    cut = size;
    raise(SIGUSR1);
  }
  CHECK(failures >= 34);  // those that lack some of what every image has
  registers mine, now;
  fill(&mine, 11);
  put(&mine);
  call(158, 0, 0);
  get(&now);
  same(&mine, &now, "in the end");
}
