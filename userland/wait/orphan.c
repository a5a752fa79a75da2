// A process whose parent dies is adopted: getppid changes to init or to the nearest subreaper, while it lives on.
// concept: 4 exit_notify: the family
#include "check.h"

int main(void) {
    struct gate parent_dead = gate_new(), told = gate_new();
    pid_t middle = fork();
    CHECK(middle >= 0);
    if (middle == 0) {
        pid_t me = getpid(), pid = fork();
        CHECK(pid >= 0);
        if (pid > 0) _exit(0);
        gate_wait(parent_dead);
        CHECK(getppid() != me);
        say("orphan: adopted\n");
        gate_open(told);
        _exit(0);
    }
    int status = status_of(middle);
    say("middle %s\n", status_text(status));
    gate_open(parent_dead);
    gate_wait(told);
    return status != 0;
}
