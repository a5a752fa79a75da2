// System V shared memory: attached twice it is one memory, a child inherits it, exit and exec detach, and a segment
// marked for removal goes with its last user, however that ends. Message queues by type.
// concept: 3 do_exit, in order
#include "check.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/shm.h>

static long attached(int id) {
    struct shmid_ds info;
    return shmctl(id, IPC_STAT, &info) == 0 ? (long)info.shm_nattch : -1;
}

int main(void) {
    int id = shmget(IPC_PRIVATE, 8192, 0600);
    CHECK(id >= 0 && attached(id) == 0);
    int *one = shmat(id, NULL, 0), *two = shmat(id, NULL, SHM_RDONLY);
    CHECK(one != (void *)-1 && two != (void *)-1 && one != two && attached(id) == 2);
    one[10] = 42;
    CHECK(two[10] == 42 && shmdt(two) == 0 && attached(id) == 1);
    CHECK_FAILS(shmdt(two), EINVAL);

    struct gate go = gate_new(), ready = gate_new();
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(attached(id) == 2);
        one[11] = 43;
        gate_open(ready);
        gate_wait(go);
        for (;;) pause();
    }
    gate_wait(ready);
    CHECK(one[11] == 43);
    // Marked: still there for those who have it, and it can still be attached by its id.
    CHECK(shmctl(id, IPC_RMID, NULL) == 0 && attached(id) == 2);
    CHECK(shmdt(one) == 0 && attached(id) == 1);
    say("marked, and used by a child: %ld\n", attached(id));
    CHECK(kill(pid, SIGKILL) == 0 && status_of(pid) == SIGKILL);
    CHECK_FAILS(shmat(id, NULL, 0), EINVAL);
    say("gone with its last user: %ld\n", attached(id));

    int queue = msgget(IPC_PRIVATE, 0600);
    struct {
        long type;
        char text[16];
    } message;
    static const long types[] = {3, 1, 2, 1};
    for (size_t i = 0; i < COUNT(types); i++) {
        message.type = types[i];
        snprintf(message.text, sizeof message.text, "%zu", i);
        CHECK(msgsnd(queue, &message, 2, 0) == 0);
    }
    static const long wanted[] = {1, -2, 0, 0};
    for (size_t i = 0; i < COUNT(wanted); i++) {
        CHECK(msgrcv(queue, &message, 16, wanted[i], IPC_NOWAIT) == 2);
        say("wanted %ld: type %ld, message %s\n", wanted[i], message.type, message.text);
    }
    CHECK_FAILS(msgrcv(queue, &message, 16, 0, IPC_NOWAIT), ENOMSG);
    pid = fork();
    if (pid == 0) {
        CHECK(msgrcv(queue, &message, 16, 9, 0) == 2 && message.type == 9);
        CHECK_FAILS(msgrcv(queue, &message, 16, 9, 0), EIDRM);
        _exit(0);
    }
    message.type = 9;
    CHECK(msgsnd(queue, &message, 2, 0) == 0);
    struct msqid_ds info;
    do {
        sleep_ms(1);
        CHECK(msgctl(queue, IPC_STAT, &info) == 0);
    } while (info.msg_qnum);
    sleep_ms(20);
    CHECK(msgctl(queue, IPC_RMID, NULL) == 0 && status_of(pid) == 0);
    say("a queue waited for, and removed\n");
    return 0;
}
