// Pseudoterminals: a program at the other side of a terminal.
#include "terminal.h"
#include <poll.h>
#include <pthread.h>

CASE(two_sides) {
  char name[64], here[64];
  int locked = OK(posix_openpt(O_RDWR | O_NOCTTY));
  CHECK(ptsname_r(locked, name, sizeof name) == 0);
  FAILS(open(name, O_RDWR | O_NOCTTY), EIO);
  int master = open_master(name);
  CHECK(!strncmp(name, "/dev/pts/", 9));
  int slave = OK(open(name, O_RDWR | O_NOCTTY));
  CHECK(isatty(slave) && isatty(master));
  CHECK(ttyname_r(slave, here, sizeof here) == 0 && !strcmp(here, name));
  struct stat about;
  OK(fstat(slave, &about));
  CHECK(S_ISCHR(about.st_mode) && about.st_uid == geteuid());
  EQUAL(write(slave, "out\n", 4), 4);
  expect(master, "out\r\n");
  EQUAL(write(master, "a lime\bne\n", 10), 10);
  char line[64];
  struct termios settings;
  OK(tcgetattr(slave, &settings));
  CHECK(settings.c_cc[VERASE] == 127);
  EQUAL(read(slave, line, sizeof line), 10);
  EQUAL(write(master, "typo\177\177pe\n", 9), 9);
  EQUAL(read(slave, line, sizeof line), 5);
  CHECK(!memcmp(line, "type\n", 5));
  // Size, from either side.
  struct winsize size = {40, 132, 0, 0}, is;
  OK(ioctl(master, TIOCSWINSZ, &size));
  OK(ioctl(slave, TIOCGWINSZ, &is));
  CHECK(is.ws_row == 40 && is.ws_col == 132);
  int number;
  OK(ioctl(master, TIOCGPTN, &number));
  sprintf(here, "/dev/pts/%d", number);
  CHECK(!strcmp(here, name));
  int peer = OK(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY));
  CHECK(isatty(peer) && ttyname_r(peer, here, sizeof here) == 0 && !strcmp(here, name));
}

static int transfer_in, transfer_out;
enum { transferred = 300000 };
static void *sender(void *unused) {
  char block[1000];
  for (int sent = 0; sent < transferred;) {
    for (int i = 0; i < sizeof block; i++) block[i] = (sent + i) * 7 >> 3;
    int count = OK(write(transfer_in, block, sizeof block));
    sent += count;
  }
  return unused;
}

// Raw bytes in either direction, faster than the reader: all of them arrive in order.
CASE(nothing_is_lost) {
  char name[64];
  int master = open_master(name), slave = OK(open(name, O_RDWR | O_NOCTTY));
  make_raw(slave);
  for (int way = 0; way < 2; way++) {
    transfer_in = way ? master : slave;
    transfer_out = way ? slave : master;
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, sender, NULL));
    char block[777];
    for (int got = 0; got < transferred;) {
      int count = OK(read(transfer_out, block, sizeof block));
      CHECK(count > 0);
      for (int i = 0; i < count; i++)
        if (block[i] != (char)((got + i) * 7 >> 3)) FAIL("byte %d, way %d", got + i, way);
      got += count;
    }
    CHECK(!pthread_join(thread, NULL));
  }
}

static short state_of(int file) {
  struct pollfd poll_one = {file, POLLIN | POLLOUT};
  OK(poll(&poll_one, 1, 0));
  return poll_one.revents;
}

CASE(ends_go) {
  char name[64], byte;
  int master = open_master(name);
  CHECK(!(state_of(master) & (POLLHUP | POLLIN)));
  int slave = OK(open(name, O_RDWR | O_NOCTTY)), other = OK(open(name, O_RDWR | O_NOCTTY));
  EQUAL(write(slave, "x", 1), 1);
  OK(close(slave));
  CHECK(!(state_of(master) & POLLHUP));
  OK(close(other));
  CHECK((state_of(master) & (POLLHUP | POLLIN)) == (POLLHUP | POLLIN));
  EQUAL(read(master, &byte, 1), 1);
  FAILS(read(master, &byte, 1), EIO);
  // Another open of the slave makes it whole again.
  slave = OK(open(name, O_RDWR | O_NOCTTY));
  CHECK(!(state_of(master) & POLLHUP));
  pid_t child = CHILD({
    OK(close(master));
    FAILS(read(slave, &byte, 1), EIO);  // which the parent's close ends
    EQUAL(read(slave, &byte, 1), 0);
  });
  pause_ms(20);
  OK(close(master));
  EQUAL(reap(child), 0);
  EQUAL(read(slave, &byte, 1), 0);
  FAILS(write(slave, "x", 1), EIO);
  CHECK(state_of(slave) & POLLHUP);
  FAILS(open(name, O_RDWR | O_NOCTTY), ENOENT);
}

CASE(without_waiting) {
  char name[64], block[4096] = "";
  int master = open_master(name), slave = OK(open(name, O_RDWR | O_NOCTTY));
  make_raw(slave);
  OK(fcntl(master, F_SETFL, O_RDWR | O_NONBLOCK));
  OK(fcntl(slave, F_SETFL, O_RDWR | O_NONBLOCK));
  FAILS(read(master, block, 1), EAGAIN);
  FAILS(read(slave, block, 1), EAGAIN);
  for (int way = 0; way < 2; way++) {
    int in = way ? master : slave, out = way ? slave : master, sent = 0, got = 0, count;
    while ((count = write(in, block, sizeof block)) > 0) sent += count;
    EQUAL(errno, EAGAIN);
    CHECK(sent > 1000 && sent < 1 << 20);
    CHECK(!(state_of(in) & POLLOUT));
    for (double end = seconds() + 5; got < sent && seconds() < end;)
      if ((count = read(out, block, sizeof block)) > 0) got += count;
    EQUAL(got, sent);
    for (double end = seconds() + 5; !(state_of(in) & POLLOUT) && seconds() < end;) {}
    CHECK(state_of(in) & POLLOUT);
  }
}

static void *flusher(void *slave) {
  pause_ms(20);
  if (tcflush(*(int *)slave, TCIFLUSH)) return "failed";
  return NULL;
}

// Input that is thrown away makes room for who waits to write more.
CASE(flush_makes_room) {
  char name[64], block[3000] = "", *failure;
  int master = open_master(name), slave = OK(open(name, O_RDWR | O_NOCTTY));
  make_raw(slave);
  pthread_t thread;
  CHECK(!pthread_create(&thread, NULL, flusher, &slave));
  for (int sent = 0; sent < 6000;) sent += OK(write(master, block, sizeof block));
  CHECK(!pthread_join(thread, (void **)&failure) && !failure);
}

static volatile int caught;
static void note(int signal) { caught = signal; }

CASE(session) {
  char name[64], byte = 0;
  int master = open_master(name), ready[2];
  OK(pipe(ready));
  pid_t child = CHILD({
    OK(close(master));
    OK(setsid());
    FAILS(open("/dev/tty", O_RDWR), ENXIO);
    int slave = OK(open(name, O_RDWR));  // it becomes the session's
    int same = OK(open("/dev/tty", O_RDWR));
    EQUAL(tcgetpgrp(slave), getpid());
    EQUAL(tcgetsid(same), getpid());
    struct sigaction a = {.sa_handler = note};
    OK(sigaction(SIGINT, &a, NULL));
    OK(sigaction(SIGWINCH, &a, NULL));
    OK(sigaction(SIGHUP, &a, NULL));
    const int wanted[] = {SIGINT, SIGWINCH, SIGHUP};
    for (int i = 0; i < 3; i++) {
      caught = 0;
      sigset_t set, old;
      sigemptyset(&set);
      for (int k = 0; k < 3; k++) sigaddset(&set, wanted[k]);
      OK(sigprocmask(SIG_BLOCK, &set, &old));
      EQUAL(write(ready[1], "r", 1), 1);
      FAILS(sigsuspend(&old), EINTR);
      EQUAL(caught, wanted[i]);
      OK(sigprocmask(SIG_SETMASK, &old, NULL));
    }
    FAILS(open("/dev/tty", O_RDWR), ENXIO);
  });
  EQUAL(read(ready[0], &byte, 1), 1);
  EQUAL(tcgetpgrp(master), child);
  EQUAL(write(master, "\3", 1), 1);
  EQUAL(read(ready[0], &byte, 1), 1);
  struct winsize size = {10, 20, 0, 0};
  OK(ioctl(master, TIOCSWINSZ, &size));
  EQUAL(read(ready[0], &byte, 1), 1);
  OK(close(master));
  EQUAL(reap(child), 0);
}

CASE(many) {
  enum { count = 64 };
  char names[count][64];
  int masters[count];
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < count; i++) {
      masters[i] = open_master(names[i]);
      for (int k = 0; k < i; k++) CHECK(strcmp(names[i], names[k]));
      OK(access(names[i], F_OK));
    }
    for (int i = 0; i < count; i++) OK(close(masters[i]));
    for (int i = 0; i < count; i++) FAILS(access(names[i], F_OK), ENOENT);
  }
}

static void packet(int master, int status) {
  char got[16] = "";
  struct pollfd one = {.fd = master, .events = POLLIN | POLLPRI};
  EQUAL(poll(&one, 1, 2000), 1);
  CHECK((one.revents & (POLLIN | POLLPRI)) == (POLLIN | POLLPRI));
  EQUAL(read(master, got, sizeof got), 1);
  EQUAL(got[0], status);
}

// Packet mode: the master hears what happens to the terminal.
CASE(packets) {
  char name[64], got[16];
  int master = open_master(name), slave = OK(open(name, O_RDWR | O_NOCTTY)), on = -1;
  OK(ioctl(master, TIOCGPKT, &on));
  EQUAL(on, 0);
  on = 1;
  OK(ioctl(master, TIOCPKT, &on));
  on = -1;
  OK(ioctl(master, TIOCGPKT, &on));
  EQUAL(on, 1);
  EQUAL(write(slave, "ab", 2), 2);
  EQUAL(read(master, got, sizeof got), 3);
  CHECK(!memcmp(got, "\0ab", 3));
  EQUAL(write(slave, "cdef", 4), 4);
  EQUAL(read(master, got, 3), 3);
  CHECK(!memcmp(got, "\0cd", 3));
  EQUAL(read(master, got, sizeof got), 3);
  CHECK(!memcmp(got, "\0ef", 3));
  // What is typed stops output and lets it go on.
  EQUAL(write(master, "\023", 1), 1);
  packet(master, TIOCPKT_STOP);
  EQUAL(write(master, "\021", 1), 1);
  packet(master, TIOCPKT_START);
  OK(tcflow(slave, TCOOFF));
  packet(master, TIOCPKT_STOP);
  OK(tcflow(slave, TCOON));
  packet(master, TIOCPKT_START);
  OK(tcflush(slave, TCIFLUSH));
  packet(master, TIOCPKT_FLUSHREAD);
  OK(tcflush(slave, TCOFLUSH));
  packet(master, TIOCPKT_FLUSHWRITE);
  struct pollfd none = {.fd = master, .events = POLLIN};
  EQUAL(poll(&none, 1, 0), 0);
  // Whether those characters have a meaning.
  struct termios settings;
  OK(tcgetattr(slave, &settings));
  settings.c_iflag &= ~IXON;
  OK(tcsetattr(slave, TCSANOW, &settings));
  packet(master, TIOCPKT_NOSTOP);
  settings.c_lflag &= ~ECHO;
  OK(tcsetattr(slave, TCSANOW, &settings));
  settings.c_iflag |= IXON;
  settings.c_cc[VSTOP] = 'x';
  OK(tcsetattr(slave, TCSANOW, &settings));
  EQUAL(poll(&none, 1, 0), 0);
  settings.c_cc[VSTOP] = 19;
  OK(tcsetattr(slave, TCSANOW, &settings));
  packet(master, TIOCPKT_DOSTOP);
  // News come before data, and all at once.
  EQUAL(write(slave, "x", 1), 1);
  OK(tcflow(slave, TCOOFF));
  OK(tcflush(slave, TCIFLUSH));
  packet(master, TIOCPKT_STOP | TIOCPKT_FLUSHREAD);
  OK(tcflow(slave, TCOON));
  packet(master, TIOCPKT_START);
  EQUAL(read(master, got, sizeof got), 2);
  CHECK(!memcmp(got, "\0x", 2));
  // A signal ends what was under way.
  EQUAL(write(master, "\003", 1), 1);
  packet(master, TIOCPKT_FLUSHREAD | TIOCPKT_FLUSHWRITE);
  on = 0;
  OK(ioctl(master, TIOCPKT, &on));
  OK(tcflush(slave, TCIFLUSH));
  EQUAL(write(slave, "z", 1), 1);
  EQUAL(read(master, got, sizeof got), 1);
  EQUAL(got[0], 'z');
  // Where nobody is left to write, that is seen however little is asked for.
  on = 1;
  OK(ioctl(master, TIOCPKT, &on));
  OK(close(slave));
  FAILS(read(master, got, 1), EIO);
  OK(close(master));
}
