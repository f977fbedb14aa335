// A serial line that hears itself: the chip's loop joins what it sends to what it receives, and the modem's lines.
#include "terminal.h"
#include <poll.h>

static int port;
static struct termios settings;
static void open_loop(void) {
  port = OK(open("/dev/ttyS2", O_RDWR | O_NOCTTY));
  OK(tcgetattr(port, &settings));
  settings.c_cflag |= CLOCAL;
  cfmakeraw(&settings);
  settings.c_cflag &= ~CRTSCTS;
  settings.c_iflag &= ~IXOFF;
  settings.c_cc[VSTOP] = 19, settings.c_cc[VSTART] = 17;
  OK(cfsetspeed(&settings, B115200));
  OK(tcsetattr(port, TCSANOW, &settings));
  OK(tcflow(port, TCOON)); // somebody may have stopped it
  int lines = TIOCM_DTR | TIOCM_RTS | 0x4000 | 0x8000 /* TIOCM_OUT2, TIOCM_LOOP */;
  OK(ioctl(port, TIOCMSET, &lines));
  OK(tcflush(port, TCIOFLUSH));
}

static int queued(int which) {
  int count = -1;
  OK(ioctl(port, which, &count));
  return count;
}

CASE(everything_arrives) {
  open_loop();
  static char sent[3000], got[3000];
  for (int i = 0; i < sizeof sent; i++) sent[i] = i * 7 >> 2;
  EQUAL(write(port, sent, sizeof sent), sizeof sent);
  OK(tcdrain(port));
  EQUAL(queued(TIOCOUTQ), 0);
  for (int have = 0; have < sizeof got;) have += OK(read(port, got + have, sizeof got - have));
  CHECK(!memcmp(sent, got, sizeof sent));
  struct { int modem[4], received, sent, rest[14]; } counts;
  OK(ioctl(port, TIOCGICOUNT, &counts));
  CHECK(counts.received >= 3000 && counts.sent >= 3000);
}

CASE(lines) {
  open_loop();
  int lines = 0;
  OK(ioctl(port, TIOCMGET, &lines));
  CHECK((lines & (TIOCM_RTS | TIOCM_CTS)) == (TIOCM_RTS | TIOCM_CTS));
  CHECK((lines & (TIOCM_DTR | TIOCM_DSR)) == (TIOCM_DTR | TIOCM_DSR));
  int rts = TIOCM_RTS;
  OK(ioctl(port, TIOCMBIC, &rts));
  OK(ioctl(port, TIOCMGET, &lines));
  CHECK(!(lines & (TIOCM_RTS | TIOCM_CTS)) && (lines & TIOCM_DSR));
  OK(ioctl(port, TIOCMBIS, &rts));
  OK(ioctl(port, TIOCMGET, &lines));
  CHECK(lines & TIOCM_CTS);
  // Speed 0 hangs up.
  OK(cfsetspeed(&settings, B0));
  OK(tcsetattr(port, TCSANOW, &settings));
  OK(ioctl(port, TIOCMGET, &lines));
  CHECK(!(lines & TIOCM_DTR));
}

// Nothing is sent while the other side is not ready for it.
CASE(hardware_flow) {
  open_loop();
  settings.c_cflag |= CRTSCTS;
  OK(tcsetattr(port, TCSANOW, &settings));
  int rts = TIOCM_RTS;
  OK(ioctl(port, TIOCMBIC, &rts));
  EQUAL(write(port, "waits", 5), 5);
  struct pollfd one = {.fd = port, .events = POLLIN};
  EQUAL(poll(&one, 1, 100), 0);
  EQUAL(queued(TIOCOUTQ), 5);
  OK(ioctl(port, TIOCMBIS, &rts));
  expect(port, "waits");
  // Output that is not wanted any more.
  OK(ioctl(port, TIOCMBIC, &rts));
  EQUAL(write(port, "never", 5), 5);
  OK(tcflush(port, TCOFLUSH));
  EQUAL(queued(TIOCOUTQ), 0);
  OK(ioctl(port, TIOCMBIS, &rts));
  EQUAL(poll(&one, 1, 100), 0);
}

// A reader that is slow says so.
CASE(software_flow) {
  open_loop();
  settings.c_iflag |= IXOFF;
  OK(tcsetattr(port, TCSANOW, &settings));
  static char text[256], got[8192];
  memset(text, 'x', sizeof text);
  int sent = 0;
  for (; sent < 4000; sent += 250) {
    EQUAL(write(port, text, 250), 250);
    while (queued(FIONREAD) < sent + 250) usleep(1000);
  }
  int have = 0;
  while (queued(FIONREAD) > 0) have += OK(read(port, got + have, 64));
  CHECK(memchr(got, 19, have));
  // And that it is not any more.
  struct pollfd one = {.fd = port, .events = POLLIN};
  while (poll(&one, 1, 100) == 1) have += OK(read(port, got + have, 64));
  CHECK(memchr(got, 17, have));
}

// A character that stops output, and one that interrupts and lets it go on: the line hears what it sends.
CASE(stopped_and_interrupted) {
  open_loop();
  settings.c_iflag |= IXON;
  settings.c_lflag |= ISIG;
  settings.c_cc[VINTR] = 3;
  OK(tcsetattr(port, TCSANOW, &settings));
  fcntl(port, F_SETFL, O_NONBLOCK);
  EQUAL(write(port, "\023", 1), 1);
  usleep(100000);
  if (write(port, "q", 1) < 0) EQUAL(errno, EAGAIN); // Linux takes it, and keeps it
  struct pollfd one = {.fd = port, .events = POLLIN};
  EQUAL(poll(&one, 1, 100), 0);
  // What an administrator types comes the same way.
  OK(ioctl(port, TIOCSTI, "\003"));
  char got[200];
  OK(tcflush(port, TCIFLUSH));
  EQUAL(write(port, "x", 1), 1);
  fcntl(port, F_SETFL, 0);
  EQUAL(read(port, got, 1), 1);
  EQUAL(got[0], 'x');
}

CASE(breaks) {
  open_loop();
  OK(ioctl(port, TIOCSBRK));
  OK(ioctl(port, TIOCCBRK));
  OK(tcsendbreak(port, 0));
  int idle = 0;
  OK(ioctl(port, 0x5459, &idle)); // TIOCSERGETLSR
  EQUAL(idle, 1);
  struct { int type, line, port, irq, rest[11]; } about;
  OK(ioctl(port, TIOCGSERIAL, &about));
  CHECK(about.type == 4 && about.line == 2 && about.port == 0x3e8 && about.irq == 4);
}

// Whose own echo would be echoed hears it once.
CASE(no_echo_of_an_echo) {
  open_loop();
  settings.c_lflag |= ECHO;
  OK(tcsetattr(port, TCSANOW, &settings));
  EQUAL(write(port, "once", 4), 4);
  char got[8] = "";
  for (int have = 0; have < 4;) have += OK(read(port, got + have, 4 - have));
  CHECK(!memcmp(got, "once", 4));
  struct pollfd one = {.fd = port, .events = POLLIN};
  EQUAL(poll(&one, 1, 100), 0);
  settings.c_lflag &= ~ECHO;
  OK(tcsetattr(port, TCSANOW, &settings));
}

// A terminal is for all again when nobody has it open any more, and its settings can be changed.
CASE(exclusive_while_open) {
  open_loop();
  OK(chmod("/dev/ttyS2", 0666));
  OK(ioctl(port, TIOCEXCL));
  struct termios lock;
  memset(&lock, 0xff, sizeof lock);
  OK(ioctl(port, TIOCSLCKTRMIOS, &lock));
  int second = OK(dup(port));
  OK(close(port));
  EQUAL(reap(CHILD({
    OK(setuid(1000));
    FAILS(open("/dev/ttyS2", O_RDWR | O_NOCTTY | O_NONBLOCK), EBUSY);
    OK(close(second));
    FAILS(open("/dev/ttyS2", O_RDWR | O_NOCTTY | O_NONBLOCK), EBUSY);
  })), 0);
  OK(close(second));
  EQUAL(reap(CHILD({
    OK(setuid(1000));
    int line = OK(open("/dev/ttyS2", O_RDWR | O_NOCTTY | O_NONBLOCK));
    OK(ioctl(line, TIOCGLCKTRMIOS, &lock));
    EQUAL(lock.c_lflag, 0);
  })), 0);
  OK(chmod("/dev/ttyS2", 0620));
}
