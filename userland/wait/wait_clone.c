// Children with another exit signal than SIGCHLD, or with none, are "clone children": waited for by __WCLONE or __WALL
// only. The parent gets the signal that clone said.
// concept: 5 wait4, waitid, waitpid
// qemu: no (it refuses such a clone)
#include "self.h"

#define CLONE_PARENT_FLAG 0x8000

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

// A child that makes another task with this flag and reports its pid.
static pid_t start_with(int flag, int report) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid > 0) return pid;
    pid_t parent = getppid(), made = (pid_t)syscall(SYS_clone, flag | SIGCHLD, 0, 0, 0, 0);
    CHECK(made >= 0);
    if (made == 0) {
        CHECK(syscall(SYS_getppid) == parent);
        _exit(7);
    }
    CHECK(write(report, &made, sizeof made) == sizeof made);
    CHECK_FAILS(waitpid(made, NULL, 0), ECHILD);
    _exit(7);
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) return 7;
    self_path();
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
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

    siginfo_t info;
    pid = start(SIGUSR1);
    CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | __WALL) == 0 && info.si_signo == SIGCHLD && info.si_status == 7);

    // An exec makes it an ordinary child.
    last_signal = 0;
    pid = (pid_t)syscall(SYS_clone, SIGUSR1, 0, 0, 0, 0);
    if (pid == 0) exec_self("executed", NULL);
    CHECK(waitpid(pid, &status, __WALL) == pid && status == 7 << 8 && last_signal == SIGCHLD);
    say("after an exec: SIGCHLD\n");

    // CLONE_PARENT makes a sibling: our child by way of our child, with the exit signal of its maker.
    int numbers[2];
    CHECK(pipe(numbers) == 0);
    pid = start_with(CLONE_PARENT_FLAG, numbers[1]);
    CHECK(waitpid(pid, &status, 0) == pid && status == 7 << 8);
    pid_t sibling;
    CHECK(read(numbers[0], &sibling, sizeof sibling) == sizeof sibling);
    CHECK(waitpid(sibling, &status, 0) == sibling && status == 7 << 8);
    say("CLONE_PARENT: a child of the same parent\n");
    CHECK_FAILS(waitpid(-1, &status, __WALL), ECHILD);
    say("clone children waited for\n");
    return 0;
}
