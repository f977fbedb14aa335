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
