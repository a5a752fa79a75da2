// kill to one process, to the own group (0), to another group (-pgid); a group that does not exist; signal 0 asks.
// concept: 6 signals
#include "check.h"

static void die(int sig) { _exit(sig == SIGUSR1 ? 1 : 2); }

int main(void) {
    struct gate ready = gate_new();
    // All in a session of its own, so that kill(0) hits nobody else.
    pid_t pid = fork();
    if (pid > 0) return status_of(pid) != 0;
    CHECK(setsid() == getpid());

    pid_t group = 0, members[6];
    for (int i = 0; i < 6; i++) {
        members[i] = fork();
        if (members[i] == 0) {
            signal(SIGUSR1, die);
            signal(SIGUSR2, die);
            if (i < 3) CHECK(setpgid(0, group) == 0);
            gate_open(ready);
            for (;;) pause();
        }
        gate_wait(ready);
        if (i == 0) group = members[0];
    }
    CHECK(kill(-group, 0) == 0 && kill(members[1], 0) == 0);
    CHECK(kill(-group, SIGUSR1) == 0);
    for (int i = 0; i < 3; i++) CHECK(status_of(members[i]) == 1 << 8);
    CHECK(waitpid(-1, NULL, WNOHANG) == 0);
    say("three of one group\n");
    CHECK_FAILS(kill(-group, SIGUSR1), ESRCH);

    // The own group, this process included.
    signal(SIGUSR2, SIG_IGN);
    CHECK(kill(0, SIGUSR2) == 0);
    for (int i = 3; i < 6; i++) CHECK(status_of(members[i]) == 2 << 8);
    say("three of the own group\n");

    CHECK_FAILS(kill(members[0], 0), ESRCH);
    CHECK_FAILS(kill(getpid(), -1), EINVAL);
    CHECK_FAILS(kill(getpid(), 65), EINVAL);
    CHECK_FAILS(killpg(-5, SIGUSR1), EINVAL);

    // To a zombie: allowed, and nothing happens.
    pid = fork();
    if (pid == 0) _exit(3);
    CHECK(waitid(P_PID, pid, &(siginfo_t){0}, WEXITED | WNOWAIT) == 0);
    CHECK(kill(pid, SIGKILL) == 0 && status_of(pid) == 3 << 8);

    // tgkill wants thread and process to belong together; tkill the thread alone.
    CHECK_FAILS(syscall(SYS_tgkill, getpid() + 1, gettid(), SIGUSR2), ESRCH);
    CHECK_FAILS(syscall(SYS_tgkill, -1, gettid(), SIGUSR2), EINVAL);
    CHECK(syscall(SYS_tgkill, getpid(), gettid(), 0) == 0 && syscall(SYS_tkill, gettid(), SIGUSR2) == 0);
    return 0;
}
