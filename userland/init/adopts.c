// Process 1 adopts every orphan and hears of its end; it may reap it like a child of its own. It has no parent.
// concept: 4 exit_notify: the family
// init: yes
#include "check.h"

int main(void) {
    CHECK(getpid() == 1 && getppid() == 0);
    struct gate orphaned = gate_new();
    int pids[2];
    CHECK(pipe(pids) == 0);
    pid_t middle = fork();
    if (middle == 0) {
        // One orphan alive, one zombie already.
        pid_t zombie = fork();
        if (zombie == 0) _exit(21);
        CHECK(waitid(P_PID, (id_t)zombie, &(siginfo_t){0}, WEXITED | WNOWAIT) == 0);
        pid_t orphan = fork();
        if (orphan == 0) {
            gate_wait(orphaned);
            say("orphan: the parent is %d\n", getppid());
            _exit(22);
        }
        _exit(20);
    }
    CHECK(status_of(middle) == 20 << 8);
    gate_open(orphaned);
    int status, seen = 0;
    while (wait(&status) > 0) seen += WEXITSTATUS(status);
    CHECK(errno == ECHILD && seen == 21 + 22);
    say("both reaped\n");
    return 0;
}
