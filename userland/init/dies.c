// The end of process 1 is the end of all: its children are killed, and its status is that of the whole.
// concept: 3 do_exit, in order
// init: yes
// run: exit => 3
// run: thread => 4
#include "thread.h"

static void *ends(void *unused) {
    exit(4);
    return unused;
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && getpid() == 1);
    struct gate ready = gate_new();
    pid_t pid = fork();
    if (pid == 0) {
        gate_open(ready);
        for (;;) pause();
    }
    gate_wait(ready);
    say("process 1 ends\n");
    if (strcmp(argv[1], "thread") == 0) {
        start_thread(ends, NULL);
        for (;;) pause();
    }
    return 3;
}
