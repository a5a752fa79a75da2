// execve by any thread of several: the others are killed, the caller becomes the leader with the leader's tid, and the
// parent sees one process all along. Also when the leader is a zombie already, and while the others spin.
// concept: 2 two ways out
// qemu: no (it cannot execute a foreign binary without binfmt_misc)
#include "self.h"
#include "thread.h"

static pid_t leader_tid;
static bool leader_exits;
static uint32_t leader_alive;

static void *spins(void *unused) {
    for (;;)
        for (volatile int i = 0; i < 1000; i++) continue;
    return unused;
}

static void *sleeps(void *unused) {
    for (;;) pause();
    return unused;
}

static void *executes(void *unused) {
    CHECK(gettid() != getpid());
    if (leader_exits) await_death(&leader_alive);
    char ids[64];
    snprintf(ids, sizeof ids, "%d %d", getpid(), leader_tid);
    exec_self(ids, NULL);
    return unused;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        int pid, leader;
        CHECK(sscanf(argv[1], "%d %d", &pid, &leader) == 2);
        CHECK(getpid() == pid && gettid() == leader && pid == leader);
        // Nobody else is here: no other thread can be signalled, and a new one works.
        start_thread(sleeps, NULL);
        say("alone, with the leader's tid\n");
        return 17;
    }
    self_path();
    static const char *const names[] = {"the leader sleeps", "the leader is a zombie", "others spin",
                                        "the leader itself executes"};
    for (int way = 0; way < 4; way++) {
        say("%s: ", names[way]);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            leader_tid = gettid();
            leader_exits = way == 1;
            if (leader_exits) announce_death(&leader_alive);
            for (int i = 0; i < 3; i++) start_thread(way == 2 ? spins : sleeps, NULL);
            if (way == 3) {
                char ids[64];
                snprintf(ids, sizeof ids, "%d %d", getpid(), leader_tid);
                exec_self(ids, NULL);
            }
            start_thread(executes, NULL);
            if (way == 1) thread_exit(1);
            for (;;) pause();
        }
        int status = status_of(pid);
        CHECK(status == 17 << 8);
    }

    // An exec that fails kills nobody.
    pthread_t thread = start_thread(sleeps, NULL);
    CHECK(execl("/does/not/exist", "x", NULL) == -1 && errno == ENOENT);
    CHECK(pthread_kill(thread, 0) == 0);
    say("a failed exec leaves the threads\n");
    return 0;
}
