// fork gives the child a new pid and this parent; wait4 gives the parent the child's exit status, once.
// concept: 5 wait4, waitid, waitpid
#include "check.h"

int main(void) {
    pid_t parent = getpid(), pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(getppid() == parent && getpid() != parent);
        say("child\n");
        _exit(42);
    }
    int status = status_of(pid);
    say("parent: child %s\n", status_text(status));
    CHECK(status == 42 << 8);
    CHECK_FAILS(waitpid(pid, &status, 0), ECHILD);
    return 0;
}
