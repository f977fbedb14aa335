// Random system calls with hostile arguments: nothing may panic, hang or leak. Seeded; the seed is printed.
#include "test.h"
#include <sys/mount.h>
#include <dirent.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/ioctl.h>
#include <sys/time.h>

enum { NUMBERS = 451, WORKERS = 4 };
struct shared {
  volatile unsigned calls, restarts, stuck, progress[WORKERS], last[WORKERS];
  volatile unsigned count[NUMBERS], reached[NUMBERS]; // reached: answered anything but ENOSYS
};
static struct shared *shared;

static unsigned long long state;
static unsigned next(void) {
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return state >> 33;
}

// Calls that would end the run, or hit what is not ours: exit, reboot, signals to others, and whatever stops this process for good.
static int excluded(int n) {
  switch (n) {
  case 1: case 252:                                  // exit, exit_group
  case 88:                                           // reboot
  case 37: case 238: case 270: case 178: case 335: case 111: // kill and its relatives, vhangup
  case 2: case 120: case 190: case 435:              // fork: bounded below
  case 26: case 348: case 119: case 173:             // ptrace, process_vm_writev, sigreturn
  case 162: case 267: case 407: case 29: case 72:    // sleeps that may have no end
  case 61: case 217:                                 // chroot, pivot_root
  case 21: case 22: case 52:                         // mounts
  case 25: case 79: case 264: case 404:              // the clock
  case 74: case 121:                                 // names
  case 36: case 344:                                 // sync of everything: slow, not interesting
  case 97: case 156: case 351:                       // a real-time fuzzer would starve its parent
  case 75: case 340:                                 // limits that would end the run
  case 438: case 424:                                // pidfd_getfd, pidfd_send_signal: the report is not for them to write
    return 1;
  }
  return 0;
}

static unsigned char *buffer, *edge;
static int files[16], objects[3];

static unsigned argument(void) {
  unsigned r = next();
  switch (r % 17) {
  case 0: return 0;
  case 1: return next() % 32;
  case 2: return files[next() % 8];
  case 3: return files[next() % (8)];
  case 4: return (unsigned)(uintptr_t)(buffer + next() % 4096);
  case 5: return (unsigned)(uintptr_t)buffer;
  case 6: return (unsigned)(uintptr_t)(edge - next() % 64);
  case 7: return 0xC0000000u + next() % 0x30000000u;
  case 8: return (unsigned)-1 - next() % 64;
  case 9: return 1u << next() % 32;
  case 10: return next() % 65536;
  case 11: return 0x80000000u >> next() % 3;
  case 12: return (unsigned)-100;
  case 13: return 0xBFFFF000u + next() % 4096;
  case 14: return 4096 * (next() % 16);
  case 15: return objects[next() % 3];
  default: return next() << 1 ^ next();
  }
}

static void tick(int signal) {}

static void fill(void) {
  // Nothing that a privileged worker could take away from those who come after it: no device, not the root, no way up.
  static const char *names[] = {"f", "d", "l", ".", "./", "/proc/self/maps", "/proc/uptime", "missing/x", "d/e", "s"};
  for (int i = 0; i < 8192; i += 4) *(unsigned *)(buffer + i) = argument();
  for (int i = 0; i < 20; i++) strcpy((char *)buffer + next() % 4000, names[next() % 10]);
}

static void worker(int number, unsigned seed, unsigned goal) {
  state = seed * 2654435761ull + number;
  for (int i = 0; i < 16; i++) next();
  char directory[32];
  sprintf(directory, "w%d", number);
  mkdir(directory, 0777);
  chmod(directory, 0777);
  if (chdir(directory)) _exit(0);
  if (number & 1) {
    setgroups(0, NULL);
    if (setgid(65534) || setuid(65534)) _exit(0);
  }
  int own = open("/proc/self/oom_score_adj", O_WRONLY);
  if (write(own, "0", 1) != 1) _exit(0);
  close(own);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int null = open("/dev/null", O_RDWR);
  for (int i = 0; i < 3; i++) dup2(null, i);
  close(null);
  buffer = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(buffer + 2 * 4096, 4096);
  edge = buffer + 2 * 4096;
  int pair[2];
  if (!pipe2(pair, O_NONBLOCK)) files[0] = pair[0], files[1] = pair[1];
  files[2] = open("f", O_CREAT | O_RDWR, 0666);
  files[3] = open(".", O_RDONLY);
  files[4] = open("/dev/null", O_RDWR);
  files[5] = open("/proc/self/status", O_RDONLY);
  files[6] = 99;
  files[7] = -1;
  struct sigaction a = {.sa_handler = tick};
  sigaction(SIGALRM, &a, NULL);
  for (unsigned i = 0; shared->calls < goal; i++) {
    if (i % 8192 == 0) {
      // The parent removes them now and then.
      objects[0] = shmget(next(), 8192, IPC_CREAT | 0666);
      objects[1] = semget(next(), 5, IPC_CREAT | 0666);
      objects[2] = msgget(next(), IPC_CREAT | 0666);
    }
    if (i % 64 == 0) {
      // What blocks is interrupted; what undid that is done again.
      struct itimerval t = {{0, 20000}, {0, 20000}};
      setitimer(ITIMER_REAL, &t, NULL);
      sigset_t none;
      sigemptyset(&none);
      sigprocmask(SIG_SETMASK, &none, NULL);
      fill();
    }
    unsigned n = next() % NUMBERS;
    if (excluded(n)) continue;
    unsigned x[6];
    for (int k = 0; k < 6; k++) x[k] = argument();
    if (n == 241) x[0] = 0;  // the affinity of who runs the cases would be that of all cases to come
    __atomic_add_fetch(&shared->calls, 1, __ATOMIC_RELAXED);
    shared->count[n]++;
    shared->progress[number]++;
    shared->last[number] = n;
    errno = 0;
    long result = syscall(n, x[0], x[1], x[2], x[3], x[4], x[5]);
    if (result != -1 || errno != ENOSYS) shared->reached[n]++;
  }
  _exit(0);
}

// System V objects outlive who made them, and fill the memory if nobody removes them.
static void remove_objects(void) {
  struct shmid_ds shared;
  struct semid_ds semaphores;
  struct msqid_ds messages;
  struct seminfo information;
  int last = shmctl(0, SHM_INFO, (void *)&shared), id;
  for (int i = 0; i <= last; i++)
    if ((id = shmctl(i, SHM_STAT, &shared)) >= 0) shmctl(id, IPC_RMID, NULL);
  last = semctl(0, 0, SEM_INFO, &information);
  for (int i = 0; i <= last; i++)
    if ((id = semctl(i, 0, SEM_STAT, &semaphores)) >= 0) semctl(id, 0, IPC_RMID);
  last = msgctl(0, MSG_INFO, (void *)&messages);
  for (int i = 0; i <= last; i++)
    if ((id = msgctl(i, MSG_STAT, (void *)&messages)) >= 0) msgctl(id, IPC_RMID, NULL);
}

// So do message queues, whatever names they got.
static void remove_queues(void) {
  OK(mkdir("queues", 0700));
  if (mount("none", "queues", "mqueue", 0, NULL)) return;
  DIR *directory = opendir("queues");
  CHECK(directory);
  for (struct dirent *entry; (entry = readdir(directory));) {
    char path[300];
    sprintf(path, "queues/%s", entry->d_name);
    unlink(path);
  }
  closedir(directory);
  OK(umount("queues"));
}

LIMITED_CASE(random_calls, 600) {
  unsigned goal = torture() ? 15000000 : 600000, seed = getenv("SEED") ? atoi(getenv("SEED")) : 1;
  // Far from what the calls write to: what runs over the end of a buffer ends in a page that nobody may touch.
  enum { around = 16 << 20 };
  char *alone = mmap(NULL, 2 * around, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(alone != MAP_FAILED);
  shared = mmap(alone + around, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  CHECK(shared != MAP_FAILED);
  printf("seed %u, %u calls\n", seed, goal);
  fflush(stdout);
  // Who uses up the memory is a worker; this one reports.
  int spared = open("/proc/self/oom_score_adj", O_WRONLY);
  if (write(spared, "-1000", 5) != 5) printf("not spared\n");
  close(spared);
  pid_t workers[WORKERS];
  unsigned generation = 0;
  for (int i = 0; i < WORKERS; i++) workers[i] = CHILD(worker(i, seed, goal));
  // A worker that broke its own memory is replaced; one that stopped itself, or blocked its timer and
  // then itself, is killed.
  struct sigaction a = {.sa_handler = tick};
  sigaction(SIGALRM, &a, NULL);
  struct itimerval t = {{1, 0}, {1, 0}};
  setitimer(ITIMER_REAL, &t, NULL);
  unsigned seen[WORKERS] = {0};
  for (int alive = WORKERS; alive;) {
    int status;
    pid_t ended = waitpid(-1, &status, WUNTRACED);
    if (ended < 0 && errno == EINTR) {
      for (int i = 0; i < WORKERS; i++) {
        if (workers[i] && seen[i] == shared->progress[i]) {
          kill(workers[i], SIGKILL);
          shared->stuck++;
          printf("stuck in %u\n", shared->last[i]);
        }
        seen[i] = shared->progress[i];
      }
      remove_objects();
      continue;
    }
    if (ended < 0) break;
    if (WIFSTOPPED(status)) {
      kill(ended, SIGKILL);
      continue;
    }
    for (int i = 0; i < WORKERS; i++) {
      if (workers[i] != ended) continue;
      if (shared->calls >= goal) {
        alive--;
        workers[i] = 0;
        continue;
      }
      shared->restarts++;
      generation++;  // here: what a child counts is lost
      workers[i] = CHILD(worker(i, seed + generation * 7919, goal));
    }
  }
  alarm(0);
  unsigned used = 0, reached = 0, numbers = 0, least = ~0u;
  for (int n = 0; n < NUMBERS; n++) {
    used += shared->count[n];
    reached += shared->reached[n];
    if (!shared->reached[n]) continue;
    numbers++;
    if (shared->count[n] < least) least = shared->count[n];
  }
  printf("%u calls, %u reached a handler; %u numbers have one, each called %u times or more; %u restarts, %u stuck\n", used, reached,
         numbers, least, shared->restarts, shared->stuck);
  CHECK(shared->calls >= goal);
  CHECK(reached >= used / 2 && numbers > 250 && least >= 1000);
  remove_objects();
  remove_queues();
}

// What an ordinary user asks of the terminals, the display, the keyboard and the mouse that somebody has opened for them: nothing may panic or hang.
static const char *const nodes[] = {"/dev/tty1", "/dev/tty2", "/dev/tty6", "/dev/ttyS2", "/dev/fb0", "/dev/ptmx", "/dev/null",
                                    "/dev/input/event0", "/dev/input/event1"};
enum { NODES = sizeof nodes / sizeof *nodes };

static unsigned device_request(void) {
  unsigned r = next();
  switch (r % 9) {
  case 8: return 0x4500 | next() % 0xB0 | next() % 128 << 16 | next() % 4 << 30; // input devices
  case 0: case 1: return 0x5400 + next() % 0x60;             // terminals
  case 2: return 0x4B00 + next() % 0x80;                     // displays and keyboards
  case 3: return 0x5600 + next() % 16;                       // which terminal is seen
  case 4: return 0x4600 + next() % 0x20;                     // frame buffers
  case 5: return 0x80045430 + next() % 16;                   // _IOR('T', …, unsigned)
  case 6: return 0x40045430 + next() % 16;                   // _IOW
  default: return (0x802C5400 ^ (next() & 0x40000000)) + 0x2A + next() % 4;
  }
}

LIMITED_CASE(random_ioctls, 120) {
  unsigned rounds = torture() ? 3000000 : 100000, seed = getenv("SEED") ? atoi(getenv("SEED")) : 1;
  printf("SEED=%u\n", seed);
  fflush(stdout);
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (int worker = 0; worker < 2; worker++) {
    CHILD({
      state = seed * 2654435761ull + worker;
      OK(setsid());
      for (int i = 0; i < NODES; i++) files[i] = OK(open(nodes[i], (i < 7 ? O_RDWR : O_RDONLY) | O_NOCTTY | O_NONBLOCK));
      int unlocked = 0, number;
      OK(ioctl(files[5], 0x40045431, &unlocked)); // TIOCSPTLCK
      OK(ioctl(files[5], 0x80045430, &number));   // TIOCGPTN
      files[NODES] = OK(ioctl(files[5], 0x5441, O_RDWR | O_NONBLOCK)); // TIOCGPTPEER: its session's terminal
      OK(setgroups(0, NULL));
      OK(setgid(65534));
      OK(setuid(65534));
      for (int i = 1; i < 32; i++) signal(i, i == SIGALRM || i == SIGCHLD ? SIG_DFL : SIG_IGN);
      struct sigaction handler = {.sa_handler = tick};
      OK(sigaction(SIGALRM, &handler, NULL));
      struct itimerval often = {{0, 20000}, {0, 20000}};
      OK(setitimer(ITIMER_REAL, &often, NULL)); // what blocks is interrupted
      buffer = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      munmap(buffer + 2 * 4096, 4096);
      edge = buffer + 2 * 4096;
      for (unsigned i = 0; i < rounds; i++) {
        if (i % 32 == 0) fill();
        int file = files[next() % (NODES + 1)];
        unsigned request = device_request();
        if (next() % 64 == 0) {
          if (write(file, buffer + next() % 4096, next() % 64) < 0) continue;
        } else if (next() % 64 == 0) {
          if (read(file, buffer, 64) < 0) continue;
        } else {
          ioctl(file, request, argument());
        }
        __atomic_add_fetch(&shared->calls, 1, __ATOMIC_RELAXED);
      }
    });
  }
  for (int worker = 0; worker < 2; worker++) {
    int status;
    OK(wait(&status));
    EQUAL(status, 0);
  }
  CHECK(shared->calls > rounds);
  for (int i = 0; i < 3; i++) {
    int file = OK(open(nodes[i], O_RDWR | O_NOCTTY | O_NONBLOCK));
    OK(ioctl(file, 0x4B45, 3)); // KDSKBMODE, K_UNICODE
    OK(ioctl(file, 0x4B65, 0)); // KDSKBLED
    OK(ioctl(file, 0x4B32, 8)); // KDSETLED: what the locks are
    OK(ioctl(file, 0x4B3A, 0)); // KDSETMODE, KD_TEXT
    OK(close(file));
  }
  // Whoever comes next finds them as they were.
  int display = OK(open("/dev/fb0", O_RDWR)), seen = OK(open("/dev/tty1", O_RDWR | O_NOCTTY));
  OK(ioctl(seen, 0x4B3A, 0)); // KDSETMODE, KD_TEXT
  // Who has made one its session's terminal may show another one.
  OK(ioctl(seen, 0x5606, 1)); // VT_ACTIVATE
  OK(ioctl(seen, 0x5607, 1)); // VT_WAITACTIVE
  OK(ioctl(seen, 0x540A, 1)); // TCXONC, TCOON
  EQUAL(write(seen, "\033c", 2), 2);
  OK(ioctl(seen, 0x5608, 0)); // VT_DISALLOCATE: the screens of those that nobody uses any more
  OK(close(display));
  OK(close(seen));
}
