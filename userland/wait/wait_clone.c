// Children with another exit signal than SIGCHLD, or with none, are "clone children": waited for by __WCLONE or __WALL
// only. The parent gets the signal that clone said.
// concept: 5 wait4, waitid, waitpid
// qemu: no (it refuses such a clone)
#include "check.h"

static int last_signal;
static pid_t last_pid;

static void handler(int sig, siginfo_t *info, void *context) {
    (void)context;
    last_signal = sig;
    last_pid = info->si_pid;
    CHECK(info->si_code == CLD_EXITED && info->si_status == 7);
}

static pid_t start(int exit_signal) {
    last_signal = 0;
    pid_t pid = (pid_t)syscall(SYS_clone, exit_signal, 0, 0, 0, 0);
    CHECK(pid >= 0);
    if (pid == 0) _exit(7);
    return pid;
}

int main(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
    int status;

    pid_t pid = start(SIGCHLD);
    CHECK(waitpid(pid, &status, 0) == pid && last_signal == SIGCHLD && last_pid == pid);
    pid = start(SIGCHLD);
    CHECK_FAILS(waitpid(pid, &status, __WCLONE), ECHILD);
    CHECK(waitpid(pid, &status, __WALL) == pid);

    pid = start(SIGUSR1);
    CHECK_FAILS(waitpid(pid, &status, 0), ECHILD);
    CHECK(waitpid(pid, &status, __WCLONE) == pid && status == 7 << 8 && last_signal == SIGUSR1 && last_pid == pid);
    pid = start(SIGUSR1);
    CHECK(waitpid(-1, &status, __WALL) == pid);

    pid = start(0);
    CHECK_FAILS(waitpid(pid, &status, 0), ECHILD);
    CHECK(waitpid(pid, &status, __WCLONE) == pid && last_signal == 0);
    say("no exit signal: none came\n");

    // Both kinds at once: each call sees its own.
    pid_t plain = start(SIGCHLD), silent = start(0);
    CHECK(waitpid(-1, &status, __WCLONE) == silent && waitpid(-1, &status, 0) == plain);

    // After an exec a child is an ordinary one; here only the end of it: a fork is ordinary.
    siginfo_t info;
    pid = start(SIGUSR1);
    CHECK(waitid(P_PID, pid, &info, WEXITED | __WALL) == 0 && info.si_signo == SIGCHLD && info.si_status == 7);
    CHECK_FAILS(waitpid(-1, &status, __WALL), ECHILD);
    say("clone children waited for\n");
    return 0;
}
