// What cases about terminals share: one whose other side they are.
#ifndef ADROS_TERMINAL_H
#define ADROS_TERMINAL_H
#include "test.h"
#include <sys/ioctl.h>
#include <termios.h>

__attribute__((unused)) static int open_master(char *name) {
  int master = OK(posix_openpt(O_RDWR | O_NOCTTY));
  OK(grantpt(master));
  OK(unlockpt(master));
  CHECK(ptsname_r(master, name, 64) == 0);
  return master;
}

__attribute__((unused)) static void make_raw(int terminal) {
  struct termios settings;
  OK(tcgetattr(terminal, &settings));
  cfmakeraw(&settings);
  OK(tcsetattr(terminal, TCSANOW, &settings));
}

__attribute__((unused)) static void expect(int file, const char *wanted) {
  char got[256] = "";
  int have = 0, length = strlen(wanted);
  while (have < length) {
    int count = OK(read(file, got + have, length - have));
    CHECK(count > 0);
    have += count;
  }
  if (strcmp(got, wanted)) FAIL("\"%s\" instead of \"%s\"", got, wanted);
}
#endif
