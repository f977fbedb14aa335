// From a key to the byte that a program reads: the kernel's time of the key's event, and the time when the terminal's byte is here.
//
// keylatency [COUNT] on the terminal that is seen, in raw mode, reads COUNT keys (20) and prints the shortest, the middle and the
// longest time in microseconds. Keys come from outside, one by one.
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) {
  fprintf(stderr, "keylatency: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int open_keyboard(void) {
  char path[32];
  for (int i = 0; i < 32; i++) {
    snprintf(path, sizeof path, "/dev/input/event%d", i);
    int device = open(path, O_RDONLY);
    if (device < 0) continue;
    unsigned types = 0;
    if (ioctl(device, EVIOCGBIT(0, sizeof types), &types) >= 0 && types >> EV_REP & 1) return device;
    close(device);
  }
  fail("/dev/input has no keyboard");
  return -1;
}

static int compare(const void *a, const void *b) { return *(const long *)a - *(const long *)b; }

int main(int argc, char **argv) {
  int count = argc > 1 ? atoi(argv[1]) : 20;
  if (count < 1 || count > 10000) {
    fprintf(stderr, "keylatency [COUNT up to 10000]\n");
    return 2;
  }
  int terminal = open("/dev/tty0", O_RDWR | O_NOCTTY), keyboard = open_keyboard();
  if (terminal < 0) fail("/dev/tty0");
  int clock = CLOCK_MONOTONIC;
  if (ioctl(keyboard, EVIOCSCLOCKID, &clock)) fail("the events' clock");
  struct termios old, raw;
  if (tcgetattr(terminal, &old)) fail("/dev/tty0");
  raw = old;
  cfmakeraw(&raw);
  tcsetattr(terminal, TCSAFLUSH, &raw);
  long *times = calloc(count, sizeof *times);
  // No page of the program comes from a disk meanwhile.
  if (mlockall(MCL_CURRENT)) fail("mlockall");
  printf("type %d keys\n", count);
  fflush(stdout);
  for (int i = 0; i < count; i++) {
    char byte;
    struct timespec now;
    if (read(terminal, &byte, 1) != 1) fail("read");
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct input_event event;
    // The key of this byte is the next one that goes down.
    do
      if (read(keyboard, &event, sizeof event) != sizeof event) fail("read");
    while (event.type != EV_KEY || event.value != 1);
    times[i] = (now.tv_sec - (long)event.input_event_sec) * 1000000 + now.tv_nsec / 1000 - (long)event.input_event_usec;
  }
  tcsetattr(terminal, TCSANOW, &old);
  qsort(times, count, sizeof *times, compare);
  printf("key_latency_us shortest %ld middle %ld longest %ld\n", times[0], times[count / 2], times[count - 1]);
  return 0;
}
