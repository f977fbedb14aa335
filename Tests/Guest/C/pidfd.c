// Processes as descriptors.
#include "test.h"
#include <linux/sched.h>
#include <poll.h>
#include <sys/epoll.h>

static int pidfd_open(pid_t pid, unsigned flags) { return syscall(434, pid, flags); }
static int pidfd_send_signal(int file, int signal, siginfo_t *about, unsigned flags) { return syscall(424, file, signal, about, flags); }
static int pidfd_getfd(int file, int number, unsigned flags) { return syscall(438, file, number, flags); }

CASE(ends_are_readable) {
  int hold[2];
  OK(pipe(hold));
  pid_t child = CHILD({
    char c;
    close(hold[1]);
    EQUAL(read(hold[0], &c, 1), 0);
    exit(5);
  });
  int file = OK(pidfd_open(child, 0));
  CHECK(OK(fcntl(file, F_GETFD)) & FD_CLOEXEC);
  struct pollfd one = {file, POLLIN};
  EQUAL(poll(&one, 1, 20), 0);
  int queue = OK(epoll_create1(0));
  struct epoll_event event = {EPOLLIN};
  OK(epoll_ctl(queue, EPOLL_CTL_ADD, file, &event));
  EQUAL(epoll_wait(queue, &event, 1, 0), 0);
  close(hold[1]);
  EQUAL(epoll_wait(queue, &event, 1, 10000), 1);
  EQUAL(poll(&one, 1, 10000), 1);
  siginfo_t about = {0};
  OK(waitid(3, file, &about, WEXITED | WNOWAIT));
  EQUAL(about.si_pid, child);
  OK(waitid(3, file, &about, WEXITED));
  EQUAL(about.si_status, 5);
  FAILS(waitid(3, file, &about, WEXITED), ECHILD);
  FAILS(pidfd_send_signal(file, 0, NULL, 0), ESRCH);
  FAILS(pidfd_getfd(file, 0, 0), ESRCH);
  char byte;
  FAILS(read(file, &byte, 1), EINVAL);
}

CASE(signals) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  pid_t child = CHILD({
    siginfo_t about;
    EQUAL(sigwaitinfo(&set, &about), SIGUSR1);
    EQUAL(about.si_code, SI_QUEUE);
    EQUAL(about.si_value.sival_int, 33);
    for (;;) pause();
  });
  int file = OK(pidfd_open(child, 0));
  siginfo_t about = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
  about.si_value.sival_int = 33;
  OK(pidfd_send_signal(file, SIGUSR1, &about, 0));
  FAILS(pidfd_send_signal(file, SIGUSR2, &about, 0), EINVAL);
  about.si_code = SI_USER;
  FAILS(pidfd_send_signal(file, SIGUSR1, &about, 0), EPERM);
  FAILS(pidfd_send_signal(file, 65, NULL, 0), EINVAL);
  FAILS(pidfd_send_signal(file, 0, NULL, 64), EINVAL);
  FAILS(pidfd_send_signal(0, 0, NULL, 0), EBADF);
  OK(pidfd_send_signal(file, 0, NULL, 0));
  OK(pidfd_send_signal(file, SIGTERM, NULL, 0));
  EQUAL(reap(child), 128 + SIGTERM);
}

CASE(opening) {
  FAILS(pidfd_open(99999, 0), ESRCH);
  FAILS(pidfd_open(0, 0), EINVAL);
  FAILS(pidfd_open(-1, 0), EINVAL);
  FAILS(pidfd_open(getpid(), 1), EINVAL);
  int file = OK(pidfd_open(getpid(), O_NONBLOCK));
  pid_t child = CHILD(pause());
  int other = OK(pidfd_open(child, O_NONBLOCK));
  siginfo_t about;
  FAILS(waitid(3, other, &about, WEXITED), EAGAIN);
  FAILS(waitid(3, file, &about, WEXITED), ECHILD);
  FAILS(waitid(3, 0, &about, WEXITED), EBADF);
  OK(kill(child, SIGKILL));
  EQUAL(reap(child), 128 + SIGKILL);
}

CASE(another_process_files) {
  int ends[2], ready[2];
  OK(pipe(ready));
  pid_t child = CHILD({
    OK(pipe(ends));
    OK(dup2(ends[0], 50));
    EQUAL(write(ends[1], "hello", 5), 5);
    EQUAL(write(ready[1], "r", 1), 1);
    pause();
  });
  char text[6] = "";
  EQUAL(read(ready[0], text, 1), 1);
  int file = OK(pidfd_open(child, 0));
  int mine = OK(pidfd_getfd(file, 50, 0));
  EQUAL(read(mine, text, 5), 5);
  CHECK(!strcmp(text, "hello"));
  CHECK(OK(fcntl(mine, F_GETFD)) & FD_CLOEXEC);
  FAILS(pidfd_getfd(file, 51, 0), EBADF);
  FAILS(pidfd_getfd(file, 50, 1), EINVAL);
  pid_t stranger = CHILD({
    OK(setresuid(1000, 1000, 1000));
    FAILS(pidfd_getfd(file, 50, 0), EPERM);
    FAILS(pidfd_send_signal(file, SIGTERM, NULL, 0), EPERM);
  });
  EQUAL(reap(stranger), 0);
  OK(kill(child, SIGKILL));
  EQUAL(reap(child), 128 + SIGKILL);
}

CASE(clone_gives_one) {
  for (int three = 0; three < 2; three++) {
    int file = -1;
    struct clone_args arguments = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&file, .exit_signal = SIGCHLD};
    pid_t child = OK(three ? syscall(435, &arguments, sizeof arguments) : syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &file, 0, 0));
    if (!child) _exit(fcntl(file < 0 ? 99 : file, F_GETFD) == -1 ? 8 : 9);
    CHECK(file > 2);
    struct pollfd one = {file, POLLIN};
    EQUAL(poll(&one, 1, 10000), 1);
    EQUAL(reap(child), 8);
    close(file);
  }
  int word;
  FAILS(syscall(SYS_clone, CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, 0, &word, 0, 0), EINVAL);
}
