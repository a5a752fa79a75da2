// If every thread leaves by exit(2), the status of the process is the last one's, be it the leader or not.
// concept: 2 two ways out
// qemu: no (it keeps the leader's status)
#include "thread.h"

static uint32_t leader_alive, other_alive;

static void *ends_last(void *unused) {
    await_death(&leader_alive);
    thread_exit(7);
    return unused;
}

static void *ends_first(void *unused) {
    announce_death(&other_alive);
    gate_open(*(struct gate *)unused);
    thread_exit(3);
    return unused;
}

int main(void) {
    pid_t pid = fork();
    if (pid == 0) {
        announce_death(&leader_alive);
        start_thread(ends_last, NULL);
        thread_exit(1);
    }
    int status = status_of(pid);
    say("leader 1, then thread 7: %s\n", status_text(status));
    CHECK(status == 7 << 8);

    pid = fork();
    if (pid == 0) {
        struct gate started = gate_new();
        start_thread(ends_first, &started);
        gate_wait(started);
        await_death(&other_alive);
        thread_exit(4);
    }
    status = status_of(pid);
    say("thread 3, then leader 4: %s\n", status_text(status));
    CHECK(status == 4 << 8);
    return 0;
}
