// Benchmark: vfork, exec of this very program, and wait, N times.
// run: 10 => 0
// qemu: no (it cannot execute a foreign binary without binfmt_misc)
#include "self.h"

int main(int argc, char **argv) {
    if (argc > 2) return 0;
    long rounds = argc > 1 ? atol(argv[1]) : 100;
    char *arguments[] = {argv[0], "end", "now", NULL};
    self_path();
    for (long i = 0; i < rounds; i++) {
        pid_t pid = vfork();
        if (pid == 0) {
            execv(self_path(), arguments);
            _exit(9);
        }
        CHECK(status_of(pid) == 0);
    }
    return 0;
}
