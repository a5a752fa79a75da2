// Process 1 is immune to every signal that it has no handler for, SIGKILL and SIGSTOP from inside included; with a
// handler it takes them; its own faults kill it all the same. kill(-1) hits everybody else.
// concept: 4 exit_notify: the family
// init: yes
// qemu: no (it handles signals to itself)
#include "proc.h"

static volatile sig_atomic_t handled;

static void handler(int sig) { handled = sig; }

int main(void) {
    CHECK(getpid() == 1);
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGKILL, SIGSTOP, SIGTSTP, SIGQUIT, SIGSEGV};
    for (size_t i = 0; i < COUNT(signals); i++) CHECK(kill(1, signals[i]) == 0);
    // By another process as well.
    pid_t pid = fork();
    if (pid == 0) {
        for (size_t i = 0; i < COUNT(signals); i++) CHECK(kill(1, signals[i]) == 0);
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
    sigset_t pending;
    CHECK(sigpending(&pending) == 0);
    for (int sig = 1; sig < 32; sig++) CHECK(!sigismember(&pending, sig));
    say("alive after %zu signals\n", COUNT(signals));
    signal(SIGTERM, handler);
    CHECK(kill(1, SIGTERM) == 0 && handled == SIGTERM);
    say("handler ran\n");

    // Everybody but oneself and process 1.
    struct gate ready = gate_new(), go = gate_new();
    pid_t children[3];
    for (int i = 0; i < 3; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            if (i == 0) signal(SIGUSR2, SIG_IGN);
            gate_open(ready);
            if (i == 2) {
                gate_wait(go);
                CHECK(kill(-1, SIGUSR2) == 0);
                _exit(5);
            }
            for (;;) pause();
        }
    }
    for (int i = 0; i < 3; i++) gate_wait(ready);
    gate_open(go);
    say("the sender: %s\n", status_text(status_of(children[2])));
    say("one that does not ignore it: %s\n", status_text(status_of(children[1])));
    CHECK(waitpid(children[0], NULL, WNOHANG) == 0);
    CHECK(kill(children[0], SIGKILL) == 0 && status_of(children[0]) == SIGKILL);
    CHECK_FAILS(kill(-1, SIGTERM), ESRCH);
    return 0;
}
