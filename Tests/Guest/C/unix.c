// Sockets of this machine.
#include "test.h"
#include <sys/resource.h>
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

static int send_file(int socket, int file) {
  char c = 'x', control[CMSG_SPACE(sizeof(int))] = "";
  struct iovec v = {&c, 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  *CMSG_FIRSTHDR(&m) = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
  memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &file, sizeof file);
  return sendmsg(socket, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

// The one file that comes with a byte.
static int received(int socket) {
  char c, control[CMSG_SPACE(sizeof(int))];
  int file;
  struct iovec v = {&c, 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  EQUAL(OK(recvmsg(socket, &m, MSG_DONTWAIT)), 1);
  CHECK(m.msg_controllen >= CMSG_LEN(sizeof(int)));
  memcpy(&file, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof file);
  return file;
}

// A socket in a socket in a socket: when the outermost goes, all do. A kernel may refuse to nest so deep.
LIMITED_CASE(nested_sockets, 60) {
  int watch[2];
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, watch));
  int inner = watch[1];
  for (int i = 0; i < 20000; i++) {
    int pair[2];
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    if (send_file(pair[0], inner) < 0) {
      EQUAL(errno, ETOOMANYREFS);
      CHECK(i > 0);
      close(pair[0]);
      close(pair[1]);
      break;
    }
    close(inner);
    close(pair[0]);
    inner = pair[1];
  }
  close(inner);
  char c;
  EQUAL(read(watch[0], &c, 1), 0);
}

// Sockets that only their own messages hold are gone: the other end of a pipe that went along learns of it, when some socket
// is closed.
static void learns_of_the_end(int reader) {
  char c;
  struct pollfd p = {.fd = reader};
  for (double end = seconds() + 20; poll(&p, 1, 1) == 0 && seconds() < end;) {
    int pair[2];
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    close(pair[0]);
    close(pair[1]);
  }
  EQUAL(p.revents, POLLHUP);
  EQUAL(read(reader, &c, 1), 0);
  close(reader);
}

CASE(sockets_that_hold_each_other) {
  int pair[2], ends[2], ring[10][2];
  // One that holds itself.
  OK(pipe(ends));
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  EQUAL(OK(send_file(pair[0], ends[1])), 1);
  EQUAL(OK(send_file(pair[0], pair[1])), 1);
  close(ends[1]);
  close(pair[0]);
  close(pair[1]);
  learns_of_the_end(ends[0]);
  // Two that hold each other.
  OK(pipe(ends));
  OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
  EQUAL(OK(send_file(pair[0], ends[1])), 1);
  EQUAL(OK(send_file(pair[0], pair[0])), 1);
  EQUAL(OK(send_file(pair[1], pair[1])), 1);
  close(ends[1]);
  close(pair[0]);
  close(pair[1]);
  learns_of_the_end(ends[0]);
  // A ring, of which one is still held for a while.
  OK(pipe(ends));
  for (int i = 0; i < 10; i++) OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ring[i]));
  for (int i = 0; i < 10; i++) EQUAL(OK(send_file(ring[i][0], ring[(i + 1) % 10][1])), 1);
  EQUAL(OK(send_file(ring[4][0], ends[1])), 1);
  close(ends[1]);
  for (int i = 0; i < 10; i++) {
    close(ring[i][0]);
    if (i != 7) close(ring[i][1]);
  }
  struct pollfd p = {.fd = ends[0]};
  EQUAL(OK(poll(&p, 1, 50)), 0);
  close(ring[7][1]);
  learns_of_the_end(ends[0]);
}

// What can still be received is not collected, however it is wound up.
CASE(sockets_on_their_way) {
  int outer[2], middle[2], inner[2], other[2];
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, outer));
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, middle));
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, inner));
  EQUAL(OK(send_file(middle[0], inner[1])), 1);
  EQUAL(OK(send_file(middle[0], middle[1])), 1);  // a circle within
  EQUAL(OK(send_file(outer[0], middle[1])), 1);
  close(middle[1]);
  close(inner[1]);
  for (int i = 0; i < 20; i++) {
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, other));
    close(other[0]);
    close(other[1]);
  }
  int found = received(outer[1]), deeper = received(found);
  EQUAL(OK(write(deeper, "deep", 4)), 4);
  char text[4];
  EQUAL(OK(read(inner[0], text, 4)), 4);
  CHECK(!memcmp(text, "deep", 4));
}

// An ordinary user has as many sockets under way as files open, and no more.
CASE(files_under_way) {
  struct rlimit limit = {64, 64};
  pid_t child = CHILD({
    OK(setrlimit(RLIMIT_NOFILE, &limit));
    OK(setresuid(1234, 1234, 1234));
    int pair[2];
    int room = 1 << 20;
    int count = 0;
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    while (count < 1000 && send_file(pair[0], 0) == 1) count++;
    EQUAL(errno, ETOOMANYREFS);
    CHECK(count >= 64 && count <= 66);
    close(received(pair[1]));
    close(received(pair[1]));
    EQUAL(OK(send_file(pair[0], 0)), 1);
  });
  EQUAL(reap(child), 0);
}

// Files whose control message cannot be written are closed, not lost.
CASE(nowhere_to_receive) {
  int pair[2], ends[2], on = 1;
  OK(pipe(ends));
  OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
  OK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  EQUAL(OK(send_file(pair[0], ends[1])), 1);
  close(ends[1]);
  char c;
  struct iovec v = {&c, 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = (void *)8, .msg_controllen = 100};
  recvmsg(pair[1], &m, MSG_DONTWAIT);  // EFAULT, or a control message that is cut short
  // What was received all the same has a number above the pipe's and the pair's.
  for (int i = 0; i < 64; i++)
    if (i > 2 && i != ends[0] && i != pair[0] && i != pair[1]) close(i);
  EQUAL(read(ends[0], &c, 1), 0);
}
