// Sockets of this machine.
#include "test.h"
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static socklen_t named(struct sockaddr_un *a, const char *name) {
  a->sun_family = AF_UNIX;
  strcpy(a->sun_path, name);
  return offsetof(struct sockaddr_un, sun_path) + strlen(name) + 1;
}
static socklen_t hidden(struct sockaddr_un *a, const char *name) {
  a->sun_family = AF_UNIX;
  a->sun_path[0] = 0;
  strcpy(a->sun_path + 1, name);
  return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
}

CASE(pairs) {
  for (int type = SOCK_STREAM; type <= SOCK_SEQPACKET; type++) {
    if (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_SEQPACKET) continue;
    int s[2];
    char b[32];
    OK(socketpair(AF_UNIX, type, 0, s));
    EQUAL(OK(write(s[0], "hello", 5)), 5);
    EQUAL(OK(write(s[0], "world", 5)), 5);
    int got = OK(read(s[1], b, sizeof b));
    EQUAL(got, type == SOCK_STREAM ? 10 : 5);
    FAILS(recv(s[0], b, 1, MSG_DONTWAIT), EAGAIN);
    OK(close(s[0]));
    if (type == SOCK_SEQPACKET) EQUAL(OK(read(s[1], b, sizeof b)), 5);
    if (type == SOCK_STREAM || type == SOCK_SEQPACKET) {
      EQUAL(OK(read(s[1], b, sizeof b)), 0);
      FAILS(send(s[1], "x", 1, MSG_NOSIGNAL), EPIPE);
    }
    OK(close(s[1]));
  }
}

CASE(stream_server) {
  struct sockaddr_un a, peer;
  socklen_t length = named(&a, "server"), peer_length = sizeof peer;
  int listener = OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  FAILS(listen(listener, 1), EINVAL);
  OK(bind(listener, (void *)&a, length));
  int other = OK(socket(AF_UNIX, SOCK_STREAM, 0));
  FAILS(bind(other, (void *)&a, length), EADDRINUSE);
  FAILS(connect(other, (void *)&a, length), ECONNREFUSED);
  OK(listen(listener, 5));
  struct stat st;
  OK(stat("server", &st));
  CHECK(S_ISSOCK(st.st_mode));
  pid_t child = CHILD({
    int c = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    OK(connect(c, (void *)&a, length));
    struct ucred cred;
    socklen_t size = sizeof cred;
    OK(getsockopt(c, SOL_SOCKET, SO_PEERCRED, &cred, &size));
    EQUAL(cred.pid, getppid());
    EQUAL(OK(write(c, "request", 7)), 7);
    OK(shutdown(c, SHUT_WR));
    char b[16];
    EQUAL(OK(read(c, b, sizeof b)), 6);
    EQUAL(OK(read(c, b, sizeof b)), 0);
  });
  int c = OK(accept(listener, (void *)&peer, &peer_length));
  EQUAL(peer_length, 2);
  EQUAL(peer.sun_family, AF_UNIX);
  struct ucred cred;
  socklen_t size = sizeof cred;
  OK(getsockopt(c, SOL_SOCKET, SO_PEERCRED, &cred, &size));
  EQUAL(cred.pid, child);
  char b[16];
  EQUAL(OK(recv(c, b, sizeof b, MSG_WAITALL)), 7);
  CHECK(!memcmp(b, "request", 7));
  EQUAL(OK(write(c, "answer", 6)), 6);
  OK(close(c));
  EQUAL(reap(child), 0);
  peer_length = sizeof peer;
  OK(getsockname(listener, (void *)&peer, &peer_length));
  EQUAL(peer_length, length);
  CHECK(!strcmp(peer.sun_path, "server"));
  OK(close(listener));
  FAILS(connect(other, (void *)&a, length), ECONNREFUSED);
  OK(unlink("server"));
  FAILS(connect(other, (void *)&a, length), ENOENT);
}

CASE(datagrams) {
  struct sockaddr_un a, b, from;
  socklen_t la = hidden(&a, "first"), lb = named(&b, "second"), lf = sizeof from;
  int x = OK(socket(AF_UNIX, SOCK_DGRAM, 0)), y = OK(socket(AF_UNIX, SOCK_DGRAM, 0));
  char buffer[8];
  OK(bind(x, (void *)&a, la));
  OK(bind(y, (void *)&b, lb));
  EQUAL(OK(sendto(x, "long message", 12, 0, (void *)&b, lb)), 12);
  EQUAL(OK(recvfrom(y, buffer, 4, MSG_PEEK, (void *)&from, &lf)), 4);
  lf = sizeof from;
  EQUAL(OK(recvfrom(y, buffer, sizeof buffer, MSG_TRUNC, (void *)&from, &lf)), 12);
  EQUAL(lf, la);
  CHECK(!memcmp(&from, &a, la));
  FAILS(recv(y, buffer, 1, MSG_DONTWAIT), EAGAIN);
  OK(connect(x, (void *)&b, lb));
  EQUAL(OK(send(x, "a", 1, 0)), 1);
  EQUAL(OK(send(x, "", 0, 0)), 0);
  EQUAL(OK(recv(y, buffer, sizeof buffer, 0)), 1);
  EQUAL(OK(recv(y, buffer, sizeof buffer, 0)), 0);
  FAILS(send(x, buffer, 1 << 20, 0), EMSGSIZE);
  OK(close(y));
  FAILS(send(x, "a", 1, 0), ECONNREFUSED);
}

CASE(passing_files) {
  int s[2], ends[2];
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  pid_t child = CHILD({
    OK(pipe(ends));
    struct iovec v = {"x", 1};
    char control[CMSG_SPACE(2 * sizeof(int))];
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(c), ends, sizeof ends);
    EQUAL(OK(sendmsg(s[1], &m, 0)), 1);
    OK(close(ends[0]));
    OK(close(ends[1]));
  });
  char byte, control[64];
  struct iovec v = {&byte, 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  EQUAL(OK(recvmsg(s[0], &m, MSG_CMSG_CLOEXEC)), 1);
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  CHECK(c && c->cmsg_type == SCM_RIGHTS);
  EQUAL(c->cmsg_len, CMSG_LEN(2 * sizeof(int)));
  memcpy(ends, CMSG_DATA(c), sizeof ends);
  EQUAL(OK(fcntl(ends[0], F_GETFD)), FD_CLOEXEC);
  EQUAL(reap(child), 0);
  OK(write(ends[1], "through", 7));
  char b[8];
  EQUAL(OK(read(ends[0], b, sizeof b)), 7);
  // Without room for it a file is closed again.
  OK(close(ends[1]));
  int file = OK(dup(ends[0]));
  char out[CMSG_SPACE(sizeof(int))];
  struct msghdr send = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = out, .msg_controllen = sizeof out};
  c = CMSG_FIRSTHDR(&send);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(c), &file, sizeof file);
  OK(sendmsg(s[1], &send, 0));
  m.msg_controllen = 0;
  EQUAL(OK(recvmsg(s[0], &m, 0)), 1);
  CHECK(m.msg_flags & MSG_CTRUNC);
}

CASE(credentials) {
  int s[2], on = 1;
  OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
  OK(setsockopt(s[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  pid_t child = CHILD(write(s[1], "x", 1));
  char byte, control[64];
  struct iovec v = {&byte, 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  EQUAL(OK(recvmsg(s[0], &m, 0)), 1);
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  CHECK(c && c->cmsg_type == SCM_CREDENTIALS);
  struct ucred cred;
  memcpy(&cred, CMSG_DATA(c), sizeof cred);
  EQUAL(cred.pid, child);
  EQUAL(reap(child), 0);
}

// A megabyte through a full buffer, both directions at once.
CASE(full_buffers) {
  int s[2];
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  static unsigned char block[1 << 20];
  pid_t child = CHILD({
    close(s[0]);
    for (unsigned i = 0; i < sizeof block; i++) block[i] = i * 13;
    for (unsigned done = 0; done < sizeof block;) {
      int n = write(s[1], block + done, sizeof block - done);
      if (n <= 0) _exit(1);
      done += n;
    }
  });
  OK(close(s[1]));
  pause_ms(20);
  unsigned total = 0;
  int n;
  while ((n = OK(read(s[0], block, 7777))) > 0)
    for (int i = 0; i < n; i++, total++) EQUAL(block[i], (unsigned char)(total * 13));
  EQUAL(total, 1 << 20);
  EQUAL(reap(child), 0);
}

CASE(poll_and_errors) {
  int s[2];
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  struct pollfd p = {s[0], POLLIN | POLLOUT | POLLRDHUP, 0};
  EQUAL(OK(poll(&p, 1, 0)), 1);
  EQUAL(p.revents, POLLOUT);
  OK(shutdown(s[1], SHUT_WR));
  EQUAL(OK(poll(&p, 1, 0)), 1);
  EQUAL(p.revents, POLLIN | POLLOUT | POLLRDHUP);
  OK(close(s[1]));
  EQUAL(OK(poll(&p, 1, 0)), 1);
  CHECK(p.revents & POLLHUP);
  FAILS(socket(AF_UNIX, 77, 0), EINVAL);
  FAILS(socket(AF_UNIX, SOCK_STREAM, 99), EPROTONOSUPPORT);
  FAILS(socket(99, SOCK_STREAM, 0), EAFNOSUPPORT);
  int file = OK(open("f", O_CREAT | O_RDWR, 0600)), x = OK(socket(AF_UNIX, SOCK_STREAM, 0));
  FAILS(listen(file, 1), ENOTSOCK);
  FAILS(send(x, "a", 1, MSG_NOSIGNAL), ENOTCONN);
  char b;
  FAILS(recv(x, &b, 1, 0), EINVAL);
  struct timeval t = {0, 20000};
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  OK(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
  double start = seconds();
  FAILS(read(s[0], &b, 1), EAGAIN);
  CHECK(seconds() - start >= 0.02);
}

// Accepts connections whose clients close at once: what accept reads of the client may be its last reference. The kernel once
// took its own only when the lock that it read it under was free already.
CASE(accept_while_peer_closes) {
  struct sockaddr_un a;
  socklen_t size = hidden(&a, "hasty");
  int listener = OK(socket(AF_UNIX, SOCK_STREAM, 0)), each = torture() ? 60000 : 3000;
  OK(bind(listener, (struct sockaddr *)&a, size));
  OK(listen(listener, 64));
  pid_t clients[3];
  for (int i = 0; i < 3; i++)
    clients[i] = CHILD(for (int k = 0; k < each; k++) {
      int s = OK(socket(AF_UNIX, SOCK_STREAM, 0));
      OK(connect(s, (struct sockaddr *)&a, size));
      for (volatile int turns = k * 37 % 4000; turns; turns--) {}
      OK(close(s));
    });
  pid_t helper = CHILD(for (;;) {
    struct sockaddr_un other;
    socklen_t length = sizeof other;
    int s = accept(listener, (struct sockaddr *)&other, &length);
    if (s < 0) EQUAL(errno, EAGAIN);
    else OK(close(s));
  });
  int got = 0;
  struct timeval soon = {0, 100000};
  OK(setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon));
  for (int idle = 0; idle < 5;) {
    struct sockaddr_un other;
    socklen_t length = sizeof other;
    int s = accept(listener, (struct sockaddr *)&other, &length);
    if (s < 0) {
      EQUAL(errno, EAGAIN);
      idle++;
      continue;
    }
    got++;
    idle = 0;
    length = sizeof other;
    getpeername(s, (struct sockaddr *)&other, &length);
    OK(close(s));
  }
  for (int i = 0; i < 3; i++) EQUAL(reap(clients[i]), 0);
  CHECK(got > 0);
  OK(kill(helper, SIGKILL));
  int status;
  OK(waitpid(helper, &status, 0));
}
