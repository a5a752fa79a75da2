// System V semaphores: atomic sets of operations, waiting for zero, SEM_UNDO applied at death (also by a signal, and
// once for all threads of a process), removal wakes the waiters.
// concept: 3 do_exit, in order
#include "thread.h"
#include <sys/ipc.h>
#include <sys/sem.h>

static int id;

static int operate(unsigned short number, short change, short flags) {
    return semop(id, &(struct sembuf){number, change, flags}, 1);
}
static int value(int number) { return semctl(id, number, GETVAL); }

static void *takes_one(void *unused) {
    CHECK(operate(0, -1, SEM_UNDO) == 0);
    return unused;
}

int main(void) {
    id = semget(IPC_PRIVATE, 2, 0600);
    CHECK(id >= 0 && semctl(id, 0, SETVAL, 5) == 0 && value(0) == 5 && value(1) == 0);
    CHECK(operate(0, -2, 0) == 0 && value(0) == 3);
    CHECK_FAILS(operate(0, -4, IPC_NOWAIT), EAGAIN);
    CHECK_FAILS(operate(7, 1, 0), EFBIG);
    // All or nothing.
    struct sembuf both[2] = {{0, -1, IPC_NOWAIT}, {1, -1, IPC_NOWAIT}};
    CHECK_FAILS(semop(id, both, 2), EAGAIN);
    CHECK(value(0) == 3);
    CHECK_FAILS(semtimedop(id, &(struct sembuf){1, -1, 0}, 1, &(struct timespec){0, 10000000}), EAGAIN);

    // Undone at death, however it comes; by an exec it is kept.
    struct gate took = gate_new();
    for (int way = 0; way < 2; way++) {
        pid_t pid = fork();
        if (pid == 0) {
            CHECK(operate(0, -3, SEM_UNDO) == 0 && operate(1, 2, SEM_UNDO) == 0);
            gate_open(took);
            if (way == 0) _exit(0);
            for (;;) pause();
        }
        gate_wait(took);
        if (way == 1) {
            CHECK(value(0) == 0 && value(1) == 2);
            kill(pid, SIGKILL);
        }
        status_of(pid);
        say("%s: %d %d\n", way ? "killed" : "exited", value(0), value(1));
    }
    // A thread that ends is not the end of the process: the undo list is common.
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_PTHREAD(pthread_join(start_thread(takes_one, NULL), NULL));
        CHECK(value(0) == 2);
        _exit(0);
    }
    CHECK(status_of(pid) == 0 && value(0) == 3);

    // Asleep until another raises it; a waiter for zero too.
    pid_t waiters[2];
    for (int i = 0; i < 2; i++) {
        waiters[i] = fork();
        if (waiters[i] == 0) {
            CHECK(operate(0, i ? 0 : -4, 0) == 0);
            _exit(0);
        }
    }
    while (semctl(id, 0, GETNCNT) < 1 || semctl(id, 0, GETZCNT) < 1) sleep_ms(1);
    CHECK(operate(0, 1, 0) == 0);
    for (int i = 0; i < 2; i++) CHECK(status_of(waiters[i]) == 0);
    CHECK(value(0) == 0);
    say("waiters for more and for zero woken\n");

    pid = fork();
    if (pid == 0) {
        CHECK_FAILS(operate(0, -1, 0), EIDRM);
        _exit(0);
    }
    while (semctl(id, 0, GETNCNT) < 1) sleep_ms(1);
    CHECK(semctl(id, 0, IPC_RMID) == 0 && status_of(pid) == 0);
    CHECK_FAILS(operate(0, 1, 0), EINVAL);
    say("removal wakes with EIDRM\n");
    return 0;
}
