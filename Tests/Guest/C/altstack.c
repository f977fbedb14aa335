// The stack that handlers run on. SPEC: sigaltstack(2).
#include "test.h"
#include <sched.h>
#include <setjmp.h>
#include <sys/ucontext.h>

#define AUTODISARM 0x80000000u
static char room[65536] __attribute__((aligned(4096)));
static volatile int count;
static stack_t seen, within;
static ucontext_t copy;

static int is_on(const void *place) { return (char *)place >= room && (char *)place < room + sizeof room; }

static void handler(int number, siginfo_t *info, void *context) {
  (void)info;
  count++;
  CHECK(is_on(&number));
  OK(sigaltstack(NULL, &seen));
  within = ((ucontext_t *)context)->uc_stack;
  copy = *(ucontext_t *)context;
}

static void catch(int flags, void (*with)(int, siginfo_t *, void *)) {
  struct sigaction action = {.sa_sigaction = with, .sa_flags = SA_SIGINFO | SA_ONSTACK | flags};
  OK(sigaction(SIGUSR1, &action, NULL));
}

CASE(handlers_run_on_it) {
  stack_t stack = {.ss_sp = room, .ss_size = sizeof room}, old;
  OK(sigaltstack(&stack, &old));
  EQUAL(old.ss_flags, SS_DISABLE);
  catch(0, handler);
  OK(raise(SIGUSR1));
  EQUAL(count, 1);
  EQUAL(seen.ss_flags, SS_ONSTACK);
  CHECK(seen.ss_sp == room && seen.ss_size == sizeof room);
  CHECK(within.ss_sp == room && within.ss_size == sizeof room && within.ss_flags == 0);
  OK(sigaltstack(NULL, &old));
  EQUAL(old.ss_flags, 0);
}

static void changes(int number, siginfo_t *info, void *context) {
  (void)number, (void)info, (void)context;
  count++;
  stack_t none = {.ss_flags = SS_DISABLE};
  FAILS(sigaltstack(&none, NULL), EPERM);
}

CASE(bad_input) {
  stack_t stack = {.ss_sp = room, .ss_size = 2047};
  FAILS(sigaltstack(&stack, NULL), ENOMEM);
  stack.ss_size = sizeof room;
  stack.ss_flags = SS_ONSTACK | SS_DISABLE;
  FAILS(sigaltstack(&stack, NULL), EINVAL);
  stack.ss_flags = 4;
  FAILS(sigaltstack(&stack, NULL), EINVAL);
  FAILS(syscall(SYS_sigaltstack, 1, NULL), EFAULT);
  FAILS(syscall(SYS_sigaltstack, NULL, 1), EFAULT);
  stack.ss_flags = 0;
  OK(sigaltstack(&stack, NULL));
  catch(0, changes);
  OK(raise(SIGUSR1));
  EQUAL(count, 1);
}

static void counts(int number, siginfo_t *info, void *context) {
  (void)number, (void)info, (void)context;
  _exit(77);
}

// Where a stack is said to be is looked at when a signal comes. What cannot be written to ends the process; a stack that the
// program seems to be on is gone on with.
CASE(stacks_that_are_none) {
  static const struct { unsigned long base, size; } bad[] = {
      {0xBFEC796C, 0xC0142612}, {0xFFFFF000, 0x2000}, {0, 4096}, {0, 2048}, {0xC0000000, 65536}, {0x1000, 0xFFFFFFFF}, {0x1000, 2048},
  };
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    pid_t child = CHILD({
      stack_t stack = {.ss_sp = (void *)bad[i].base, .ss_size = bad[i].size};
      OK(sigaltstack(&stack, NULL));
      catch(0, counts);
      raise(SIGUSR1);
      _exit(78);
    });
    int status = reap(child), isOn = (unsigned long)&child - bad[i].base <= bad[i].size;
    if (status != (isOn ? 77 : 128 + SIGSEGV)) FAIL("stack %u ended with %d", i, status);
  }
}

static volatile int depth;
static void nests(int number, siginfo_t *info, void *context) {
  (void)info, (void)context;
  CHECK(is_on(&number));
  if (++depth < 1000) raise(SIGUSR1);
}

// A handler that uses up the stack does not go on below it.
CASE(the_stack_has_an_end) {
  pid_t child = CHILD({
    memset(room, 0x55, 16384);
    stack_t stack = {.ss_sp = room + 16384, .ss_size = 32768};
    OK(sigaltstack(&stack, NULL));
    catch(SA_NODEFER, nests);
    raise(SIGUSR1);
  });
  EQUAL(reap(child), 128 + SIGSEGV);
}

static jmp_buf back;
static void leaves(int number, siginfo_t *info, void *context) {
  (void)info, (void)context;
  CHECK(is_on(&number));
  OK(sigaltstack(NULL, &seen));
  within = ((ucontext_t *)context)->uc_stack;
  stack_t other = {.ss_sp = room, .ss_size = 8192};
  OK(sigaltstack(&other, NULL));
  if (++count == 2) longjmp(back, 1);
}

// SS_AUTODISARM: within the handler there is none, afterwards it is back.
CASE(disarmed_within) {
  stack_t stack = {.ss_sp = room + 16384, .ss_size = 32768, .ss_flags = (int)AUTODISARM}, now;
  OK(sigaltstack(&stack, NULL));
  OK(sigaltstack(NULL, &now));
  EQUAL(now.ss_flags, (int)AUTODISARM);
  catch(SA_NODEFER, leaves);
  OK(raise(SIGUSR1));
  EQUAL(count, 1);
  EQUAL(seen.ss_flags, SS_DISABLE);
  CHECK(within.ss_sp == room + 16384 && within.ss_size == 32768 && within.ss_flags == (int)AUTODISARM);
  OK(sigaltstack(NULL, &now));
  CHECK(now.ss_sp == room + 16384 && now.ss_size == 32768 && now.ss_flags == (int)AUTODISARM);
  if (!setjmp(back)) raise(SIGUSR1);
  EQUAL(count, 2);
  OK(sigaltstack(NULL, &now));
  CHECK(now.ss_sp == room && now.ss_size == 8192 && now.ss_flags == 0);
}

static int in_child(void *keeps) {
  stack_t now;
  if (sigaltstack(NULL, &now)) return 1;
  return keeps ? !(now.ss_sp == room && now.ss_flags == 0) : now.ss_flags != SS_DISABLE;
}

// A copy of the memory has a copy of the stack; who shares the memory has none, but for vfork, whose parent waits.
CASE(in_children) {
  static char stack[16384];
  stack_t mine = {.ss_sp = room, .ss_size = sizeof room};
  OK(sigaltstack(&mine, NULL));
  EQUAL(reap(CHILD(_exit(in_child(room)))), 0);
  EQUAL(reap(OK(clone(in_child, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL))), 0);
  EQUAL(reap(OK(clone(in_child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, room))), 0);
  char *words[] = {"altstack", "after_exec", NULL};
  pid_t child = CHILD(execv("/proc/self/exe", words));
  EQUAL(reap(child), 0);
}

CASE(after_exec) { CHECK(!in_child(NULL)); }
