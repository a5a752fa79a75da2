// Two threads call exit_group at once: the process has the status of one of them, never a mixture, never a third.
// concept: 2 two ways out
#include "thread.h"

static atomic_bool go;

static void *racer(void *unused) {
    while (!go) continue;
    syscall(SYS_exit_group, 2);
    return unused;
}

int main(void) {
    int wins[3] = {0};
    for (int round = 0; round < 40; round++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            start_thread(racer, NULL);
            start_thread(racer, NULL);
            go = true;
            if (round % 2) sched_yield();
            syscall(SYS_exit_group, 1);
        }
        int status = status_of(pid);
        CHECK(WIFEXITED(status) && (WEXITSTATUS(status) == 1 || WEXITSTATUS(status) == 2));
        wins[WEXITSTATUS(status)]++;
    }
    CHECK(wins[1] + wins[2] == 40);
    say("always the one or the other\n");
    return 0;
}
