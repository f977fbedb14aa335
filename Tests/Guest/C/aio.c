// Asynchronous input and output: the kernel's calls, and the C library's functions over threads.
#include "test.h"
#include <aio.h>
#include <linux/aio_abi.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

static aio_context_t setup(unsigned capacity) {
  aio_context_t context = 0;
  OK(syscall(SYS_io_setup, capacity, &context));
  return context;
}
static struct iocb request(int operation, int file, const void *buffer, size_t count, long long offset) {
  return (struct iocb){.aio_lio_opcode = operation, .aio_fildes = file, .aio_buf = (unsigned long)buffer, .aio_nbytes = count, .aio_offset = offset};
}

CASE(reads_and_writes) {
  aio_context_t context = setup(8);
  int file = OK(open("/aio-file", O_CREAT | O_TRUNC | O_RDWR, 0600));
  char text[8192], back[4096] = "";
  memset(text, 'q', sizeof text);
  struct iovec parts[2] = {{back, 10}, {back + 10, 20}};
  int told = OK(eventfd(0, EFD_NONBLOCK));
  struct iocb requests[] = {
      request(IOCB_CMD_PWRITE, file, text, sizeof text, 100), request(IOCB_CMD_FSYNC, file, NULL, 0, 0),
      request(IOCB_CMD_PREAD, file, back, 4096, 4200),        request(IOCB_CMD_PREADV, file, parts, 2, 98),
      request(IOCB_CMD_PREAD, file, back, 4096, 1 << 20),
  };
  struct iocb *list[5];
  for (int i = 0; i < 5; i++) {
    requests[i].aio_data = 1000 + i;
    list[i] = &requests[i];
  }
  requests[4].aio_flags = IOCB_FLAG_RESFD;
  requests[4].aio_resfd = told;
  EQUAL(syscall(SYS_io_submit, context, 5, list), 5);
  struct io_event events[8];
  int count = 0;
  while (count < 5) count += OK(syscall(SYS_io_getevents, context, 1, 8 - count, events + count, NULL));
  EQUAL(count, 5);
  const long results[] = {8192, 0, 4092, 30, 0};
  for (int i = 0; i < 5; i++) {  // they may come in any order
    int which = (int)events[i].data - 1000;
    CHECK(which >= 0 && which < 5 && list[which]);
    EQUAL(events[i].obj, (unsigned long)list[which]);
    list[which] = NULL;
    EQUAL(events[i].res, results[which]);
    EQUAL(events[i].res2, 0);
  }
  EQUAL(back[0], 0);
  EQUAL(back[1], 0);
  EQUAL(back[2], 'q');
  uint64_t number;
  EQUAL(read(told, &number, 8), 8);
  EQUAL(number, 1);
  struct timespec none = {0, 0}, little = {0, 20000000};
  EQUAL(syscall(SYS_io_getevents, context, 1, 8, events, &none), 0);
  double start = seconds();
  EQUAL(syscall(SYS_io_getevents, context, 1, 8, events, &little), 0);
  CHECK(seconds() - start >= 0.02);
  OK(syscall(SYS_io_destroy, context));
  FAILS(syscall(SYS_io_destroy, context), EINVAL);
  OK(unlink("/aio-file"));
}

CASE(bad_input) {
  aio_context_t context = 0;
  FAILS(syscall(SYS_io_setup, 0, &context), EINVAL);
  FAILS(syscall(SYS_io_setup, 1 << 30, &context), EINVAL);
  FAILS(syscall(SYS_io_setup, 1 << 22, &context), EAGAIN);
  FAILS(syscall(SYS_io_setup, 8, (void *)4096), EFAULT);
  context = 7;
  FAILS(syscall(SYS_io_setup, 8, &context), EINVAL);
  FAILS(syscall(SYS_io_destroy, 12345), EINVAL);
  context = setup(2);
  int file = OK(open("/aio-file", O_CREAT | O_TRUNC | O_RDWR, 0600));
  char byte = 'x';
  struct iocb good = request(IOCB_CMD_PWRITE, file, &byte, 1, 0), bad = request(99, file, &byte, 1, 0), *list[] = {&good, &bad, NULL};
  EQUAL(syscall(SYS_io_submit, context, 2, list), 1);
  FAILS(syscall(SYS_io_submit, context, 1, list + 1), EINVAL);
  FAILS(syscall(SYS_io_submit, context, 1, list + 2), EFAULT);
  FAILS(syscall(SYS_io_submit, context, -1, list), EINVAL);
  FAILS(syscall(SYS_io_submit, context + 4096, 1, list), EINVAL);
  FAILS(syscall(SYS_io_submit, context, 1, (void *)4096), EFAULT);
  bad = request(IOCB_CMD_PREAD, -1, &byte, 1, 0);
  FAILS(syscall(SYS_io_submit, context, 1, list + 1), EBADF);
  bad = request(IOCB_CMD_PREAD, file, &byte, 1, -1);
  FAILS(syscall(SYS_io_submit, context, 1, list + 1), EINVAL);
  bad = request(IOCB_CMD_PREAD, file, &byte, 1, 0);
  bad.aio_reserved2 = 1;
  FAILS(syscall(SYS_io_submit, context, 1, list + 1), EINVAL);
  bad = request(IOCB_CMD_PREAD, file, &byte, 1, 0);
  bad.aio_flags = IOCB_FLAG_RESFD;
  bad.aio_resfd = file;
  FAILS(syscall(SYS_io_submit, context, 1, list + 1), EINVAL);
  int reader = OK(open("/aio-file", O_RDONLY));
  bad = request(IOCB_CMD_PWRITE, reader, &byte, 1, 0);
  FAILS(syscall(SYS_io_submit, context, 1, list + 1), EBADF);
  // A page that is not there is the request's failure, not the call's.
  bad = request(IOCB_CMD_PREAD, file, (void *)4096, 1, 0);
  EQUAL(syscall(SYS_io_submit, context, 1, list + 1), 1);
  struct io_event events[2];
  EQUAL(syscall(SYS_io_getevents, context, 2, 2, events, NULL), 2);
  EQUAL(events[0].res, 1);
  EQUAL(events[1].res, -EFAULT);
  FAILS(syscall(SYS_io_getevents, context, 3, 2, events, NULL), EINVAL);
  OK(unlink("/aio-file"));
  // A child has its own memory, and no contexts in it.
  EQUAL(reap(CHILD(FAILS(syscall(SYS_io_destroy, context), EINVAL))), 0);
}

static volatile int finished;
static void on_finish(union sigval value) { __sync_fetch_and_add(&finished, value.sival_int); }

// glibc's: threads of its own do the work.
CASE(library_functions) {
  int file = OK(open("/aio-file", O_CREAT | O_TRUNC | O_RDWR, 0600));
  char text[4][512], back[4][512];
  struct aiocb blocks[4], *list[4];
  memset(blocks, 0, sizeof blocks);
  for (int i = 0; i < 4; i++) {
    memset(text[i], 'a' + i, 512);
    blocks[i] = (struct aiocb){.aio_fildes = file, .aio_buf = text[i], .aio_nbytes = 512, .aio_offset = i * 512, .aio_lio_opcode = LIO_WRITE};
    list[i] = &blocks[i];
  }
  OK(lio_listio(LIO_WAIT, list, 4, NULL));
  for (int i = 0; i < 4; i++) {
    EQUAL(aio_error(&blocks[i]), 0);
    EQUAL(aio_return(&blocks[i]), 512);
    blocks[i].aio_lio_opcode = LIO_READ;
    blocks[i].aio_buf = back[i];
    blocks[i].aio_sigevent = (struct sigevent){.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_finish, .sigev_value.sival_int = 1};
  }
  for (int i = 0; i < 4; i++) OK(aio_read(&blocks[i]));
  for (int i = 0; i < 4; i++) {
    const struct aiocb *one[] = {&blocks[i]};
    while (aio_error(&blocks[i]) == EINPROGRESS) aio_suspend(one, 1, NULL);
    EQUAL(aio_return(&blocks[i]), 512);
    EQUAL(memcmp(text[i], back[i], 512), 0);
  }
  for (int i = 0; finished < 4 && i < 1000; i++) pause_ms(5);
  EQUAL(finished, 4);
  blocks[0].aio_sigevent.sigev_notify = SIGEV_NONE;
  OK(aio_fsync(O_SYNC, &blocks[0]));
  while (aio_error(&blocks[0]) == EINPROGRESS) pause_ms(1);
  EQUAL(aio_return(&blocks[0]), 0);
  OK(unlink("/aio-file"));
}
