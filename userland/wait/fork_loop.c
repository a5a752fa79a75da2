// Any number of children one after the other: each is reaped and nothing is left.
// concept: 4 exit_notify: the family
// run: 100 => 0
#include "check.h"

int main(int argc, char **argv) {
    int children = argc > 1 ? atoi(argv[1]) : 10, sum = 0;
    for (int i = 0; i < children; i++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) _exit(i & 0x7f);
        int status = status_of(pid);
        CHECK(status == (i & 0x7f) << 8);
        sum += WEXITSTATUS(status);
    }
    CHECK_FAILS(wait(NULL), ECHILD);
    say("%d children, sum %d\n", children, sum);
    return 0;
}
