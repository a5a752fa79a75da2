// System V semaphores: all operations of a call or none, waiting in order, waiting for zero, time limits, what is
// undone at death and who shares it, removal while somebody waits, and what semctl tells.
// concept: 3 do_exit, in order
#include "check.h"
#include <sys/ipc.h>
#include <sys/sem.h>

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
};

static int op(int id, int num, int amount, int flags) {
    struct sembuf operation = {num, amount, flags};
    return semop(id, &operation, 1);
}

static int value(int id, int num) {
    return semctl(id, num, GETVAL);
}

static void wait_for_count(int id, int num, int what, int wanted) {
    while (semctl(id, num, what) != wanted) sleep_ms(1);
}

static void *add_with_undo(void *id) {
    CHECK(op(*(int *)id, 0, 5, SEM_UNDO) == 0);
    return NULL;
}

int main(void) {
    int id = semget(IPC_PRIVATE, 3, IPC_CREAT | 0600);
    CHECK(id >= 0);
    CHECK(value(id, 0) == 0 && semctl(id, 1, SETVAL, (union semun){.val = 4}) == 0 && value(id, 1) == 4);
    unsigned short values[3] = {1, 2, 3};
    CHECK(semctl(id, 0, SETALL, (union semun){.array = values}) == 0);
    memset(values, 0, sizeof values);
    CHECK(semctl(id, 0, GETALL, (union semun){.array = values}) == 0 && values[0] == 1 && values[2] == 3);
    CHECK(semctl(id, 2, GETPID) == getpid());

    // All or nothing.
    struct sembuf both[2] = {{0, -1, IPC_NOWAIT}, {1, -9, IPC_NOWAIT}};
    CHECK_FAILS(semop(id, both, 2), EAGAIN);
    CHECK(value(id, 0) == 1 && value(id, 1) == 2);
    both[1].sem_op = -2;
    CHECK(semop(id, both, 2) == 0 && value(id, 0) == 0 && value(id, 1) == 0);
    say("all or nothing\n");

    // Two wait for different amounts: the one that can go on goes.
    pid_t large = fork();
    if (large == 0) _exit(op(id, 0, -3, 0));
    wait_for_count(id, 0, GETNCNT, 1);
    pid_t small = fork();
    if (small == 0) _exit(op(id, 0, -1, 0));
    wait_for_count(id, 0, GETNCNT, 2);
    CHECK(op(id, 0, 1, 0) == 0);
    CHECK(status_of(small) == 0 && semctl(id, 0, GETNCNT) == 1);
    CHECK(op(id, 0, 3, 0) == 0 && status_of(large) == 0 && value(id, 0) == 0);
    say("waiting\n");

    CHECK(op(id, 0, 1, 0) == 0);
    pid_t zero = fork();
    if (zero == 0) _exit(op(id, 0, 0, 0));
    wait_for_count(id, 0, GETZCNT, 1);
    CHECK(op(id, 0, -1, 0) == 0 && status_of(zero) == 0);
    say("zero\n");

    struct sembuf one = {0, -1, 0};
    CHECK_FAILS(semtimedop(id, &one, 1, &(struct timespec){0, 20000000}), EAGAIN);
    CHECK_FAILS(semtimedop(id, &one, 1, &(struct timespec){0, -1}), EINVAL);
    say("time limit\n");

    // A process that is killed gives back what it took, and takes back what it gave.
    CHECK(semctl(id, 0, SETVAL, (union semun){.val = 2}) == 0);
    struct gate gate = gate_new();
    pid_t holder = fork();
    if (holder == 0) {
        CHECK(op(id, 0, -2, SEM_UNDO) == 0 && op(id, 1, 7, SEM_UNDO) == 0);
        gate_open(gate);
        pause();
    }
    gate_wait(gate);
    CHECK(value(id, 0) == 0 && value(id, 1) == 7);
    pid_t next = fork();
    if (next == 0) _exit(op(id, 0, -1, 0));
    wait_for_count(id, 0, GETNCNT, 1);
    CHECK(kill(holder, SIGKILL) == 0);
    status_of(holder);
    CHECK(status_of(next) == 0);
    CHECK(value(id, 0) == 1 && value(id, 1) == 0);
    say("undone by a death\n");

    // Threads share what is to be undone: nothing happens before the last of them ends. SETVAL forgets it.
    pid_t threads = fork();
    if (threads == 0) {
        pthread_t thread;
        CHECK_PTHREAD(pthread_create(&thread, NULL, add_with_undo, &id));
        CHECK_PTHREAD(pthread_join(thread, NULL));
        CHECK(value(id, 0) == 6);
        _exit(0);
    }
    CHECK(status_of(threads) == 0 && value(id, 0) == 1);
    pid_t forgets = fork();
    if (forgets == 0) {
        CHECK(op(id, 0, 5, SEM_UNDO) == 0);
        _exit(semctl(id, 0, SETVAL, (union semun){.val = 9}));
    }
    CHECK(status_of(forgets) == 0 && value(id, 0) == 9);
    say("undo is shared by threads\n");

    CHECK_FAILS(op(id, 0, 32767, 0), ERANGE);
    CHECK_FAILS(op(id, 3, 1, 0), EFBIG);
    CHECK_FAILS(semop(id, &one, 0), EINVAL);
    CHECK_FAILS(semop(id, &one, 501), E2BIG);
    CHECK_FAILS(semctl(id, 3, GETVAL), EINVAL);
    CHECK_FAILS(semctl(id, 0, SETVAL, (union semun){.val = 32768}), ERANGE);
    struct semid_ds ds;
    CHECK(semctl(id, 0, IPC_STAT, (union semun){.buf = &ds}) == 0);
    CHECK(ds.sem_nsems == 3 && ds.sem_perm.mode == 0600 && ds.sem_perm.uid == geteuid());
    CHECK(ds.sem_ctime > 1000000000 && ds.sem_otime > 1000000000);

    // Keys.
    key_t key = 0x6d6b0000 + getpid() % 1000;
    CHECK_FAILS(semget(key, 1, 0600), ENOENT);
    int named = semget(key, 1, IPC_CREAT | IPC_EXCL | 0600);
    CHECK(named >= 0 && semget(key, 0, 0) == named);
    CHECK_FAILS(semget(key, 1, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
    CHECK_FAILS(semget(key, 2, 0600), EINVAL);
    CHECK(semctl(named, 0, IPC_RMID) == 0);

    pid_t waiter = fork();
    if (waiter == 0) _exit(op(id, 1, -1, 0) == -1 && errno == EIDRM ? 0 : 1);
    wait_for_count(id, 1, GETNCNT, 1);
    CHECK(semctl(id, 0, IPC_RMID) == 0 && status_of(waiter) == 0);
    CHECK_FAILS(op(id, 0, 1, 0), EINVAL);
    say("removed\n");
    return 0;
}
