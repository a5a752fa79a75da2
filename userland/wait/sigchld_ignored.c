// A parent that ignores SIGCHLD, or says SA_NOCLDWAIT, has no zombies: children vanish as they end, wait blocks until
// none is left and says ECHILD. With SA_NOCLDWAIT and a handler the signal comes all the same.
// concept: 4 exit_notify: the family
// qemu: no (it does not pass SA_NOCLDWAIT on)
#include "check.h"

static volatile sig_atomic_t signals;

static void handler(int sig) {
    (void)sig;
    signals++;
}

static void try(const char *label) {
    struct gate go = gate_new();
    pid_t children[3];
    for (size_t i = 0; i < COUNT(children); i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] == 0) {
            gate_wait(go);
            if (i == 2) sleep_ms(30);
            _exit(9);
        }
    }
    CHECK(waitpid(-1, NULL, WNOHANG) == 0);
    for (size_t i = 0; i < COUNT(children); i++) gate_open(go);
    int status = 0, result;
    while ((result = waitpid(-1, &status, 0)) == -1 && errno == EINTR) continue;
    say("%s: wait gives %d %s\n", label, result, errno_name(errno));
    for (size_t i = 0; i < COUNT(children); i++) {
        // They remove themselves, a moment after there is nothing left to wait for.
        while (kill(children[i], 0) == 0) sched_yield();
        CHECK(errno == ESRCH);
    }
    close(go.read_end), close(go.write_end);
}

int main(void) {
    signal(SIGCHLD, SIG_IGN);
    try("ignored");

    struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    try("default with SA_NOCLDWAIT");

    action.sa_handler = handler;
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    try("handler with SA_NOCLDWAIT");
    CHECK(signals >= 1);
    say("and the handler ran\n");

    // The default, which is to do nothing, keeps zombies. Ignoring them later does not reap those that are there.
    signal(SIGCHLD, SIG_DFL);
    pid_t pid = fork();
    if (pid == 0) _exit(4);
    CHECK(waitid(P_PID, pid, &(siginfo_t){0}, WEXITED | WNOWAIT) == 0);
    signal(SIGCHLD, SIG_IGN);
    say("a zombie from before: %s\n", status_text(status_of(pid)));
    return 0;
}
