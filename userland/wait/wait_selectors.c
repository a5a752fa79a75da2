// Whom waitpid and waitid select: one pid, any child, the own group, another group; and what is no child of ours.
// concept: 5 wait4, waitid, waitpid
#include "check.h"
#include <limits.h>

static struct gate never;

static pid_t start(int code, pid_t group) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        if (code < 0) gate_wait(never);
        _exit(code);
    }
    if (group >= 0) CHECK(setpgid(pid, group) == 0 || errno == ESRCH);
    return pid;
}

int main(void) {
    never = gate_new();
    int status;
    siginfo_t info;
    CHECK_FAILS(waitpid(-1, &status, 0), ECHILD);
    CHECK_FAILS(waitpid(getpid(), &status, 0), ECHILD);
    CHECK_FAILS(waitpid(1, &status, WNOHANG), ECHILD);
    CHECK_FAILS(waitpid(INT_MIN, &status, 0), ESRCH);
    CHECK_FAILS(waitpid(-1, &status, 0x40), EINVAL);

    // By pid, whatever the order in which they end.
    pid_t first = start(1, -1), second = start(2, -1);
    CHECK(waitpid(second, &status, 0) == second && status == 2 << 8);
    CHECK(waitpid(first, &status, 0) == first && status == 1 << 8);
    CHECK_FAILS(waitpid(first, &status, 0), ECHILD);

    // By group: two in a group of their own, one in ours.
    pid_t sleeper = start(-1, 0);
    pid_t member = start(3, sleeper), mine = start(4, -1);
    CHECK(waitpid(-sleeper, &status, 0) == member && status == 3 << 8);
    CHECK(waitpid(0, &status, 0) == mine && status == 4 << 8);
    CHECK_FAILS(waitpid(0, &status, 0), ECHILD);
    CHECK(waitpid(-sleeper, &status, WNOHANG) == 0 && waitpid(-1, &status, WNOHANG) == 0);
    CHECK_FAILS(waitpid(-(sleeper + 100000), &status, WNOHANG), ECHILD);

    CHECK(waitid(P_PGID, sleeper, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0 && info.si_signo == 0);
    CHECK(waitid(P_PID, sleeper, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0);
    CHECK_FAILS(waitid(P_PGID, 0, &info, WEXITED | WNOHANG), ECHILD);
    mine = start(5, -1);
    CHECK(waitid(P_PGID, 0, &info, WEXITED) == 0 && info.si_pid == mine && info.si_status == 5);
    CHECK(kill(sleeper, SIGKILL) == 0);
    CHECK(waitid(P_ALL, 12345, &info, WEXITED) == 0 && info.si_pid == sleeper && info.si_code == CLD_KILLED);

    CHECK_FAILS(waitid(P_ALL, 0, &info, WEXITED), ECHILD);
    CHECK_FAILS(waitid(P_ALL, 0, &info, 0), EINVAL);
    CHECK_FAILS(waitid(P_ALL, 0, &info, WNOHANG), EINVAL);
    CHECK_FAILS(waitid((idtype_t)77, 0, &info, WEXITED), EINVAL);
    CHECK_FAILS(waitid(P_PID, 0, &info, WEXITED), EINVAL);
    CHECK_FAILS(syscall(SYS_waitid, P_PID, -1, &info, WEXITED, NULL), EINVAL);

    // Grandchildren are not ours to wait for.
    pid_t child = fork();
    if (child == 0) {
        pid_t grandchild = start(6, -1);
        CHECK(waitpid(grandchild, NULL, 0) == grandchild);
        _exit(0);
    }
    CHECK(waitpid(-1, &status, 0) == child && status == 0);
    CHECK_FAILS(waitpid(-1, &status, 0), ECHILD);
    say("selected as it should be\n");
    return 0;
}
