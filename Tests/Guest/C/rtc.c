// The clock that a battery keeps going.
#include "test.h"
#include <linux/rtc.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <time.h>

static int rtc;
static void open_clock(void) { rtc = OK(open("/dev/rtc0", O_RDONLY | O_NONBLOCK)); }
static struct rtc_time at(time_t when) {
  struct tm parts;
  gmtime_r(&when, &parts);
  return (struct rtc_time){parts.tm_sec, parts.tm_min, parts.tm_hour, parts.tm_mday, parts.tm_mon, parts.tm_year, -1, -1, 0};
}
static time_t since_1970(const struct rtc_time *time) {
  struct tm parts = {.tm_sec = time->tm_sec, .tm_min = time->tm_min, .tm_hour = time->tm_hour, .tm_mday = time->tm_mday,
                     .tm_mon = time->tm_mon, .tm_year = time->tm_year};
  return timegm(&parts);
}
static time_t now(void) {
  struct rtc_time time;
  OK(ioctl(rtc, RTC_RD_TIME, &time));
  return since_1970(&time);
}
static unsigned long wait_for(int milliseconds) {
  struct pollfd one = {.fd = rtc, .events = POLLIN};
  if (OK(poll(&one, 1, milliseconds)) == 0) return 0;
  unsigned long data;
  EQUAL(read(rtc, &data, sizeof data), sizeof data);
  return data;
}

CASE(time_of_day) {
  open_clock();
  time_t wall = time(NULL), battery = now();
  CHECK(battery >= wall - 3 && battery <= wall + 3);
  FAILS(open("/dev/rtc0", O_RDONLY), EBUSY);
  FAILS(ioctl(rtc, RTC_RD_TIME, (void *)16), EFAULT);
  FAILS(ioctl(rtc, 0x70ff, 0), ENOTTY);
  char few[3];
  FAILS(read(rtc, few, sizeof few), EINVAL);
  unsigned long data;
  FAILS(read(rtc, &data, sizeof data), EAGAIN);
}

CASE(is_set) {
  open_clock();
  time_t before = now();
  struct rtc_time set = at(1709210096); // 2024-02-29 12:34:56
  OK(ioctl(rtc, RTC_SET_TIME, &set));
  time_t shown = now();
  CHECK(shown >= 1709210096 && shown < 1709210096 + 5);
  set = at(before);
  OK(ioctl(rtc, RTC_SET_TIME, &set));
  for (int i = 0; i < 6; i++) {
    set = at(before);
    int *field[] = {&set.tm_sec, &set.tm_min, &set.tm_hour, &set.tm_mday, &set.tm_mon, &set.tm_year};
    int bad[] = {60, -1, 24, 32, 12, 69};
    *field[i] = bad[i];
    FAILS(ioctl(rtc, RTC_SET_TIME, &set), EINVAL);
  }
  set = at(before);
  set.tm_mon = 1, set.tm_mday = 30;
  FAILS(ioctl(rtc, RTC_SET_TIME, &set), EINVAL);
  EQUAL(reap(CHILD({
    OK(setuid(1000));
    set = at(before);
    FAILS(ioctl(rtc, RTC_SET_TIME, &set), EACCES);
    OK(ioctl(rtc, RTC_IRQP_SET, 64));
    FAILS(ioctl(rtc, RTC_IRQP_SET, 1024), EACCES);
    FAILS(open("/dev/rtc0", O_RDONLY), EACCES);
  })), 0);
}

CASE(alarms) {
  open_clock();
  struct rtc_wkalrm alarm = {.enabled = 1, .time = at(now() + 3)}, shown;
  OK(ioctl(rtc, RTC_WKALM_SET, &alarm));
  OK(ioctl(rtc, RTC_WKALM_RD, &shown));
  EQUAL(shown.enabled, 1);
  EQUAL(since_1970(&shown.time), since_1970(&alarm.time));
  unsigned long data = wait_for(8000);
  CHECK((data & (RTC_IRQF | RTC_AF)) == (RTC_IRQF | RTC_AF) && data >> 8 == 1);
  CHECK(now() >= since_1970(&alarm.time));
  // It comes once.
  OK(ioctl(rtc, RTC_WKALM_RD, &shown));
  EQUAL(shown.enabled, 0);
  alarm.time = at(now() - 10);
  OK(ioctl(rtc, RTC_WKALM_SET, &alarm)); // it has been
  CHECK(wait_for(1000) & RTC_AF);
  alarm.time = at(now() + 3 * 86400);
  FAILS(ioctl(rtc, RTC_WKALM_SET, &alarm), EINVAL);
  alarm.time.tm_hour = 24;
  FAILS(ioctl(rtc, RTC_WKALM_SET, &alarm), EINVAL);
  // By the time of the day, today or tomorrow.
  struct rtc_time next = at(now() + 3), then;
  next.tm_year = next.tm_mon = next.tm_mday = -1;
  OK(ioctl(rtc, RTC_ALM_SET, &next));
  OK(ioctl(rtc, RTC_ALM_READ, &then));
  CHECK(then.tm_sec == next.tm_sec && then.tm_min == next.tm_min && then.tm_hour == next.tm_hour);
  OK(ioctl(rtc, RTC_AIE_ON, 0));
  data = wait_for(8000);
  CHECK(data & RTC_AF);
  OK(ioctl(rtc, RTC_AIE_OFF, 0));
}

CASE(updates) {
  open_clock();
  OK(ioctl(rtc, RTC_UIE_ON, 0));
  CHECK(wait_for(3000) & RTC_UF);
  time_t first = now();
  unsigned long data = wait_for(3000);
  CHECK((data & (RTC_IRQF | RTC_UF)) == (RTC_IRQF | RTC_UF) && data >> 8 >= 1);
  CHECK(now() > first);
  OK(ioctl(rtc, RTC_UIE_OFF, 0));
  wait_for(0);
  EQUAL(wait_for(1500), 0);
}

CASE(periodic) {
  open_clock();
  FAILS(ioctl(rtc, RTC_IRQP_SET, 0), EINVAL);
  FAILS(ioctl(rtc, RTC_IRQP_SET, 8193), EINVAL);
  OK(ioctl(rtc, RTC_IRQP_SET, 50));
  unsigned long frequency = 0;
  OK(ioctl(rtc, RTC_IRQP_READ, &frequency));
  EQUAL(frequency, 50);
  struct timespec from, to;
  OK(ioctl(rtc, RTC_PIE_ON, 0));
  clock_gettime(CLOCK_MONOTONIC, &from);
  unsigned long count = 0;
  while (count < 20) {
    unsigned long data = wait_for(1000);
    CHECK(data & RTC_PF);
    count += data >> 8;
  }
  clock_gettime(CLOCK_MONOTONIC, &to);
  long elapsed = (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000;
  CHECK(elapsed >= 350);
  OK(ioctl(rtc, RTC_PIE_OFF, 0));
  wait_for(0);
  EQUAL(wait_for(100), 0);
  // Nobody hears what the next one has not asked for.
  OK(ioctl(rtc, RTC_PIE_ON, 0));
  OK(close(rtc));
  open_clock();
  EQUAL(wait_for(100), 0);
}
