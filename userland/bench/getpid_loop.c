// Benchmark: the cheapest system call, N times.
// run: 1000 => 0
#include "check.h"

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 1000000;
    pid_t me = getpid();
    for (long i = 0; i < rounds; i++) CHECK(syscall(SYS_getpid) == me);
    return 0;
}
