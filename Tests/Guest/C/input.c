// The keyboard as an input device: what a program writes to it has happened.
#include "terminal.h"
#include <dirent.h>
#include <linux/input.h>
#include <linux/kd.h>
#include <poll.h>
#include <sys/time.h>

static char path[64];
static int device;
static int open_keyboard(int flags) { return OK(open(path, O_RDWR | O_NONBLOCK | flags)); }

static void find_keyboard(void) {
  load_module("evdev");
  DIR *all = opendir("/dev/input");
  CHECK(all != NULL);
  for (struct dirent *entry; (entry = readdir(all));) {
    if (strncmp(entry->d_name, "event", 5)) continue;
    snprintf(path, sizeof path, "/dev/input/%.40s", entry->d_name);
    device = open_keyboard(0);
    uint32_t types = 0;
    OK(ioctl(device, EVIOCGBIT(0, sizeof types), &types));
    if (types >> EV_REP & 1) break;
    OK(close(device));
    device = 0;
  }
  closedir(all);
  CHECK(device > 0);
}

static void put(int type, int code, int value) {
  struct input_event event = {.type = type, .code = code, .value = value};
  EQUAL(write(device, &event, sizeof event), sizeof event);
}
static void report(void) { put(EV_SYN, SYN_REPORT, 0); }
static void tap(int key) {
  put(EV_KEY, key, 1);
  report();
  put(EV_KEY, key, 0);
  report();
}
static void next(int reader, int type, int code, int value) {
  struct input_event event;
  EQUAL(read(reader, &event, sizeof event), sizeof event);
  if (event.type != type || event.code != code || event.value != value)
    FAIL("event %d %d %d, not %d %d %d", event.type, event.code, event.value, type, code, value);
}
static void nothing(int reader) {
  struct input_event event;
  FAILS(read(reader, &event, sizeof event), EAGAIN);
}
static int ready(int reader) {
  struct pollfd one = {.fd = reader, .events = POLLIN | POLLOUT};
  OK(poll(&one, 1, 0));
  return one.revents;
}

CASE(about_itself) {
  find_keyboard();
  int version = 0;
  OK(ioctl(device, EVIOCGVERSION, &version));
  EQUAL(version, 0x10001);
  struct input_id id;
  OK(ioctl(device, EVIOCGID, &id));
  CHECK(id.bustype == BUS_I8042 && id.vendor == 1 && id.product == 1);
  char name[64] = "", few[4] = "xyz";
  int length = OK(ioctl(device, EVIOCGNAME(sizeof name), name));
  CHECK(length == strlen(name) + 1 && strstr(name, "keyboard"));
  EQUAL(ioctl(device, EVIOCGNAME(3), few), 3);
  CHECK(!memcmp(few, name, 3) && few[3] == 0);
  OK(ioctl(device, EVIOCGPHYS(sizeof name), name));
  CHECK(!strcmp(name, "isa0060/serio0/input0"));
  FAILS(ioctl(device, EVIOCGUNIQ(sizeof name), name), ENOENT);
  uint8_t keys[KEY_MAX / 8 + 1] = "";
  EQUAL(ioctl(device, EVIOCGBIT(EV_KEY, sizeof keys), keys), sizeof keys);
  for (int key = KEY_ESC; key <= KEY_KPDOT; key++) CHECK(keys[key / 8] >> key % 8 & 1);
  CHECK(keys[KEY_UP / 8] >> KEY_UP % 8 & 1 && !(keys[BTN_LEFT / 8] >> BTN_LEFT % 8 & 1));
  EQUAL(ioctl(device, EVIOCGBIT(EV_KEY, 5), keys), 5);
  uint32_t bits[2] = {~0, ~0};
  EQUAL(ioctl(device, EVIOCGBIT(EV_LED, 4), bits), 4);
  EQUAL(bits[0], 7);
  EQUAL(bits[1], 0xffffffff);
  EQUAL(ioctl(device, EVIOCGBIT(EV_REL, sizeof bits), bits), 4);
  EQUAL(bits[0], 0);
  EQUAL(ioctl(device, EVIOCGPROP(4), bits), 4);
  FAILS(ioctl(device, EVIOCGBIT(EV_REP, 4), bits), EINVAL);
  FAILS(ioctl(device, EVIOCGBIT(0x1e, 4), bits), EINVAL);
  FAILS(ioctl(device, EVIOCGABS(0), name), EINVAL);
  FAILS(ioctl(device, TCGETS, name), EINVAL);
  FAILS(ioctl(device, EVIOCGVERSION, (void *)16), EFAULT);
  FAILS(ioctl(device, EVIOCGKEY(96), (void *)16), EFAULT);
  FAILS(lseek(device, 0, SEEK_SET), ESPIPE);
  struct stat status;
  OK(fstat(device, &status));
  CHECK(S_ISCHR(status.st_mode) && status.st_rdev >> 8 == 13);
}

CASE(events_in_packets) {
  find_keyboard();
  int reader = open_keyboard(0);
  nothing(reader);
  EQUAL(ready(reader), POLLOUT);
  put(EV_KEY, KEY_F5, 1);
  nothing(reader);
  report();
  EQUAL(ready(reader), POLLIN | POLLOUT);
  struct input_event events[8];
  FAILS(read(reader, events, sizeof *events - 1), EINVAL);
  EQUAL(read(reader, events, 0), 0);
  EQUAL(read(reader, events, sizeof events), 2 * sizeof *events);
  CHECK(events[0].type == EV_KEY && events[0].code == KEY_F5 && events[0].value == 1 && events[1].type == EV_SYN);
  struct timeval now;
  gettimeofday(&now, NULL);
  long age = (now.tv_sec - events[0].input_event_sec) * 1000000 + now.tv_usec - (long)events[0].input_event_usec;
  CHECK(age >= 0 && age < 5000000);
  // What is so already is no event, but for a key that repeats.
  put(EV_KEY, KEY_F5, 1);
  report();
  nothing(reader);
  put(EV_KEY, KEY_F5, 2);
  report();
  next(reader, EV_KEY, KEY_F5, 2);
  next(reader, EV_SYN, SYN_REPORT, 0);
  // And what it does not have is none.
  put(EV_KEY, BTN_LEFT, 1);
  put(EV_REL, REL_X, 1);
  put(0x77, 0, 1);
  report();
  nothing(reader);
  put(EV_KEY, KEY_F5, 0);
  report();
  next(reader, EV_KEY, KEY_F5, 0);
  FAILS(write(device, events, 15), EINVAL);
  FAILS(syscall(SYS_write, device, 16, 16), EFAULT);
  FAILS(write(OK(open(path, O_RDONLY)), events, 16), EBADF);
}

CASE(a_reader_waits) {
  find_keyboard();
  int child = CHILD({
    usleep(50000);
    tap(KEY_F6);
  });
  int reader = OK(open(path, O_RDONLY));
  next(reader, EV_KEY, KEY_F6, 1);
  EQUAL(reap(child), 0);
  struct pollfd one = {.fd = reader, .events = POLLIN};
  EQUAL(poll(&one, 1, 0), 1);
}

CASE(too_many_events) {
  find_keyboard();
  int reader = open_keyboard(0);
  for (int i = 0; i < 100; i++) tap(KEY_F7);
  struct input_event events[100];
  int count = OK(read(reader, events, sizeof events)) / sizeof *events;
  CHECK(count > 2 && count < 64);
  CHECK(events[0].type == EV_SYN && events[0].code == SYN_DROPPED);
  CHECK(events[count - 2].type == EV_KEY && events[count - 2].value == 0 && events[count - 1].code == SYN_REPORT);
}

CASE(how_it_is) {
  find_keyboard();
  uint8_t keys[KEY_MAX / 8 + 1] = "";
  int reader = open_keyboard(0);
  put(EV_KEY, KEY_F8, 1);
  report();
  EQUAL(ioctl(reader, EVIOCGKEY(sizeof keys), keys), sizeof keys);
  CHECK(keys[KEY_F8 / 8] >> KEY_F8 % 8 & 1);
  // The event would say that once more.
  struct input_event event;
  if (read(reader, &event, sizeof event) > 0) CHECK(event.type == EV_SYN);
  put(EV_KEY, KEY_F8, 0);
  report();
  OK(ioctl(reader, EVIOCGKEY(sizeof keys), keys));
  CHECK(!(keys[KEY_F8 / 8] >> KEY_F8 % 8 & 1));
}

CASE(clocks) {
  find_keyboard();
  int reader = open_keyboard(0);
  int clock = CLOCK_MONOTONIC;
  put(EV_KEY, KEY_F9, 1);
  report();
  OK(ioctl(reader, EVIOCSCLOCKID, &clock));
  nothing(reader);
  put(EV_KEY, KEY_F9, 0);
  report();
  next(reader, EV_SYN, SYN_DROPPED, 0);
  struct input_event event;
  EQUAL(read(reader, &event, sizeof event), sizeof event);
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  CHECK(event.input_event_sec <= now.tv_sec && event.input_event_sec + 5 > now.tv_sec);
  clock = CLOCK_PROCESS_CPUTIME_ID;
  FAILS(ioctl(reader, EVIOCSCLOCKID, &clock), EINVAL);
}

CASE(for_one_alone) {
  find_keyboard();
  int reader = open_keyboard(0), other = open_keyboard(0);
  FAILS(ioctl(reader, EVIOCGRAB, 0), EINVAL);
  OK(ioctl(reader, EVIOCGRAB, 1));
  FAILS(ioctl(reader, EVIOCGRAB, 1), EBUSY);
  FAILS(ioctl(other, EVIOCGRAB, 1), EBUSY);
  FAILS(ioctl(other, EVIOCGRAB, 0), EINVAL);
  int terminal = OK(open("/dev/tty1", O_RDWR | O_NOCTTY | O_NONBLOCK));
  make_raw(terminal);
  OK(tcflush(terminal, TCIFLUSH));
  tap(KEY_Q);
  next(reader, EV_KEY, KEY_Q, 1);
  nothing(other);
  char byte;
  errno = 0;
  CHECK(read(terminal, &byte, 1) <= 0);
  // It is for all again when its owner is gone, who has seen a modifier come up.
  OK(ioctl(reader, EVIOCGRAB, 0));
  put(EV_KEY, KEY_LEFTSHIFT, 1);
  report();
  OK(ioctl(reader, EVIOCGRAB, 1));
  put(EV_KEY, KEY_LEFTSHIFT, 0);
  report();
  OK(close(reader));
  tap(KEY_W);
  char typed[2] = "";
  OK(fcntl(terminal, F_SETFL, 0));
  EQUAL(read(terminal, typed, 1), 1);
  if (access("/lib/evdev.ko", F_OK)) EQUAL(typed[0], 'w'); // Linux keeps it held,
  tap(KEY_LEFTSHIFT);                                               // until it comes up, and counts anew
  OK(ioctl(terminal, KDSKBMODE, K_UNICODE));
  OK(close(other));
  other = open_keyboard(0);
  tap(KEY_F1);
  next(other, EV_KEY, KEY_F1, 1);
}

CASE(taken_away) {
  find_keyboard();
  int reader = open_keyboard(0);
  OK(ioctl(reader, EVIOCGRAB, 1));
  FAILS(ioctl(reader, EVIOCREVOKE, 1), EINVAL);
  int waiting = OK(dup(reader));
  OK(fcntl(waiting, F_SETFL, 0));
  int child = CHILD({
    struct input_event event;
    FAILS(read(waiting, &event, sizeof event), ENODEV);
  });
  usleep(50000);
  OK(ioctl(reader, EVIOCREVOKE, 0));
  EQUAL(reap(child), 0);
  struct input_event event = {};
  FAILS(read(reader, &event, sizeof event), ENODEV);
  FAILS(write(reader, &event, sizeof event), ENODEV);
  int version;
  FAILS(ioctl(reader, EVIOCGVERSION, &version), ENODEV);
  CHECK(ready(reader) & POLLHUP && ready(reader) & POLLERR);
  int other = open_keyboard(0);
  tap(KEY_F2);
  next(other, EV_KEY, KEY_F2, 1);
}

CASE(some_events_only) {
  find_keyboard();
  int reader = open_keyboard(0);
  uint8_t keys[KEY_MAX / 8 + 1] = "", got[sizeof keys + 4];
  struct input_mask mask = {.type = EV_KEY, .codes_size = sizeof got, .codes_ptr = (uintptr_t)got};
  memset(got, 0x55, sizeof got);
  OK(ioctl(reader, EVIOCGMASK, &mask));
  CHECK(got[0] == 0xff && got[sizeof keys - 1] == 0xff && got[sizeof keys] == 0);
  keys[KEY_F3 / 8] = 1 << KEY_F3 % 8;
  mask.codes_size = sizeof keys, mask.codes_ptr = (uintptr_t)keys;
  OK(ioctl(reader, EVIOCSMASK, &mask));
  mask.codes_ptr = (uintptr_t)got;
  OK(ioctl(reader, EVIOCGMASK, &mask));
  CHECK(!memcmp(got, keys, sizeof keys));
  tap(KEY_F4);
  nothing(reader);
  tap(KEY_F3);
  next(reader, EV_KEY, KEY_F3, 1);
  next(reader, EV_SYN, SYN_REPORT, 0);
  next(reader, EV_KEY, KEY_F3, 0);
  next(reader, EV_SYN, SYN_REPORT, 0);
  mask.codes_size = 3;
  FAILS(ioctl(reader, EVIOCSMASK, &mask), EINVAL);
  mask.codes_size = 4, mask.codes_ptr = 16;
  FAILS(ioctl(reader, EVIOCSMASK, &mask), EFAULT);
  // A type that is none has no events: everything may be said of it.
  mask.type = 0x1d, mask.codes_size = 4;
  OK(ioctl(reader, EVIOCSMASK, &mask));
}

CASE(what_is_typed) {
  find_keyboard();
  int terminal = OK(open("/dev/tty1", O_RDWR | O_NOCTTY));
  make_raw(terminal);
  OK(tcflush(terminal, TCIFLUSH));
  put(EV_KEY, KEY_LEFTSHIFT, 1);
  tap(KEY_A);
  put(EV_KEY, KEY_LEFTSHIFT, 0);
  tap(KEY_B);
  tap(KEY_UP);
  expect(terminal, "Ab\033[A");
  OK(ioctl(terminal, KDSKBMODE, K_RAW));
  tap(KEY_A);
  tap(KEY_UP);
  expect(terminal, "\x1e\x9e\xe0\x48\xe0\xc8");
  OK(ioctl(terminal, KDSKBMODE, K_MEDIUMRAW));
  tap(KEY_A);
  expect(terminal, "\x1e\x9e");
  OK(ioctl(terminal, KDSKBMODE, 4 /* K_OFF */));
  tap(KEY_C);
  // A modifier that goes down meanwhile is down afterwards.
  put(EV_KEY, KEY_LEFTSHIFT, 1);
  report();
  OK(ioctl(terminal, KDSKBMODE, K_UNICODE));
  tap(KEY_D);
  put(EV_KEY, KEY_LEFTSHIFT, 0);
  tap(KEY_E);
  expect(terminal, "De");
}

static void become(uint32_t wanted) {
  uint32_t lights = ~0;
  for (int i = 0; i < 200 && lights != wanted; i++) {
    EQUAL(ioctl(device, EVIOCGLED(4), &lights), 4);
    usleep(10000);
  }
  EQUAL(lights, wanted);
}

// They are what programs say, and what the terminal that is seen has.
CASE(lights) {
  find_keyboard();
  int reader = open_keyboard(0);
  become(0);
  put(EV_LED, LED_SCROLLL, 1);
  report();
  next(reader, EV_LED, LED_SCROLLL, 1);
  become(1 << LED_SCROLLL);
  put(EV_LED, LED_SCROLLL, 0);
  report();
  int terminal = OK(open("/dev/tty1", O_RDWR | O_NOCTTY));
  OK(ioctl(terminal, KDSETLED, 1));
  become(1 << LED_SCROLLL);
  OK(ioctl(terminal, KDSETLED, 8));
  become(0);
  tap(KEY_CAPSLOCK);
  become(1 << LED_CAPSL);
  tap(KEY_CAPSLOCK);
  become(0);
}

CASE(repetition) {
  find_keyboard();
  uint32_t old[2], now[2] = {500, 100};
  OK(ioctl(device, EVIOCGREP, old));
  CHECK(old[0] >= 250 && old[1] > 0);
  int reader = open_keyboard(0);
  OK(ioctl(device, EVIOCSREP, now));
  report();
  next(reader, EV_REP, REP_DELAY, 500);
  now[0] = 0;
  OK(ioctl(device, EVIOCGREP, now));
  EQUAL(now[0], 500);
  // kbdrate(8)
  int terminal = OK(open("/dev/tty1", O_RDWR | O_NOCTTY));
  struct { int delay, period; } both = {.delay = 0, .period = -1};
  OK(ioctl(terminal, KDKBDREP, &both));
  EQUAL(both.delay, 500);
  both.delay = 250;
  OK(ioctl(terminal, KDKBDREP, &both));
  OK(ioctl(device, EVIOCGREP, now));
  EQUAL(now[0], 250);
  EQUAL(reap(CHILD({
    OK(setuid(1000));
    FAILS(ioctl(terminal, KDKBDREP, &both), EPERM);
    FAILS(open(path, O_RDONLY), EACCES);
  })), 0);
  OK(ioctl(device, EVIOCSREP, old));
}
