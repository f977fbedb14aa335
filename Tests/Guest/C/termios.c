// Terminals' settings, flow, and whose they are. What the line discipline does with each flag is a host test, beside Linux.
#include "terminal.h"
#include <poll.h>

// The C library does not know it, but the ioctls' numbers do.
struct termios2 {
  tcflag_t in, out, control, local;
  cc_t line, characters[19];
  unsigned in_speed, out_speed;
};

struct old_termio {
  unsigned short in, out, control, local;
  unsigned char line, characters[8];
};

static int master, slave;
static char name[64];
static void open_both(void) {
  master = open_master(name);
  slave = OK(open(name, O_RDWR | O_NOCTTY));
}

// What is typed is read as it was, or not at all.
static void set_flags(tcflag_t in_on, tcflag_t in_off, tcflag_t local_on, tcflag_t local_off) {
  struct termios settings;
  OK(tcgetattr(slave, &settings));
  settings.c_iflag = (settings.c_iflag | in_on) & ~in_off;
  settings.c_lflag = (settings.c_lflag | local_on) & ~local_off;
  OK(tcsetattr(slave, TCSANOW, &settings));
}

static int is_quiet(int file) {
  struct pollfd one = {.fd = file, .events = POLLIN};
  return poll(&one, 1, 50) == 0;
}

CASE(old_structure) {
  open_both();
  struct old_termio old;
  struct termios new;
  OK(ioctl(slave, TCGETA, &old));
  OK(tcgetattr(slave, &new));
  EQUAL(old.in, new.c_iflag & 0xffff);
  EQUAL(old.local, new.c_lflag & 0xffff);
  EQUAL(old.characters[VEOF], new.c_cc[VEOF]);
  old.local &= ~ECHO;
  old.characters[VINTR] = 7;
  OK(ioctl(slave, TCSETA, &old));
  OK(tcgetattr(slave, &new));
  CHECK(!(new.c_lflag & ECHO) && new.c_cc[VINTR] == 7 && new.c_cc[VSTOP] == 19);
  OK(ioctl(slave, TCSETAF, &old));
  FAILS(ioctl(slave, TCSETAW, (void *)16), EFAULT);
  FAILS(ioctl(slave, TCGETA, (void *)16), EFAULT);
}

// Codes and numbers of speeds.
CASE(speeds) {
  open_both();
  struct termios settings;
  OK(tcgetattr(slave, &settings));
  EQUAL(cfgetospeed(&settings), B38400);
  OK(cfsetspeed(&settings, B115200));
  OK(tcsetattr(slave, TCSANOW, &settings));
  struct termios2 with_speeds;
  OK(ioctl(slave, TCGETS2, &with_speeds));
  EQUAL(with_speeds.in_speed, 115200);
  EQUAL(with_speeds.out_speed, 115200);
  with_speeds.control = (with_speeds.control & ~0x100f) | 0x1000; // BOTHER
  with_speeds.in_speed = with_speeds.out_speed = 31250;
  OK(ioctl(slave, TCSETS2, &with_speeds));
  OK(ioctl(slave, TCGETS2, &with_speeds));
  EQUAL(with_speeds.out_speed, 31250);
}

CASE(size_in_pixels) {
  open_both();
  struct winsize size = {24, 80, 640, 384}, is = {0};
  OK(ioctl(slave, TIOCSWINSZ, &size));
  OK(ioctl(master, TIOCGWINSZ, &is));
  CHECK(!memcmp(&size, &is, sizeof is));
  FAILS(ioctl(slave, TIOCSWINSZ, (void *)16), EFAULT);
}

// Settings that only an administrator unlocks.
CASE(locked_settings) {
  open_both();
  struct termios lock = {0}, settings, is;
  lock.c_lflag = ECHO;
  lock.c_cc[VINTR] = 1;
  OK(ioctl(slave, TIOCSLCKTRMIOS, &lock));
  memset(&is, 0, sizeof is);
  OK(ioctl(slave, TIOCGLCKTRMIOS, &is));
  CHECK(is.c_lflag == ECHO && is.c_cc[VINTR] == 1);
  OK(tcgetattr(slave, &settings));
  settings.c_lflag &= ~(ECHO | ICANON);
  settings.c_cc[VINTR] = 9, settings.c_cc[VQUIT] = 8;
  OK(tcsetattr(slave, TCSANOW, &settings));
  OK(tcgetattr(slave, &is));
  CHECK((is.c_lflag & ECHO) && !(is.c_lflag & ICANON) && is.c_cc[VINTR] == 3 && is.c_cc[VQUIT] == 8);
  EQUAL(reap(CHILD({
    OK(setuid(1000));
    FAILS(ioctl(slave, TIOCSLCKTRMIOS, &lock), EPERM);
  })), 0);
  lock.c_lflag = 0;
  lock.c_cc[VINTR] = 0;
  OK(ioctl(slave, TIOCSLCKTRMIOS, &lock));
}

CASE(exclusive) {
  open_both();
  int is = -1;
  OK(ioctl(slave, TIOCGEXCL, &is));
  EQUAL(is, 0);
  OK(fchmod(slave, 0666));
  OK(ioctl(slave, TIOCEXCL));
  OK(ioctl(slave, TIOCGEXCL, &is));
  EQUAL(is, 1);
  OK(close(OK(open(name, O_RDWR | O_NOCTTY))));
  EQUAL(reap(CHILD({
    OK(setuid(1000));
    FAILS(open(name, O_RDWR | O_NOCTTY), EBUSY);
  })), 0);
  OK(ioctl(slave, TIOCNXCL));
  EQUAL(reap(CHILD({
    OK(setuid(1000));
    OK(open(name, O_RDWR | O_NOCTTY));
  })), 0);
}

// Output that is held: echo waits with it, and no character lets it go.
CASE(held_output) {
  open_both();
  fcntl(slave, F_SETFL, O_NONBLOCK);
  EQUAL(write(master, "\023ab", 3), 3);
  CHECK(is_quiet(master));
  FAILS(write(slave, "x", 1), EAGAIN);
  EQUAL(write(master, "\021", 1), 1);
  expect(master, "ab");
  OK(tcflow(slave, TCOOFF));
  EQUAL(write(master, "\021c", 2), 2);
  CHECK(is_quiet(master));
  FAILS(write(slave, "x", 1), EAGAIN);
  OK(tcflow(slave, TCOON));
  EQUAL(write(master, "d", 1), 1); // Linux shows what has waited with the next one
  expect(master, "cd");
  EQUAL(write(slave, "x", 1), 1);
  expect(master, "x");
  // Who gives up the characters does not stay stopped by one.
  EQUAL(write(master, "\023", 1), 1);
  CHECK(is_quiet(master));
  set_flags(0, IXON, 0, 0);
  EQUAL(write(slave, "y", 1), 1);
  expect(master, "y");
  set_flags(IXON | IXANY, 0, 0, 0);
  EQUAL(write(master, "\023z", 2), 2);
  expect(master, "z");
  FAILS(ioctl(slave, TCXONC, 4), EINVAL);
  // Characters that ask the other side to stop, and to go on.
  OK(tcflow(slave, TCIOFF));
  expect(master, "\023");
  OK(tcflow(slave, TCION));
  expect(master, "\021");
}

// A key that interrupts lets output go on, too, without what was waiting.
CASE(interrupted_output) {
  open_both();
  EQUAL(write(slave, "old", 3), 3);
  EQUAL(write(master, "\023\003", 2), 2);
  CHECK(!is_quiet(master));
  set_flags(0, 0, 0, ICANON | ECHO);
  EQUAL(write(slave, ".", 1), 1);
  char got[16] = "";
  for (int have = 0; got[have ? have - 1 : 0] != '.';) have += OK(read(master, got + have, sizeof got - have));
  // Linux shows what had left already.
  CHECK(!strcmp(got, "^C.") || !strcmp(got, "old^C."));
}

static int pending(void) {
  int count = -1;
  OK(ioctl(slave, FIONREAD, &count));
  return count;
}

CASE(counted_input) {
  open_both();
  EQUAL(write(master, "one\ntwo\nthr", 11), 11);
  CHECK(!is_quiet(slave));
  CHECK(is_quiet(master) == 0);
  while (pending() != 8) usleep(1000);
  EQUAL(write(master, "\004", 1), 1);
  while (pending() != 11) usleep(1000);
  char got[16];
  EQUAL(read(slave, got, sizeof got), 4);
  EQUAL(read(slave, got, 3), 3);
  EQUAL(read(slave, got, sizeof got), 1);
  EQUAL(read(slave, got, sizeof got), 3);
  EQUAL(pending(), 0);
}

// MIN and TIME, all four cases.
CASE(minimum_and_time) {
  open_both();
  make_raw(slave);
  struct termios settings;
  OK(tcgetattr(slave, &settings));
  char got[16];
  settings.c_cc[VMIN] = 0, settings.c_cc[VTIME] = 0;
  OK(tcsetattr(slave, TCSANOW, &settings));
  EQUAL(read(slave, got, sizeof got), 0);
  settings.c_cc[VTIME] = 2;
  OK(tcsetattr(slave, TCSANOW, &settings));
  struct timespec before, after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  EQUAL(read(slave, got, sizeof got), 0);
  clock_gettime(CLOCK_MONOTONIC, &after);
  long long waited = (after.tv_sec - before.tv_sec) * 1000LL + (after.tv_nsec - before.tv_nsec) / 1000000;
  CHECK(waited >= 150);
  EQUAL(write(master, "abc", 3), 3);
  EQUAL(read(slave, got, 2), 2);
  EQUAL(read(slave, got, 2), 1);
  // So many bytes, however long that takes.
  settings.c_cc[VMIN] = 3, settings.c_cc[VTIME] = 0;
  OK(tcsetattr(slave, TCSANOW, &settings));
  EQUAL(write(master, "ab", 2), 2);
  CHECK(is_quiet(slave));
  pid_t child = OK(fork());
  if (child == 0) {
    usleep(100000);
    _exit(write(master, "c", 1) != 1);
  }
  EQUAL(read(slave, got, sizeof got), 3);
  // So many, or what has come when nothing more does.
  settings.c_cc[VMIN] = 5, settings.c_cc[VTIME] = 1;
  OK(tcsetattr(slave, TCSANOW, &settings));
  EQUAL(write(master, "xy", 2), 2);
  EQUAL(read(slave, got, sizeof got), 2);
  // Who asks for less than the minimum waits for that.
  settings.c_cc[VTIME] = 0;
  OK(tcsetattr(slave, TCSANOW, &settings));
  EQUAL(write(master, "vw", 2), 2);
  EQUAL(read(slave, got, 2), 2);
}

// With TCSAFLUSH what was typed is gone.
CASE(flushed_by_a_change) {
  open_both();
  EQUAL(write(master, "gone\n", 5), 5);
  expect(master, "gone\r\n");
  struct termios settings;
  OK(tcgetattr(slave, &settings));
  OK(tcsetattr(slave, TCSAFLUSH, &settings));
  EQUAL(pending(), 0);
  OK(tcdrain(slave));
  OK(tcsendbreak(slave, 0));
  FAILS(ioctl(slave, TCFLSH, 3), EINVAL);
}

static void expect_signal(int number) {
  siginfo_t about;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  struct timespec limit = {5, 0};
  EQUAL(sigtimedwait(&set, &about, &limit), number);
}

// A terminal that is hung up: what has it open finds the end, and the next one finds a new terminal.
CASE(hung_up) {
  open_both();
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGHUP), sigaddset(&set, SIGCONT);
  pid_t child = OK(fork());
  if (child == 0) {
    OK(sigprocmask(SIG_BLOCK, &set, 0));
    OK(setsid());
    OK(ioctl(slave, TIOCSCTTY, 0));
    int again = OK(open("/dev/tty", O_RDWR));
    OK(ioctl(slave, TIOCVHANGUP));
    expect_signal(SIGHUP);
    expect_signal(SIGCONT);
    char got[4];
    EQUAL(read(slave, got, 4), 0);
    FAILS(write(slave, "x", 1), EIO);
    struct termios settings;
    FAILS(tcgetattr(again, &settings), EIO);
    struct pollfd one = {.fd = slave, .events = POLLIN};
    EQUAL(poll(&one, 1, 0), 1);
    CHECK(one.revents & POLLHUP);
    FAILS(open("/dev/tty", O_RDWR), ENXIO);
    _exit(0);
  }
  int status;
  OK(waitpid(child, &status, 0));
  EQUAL(status, 0);
  int again = OK(open(name, O_RDWR | O_NOCTTY));
  EQUAL(write(again, "new", 3), 3);
  expect(master, "new");
  EQUAL(reap(CHILD({
    OK(setuid(1000));
    FAILS(ioctl(again, TIOCVHANGUP), EPERM);
  })), 0);
}

// Only an administrator takes a terminal from another session, which has none then.
CASE(taken_away) {
  open_both();
  int ready[2], taken[2];
  OK(pipe(ready));
  OK(pipe(taken));
  pid_t owner = CHILD({
    char byte;
    OK(setsid());
    OK(ioctl(slave, TIOCSCTTY, 0));
    EQUAL(write(ready[1], "r", 1), 1);
    EQUAL(read(taken[0], &byte, 1), 1);
    FAILS(open("/dev/tty", O_RDWR), ENXIO);
    EQUAL(write(ready[1], "s", 1), 1);
  });
  char byte;
  EQUAL(read(ready[0], &byte, 1), 1);
  EQUAL(reap(CHILD({
    OK(setuid(1000));
    OK(setsid());
    FAILS(ioctl(slave, TIOCSCTTY, 1), EPERM);
  })), 0);
  EQUAL(reap(CHILD({
    OK(setsid());
    FAILS(ioctl(slave, TIOCSCTTY, 0), EPERM);
    OK(ioctl(slave, TIOCSCTTY, 1));
    EQUAL(tcgetpgrp(slave), getpid());
    OK(close(OK(open("/dev/tty", O_RDWR))));
    EQUAL(write(taken[1], "t", 1), 1);
    EQUAL(read(ready[0], &byte, 1), 1); // it has looked
  })), 0);
  EQUAL(reap(owner), 0);
}

// A system call that does the same for one's own terminal.
CASE(hangs_itself_up) {
  open_both();
  EQUAL(reap(CHILD({
    signal(SIGHUP, SIG_IGN);
    OK(setsid());
    OK(ioctl(slave, TIOCSCTTY, 0));
    OK(syscall(SYS_vhangup));
    char got[4];
    EQUAL(read(slave, got, 4), 0);
    FAILS(open("/dev/tty", O_RDWR), ENXIO);
  })), 0);
  FAILS(write(slave, "x", 1), EIO);
  EQUAL(reap(CHILD({
    OK(setuid(1000));
    FAILS(syscall(SYS_vhangup), EPERM);
  })), 0);
}

// A terminal that is no pseudoterminal is cut off when its session's leader ends, so that the next one has it for itself.
CASE(ends_with_its_session) {
  int terminal = OK(open("/dev/tty5", O_RDWR | O_NOCTTY | O_NONBLOCK));
  EQUAL(reap(CHILD({
    OK(setsid());
    OK(ioctl(terminal, TIOCSCTTY, 0));
    int group = OK(tcgetpgrp(terminal));
    EQUAL(group, getpid());
    make_raw(terminal);
    OK(tcflow(terminal, TCOOFF));
  })), 0);
  char got[4];
  EQUAL(read(terminal, got, 4), 0);
  FAILS(write(terminal, "x", 1), EIO);
  OK(close(terminal));
  // What it had set, and stopped, is not the next one's.
  terminal = OK(open("/dev/tty5", O_RDWR | O_NOCTTY | O_NONBLOCK));
  struct termios settings;
  OK(tcgetattr(terminal, &settings));
  CHECK((settings.c_lflag & ICANON) && (settings.c_lflag & ECHO));
  FAILS(read(terminal, got, 4), EAGAIN);
  EQUAL(write(terminal, "x", 1), 1);
  OK(close(terminal));
  terminal = OK(open("/dev/tty1", O_RDWR | O_NOCTTY));
  OK(ioctl(terminal, 0x5608, 5)); // VT_DISALLOCATE
}

// Typing for others is for administrators.
CASE(simulated_input) {
  open_both();
  set_flags(0, 0, 0, ICANON | ECHO);
  EQUAL(reap(CHILD({
    OK(setuid(1000));
    int result = ioctl(slave, TIOCSTI, "x");
    CHECK(result < 0 && (errno == EIO || errno == EPERM));
  })), 0);
  CHECK(is_quiet(slave));
  OK(ioctl(slave, TIOCSTI, "x"));
  char got[4];
  EQUAL(read(slave, got, 4), 1);
  EQUAL(got[0], 'x');
}

// The master signals the terminal's foreground.
CASE(signal_from_the_master) {
  open_both();
  int ready[2];
  OK(pipe(ready));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGQUIT);
  pid_t child = OK(fork());
  if (child == 0) {
    OK(sigprocmask(SIG_BLOCK, &set, 0));
    OK(setsid());
    OK(ioctl(slave, TIOCSCTTY, 0));
    EQUAL(write(ready[1], "r", 1), 1);
    expect_signal(SIGQUIT);
    _exit(0);
  }
  char byte;
  EQUAL(read(ready[0], &byte, 1), 1);
  OK(ioctl(master, TIOCSIG, SIGQUIT));
  int status;
  OK(waitpid(child, &status, 0));
  EQUAL(status, 0);
  FAILS(ioctl(master, TIOCSIG, 99), EINVAL);
  FAILS(ioctl(master, TIOCSIG, SIGKILL), EINVAL);
}

// What a terminal without such lines is asked.
CASE(not_a_serial_line) {
  open_both();
  int bits, discipline = 0;
  FAILS(ioctl(slave, TIOCMGET, &bits), ENOTTY);
  FAILS(ioctl(slave, TIOCGICOUNT, &bits), ENOTTY);
  OK(ioctl(slave, TIOCGETD, &discipline));
  EQUAL(discipline, 0);
  OK(ioctl(slave, TIOCSETD, &discipline));
  discipline = 99;
  FAILS(ioctl(slave, TIOCSETD, &discipline), EINVAL);
  unsigned device;
  OK(ioctl(slave, TIOCGDEV, &device));
  struct stat about;
  OK(fstat(slave, &about));
  EQUAL(device, about.st_rdev);
  int carrier = -1;
  OK(ioctl(slave, TIOCGSOFTCAR, &carrier));
  EQUAL(carrier, 0);
  carrier = 1;
  OK(ioctl(slave, TIOCSSOFTCAR, &carrier));
  struct termios settings;
  OK(tcgetattr(slave, &settings));
  CHECK(settings.c_cflag & CLOCAL);
}
