// Virtual terminals: a screen, a keyboard, and what they are asked.
#include "test.h"
#include <linux/kd.h>
#include <linux/keyboard.h>
#include <linux/vt.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

static int terminal(const char *name, struct termios *old) {
  int fd = OK(open(name, O_RDWR | O_NOCTTY));
  struct termios raw;
  OK(tcgetattr(fd, old));
  raw = *old;
  cfmakeraw(&raw);
  OK(tcsetattr(fd, TCSANOW, &raw));
  OK(tcflush(fd, TCIFLUSH));
  return fd;
}
// A terminal that nobody uses any more takes no memory.
static void forget(int number) {
  int current = OK(open("/dev/tty0", O_RDWR | O_NOCTTY));
  OK(ioctl(current, VT_DISALLOCATE, number));
  OK(close(current));
}
// What a terminal answers to some output.
static void answers(int fd, const char *question, const char *wanted) {
  char found[100] = "";
  EQUAL(write(fd, question, strlen(question)), strlen(question));
  for (size_t have = 0; have < strlen(wanted);) {
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    if (poll(&ready, 1, 2000) != 1) FAIL("no answer to %s but %s", question + 1, found + 1);
    have += OK(read(fd, found + have, sizeof found - 1 - have));
  }
  if (strcmp(found, wanted)) FAIL("%s answers %s, not %s", question + 1, found + 1, wanted + 1);
}

CASE(a_screen_answers) {
  struct termios old;
  int fd = terminal("/dev/tty5", &old);
  struct winsize size;
  OK(ioctl(fd, TIOCGWINSZ, &size));
  CHECK(size.ws_row >= 25 && size.ws_col >= 80);
  answers(fd, "\033c\033[c", "\033[?6c");
  answers(fd, "\033Z", "\033[?6c");
  answers(fd, "\033[5n", "\033[0n");
  answers(fd, "\033[3;7H\033[6n", "\033[3;7R");
  answers(fd, "\033[2J\033[H12345\r\n\033[6n", "\033[2;1R");
  answers(fd, "\033c\t\033[6n", "\033[1;9R");
  // UTF-8 is one column a character, two for some; half of one is none.
  answers(fd, "\r\303\251\342\202\254\033[6n", "\033[1;3R");
  char corner[32];
  sprintf(corner, "\033[%d;%dR", size.ws_row, size.ws_col - 3);
  answers(fd, "\033[999;999H\033[3D\033[6n", corner);
  OK(tcsetattr(fd, TCSANOW, &old));
  OK(close(fd));
  forget(5);
}

CASE(keyboards_and_displays) {
  int fd = OK(open("/dev/tty5", O_RDWR | O_NOCTTY)), value = -1;
  char byte = 0;
  OK(ioctl(fd, KDGKBTYPE, &byte));
  EQUAL(byte, KB_101);
  OK(ioctl(fd, KDGETMODE, &value));
  EQUAL(value, KD_TEXT);
  OK(ioctl(fd, KDSETMODE, KD_GRAPHICS));
  OK(ioctl(fd, KDGETMODE, &value));
  EQUAL(value, KD_GRAPHICS);
  OK(ioctl(fd, KDSETMODE, KD_TEXT));
  FAILS(ioctl(fd, KDSETMODE, 77), EINVAL);
  OK(ioctl(fd, KDGKBMODE, &value));
  EQUAL(value, K_UNICODE);
  static const int modes[] = {K_RAW, K_XLATE, K_MEDIUMRAW, K_OFF, K_UNICODE};
  for (int i = 0; i < 5; i++) {
    OK(ioctl(fd, KDSKBMODE, modes[i]));
    OK(ioctl(fd, KDGKBMODE, &value));
    EQUAL(value, modes[i]);
  }
  FAILS(ioctl(fd, KDSKBMODE, 9), EINVAL);
  OK(ioctl(fd, KDSETLED, LED_CAP | LED_NUM));
  OK(ioctl(fd, KDSETLED, 0xFF + 1));
  OK(ioctl(fd, KDSKBLED, K_CAPSLOCK));
  OK(ioctl(fd, KDGKBLED, &byte));
  EQUAL(byte & 7, K_CAPSLOCK);
  OK(ioctl(fd, KDSKBLED, 0));
  FAILS(ioctl(fd, KDSKBLED, 0x80), EINVAL);
  FAILS(ioctl(fd, KDGKBMODE, 1), EFAULT);
  FAILS(ioctl(fd, 0x4BFF, 0), ENOTTY);
  OK(close(fd));
  forget(5);
}

CASE(key_maps) {
  int fd = OK(open("/dev/tty5", O_RDWR | O_NOCTTY));
  struct kbentry a = {.kb_table = K_NORMTAB, .kb_index = 30};
  OK(ioctl(fd, KDGKBENT, &a));
  EQUAL(a.kb_value, 0x0B61);
  a.kb_table = K_SHIFTTAB;
  OK(ioctl(fd, KDGKBENT, &a));
  EQUAL(a.kb_value, 0x0B41);
  struct kbentry f1 = {.kb_table = 8, .kb_index = 59};
  OK(ioctl(fd, KDGKBENT, &f1));
  EQUAL(f1.kb_value, 0x0500);
  a.kb_table = K_NORMTAB;
  a.kb_value = 0xD0AC; // the euro
  OK(ioctl(fd, KDSKBENT, &a));
  a.kb_value = 0;
  OK(ioctl(fd, KDGKBENT, &a));
  EQUAL(a.kb_value, 0xD0AC);
  a.kb_value = 0x0B61;
  OK(ioctl(fd, KDSKBENT, &a));
  FAILS(ioctl(fd, KDSKBENT, 16), EFAULT);
  // Tables come and go.
  struct kbentry table = {.kb_table = 200, .kb_index = 0};
  OK(ioctl(fd, KDGKBENT, &table));
  EQUAL(table.kb_value, K_NOSUCHMAP);
  table.kb_index = 200;
  table.kb_value = 0x0B61;
  OK(ioctl(fd, KDSKBENT, &table));
  table.kb_index = 0;
  OK(ioctl(fd, KDGKBENT, &table));
  CHECK(table.kb_value != K_NOSUCHMAP);
  table.kb_value = K_NOSUCHMAP;
  OK(ioctl(fd, KDSKBENT, &table));
  OK(ioctl(fd, KDGKBENT, &table));
  EQUAL(table.kb_value, K_NOSUCHMAP);
  EQUAL(reap(CHILD({
          OK(setsid());
          OK(setuid(1000));
          FAILS(ioctl(fd, KDSKBENT, &a), EPERM);
          FAILS(ioctl(fd, KDSKBMODE, K_RAW), EPERM);
          FAILS(ioctl(fd, KDSETMODE, KD_GRAPHICS), EPERM);
          FAILS(ioctl(fd, KDSETLED, 7), EPERM);
          FAILS(ioctl(fd, VT_ACTIVATE, 2), EPERM);
          OK(ioctl(fd, KDGKBENT, &a));
        })),
        0);
  OK(close(fd));
  forget(5);
}

CASE(one_is_seen) {
  int fd = OK(open("/dev/tty5", O_RDWR | O_NOCTTY)), current = OK(open("/dev/tty0", O_RDWR | O_NOCTTY)), number;
  struct vt_stat before, after;
  OK(ioctl(fd, VT_GETSTATE, &before));
  CHECK(before.v_active >= 1 && before.v_state & 1);
  OK(ioctl(fd, VT_ACTIVATE, 6));
  OK(ioctl(fd, VT_WAITACTIVE, 6));
  OK(ioctl(fd, VT_GETSTATE, &after));
  EQUAL(after.v_active, 6);
  struct vt_mode mode;
  OK(ioctl(fd, VT_GETMODE, &mode));
  EQUAL(mode.mode, VT_AUTO);
  OK(ioctl(fd, VT_OPENQRY, &number));
  CHECK(number >= 1 && number <= 63);
  FAILS(ioctl(fd, VT_ACTIVATE, 0), ENXIO);
  FAILS(ioctl(fd, VT_ACTIVATE, 64), ENXIO);
  FAILS(ioctl(fd, VT_ACTIVATE, -1), ENXIO);
  OK(ioctl(current, VT_ACTIVATE, before.v_active));
  OK(ioctl(current, VT_WAITACTIVE, before.v_active));
  FAILS(ioctl(current, VT_DISALLOCATE, 5), EBUSY);
  FAILS(ioctl(current, VT_DISALLOCATE, before.v_active), EBUSY);
  FAILS(ioctl(current, VT_DISALLOCATE, 64), ENXIO);
  OK(close(fd));
  OK(close(current));
  forget(5);
  forget(6);
}

// Any output, and questions without an end: nothing is lost but what nobody reads.
CASE(any_output) {
  struct termios old;
  int fd = terminal("/dev/tty6", &old);
  unsigned seed = 7;
  static char block[4096];
  static const char favourites[] = "\033[;?0123456789HJKmhlrcnPLM@X\r\n\t\b\016\017#%()]";
  for (int round = 0; round < 100; round++) {
    for (unsigned i = 0; i < sizeof block; i++) {
      seed = seed * 1103515245 + 12345;
      block[i] = seed >> 16 & 1 ? favourites[(seed >> 17) % (sizeof favourites - 1)] : (char)(seed >> 20);
    }
    EQUAL(write(fd, block, sizeof block), (int)sizeof block);
    OK(tcflush(fd, TCIFLUSH));
  }
  for (int i = 0; i < 2000; i++) EQUAL(write(fd, "\033[c", 3), 3);
  OK(tcflush(fd, TCIFLUSH));
  answers(fd, "\033c\033[5n", "\033[0n");
  OK(tcsetattr(fd, TCSANOW, &old));
  OK(close(fd));
  forget(6);
}
