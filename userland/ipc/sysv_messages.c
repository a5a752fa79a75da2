// System V message queues: order, types, too long messages, full queues, a message that goes straight to whoever waits
// for it, and removal while somebody waits.
// qemu: no (it crashes when a thread is killed in a wait)
#include "check.h"
#include <sys/ipc.h>
#include <sys/msg.h>

struct message {
    long type;
    char text[100];
};

static int send_text(int id, long type, const char *text, int flags) {
    struct message message = {.type = type};
    strcpy(message.text, text);
    return msgsnd(id, &message, strlen(text) + 1, flags);
}

static const char *receive(int id, long type, int flags) {
    static struct message message;
    memset(&message, 0, sizeof message);
    ssize_t got = msgrcv(id, &message, sizeof message.text, type, flags);
    if (got < 0) return errno_name(errno);
    CHECK((size_t)got == strlen(message.text) + 1);
    return message.text;
}

int main(void) {
    int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    CHECK(id >= 0);
    say("%s\n", receive(id, 0, IPC_NOWAIT));
    CHECK(send_text(id, 3, "three", 0) == 0 && send_text(id, 1, "one", 0) == 0 && send_text(id, 2, "two", 0) == 0);
    CHECK(send_text(id, 3, "three again", 0) == 0);
    struct msqid_ds ds;
    CHECK(msgctl(id, IPC_STAT, &ds) == 0 && ds.msg_qnum == 4 && ds.msg_lspid == getpid() && ds.msg_lrpid == 0);
    CHECK(ds.msg_qbytes == 16384 && ds.msg_perm.mode == 0600);
    say("lowest up to 2: %s\n", receive(id, -2, 0));
    say("type 3: %s\n", receive(id, 3, 0));
    say("not 2: %s\n", receive(id, 2, MSG_EXCEPT));
    say("any: %s\n", receive(id, 0, 0));
    say("type 3: %s\n", receive(id, 3, IPC_NOWAIT));

    CHECK(send_text(id, 1, "a long message", 0) == 0);
    struct message small;
    CHECK_FAILS(msgrcv(id, &small, 4, 0, 0), E2BIG);
    CHECK(msgrcv(id, &small, 4, 0, MSG_NOERROR) == 4 && memcmp(small.text, "a lo", 4) == 0);
    CHECK_FAILS(send_text(id, 0, "no type", 0), EINVAL);
    CHECK_FAILS(msgsnd(id, &small, 8193, 0), EINVAL);
    CHECK_FAILS(msgsnd(id, &(struct message){.type = 1}, -1, 0), EINVAL);

    // A waits for type 5, B for anything: each gets its own.
    pid_t picky = fork();
    if (picky == 0) _exit(strcmp(receive(id, 5, 0), "five") == 0 ? 0 : 1);
    sleep_ms(30);
    CHECK(send_text(id, 4, "four", 0) == 0);
    sleep_ms(10);
    CHECK(send_text(id, 5, "five", 0) == 0);
    CHECK(status_of(picky) == 0);
    say("left: %s\n", receive(id, 0, IPC_NOWAIT));

    // A full queue.
    struct msqid_ds set;
    CHECK(msgctl(id, IPC_STAT, &set) == 0);
    set.msg_qbytes = 20;
    CHECK(msgctl(id, IPC_SET, &set) == 0);
    CHECK(send_text(id, 1, "123456789", 0) == 0 && send_text(id, 1, "987654321", 0) == 0);
    CHECK_FAILS(send_text(id, 1, "x", IPC_NOWAIT), EAGAIN);
    pid_t sender = fork();
    if (sender == 0) _exit(send_text(id, 2, "late", 0));
    sleep_ms(30);
    say("first: %s\n", receive(id, 0, 0));
    CHECK(status_of(sender) == 0);
    say("second: %s\n", receive(id, 0, 0));
    say("third: %s\n", receive(id, 0, 0));

    // Removal wakes whoever waits; a signal does, too.
    pid_t waiter = fork();
    if (waiter == 0) _exit(strcmp(receive(id, 0, 0), "EIDRM") == 0 ? 0 : 1);
    sleep_ms(30);
    CHECK(msgctl(id, IPC_RMID, NULL) == 0 && status_of(waiter) == 0);
    say("then: %s\n", receive(id, 0, IPC_NOWAIT));

    key_t key = 0x6d6b0000 + getpid() % 1000;
    CHECK_FAILS(msgget(key, 0600), ENOENT);
    int named = msgget(key, IPC_CREAT | IPC_EXCL | 0600);
    CHECK(named >= 0 && msgget(key, 0) == named);
    CHECK_FAILS(msgget(key, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
    CHECK(msgctl(named, IPC_RMID, NULL) == 0);
    return 0;
}
