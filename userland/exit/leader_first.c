// A leader that exits first stays as a zombie, and cannot be waited for until its last thread is gone; meanwhile the
// process takes signals and the other thread does as it likes.
// concept: 2 two ways out
// qemu: no (threads are not in its /proc)
#include "proc.h"
#include "thread.h"
#include <poll.h>

static volatile sig_atomic_t signals;
static struct gate go_on, told;

static void handler(int sig) {
    (void)sig;
    signals++;
}

static void *survivor(void *unused) {
    wait_for_state(getpid(), getpid(), "Z");
    gate_open(told);
    // The parent sends a signal to the process: the only thread left takes it.
    while (signals == 0) sleep_ms(1);
    gate_open(told);
    gate_wait(go_on);
    // The pid is still the process's own, and the working of a process goes on.
    pid_t pid = fork();
    if (pid == 0) _exit(5);
    int status = status_of(pid);
    thread_exit(WEXITSTATUS(status) + 1);
    return unused;
}

int main(void) {
    go_on = gate_new();
    told = gate_new();
    pid_t pid = fork();
    if (pid == 0) {
        struct sigaction action = {.sa_handler = handler};
        CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
        start_thread(survivor, NULL);
        thread_exit(1);
    }
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    CHECK(pidfd >= 0);
    gate_wait(told);
    siginfo_t info = {.si_pid = 1};
    CHECK(task_state(pid, pid) == 'Z');
    CHECK(waitpid(pid, NULL, WNOHANG) == 0);
    CHECK(waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0);
    CHECK(poll(&(struct pollfd){pidfd, POLLIN, 0}, 1, 0) == 0);
    CHECK(strncmp(status_field(pid, "State"), "Z (zombie)", 10) == 0);
    say("the leader is a zombie and not waitable\n");
    CHECK(kill(pid, SIGUSR1) == 0);
    gate_wait(told);
    say("the process takes signals\n");
    gate_open(go_on);
    CHECK(poll(&(struct pollfd){pidfd, POLLIN, 0}, 1, -1) == 1);
    say("in the end: %s\n", status_text(status_of(pid)));
    return 0;
}
