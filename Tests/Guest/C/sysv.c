// System V shared memory, semaphores, message queues.
#include "test.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

CASE(shared_memory) {
  int id = OK(shmget(IPC_PRIVATE, 10000, IPC_CREAT | 0600));
  volatile int *p = shmat(id, NULL, 0);
  CHECK(p != (void *)-1);
  EQUAL(p[0], 0);
  pid_t child = CHILD({
    p[0] = 42;
    volatile int *q = shmat(id, NULL, SHM_RDONLY);
    CHECK(q != (void *)-1);
    EQUAL(q[0], 42);
  });
  EQUAL(reap(child), 0);
  EQUAL(p[0], 42);
  struct shmid_ds ds;
  OK(shmctl(id, IPC_STAT, &ds));
  EQUAL(ds.shm_segsz, 10000);
  EQUAL(ds.shm_nattch, 1);
  EQUAL(ds.shm_perm.mode & 0777, 0600);
  OK(shmctl(id, IPC_RMID, NULL));
  p[1] = 7;
  OK(shmdt((void *)p));
  FAILS(shmctl(id, IPC_STAT, &ds), EINVAL);
  FAILS(shmdt((void *)p), EINVAL);
  FAILS(shmget(IPC_PRIVATE, 0, IPC_CREAT | 0600), EINVAL);
  FAILS(shmget(0x7777, 100, 0600), ENOENT);
  int keyed = OK(shmget(0x7777, 100, IPC_CREAT | IPC_EXCL | 0600));
  FAILS(shmget(0x7777, 100, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
  EQUAL(OK(shmget(0x7777, 50, 0)), keyed);
  FAILS(shmget(0x7777, 5000, 0), EINVAL);
  OK(shmctl(keyed, IPC_RMID, NULL));
}

union semun { int val; struct semid_ds *buf; unsigned short *array; };

CASE(semaphores) {
  int id = OK(semget(IPC_PRIVATE, 3, IPC_CREAT | 0600));
  unsigned short values[3] = {1, 0, 5}, got[3];
  OK(semctl(id, 0, SETALL, (union semun){.array = values}));
  OK(semctl(id, 0, GETALL, (union semun){.array = got}));
  EQUAL(got[2], 5);
  struct sembuf both[2] = {{0, -1, IPC_NOWAIT}, {1, -1, IPC_NOWAIT}};
  FAILS(semop(id, both, 2), EAGAIN);
  EQUAL(OK(semctl(id, 0, GETVAL)), 1);
  pid_t child = CHILD({
    struct sembuf wait = {1, -1, 0};
    OK(semop(id, &wait, 1));
  });
  for (int i = 0; i < 1000 && semctl(id, 1, GETNCNT) != 1; i++) pause_ms(2);
  EQUAL(OK(semctl(id, 1, GETNCNT)), 1);
  struct sembuf up = {1, 1, 0};
  OK(semop(id, &up, 1));
  EQUAL(reap(child), 0);
  // SEM_UNDO gives back at exit.
  child = CHILD({
    struct sembuf take = {2, -5, SEM_UNDO};
    OK(semop(id, &take, 1));
  });
  EQUAL(reap(child), 0);
  EQUAL(OK(semctl(id, 2, GETVAL)), 5);
  struct sembuf zero = {1, 0, 0};
  OK(semop(id, &zero, 1));
  struct timespec t = {0, 20000000};
  struct sembuf down = {1, -1, 0};
  FAILS(semtimedop(id, &down, 1, &t), EAGAIN);
  struct sembuf high = {9, 1, 0};
  FAILS(semop(id, &high, 1), EFBIG);
  FAILS(semctl(id, 0, SETVAL, (union semun){.val = 40000}), ERANGE);
  child = CHILD(FAILS(semop(id, &down, 1), EIDRM));
  for (int i = 0; i < 1000 && semctl(id, 1, GETNCNT) != 1; i++) pause_ms(2);
  OK(semctl(id, 0, IPC_RMID));
  EQUAL(reap(child), 0);
  FAILS(semop(id, &down, 1), EINVAL);
}

CASE(message_queues) {
  struct { long type; char text[64]; } m = {2, "second"};
  int id = OK(msgget(IPC_PRIVATE, IPC_CREAT | 0600));
  OK(msgsnd(id, &m, 7, 0));
  m.type = 1;
  strcpy(m.text, "first");
  OK(msgsnd(id, &m, 6, 0));
  struct msqid_ds ds;
  OK(msgctl(id, IPC_STAT, &ds));
  EQUAL(ds.msg_qnum, 2);
  FAILS(msgrcv(id, &m, 3, 1, 0), E2BIG);
  EQUAL(OK(msgrcv(id, &m, 64, -5, 0)), 6);
  CHECK(!strcmp(m.text, "first"));
  EQUAL(OK(msgrcv(id, &m, 3, 0, MSG_NOERROR)), 3);
  EQUAL(m.type, 2);
  FAILS(msgrcv(id, &m, 64, 0, IPC_NOWAIT), ENOMSG);
  pid_t child = CHILD({
    EQUAL(OK(msgrcv(id, &m, 64, 9, 0)), 4);
    EQUAL(m.type, 9);
  });
  pause_ms(20);
  m.type = 9;
  OK(msgsnd(id, &m, 4, 0));
  EQUAL(reap(child), 0);
  m.type = 0;
  FAILS(msgsnd(id, &m, 4, 0), EINVAL);
  child = CHILD(FAILS(msgrcv(id, &m, 64, 9, 0), EIDRM));
  pause_ms(20);
  OK(msgctl(id, IPC_RMID, NULL));
  EQUAL(reap(child), 0);
}

// A moment's value lets all go on who waited for it, though it is another, or the set is gone, when they run.
CASE(semaphores_of_a_moment) {
  enum { count = 8 };
  for (int round = 0; round < 20; round++) {
    int set = OK(semget(IPC_PRIVATE, 1, IPC_CREAT | 0600));
    union {
      int value;
    } one = {1};
    OK(semctl(set, 0, SETVAL, one));
    pid_t children[count];
    for (int i = 0; i < count; i++)
      children[i] = CHILD({
        struct sembuf zero = {0, 0, 0};
        OK(semop(set, &zero, 1));
      });
    while (OK(semctl(set, 0, GETZCNT)) < count) pause_ms(1);
    struct sembuf down = {0, -1, 0}, up = {0, 1, 0};
    OK(semop(set, &down, 1));
    if (round & 1) OK(semop(set, &up, 1));
    OK(semctl(set, 0, IPC_RMID));
    for (int i = 0; i < count; i++) EQUAL(reap(children[i]), 0);
  }
}

// Who waits first goes on first, and takes what the next would have needed.
CASE(semaphores_in_turn) {
  int set = OK(semget(IPC_PRIVATE, 2, IPC_CREAT | 0600)), ends[2];
  OK(pipe(ends));
  pid_t children[3];
  for (int i = 0; i < 3; i++) {
    children[i] = CHILD({
      struct sembuf take[2] = {{0, -1, 0}, {1, i == 1 ? -1 : 0, 0}};
      OK(semop(set, take, i == 1 ? 2 : 1));
      char c = 'a' + i;
      EQUAL(write(ends[1], &c, 1), 1);
    });
    while (OK(semctl(set, 0, GETNCNT)) < i + 1) pause_ms(1);
  }
  struct sembuf two = {0, 2, 0}, other = {1, 1, 0}, one = {0, 1, 0};
  OK(semop(set, &two, 1));
  char c;
  EQUAL(reap(children[0]), 0);
  EQUAL(reap(children[2]), 0);
  OK(semop(set, &other, 1));
  EQUAL(semctl(set, 0, GETNCNT), 1);
  OK(semop(set, &one, 1));
  EQUAL(reap(children[1]), 0);
  EQUAL(semctl(set, 0, GETVAL), 0);
  EQUAL(semctl(set, 1, GETVAL), 0);
  for (int i = 0; i < 3; i++) EQUAL(read(ends[0], &c, 1), 1);
  EQUAL(c, 'b');
  OK(semctl(set, 0, IPC_RMID));
}

// A message reaches who waited for it, though its queue is gone when he runs.
CASE(last_message) {
  for (int round = 0; round < 20; round++) {
    int queue = OK(msgget(IPC_PRIVATE, IPC_CREAT | 0600));
    struct {
      long type;
      char text[4];
    } message = {7, "bye"};
    pid_t child = CHILD({
      EQUAL(OK(msgrcv(queue, &message, 4, 0, 0)), 4);
      CHECK(message.type == 7 && !strcmp(message.text, "bye"));
    });
    char path[64], line[256];
    sprintf(path, "/proc/%d/stat", child);
    for (int asleep = 0; asleep < 3; pause_ms(1)) {
      int file = OK(open(path, O_RDONLY));
      line[OK(read(file, line, sizeof line - 1))] = 0;
      close(file);
      asleep = strrchr(line, ')')[2] == 'S' ? asleep + 1 : 0;
    }
    OK(msgsnd(queue, &message, 4, 0));
    OK(msgctl(queue, IPC_RMID, NULL));
    EQUAL(reap(child), 0);
  }
}

// A piece of a segment, moved to where all of it would not fit.
CASE(detaching_a_piece) {
  int id = shmget(IPC_PRIVATE, 0x50000000, 0600);
  if (id < 0) {
    EQUAL(errno, ENOMEM);
    return;
  }
  char *all = shmat(id, NULL, 0);
  if (all == (char *)-1) {
    EQUAL(errno, ENOMEM);
    OK(shmctl(id, IPC_RMID, NULL));
    return;
  }
  all[0] = 'x';
  OK(munmap(all + 4096, 0x50000000 - 4096));
  char *high = mmap((char *)0xBFF00000 - 0x100000, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(high != MAP_FAILED);
  CHECK(mremap(all, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, high) == high);
  EQUAL(high[0], 'x');
  OK(shmctl(id, IPC_RMID, NULL));
  OK(shmdt(high));
  FAILS(shmdt(high), EINVAL);
}

// What a queue may hold can be any number, for who may say so.
CASE(limits_of_a_queue) {
  int id = OK(msgget(IPC_PRIVATE, 0666));
  struct msqid_ds about;
  OK(msgctl(id, IPC_STAT, &about));
  EQUAL(about.msg_qbytes, 16384);
  about.msg_qbytes = 0x7FFFFFFF;
  OK(msgctl(id, IPC_SET, &about));
  about.msg_perm.uid = 1000;
  about.msg_qbytes = 1000;
  OK(msgctl(id, IPC_SET, &about));
  EQUAL(reap(CHILD({
    OK(setresuid(1000, 1000, 1000));
    about.msg_qbytes = 0xFFFFFFFF;
    FAILS(msgctl(id, IPC_SET, &about), EPERM);
    about.msg_qbytes = 16385;
    FAILS(msgctl(id, IPC_SET, &about), EPERM);
    about.msg_qbytes = 16384;
    OK(msgctl(id, IPC_SET, &about));
    OK(msgctl(id, IPC_STAT, &about));
    EQUAL(about.msg_qbytes, 16384);
    OK(msgctl(id, IPC_RMID, NULL));
  })), 0);
}
